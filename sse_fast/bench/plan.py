"""What a run is: a server to try, a mode, and numbers. Nothing here does anything.

A URL, a body and header values may contain `{channel}`, the number of a channel; a body contains the payload as
`{data}` (as it stands) or `{json}` (as a JSON string).
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from sse_fast._native.bench.dial import CHANNEL, LAST_EVENT_ID, LENGTH, PAYLOAD
from sse_fast._native.bench.payload import PAYLOAD_LEAST
from sse_fast.base.address import resolve
from sse_fast.errors import SSEFastError

Part = bytes | int
"""Text of a request, or one of the native CHANNEL, PAYLOAD, LENGTH, LAST_EVENT_ID."""

SLOTS: dict[str, tuple[Part, ...]] = {"{channel}": (CHANNEL,), "{data}": (PAYLOAD,), "{json}": (b'"', PAYLOAD, b'"')}
SLOT = re.compile(r"(\{(?:channel|data|json)\})")
MOST_PUBLISHERS = 256  # two hexadecimal digits in a payload
MOST_CHANNELS = 1 << 20
MIN_PACE, MAX_PACE = 1e-9, 1_000_000_000
PACES = {"rate": "events a second", "comes": "streams a second", "life": "seconds"}
SPANS_OF_ALL = ("connect_rate", "patience", "settle", "drain")
SPANS = ("seconds", "events", "warm_up", "before", "away", "every", "drip")
CHURN_ROOM = 1.5  # connections beside those that Little's law says: a server that is slow to answer needs some


class InvalidPlan(SSEFastError):
    """The plan cannot be run as it is; the message says why."""


@dataclass(frozen=True)
class Address:
    """Where to connect."""

    family: int
    ip: str
    port: int

    @property
    def on_loopback(self) -> bool:
        return self.ip.startswith("127.") or self.ip == "::1"


@dataclass(frozen=True)
class Target:
    """A server: where to subscribe, and how to publish (`publish` None: only modes without events)."""

    subscribe: str
    publish: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    body: str = "{data}"
    content_type: str = "text/plain"
    publish_headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def edge(cls, base: str, publish: str | None = None, *, key: str | None = None) -> "Target":
        """The target for `sse-fast serve` at this address, with its publish key. `publish`: where its events are
        published, if elsewhere."""
        base, publish = base.rstrip("/"), (publish or base).rstrip("/")
        authorization = (("Authorization", f"Bearer {key}"),) if key else ()
        return cls(
            f"{base}/sse/bench-{{channel}}", f"{publish}/publish/bench-{{channel}}", publish_headers=authorization
        )

    def subscribe_request(self) -> list[Part]:
        host, path = _split(self.subscribe)
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"
        return [*_parts(head + _lines(self.headers)), LAST_EVENT_ID, b"\r\n"]

    def publish_request(self) -> tuple[list[Part], list[Part]] | None:
        """Head and body."""
        if self.publish is None:
            return None
        host, path = _split(self.publish)
        head = f"{self.method} {path} HTTP/1.1\r\nHost: {host}\r\n"
        body = _parts(self.body)
        if body:
            head += f"Content-Type: {self.content_type}\r\nContent-Length: "
        else:
            return _parts(f"{head}{_lines(self.publish_headers)}\r\n"), []
        return [*_parts(head), LENGTH, *_parts(f"\r\n{_lines(self.publish_headers)}\r\n")], body

    def check(self, channels: int) -> None:
        """Raise InvalidPlan where no run could work."""
        if channels > 1 and "{channel}" not in self.subscribe:
            raise InvalidPlan(f"{channels} channels need {{channel}} in the URL to subscribe to: {self.subscribe}")
        if self.publish is None:
            return
        anywhere = self.publish + self.body + "".join(value for _, value in self.publish_headers)
        if channels > 1 and "{channel}" not in anywhere:
            raise InvalidPlan(
                f"{channels} channels need {{channel}} where events are published: in the URL or the body"
            )
        if len(re.findall(r"\{data\}|\{json\}", anywhere)) != 1:
            raise InvalidPlan("the body to publish (or the URL) must contain {data} or {json} exactly once")


@dataclass(frozen=True)
class Hold:
    """Open `subscribers` streams, stay for `seconds`, report what each costs; then one event must reach them all."""

    name: ClassVar[str] = "hold"
    subscribers: int = 1000
    seconds: float = 10.0
    channels: ClassVar[int] = 1


@dataclass(frozen=True)
class Broadcast:
    """Every event goes to every subscriber of its channel. `rate` given: an open loop of so many events a second; else
    a closed loop with `in_flight` events on their way. It ends after `seconds` or `events`, whichever is first."""

    name: ClassVar[str] = "broadcast"
    subscribers: int = 1000
    channels: int = 1
    in_flight: int = 16
    rate: float | None = None
    seconds: float = 10.0
    events: int = 0
    warm_up: float = 1.0


@dataclass(frozen=True)
class Channels(Broadcast):
    """A broadcast to many channels with few subscribers each."""

    name: ClassVar[str] = "channels"
    channels: int = 100


@dataclass(frozen=True)
class Churn:
    """`subscribers` stay; beside them `comes` streams a second come and leave after `life` seconds; events flow."""

    name: ClassVar[str] = "churn"
    subscribers: int = 1000
    channels: int = 1
    comes: float = 100.0
    life: float = 1.0
    rate: float = 20.0
    seconds: float = 10.0


@dataclass(frozen=True)
class Storm:
    """All streams are cut at once, stay `away` for a while as events go on, and come back with their Last-Event-ID."""

    name: ClassVar[str] = "storm"
    subscribers: int = 1000
    channels: int = 1
    rate: float = 20.0
    before: float = 1.0
    away: float = 1.0


@dataclass(frozen=True)
class Slow:
    """A `share` of the subscribers reads `drip` bytes `every` so many seconds (0 bytes: nothing), and a share of
    `stopped` ones nothing behind the response head. The others must get everything; the slow and the stopped ones may
    be cut by the server. `wake`: at the end they read on, or come back with their Last-Event-ID, and must get all too.
    """

    name: ClassVar[str] = "slow"
    subscribers: int = 1000
    channels: int = 1
    share: float = 0.1
    drip: int = 1
    every: float = 0.05
    stopped: float = 0.0
    wake: bool = False
    rate: float = 50.0
    seconds: float = 10.0


Mode = Hold | Broadcast | Channels | Churn | Storm | Slow


def most_connections(mode: Mode) -> int:
    """How many connections the load client must be able to hold."""
    if isinstance(mode, Churn):
        return mode.subscribers + int(mode.comes * mode.life * CHURN_ROOM) + 64
    return mode.subscribers


@dataclass(frozen=True)
class Plan:
    """One run. Seconds, bytes, events and connections per second.

    `target` None: an edge is started for the run. `server_pid` None: the process that listens on the target's port
    is looked for on this machine. `processes` 0: as many as the descriptors need. `patience`: for a response head.
    `drain`: at the end without a delivery, until what is missing counts as lost. `reconnect`: after so many seconds
    a stream that the server ended comes back with its Last-Event-ID; negative: its end is a problem.
    """

    mode: Mode = field(default_factory=Broadcast)
    target: Target | None = None
    size: int = 64
    publishers: int = 16
    processes: int = 0
    connect_rate: float = 0.0
    connecting: int = 256
    patience: float = 30.0
    settle: float = 0.2
    drain: float = 10.0
    reconnect: float = -1.0
    server_pid: int | None = None
    label: str = ""

    def check(self) -> None:
        """Raise InvalidPlan where no run could work."""
        mode = self.mode
        if not PAYLOAD_LEAST <= self.size <= 65536:
            raise InvalidPlan(f"a payload has {PAYLOAD_LEAST} to 65536 bytes, not {self.size}")
        if not 1 <= self.publishers <= MOST_PUBLISHERS:
            raise InvalidPlan(f"there are 1 to {MOST_PUBLISHERS} publishers, not {self.publishers}")
        if isinstance(mode, Broadcast) and mode.rate is None and not 1 <= mode.in_flight <= self.publishers:
            raise InvalidPlan(f"in flight are 1 to {self.publishers} events, one a publisher; not {mode.in_flight}")
        if not 1 <= mode.channels <= MOST_CHANNELS:
            raise InvalidPlan(f"there are 1 to {MOST_CHANNELS} channels, not {mode.channels}")
        if mode.subscribers < 1:
            raise InvalidPlan(f"there is 1 subscriber at least, not {mode.subscribers}")
        if mode.subscribers < mode.channels:
            raise InvalidPlan(f"{mode.channels} channels need at least as many subscribers, not {mode.subscribers}")
        self._check_pace()
        if isinstance(mode, Slow) and mode.share + mode.stopped > 1:
            raise InvalidPlan(f"{mode.share:g} slow and {mode.stopped:g} stopped ones are more than there are")
        if self.target is not None:
            self.target.check(mode.channels)
            if self.target.publish is None and not isinstance(mode, Hold):
                raise InvalidPlan(f"the mode '{mode.name}' needs to know how to publish: see --publish")

    def _check_pace(self) -> None:
        for name, unit in PACES.items():
            given = getattr(self.mode, name, None)
            if given is not None and not MIN_PACE <= given <= MAX_PACE:
                raise InvalidPlan(f"{name} is more than 0 {unit}, and at most {MAX_PACE:,}; not {given:g}")
        spans = [(self.mode, name) for name in SPANS] + [(self, name) for name in SPANS_OF_ALL]
        for owner, name in spans:
            given = getattr(owner, name, None)
            if given is not None and not 0 <= given < float("inf"):
                raise InvalidPlan(f"{name} is 0 or more, not {given:g}")
        if not self.reconnect < float("inf"):
            raise InvalidPlan(f"reconnect is a number of seconds, or -1 for no; not {self.reconnect:g}")


def address_of(url: str) -> Address:
    """The address of a URL's host; IPv4 where there is a choice. Raises InvalidPlan."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidPlan(f"{url} should look like http://127.0.0.1:8000/...; TLS is not spoken here")
    try:
        port = parts.port or 80
        ip, family = resolve(parts.hostname, port)
    except (OSError, ValueError) as error:
        raise InvalidPlan(f"{url}: {error}") from None
    return Address(family, ip, port)


def _split(url: str) -> tuple[str, str]:
    """What stands in the Host header, and in the request line."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2], (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _lines(headers: tuple[tuple[str, str], ...]) -> str:
    for name, value in headers:
        if re.search(r"[\r\n\0]", name + value) or not name:
            raise InvalidPlan(f"this header cannot be sent: {name!r}: {value!r}")
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _parts(text: str) -> list[Part]:
    parts: list[Part] = []
    for piece in SLOT.split(text):
        if piece:
            parts += SLOTS.get(piece, (piece.encode(),))
    return parts
