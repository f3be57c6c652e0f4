"""Patterns of channel names: `orders:*`, `user:42:**`. What is granted by, and what streams may listen to.

A name is segments between colons. In a pattern `*` is exactly one segment, whatever it is; `**`, which stands last, is
one or more. Anything else is itself, so that a pattern without either is a name. `**` alone is every channel but the
server's own: no pattern that begins with a wildcard has a name that begins with `$`, so those have to be written out.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Self

from sse_fast.errors import InvalidEvent, InvalidPattern
from sse_fast.event_rules import brief, channel_name

FEW = 16  # patterns whose union is remembered
MAX_SEGMENTS = 16  # of a pattern with wildcards
WILDCARDS = ("*", "**")
WILDCARD_SEGMENTS = frozenset(WILDCARDS)
SET_BYTES, TEXT_BYTES, SEGMENT_BYTES = 768, 160, 250  # of memory: a set, each of its patterns, and what finds one
ANY = "\0"  # a segment that no name has: it stands for each that nobody wrote out


@lru_cache(maxsize=4096)
def segments_of(pattern: str) -> tuple[str, ...]:
    """The segments of a pattern. Raises InvalidPattern."""
    try:
        channel_name(pattern)
    except InvalidEvent as error:
        raise InvalidPattern(f"the pattern {brief(pattern)} is none: {error}") from None
    segments = tuple(pattern.split(":"))
    for place, segment in enumerate(segments, 1):
        if "*" in segment and segment not in WILDCARDS:
            raise InvalidPattern(
                f"the pattern {brief(pattern)} has a '*' within a segment, {brief(segment)}; '*' stands for a whole "
                "one between colons, as in 'orders:*', and '**' for all that follow, as in 'orders:**'"
            )
        if segment == "**" and place < len(segments):
            raise InvalidPattern(
                f"the pattern {brief(pattern)} has '**' before its end; it stands last, and '*' for one segment before"
            )
    if "*" in pattern and len(segments) > MAX_SEGMENTS:
        raise InvalidPattern(
            f"a pattern with wildcards has at most {MAX_SEGMENTS} segments; {brief(pattern)} has {len(segments)}"
        )
    return segments


def has_wildcard(name: str) -> bool:
    """Whether one of its segments is one."""
    return "*" in name and not WILDCARD_SEGMENTS.isdisjoint(name.split(":"))


def is_name(pattern: str) -> bool:
    """Whether it has no wildcard. Raises InvalidPattern."""
    segments_of(pattern)
    return "*" not in pattern


class _Node:
    """Where the patterns are that begin alike. ends: one does here. rest: one goes on with `**`. Both are the number of
    the first that does, or 0."""

    __slots__ = ("ends", "named", "one", "rest")

    def __init__(self) -> None:
        self.named: dict[str, _Node] = {}
        self.one: _Node | None = None  # behind `*`
        self.ends = self.rest = 0

    def add(self, segments: Sequence[str], number: int = 1) -> None:
        node = self
        for segment in segments:
            if segment == "**":
                node.rest = node.rest or number
                return
            if segment == "*":
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.named.setdefault(segment, _Node())
        node.ends = node.ends or number

    def has(self, segments: Sequence[str]) -> bool:
        """Whether one of the patterns below is of this. It costs no more than there are nodes, whatever is asked."""
        wild = segments[0][:1] != "$"
        nodes = [self]
        for segment in segments:
            if wild and any(node.rest for node in nodes):
                return True
            further = [node.named[segment] for node in nodes if segment in node.named]
            if wild:
                further += [node.one for node in nodes if node.one is not None]
            if not further:
                return False
            nodes, wild = further, True
        return any(node.ends for node in nodes)

    def first(self, segments: Sequence[str]) -> int:
        """The lowest number of a pattern below that is of this; 0: none is. It costs as much."""
        wild = segments[0][:1] != "$"
        nodes, found = [self], []
        for segment in segments:
            if wild:
                found += [node.rest for node in nodes if node.rest]
            further = [node.named[segment] for node in nodes if segment in node.named]
            if wild:
                further += [node.one for node in nodes if node.one is not None]
            nodes, wild = further, True
            if not nodes:
                break
        return min(found + [node.ends for node in nodes if node.ends], default=0)


class Patterns:
    """A set of patterns. Immutable; equal to one of the same patterns."""

    __slots__ = ("_hash", "_names", "_wild", "everything", "texts")

    texts: tuple[str, ...]
    """The patterns, sorted, each once."""
    everything: bool
    """Whether it has all names, those of the server too."""

    def __init__(self, texts: Iterable[str] = (), *, everything: bool = False) -> None:
        """Raises InvalidPattern."""
        self.texts = tuple(sorted({"**"} if everything else set(texts)))
        self.everything = everything
        self._hash = hash((self.texts, everything))
        self._names = frozenset(text for text in self.texts if is_name(text))
        self._wild = _Node() if len(self._names) < len(self.texts) else None
        for text in self.texts:
            if self._wild is not None and text not in self._names:
                self._wild.add(segments_of(text))

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Raises InvalidPattern."""
        return cls(texts)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, at most."""
        wild = sum(text.count(":") + 1 for text in self.texts if text not in self._names)
        return SET_BYTES + sum(TEXT_BYTES + 4 * len(text) for text in self.texts) + SEGMENT_BYTES * wild

    def matches(self, name: str) -> bool:
        """Whether this channel is among them."""
        if self.everything or name in self._names:
            return True
        return self._wild is not None and self._wild.has(name.split(":"))

    def covers(self, pattern: str) -> bool:
        """Whether every channel that `pattern` could have is among them; of a name it is `matches`. Raises
        InvalidPattern.

        As there are more segments than anybody can write out, a wildcard is tried with one that nobody did, and `**`
        with as many as could make a difference.
        """
        if is_name(pattern) or self.everything:
            return self.matches(pattern)
        if self._wild is None:
            return False
        segments = segments_of(pattern)
        tried = [ANY if segment in WILDCARDS else segment for segment in segments]
        further = MAX_SEGMENTS + 1 - len(tried) if segments[-1] == "**" else 0
        return all(self._wild.has([*tried, *[ANY] * more]) for more in range(further + 1))

    def __or__(self, other: "Patterns") -> "Patterns":
        if self.everything or other.everything:
            return EVERYTHING
        if not other.texts:
            return self
        if not self.texts:
            return other
        few = len(self.texts) <= FEW and len(other.texts) <= FEW
        return _remembered_union(self, other) if few else _union(self, other)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patterns):
            return NotImplemented
        return (self.texts, self.everything) == (other.texts, other.everything)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "EVERYTHING" if self.everything else f"Patterns({brief(list(self.texts))})"


class Ranked:
    """Patterns in an order: the first of them that has a name."""

    __slots__ = ("_root",)

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises InvalidPattern."""
        self._root = _Node()
        for number, pattern in enumerate(patterns, 1):
            self._root.add(segments_of(pattern), number)

    def first(self, name: str) -> int | None:
        """Its place among them; None: none has it. It costs by the segments of the name, not by the patterns."""
        number = self._root.first(name.split(":"))
        return number - 1 if number else None


def _union(one: Patterns, other: Patterns) -> Patterns:
    return Patterns((*one.texts, *other.texts))


_remembered_union = lru_cache(maxsize=1024)(_union)  # what an app grants, with what everybody may


NOTHING = Patterns()
EVERYTHING = Patterns(everything=True)
