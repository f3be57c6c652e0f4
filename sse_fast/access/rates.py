"""How often a client may open streams, publish, and have things replayed: rates, of a whole node.

Each rate is a token bucket for each address (`one_client`), for each credential, or for each channel. Who counts is the
node's `Limiter`, native and shared by its workers; here is what counts for whom.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from sse_fast.access.addresses import one_client
from sse_fast.errors import RateLimited

RATES = ("rate_open", "rate_replay", "rate_publish", "rate_publish_channel")
"""What a client may be too often for: the keys of `Rates.refused`, in the counters too."""

COUNTED_KEYS = 65_536
"""Addresses, credentials and channels, each for each rate, that a node counts at once: 2 MiB."""

SECONDS = {"s": 1, "min": 60, "h": 3600}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
NUMBER = r"([0-9]{1,12})\s*((?:[KMG]i?)?B)?"
WRITTEN = re.compile(rf"{NUMBER}\s*/\s*(s|min|h)\s*(?:,\s*burst\s*=\s*{NUMBER})?")
MOST = 10**12


class Rate(NamedTuple):
    """`amount` in so many seconds, `burst` of them at once."""

    amount: int
    seconds: int
    burst: int

    @classmethod
    def read(cls, text: str, *, of_bytes: bool = False) -> Self:
        """As it is written: "100/s", "600/min", "600/min,burst=50"; of bytes "64MiB/min". Without a burst it is as many
        as the rate counts. Raises ValueError."""
        example = "64MiB/min, or 64MiB/min,burst=256MiB" if of_bytes else "100/s, 600/min, or 600/min,burst=50"
        found = WRITTEN.fullmatch(text.strip())
        if found is None or (not of_bytes and (found[2] or found[5])):
            raise ValueError(f"{text!r} is no rate; write {example}; the units are s, min and h")
        count = int(found[1]) * BYTES.get(found[2] or "", 0)
        burst = int(found[4]) * BYTES.get(found[5] or "", 0) if found[4] else count
        if not (0 < count <= MOST and 0 < burst <= MOST):
            raise ValueError(f"{text!r} is no rate; both numbers are 1 at least and {MOST:,} at most")
        return cls(count, SECONDS[found[3]], burst)


class Limiter(Protocol):
    """One rate of the whole node, of many keys."""

    def spend(self, name: bytes, cost: int = 1) -> float:
        """Use so much of what this key has left. Returns 0.0; or in how many seconds there will be so much, and then
        nothing was used. More than comes at once may be used when nothing is owed; then the rest is owed."""

    def give_back(self, name: bytes, cost: int = 1) -> None:
        """What was used was not."""


Uses = Sequence[tuple[bytes, int]]
"""Keys, and what is used of each."""


class Rates:
    """The rates that are set. `limiter` makes one that counts for a rate of that name."""

    def __init__(self, given: Mapping[str, Rate], limiter: Callable[[str, Rate], Limiter]) -> None:
        made = {name: limiter(name, rate) for name, rate in given.items()}
        self._open, self._replay = made.get("rate_open"), made.get("rate_replay")
        self._publish, self._channel = made.get("rate_publish"), made.get("rate_publish_channel")
        self.refused: Counter[str] = Counter()

    @property
    def of_replays(self) -> bool:
        """Whether replayed bytes count."""
        return self._replay is not None

    @property
    def of_publishing(self) -> bool:
        """Whether what is published counts."""
        return self._publish is not None or self._channel is not None

    @property
    def of_channels(self) -> bool:
        """Whether it counts to which channels."""
        return self._channel is not None

    def asking(self, address: str) -> None:
        """For a stream, of which something has to be found out first, or which is refused: it counts as one that is
        opened. Raises RateLimited."""
        self._spend("rate_open", self._open, whose(address, None))

    def opening(self, address: str, credential: str | None = None, replayed: int = 0, *, asked: bool = False) -> None:
        """A stream is to be opened, on which so many bytes of kept events come first. `asked`: it was counted for its
        address by `asking`. Raises RateLimited."""
        openers = whose(address, credential)
        if asked:
            openers = openers[1:]
        self._spend("rate_open", self._open, openers)
        if replayed:
            try:
                self._spend("rate_replay", self._replay, whose(address, None, replayed))
            except RateLimited:
                give_back(self._open, openers)
                raise

    def replaying(self, address: str, replayed: int) -> None:
        """On a stream that was counted by `opening` so many bytes of kept events come first. Raises RateLimited."""
        if replayed:
            self._spend("rate_replay", self._replay, whose(address, None, replayed))

    def not_opened(self, address: str, credential: str | None = None, replayed: int = 0) -> None:
        """What was to be opened was not."""
        give_back(self._open, whose(address, credential))
        give_back(self._replay, whose(address, None, replayed) if replayed else ())

    def publishing(self, address: str, credential: str | None, events: int) -> None:
        """So many events are to be published. Raises RateLimited."""
        self._spend("rate_publish", self._publish, whose(address, credential, events))

    def publishing_to(self, channels: Uses) -> None:
        """As many to each of these channels, named once each. Raises RateLimited."""
        self._spend("rate_publish_channel", self._channel, channels)

    def publishes_one(self, address: str, credential: str | None, channel: bytes) -> bool:
        """`publishing` and `publishing_to` of one event. False: it may not be, which whoever is asked next will say."""
        publishers = whose(address, credential)
        if spend(self._publish, publishers):
            return False
        if spend(self._channel, ((channel, 1),)):
            give_back(self._publish, publishers)
            return False
        return True

    def published_nothing(self, address: str, credential: str | None, events: int, channels: Uses = ()) -> None:
        """What was to be published was not."""
        give_back(self._publish, whose(address, credential, events))
        self.published_nothing_to(channels)

    def published_nothing_to(self, channels: Uses) -> None:
        """As many to each of these were not."""
        give_back(self._channel, channels)

    def _spend(self, name: str, limiter: Limiter | None, uses: Uses) -> None:
        if wait := spend(limiter, uses):
            self.refused[name] += 1
            raise RateLimited(f"{TOO_OFTEN[name]}; come back in {math.ceil(wait)} s", wait, name)


TOO_OFTEN = {
    "rate_open": "more streams were opened than this server lets one client open within its rate",
    "rate_replay": "more kept events were asked for than this server replays for one address within its rate",
    "rate_publish": "more events were published than this server lets one client publish within its rate",
    "rate_publish_channel": "more events were published to one channel than this server takes within its rate",
}


def whose(address: str, credential: str | None, cost: int = 1) -> Uses:
    """Who is counted: the address, and the credential that was shown."""
    client = (b"a" + one_client(address).encode(), cost)
    return (client,) if credential is None else (client, (b"c" + credential.encode(), cost))


def spend(limiter: Limiter | None, uses: Uses) -> float:
    """All of it, and then 0.0 is returned; or nothing, and then in how many seconds it may be tried again."""
    if limiter is not None:
        for at, (key, cost) in enumerate(uses):
            if wait := limiter.spend(key, cost):
                give_back(limiter, uses[:at])
                return wait
    return 0.0


def give_back(limiter: Limiter | None, uses: Uses) -> None:
    if limiter is not None:
        for key, cost in uses:
            limiter.give_back(key, cost)
