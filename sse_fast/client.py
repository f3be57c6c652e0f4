"""The two clients of the command line: a listener that comes back, and a publisher.

The listener's law: its cursor is the id of the last event it handed out, and every connection asks for what is after
the cursor. So nothing is lost or doubled over a reconnect. It hides nothing either: what the server says twice is
handed out twice. It follows section 9.2 of WHATWG HTML, but also comes back after 429 and 5xx, where a browser gives
up.

This module knows no terminal.
"""

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from httpx_sse import ServerSentEvent, connect_sse

from sse_fast.errors import SSEFastError
from sse_fast.serialization import json_of

DEFAULT_RETRY = 1.0  # seconds, until the server names its own delay
LONGEST_BACKOFF = 30.0
LONGEST_RETRY = 24 * 3600.0
SILENCE = 45.0  # three heartbeats

NOTHING_MORE = 204  # "no content" tells an event source to stop for good
TOO_MANY_REQUESTS = 429


class Refused(SSEFastError):
    """The server said no, and would say it again."""


class Unavailable(SSEFastError):
    """No answer, or one that says "later". `retry_after`: seconds the server asked for."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Stopped(SSEFastError):
    """The server answered 204: do not come back."""


class Listener:
    """Iterate to get events, the server's own (`$connected`, `$gap`, `$closing`) included, over as many connections as
    it takes. Ends when the server says so with 204. Raises Refused; also Unavailable, if one event has not come after
    `retries` further attempts.

    client: carries the base URL and the timeouts; its read timeout is how silence is noticed.
    since: an event id, or "earliest". history: so many kept events first, on a start without a cursor.
    tell: is called with one sentence whenever the state of the connection changes.
    """

    def __init__(
        self,
        client: httpx.Client,
        channels: Iterable[str],
        *,
        since: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.7, 1.3),
    ) -> None:
        self.cursor = since
        self.retry = DEFAULT_RETRY
        self._client = client
        self._channels = list(channels)
        self._history = history
        self._retries = retries
        self._tell = tell
        self._sleep = sleep
        self._jitter = jitter

    def __iter__(self) -> Iterator[ServerSentEvent]:
        failures = 0
        while True:
            asked_for, closing = 0.0, False
            try:
                for event in self._connection():
                    closing = event.event == "$closing"
                    if not closing:  # from a server that is full it is all there is
                        failures = 0
                    yield event
                reason = "the stream ended"
            except Stopped:
                self._tell("the server says there is nothing more to come")
                return
            except Unavailable as error:
                reason, asked_for = str(error), error.retry_after
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise Refused(str(error)) from error  # our own fault, and no better next time
            except httpx.TransportError as error:
                # What follows `$closing` is what it announced, and no accident.
                reason = "the server closed the stream" if closing else explain(error, self._client)
            failures += 1
            if self._retries is not None and failures > self._retries:
                raise Unavailable(f"{reason}; gave up after {failures} attempt{'s' * (failures != 1)}")
            delay = max(self.backoff(failures), asked_for)
            self._tell(f"{reason}; trying again in {delay:.1f} s")
            self._sleep(delay)

    def backoff(self, failures: int) -> float:
        """Seconds before the next attempt: the server's delay, doubled with every further failure up to a limit."""
        delay = self.retry
        if failures > 1:
            doubled = max(delay, 0.1) * 2.0 ** min(failures - 1, 20)
            delay = max(delay, min(doubled, LONGEST_BACKOFF))
        return delay * self._jitter()

    def _connection(self) -> Iterator[ServerSentEvent]:
        """The events of one connection. Returns when it ends, raises when it breaks or is not to be had."""
        query = [("channel", channel) for channel in self._channels]
        # A proxy that compresses also buffers.
        headers = {b"Accept-Encoding": b"identity"}
        if self.cursor is not None:
            headers[b"Last-Event-ID"] = self.cursor.encode()
        elif self._history is not None:
            query.append(("history", str(self._history)))
        with connect_sse(self._client, "GET", "/sse", params=query, headers=httpx.Headers(headers)) as source:
            check_stream(source.response)
            after = f" after {self.cursor}" if self.cursor is not None else ""
            self._tell(f"connected to {self._client.base_url}, listening to {', '.join(self._channels)}{after}")
            seen = ""
            for event in source.iter_sse():
                if event.retry is not None and event.retry >= 0:
                    self.retry = min(event.retry / 1000, LONGEST_RETRY)
                # httpx-sse also hands out blocks without a data line, which the standard drops. It repeats the last id
                # on events that have none: a block with no data, type or id of its own was no event.
                if not event.data and event.event == "message" and event.id == seen:
                    continue
                seen = event.id
                if event.id:
                    self.cursor = event.id
                yield event


def check_stream(response: httpx.Response) -> None:
    """Raise what an answer other than an event stream means to a listener."""
    if response.status_code == NOTHING_MORE:
        raise Stopped
    if response.status_code == TOO_MANY_REQUESTS or response.is_server_error:
        asked_for = response.headers.get("Retry-After", "")
        raise Unavailable(explain_answer(response), float(asked_for) if asked_for.isdecimal() else 0.0)
    if response.status_code != 200:
        raise Refused(explain_answer(response))
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "text/event-stream":
        raise Refused(f"{response.url} answers {media_type or 'no media type'}, not text/event-stream: another server?")


class Publisher:
    """Publishes to one channel. Every method raises Refused where the server says no, and Unavailable where no answer
    came: the event may have been published all the same."""

    def __init__(self, client: httpx.Client, channel: str, event: str | None = None, retry: int | None = None) -> None:
        self._client = client
        self._channel = channel
        fields = {"event": event, "retry": retry}
        self._fields = {name: value for name, value in fields.items() if value is not None}

    def text(self, data: bytes) -> str:
        """Publish data, UTF-8, as it stands; the id."""
        if "/" in self._channel or self._channel in (".", ".."):  # means something else in a path, even escaped
            try:
                return self.json(data.decode())
            except UnicodeDecodeError as error:
                raise Refused(f"data is not UTF-8 text: {error.reason} at byte {error.start}") from None
        path = "/publish/" + quote(self._channel, safe="")
        return str(self._post(path, data, "text/plain; charset=utf-8", self._fields)["id"])

    def json(self, data: object) -> str:
        """Publish a JSON value; the id. A string is published as that text."""
        return str(self._post("/publish", self._object(data), "application/json")["id"])

    def batch(self, values: Iterable[object]) -> list[str]:
        """Publish many JSON values in one request; their ids."""
        lines = b"\n".join(self._object(value) for value in values)
        return [str(id) for id in self._post("/publish", lines, "application/x-ndjson")["ids"]]

    def _object(self, data: object) -> bytes:
        return orjson.dumps({"channel": self._channel, "data": orjson.Fragment(json_of(data)), **self._fields})

    def _post(self, path: str, body: bytes, media_type: str, query: Mapping[str, Any] | None = None) -> Any:
        try:
            response = self._client.post(path, content=body, headers={"Content-Type": media_type}, params=query)
        except httpx.TransportError as error:
            raise Unavailable(explain(error, self._client)) from error
        if not response.is_success:
            raise Refused(explain_answer(response))
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise Refused(f"{response.url} answers something else than JSON: another server?") from None


def explain_answer(response: httpx.Response) -> str:
    """What the server says is wrong: the `detail` of a problem (RFC 9457), or as much as there is."""
    response.read()
    try:
        problem = orjson.loads(response.content)
        detail = problem.get("detail") or problem.get("title")
    except (orjson.JSONDecodeError, AttributeError):
        detail = None
    said = f"{response.status_code} {response.reason_phrase}".strip()
    return f"{detail} ({said})" if detail else said


def explain(error: httpx.TransportError, client: httpx.Client) -> str:
    """A broken or missing connection in words."""
    where = str(client.base_url).rstrip("/")
    said = re.sub(r"^\[Errno \d+\] ", "", str(error)) or type(error).__name__
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return f"cannot reach {where} ({said}); is it running? start it with: sse-fast serve"
        case httpx.ReadTimeout():
            return f"nothing heard from {where} for {client.timeout.read:g} s"
        case _:
            return f"the connection to {where} broke ({said})"
