"""`?envelope=json`: an event as it was published, inside JSON that says where and when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sse_fast import EventParser
from sse_fast._native.wire.envelope import envelope
from sse_fast._native.wire.frame import encode

NOW = 1_795_354_509_123

texts = st.text(st.characters(codec="utf-8"))
hostile = st.lists(st.sampled_from(['"', "\\", "\t", "\n", "\x00", "\x1f", "\x7f", "\u2028", "é", "😀", " "])).map(
    "".join
)
types = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))
channel_names = st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from(['"', "\\", "room:42"])
LAST = int(datetime(9999, 12, 31, 23, 59, 59, 999000, UTC).timestamp()) * 1000 + 999
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    texts | hostile,
    types,
    st.none() | st.integers(0, 86_400_000),
    st.none() | st.just("abcdefgh-42"),
    st.lists(channel_names, min_size=1, max_size=4, unique=True),
    st.integers(0, LAST),
)
@example("", "", None, None, ["c"], 0)
@example("a\n\nb\n", 'a"b', 0, "abcdefgh-42", ["c", "d"], LAST)
def test_an_enveloped_event_says_where_and_when_and_is_otherwise_the_same(
    data: str, event: str | None, retry: int | None, id: str | None, channels: list[str], milliseconds: int
) -> None:
    frame = encode(data, event=event, retry=retry, id=id)
    [plain] = EventParser().feed(frame)
    [told] = EventParser().feed(envelope(frame, [name.encode() for name in channels], milliseconds))
    inside = orjson.loads(told.data)
    time = EPOCH + timedelta(milliseconds=milliseconds)
    expected: dict[str, Any] = {"channel": channels[0]}
    if len(channels) > 1:
        expected["channels"] = channels
    expected |= {"event": plain.event, "time": f"{time:%Y-%m-%dT%H:%M:%S.}{milliseconds % 1000:03}Z"}
    expected["time"] = expected["time"].zfill(TIME_SIZE)
    assert list(inside.items()) == list((expected | {"data": plain.data}).items())
    assert (told.event, told.id, told.retry) == (plain.event, plain.id, plain.retry)
    assert datetime.fromisoformat(inside["time"]) == time


TIME_SIZE = len("2026-11-22T13:35:09.123Z")


def test_an_event_has_a_channel() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        envelope(b"data: x\n\n", [], 0)


def test_it_is_this_line() -> None:
    frame = b'event: price\nretry: 5\ndata: {"EUR":1.10}\ndata: x\nid: abcdefgh-1\n\n'
    assert envelope(frame, [b"news"], NOW) == (
        b'event: price\nretry: 5\ndata: {"channel":"news","event":"price","time":"2026-11-22T13:35:09.123Z",'
        b'"data":"{\\"EUR\\":1.10}\\nx"}\nid: abcdefgh-1\n\n'
    )


@pytest.mark.parametrize("frame", [b"", b"\n", b"event: e\nid: abcdefgh-1\n\n", b": hello\n", b"id: abcdefgh-1\n\n"])
def test_what_is_no_event_to_a_client_stays_as_it_is(frame: bytes) -> None:
    assert envelope(frame, [b"news"], NOW) == frame


def test_a_gap_that_was_published_says_in_which_channels_and_when_beside_what_it_says() -> None:
    told = b'event: $gap\ndata: {"after":null,"until":"x-7"%b}\nid: abcdefgh-1\n\n'
    time = b',"time":"2026-11-22T13:35:09.123Z"'
    assert envelope(told % b"", [b"news"], NOW) == told % (b',"channel":"news"' + time)
    both = b',"channel":"news","channels":["news","a\\"b"]'
    assert envelope(told % b"", [b"news", b'a"b'], NOW) == told % (both + time)


@pytest.mark.parametrize("data", ["", "{}", "x", '{"a":1}\nx', "[1234567]"])
def test_a_gap_of_another_form_stays_as_it_is(data: str) -> None:
    frame = encode(data, event="$gap")
    assert envelope(frame, [b"news"], NOW) == frame


@given(st.binary())
def test_bytes_that_are_no_frame_do_no_harm(frame: bytes) -> None:
    envelope(frame, [b"news"], 2**64 - 1)
