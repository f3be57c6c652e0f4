"""Who listens by Mercure: the hub's own updates of it, and its web API, in the words of both drafts."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sse_fast.access.matchers import Kind, Matcher
from sse_fast.access.mercure import MercureAccess
from sse_fast.access.mercure_grants import V7, V8
from sse_fast.asgi import Receive, Scope, Send
from sse_fast.edge.answers import response_of
from sse_fast.edge.mercure import encoded
from sse_fast.errors import HubClosed, InvalidEvent, SSEFastError
from sse_fast.event_rules import Encoded
from sse_fast.hub.control import Control
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Elsewhere
from sse_fast.protocol.mercure import SUBSCRIPTIONS
from sse_fast.protocol.mercure_form import EARLIEST, MAX_TOPIC, RESERVED_TYPE, Update
from sse_fast.protocol.problem import problem
from sse_fast.transports.listening import Listeners, Subscriber

logger = logging.getLogger("sse_fast.edge")

CONTEXT = "https://mercure.rocks/"
MOST_LISTED = 10_000  # subscriptions in one answer
TOLD_AT_ONCE = 256  # updates in one turn
MAX_WAITING = 32 * 1024 * 1024  # bytes of updates that are still to be published; past it some are never told
OVERHEAD = 300  # bytes, of one, beside what it says
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds, until what could not be published is tried again
MATCHER_TYPES = (Kind.EXACT, Kind.URLPATTERN)


class Which(NamedTuple):
    """Of which subscriptions something is asked. None: of any."""

    kind: str | None = None
    match: str | None = None
    subscriber: str | None = None

    def has(self, matcher: Matcher) -> bool:
        kind = None if matcher.kind is Kind.TEMPLATE else matcher.kind.value
        return (self.match is None or matcher.text == self.match) and (self.kind is None or kind == self.kind)


class MercureSubscriptions:
    """Of the node of `control`, one of whose hubs this is. streams of it are told by `listeners`."""

    def __init__(self, hub: Hub, control: Control, access: MercureAccess) -> None:
        self._hub, self._control, self._access = hub, control, access
        self.listeners = Listeners(self._told)
        self._waiting: deque[Encoded] = deque()
        self._size = 0  # bytes of what waits
        self._dropped = 0  # updates, since all that waited was told
        self._telling: asyncio.Task[None] | None = None

    def answer_others(self) -> None:
        """What other workers ask of this one."""
        self._control.on("mercure subscriptions", self._listed)

    # ---- updates -----------------------------------------------------------------------------------------------------

    def _told(self, subscriber: Subscriber, active: bool) -> None:
        """It is published in another turn of the loop: streams end in the midst of whatever writes to them."""
        for matcher, payload in subscriber.subscriptions:
            document = document_of(matcher, subscriber.id, payload, active=active)
            topic: str = document["id"]
            if len(topic) > MAX_TOPIC:
                continue
            if self._size >= MAX_WAITING:
                if self._dropped == 0:
                    logger.warning("more of who listens by Mercure waits to be told than is kept; some is left out")
                self._dropped += 1
                continue
            event = None if matcher.kind is Kind.TEMPLATE else RESERVED_TYPE
            update = Update((topic,), orjson.dumps(document), private=True)
            try:
                made = encoded(self._hub, update, event)
                self._waiting.append(made)
                self._size += size_of(made)
            except SSEFastError as error:
                logger.warning("nobody is told of a subscription: %s", error)
        if self._waiting and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        """Until all that waits is. What the hub cannot take now it is given again: who has left would be listed as one
        who is there, by those who count these updates."""
        pause, most = FIRST_PAUSE, TOLD_AT_ONCE
        try:
            while self._waiting:
                batch = list(islice(self._waiting, most))
                try:
                    await self._hub.append(batch)
                except HubClosed:
                    return
                except InvalidEvent as error:  # too large a batch, or one
                    if most > 1:
                        most = len(batch) // 2 or 1
                        continue
                    logger.warning("nobody is told of a subscription: %s", error)
                except SSEFastError as error:
                    if pause == FIRST_PAUSE:
                        logger.warning("who listens by Mercure cannot be told now, and is later: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                for _ in batch:
                    self._size -= size_of(self._waiting.popleft())
                await asyncio.sleep(0)
            if self._dropped:
                logger.warning("of who listens by Mercure %d updates were left out", self._dropped)
        finally:
            self._waiting.clear()
            self._size = self._dropped = 0
            self._telling = None

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait((self._telling,))

    # ---- the web API -------------------------------------------------------------------------------------------------

    async def answer(self, decided: Elsewhere, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = raw_path(scope)
        version = self._version(decided, path)
        which = which_of(path, version)
        if which is None:
            response = response_of(problem(404, f"there is nothing at {path}"))
        else:
            response = await self._response(request, path, which, version)
        await response(scope, receive, send)

    def _version(self, decided: Elsewhere, path: str) -> int:
        """That of the token, if it is of one; else the later, if it is spoken."""
        claims = decided.grants.mercure
        if claims is not None and claims.version in self._access.versions:
            return claims.version
        return max(self._access.versions)

    async def _response(self, request: Request, path: str, which: Which, version: int) -> Response:
        last = self.last_event_id
        headers = {"etag": f'"{quote(last, safe=ETAG)}"', "cache-control": "must-revalidate"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        identity = self._access.identity_for(dict(request.scope["headers"]), request.scope.get("scheme", "http"))
        attributes = ""
        if version == V8:
            escaped = last.replace("\\", "\\\\").replace('"', '\\"')
            attributes = f'; last-event-id="{escaped}"; type="{RESERVED_TYPE}"; content-type="application/json"'
        headers["link"] = f'<{identity.url}>; rel="mercure"{attributes}'
        found = await self._found(which)
        document: dict[str, Any]
        if which.subscriber is not None:
            if not found:
                return response_of(problem(404, f"there is no such subscription: {path}"))
            document = found[0]
        else:
            document = {"id": path, "type": "Subscriptions" if version == V7 else "subscriptions"}
            if version == V7:
                document = {"@context": CONTEXT, **document}
        if version == V7:
            document["lastEventID"] = last
        body = orjson.dumps(document)
        if which.subscriber is None:
            body = b'%b,"subscriptions":%b}' % (body[:-1], await listed(found))
        media_type = "application/ld+json" if version == V7 else "application/json"
        return Response(body, headers=headers, media_type=media_type)

    @property
    def last_event_id(self) -> str:
        """Of the newest event, as clients see it."""
        return self._hub.fanout.id_at(self._hub.log.position) or EARLIEST

    async def _found(self, which: Which) -> list[dict[str, Any]]:
        """Over all workers; those that do not answer are left out."""
        answers = await self._control.ask_all("mercure subscriptions", **which._asdict())
        return [document for told in answers.told for document in told.answer][:MOST_LISTED]

    async def _listed(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Of this worker."""
        which = Which(about.get("kind"), about.get("match"), about.get("subscriber"))
        found: list[dict[str, Any]] = []
        for number, document in enumerate(self._documents(which), 1):
            found.append(document)
            if number == MOST_LISTED:
                break
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    def _documents(self, which: Which) -> Iterator[dict[str, Any]]:
        named = which.subscriber
        if named is not None:
            one = self.listeners.open.get(named)
            subscribers = [one] if one is not None else []
        else:
            subscribers = list(self.listeners.open.values())
        for subscriber in subscribers:
            for matcher, payload in subscriber.subscriptions:
                if which.has(matcher):
                    yield document_of(matcher, subscriber.id, payload, active=True)


async def listed(documents: list[dict[str, Any]]) -> bytes:
    """A JSON array of them, so many in one turn of the loop."""
    pieces = []
    for some in range(0, len(documents), TOLD_AT_ONCE):
        if some:
            await asyncio.sleep(0)
        pieces.append(orjson.dumps(documents[some : some + TOLD_AT_ONCE])[1:-1])
    return b"[%b]" % b",".join(pieces)


def size_of(event: Encoded) -> int:
    """Bytes that it takes while it waits."""
    channels, frame = event
    return OVERHEAD + len(frame) + sum(map(len, [channels] if isinstance(channels, bytes) else channels))


ETAG = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def document_of(matcher: Matcher, subscriber: str, payload: Any, *, active: bool) -> dict[str, Any]:
    """Of a subscription, as the draft has it by which it was made."""
    match = quote(matcher.text, safe="")
    name = quote(subscriber, safe="")
    own: dict[str, Any]
    if matcher.kind is Kind.TEMPLATE:
        id, kind = f"{SUBSCRIPTIONS}/{match}/{name}", "Subscription"
        own = {"topic": matcher.text}
    else:
        id, kind = f"{SUBSCRIPTIONS}/{matcher.kind}/{match}/{name}", "subscription"
        own = {"match_type": matcher.kind.value, "match": matcher.text}
    document = {"id": id, "type": kind, **own, "subscriber": subscriber, "active": active}
    if matcher.kind is Kind.TEMPLATE:
        document = {"@context": CONTEXT, **document}
    return document if payload is None else {**document, "payload": payload}


def which_of(path: str, version: int) -> Which | None:
    """Of a path as it came; None: there is nothing at it."""
    rest = path.removeprefix(SUBSCRIPTIONS)
    if not rest:
        return Which()
    parts = [unquote(part) for part in rest[1:].split("/")]
    if "" in parts or not 1 <= len(parts) <= 3:
        return None
    if version == V8 or (parts[0] in MATCHER_TYPES and len(parts) == 3):
        if parts[0] not in MATCHER_TYPES or len(parts) < 2:
            return None
        return Which(*parts)
    if len(parts) > 2:
        return None
    return Which(None, *parts)


def raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")
