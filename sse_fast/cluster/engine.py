"""The engine of a fleet, from this process: it takes events, gives them their ids, and they are read from it again.

    publishers -> what waits -> one call of a function, all that came meanwhile -> ids
                                          the stream -> `follow` -> this node's log

One connection publishes, and tends the log once a second; whoever reads has another. What is wrong is known to all who
publish as soon as one call has found it (`trouble`), and asked again and again until it is not.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.connection import Connection, Replies, connect
from sse_fast.cluster.counts import Counts
from sse_fast.cluster.entries import Item, pack
from sse_fast.cluster.flight import Flight, Told, Waiting, not_loaded
from sse_fast.cluster.functions import Command, Dialogue, Limits, Log, Look, Looked, Opened, Reply, T
from sse_fast.cluster.presence import Members
from sse_fast.cluster.primary import by_sentinels, connect_to_primary
from sse_fast.cluster.questions import Questions
from sse_fast.cluster.reader import Page, Reader
from sse_fast.cluster.requests import SHARE, Keys, Published, Request, forgetting, request_in_turns
from sse_fast.cluster.trouble import MOVED, trouble_of, unreachable
from sse_fast.errors import (
    BatchTooLarge,
    EngineRefused,
    EngineTrouble,
    EngineUnavailable,
    InvalidEvent,
)
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded

logger = logging.getLogger("sse_fast.cluster")

TEND = 1.0  # seconds between two looks after the log, and
TEND_IN_TROUBLE = 0.25
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0  # seconds between two tries to connect
HOPS = 5  # from one of a cluster's servers to another
FLIGHTS = 1  # calls at once; what comes meanwhile goes together
MOST_WAITING = 64 * 1024 * 1024  # bytes that may wait for the engine


class Engine:
    """An engine at a URL; made by `from_url`. It lives on one loop, from its first use until `close`."""

    sparse = False

    def __init__(
        self,
        address: Address,
        prefix: str,
        *,
        replicas: int,
        replica_timeout: float,
        timeout: float,
        limits: Limits | None,
    ) -> None:
        self.address = address
        self.limits = limits
        self.replicas = replicas
        self.trouble: EngineUnavailable | None = None
        """Why nothing can be published now; None: it can, or nobody has tried yet."""
        self.since = 0.0
        """When `trouble` changed last, of the loop's clock."""
        self.on_change: Callable[[], None] | None = None
        """Called when `trouble` has changed."""
        self.looked: Looked | None = None
        """What was seen of the log last, and when."""
        self.counts = Counts()
        self.log = Log(prefix, self._explain)
        self._replica_timeout = replica_timeout
        self._timeout = timeout
        self.patience = timeout + (replica_timeout if replicas else 0)
        self._connection: Connection | None = None
        self._host: Host | None = None
        self._moved: Host | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tried: asyncio.Future[None]
        self._up: asyncio.Event
        self._opened: Opened | None = None
        self._waiting = Waiting()
        self._flying: set[Flight] = set()
        self._loading: set[asyncio.Task[None]] = set()  # those that meet an engine without the functions
        self._soon = False
        self._closed = False
        self._reader = Reader(self)
        self.members = Members(self.hold, self.log)
        self.questions = Questions(self.hold, self.log)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "sse_fast",
        replicas: int = 0,
        replica_timeout: float = 1.0,
        timeout: float = 2.0,
        limits: Limits | None = None,
    ) -> "Engine":
        """`prefix`: of the names of its keys. `replicas`: that have an event before it is acknowledged, within
        `replica_timeout` seconds. `timeout`: seconds that an answer may take. `limits`: None, those that others have
        set. Raises ValueError for what is none, without showing the URL."""
        if replicas < 0 or timeout <= 0 or replica_timeout <= 0:
            raise ValueError("replicas is 0 or more, and timeout and replica_timeout are seconds, more than 0")
        return cls(
            Address.parse(url),
            prefix,
            replicas=replicas,
            replica_timeout=replica_timeout,
            timeout=timeout,
            limits=limits,
        )

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def open(self) -> Look:
        """Connect, unless it is. The functions are loaded, and a new epoch has begun where one is due. Raises
        EngineUnavailable (EngineRefused); it is tried again all the same until `close`."""
        if self._keeper is None:
            if self._closed:
                raise unreachable(self.address, "the engine was closed here")
            self._up = asyncio.Event()
            self._tried = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(), name="sse_fast engine")
        await asyncio.shield(self._tried)
        if self.trouble is not None and self._connection is None:
            raise self.trouble.again()
        assert self.looked is not None
        return self.looked.found

    async def close(self) -> None:
        """What waits is not published."""
        self._closed = True
        await self._reader.close()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self.trouble = unreachable(self.address, "the engine was closed here")
            self._down(self.trouble)
        if self._loading:
            await asyncio.wait(self._loading)

    async def _keep(self) -> None:
        wait, hops = FIRST_WAIT, 0
        while True:
            moved = self._moved
            try:
                connection = await connect_to_primary(self.address, moved, self._timeout)
                try:
                    await self._begin(connection)
                    wait, hops = FIRST_WAIT, 0
                    await self._stay(connection)
                finally:
                    await connection.close()
            except EngineUnavailable as error:
                if self._moved not in (moved, None) and hops < HOPS:
                    hops += 1
                    continue
                if self._moved == moved:
                    self._moved = None  # whoever is asked first knows better
                self._down(error)
            except Exception as error:
                logger.exception("looking after the engine failed; it goes on")
                self._down(unreachable(self.address, error))
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, LONGEST_WAIT)

    async def _begin(self, connection: Connection) -> None:
        sent = asyncio.get_running_loop().time()
        opened = await connection.hold(self.log.open(self.limits), self._timeout)
        self._seen(sent, opened.look)
        host = self._host_of(connection)
        if host != self._host:
            self._reader.elsewhere()
        self._host, self._opened = host, opened
        trouble = await self._try(connection)
        self.counts.connections += 1
        self._connection = connection
        self._up.set()
        self._tell(trouble)
        self._fly_soon()

    async def _stay(self, connection: Connection) -> None:
        """Until it is lost, or another server is the primary."""
        while True:
            await asyncio.wait((connection.lost,), timeout=TEND if self.trouble is None else TEND_IN_TROUBLE)
            if self.address.kind == "sentinel" and connection.open:
                host = self._host
                with contextlib.suppress(EngineUnavailable):  # without them it is published all the same
                    host = await by_sentinels(self.address, self._timeout)
                if host != self._host and host is not None:
                    raise EngineUnavailable(
                        f"{connection.name} is the primary no longer: the Sentinels name {text_of(host)}",
                        EngineTrouble.READ_ONLY,
                    )
            await self._look(connection)
            self._tell(await self._try(connection))

    async def _look(self, connection: Connection) -> Look:
        sent = asyncio.get_running_loop().time()
        return self._seen(sent, await connection.hold(self.log.tend(self.limits), self.patience))

    def _seen(self, sent: float, look: Look) -> Look:
        self.looked = Looked(sent, asyncio.get_running_loop().time(), look)
        return look

    @property
    def look_of_late(self) -> Look | None:
        return self.looked.found if self.looked is not None else None

    async def _try(self, connection: Connection) -> EngineUnavailable | None:
        """Whether events are taken: what is wrong, if not."""
        try:
            await connection.hold(self.log.loaded(self.log.call("publish")), self.patience)
            if self.replicas:
                self.check_replicas(await connection.ask(self.wait_for_replicas(), self.patience))
        except EngineUnavailable as error:
            if not connection.open or error.reason == EngineTrouble.READ_ONLY:
                raise
            return error
        return None

    def _host_of(self, connection: Connection) -> Host | None:
        return next((host for host in self._known() if text_of(host) == connection.name), self._named(connection.name))

    def _known(self) -> Sequence[Host]:
        return [*self.address.hosts, *([self._moved] if self._moved else [])]

    def _named(self, name: str) -> Host | None:
        host, _, port = name.rpartition(":")
        return None if self.address.kind == "socket" else (host.strip("[]"), int(port))

    def _explain(self, error: Exception) -> EngineUnavailable:
        if self.address.kind == "cluster" and (found := MOVED.match(str(error))):
            host = found[1] or (self._host or self.address.hosts[0])[0]
            self._moved = host, int(found[2])
            return EngineUnavailable(f"the log of {self.address} has moved to {host}:{found[2]}", EngineTrouble.LOADING)
        at = self._connection.name if self._connection is not None else self.address
        return trouble_of(error, at, f"{self.log.prefix}:*")

    def _tell(self, trouble: EngineUnavailable | None) -> None:
        if not self._tried.done():
            self._tried.set_result(None)
        if (trouble and str(trouble)) == (self.trouble and str(self.trouble)):
            return
        if trouble is None:
            logger.info("the engine at %s takes events", self.address)
        elif self.trouble is None or self.trouble.reason != trouble.reason:
            logger.log(
                logging.ERROR if isinstance(trouble, EngineRefused) else logging.WARNING,
                "nothing can be published: %s",
                trouble,
            )
        self.trouble = trouble
        self.since = asyncio.get_running_loop().time()
        if self.on_change is not None:
            self.on_change()

    def _down(self, error: EngineUnavailable) -> None:
        self._connection = None
        if self._keeper is None:
            return
        self._up.clear()
        self._tell(error)
        self._waiting.refuse(error)

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish(self, events: Sequence[Encoded], keys: Keys | None = None) -> Published:
        """Publish events in their order, all or none; what several tasks hand in meanwhile goes together.

        keys: an idempotency key of all together, or by their places those of single ones. Raises KeyReused,
        InvalidEvent (no key), BatchTooLarge, EngineUnavailable (EngineRefused, NotReplicated). While it is known that
        the engine does not take events it raises at once.
        """
        if not events:
            return Published([], 0)
        opened = await self._ready()
        if keys and not opened.window:
            raise InvalidEvent("no idempotency keys are remembered here (the window is 0); leave the key out")
        return await self._hand_in(await request_in_turns(events, keys or None))

    def publish_soon(self, event: Encoded, told: Told, counted: Callable[[], None]) -> bool:
        """`publish` of one event: `told` is what came of it, in a later turn of the loop, and `counted` is called first
        where it was published. False: nothing was done; `publish` says why, or waits."""
        if self.trouble is not None or self._opened is None:
            return False
        packed = pack(event)
        size = len(packed)
        if size > self._opened.max_bytes // SHARE or (self._waiting and self._waiting.size + size > MOST_WAITING):
            return False
        request = Request("e", [packed], 1, size)
        request.counted = counted
        self._waiting.add_for(request, told)
        self._fly_soon()
        return True

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        """Have nothing of a channel kept that came before; `body`: the frame that says so. Raises as `publish`."""
        await self._ready()
        return (await self._hand_in(forgetting(channel, body))).ids[0]

    async def _ready(self) -> Opened:
        if self._opened is None:
            await self.open()
        assert self._opened is not None
        return self._opened

    async def _hand_in(self, request: Request) -> Published:
        if self.trouble is not None:
            self.counts.failures += 1
            raise self.trouble.again(maybe=False)
        assert self._opened is not None
        if request.size > self._opened.max_bytes // SHARE:
            raise BatchTooLarge(
                f"the batch has {request.size} bytes, and the engine keeps {self._opened.max_bytes}: an "
                f"{SHARE}th of that may be published at once; send it in several"
            )
        if self._waiting and self._waiting.size + request.size > MOST_WAITING:
            self.counts.failures += 1
            raise EngineUnavailable(
                f"{self._waiting.size} bytes wait to be published at {self.address}, which is not fast enough",
                EngineTrouble.WAITING,
            )
        waiting = self._waiting.add(request)
        self._fly_soon()
        return await waiting

    def _fly_soon(self) -> None:
        """In the next turn of the loop: whoever publishes in this one comes with it."""
        if self._waiting and not self._soon and len(self._flying) < FLIGHTS:
            self._soon = True
            asyncio.get_running_loop().call_soon(self.fly)

    def fly(self) -> None:
        """Now, if nothing is on its way: nobody else comes in this turn of the loop."""
        self._soon = False
        connection = self._connection
        if connection is None or len(self._flying) >= FLIGHTS:
            return
        flight = self._waiting.board()
        if flight.requests:
            self._flying.add(flight)
            wait = self.wait_for_replicas() if self.replicas else None
            try:
                connection.send(
                    flight.commands(self.log, wait), self.patience, partial(self._flown, flight, connection)
                )
            except Exception as error:
                self._fail(flight, connection, error)
                self._landed(flight)

    def _flown(self, flight: Flight, connection: Connection, replies: Replies | EngineUnavailable) -> None:
        if isinstance(replies, list) and not_loaded(replies[0]):
            loading = asyncio.get_running_loop().create_task(self._load_and_carry(flight, connection))
            self._loading.add(loading)
            loading.add_done_callback(self._loading.discard)
            return
        try:
            self._land(flight, replies)
        except Exception as error:
            self._fail(flight, connection, error)
        self._landed(flight)

    async def _load_and_carry(self, flight: Flight, connection: Connection) -> None:
        wait = self.wait_for_replicas() if self.replicas else None
        try:
            self._land(flight, await flight.carry(connection, self.log, wait, self.patience))
        except Exception as error:
            self._fail(flight, connection, error)
        finally:
            self._landed(flight)

    def _land(self, flight: Flight, replies: Sequence[Reply] | EngineUnavailable) -> None:
        """Raises EngineUnavailable."""
        if isinstance(replies, EngineUnavailable):
            raise replies
        self.log.checked(replies[0])
        if self.replicas:
            self.check_replicas(replies[1])
        flight.land(replies[0], self.counts)

    def _fail(self, flight: Flight, connection: Connection, error: Exception) -> None:
        if isinstance(error, EngineUnavailable):
            flight.fail(error)
            self._failed(error, connection)
        else:  # nobody is left waiting
            logger.error("an answer of the engine was not understood", exc_info=error)
            flight.fail(EngineUnavailable(f"not understood: {error!r}", EngineTrouble.OTHER, maybe=True))
            self.counts.failures += 1

    def _landed(self, flight: Flight) -> None:
        self._flying.discard(flight)
        self._fly_soon()

    def _failed(self, error: EngineUnavailable, connection: Connection) -> None:
        """A call has found out what the next look would."""
        self.counts.failures += 1
        if self._moved is not None or error.reason == EngineTrouble.READ_ONLY:
            connection.abort(error)
        if connection is self._connection and error.reason != EngineTrouble.OTHER:
            self._tell(error)

    def wait_for_replicas(self) -> Command:
        return self.log.wait(self.replicas, self._replica_timeout)

    def check_replicas(self, reply: Reply) -> None:
        """Raises NotReplicated."""
        self.log.check_replicas(reply, self.replicas, self._replica_timeout)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        """All that comes behind `after` (None: that is kept), for ever, in lists that are never empty. It ends by
        `aclose` or a cancellation alone: an outage is waited for. One at a time."""
        return self._reader.follow(after)

    @property
    def reading(self) -> bool:
        """Whether what follows is connected, and was answered lately."""
        return self._reader.reading

    @property
    def heard(self) -> float:
        """When what follows was answered last, of the loop's clock."""
        return self._reader.heard

    async def page(self, after: EventId, until: EventId | None = None) -> Page:
        """What comes behind `after`, up to `until`, about 256 KiB of it. Raises EngineUnavailable."""
        return await self._reader.page(after, until)

    async def window(self, bytes: int) -> EventId | None:
        """An id behind which about the newest so many bytes are; None: that is all that is kept. Raises
        EngineUnavailable."""
        await self._ready()
        return await self._on_hand().hold(self.log.window(bytes), self.patience)

    async def look(self) -> Look:
        """Raises EngineUnavailable."""
        await self._ready()
        return await self._look(self._on_hand())

    async def here(self, name: str, words: bytes, seconds: float) -> bool:
        """Say that a node of this name is there for so long, and something of it. False: there are a thousand others.
        Raises EngineUnavailable."""
        await self._ready()
        return await self._on_hand().hold(self.log.here(name, words, round(1000 * seconds)), self.patience)

    async def nodes(self) -> dict[str, bytes]:
        """What each node that is there says of itself, by its name. Raises EngineUnavailable."""
        await self._ready()
        return await self._on_hand().hold(self.log.nodes(), self.patience)

    async def hold(self, dialogue: Dialogue[T]) -> T:
        """Carry out what is none of the log itself. Raises EngineUnavailable."""
        await self._ready()
        return await self._on_hand().hold(dialogue, self.patience)

    def _on_hand(self) -> Connection:
        if self._connection is None:
            assert self.trouble is not None
            raise self.trouble.again(maybe=False)
        return self._connection

    async def another_connection(self) -> Connection:
        """To the server that is published to, as soon as there is one. Raises EngineUnavailable."""
        if self._keeper is None:
            with contextlib.suppress(EngineUnavailable):
                await self.open()
        await self._up.wait()
        return await connect(self.address, self._host, self._timeout)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def timeout(self) -> float:
        return self._timeout
