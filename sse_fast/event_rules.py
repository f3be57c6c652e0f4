"""What an event must keep to: channel names, and the limits on its fields. What enters is checked against them in
`_native/wire/publication`.
"""

import re
import reprlib
from collections.abc import Iterable
from functools import lru_cache
from types import NoneType
from typing import NamedTuple, Protocol, Self

from sse_fast.errors import InvalidEvent

MAX_CHANNEL_BYTES = 2048
MAX_CHANNELS = 32  # of one event
MAX_EVENT_TYPE = 256  # characters
MAX_ID_BYTES = 512

# Controls break logs and terminals, white space is a slip of the pen, and U+FFFD is what servers make of a path that is
# not UTF-8: all such names would be one channel.
CHANNEL_FORBIDS = re.compile(r"[\s\x00-\x20\x7f-\xa0\ufffd]")
SHORT_NAME = 256  # characters; longer ones are not remembered: there may be many
ID_FORBIDS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd]")
OWN_ID = re.compile(r"([a-z0-9]{1,20})-(0|[1-9][0-9]{0,19})")  # an epoch, and a position
EARLIEST = "earliest"  # in an id's place: all that is kept
FRAGMENT = "#"  # before an id of this server's where it has to be a relative reference (RFC 3986, section 4.2)
KEY = re.compile(r"[\x20-\x7e]{1,255}")  # what fits an HTTP header, as a string of RFC 8941 does
CONFLATE_KEY_BYTES = 255
FIELDS = frozenset(("channel", "channels", "conflate_key", "data", "event", "id", "key", "private", "retry"))
JSON_KINDS: dict[type, str] = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_repr = reprlib.Repr()
_repr.maxstring = 80
_repr.maxlevel = 1

Encoded = tuple[bytes | tuple[bytes, ...], bytes]
"""What the log takes: the channel's name, or those of several, or Keyed ones; and a frame without its id line."""


def channel_name(name: str) -> bytes:
    """The channel's name as the log keeps it. Raises InvalidEvent for one that may not be used."""
    return short_name(name) if len(name) <= SHORT_NAME else long_name(name)


def long_name(name: str) -> bytes:
    """`channel_name` of any, which is not remembered."""
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"a channel name is UTF-8 text; {brief(name)} has a lone surrogate at {error.start}"
        ) from None
    if not raw:
        raise InvalidEvent("a channel name has at least one character")
    if len(raw) > MAX_CHANNEL_BYTES:
        raise InvalidEvent(f"a channel name has at most {MAX_CHANNEL_BYTES} bytes; this one has {len(raw)}")
    if bad := CHANNEL_FORBIDS.search(name):
        raise InvalidEvent(
            f"a channel name is UTF-8 text without white space and control characters; "
            f"{brief(name)} has {bad[0]!a} at {bad.start()}"
        )
    return raw


short_name = lru_cache(maxsize=65536)(long_name)


def publisher_id(id: object) -> str:
    """The id that a publisher gives an event, which its readers see and resume by. Raises InvalidEvent."""
    if not isinstance(id, str):
        raise InvalidEvent(f"'id' must be a string; this is {kind_of(id)}")
    try:
        size = len(id.encode())
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"'id' is UTF-8 text; {brief(id)} has a lone surrogate at {error.start}") from None
    if not 0 < size <= MAX_ID_BYTES:
        raise InvalidEvent(f"'id' has 1 to {MAX_ID_BYTES} bytes; this one has {size}")
    if bad := ID_FORBIDS.search(id):
        raise InvalidEvent(f"'id' is text without control characters; {brief(id)} has {bad[0]!a} at {bad.start()}")
    if id != id.strip():
        raise InvalidEvent(f"'id' has no white space at its ends, which a header would lose; {brief(id)} has")
    if id == EARLIEST or id.startswith(FRAGMENT):
        raise InvalidEvent(f"'id' is neither {EARLIEST!r} nor begins with {FRAGMENT!r}: those have a meaning here")
    if OWN_ID.fullmatch(id):
        raise InvalidEvent(
            f"'id' has not the form of the server's own ids, as {brief(id)} has: that one stands for a place"
        )
    return id


def idempotency_key(key: object) -> str:
    """The key, if it may be one. Raises InvalidEvent."""
    if not isinstance(key, str):
        raise InvalidEvent(f"an idempotency key must be a string; this is {kind_of(key)}")
    if not KEY.fullmatch(key):
        raise InvalidEvent(f"an idempotency key has 1 to 255 printable ASCII characters; {brief(key)} does not")
    return key


def conflate_key(key: object) -> bytes:
    """The key of events of which the newest is enough for who lags. Raises InvalidEvent."""
    if not isinstance(key, str):
        raise InvalidEvent(f"'conflate_key' must be a string; this is {kind_of(key)}")
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"'conflate_key' is UTF-8 text; {brief(key)} has a lone surrogate at {error.start}"
        ) from None
    if not 0 < len(raw) <= CONFLATE_KEY_BYTES:
        raise InvalidEvent(f"'conflate_key' has 1 to {CONFLATE_KEY_BYTES} bytes; this one has {len(raw)}")
    return raw


class Keyed(tuple[bytes, ...]):
    """The channels of an event that has a conflation key, where another event has a name or a tuple of names."""

    key: bytes

    @classmethod
    def of(cls, channels: bytes | tuple[bytes, ...], key: bytes) -> Self:
        keyed = cls((channels,) if isinstance(channels, bytes) else channels)
        keyed.key = key
        return keyed


# ---- private events ----

# The first name of a private event holds all the others. No publisher and no reader can spell it: it has controls.
HIDDEN = b"\x01"


def hidden(names: Iterable[bytes]) -> bytes:
    """The name before those of a private event."""
    return b"".join([HIDDEN + name for name in names])


def visible(channels: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The names that an event was published under."""
    if isinstance(channels, bytes):
        return (channels,)
    return channels[1:] if channels[0].startswith(HIDDEN) else channels


def is_private(channels: bytes | tuple[bytes, ...]) -> bool:
    return isinstance(channels, tuple) and channels[0].startswith(HIDDEN)


class Matcher(Protocol):
    """What a stream listens to, or is granted. A value, hashable; what it says of a name it always says, and soon."""

    @property
    def exact(self) -> str | None:
        """The one name that it has; None: those it `matches`."""

    def matches(self, name: str) -> bool:
        """Whether it has a name, which is none of the server's own."""


class PrivateGrants(NamedTuple):
    """Which private events a stream may see: those with a topic of one of these; or everything."""

    matchers: tuple[Matcher, ...] = ()
    everything: bool = False


class WholeNumber(NamedTuple):
    """The rule of a whole number that users give, in Python or as text. Both ways raise InvalidEvent."""

    name: str
    most: int
    least: int = 0
    unit: str = ""

    def check(self, given: object) -> int:
        """An int, and no bool."""
        if type(given) is not int or not self.least <= given <= self.most:
            raise self._wrong(given)
        return given

    def read(self, text: str) -> int:
        """Decimal digits, and nothing beside them."""
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise self._wrong(text)
        number = int(text)
        if not self.least <= number <= self.most:
            raise self._wrong(text)
        return number

    def _wrong(self, given: object) -> InvalidEvent:
        of_unit = f" of {self.unit}" if self.unit else ""
        return InvalidEvent(
            f"{self.name!r} is a whole number{of_unit} from {self.least} to {self.most}, not {brief(given)}"
        )


RETRY = WholeNumber("retry", 86_400_000, unit="milliseconds")  # a day


def kind_of(value: object) -> str:
    """What a value is, in the words of JSON."""
    return JSON_KINDS.get(type(value), type(value).__name__)


def brief(value: object) -> str:
    """A value as an error may show it, however large or deep it is."""
    return _repr.repr(value)
