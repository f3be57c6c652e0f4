"""The client for programs that wait in threads: scripts, jobs, handlers that are no coroutines."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from sse_fast.client.address import MAX_EVENT_SIZE, SILENCE, Address, failed, named, told, with_hint
from sse_fast.client.envelope import PublishedEvent
from sse_fast.client.errors import Refused, Unavailable
from sse_fast.client.items import Gap, item_of
from sse_fast.client.publication import Publication, check_patience
from sse_fast.event import EventId

if TYPE_CHECKING:
    import ssl

    import httpx

    from sse_fast.client.listener import Listener

Token = str | Callable[[], str]
T_co = TypeVar("T_co", PublishedEvent, PublishedEvent | Gap, covariant=True)


class Client:
    """Publishes to an edge and listens to it, over HTTP.

        with Client("http://127.0.0.1:8000") as edge:
            edge.publish("orders:7", {"state": "paid"}, event="order")
            for event in edge.listen("orders:7"):
                ...

    url: where the edge is, with its path: beside an app "http://127.0.0.1:8000/edge". token: a token or a publish key;
    a callable is asked anew for each attempt, so that what is open outlives each single one. headers: further ones of
    each request. timeout: seconds to connect, and for an answer. patience: seconds for which publishing is tried again,
    100 at most; 0: it is tried once. silence: seconds without a byte after which a stream is taken for dead and opened
    again; an edge says something every 15. verify: as httpx has it, an `ssl.SSLContext`, or False.

    It connects when it is used first. Threads may share one; so may processes that were forked, each connects by
    itself. Raises ValueError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        silence: float = SILENCE,
        verify: "ssl.SSLContext | bool" = True,
    ) -> None:
        self._address = Address(url, headers, timeout, silence, verify)
        self._token = token
        self._patience = check_patience(patience)
        self._opened: dict[bool, httpx.Client] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = threading.Event()

    def publish(
        self,
        channel: str | Sequence[str],
        data: Any,
        *,
        event: str | None = None,
        retry: int | None = None,
        key: str | None = None,
        conflate_key: str | None = None,
        id: str | None = None,
        private: bool = False,
    ) -> EventId:
        """Publish one event to a channel, or to several; its id, once it is in the log.

        data: str or bytes (UTF-8) as they stand, anything else as JSON. retry: milliseconds, for who listens.
        conflate_key: what this is the newest value of. id: the publisher's own, by which readers know the event.
        private: Mercure's subscribers get it only if they are granted it.
        key: an idempotency key: the same event under the same key is published once, whoever sends it, for as long as
        the edge remembers the key. Without one the client makes one up for all its attempts.

        An edge that is away, restarts, or says "later" is asked again for `patience` seconds. Raises Unavailable after
        that, whose `maybe` says whether it may have been published; InvalidEvent for what is no event; Unauthorized,
        Forbidden, NotFound, KeyReused, or else Refused where the edge says no.
        """
        one = Publication.one(channel, data, event, retry, key, conflate_key, self._patience, id, private)
        return self._publish(one)[0]

    def publish_many(self, events: Iterable[Mapping[str, Any]], *, key: str | None = None) -> list[EventId]:
        """Publish events, all or none, in their order; their ids.

        Each is `{"channel": "a", "data": 1}`, or has "channels", and may have "event", "retry", "key" and
        "conflate_key". key: of them all. At most 16 MiB, and what the edge takes. Raises as `publish`, and
        BatchTooLarge.
        """
        publication = Publication.many(events, key, self._patience)
        return [] if publication is None else self._publish(publication)

    @overload
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
    ) -> "Listening[PublishedEvent | Gap]": ...
    @overload
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        on_gap: Callable[[Gap], object],
    ) -> "Listening[PublishedEvent]": ...
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> "Listening[Any]":
        """The events of channels, and of all that `patterns` ("orders:*") have, in one order, each once, for as long as
        you iterate: over restarts of the edge, broken connections and tokens that end it goes on behind the last one.

        last_event_id: goes on behind that, or with "earliest" with all that is kept. history: else with the newest so
        many. retries: how often in a row it may fail before Unavailable is raised; None: it is tried without end.
        max_event_size: bytes. on_gap: called with each Gap, which otherwise comes among the events.

        Ends when it is closed, or the edge says that there is nothing more. Raises Unauthorized, Forbidden, NotFound,
        or else Refused where the edge says no, and what `token` raises.
        """
        from sse_fast.client.listener import Listener

        given = list(patterns)
        listener = Listener(
            self._http(streams=True),
            named(channels, given),
            token=self._token,
            patterns=given,
            since=last_event_id,
            history=history,
            retries=retries,
            max_event_size=max_event_size,
            too_large="raise max_event_size",
            tell=told,
            tell_failure=failed,
        )
        return Listening(listener, self._token, on_gap)

    def close(self) -> None:
        """Let go of the connections. Who waits to publish gives up; streams end by their own `close`."""
        self._closed.set()
        with self._lock:
            for client in self._opened.values():
                client.close()
            self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _http(self, *, streams: bool) -> "httpx.Client":
        # Forked, perhaps while another thread had the lock; and the sockets are the parent's.
        if self._process != os.getpid():
            self._process, self._lock, self._opened = os.getpid(), threading.Lock(), {}
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("this client is closed")
            if streams not in self._opened:
                import httpx

                self._opened[streams] = httpx.Client(**self._address.options(streams=streams))
            return self._opened[streams]

    def _publish(self, publication: Publication) -> list[EventId]:
        import httpx

        from sse_fast.client.failures import check_encoding, failure_of

        client = self._http(streams=False)
        while True:
            status = 0
            headers = publication.headers_with(self._token if not callable(self._token) else self._token())
            try:
                with client.stream("POST", "/publish", content=publication.body, headers=headers) as response:
                    status = response.status_code
                    if not response.is_success:
                        raise failure_of(response)
                    check_encoding(response)
                    return publication.answered(status, response.read(), str(client.base_url))
            except Refused as error:
                raise with_hint(error, self._token) from None
            except (Unavailable, httpx.TransportError) as error:
                pause = publication.failed(error, client, status)
            if self._closed.wait(pause):
                raise publication.given_up("the client was closed")


class Listening(Generic[T_co]):
    """What `Client.listen` returns: an iterator, and a context manager that closes it."""

    def __init__(self, listener: "Listener", token: object, on_gap: Callable[[Gap], object] | None) -> None:
        self._listener = listener
        self._token = token
        self._on_gap = on_gap
        self._events = iter(listener)

    @property
    def last_event_id(self) -> str | None:
        """Behind which event it is: to keep, and to go on there another day."""
        return self._listener.cursor or None

    def __iter__(self) -> Iterator[T_co]:
        return self

    def __next__(self) -> T_co:
        try:
            for event in self._events:
                item = item_of(event)
                if isinstance(item, Gap) and self._on_gap is not None:
                    self._on_gap(item)
                elif item is not None:
                    return item  # type: ignore[return-value]
        except Refused as error:
            raise with_hint(error, self._token) from error.__cause__
        raise StopIteration

    def close(self) -> None:
        """End the iteration, from any thread: whoever waits for an event there finds that there are no more."""
        self._listener.close()
        with suppress(ValueError):  # another thread is in it
            self._events.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
