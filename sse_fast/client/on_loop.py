"""The client for event loops."""

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from sse_fast.client.address import MAX_EVENT_SIZE, SILENCE, Address, failed, named, told, with_hint
from sse_fast.client.envelope import PublishedEvent
from sse_fast.client.errors import Refused, Stopped, Unavailable
from sse_fast.client.items import Gap, item_of
from sse_fast.client.publication import Publication, check_patience
from sse_fast.event import EventId

if TYPE_CHECKING:
    import ssl

    import httpx

    from sse_fast.client.listener import Following

AsyncToken = str | Callable[[], str | Awaitable[str]]
T_co = TypeVar("T_co", PublishedEvent, PublishedEvent | Gap, covariant=True)


class AsyncClient:
    """`Client` for an event loop: publishes to an edge and listens to it, over HTTP.

        async with AsyncClient("http://127.0.0.1:8000") as edge:
            await edge.publish("orders:7", {"state": "paid"}, event="order")
            async for event in edge.listen("orders:7"):
                ...

    Its arguments are those of `Client`; `token` may be a coroutine function, too. Tasks may share one; it lives on the
    loop where it is used, and begins anew on another.
    """

    def __init__(
        self,
        url: str,
        *,
        token: AsyncToken | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        silence: float = SILENCE,
        verify: "ssl.SSLContext | bool" = True,
    ) -> None:
        self._address = Address(url, headers, timeout, silence, verify)
        self._token = token
        self._patience = check_patience(patience)
        self._opened: dict[bool, httpx.AsyncClient] = {}
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    async def publish(
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
        """As `Client.publish`."""
        one = Publication.one(channel, data, event, retry, key, conflate_key, self._patience, id, private)
        return (await self._publish(one))[0]

    async def publish_many(self, events: Iterable[Mapping[str, Any]], *, key: str | None = None) -> list[EventId]:
        """As `Client.publish_many`."""
        publication = Publication.many(events, key, self._patience)
        return [] if publication is None else await self._publish(publication)

    @overload
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
    ) -> "AsyncListening[PublishedEvent | Gap]": ...
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
    ) -> "AsyncListening[PublishedEvent]": ...
    def listen(
        self,
        *channels: str,
        patterns: Iterable[str] = (),
        last_event_id: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> "AsyncListening[Any]":
        """As `Client.listen`, to be iterated by `async for`. `on_gap` is a plain function. Where the loop goes on after
        the iteration, have it end there: `async with edge.listen("a") as events`."""
        from sse_fast.client.listener import Following

        given = list(patterns)
        following = Following(
            named(channels, given),
            patterns=given,
            since=last_event_id,
            history=history,
            retries=retries,
            max_event_size=max_event_size,
            too_large="raise max_event_size",
            tell=told,
            tell_failure=failed,
        )
        return AsyncListening(self, following, on_gap)

    async def aclose(self) -> None:
        """Let go of the connections; streams end by their own `aclose`."""
        self._closed = True
        clients, self._opened = list(self._opened.values()), {}
        for client in clients:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _http(self, *, streams: bool) -> "httpx.AsyncClient":
        if self._closed:
            raise RuntimeError("this client is closed")
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            self._home, self._opened = home, {}
        if streams not in self._opened:
            import httpx

            self._opened[streams] = httpx.AsyncClient(**self._address.options(streams=streams))
        return self._opened[streams]

    async def _now(self) -> str | None:
        """The token."""
        made = self._token() if callable(self._token) else self._token
        return await made if inspect.isawaitable(made) else made

    async def _publish(self, publication: Publication) -> list[EventId]:
        import httpx

        from sse_fast.client.failures import check_encoding, failure_of, read_of

        client = self._http(streams=False)
        while True:
            status = 0
            headers = publication.headers_with(await self._now())
            try:
                async with client.stream("POST", "/publish", content=publication.body, headers=headers) as response:
                    status = response.status_code
                    if not response.is_success:
                        raise failure_of(await read_of(response))
                    check_encoding(response)
                    return publication.answered(status, await response.aread(), str(client.base_url))
            except Refused as error:
                raise with_hint(error, self._token) from None
            except (Unavailable, httpx.TransportError) as error:
                pause = publication.failed(error, client, status)
            await asyncio.sleep(pause)

    async def _followed(self, following: "Following") -> AsyncGenerator[PublishedEvent | Gap, None]:
        from sse_fast.client.listener import MAY_PASS, STREAM_HEADERS
        from sse_fast.client.relay_source import check

        client = self._http(streams=True)
        while True:
            failure: Exception | None = None
            try:
                asked = following.asked(await self._now())
                asked["headers"] |= STREAM_HEADERS
                async with client.stream("GET", "/sse", **asked) as response:
                    await check(response)
                    following.connected(client.base_url)
                    async for piece in response.aiter_raw():
                        for event in following.fed(piece):
                            if (item := item_of(event)) is not None:
                                yield item
            except Stopped:
                following.stopped()
                return
            except Refused as error:
                raise with_hint(error, self._token) from error.__cause__
            except MAY_PASS as error:
                failure = error
            await asyncio.sleep(following.ended(failure, client))


class AsyncListening(Generic[T_co]):
    """What `AsyncClient.listen` returns: an async iterator, and an async context manager that closes it."""

    def __init__(self, client: AsyncClient, following: "Following", on_gap: Callable[[Gap], object] | None) -> None:
        self._client, self._following = client, following
        self._on_gap = on_gap
        self._items = client._followed(following)
        self._closed = False
        self._waiting: asyncio.Timeout | None = None

    @property
    def last_event_id(self) -> str | None:
        """Behind which event it is: to keep, and to go on there another day."""
        return self._following.cursor or None

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self

    async def __anext__(self) -> T_co:
        if self._waiting is not None:
            raise RuntimeError("another task waits for its next event; each has a listen() of its own")
        try:
            async with asyncio.timeout(None) as self._waiting:
                while not self._closed:
                    item = await anext(self._items)
                    if not isinstance(item, Gap) or self._on_gap is None:
                        return item  # type: ignore[return-value]
                    self._on_gap(item)
        except TimeoutError:
            if not self._closed:
                raise
        except asyncio.CancelledError:  # who gives up one event may want the next: it goes on behind the last one
            self._items = self._client._followed(self._following)
            raise
        finally:
            self._waiting = None
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iteration: a task that waits for an event finds that there are no more."""
        self._closed = True
        if self._waiting is None:
            await self._items.aclose()
        else:
            self._waiting.reschedule(0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
