"""Patterns of channels: which names they have, and which patterns are within others."""

import gc
import re
import tracemalloc
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast.access.patterns import EVERYTHING, MAX_SEGMENTS, NOTHING, Patterns
from sse_fast.errors import InvalidEvent, InvalidPattern


@pytest.mark.parametrize(
    ("pattern", "has", "has_not"),
    [
        ("orders", ["orders"], ["orders:1", "order", ""]),
        ("orders:*", ["orders:1", "orders:", "orders:*"], ["orders", "orders:1:2", "orderss:1"]),
        ("orders:**", ["orders:1", "orders:1:2", "orders::"], ["orders", "order:1"]),
        ("*", ["orders", "*"], ["orders:1", "$stats"]),
        ("**", ["orders", "orders:1:2", ":"], ["$stats", "$presence:a"]),
        ("*:1:**", ["a:1:2", "b:1:2:3"], ["a:1", "a:2:1", "$presence:1:2"]),
        ("a:*:c", ["a:b:c", "a::c"], ["a:b:c:d", "a:c"]),
        ("$presence:*", ["$presence:a"], ["$stats", "$presence:a:b"]),
        ("$presence:**", ["$presence:a", "$presence:a:b"], ["$stats"]),
        ("a:*:**", ["a:b:c", "a:b:c:d"], ["a:b"]),
        ("é:*", ["é:ü"], ["e:ü"]),
    ],
)
def test_a_pattern_has_these_names_and_not_those(pattern: str, has: list[str], has_not: list[str]) -> None:
    patterns = Patterns.of([pattern])
    assert [name for name in has if not patterns.matches(name)] == []
    assert [name for name in has_not if patterns.matches(name)] == []


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "at least one character"),
        ("ord*", r"within a segment, 'ord\*'.*'orders:\*'"),
        ("a:***", r"within a segment, '\*\*\*'"),
        ("**:a", "stands last"),
        ("a:**:b", "stands last"),
        ("a b:*", "white space"),
        ("x" * 2049, "2048 bytes"),
        (":".join("a" * MAX_SEGMENTS) + ":*", "at most 16 segments.*has 17"),
    ],
)
def test_what_is_no_pattern_is_refused_in_words_that_say_what_would_be_right(pattern: str, why: str) -> None:
    with pytest.raises(InvalidPattern, match=why):
        Patterns.of([pattern])
    with pytest.raises(InvalidEvent):
        EVERYTHING.covers(pattern)


def test_a_name_of_many_segments_is_no_pattern_of_many() -> None:
    name = ":".join("a" * 40)
    assert Patterns.of([name]).matches(name)
    assert Patterns.of(["a:**"]).covers(name)


def test_nothing_has_no_name_and_everything_has_the_server_s_too() -> None:
    for name in ("a", "a:b", "$stats", "*"):
        assert not NOTHING.matches(name)
        assert EVERYTHING.matches(name)
    assert EVERYTHING.covers("$presence:**")
    assert not Patterns.of(["**"]).covers("$presence:**")
    assert not NOTHING.covers("a")
    assert (bool(NOTHING), bool(EVERYTHING)) == (False, True)


@pytest.mark.parametrize(
    ("ours", "covered", "not_covered"),
    [
        (["a:*"], ["a:*", "a:b", "a:"], ["a:**", "*:*", "a:*:*", "a", "**"]),
        (["a:**"], ["a:*", "a:**", "a:*:*", "a:b:**", "a:*:c"], ["**", "a", "*:**"]),
        (["**"], ["**", "*", "a:*", "*:a:**"], ["$stats", "$presence:*"]),
        (["a:*", "a:*:**"], ["a:**", "a:*", "a:b:c"], ["a"]),
        (["a:*", "a:*:*:**"], ["a:*", "a:*:*:*"], ["a:**", "a:*:*"]),
        (["*", "*:**"], ["**", "a:**"], ["$stats"]),
        (["a", "b"], ["a", "b"], ["*"]),
        (["$presence:*"], ["$presence:*", "$presence:a"], ["$presence:**", "*:*"]),
    ],
)
def test_a_pattern_is_covered_where_each_of_its_names_is(
    ours: list[str], covered: list[str], not_covered: list[str]
) -> None:
    patterns = Patterns.of(ours)
    assert [pattern for pattern in covered if not patterns.covers(pattern)] == []
    assert [pattern for pattern in not_covered if patterns.covers(pattern)] == []


SEGMENTS = ["", "a", "b", "$a", "*"]
names = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map(":".join).filter(bool)
texts = st.builds(
    lambda segments, rest: ":".join([*segments, *rest]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3),
    st.sampled_from([[], ["**"]]),
).filter(bool) | st.just("**")
several = st.lists(texts, max_size=5)


def says(pattern: str, name: str) -> bool:
    """The grammar once more, as one regular expression."""
    parts = [{"*": "[^:]*", "**": ".*"}.get(segment, re.escape(segment)) for segment in pattern.split(":")]
    if name.startswith("$") and pattern.startswith("*"):
        return False
    return re.fullmatch(":".join(parts), name) is not None


@given(several, names)
def test_what_they_have_is_what_a_regular_expression_has(ours: list[str], name: str) -> None:
    assert Patterns.of(ours).matches(name) == any(says(pattern, name) for pattern in ours)


@given(texts, names)
def test_what_a_pattern_has_fnmatch_has_too(pattern: str, name: str) -> None:
    if Patterns.of([pattern]).matches(name):
        assert fnmatchcase(name, pattern)


@given(several, texts)
def test_covering_is_having_every_name_that_could_be(ours: list[str], pattern: str) -> None:
    patterns = Patterns.of(ours)
    segments = pattern.split(":")
    tails = [":".join(segments[:-1] + ["new"] * n) for n in range(1, 9)] if segments[-1] == "**" else [pattern]
    could_be = [":".join("new" if segment == "*" else segment for segment in tail.split(":")) for tail in tails]
    assert patterns.covers(pattern) == all(map(patterns.matches, could_be))


@given(several, several, names)
def test_both_together_have_what_either_has(some: list[str], others: list[str], name: str) -> None:
    both = Patterns.of(some) | Patterns.of(others)
    assert both.matches(name) == (Patterns.of(some).matches(name) or Patterns.of(others).matches(name))
    assert both == Patterns.of(others) | Patterns.of(some)
    assert hash(both) == hash(Patterns.of([*some, *others]))
    assert (both | EVERYTHING) is EVERYTHING


def test_a_name_that_looks_like_many_wildcards_costs_no_more_than_the_patterns_are_long() -> None:
    wild = Patterns.of([":".join(["*"] * n) for n in range(1, MAX_SEGMENTS + 1)] + [":".join(["*"] * 14 + ["a"])])
    assert not wild.matches(":".join(["*"] * 100))
    assert wild.matches(":".join(["*"] * MAX_SEGMENTS))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["orders:*"],
        [f"r:{n}:x" for n in range(400)],
        [f"r:{n}:*" for n in range(400)],
        [f"{chr(0x4E00 + n)}:*" for n in range(700)],
        [f"{n}:a:b:c:d:e:f:g:h:i:j:k:l:m:*" for n in range(150)],
        [f"*:{n}:*:*:*:*:*:*:*:*:*:*:*:*:*:**" for n in range(150)],
        [f"{chr(0x1F600 + n)}abc" for n in range(500)],
    ],
    ids=["none", "one", "names", "wild", "short", "deep", "wildest", "unicode"],
)
def test_they_take_no_more_memory_than_they_say(texts: list[str]) -> None:
    Patterns.of(texts)  # their segments are remembered once
    tracemalloc.start()
    try:
        patterns = Patterns.of([text[:1] + text[1:] for text in texts])
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] <= patterns.size
    finally:
        tracemalloc.stop()
