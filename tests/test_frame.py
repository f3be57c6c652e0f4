"""The encoder: exact bytes where WIRE fixes them, and an independent parser for the rest."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from whatwg import Event, Parser

from sse_fast._native.wire.frame import encode
from sse_fast.errors import InvalidEvent, MistypedEvent

BOM = "\ufeff"
LINE_ENDS = re.compile(r"\r\n|\r|\n")

# Any text, and text in which what could go wrong is frequent.
pieces = st.sampled_from(["\r", "\n", "\r\n", " ", ":", "\0", BOM, "\u2028", "\x85", "data: ", "id", "é", "😀"])
texts = st.text() | st.lists(pieces).map("".join)
names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))
delays = st.integers(0, 2**63 - 1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Keyword arguments of one event that has data."""
    optional = {"event": names, "id": names, "retry": delays, "comment": texts}
    return draw(st.fixed_dictionaries({"data": texts}, optional=optional))


def as_received(text: str) -> str:
    """Line ends as a parser hands them on."""
    return LINE_ENDS.sub("\n", text)


def feed_in_pieces(parser: Parser, stream: bytes, cuts: list[int]) -> list[Event]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [event for start, end in pairwise(edges) for event in parser.feed(stream[start:end])]


def parse(stream: bytes) -> list[Event]:
    return Parser().feed(stream)


# The form


def test_the_fields_stand_in_the_order_comment_event_retry_data_id() -> None:
    frame = encode("x", event="e", id="1", retry=5, comment="c")
    assert frame == b": c\nevent: e\nretry: 5\ndata: x\nid: 1\n\n"


def test_an_empty_string_is_one_data_line_and_reaches_the_client_as_an_event() -> None:
    assert encode("") == encode(b"") == b"data:\n\n"
    assert parse(encode("")) == [Event("message", "", "")]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_data_and_comments_are_split_at_lf_cr_and_crlf_and_written_with_lf(end: str) -> None:
    text = end.join(["one", "", "two"])
    assert encode(text) == encode(text.encode()) == b"data: one\ndata:\ndata: two\n\n"
    assert encode("x", comment=text) == b": one\n:\n: two\ndata: x\n\n"


def test_an_lf_before_a_cr_is_two_line_ends() -> None:
    assert encode("a\n\rb\r\r\nc") == b"data: a\ndata:\ndata: b\ndata:\ndata: c\n\n"


@pytest.mark.parametrize("char", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_characters_at_which_only_splitlines_splits_are_data(char: str) -> None:
    frame = f"data: a{char}b\n\n".encode()
    assert encode(f"a{char}b") == encode(f"a{char}b".encode()) == frame
    assert encode("x", comment=f"a{char}b") == f": a{char}b\ndata: x\n\n".encode()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_trailing_newline_is_kept_as_an_empty_last_data_line(end: str) -> None:
    assert encode("a" + end) == b"data: a\ndata:\n\n"
    assert parse(encode("a" + end))[0].data == "a\n"


@pytest.mark.parametrize("text", [" x", "  x", " ", ": x", " \n x"])
def test_leading_spaces_and_colons_of_data_survive(text: str) -> None:
    assert parse(encode(text))[0].data == text


def test_leading_spaces_of_id_and_event_survive() -> None:
    assert parse(encode("x", id=" 1", event=" e")) == [Event(" e", "x", " 1")]


def test_nul_in_data_and_comments_is_data() -> None:
    assert encode("a\0b", comment="\0") == b": \0\ndata: a\0b\n\n"


def test_an_empty_id_clears_the_last_event_id_and_an_empty_event_is_a_message() -> None:
    assert parse(encode("x", id="1") + encode("y", id="", event=""))[1] == Event("message", "y", "")


# BOM


@given(fields())
def test_no_frame_begins_with_a_bom(event: dict[str, Any]) -> None:
    assert not encode(**event).startswith(BOM.encode())


def test_a_bom_inside_the_fields_is_data_even_in_the_first_frame_of_a_stream() -> None:
    assert parse(encode(BOM + "x", event=BOM, id=BOM, comment=BOM)) == [Event(BOM, BOM + "x", BOM)]
    assert parse(encode((BOM + "x").encode())) == [Event("message", BOM + "x", "")]
    assert parse(encode(data=None, comment=BOM)) == [Event("message", "null", "")]


# What is refused


@pytest.mark.parametrize("field", ["id", "event"])
@pytest.mark.parametrize("char", ["\r", "\n", "\0"])
@pytest.mark.parametrize("before", ["", "é", "a long name that fills more than one vector register"])
def test_cr_lf_and_nul_in_id_and_event_are_refused_with_their_place(field: str, char: str, before: str) -> None:
    wrong: dict[str, Any] = {field: f"{before}{char}data: forged"}
    message = f"{field} has {char!r} at index {len(before)}; it must be one line"
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        encode("x", **wrong)


def test_a_negative_retry_is_refused() -> None:
    for retry in (-1, -(2**70)):
        with pytest.raises(InvalidEvent, match="retry is negative; it must be 0 to"):
            encode("x", retry=retry)


def test_a_retry_beyond_64_bits_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="retry is too large; it must be 0 to"):
        encode("x", retry=2**63)


@pytest.mark.parametrize("retry", [True, False, 1.0, "1", b"1"])
def test_a_retry_that_is_not_an_int_is_refused_and_bool_is_not_an_int(retry: Any) -> None:
    with pytest.raises(MistypedEvent, match=f"retry must be int .* not {type(retry).__name__}"):
        encode("x", retry=retry)


@pytest.mark.parametrize("field", ["data", "id", "event", "comment"])
@pytest.mark.parametrize("surrogate", [0xD800, 0xDC80, 0xDFFF])
def test_lone_surrogates_are_refused_with_their_place(field: str, surrogate: int) -> None:
    wrong: dict[str, Any] = {"data": "x", field: f"aé{chr(surrogate)}"}
    with pytest.raises(InvalidEvent, match=rf"{field} has a lone surrogate, U\+{surrogate:04X}, at index 2"):
        encode(**wrong)


@pytest.mark.parametrize(
    ("value", "place"),
    [({"a": "\ud800"}, r"data\.a"), ({"\ud800": 1}, r"data\['\\ud800'\]"), (["\udc80"], r"data\[0\]")],
)
def test_lone_surrogates_inside_json_are_refused_with_their_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{place} has a lone surrogate, U\+D"):
        encode(value)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b"\xff", 0),
        (b"ab\x80", 2),
        ("é".encode()[:1], 0),
        (b"\r\n\xc0\xaf", 2),
        (b"a\xed\xa0\x80", 1),
        (b"x" * 99 + b"\xe9", 99),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_with_their_place(raw: bytes, place: int) -> None:
    with pytest.raises(InvalidEvent, match=f"data is not valid UTF-8: .* at byte {place};"):
        encode(raw)


@pytest.mark.parametrize("field", ["id", "event", "comment"])
@pytest.mark.parametrize("value", [b"x", 5, ["x"]])
def test_id_event_and_comment_of_a_type_other_than_str_are_refused(field: str, value: Any) -> None:
    with pytest.raises(MistypedEvent, match=f"{field} must be str or None, not {type(value).__name__}"):
        encode("x", **{field: value})


def test_an_event_of_a_wrong_type_is_an_invalid_event_and_a_type_error() -> None:
    assert issubclass(MistypedEvent, InvalidEvent)
    assert issubclass(MistypedEvent, TypeError)


def test_no_field_at_all_is_refused() -> None:
    with pytest.raises(MistypedEvent, match="needs data, or at least one of"):
        encode()


# JSON


def test_json_values_are_sent_compact_and_none_is_null() -> None:
    assert encode({"a": [1, True, None], "é": "x\ny"}) == 'data: {"a":[1,true,null],"é":"x\\ny"}\n\n'.encode()
    assert encode(None) == b"data: null\n\n"
    assert encode(0) == b"data: 0\n\n"
    assert encode(False) == b"data: false\n\n"
    assert encode([]) == b"data: []\n\n"


def test_whatever_else_orjson_takes_is_taken() -> None:
    @dataclass
    class Point:
        x: int
        at: datetime

    assert encode(Point(1, datetime(2026, 1, 2, tzinfo=UTC))) == b'data: {"x":1,"at":"2026-01-02T00:00:00+00:00"}\n\n'


def test_subclasses_of_str_bytes_and_int_are_what_they_derive_from() -> None:
    class Name(StrEnum):
        MOVED = "moved"

    class Delay(IntEnum):
        LONG = 9000

    class Raw(bytes):
        pass

    assert encode(Name.MOVED, event=Name.MOVED, retry=Delay.LONG) == b"event: moved\nretry: 9000\ndata: moved\n\n"
    assert encode(Raw(b"x")) == b"data: x\n\n"


@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_a_json_value_comes_back_as_itself(value: Any) -> None:
    [event] = parse(encode(value))
    assert json.loads(event.data) == value


# Frames without data


def test_a_comment_or_retry_alone_has_no_blank_line_at_which_a_client_could_deliver_an_empty_event() -> None:
    assert encode(comment="") == b":\n"
    assert encode(comment="hi\nyou") == b": hi\n: you\n"
    assert encode(retry=3000, comment="") == b":\nretry: 3000\n"
    assert encode(retry=0) == b"retry: 0\n"


def test_an_id_alone_takes_effect_at_once_and_delivers_nothing() -> None:
    parser = Parser()
    assert parser.feed(encode(id="7")) == []
    assert parser.last_event_id == "7"


def test_an_event_without_data_delivers_nothing_and_does_not_name_the_next() -> None:
    assert parse(encode(event="a") + encode("x")) == [Event("message", "x", "")]


@given(texts, st.none() | delays)
def test_a_comment_never_makes_an_event_and_never_changes_the_next(comment: str, retry: int | None) -> None:
    frame = encode(comment=comment, retry=retry)
    assert all(line.startswith((b":", b"retry: ")) for line in frame.removesuffix(b"\n").split(b"\n"))
    assert parse(frame + b"\n\n") == []
    assert parse(frame + encode("x", event="e", id="1")) == [Event("e", "x", "1")]


# Any text


@given(fields(), st.lists(st.integers(0, 10_000), max_size=5))
@example({"data": "\r\n\n\r", "comment": "\r\n"}, [])
def test_what_a_client_parses_is_what_was_encoded(sent: dict[str, Any], cuts: list[int]) -> None:
    parser = Parser()
    received = feed_in_pieces(parser, encode(**sent), cuts)
    assert received == [Event(sent.get("event") or "message", as_received(sent["data"]), sent.get("id", ""))]
    assert parser.reconnection_time == sent.get("retry")
    assert parser.last_event_id == sent.get("id", "")


@given(fields())
def test_bytes_are_encoded_as_the_text_they_stand_for(sent: dict[str, Any]) -> None:
    assert encode(**{**sent, "data": sent["data"].encode()}) == encode(**sent)


@given(st.binary())
def test_bytes_are_taken_if_and_only_if_they_are_utf8(raw: bytes) -> None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        with pytest.raises(InvalidEvent):
            encode(raw)
    else:
        assert encode(raw) == encode(text)


@given(fields())
def test_there_is_no_cr_and_a_blank_line_only_at_the_end(sent: dict[str, Any]) -> None:
    frame = encode(**sent)
    assert b"\r" not in frame
    assert frame.index(b"\n\n") == len(frame) - 2


@given(st.lists(fields(), max_size=6), st.lists(st.integers(0, 100_000), max_size=8))
def test_a_sequence_of_frames_parses_to_the_same_sequence(sent: list[dict[str, Any]], cuts: list[int]) -> None:
    expected, last_id = [], ""
    for event in sent:
        last_id = event.get("id", last_id)
        expected.append(Event(event.get("event") or "message", as_received(event["data"]), last_id))
    stream = b"".join(encode(**event) for event in sent)
    assert feed_in_pieces(Parser(), stream, cuts) == expected


@given(fields(), st.from_regex("[a-z0-9]{8}-[0-9]{1,20}", fullmatch=True))
def test_a_frame_without_id_takes_an_id_line_put_before_it(sent: dict[str, Any], event_id: str) -> None:
    sent.pop("id", None)
    frame = b"id: " + event_id.encode() + b"\n" + encode(**sent)
    parser = Parser()
    assert parser.feed(frame) == [Event(sent.get("event") or "message", as_received(sent["data"]), event_id)]
    assert parser.reconnection_time == sent.get("retry")


@given(st.integers(0, 300), st.sampled_from(["x", "é", "\n", "x\n", "\r", "\r\n"]))
def test_no_length_of_text_is_special(length: int, piece: str) -> None:
    """Lengths on either side of every vector width, for the scans that take many bytes at a time."""
    text = piece * length
    assert parse(encode(text)) == [Event("message", as_received(text), "")]
