"""The two clients of the command line: a listener that comes back, and a publisher.

The listener's law: its cursor is the id of the last event it handed out, and every connection asks for what is after
the cursor. So nothing is lost or doubled over a reconnect. It hides nothing either: what the server says twice is
handed out twice. It follows section 9.2 of WHATWG HTML, but also comes back after 408, 425, 429 and 5xx, where a
browser gives up. What would be the same the next time ends it: any other status, a certificate that is not trusted.

This module knows no terminal.
"""

import random
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.errors import EventTooLarge, SSEFastError
from sse_fast.serialization import json_of

DEFAULT_RETRY = 1.0  # seconds, until the server names its own delay
SHORTEST_PAUSE = 0.1  # whatever the server says: `retry: 0` would be a storm
LONGEST_BACKOFF = 30.0
LONGEST_RETRY = 24 * 3600.0
SILENCE = 45.0  # three heartbeats

NOTHING_MORE = 204  # "no content" tells an event source to stop for good
PERHAPS_LATER = {408, 425, 429}  # request timeout, too early, too many requests; and all of 5xx
MAX_EVENT_SIZE = 16 * 1024 * 1024
EXPLANATION_BYTES, EXPLANATION_SECONDS = 64 * 1024, 5.0  # of an answer that is an error: the rest is not read
SENDABLE_ID = re.compile(r"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f]*(?<![ \t])")  # as a header's value: RFC 9110, 5.5


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
    `retries` further attempts. An id that no header can carry (control characters, white space at an end) is told, and
    resumed is after the last one that could be sent, or as at the start: events may come again then.

    client: carries the base URL and the timeouts; its read timeout is how silence is noticed.
    since: an event id, or "earliest". history: so many kept events first, on a start without a cursor.
    max_event_size: bytes; a larger event ends it with Refused, since it would come again.
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
        max_event_size: int = MAX_EVENT_SIZE,
        tell: Callable[[str], None] = lambda sentence: None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.7, 1.3),
    ) -> None:
        self.cursor = since
        self.retry = DEFAULT_RETRY
        self._not_sendable: str | None = None  # the newest id, where the cursor could not move to it
        self._client = client
        self._channels = list(channels)
        self._history = history
        self._retries = retries
        self._max_event_size = max_event_size
        self._tell = tell
        self._sleep = sleep
        self._jitter = jitter

    def __iter__(self) -> Iterator[ReceivedEvent]:
        failures = 0
        while True:
            asked_for, closing = 0.0, ""
            try:
                for event in self._connection():
                    closing = what_closes(event)
                    if not closing:  # from a server that is full it is all there is
                        failures = 0
                    yield event
                reason = closing or "the stream ended"
            except Stopped:
                self._tell("the server says there is nothing more to come")
                return
            except Unavailable as error:
                reason, asked_for = str(error), error.retry_after
            except EventTooLarge as error:
                raise Refused(f"{error}; raise --max-event-size") from error
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise Refused(str(error)) from error  # our own fault, and no better next time
            except httpx.TransportError as error:
                if mistrust_of(error) or is_no_http(error):
                    raise Refused(explain(error, self._client)) from error
                # What follows `$closing` is what it announced, and no accident.
                reason = closing or explain(error, self._client)
            failures += 1
            if self._retries is not None and failures > self._retries:
                raise Unavailable(f"{reason}; gave up after {failures} attempt{'s' * (failures != 1)}")
            delay = max(self.backoff(failures), asked_for)
            self._tell(f"{reason}; trying again in {delay:.1f} s")
            self._sleep(delay)

    def backoff(self, failures: int) -> float:
        """Seconds before the next attempt: the server's delay, doubled with every further failure up to a limit."""
        delay = max(self.retry, SHORTEST_PAUSE)
        if failures > 1:
            doubled = delay * 2.0 ** min(failures - 1, 20)
            delay = max(delay, min(doubled, LONGEST_BACKOFF))
        return max(delay * self._jitter(), SHORTEST_PAUSE)

    def _connection(self) -> Iterator[ReceivedEvent]:
        """The events of one connection. Returns when it ends, raises when it breaks or is not to be had."""
        query = [("channel", channel) for channel in self._channels]
        # A proxy that compresses also buffers.
        headers = {b"Accept-Encoding": b"identity"}
        if self.cursor:
            headers[b"Last-Event-ID"] = self.cursor.encode()
        elif self.cursor is None and self._history is not None:
            query.append(("history", str(self._history)))
        with open_stream(self._client, "/sse", params=query, headers=headers) as response:
            after = f" after {self.cursor}" if self.cursor else ""
            self._tell(f"connected to {self._client.base_url}, listening to {', '.join(self._channels)}{after}")
            if self._not_sendable is not None:
                self._tell(f"the server's id {self._not_sendable[:40]!r} fits no header; events may come again")
                self._not_sendable = None
            parser = EventParser(max_event_size=self._max_event_size, last_event_id=self.cursor or "")
            for piece in response.iter_bytes():
                for event in parser.feed(piece):
                    self._move_to(event.id)
                    yield event
                self._move_to(parser.last_event_id)
                if parser.retry is not None:
                    self.retry = min(parser.retry / 1000, LONGEST_RETRY)

    def _move_to(self, id: str) -> None:
        """An empty id takes the cursor back, as the server can say, but is no cursor where there was none."""
        if not SENDABLE_ID.fullmatch(id):
            self._not_sendable = id
        elif id or self.cursor is not None:
            self.cursor, self._not_sendable = id, None


@contextmanager
def open_stream(client: httpx.Client, url: str, **request: Any) -> Iterator[httpx.Response]:
    """Ask for an event stream. Raises as `check_stream`, and what httpx raises."""
    headers = httpx.Headers({"Accept": "text/event-stream", "Cache-Control": "no-store"})
    headers.update(request.pop("headers", None))
    with client.stream("GET", url, headers=headers, **request) as response:
        check_stream(response)
        yield response


def check_stream(response: httpx.Response) -> None:
    """Raise what an answer other than an event stream means to a listener."""
    if response.status_code == NOTHING_MORE:
        raise Stopped
    if response.status_code in PERHAPS_LATER or response.is_server_error:
        asked_for = response.headers.get("Retry-After", "")
        seconds = float(asked_for) if asked_for.isascii() and asked_for.isdigit() else 0.0
        raise Unavailable(explain_answer(response), min(seconds, LONGEST_RETRY))
    if response.status_code != 200:
        raise Refused(explain_answer(response))
    media_type = response.headers.get("Content-Type")
    if not EventParser.reads(media_type):
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
            headers = {"Content-Type": media_type}
            with self._client.stream("POST", path, content=body, headers=headers, params=query) as response:
                if not response.is_success:
                    raise Refused(explain_answer(response))
                answer = response.read()
        except httpx.TransportError as error:
            raise Unavailable(explain(error, self._client)) from error
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError:
            raise Refused(f"{response.url} answers something else than JSON: another server?") from None


def what_closes(event: ReceivedEvent) -> str:
    """Of `$closing`: why the stream ends; of any other event nothing."""
    if event.event != "$closing":
        return ""
    try:
        full = orjson.loads(event.data)["reason"] == "overloaded"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        full = False
    return "the server is full" if full else "the server closed the stream"


def explain_answer(response: httpx.Response) -> str:
    """What the server says is wrong: the `detail` of a problem (RFC 9457), or as much as there is."""
    try:
        problem = orjson.loads(explanation(response))
        detail = problem.get("detail") or problem.get("title")
    except (orjson.JSONDecodeError, AttributeError):
        detail = None
    said = f"{response.status_code} {response.reason_phrase}".strip()
    return f"{detail} ({said})" if detail else said


def explanation(response: httpx.Response) -> bytes:
    """The body of an error, as far as it comes: it may break off, and need not end."""
    body = bytearray()
    deadline = time.monotonic() + EXPLANATION_SECONDS
    with suppress(httpx.RequestError):
        for piece in response.iter_bytes():
            body += piece
            if len(body) >= EXPLANATION_BYTES or time.monotonic() > deadline:
                break
    return bytes(body)


def explain(error: httpx.TransportError, client: httpx.Client) -> str:
    """A broken or missing connection in words."""
    where = str(client.base_url).rstrip("/")
    said = re.sub(r"^\[Errno \d+\] ", "", str(error)) or type(error).__name__
    if mistrust := mistrust_of(error):
        return f"{where} {mistrust}"
    if is_no_http(error):
        hint = "; does it speak TLS? try https:// instead of http://" if where.startswith("http:") else ""
        return f"{where} answers something else than HTTP{hint}"
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return f"cannot reach {where} ({said}); is it running? start it with: sse-fast serve"
        case httpx.ReadTimeout():
            return f"nothing heard from {where} for {client.timeout.read:g} s"
        case _:
            return f"the connection to {where} broke ({said})"


EXPIRED = "it needs a new one, or the clock here is wrong"
MISNAMED = "ask it by the name that its certificate is for"
UNKNOWN = "if you know it, name the authority behind it: SSL_CERT_FILE=authority.pem sse-fast ..."
NO_STATUS_LINE = re.compile("illegal (status|request) line")  # h11's words
CURES = {9: EXPIRED, 10: EXPIRED, 62: MISNAMED, 64: MISNAMED}  # by X509_V_ERR_... of openssl/x509_vfy.h


def mistrust_of(error: BaseException | None) -> str | None:
    """Why there is no TLS with this server, where the next attempt would meet the same, and what to do; else None."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        cure = CURES.get(error.verify_code, UNKNOWN)
        return f"shows a certificate that is not to be trusted ({error.verify_message.rstrip('.')}); {cure}"
    if error is not None and error.reason == "WRONG_VERSION_NUMBER":
        return "speaks no TLS; try http:// instead of https://"
    return None


def is_no_http(error: httpx.TransportError) -> bool:
    """Whether an answer did not begin as one in HTTP does. A server that speaks TLS tells a client in clear so, in a
    record whose first byte h11 takes for the beginning of a request."""
    return isinstance(error, httpx.RemoteProtocolError) and NO_STATUS_LINE.match(str(error)) is not None
