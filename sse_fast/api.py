"""Everything over HTTP that is not a stream: publish, channels, health, stats, metrics, the page. Starlette routes."""

import asyncio
from itertools import islice
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sse_fast import page
from sse_fast.admission import Admission
from sse_fast.errors import EventTooLarge, HubClosed, InvalidEvent, Unauthorized
from sse_fast.event import MAX_RETRY_MS, Encoded, encode_publication, from_json_value, from_ndjson
from sse_fast.hub import Hub
from sse_fast.metrics import Metrics
from sse_fast.problem import Problem

NDJSON = frozenset(("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"))
PUBLISH_PARAMETERS = frozenset(("event", "retry"))
MAX_CHANNELS_LISTED = 1000
PARSE_AT_ONCE = 1024  # events between two looks at whether others wait for the loop


class TooMuch(Exception):
    """A body over its limit."""


def json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


class Api:
    """The routes, over one hub."""

    def __init__(self, hub: Hub, admission: Admission, metrics: Metrics, *, max_body_size: int) -> None:
        self._hub = hub
        self._admission = admission
        self._metrics = metrics
        self._max_body_size = max_body_size
        self.app = Starlette(
            routes=[
                Route("/publish", self.publish, methods=["POST"]),
                Route("/publish/{channel}", self.publish_raw, methods=["POST"]),
                Route("/publish/{stream}/{name}", self.publish_raw, methods=["POST"]),
                Route("/channels", self.channels),
                Route("/livez", self.livez),
                Route("/readyz", self.readyz),
                Route("/healthz", self.healthz),
                Route("/stats", self.stats),
                Route("/metrics", self.prometheus),
                Route("/", self.page),
            ],
            exception_handlers={
                HTTPException: http_problem,
                InvalidEvent: problem(400),
                TypeError: problem(400),
                EventTooLarge: problem(413),
                TooMuch: problem(413),
                Unauthorized: unauthorized,
                HubClosed: problem(503),
                ClientDisconnect: problem(400),
            },
        )

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish_raw(self, request: Request) -> Response:
        """The body is the data, as it stands; `?event=` and `?retry=` go with it."""
        self._admission.authorize_publisher(request.headers.get("authorization"))
        names = request.path_params
        channel = names["channel"] if "channel" in names else f"{names['stream']}:{names['name']}"
        options = request.query_params
        if unknown := options.keys() - PUBLISH_PARAMETERS:
            raise InvalidEvent(f"unknown parameter {sorted(unknown)[0]!r}; publishing takes 'event' and 'retry'")
        retry = options.get("retry")
        if retry is not None and not (retry.isascii() and retry.isdigit() and len(retry) < 10):
            raise InvalidEvent(
                f"'retry' is a whole number of milliseconds from 0 to {MAX_RETRY_MS}, not {retry[:40]!r}"
            )
        limit = self._hub.max_event_size
        body = await read_body(request, limit, "an event")
        encoded = encode_publication(
            channel, body, event=options.get("event"), retry=int(retry) if retry is not None else None, limit=limit
        )
        position = (await self._hub.append([encoded]))[0]
        return json({"id": self._hub.event_id(position)})

    async def publish(self, request: Request) -> Response:
        """One JSON object, a JSON array of them, or NDJSON; all of them are taken or, if one is wrong, none."""
        self._admission.authorize_publisher(request.headers.get("authorization"))
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await read_body(request, self._max_body_size, "a publish request")
        limit = self._hub.max_event_size
        single = False
        if media_type in NDJSON:
            events = await gently(from_ndjson(body, limit))
        else:
            try:
                value = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise InvalidEvent(f"the body is not JSON: {error}; for NDJSON send 'application/x-ndjson'") from None
            single = type(value) is not list
            events = await gently(from_array([value] if single else value, limit, single))
        positions = await self._hub.append(events)
        prefix = self._hub.event_id(0)[:-1]
        if single:
            return json({"id": f"{prefix}{positions[0]}"})
        return json({"ids": [f"{prefix}{position}" for position in positions]})

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def channels(self, request: Request) -> Response:
        """`?prefix=` and `?limit=`: the channels that have kept events or subscribers."""
        prefix = request.query_params.get("prefix", "").encode()
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= MAX_CHANNELS_LISTED):
            raise InvalidEvent(f"'limit' is a whole number from 1 to {MAX_CHANNELS_LISTED}, not {limit[:40]!r}")
        index = self._hub.fanout.index
        listed = []
        for name in islice((name for name in index.names() if name.startswith(prefix)), int(limit)):
            channel = index.get(name)
            if channel is not None:
                listed.append(
                    {
                        "name": name.decode(),
                        "subscribers": channel.subscribers,
                        "kept": channel.kept,
                        "last_id": self._hub.event_id(channel.last_position) if channel.kept else None,
                    }
                )
        return json({"total": len(index), "channels": listed})

    async def livez(self, request: Request) -> Response:
        return json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        if self._hub.draining:
            return json({"status": "draining"}, 503)
        return json({"status": "ready"})

    async def healthz(self, request: Request) -> Response:
        now = self._metrics.snapshot()
        status = "draining" if self._hub.draining else "ok"
        kept = {key: now[key] for key in ("version", "uptime", "connections", "blocked", "channels")}
        return json({"status": status} | kept, 503 if self._hub.draining else 200)

    async def stats(self, request: Request) -> Response:
        return json(self._metrics.snapshot())

    async def prometheus(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        return Response(page.PAGE, headers=page.HEADERS)


def from_array(values: list[Any], limit: int, single: bool) -> Any:
    for number, value in enumerate(values):
        try:
            yield from_json_value(value, limit)
        except (InvalidEvent, TypeError) as error:
            if single:
                raise
            kind = EventTooLarge if isinstance(error, EventTooLarge) else InvalidEvent
            raise kind(f"event {number} of the array: {error}") from None


async def gently(events: Any) -> list[Encoded]:
    """Collect, giving the loop back now and then: a large body must not hold up the streams."""
    collected: list[Encoded] = []
    while part := list(islice(events, PARSE_AT_ONCE)):
        collected += part
        if len(part) == PARSE_AT_ONCE:
            await asyncio.sleep(0)
    return collected


async def read_body(request: Request, limit: int, what: str) -> bytes:
    """The whole body, or TooMuch as soon as it is known to be over `limit` bytes."""
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise TooMuch(f"the body has {length} bytes; {what} has at most {limit}")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooMuch(f"the body is larger than {limit} bytes, the most that {what} has")
        parts.append(part)
    return b"".join(parts)


def problem(status: int) -> Any:
    async def answer(request: Request, error: Exception) -> Response:
        return Problem(status, str(error))

    return answer


async def unauthorized(request: Request, error: Exception) -> Response:
    return Problem(401, str(error), {"www-authenticate": 'Bearer realm="publish"'})


async def http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; streams are under /sse, publishing is POST /publish/CHANNEL"
    elif error.status_code == 405:
        detail = f"{request.method} is not for {request.url.path}"
    return Problem(error.status_code, detail, error.headers)
