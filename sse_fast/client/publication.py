"""What is sent to publish, and what becomes of it: for clients that wait in a thread or on a loop."""

import random
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from sse_fast._native.wire.publication import encode_publication
from sse_fast.client.errors import Refused, Unavailable
from sse_fast.errors import BatchTooLarge, InvalidEvent
from sse_fast.event import EventId
from sse_fast.event_rules import FIELDS, brief, idempotency_key
from sse_fast.serialization import json_of

if TYPE_CHECKING:
    import httpx

LARGEST = 16 * 1024 * 1024
"""Bytes of an event or of a batch. What the edge takes is its own affair: 64 KiB an event, if it says nothing else."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts
LONGEST_PATIENCE = 100.0
"""Seconds: less than an edge remembers a key, if it says nothing else."""
SENDABLE_TOKEN = re.compile(r"[\x21-\x7e]+")
SURELY_NOT = {408, 425, 429, 503}
"""Of what says "later": nothing was published."""


class Publication:
    """One request, however often it is sent: the same bytes under the same key. `patience`: seconds from here on until
    it is given up; 0: it is sent once, and has no key but what its publisher gave it."""

    def __init__(self, body: bytes, media_type: str, key: str | None, patience: float) -> None:
        self.body = body
        self.headers = {"Content-Type": media_type, "Accept-Encoding": "identity"}
        if key is not None:
            self.headers["Idempotency-Key"] = in_quotes(idempotency_key(key))
        self._until = time.monotonic() + patience
        self._attempts = 0
        self._maybe = False

    @classmethod
    def one(
        cls,
        channel: str | Sequence[str],
        data: Any,
        event: str | None,
        retry: int | None,
        key: str | None,
        conflate_key: str | None,
        patience: float,
        id: str | None = None,
        private: bool = False,
    ) -> "Publication":
        """Raises InvalidEvent."""
        if key is None and patience:
            key = secrets.token_hex(16)
        body = object_of(channel, data, event, retry, conflate_key, None, id, private)
        # An object has less room than lines of them.
        return cls(body, "application/x-ndjson", key, patience)

    @classmethod
    def many(cls, events: Iterable[Mapping[str, Any]], key: str | None, patience: float) -> "Publication | None":
        """None: there are none. Raises InvalidEvent, which says of which event, and BatchTooLarge."""
        checked = [checked_event(place, each) for place, each in enumerate(events)]
        keyed = any(each["key"] is not None for each in checked)
        if keyed and key is not None:
            raise InvalidEvent("the batch has a key, and events of it have keys, too: one or the other")
        if key is None and patience:
            own = secrets.token_hex(16)
            if keyed:
                for place, each in enumerate(checked):
                    each["key"] = each["key"] or f"{own}:{place}"
            else:
                key = own
        lines = []
        for place, each in enumerate(checked):
            try:
                lines.append(object_of(**each))
            except InvalidEvent as error:
                raise type(error)(f"event {place} of the batch: {error}") from None
        body = b"\n".join(lines)
        if len(body) > LARGEST:
            raise BatchTooLarge(f"the batch has {len(body):,} bytes, at most {LARGEST:,} are sent; send it in several")
        return cls(body, "application/x-ndjson", key, patience) if lines else None

    def answered(self, status: int, answer: bytes, where: str) -> list[EventId]:
        """The ids that an answer has. Raises Refused where it is none of an edge's."""
        try:
            ids = [EventId.parse(id) for id in orjson.loads(answer)["ids"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            ids = [None]
        found = [id for id in ids if id is not None]
        if len(found) != len(ids):
            raise Refused(f"{where} answers something else than an edge does: another server?", status)
        return found

    def failed(self, error: Exception, client: "httpx.Client | httpx.AsyncClient", status: int = 0) -> float:
        """Seconds until it is sent again. Raises Refused, or Unavailable when it has been tried for long enough."""
        import httpx

        from sse_fast.client.failures import explain, is_no_http, mistrust_of

        asked_for = 0.0
        match error:
            case Unavailable():
                reason, asked_for = str(error), error.retry_after
                self._maybe = self._maybe or status not in SURELY_NOT
            case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                raise Refused(str(error)) from error
            case httpx.TransportError():
                reason = explain(error, client)
                if mistrust_of(error) or is_no_http(error):
                    raise Refused(reason) from error
                away = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
                self._maybe = self._maybe or not isinstance(error, away)
            case _:
                raise error
        doubled = min(SHORTEST_PAUSE * 2.0 ** min(self._attempts, 20), LONGEST_PAUSE)
        pause = max(doubled * random.uniform(0.7, 1.3), asked_for)
        self._attempts += 1
        if time.monotonic() + pause > self._until:
            raise self.given_up(reason, asked_for) from error
        return pause

    def given_up(self, reason: str, asked_for: float = 0.0) -> Unavailable:
        known = "it may have been published" if self._maybe else "nothing was published"
        tried = f", tried {self._attempts} times" if self._attempts > 1 else ""
        return Unavailable(f"{reason}; {known}{tried}", asked_for, maybe=self._maybe)

    def headers_with(self, token: str | None) -> dict[str, str]:
        return self.headers if token is None else {**self.headers, **bearer(token)}


def checked_event(place: int, event: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if unknown := sorted(map(str, event.keys() - FIELDS)):
            raise InvalidEvent(f"there is no field {brief(unknown[0])}; there are {', '.join(sorted(FIELDS))}")
        channel = event.get("channel", event.get("channels"))
        if channel is None or {"channel", "channels"} <= event.keys() or "data" not in event:
            raise InvalidEvent("it has 'data', and 'channel' or 'channels'")
    except (InvalidEvent, AttributeError) as error:
        raise InvalidEvent(f"event {place} of the batch: {error}") from None
    fields = {name: event.get(name) for name in ("data", "event", "retry", "conflate_key", "key", "id")}
    return {"channel": channel, "private": event.get("private") or False, **fields}


def object_of(
    channel: str | Sequence[str],
    data: Any,
    event: str | None,
    retry: int | None,
    conflate_key: str | None,
    key: str | None,
    id: str | None = None,
    private: bool = False,
) -> bytes:
    """One line. Raises InvalidEvent for what no edge would take, before anything is sent."""
    encode_publication(channel, data, event=event, retry=retry, conflate_key=conflate_key, id=id, limit=LARGEST)
    if isinstance(data, bytes | bytearray | memoryview):
        data = bytes(data).decode()  # it is UTF-8, or would have been refused
    where = {"channel": channel} if isinstance(channel, str) else {"channels": list(channel)}
    fields: dict[str, Any] = {"event": event, "retry": retry, "conflate_key": conflate_key, "key": key, "id": id}
    fields["private"] = True if private else None
    given = {name: value for name, value in fields.items() if value is not None}
    if key is not None:
        idempotency_key(key)
    return orjson.dumps({**where, "data": orjson.Fragment(json_of(data)), **given})


def bearer(token: str) -> dict[str, str]:
    """Raises ValueError for what fits no header, without showing it."""
    if not SENDABLE_TOKEN.fullmatch(token):
        raise ValueError("a token is visible ASCII characters, without spaces or line ends")
    return {"Authorization": f"Bearer {token}"}


def in_quotes(key: str) -> str:
    """As a string of RFC 8941."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_patience(patience: float) -> float:
    """Raises ValueError."""
    if not 0 <= patience <= LONGEST_PATIENCE:
        raise ValueError(
            f"patience is a number of seconds, 0 to {LONGEST_PATIENCE:g}: an edge remembers a key for so long"
        )
    return patience
