"""What `Hub.response` returns, and each connection that it answers."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from starlette.responses import Response

from sse_fast.access.limits import Admission
from sse_fast.asgi import Receive, Scope, Send, set_stream_headers
from sse_fast.base import shutdown
from sse_fast.embed.filters import Filter, FilteredSend, Frames, Transform
from sse_fast.embed.held import HeldStream
from sse_fast.embed.presence import OnJoin, OnLeave, StreamInfo, tell_joined, tell_left
from sse_fast.errors import EndReason
from sse_fast.hub.subscription import Home, Subscription
from sse_fast.protocol.decision import Answer, Need, Subscribe
from sse_fast.protocol.native import reads_json
from sse_fast.protocol.request import Request
from sse_fast.transports.asgi import Stream, send_answer
from sse_fast.transports.hold import MARK, Mark, Offer
from sse_fast.transports.streams import Streams


class Answering(Home, Protocol):
    """The hub whose response it is, as far as a response uses it."""

    admission: Admission
    compress: bool
    frames: Frames
    keepalive: float
    of_the_server: bool
    on_join: OnJoin | None
    on_leave: OnLeave | None
    stream_numbers: Iterator[int]
    streams: Streams

    def stop_soon(self) -> None:
        """Begin to end all streams: a signal has come."""


class HubResponse(Response):
    """What `Hub.response` returns: an ASGI app, and a response to Starlette and FastAPI."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Answering,
        wanted: Subscribe,
        *,
        filter: Filter | None,
        transform: Transform | None,
        on_join: OnJoin | None,
        on_leave: OnLeave | None,
        retry: int | None,
        headers: Mapping[str, str] | None,
        refusal: Answer | None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.hub, self.retry = hub, retry
        self._filter, self._transform = filter, transform
        self._refusal = refusal
        self.joined = [told for told in (hub.on_join, on_join) if told is not None]
        self.left = [told for told in (on_leave, hub.on_leave) if told is not None]
        needs = {Need.FILTER} if filter is not None or transform is not None else set()
        if self.joined or self.left:
            needs.add(Need.PRESENCE)
        self.wanted = wanted._replace(needs=frozenset(needs))
        self.init_headers(headers)
        set_stream_headers(self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = _HubStream(self, scope, receive, send)
        headers = tuple(self.raw_headers)
        request = Request.from_scope(scope)
        wanted = self.wanted._replace(headers=headers, reads_json=reads_json(request))
        if self.hub.compress and Need.FILTER not in wanted.needs:
            wanted = wanted.negotiated(request.headers.get(b"accept-encoding"))
        mark: Mark | None = scope.get(MARK)
        if self._refusal is not None:
            await stream.refuse(self._refusal)
        elif scope["method"] == "HEAD":
            await stream.refuse(Answer(200, wanted.opening_headers))
        elif mark is not None and Need.FILTER not in wanted.needs and not self.hub.streams.recalls(wanted):
            head, body = mark.answer(Offer(wanted, self.retry, self._held(mark, scope)), headers)
            await send_answer(Answer(200, head, body), send)
            return  # the background task comes behind the stream
        else:
            if not self.hub.of_the_server:  # which drains it
                shutdown.watch(self.hub.stop_soon)
            try:
                await stream.answer(wanted)
            finally:
                if not self.hub.admission.connections:
                    shutdown.unwatch(self.hub.stop_soon)
        if self.background is not None:
            await self.background()

    def _held(self, mark: Mark, scope: Scope) -> HeldStream | None:
        """Who is to be told of the stream, where the front holds it; None: nobody."""
        if not self.joined and not self.left and self.background is None:
            return None
        hub, channels = self.hub, self.wanted.channels
        number = next(hub.stream_numbers)
        return HeldStream(mark.holds, hub, number, scope, channels, self.joined, self.left, self.background)

    def writer(self, send: Send) -> Send:
        if self._filter is None and self._transform is None:
            return send
        return FilteredSend(send, self.hub.frames, self._filter, self._transform, self.hub.keepalive)


class _HubStream(Stream):
    """One connection of a `HubResponse`."""

    __slots__ = ("_info", "_response")

    def __init__(self, response: HubResponse, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(response.hub.streams, scope, receive, send, retry=response.retry)
        self._response = response
        self._info: StreamInfo | None = None

    @property
    def busy(self) -> bool:
        return self._streams.hub.fanout.busy

    def end(self) -> None:
        self._end(EndReason.APP, None)

    def _writer(self) -> Send:
        return self._response.writer(self._send)

    async def _joined(self, subscription: Subscription) -> None:
        if not self._response.joined and not self._response.left:
            return
        response = self._response
        number = next(response.hub.stream_numbers)
        self._info = StreamInfo(self, number, self._scope, response.wanted.channels, subscription)
        await tell_joined(response.joined, self._info)

    async def _left(self) -> None:
        info, self._info = self._info, None
        if info is not None:
            await tell_left(self._response.left, info, self.end_reason)
