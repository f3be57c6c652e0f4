"""The native matcher of typed channels, beside the templates that it is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast import InvalidEvent
from sse_fast._native.wire.publication import encode_publication
from sse_fast._native.wire.templates import TypedChannels
from sse_fast.schema.templates import Template

PIECES = st.sampled_from(["", "a", "b", "ab", "ü"])
SEGMENTS = st.tuples(PIECES, st.sampled_from(["", "{%}"]), PIECES).map("".join).filter(bool)
TEMPLATES = st.lists(SEGMENTS, min_size=1, max_size=3).map(
    lambda given: ":".join(each.replace("%", f"p{place}") for place, each in enumerate(given))
)


@given(st.lists(TEMPLATES, max_size=4), st.lists(st.text("abü", max_size=4), min_size=1, max_size=4).map(":".join))
def test_the_native_matcher_has_the_names_that_the_templates_have(texts: list[str], name: str) -> None:
    templates = [Template(text) for text in texts]
    found = TypedChannels([each.encoded for each in templates], print).find(name.encode())
    having = [place for place, each in enumerate(templates) if each.read(name) is not None]
    assert found in having if having else found == -1


def test_of_several_channels_each_typed_one_is_looked_at_with_the_frame() -> None:
    looked: list[tuple[int, bytes, bytes]] = []
    templates = [Template("item:{id}").encoded, Template("x").encoded]
    typed = TypedChannels(templates, lambda *what: looked.append(what))
    names, frame = encode_publication(["a", "x", "item:7", "item:"], "d", event="e", limit=100, typed=typed)
    assert names == (b"a", b"x", b"item:7", b"item:")
    assert looked == [(1, b"x", frame), (0, b"item:7", frame)]


def test_what_is_refused_is_not_encoded() -> None:
    def refuse(*what: object) -> None:
        raise InvalidEvent("it does not fit")

    typed = TypedChannels([Template("x").encoded], refuse)
    encode_publication("y", "d", limit=100, typed=typed)
    for channel in ("x", ["y", "x"]):
        with pytest.raises(InvalidEvent, match="it does not fit"):
            encode_publication(channel, "d", limit=100, typed=typed)
