"""Namespaces: what holds for the channels of a pattern, and not for all: how many streams may name one, who may publish
to it, whether it is told who is there, how much of it is shown to who comes back, whether it is conflated, and how much
of what it had is kept whatever others publish.

The first namespace of the list whose pattern has a channel rules it, alone: nothing is put together of several. It only
narrows: to publish takes grants as anywhere, and the namespace may ask for more than them.
"""

import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from sse_fast.access.durations import seconds_of
from sse_fast.access.grants import Grants
from sse_fast.access.patterns import NOTHING, Patterns, Ranked, segments_of
from sse_fast.access.publishers import of_a_key
from sse_fast.errors import Forbidden, InvalidPattern, Unauthorized
from sse_fast.event_rules import brief

Publishers = Literal["granted", "credentials", "keys", "nobody"]
"""Who may publish by HTTP: who is granted it; of these, who shows a token or a key; who shows a key; nobody, and only
the program that the hub is in."""

PUBLISHERS: tuple[Publishers, ...] = get_args(Publishers)
MOST_NAMESPACES = 128  # each is compared by the log with a channel's name when that comes up
MOST = 2**31
LONGEST = 366 * 86_400.0  # seconds
REMEMBERED = 16_384  # names whose namespace is
PARTS = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")
SIZE = re.compile(r"([0-9]{1,15})\s*((?:[KMG]i?)?B)?")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
OF_RELAYS = (b"relay:**", b"outbox:**")  # see `client.relay_mark`, `outbox.mark`
EXAMPLE = '{"pattern": "ticks:*", "keep": 100, "conflate": true}'


@dataclass(frozen=True, slots=True)
class Namespace:
    """pattern: its channels. keep: events of one of them that who comes back, or asks for history, is shown at most;
    max_age: seconds for which they are. max_connections: streams that name one of them. presence: whether it is kept
    who is there; None: as `presence_channels` says. publish: who may by HTTP. conflate: who lags, or comes back, gets
    the newest event of each `conflate_key` only. reserve: bytes of their events that are kept beyond the rest of the
    log, "64MiB", or a share of `log_size`, "10%"."""

    pattern: str
    keep: int | None = None
    max_age: float | None = None
    max_connections: int | None = None
    presence: bool | None = None
    publish: Publishers = "granted"
    conflate: bool = False
    reserve: int | str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        try:
            segments_of(self.pattern)
        except InvalidPattern as error:
            raise ValueError(str(error)) from None
        if self.pattern.startswith("$"):
            raise ValueError(f"{self._name} is of the server's own channels, which are in no namespace")
        self._refuse_no_number("keep", MOST)
        self._refuse_no_number("max_connections", MOST)
        self._refuse_no_bool("presence")
        self._refuse_no_bool("conflate")
        self.reserved_of(2**40)
        if self.reserve is not None and self.conflate:
            raise ValueError(
                f"{self._name} conflate and reserve do not go together: what is superseded needs no room; leave one out"
            )
        age = self.max_age
        if age is not None and not (is_number(age) and 0.001 <= age <= LONGEST):
            raise ValueError(f"{self._name} max_age is seconds, or 90s, 30m, 1h, 7d, up to a year; not {brief(age)}")
        if self.publish not in PUBLISHERS:
            raise ValueError(f"{self._name} publish is one of {', '.join(PUBLISHERS)}; not {brief(self.publish)}")

    @property
    def rule(self) -> tuple[bytes, int, int, bool]:
        """As the log's index takes it, see `_native.log.rules`."""
        age = 0 if self.max_age is None else max(1, round(1000 * self.max_age))
        return self.pattern.encode(), self.keep or 0, age, self.conflate

    def reserved_of(self, log_size: int) -> int:
        """Bytes that its events have beyond the rest of a log of that size; 0: none. Raises ValueError."""
        given, size = self.reserve, 0
        if given is None:
            return 0
        if type(given) is int:
            size = given
        elif isinstance(given, str) and (share := PARTS.fullmatch(given.strip())):
            size = math.ceil(log_size * float(share[1]) / 100)
        elif isinstance(given, str) and (found := SIZE.fullmatch(given.strip())):
            size = int(found[1]) * UNITS[found[2] or ""]
        if size <= 0:
            raise ValueError(
                f"{self._name} reserve is bytes, as in 64MiB, or a share of log_size, as in 10%; not {brief(given)}"
            )
        return size

    @property
    def _name(self) -> str:
        return f"the namespace {brief(self.pattern)}:"

    def _refuse_no_number(self, name: str, most: int) -> None:
        given = getattr(self, name)
        if given is not None and (type(given) is not int or not 1 <= given <= most):
            raise ValueError(f"{self._name} {name} is a whole number from 1 on, not {brief(given)}")

    def _refuse_no_bool(self, name: str) -> None:
        given = getattr(self, name)
        if given is not None and not isinstance(given, bool):
            raise ValueError(f"{self._name} {name} is true or false, not {brief(given)}")

    def refuse_publisher(self, grants: Grants, channel: str) -> None:
        """Raise Forbidden or Unauthorized for who may not publish there by HTTP, whatever they are granted."""
        if self.publish == "granted" or (self.publish == "credentials" and grants.credential is not None):
            return
        to = f"publish to {brief(channel)}"
        if self.publish == "nobody":
            raise Forbidden(f"nobody may {to} by HTTP: its namespace leaves that to the server's own program", channel)
        if grants.credential is None:
            needs = "a publish key" if self.publish == "keys" else "a token or a key"
            raise Unauthorized(f"to {to} takes {needs}, says its namespace; send 'Authorization: Bearer ...'")
        if not of_a_key(grants):
            raise Forbidden(f"to {to} takes a publish key, says its namespace; a token does not do", channel)


KNOWN = tuple(field.name for field in fields(Namespace))


def read(given: object) -> list[Namespace]:
    """Of tables, as TOML has them, or JSON: an object, an array of them, or several of either. Raises ValueError."""
    found = [Namespace(**_fields(table)) if isinstance(table, Mapping) else table for table in _tables(given)]
    for each in found:
        if not isinstance(each, Namespace):
            raise ValueError(f"a namespace is a table, as in {EXAMPLE}; not {brief(each)}")
    if len(found) > MOST_NAMESPACES:
        raise ValueError(f"there are {len(found)} namespaces; {MOST_NAMESPACES} is the most")
    seen: set[str] = set()
    for each in found:
        if each.pattern in seen:
            raise ValueError(f"two namespaces have the pattern {brief(each.pattern)}; the first would rule alone")
        seen.add(each.pattern)
    return found


def _tables(given: object) -> list[Any]:
    if isinstance(given, str):
        try:
            return _tables(json.loads(given)) if given.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"{brief(given)} is not JSON: {error}; write {EXAMPLE}") from None
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        return [given]
    return [table for each in given for table in (_tables(each) if isinstance(each, str) else [each])]


def _fields(table: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := [name for name in table if name not in KNOWN]:
        raise ValueError(f"a namespace has no {brief(unknown[0])}; it has {', '.join(KNOWN)}")
    pattern = table.get("pattern")
    if not isinstance(pattern, str):
        raise ValueError(f"a namespace names its channels by a pattern, as in {EXAMPLE}")
    said = {name: value for name, value in table.items() if value is not None}
    return said | {"max_age": seconds_of(said["max_age"])} if "max_age" in said else said


def reserves_of(namespaces: Iterable[Namespace], log_size: int) -> list[tuple[bytes, int]]:
    """As a log of that size takes them; none if no namespace reserves anything. Raises ValueError where together they
    are not less than the log."""
    found = [(each.pattern.encode(), each.reserved_of(log_size)) for each in namespaces]
    together = sum(size for _, size in found)
    if together >= log_size:
        raise ValueError(
            f"the namespaces reserve {together} bytes, and log_size is {log_size}: together they reserve less than that"
        )
    return found if together else []


def rules_of(namespaces: Sequence[Namespace]) -> list[tuple[bytes, int, int, bool]]:
    """As the log's index takes them. What a relay has to find again no namespace hides."""
    return (
        [*((pattern, 0, 0, False) for pattern in OF_RELAYS), *(each.rule for each in namespaces)] if namespaces else []
    )


def is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


class Namespaces:
    """All of them, in their order. Which one a channel is of is found out once for each name, and remembered of the
    newest names."""

    __slots__ = ("_ranked", "_remembered", "all", "limit_publishers", "limit_streams")

    limit_streams: bool
    """Whether one says how many streams may name a channel."""
    limit_publishers: bool
    """Whether one asks for more than grants of who publishes."""

    def __init__(self, namespaces: Iterable[Namespace] = ()) -> None:
        self.all = tuple(namespaces)
        self._ranked = Ranked(each.pattern for each in self.all)
        self._remembered: OrderedDict[str, Namespace | None] = OrderedDict()
        self.limit_streams = any(each.max_connections is not None for each in self.all)
        self.limit_publishers = any(each.publish != "granted" for each in self.all)

    def of(self, channel: str) -> Namespace | None:
        """That rules this channel; None: none does."""
        if not self.all:
            return None
        try:
            return self._remembered[channel]
        except KeyError:
            place = self._ranked.first(channel)
            found = self.all[place] if place is not None else None
            self._remembered[channel] = found
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            return found

    def refuse_publisher(self, grants: Grants, channel: str) -> None:
        """Raise Forbidden or Unauthorized for who may not publish there, whatever they are granted."""
        if self.limit_publishers and (found := self.of(channel)) is not None:
            found.refuse_publisher(grants, channel)

    def lets_publish(self, grants: Grants, channel: str) -> bool:
        try:
            self.refuse_publisher(grants, channel)
        except (Forbidden, Unauthorized):
            return False
        return True

    def most_streams(self, channel: str) -> int | None:
        """That may name this channel; None: no namespace says it."""
        found = self.of(channel)
        return found.max_connections if found is not None else None

    def keeps_presence(self, channel: str, others: Patterns = NOTHING) -> bool:
        """Whether it is kept who is there; `others`: the channels of which it is where no namespace says so."""
        found = self.of(channel)
        return others.matches(channel) if found is None or found.presence is None else found.presence


NO_NAMESPACES = Namespaces()
