"""The body of a relayed request: gathered before the app is asked, and handed on as it comes from then on.

What it keeps: nothing; of what whoever relays it has gathered the bytes, in `Uploading.held`.
What it drops: the framing of a chunked body, which gets a new one.
Who is told: nobody; whoever relays it asks what to wait for, and how long.
"""

from typing import Protocol

GATHERED = 64 * 1024  # bytes of a request, with its body, that are read before it takes a connection to the app
HELD = 64 * 1024 * 1024  # bytes of bodies at once
SLOWEST = 500  # bytes a second


class Uploading(Protocol):
    """What all bodies of a relay have in common: see `Relay`."""

    body_seconds: float
    gather_seconds: float
    now: float
    uploads: int
    held: int

    @property
    def has_room_for_slow(self) -> bool:
        """Whether a connection to the app may be taken by who is slow with its body."""


class Upload:
    """Upload(relay, chunked). `chunked`: nobody knows its length.

    Each piece earns its client time, up to the relay's `body_seconds`; who stops, or gives a byte now and then, runs
    out of it.
    """

    __slots__ = ("_chunked", "_grace", "_held", "_left", "_relay", "_since", "_under_way", "gathers")

    def __init__(self, relay: Uploading, *, chunked: bool) -> None:
        self._relay, self._chunked = relay, chunked
        self.gathers = True
        """The app is not asked yet: who is slow keeps nobody else from it."""
        # Of one without a length nobody knows whether more comes before the app has answered what is there.
        self._grace = relay.now + relay.gather_seconds if chunked else None
        self._held = 0
        self._left = relay.body_seconds
        self._since = 0.0
        self._under_way = False  # to the app, and counted

    @property
    def seconds(self) -> float:
        """That its client has for the next piece, or for as much as the app is asked with."""
        seconds = max(self._left, 0.0)
        if self.gathers and self._grace is not None:
            seconds = min(seconds, max(self._grace - self._relay.now, 0.0))
        return seconds

    @property
    def has_grace(self) -> bool:
        """It is still waited for the beginning of one without a length."""
        return self.gathers and self._grace is not None

    def read(self) -> None:
        """It is from now on."""
        self._since = self._relay.now

    def came(self, piece: bytes, last: bool) -> bytes:
        """This of it, without its framing: what the app is to be sent."""
        now = self._relay.now
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            if last:
                piece += b"0\r\n\r\n"
        self._left = min(self._relay.body_seconds, self._left - (now - self._since) + len(piece) / SLOWEST)
        self._since = now
        return piece

    def hold(self, piece: bytes) -> None:
        """Before there is a connection to the app."""
        self._held += len(piece)
        self._relay.held += len(piece)

    def is_enough(self, gathered: int) -> bool:
        """Of the request, to ask the app with, though more is to come."""
        slow = self._chunked and self._grace is None
        return gathered >= GATHERED or self._relay.held > HELD or (slow and self._relay.has_room_for_slow)

    def end_grace(self) -> bool:
        """Whether the app is to be asked with what there is."""
        self._grace = None
        return self._relay.has_room_for_slow

    def start(self) -> None:
        """It is on its way to the app."""
        self._under_way = True
        self._relay.uploads += 1

    def end(self) -> None:
        """Nothing of it is to come. Again: nothing happens."""
        if self._under_way:
            self._under_way = False
            self._relay.uploads -= 1

    def let_go(self) -> None:
        """What was held has been sent, or never will be."""
        self._relay.held -= self._held
        self._held = 0
