"""An event source that comes back, blocking: of the command line, and of `Client.listen`.

Its law: the cursor is the id of the last event it handed out, and every connection asks for what is after the cursor.
So nothing is lost or doubled over a reconnect. It hides nothing either: what the server says twice is handed out twice.
It follows section 9.2 of WHATWG HTML, but also comes back after 408, 425, 429 and 5xx, where a browser gives up. What
would be the same the next time ends it: any other status, a certificate that is not trusted.

It knows no terminal.
"""

import random
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import orjson

from sse_fast._native.wire.control import CLOSING
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.client.envelope import PublishedEvent, opened, says_enveloped
from sse_fast.client.failures import (
    LONGEST_RETRY,
    Refused,
    Stopped,
    Unavailable,
    check_encoding,
    explain,
    failure_of,
    is_no_http,
    mistrust_of,
)
from sse_fast.client.publication import bearer
from sse_fast.errors import EventTooLarge

DEFAULT_RETRY = 1.0  # seconds, until the server names its own delay
SHORTEST_PAUSE = 0.1  # whatever the server says: `retry: 0` would be a storm
LONGEST_BACKOFF = 30.0
SILENCE = 45.0  # three heartbeats

NOTHING_MORE = 204  # "no content" tells an event source to stop for good
MAX_EVENT_SIZE = 16 * 1024 * 1024
SENDABLE_ID = re.compile(r"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f]*(?<![ \t])")  # as a header's value: RFC 9110, 5.5

STREAM_HEADERS = {b"Accept": b"text/event-stream", b"Cache-Control": b"no-store"}


class Following:
    """Where a listener is, what it asks for next, and what becomes of what comes; it sends nothing itself.

    patterns: of further channels, as "orders:*". since: an event id, or "earliest". history: so many kept events first,
    on a start without a cursor. max_event_size: bytes; a larger event ends it with Refused, since it would come again.
    too_large: what to do about such a one. tell: is called with one sentence whenever the state of the connection
    changes; tell_failure: in its place with each failure, and which in a row it is.
    """

    def __init__(
        self,
        channels: Iterable[str],
        *,
        patterns: Iterable[str] = (),
        since: str | None = None,
        history: int | None = None,
        retries: int | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        too_large: str = "raise --max-event-size",
        tell: Callable[[str], None] = lambda sentence: None,
        tell_failure: Callable[[str, int], None] | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(0.7, 1.3),
    ) -> None:
        self.cursor = since
        self.retry = DEFAULT_RETRY
        self._not_sendable: str | None = None  # the newest id, where the cursor could not move to it
        self._channels, self._patterns = list(channels), list(patterns)
        self._history = history
        self._retries = retries
        self._max_event_size = max_event_size
        self._too_large = too_large
        self._tell, self._tell_failure = tell, tell_failure
        self._jitter = jitter
        self._failures = 0  # one after another
        self._closing = ""
        self._parser: EventParser
        self._enveloped = False

    def backoff(self, failures: int) -> float:
        """Seconds before the next attempt: the server's delay, doubled with every further failure up to a limit."""
        delay = max(self.retry, SHORTEST_PAUSE)
        if failures > 1:
            doubled = delay * 2.0 ** min(failures - 1, 20)
            delay = max(delay, min(doubled, LONGEST_BACKOFF))
        return max(delay * self._jitter(), SHORTEST_PAUSE)

    def asked(self, token: str | None) -> dict[str, Any]:
        """The query and the headers of the next connection."""
        query = [("channel", channel) for channel in self._channels]
        query += [*[("pattern", pattern) for pattern in self._patterns], ("envelope", "json")]
        # A proxy that compresses also buffers.
        headers = {b"Accept-Encoding": b"identity"}
        if token is not None:
            headers[b"Authorization"] = bearer(token)["Authorization"].encode()
        if self.cursor:
            headers[b"Last-Event-ID"] = self.cursor.encode()
        elif self.cursor is None and self._history is not None:
            query.append(("history", str(self._history)))
        return {"params": query, "headers": headers}

    def connected(self, url: object) -> None:
        """The stream that was asked for begins."""
        after = f" after {self.cursor}" if self.cursor else ""
        where = ", ".join((*self._channels, *self._patterns))
        self._tell(f"connected to {url}, listening to {where}{after}")
        if self._not_sendable is not None:
            self._tell(f"the server's id {self._not_sendable[:40]!r} fits no header; events may come again")
            self._not_sendable = None
        self._parser = EventParser(max_event_size=self._max_event_size, last_event_id=self.cursor or "")
        self._enveloped = False

    def fed(self, piece: bytes) -> Iterator[ReceivedEvent | PublishedEvent]:
        """The events of the next bytes of the stream. The cursor is behind the last that was handed out."""
        for event in self._parser.feed(piece):
            self._move_to(event.id)
            if event.event == "$connected":
                self._enveloped = says_enveloped(event)
            self._closing = what_closes(event)
            if not self._closing:  # from a server that is full it is all there is
                self._failures = 0
            yield opened(event) if self._enveloped else event
        self._move_to(self._parser.last_event_id)
        if self._parser.retry is not None:
            self.retry = min(self._parser.retry / 1000, LONGEST_RETRY)

    def ended(self, error: Exception | None, client: httpx.Client | httpx.AsyncClient) -> float:
        """Seconds until the next attempt. error: what the connection ended in, if it did not just end. Raises Refused
        where the next one would meet the same, and Unavailable where there were enough."""
        asked_for, closing = 0.0, self._closing
        self._closing = ""
        match error:
            case None:
                reason = closing or "the stream ended"
            case Unavailable():
                reason, asked_for = str(error), error.retry_after
            case EventTooLarge():
                raise Refused(f"{error}; {self._too_large}") from error
            case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                raise Refused(str(error)) from error  # our own fault, and no better next time
            case httpx.TransportError():
                if mistrust_of(error) or is_no_http(error):
                    raise Refused(explain(error, client)) from error
                # What follows `$closing` is what it announced, and no accident.
                reason = closing or explain(error, client)
            case _:
                raise error
        self._failures += 1
        if self._retries is not None and self._failures > self._retries:
            raise Unavailable(f"{reason}; gave up after {self._failures} attempt{'s' * (self._failures != 1)}")
        delay = max(self.backoff(self._failures), asked_for)
        sentence = f"{reason}; trying again in {delay:.1f} s"
        if self._tell_failure is None:
            self._tell(sentence)
        else:
            self._tell_failure(sentence, self._failures)
        return delay

    def stopped(self) -> None:
        self._tell("the server says there is nothing more to come")

    def _move_to(self, id: str) -> None:
        """An empty id takes the cursor back, as the server can say, but is no cursor where there was none."""
        if not SENDABLE_ID.fullmatch(id):
            self._not_sendable = id
        elif id or self.cursor is not None:
            self.cursor, self._not_sendable = id, None


MAY_PASS = (Unavailable, EventTooLarge, httpx.TransportError)
"""What `Following.ended` is asked about."""


class Listener(Following):
    """Iterate to get events, the server's own (`$connected`, `$gap`, `$closing`) included, over as many connections as
    it takes; of a server that says where and when they were published, a PublishedEvent each. Ends when the server says
    so with 204. Raises Refused; also Unavailable, if one event has not come after `retries` further attempts. An id
    that no header can carry (control characters, white space at an end) is told, and resumed is after the last one that
    could be sent, or as at the start: events may come again then. A `$gap` has JSON as its data: `after` and `until`,
    the ids between which events are gone, and where the server knows `positions`, how many of all channels that is.

    client: carries the base URL and the timeouts; its read timeout is how silence is noticed. token: sent as
    `Authorization: Bearer`; one that is made anew for each connection, where it is a callable, so that a stream that
    ended with its token (`$expiring`, `$closing`) goes on with the next.
    """

    def __init__(
        self,
        client: httpx.Client,
        channels: Iterable[str],
        *,
        token: str | Callable[[], str] | None = None,
        sleep: Callable[[float], object] | None = None,
        **following: Any,
    ) -> None:
        super().__init__(channels, **following)
        self._client = client
        self._token = token
        self._is_closed = threading.Event()
        self._sleep = sleep or self._is_closed.wait
        self._response: httpx.Response | None = None

    def close(self) -> None:
        """End the iteration, from another thread too: where it waits for an event or for its next attempt at once,
        where it is about to connect as soon as it has, or could not."""
        self._is_closed.set()
        if (response := self._response) is not None:
            hang_up(response)

    def __iter__(self) -> Iterator[ReceivedEvent | PublishedEvent]:
        while not self._is_closed.is_set():
            failure: Exception | None = None
            try:
                yield from self._connection()
            except Stopped:
                return self.stopped()
            except MAY_PASS as error:
                failure = error
            if not self._is_closed.is_set():
                self._sleep(self.ended(failure, self._client))
        return None

    def _connection(self) -> Iterator[ReceivedEvent | PublishedEvent]:
        """The events of one connection. Returns when it ends, raises when it breaks or is not to be had."""
        token = self._token if self._token is None or isinstance(self._token, str) else self._token()
        with open_stream(self._client, "/sse", **self.asked(token)) as response:
            self._response = response
            try:
                if self._is_closed.is_set():
                    return
                self.connected(self._client.base_url)
                for piece in response.iter_bytes():
                    for event in self.fed(piece):
                        if self._is_closed.is_set():
                            return
                        yield event
            finally:
                self._response = None


def hang_up(response: httpx.Response) -> None:
    """Whoever reads this answer in another thread finds that it has ended."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        with suppress(OSError):
            # That of TLS would forget its keys, which the reader still uses.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def what_closes(event: ReceivedEvent | PublishedEvent) -> str:
    """Of `$closing`: why the stream ends; of any other event nothing."""
    if event.event != CLOSING:
        return ""
    try:
        full = orjson.loads(event.data)["reason"] == "overloaded"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        full = False
    return "the server is full" if full else "the server closed the stream"


@contextmanager
def open_stream(client: httpx.Client, url: str, **request: Any) -> Iterator[httpx.Response]:
    """Ask for an event stream. Raises as `check_stream`, and what httpx raises."""
    headers = httpx.Headers(STREAM_HEADERS)
    headers.update(request.pop("headers", None))
    with client.stream("GET", url, headers=headers, **request) as response:
        check_stream(response)
        yield response


def check_stream(response: httpx.Response) -> None:
    """Raise what an answer other than an event stream means to a listener."""
    if response.status_code == NOTHING_MORE:
        raise Stopped
    if response.status_code != 200:
        raise failure_of(response)
    media_type = response.headers.get("Content-Type")
    if not EventParser.reads(media_type):
        raise Refused(f"{response.url} answers {media_type or 'no media type'}, not text/event-stream: another server?")
    check_encoding(response)
