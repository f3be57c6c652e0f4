"""Everything over HTTP that is not a stream: publish, channels, health, stats, metrics, the page. Starlette routes."""

import asyncio
import codecs
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast._native.wire.publication import encode_publication, from_json_array, from_json_object, from_ndjson
from sse_fast.access.limits import Admission
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.edge import page
from sse_fast.edge.listing import Listings, TooManyListings, place_before
from sse_fast.edge.metrics import Metrics
from sse_fast.errors import BatchTooLarge, EventTooLarge, ForeignOrigin, HubClosed, InvalidEvent, LogBusy, Unauthorized
from sse_fast.event import EventId
from sse_fast.event_rules import MAX_RETRY_MS, Encoded, brief
from sse_fast.hub.backplane import EventIds
from sse_fast.hub.batches import BATCH_EVENTS, refuse_batch_over
from sse_fast.hub.hub import Hub
from sse_fast.protocol.problem import Problem

NDJSON = frozenset(("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"))
JSON_SPACE = b" \t\r\n"
MAX_CHANNELS_LISTED = 1000
NAMED_AT_ONCE = 8192  # ids, before the loop is given back: a millisecond
BODY_SECONDS = 30.0
PUBLISHED_BEFORE = "sse_fast.published_before"
"""Key in the ASGI scope: how many events the hub had published when those of this request came up."""
MAX_JSON_SIZE = 1024 * 1024  # bytes of an object or an array; NDJSON may be as large as max_body_size


class TooMuch(Exception):
    """A body over its limit."""


class TooLate(Exception):
    """A body that took too long to come."""


class NotPlain(Exception):
    """A body in an encoding that nobody here undoes."""


class ExactRoute(Route):
    """One whose path ends where it ends. Starlette's pattern ends with `$`, which a line end behind the path passes, so
    that "/metrics%0a" would be /metrics."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def json(content: Any, status: int = 200) -> Response:
    return json_bytes(orjson.dumps(content), status)


def json_bytes(content: bytes, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(content, status_code=status, headers=headers, media_type="application/json")


class Api:
    """The routes, over one hub. `redirected_to`: the port that requests for streams are redirected to."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        metrics: Metrics,
        *,
        max_body_size: int,
        redirected_to: int | None = None,
    ) -> None:
        self._hub = hub
        self._admission = admission
        self._metrics = metrics
        self._max_body_size = max_body_size
        self._redirected_to = redirected_to
        self._listings = Listings(hub.fanout.index)
        self._max_json_size = max(MAX_JSON_SIZE, 8 * hub.max_event_size)
        self.app = Starlette(
            routes=[
                ExactRoute("/publish", self.publish, methods=["POST"]),
                ExactRoute("/publish/{channel}", self.publish_raw, methods=["POST"]),
                ExactRoute("/publish/{stream}/{name}", self.publish_raw, methods=["POST"]),
                ExactRoute("/channels", self.channels),
                ExactRoute("/livez", self.livez),
                ExactRoute("/readyz", self.readyz),
                ExactRoute("/healthz", self.healthz),
                ExactRoute("/stats", self.stats),
                ExactRoute("/metrics", self.prometheus),
                ExactRoute("/", self.page),
            ],
            exception_handlers={
                HTTPException: http_problem,
                InvalidEvent: problem(400),
                EventTooLarge: problem(413),
                BatchTooLarge: problem(413),
                TooMuch: problem(413),
                NotPlain: problem(415, {"accept-encoding": "identity"}),
                TooLate: problem(408),
                ForeignOrigin: problem(403),
                Unauthorized: problem(401, {"www-authenticate": 'Bearer realm="publish"'}),
                HubClosed: problem(503, {"retry-after": "1"}),
                LogBusy: problem(503, {"retry-after": "1"}),
                TooManyListings: problem(503, {"retry-after": "1"}),
                MemoryError: self.out_of_memory,
                ClientDisconnect: nobody_left,
                Exception: failure,
            },
        )
        # A redirect would lose what was to be published: few publishers follow one.
        self.app.router.redirect_slashes = False
        self.end_reason = False
        """Nothing more is taken to be published, and every answer closes its connection: whoever kept it would come
        here again and again."""
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._under_way += 1
        try:
            # In HTTP/2 nothing in an answer says so.
            closing = self.end_reason and scope["http_version"] in ("1.0", "1.1")
            await self.app(scope, receive, _closing(send) if closing else send)
        finally:
            self._under_way -= 1

    async def finish(self, seconds: float) -> None:
        """Wait until the requests under way have been answered, at most so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._under_way and loop.time() < deadline:  # noqa: ASYNC110 - only at the end of a server
            await asyncio.sleep(0.005)

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish_raw(self, request: Request) -> Response:
        """The body is the data, as it stands; `?event=` and `?retry=` go with it."""
        self._admit(request)
        names = request.path_params
        channel = names["channel"] if "channel" in names else f"{names['stream']}:{names['name']}"
        options = parameters(request, "event", "retry")
        retry = options.get("retry")
        if retry is not None and not (retry.isascii() and retry.isdigit() and len(retry) < 10):
            raise InvalidEvent(
                f"'retry' is a whole number of milliseconds from 0 to {MAX_RETRY_MS}, not {brief(retry)}"
            )
        limit = self._hub.max_event_size
        body = await read_body(request, limit, "an event")
        milliseconds = int(retry) if retry is not None else None
        encoded = encode_publication(channel, body, event=options.get("event"), retry=milliseconds, limit=limit)
        return await self._append_one(request, encoded)

    async def publish(self, request: Request) -> Response:
        """One JSON object, a JSON array of them, or NDJSON; all of them are taken or, if one is wrong, none."""
        self._admit(request)
        parameters(request)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # JSON that is not in lines is parsed in one go, and the loop waits for that.
        most = self._max_body_size if media_type in NDJSON else min(self._max_body_size, self._max_json_size)
        body = await read_body(request, most, "a publish request of lines" if media_type in NDJSON else "JSON")
        body = body.removeprefix(codecs.BOM_UTF8)  # some editors put one there; RFC 8259 lets a reader ignore it
        limit = self._hub.max_event_size
        if media_type in NDJSON:
            events = await gently(from_ndjson(body, limit))
        elif body.lstrip(JSON_SPACE).startswith(b"["):
            events = await gently(from_json_array(body, limit))
        else:
            return await self._append_one(request, from_json_object(body, limit))
        return await self._named(await self._append(request, events))

    async def _append(self, request: Request, events: list[Encoded]) -> Sequence[EventId]:
        request.scope[PUBLISHED_BEFORE] = self._hub.published
        return await self._hub.append(events)

    async def _named(self, ids: Sequence[EventId]) -> Response:
        """The ids of a batch. It is out by now, so the loop can be given back. Not by orjson, which takes the worker
        with it where it finds no memory."""
        parts: list[bytes] = []
        for at in range(0, len(ids), NAMED_AT_ONCE):
            if at:
                await asyncio.sleep(0)
            parts.append(",".join(quoted(ids[at : at + NAMED_AT_ONCE])).encode())
        return json_bytes(b'{"ids":[%b]}' % b",".join(parts))

    def _admit(self, request: Request) -> None:
        if self.end_reason:
            raise HubClosed("this server is shutting down and takes no more events")
        headers = request.headers
        self._admission.authorize_publisher(
            headers.get("authorization"), origin=headers.get("origin"), host=headers.get("host")
        )

    async def _append_one(self, request: Request, event: Encoded) -> Response:
        (id,) = await self._append(request, [event])
        return json_bytes(b'{"id":"%b"}' % str(id).encode())

    async def out_of_memory(self, request: Request, error: Exception) -> Response:
        """Whoever ran out of it says so, or raised without a word. "Again" is said only where nothing was published,
        which a count tells: no memory is needed for it. That others may have raised it meanwhile does no harm."""
        before = request.scope.get(PUBLISHED_BEFORE)
        if before is not None and before != self._hub.published:
            return Problem(500, "the server has run out of memory; what was sent may have been published")
        return Problem(503, str(error) or "the server has run out of memory; try again later", {"retry-after": "1"})

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def channels(self, request: Request) -> Response:
        """`?prefix=&limit=`: the channels that have kept events, or subscribers on this worker, the newest first.

        What is kept is the same on all workers; `subscribers` are those of the worker that answers (`pid`). What `next`
        says, given as `?before=`, goes on from there. Channels may come and go meanwhile; those that stay are listed.
        """
        options = parameters(request, "prefix", "limit", "before")
        prefix = options.get("prefix", "").encode()
        limit = options.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 0 < int(limit) <= MAX_CHANNELS_LISTED):
            raise InvalidEvent(f"'limit' is a whole number from 1 to {MAX_CHANNELS_LISTED}, not {brief(limit)}")
        found, place = await self._listings.look(prefix, int(limit), place_before(options.get("before")))
        listed = [
            {
                "name": channel.name.decode(),
                "subscribers": channel.subscribers,
                "kept": channel.kept,
                "last_id": self._hub.event_id(channel.last_position) if channel.kept else None,
            }
            for channel in found
        ]
        further = f"{os.getpid()}.{place}" if place else None
        return json({"total": len(self._hub.fanout.index), "pid": os.getpid(), "channels": listed, "next": further})

    async def livez(self, request: Request) -> Response:
        return json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        if self._draining:
            return json({"status": "draining"}, 503)
        if not self._hub.ready:
            left = self._hub.fanout.index.unread
            return json({"status": "starting", "reason": f"{left} bytes of the log are still to be read"}, 503)
        return json({"status": "ready"})

    async def healthz(self, request: Request) -> Response:
        now = self._metrics.snapshot()
        status = "draining" if self._draining else "ok"
        kept = {key: now[key] for key in ("version", "uptime", "connections", "blocked", "channels")}
        return json({"status": status} | kept, 503 if self._draining else 200)

    @property
    def _draining(self) -> bool:
        return self.end_reason or self._hub.draining

    async def stats(self, request: Request) -> Response:
        return json(self._metrics.snapshot())

    async def prometheus(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        streams = None
        if self._redirected_to is not None:
            streams = str(request.url.replace(scheme="http", port=self._redirected_to, path="", query=""))
        return Response(page.PAGE, headers=page.headers(streams))


def _closing(send: Send) -> Send:
    """An answer that is the last one of its connection (RFC 9112, section 9.6)."""

    async def send_closing(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return send_closing


def quoted(ids: Sequence[EventId]) -> list[str]:
    if isinstance(ids, EventIds):  # of one epoch, for whose sake no EventId is made each
        prefix = f'"{ids.epoch}-'
        return [f'{prefix}{position}"' for position in ids.positions]
    return [f'"{id}"' for id in ids]


async def gently(pieces: Iterable[list[Encoded]]) -> list[Encoded]:
    """Collect, giving the loop back after each piece: a large body must not hold up the streams. BatchTooLarge."""
    collected: list[Encoded] = []
    for piece in pieces:
        collected += piece
        refuse_batch_over(BATCH_EVENTS, len(collected))
        await asyncio.sleep(0)
    return collected


def parameters(request: Request, *known: str) -> dict[str, str]:
    """The query, each parameter at most once. Raises InvalidEvent for any other: a typing error must not pass."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64
        )
    except ValueError as error:
        raise InvalidEvent(f"the query string cannot be read: {error}") from None
    taken: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            takes = " and ".join(repr(name) for name in known) or "none"
            raise InvalidEvent(f"unknown parameter {brief(name)}; {request.url.path} takes {takes}")
        if name in taken:
            raise InvalidEvent(f"the parameter {name!r} is given twice")
        taken[name] = value
    return taken


async def read_body(request: Request, limit: int, what: str) -> bytes:
    """The whole body, or TooMuch as soon as it is known to be over `limit` bytes; TooLate after BODY_SECONDS."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise NotPlain(f"bodies are taken as they stand, not with 'Content-Encoding: {encoding[:40]}'")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise TooMuch(f"the body has {length[:20]} bytes; {what} has at most {limit}")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise TooMuch(f"the body is larger than {limit} bytes, the most that {what} has")
                parts.append(part)
    except TimeoutError:
        raise TooLate(f"the body did not come within {BODY_SECONDS:g} s") from None
    return b"".join(parts)


def problem(status: int, headers: Mapping[str, str] | None = None) -> Any:
    async def answer(request: Request, error: Exception) -> Response:
        return Problem(status, str(error), headers)

    return answer


async def nobody_left(request: Request, error: Exception) -> Response:
    """The client went away before its request was whole. Starlette wants an answer all the same; nobody gets it."""
    return Problem(400, "the request ended early")


async def failure(request: Request, error: Exception) -> Response:
    """What should not happen. Starlette raises the error again after this, so the server logs it."""
    return Problem(500, "the server failed to answer this; its log says why")


async def http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; streams are under /sse, publishing is POST /publish/CHANNEL"
    elif error.status_code == 405:
        allow = Headers(error.headers)["allow"]
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        detail = f"{request.method} is not for {request.url.path}; it takes {allow}"
    return Problem(error.status_code, detail, error.headers)
