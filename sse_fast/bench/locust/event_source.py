"""A user of locust that is one event stream, read in Python."""

import itertools
import logging
import time
from collections.abc import Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, ClassVar

import gevent
import httpx
import orjson
from locust import HttpUser
from locust.env import Environment

from sse_fast._native.wire.control import CONTROL_EVENTS, GAP
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.bench.locust.ledger import REQUEST_TYPE
from sse_fast.bench.locust.tasks import tasks_or_stay
from sse_fast.client.failures import LONGEST_RETRY, Refused, Stopped, Unavailable, explain
from sse_fast.client.listener import open_stream
from sse_fast.errors import EventTooLarge

logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log a line for every connection


class SSEUser(HttpUser):
    """One event stream. It is read beside the user's tasks, so these are free to do what else a client does, as to
    publish with `self.client`; without tasks the user only listens.

    Reported: "connect" and "reconnect" (to the response head), "event" (its latency where `sent_at` knows when it was
    sent, else without a time), "$gap" (a failure: the server says that events are gone).
    """

    abstract = True

    path = "/sse/load"
    """Where the stream is, below the host. It may contain {user}, the user's number in this process."""
    headers: ClassVar[Mapping[str, str]] = {}
    retry = 3.0
    """Seconds before it comes back, until the server says otherwise."""
    silence = 45.0
    """Seconds without a byte after which a stream is given up; also for the response head."""

    _numbers: ClassVar["itertools.count[int]"] = itertools.count()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)  # type: ignore[no-untyped-call]
        self.number = next(self._numbers)
        self.last_event_id = ""
        self._listening: gevent.Greenlet[..., None] | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        cls.tasks = tasks_or_stay(cls)

    def on_event(self, event: ReceivedEvent) -> None:
        """Called with every event: `event.event` is its type, `event.data`, `event.id`."""

    def sent_at(self, event: ReceivedEvent) -> float | None:
        """When the event was sent, as time.time() on the sender's clock; None: not known. As it stands: the number
        `sent_at` of a JSON object."""
        if '"sent_at"' not in event.data:
            return None
        try:
            sent = orjson.loads(event.data)["sent_at"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return None
        return sent if isinstance(sent, int | float) else None

    def on_start(self) -> None:
        self._listening = gevent.spawn(self._listen)

    def on_stop(self) -> None:
        if self._listening is not None:
            self._listening.kill()

    def _listen(self) -> None:
        name, retry = "connect", self.retry
        url = (self.host or "").rstrip("/") + self.path.replace("{user}", str(self.number))
        # Forbidding compression: what compresses also buffers.
        timeout = httpx.Timeout(self.silence)
        with httpx.Client(headers={"Accept-Encoding": "identity"}, timeout=timeout, verify=tls()) as client:
            while True:
                began, opened = time.perf_counter(), False
                headers = {name.encode(): value.encode() for name, value in self.headers.items()}
                if self.last_event_id:
                    headers[b"Last-Event-ID"] = self.last_event_id.encode()
                try:
                    with open_stream(client, url, headers=headers) as response:
                        self._report(name, (time.perf_counter() - began) * 1000)
                        name, opened = "reconnect", True
                        parser = EventParser(last_event_id=self.last_event_id)
                        for piece in response.iter_bytes():
                            for event in parser.feed(piece):
                                self._take(event)
                            self.last_event_id = parser.last_event_id
                            retry = retry if parser.retry is None else min(parser.retry / 1000, LONGEST_RETRY)
                except (httpx.TransportError, Refused, Unavailable, Stopped, EventTooLarge) as error:
                    if not opened or isinstance(error, EventTooLarge):
                        self._report(name, (time.perf_counter() - began) * 1000, failure=in_words(error, client))
                    if isinstance(error, Stopped):
                        return
                gevent.sleep(retry)

    def _take(self, event: ReceivedEvent) -> None:
        now = time.time()
        self.last_event_id = event.id
        if event.event == GAP:
            self._report(GAP, None, failure=f"events are gone: {event.data[:200]}")
        elif event.event not in CONTROL_EVENTS:
            sent = self.sent_at(event)
            self._report("event", None if sent is None else (now - sent) * 1000, len(event.data))
        try:
            self.on_event(event)
        except Exception as error:  # the test's own code: locust counts it, the stream goes on
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)

    def _report(self, name: str, milliseconds: float | None, length: int = 0, *, failure: str | None = None) -> None:
        self.environment.events.request.fire(
            request_type=REQUEST_TYPE,
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=ConnectionError(failure) if failure else None,
            context=self.context(),
        )


@cache
def tls() -> SSLContext:
    """One for all users: to load the certificates takes longer than all else that a user does."""
    return httpx.create_ssl_context()


def in_words(error: Exception, client: httpx.Client) -> str:
    return explain(error, client) if isinstance(error, httpx.TransportError) else str(error) or "204: do not come back"
