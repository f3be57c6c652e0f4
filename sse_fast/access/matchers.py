"""Topic matchers of Mercure: what a subscriber listens to, and what a token grants.

`exact` is the topic itself; `urlpattern` a URL pattern (WHATWG URL Pattern Standard), by the hub's URL where it is
relative; `template`, of the 0.x hub, the topic itself or a URI template that it expands; `pattern`, one of our own,
by which nobody subscribes. `*` is every topic, whichever
kind is said. A topic is tried in a time that is bounded, whatever a stranger's matcher is: both engines are linear, and
what they are given is small.
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from enum import StrEnum

from sse_fast.access.patterns import Patterns
from sse_fast.errors import InvalidPattern
from sse_fast.event_rules import brief

MAX_MATCHER = 2048  # bytes
MOST_GROUPS = 32  # of a URL pattern: names, wildcards and regular expressions
MOST_WEIGHT = 500  # of its regular expressions, in letters of what they stand for written out
CLASS_WEIGHT = 100  # letters that a class of Unicode weighs
MOST_KEPT = 1024  # weight of the matchers that are kept for who asks for the same
MOST_OF_ONE = 48  # what one matcher weighs at most; so anybody may have one
NOWHERE = "https://mercure.invalid/.well-known/mercure"  # the hub's URL where nobody said it (RFC 6761, section 6.4)

PLAIN = re.compile(r"[\x20-\x7e]*")
COUNTS = re.compile(r"\{(?:[0-9]+,)?([0-9]+)[,}]")
NESTED = re.compile(r"\)\{[0-9]")
CLASSES = re.compile(r"\\[dDwWsSpPbB]")
GROUPS = re.compile(r":[^\W\d]|\*|\(")


class Kind(StrEnum):
    EXACT = "exact"
    URLPATTERN = "urlpattern"
    TEMPLATE = "template"
    PATTERN = "pattern"


def bad_character(text: str) -> str | None:
    """The first that neither topics nor matchers, ids and types may have (C0, DEL, C1 and Unicode's Cf); None: all are
    good. Lone surrogates are none of UTF-8."""
    if PLAIN.fullmatch(text):
        return None
    for letter in text:
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs"):
            return letter
    return None


class Matcher:
    """Matcher(kind, text): equal to one of the same kind and text, and the same hub. Raises InvalidPattern.

    exact: the one topic that it has; None: topics have to be tried. everything: it is `*`. literal: what all topics
    begin with that it has. weight: about how much it
    takes to make and to hold, as `weight_of` has it; 0: next to nothing."""

    __slots__ = ("_hash", "_of", "_tried", "everything", "exact", "kind", "literal", "text", "weight")

    def __init__(self, kind: Kind, text: str, hub: str = NOWHERE) -> None:
        self.kind, self.text = kind, text
        self._of = (kind, text, hub if kind is Kind.URLPATTERN else "")
        self._hash = hash(self._of)
        refuse_bad(text)
        self.everything = text == "*"
        self.exact: str | None = None
        self.weight, self.literal = 0, ""
        self._tried: _UrlPattern | _Template | _Pattern | None = None
        if self.everything:
            return
        if kind is Kind.URLPATTERN:
            self._tried = _UrlPattern(text, hub)
        elif kind is Kind.PATTERN and "*" in text:
            self._tried = _Pattern(text)
        elif kind is Kind.TEMPLATE and "{" in text:
            self._tried = _template(text)
        if self._tried is None:
            self.exact = text
        else:
            self.weight = weight_of(kind, text)
            if kind is Kind.TEMPLATE:
                self.literal = text.partition("{")[0]

    def matches(self, topic: str) -> bool:
        if self._tried is None:
            return self.everything or topic == self.exact
        return (self.kind is Kind.TEMPLATE and topic == self.text) or self._tried.fits(topic)

    def __eq__(self, other: object) -> bool:
        return self._of == other._of if isinstance(other, Matcher) else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Matcher({self.kind}, {brief(self.text)})"


class Matchers:
    """A set of them. Immutable; equal to one of the same matchers. listed: each once, in their order. exact: the topics
    of those that have one. others: those that have to be tried. everything: one of them is `*`."""

    __slots__ = ("_hash", "everything", "exact", "listed", "others")

    def __init__(self, matchers: Iterable[Matcher] = (), *, everything: bool = False) -> None:
        self.listed = given = tuple(dict.fromkeys(matchers))
        self.exact = frozenset(matcher.exact for matcher in given if matcher.exact is not None)
        self.others = tuple(matcher for matcher in given if matcher.exact is None and not matcher.everything)
        self.everything = everything or any(matcher.everything for matcher in given)
        self._hash = hash((self.exact, self.others, self.everything))

    def matches(self, topic: str) -> bool:
        return self.everything or topic in self.exact or any(matcher.matches(topic) for matcher in self.others)

    def __or__(self, other: "Matchers") -> "Matchers":
        if not other or self == other:
            return self
        return Matchers((*self.listed, *other.listed), everything=self.everything or other.everything)

    def __bool__(self) -> bool:
        return self.everything or bool(self.exact or self.others)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Matchers):
            return NotImplemented
        return (self.exact, self.others, self.everything) == (other.exact, other.others, other.everything)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "ALL" if self.everything else f"Matchers({brief([*sorted(self.exact), *self.others])})"


_kept: dict[tuple[Kind, str, str], Matcher] = {}  # the one that was made last is the last
_kept_weight = 0


def matcher(kind: Kind, text: str, hub: str = NOWHERE) -> Matcher:
    """`Matcher(…)`, made once for many who ask for the same; those that weigh much are kept while they are few."""
    global _kept_weight
    asked = (kind, text, hub)
    found = _kept.get(asked)
    if found is None:
        found = Matcher(kind, text, hub)
        if found.weight:
            _kept[asked] = found
            _kept_weight += found.weight
            while _kept_weight > MOST_KEPT:
                _kept_weight -= _kept.pop(next(iter(_kept))).weight
    return found


def weight_of(kind: Kind, text: str) -> int:
    """Of a matcher, before it is made: a plain template weighs 2, a plain URL pattern 4."""
    if text == "*":
        return 0
    if kind is Kind.URLPATTERN:
        return min(4 + len(GROUPS.findall(text)) // 4 + _weight(text) // 8, MOST_OF_ONE)
    if kind is Kind.TEMPLATE and "{" in text:
        return min(2 + (text.count("{") + text.count(",")) // 4, MOST_OF_ONE)
    return 1 if kind is Kind.PATTERN and "*" in text else 0


def refuse_bad(text: str) -> None:
    """Raise InvalidPattern for a text that no matcher may have."""
    if not text:
        raise InvalidPattern("a topic matcher has at least one character")
    if (bad := bad_character(text)) is not None:
        raise InvalidPattern(
            f"a topic matcher has no control and no format characters; {brief(text)} has {bad!a} at {text.index(bad)}"
        )
    if (length := len(text.encode())) > MAX_MATCHER:
        raise InvalidPattern(f"a topic matcher has at most {MAX_MATCHER} bytes; this one has {length}")


class _UrlPattern:
    __slots__ = ("_hub", "_pattern")

    def __init__(self, text: str, hub: str) -> None:
        """Raises InvalidPattern."""
        from urlpattern import URLPattern  # here, as it is loaded by who speaks Mercure alone

        if len(GROUPS.findall(text)) > MOST_GROUPS or _weight(text) > MOST_WEIGHT:
            raise InvalidPattern(
                f"a URL pattern has at most {MOST_GROUPS} names and wildcards, and short regular expressions; "
                f"{brief(text)} has more than is tried here"
            )
        self._hub = hub
        try:
            self._pattern = URLPattern(text, hub)
        except Exception as error:
            raise InvalidPattern(f"{brief(text)} is no URL pattern: {error}") from None

    def fits(self, topic: str) -> bool:
        try:
            return self._pattern.test(topic, self._hub)
        except Exception:  # a topic that is no URL, for which no pattern fits
            return False


class _Template:
    __slots__ = ("_compiled",)

    def __init__(self, text: str) -> None:
        from sse_fast.access.templates import compiled

        self._compiled = compiled(text)

    def fits(self, topic: str) -> bool:
        return self._compiled.fullmatch(topic) is not None


class _Pattern:
    __slots__ = ("_patterns",)

    def __init__(self, text: str) -> None:
        """Raises InvalidPattern."""
        self._patterns = Patterns.of((text,))

    def fits(self, topic: str) -> bool:
        return self._patterns.matches(topic)


def _template(text: str) -> "_Template | None":
    """None: it is none, so a topic of just these letters is meant."""
    try:
        return _Template(text)
    except ValueError:
        return None


def _weight(text: str) -> int:
    """Of its regular expressions, about as many letters as they would have if what is counted were written out."""
    if "(" not in text:
        return 0
    inner = text[text.index("(") :]
    counts = [min(int(count), 10_000) for count in COUNTS.findall(inner)] or [1]
    times = math.prod(counts) if NESTED.search(inner) else max(counts)
    return (len(inner) + CLASS_WEIGHT * len(CLASSES.findall(inner))) * max(times, 1)


def matchers_of(kind: Kind, texts: Iterable[str], hub: str = NOWHERE) -> Matchers:
    """Raises InvalidPattern."""
    return Matchers(matcher(kind, text, hub) for text in texts)


NO_MATCHERS = Matchers()
ALL = Matchers(everything=True)
