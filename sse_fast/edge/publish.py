"""Publishing by HTTP: the body of a request that was decided to be one -> events in the log, and their ids."""

import asyncio
import codecs
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from io import BytesIO
from itertools import islice
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as Incoming

from sse_fast._native.log.measure import refuse_names_over_batch
from sse_fast._native.wire.publication import encode_publication, from_json_array, from_json_object, from_ndjson
from sse_fast.access.grants import Grants, refusal
from sse_fast.access.namespaces import NO_NAMESPACES, Namespaces
from sse_fast.access.rates import Rates
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.edge.mercure import Updates, published
from sse_fast.edge.requests import Requests
from sse_fast.errors import HubClosed, InvalidEvent, KeyReused, SSEFastError
from sse_fast.event import EventId, EventIds
from sse_fast.event_rules import Encoded, brief, visible
from sse_fast.hub.batches import BATCH_EVENTS, refuse_batch_over
from sse_fast.hub.hub import Hub
from sse_fast.hub.idempotency import Keys
from sse_fast.protocol.decision import Answer, Form, Headers, Publish, in_order
from sse_fast.protocol.mercure_form import RESERVED_TYPE, is_reserved
from sse_fast.protocol.problem import AGAIN, FAILED, OUT_OF_MEMORY, PROBLEMS, TooLate, TooMuch, problem, problem_of
from sse_fast.transports.asgi import send_answer

logger = logging.getLogger("sse_fast.edge")

JSON = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
REPLAYED = ((b"idempotent-replayed", b"true"),)
JSON_SPACE = b" \t\r\n"
NAMED_AT_ONCE = 8192  # ids, before the loop is given back: a millisecond
COUNTED_AT_ONCE = 4096  # lines, or names of channels, as well
ALLOWED_AT_ONCE = 256  # names of channels that are matched, as well
IN_A_TURN = 16 * 1024  # bytes of JSON that are parsed, encoded and appended in one turn: well below a millisecond
BODY_SECONDS = 30.0
RESERVED = b"event: %b\n" % RESERVED_TYPE.encode()
IN_ONE_PIECE = (Form.DATA, Form.UPDATE)  # of one event each
UNLIMITED: AbstractAsyncContextManager[None] = contextlib.nullcontext()
TOLD = tuple(PROBLEMS)  # what is answered in the error's own words
REFUSED: tuple[type[Exception], ...] = (MemoryError, *TOLD)


class Publishing:
    """Over one hub. Every transport that has a request's body gets its answer here: `answer_now`, or else `answer`; or
    `publish`, which is either.

    All of a request's events are taken or, if one is wrong, none. Both raise what should not happen: then `failed` is
    what to answer, and the error is for the server's log.
    """

    def __init__(
        self,
        hub: Hub,
        requests: Requests,
        rates: Rates | None = None,
        told: Callable[[Answer, Scope, Publish], None] = lambda *_: None,
        namespaces: Namespaces = NO_NAMESPACES,
        *,
        speaks_mercure: bool = False,
    ) -> None:
        """`told`: of each answer to a request of an ASGI server; it may refuse somebody. `namespaces`: they may ask for
        more of who publishes than that it is granted. `speaks_mercure`: nobody publishes what that hub itself does."""
        self._hub = hub
        self._requests = requests
        self._rates = rates if rates is not None and rates.of_publishing else None
        self._told = told
        self._namespaces = namespaces
        self._updates = Updates(hub, namespaces)
        self._speaks_mercure = speaks_mercure

    async def __call__(self, wanted: Publish, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of an ASGI server. What should not happen is answered, and raised then, so that the server
        logs it."""
        try:
            try:
                self.refuse_if_closing()
                body = await read_body(Incoming(scope, receive), wanted)
            except ClientDisconnect:
                return  # before its request was whole; nobody is left to be answered
            except REFUSED as error:
                answer = self.refused(wanted, error)
            else:
                answer = await self.answer(wanted, body, (scope.get("client") or ("local", 0))[0])
        except Exception:
            await send_answer(self.failed(wanted), send)
            raise
        self._told(answer, scope, wanted)
        await send_answer(answer, send)

    def publish(self, wanted: Publish, body: bytes, client: str = "local") -> Answer | Coroutine[Any, Any, Answer]:
        """For a transport that has no server over it: an answer, or where it has to be waited for one that comes.
        Raises nothing; what should not happen is logged here. `client`: the address of who publishes."""
        try:
            answer = self.answer_now(wanted, body, client)
        except Exception:
            return self._logged(wanted)
        return answer if answer is not None else self._in_turns(wanted, body, client)

    def publish_form(self, wanted: Publish, body: bytes) -> str | None:
        """The answer's text to such a form from who may send it, which the caller hands out; None: it was not published
        here. Raises what `answer` says in words; then it was not either."""
        return self._updates.text(wanted, body)

    async def _in_turns(self, wanted: Publish, body: bytes, client: str) -> Answer:
        try:
            return await self.answer(wanted, body, client)
        except Exception:
            return self._logged(wanted)

    def _logged(self, wanted: Publish) -> Answer:
        """`failed`, with a word in our own log."""
        with contextlib.suppress(MemoryError):
            logger.exception("a request to publish could not be answered as it should")
        return self.failed(wanted)

    def answer_now(self, wanted: Publish, body: bytes, client: str = "local") -> Answer | None:
        """What `answer` returns, in this turn of the loop. None, and nothing was published: it has to wait, or takes
        more than a turn."""
        if not self._hub.backplane.in_place or (len(body) > IN_A_TURN and wanted.form not in IN_ONE_PIECE):
            return None
        if wanted.form is Form.UPDATE and self._rates is None and wanted.key is None and len(body) <= wanted.most:
            return self._updates.now(wanted, body)
        answering = self.answer(wanted, body, client)
        try:
            answering.send(None)
        except StopIteration as answered:
            answer: Answer = answered.value
            return answer
        # It has published nothing: after the append it only waits to name more ids than such a body has events.
        answering.close()
        return None

    async def answer(self, wanted: Publish, body: bytes, client: str = "local") -> Answer:
        """Publish what this body holds, from a client with this address."""
        before = update = None
        try:
            refuse_body_over(wanted, len(body))
            keys: dict[int, str] = {}
            if wanted.form is Form.UPDATE:
                update, event = self._updates.read(wanted, body)
                events, alone = [event], True
            else:
                events, alone = await self._encoded(wanted, body, keys)
                if self._speaks_mercure:
                    await refuse_reserved(events)
            limited = self._namespaces.limit_publishers or not wanted.grants.publish.everything
            async with self._within_rate(wanted, events, client):
                if limited and wanted.form not in IN_ONE_PIECE:
                    self._hub.log.measure(events)  # what is too large for it has no name looked at
                    await refuse_not_granted(wanted.grants, events, self._namespaces)
                before = self._hub.published
                async with self._within_rate_of_channels(events):
                    if wanted.key is None and not keys:
                        ids, repeated = await self._hub.append(events), 0
                    else:
                        try:
                            ids, repeated = await self._hub.append_once(events, key_or_keys(wanted.key, keys))
                        except KeyReused as error:
                            raise await placed(error, wanted.form, alone, body) from None
            if update is not None:
                return published(update, str(ids[0]), (*(REPLAYED if repeated else ()), *wanted.headers))
            body = b'{"id":"%b"}' % str(ids[0]).encode() if alone else await listed(ids, repeated)
            length = (b"content-length", b"%d" % len(body))
            replayed = REPLAYED if repeated and repeated == len(events) else ()
            return Answer(200, in_order(*JSON, *replayed, length, *wanted.headers), body)
        except MemoryError as error:
            return self._out_of_memory(error, before, wanted.headers)
        except TOLD as error:
            return self._told_of(wanted, error)

    def _told_of(self, wanted: Publish, error: Exception) -> Answer:
        if wanted.form is Form.UPDATE and isinstance(error, SSEFastError):
            return self._updates.refused(wanted, error)
        return problem_of(error, wanted.headers)

    def refuse_if_closing(self) -> None:
        """Where the head of a request is there: whose head came before is answered. Raises HubClosed."""
        if self._requests.closing or self._hub.draining:
            raise HubClosed("this server is shutting down and takes no more events")

    def refused(self, wanted: Publish, error: Exception) -> Answer:
        """To a request whose body was not taken, because of one of REFUSED."""
        if isinstance(error, MemoryError):
            return self._out_of_memory(error, None, wanted.headers)
        return self._told_of(wanted, error)

    def failed(self, wanted: Publish) -> Answer:
        """To one that met what should not happen."""
        return problem(500, FAILED, wanted.headers)

    async def _encoded(self, wanted: Publish, body: bytes, keys: dict[int, str]) -> tuple[list[Encoded], bool]:
        """The events of a body, and whether it is a single one, not a list of one; idempotency keys in it are put into
        `keys`, by the places of their events. Raises InvalidEvent."""
        limit, typed = self._hub.max_event_size, self._hub.typed
        if wanted.form is Form.DATA:
            assert wanted.channel is not None
            encoded = encode_publication(
                wanted.channel,
                body,
                event=wanted.event,
                retry=wanted.retry,
                conflate_key=wanted.conflate_key,
                limit=limit,
                typed=typed,
            )
            return [encoded], True
        body = body.removeprefix(codecs.BOM_UTF8)  # some editors put one there; RFC 8259 lets a reader ignore it
        if wanted.form is Form.LINES:
            return await gently(from_ndjson(body, limit, keys, typed), len(body)), False
        if body.lstrip(JSON_SPACE).startswith(b"["):
            return await gently(from_json_array(body, limit, keys, typed), len(body)), False
        return [from_json_object(body, limit, keys, typed)], True

    def _within_rate(self, wanted: Publish, events: list[Encoded], client: str) -> AbstractAsyncContextManager[None]:
        if self._rates is None:
            return UNLIMITED
        return within_rate(self._rates, len(events), client, wanted.grants.credential)

    def _within_rate_of_channels(self, events: list[Encoded]) -> AbstractAsyncContextManager[None]:
        if self._rates is None or not self._rates.of_channels:
            return UNLIMITED
        return within_rate_of_channels(self._rates, events)

    def _out_of_memory(self, error: MemoryError, before: int | None, headers: Headers) -> Answer:
        """The error has a message where our own code raised it. "Again" is said only where nothing was published,
        which a count tells: no memory is needed for it. That others may have raised it meanwhile does no harm."""
        if before is not None and before != self._hub.published:
            return problem(500, "the server has run out of memory; what was sent may have been published", headers)
        return problem(503, str(error) or OUT_OF_MEMORY, (*AGAIN, *headers), "overloaded")


def names_of(events: Iterable[Encoded]) -> Iterator[bytes]:
    """Of their channels, as often as they stand there."""
    for channel, _ in events:
        if isinstance(channel, tuple):
            yield from visible(channel)
        else:
            yield channel


async def refuse_not_granted(grants: Grants, events: Iterable[Encoded], namespaces: Namespaces = NO_NAMESPACES) -> None:
    """Raise Forbidden or Unauthorized for the first event of a channel that is not granted, or whose namespace asks for
    more: then none is published. Each name is looked at once, and the loop given back after so many."""
    allowed: set[bytes] = set()
    for number, channel in enumerate(names_of(events)):
        if number and number % ALLOWED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if channel not in allowed:
            name = channel.decode()
            if not grants.publish.matches(name):
                raise refusal(grants, "publish", (name,))
            namespaces.refuse_publisher(grants, name)
            allowed.add(channel)


async def refuse_reserved(events: Iterable[Encoded]) -> None:
    """Raise InvalidEvent for an event that looks like one of the Mercure hub's own."""
    for number, (channels, frame) in enumerate(events):
        if number and number % ALLOWED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if frame.startswith(RESERVED) or b"\n" + RESERVED in frame:
            raise InvalidEvent(f"the event type {RESERVED_TYPE!r} is that of the Mercure hub's own events")
        for name in visible(channels):
            if (b"/mercure" in name or b"%" in name) and is_reserved(name.decode()):
                raise InvalidEvent(f"names at the Mercure hub's own path are the hub's; {brief(name.decode())} is one")


@contextlib.asynccontextmanager
async def within_rate(rates: Rates, events: int, client: str, credential: str | None) -> AsyncIterator[None]:
    """Count what is published within for who publishes, or nothing where it is not. Raises RateLimited."""
    rates.publishing(client, credential, events)
    try:
        yield
    except BaseException:
        rates.published_nothing(client, credential, events)
        raise


@contextlib.asynccontextmanager
async def within_rate_of_channels(rates: Rates, events: list[Encoded]) -> AsyncIterator[None]:
    """The same for its channels. Raises RateLimited."""
    counted: Counter[bytes] = Counter()
    names = names_of(events)
    while part := tuple(islice(names, COUNTED_AT_ONCE)):
        counted.update(part)
        if len(part) == COUNTED_AT_ONCE:
            await asyncio.sleep(0)
    channels = list(counted.items())
    used: list[tuple[bytes, int]] = []
    try:
        for at in range(0, len(channels), COUNTED_AT_ONCE):
            if at:
                await asyncio.sleep(0)
            spent = channels[at : at + COUNTED_AT_ONCE]
            rates.publishing_to(spent)
            used += spent
        yield
    except BaseException:
        rates.published_nothing_to(used)
        raise


def key_or_keys(key: str | None, keys: dict[int, str]) -> Keys:
    """Of a request, or of its events. Raises InvalidEvent."""
    if key is None:
        return keys
    if keys:
        raise InvalidEvent(
            "there is an Idempotency-Key of the whole request, and 'key' in its body; give one, or the other"
        )
    return key


async def placed(error: KeyReused, form: Form, alone: bool, body: bytes) -> KeyReused:
    """The same error, of an event by the name that its publisher knows: its line, or its index."""
    if error.place is None or alone:
        return KeyReused.at(None)
    if form is not Form.LINES:
        return KeyReused.at(error.place, error.first, "event {} of the array".format)
    lines: list[int] = []  # of the events up to that one
    for number, line in enumerate(BytesIO(body.removeprefix(codecs.BOM_UTF8)), 1):
        if line.strip(JSON_SPACE):
            lines.append(number)
            if len(lines) > error.place:
                break
        if number % COUNTED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return KeyReused.at(error.place, error.first, lambda place: f"line {lines[place]}")


async def listed(ids: Sequence[EventId], repeated: int) -> bytes:
    """The ids of a batch, and how many of its events had been published before. It is out by now, so the loop can be
    given back. Not by orjson, which takes the worker with it where it finds no memory."""
    parts: list[bytes] = []
    for at in range(0, len(ids), NAMED_AT_ONCE):
        if at:
            await asyncio.sleep(0)
        parts.append(",".join(quoted(ids[at : at + NAMED_AT_ONCE])).encode())
    before = b',"repeated":%d' % repeated if repeated else b""
    return b'{"ids":[%b]%b}' % (b",".join(parts), before)


def quoted(ids: Sequence[EventId]) -> list[str]:
    if isinstance(ids, EventIds):  # of one epoch, for whose sake no EventId is made each
        prefix = f'"{ids.epoch}-'
        return [f'{prefix}{position}"' for position in ids.positions]
    return [f'"{id}"' for id in ids]


async def gently(pieces: Iterable[list[Encoded]], size: int) -> list[Encoded]:
    """Collect the events of a body of so many bytes, giving the loop back after each piece: a large body must not hold
    up the streams. Raises BatchTooLarge."""
    collected: list[Encoded] = []
    names = 0
    for piece in pieces:
        collected += piece
        refuse_batch_over(BATCH_EVENTS, len(collected))
        names += sum([len(channel) if isinstance(channel, tuple) else 1 for channel, _ in piece])
        refuse_names_over_batch(names)
        if size > IN_A_TURN:
            await asyncio.sleep(0)
    return collected


async def read_body(request: Incoming, wanted: Publish) -> bytes:
    """The whole body, or TooMuch as soon as it is known to be too large; TooLate after BODY_SECONDS."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                refuse_body_over(wanted, size)
                parts.append(part)
    except TimeoutError:
        raise body_too_late() from None
    return b"".join(parts)


def refuse_body_over(wanted: Publish, size: int) -> None:
    """Raises TooMuch for a body that has, or has so far, more bytes than this request's may have."""
    if size > wanted.most:
        raise TooMuch(f"the body is larger than {wanted.most} bytes, the most that {wanted.form.words} has")


def body_too_late() -> TooLate:
    return TooLate(f"the body did not come within {BODY_SECONDS:g} s")
