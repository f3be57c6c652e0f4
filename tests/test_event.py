"""Events, ids, names and the gate for publications: laws, and the words of refusals."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whatwg import Parser

from sse_fast import Event, EventId, EventTooLarge, InvalidEvent, encode
from sse_fast._native.wire.publication import encode_publication, from_json_array, from_json_object, from_ndjson
from sse_fast.event_rules import (
    MAX_CHANNEL_BYTES,
    MAX_CHANNELS,
    MAX_EVENT_TYPE,
    RETRY,
    WholeNumber,
    brief,
    channel_name,
)

LIMIT = 64 * 1024

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # No surrogates: no UTF-8 has them.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\n\u00e9", max_size=3), inner, max_size=4),
    max_leaves=8,
)
channel_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="/\ufffd"), min_size=1, max_size=60
).filter(lambda name: name[0] != "$")
event_types = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=60
).filter(lambda name: name[0] != "$")
retries = st.none() | st.integers(0, RETRY.most)


def parsed(frame: bytes) -> tuple[str, str, int | None]:
    """Type and data of the one event in a frame, and its retry, as a client has them."""
    client = Parser()
    [event] = client.feed(frame.removesuffix(b"\n") + b"id: x\n\n")  # as the log completes it
    assert event.last_event_id == "x"
    return event.type, event.data, client.reconnection_time


def all_of(pieces: Any) -> list[tuple[bytes, bytes]]:
    return [event for piece in pieces for event in piece]


# ---- ids -----------------------------------------------------------------------------------------------------------


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=8), st.integers(0, 2**64 - 1))
def test_an_id_survives_its_text(epoch: str, position: int) -> None:
    id = EventId(epoch, position)
    assert EventId.parse(str(id)) == id
    assert len(str(id)) < 128


@pytest.mark.parametrize(
    "text",
    [
        *("", "earliest", "abcdefgh", "abcdefgh-", "-1", f"{'e' * 21}-1", "Abcdefgh-1", "abcdefgh-01"),
        *("abcdefgh--1", "abcdefgh-1 ", "abcdefgh-1\n", " abcdefgh-1", "abcdefgh-1.0", "abcdefgh-\u0661", "abcdefgh_1"),
        *(f"abcdefgh-{2**64}", "abcdefgh-99999999999999999999", "abcdefgh-" + "1" * 21),
    ],
)
def test_what_is_no_id_of_ours_is_none(text: str) -> None:
    assert EventId.parse(text) is None


@given(st.text())
def test_any_text_is_an_id_that_writes_the_same_or_none(text: str) -> None:
    id = EventId.parse(text)
    assert id is None or str(id) == text


# ---- names ---------------------------------------------------------------------------------------------------------


@given(channel_names)
def test_a_channel_name_is_its_utf8(name: str) -> None:
    assert channel_name(name) == name.encode()


@pytest.mark.parametrize("name", ["a", "$stats", "room:42", "caf\u00e9", "\U0001f600", "a" * MAX_CHANNEL_BYTES])
def test_names_that_are_taken(name: str) -> None:
    assert channel_name(name).decode() == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "at least one character"),
        ("a" * (MAX_CHANNEL_BYTES + 1), "at most 2048 bytes; this one has 2049"),
        ("\u00e9" * 1025, "this one has 2050"),
        ("a b", "has ' ' at 1"),
        ("a\n", r"has '\\n' at 1"),
        ("\0", r"has '\\x00' at 0"),
        ("a\x7f", r"'\\x7f' at 1"),
        ("a\x85", r"'\\x85' at 1"),
        ("a\xa0b", r"'\\xa0' at 1"),
        ("a\u2028", r"'\\u2028' at 1"),
        ("\u1680", r"'\\u1680' at 0"),
        ("a\u3000b", r"'\\u3000' at 1"),
        ("\ufffd", r"'\\ufffd' at 0"),
        ("a\ud800", "lone surrogate at 1"),
    ],
)
def test_names_that_are_refused_say_where(name: str, why: str) -> None:
    with pytest.raises(InvalidEvent, match=why):
        channel_name(name)


@given(st.text(st.characters(), max_size=300) | st.text(st.characters(), min_size=1000, max_size=3000))
def test_any_text_is_a_name_or_refused(name: str) -> None:
    try:
        raw = channel_name(name)
    except InvalidEvent:
        return
    assert raw.decode() == name
    assert 0 < len(raw) <= MAX_CHANNEL_BYTES
    assert not any(character.isspace() or ord(character) < 32 for character in name)


# ---- one publication -----------------------------------------------------------------------------------------------


@given(channel_names, json_values, event_types, retries)
def test_a_publication_reaches_the_client_as_it_was_given(
    channel: str, data: Any, event: str | None, retry: int | None
) -> None:
    name, frame = encode_publication(channel, data, event=event, retry=retry, limit=LIMIT)
    assert name == channel.encode()
    kind, text, told = parsed(frame)
    assert kind == (event or "message")
    assert told == retry
    if isinstance(data, str):
        assert text == data.replace("\r\n", "\n").replace("\r", "\n")
    else:
        assert text.encode() == orjson.dumps(data)


@given(channel_names, json_values, event_types, retries)
def test_json_and_python_publish_the_same(channel: str, data: Any, event: str | None, retry: int | None) -> None:
    value = {"channel": channel, "data": data, "event": event, "retry": retry}
    direct = encode_publication(channel, data, event=event, retry=retry, limit=LIMIT)
    assert from_json_object(orjson.dumps(value), LIMIT) == direct
    given = {key: item for key, item in value.items() if key == "data" or item is not None}
    assert from_json_object(orjson.dumps(given), LIMIT) == direct


def test_bytes_go_as_they_stand() -> None:
    assert encode_publication("c", b'{"a": 1}', limit=LIMIT) == (b"c", b'data: {"a": 1}\n\n')


def test_an_event_is_what_encode_makes_of_it() -> None:
    event = Event({"a": 1}, event="e", id="i", retry=5, comment="c")
    assert event.encode() == encode({"a": 1}, event="e", id="i", retry=5, comment="c")


def test_the_limit_is_exact_and_in_bytes_of_the_frame() -> None:
    _, frame = encode_publication("c", "x" * 100, event="e", limit=LIMIT)
    assert encode_publication("c", "x" * 100, event="e", limit=len(frame))[1] == frame
    with pytest.raises(EventTooLarge, match=f"takes {len(frame)} bytes when encoded; at most {len(frame) - 1}"):
        encode_publication("c", "x" * 100, event="e", limit=len(frame) - 1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"channel": "$stats"}, r"begin with '\$' belong to the server; '\$stats' is one"),
        ({"channel": 1}, "'channel' must be a string, or a list of them; this is a number"),
        ({"channel": b"c"}, "'channel' must be a string, or a list of them; this is bytes"),
        ({"channel": None}, "'channel' must be a string, or a list of them; this is null"),
        ({"event": "$closing"}, r"event types that begin with '\$' belong to the server"),
        ({"event": "$gap"}, r"the data of a '\$gap' is"),
        ({"event": 1.5}, "'event' must be a string; this is a number"),
        ({"event": ["e"]}, "'event' must be a string; this is an array"),
        ({"event": "e" * (MAX_EVENT_TYPE + 1)}, "at most 256 characters; this one has 257"),
        ({"event": "a\nb"}, "event has '\\\\n' at index 1"),
        ({"event": "a\0"}, "event has"),
        ({"retry": -1}, "from 0 to 86400000, not -1"),
        ({"retry": RETRY.most + 1}, "not 86400001"),
        ({"retry": 1.0}, "not 1.0"),
        ({"retry": True}, "not True"),
        ({"retry": "1"}, "not '1'"),
        ({"data": "\ud800"}, "lone surrogate"),
        ({"data": b"\xff"}, "not valid UTF-8"),
    ],
)
def test_refusals_say_what_would_be_right(fields: dict[str, Any], why: str) -> None:
    fields = {"channel": "c", "data": "d"} | fields
    with pytest.raises(InvalidEvent, match=why):
        encode_publication(**fields, limit=LIMIT)


@pytest.mark.parametrize("event", ["", "e" * MAX_EVENT_TYPE, "a$", "\u00e9"])
def test_event_types_that_are_taken(event: str) -> None:
    assert parsed(encode_publication("c", "d", event=event, limit=LIMIT)[1])[0] == (event or "message")


def test_a_str_subclass_is_a_str() -> None:
    class Name(str):
        __slots__ = ()

    assert encode_publication(Name("c"), "d", event=Name("e"), limit=LIMIT) == (b"c", b"event: e\ndata: d\n\n")


def test_data_that_is_no_json_value_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="data: an object cannot be sent as JSON"):
        encode_publication("c", object(), limit=LIMIT)


# ---- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a number"), ("x", "a string"), ([], "an array")],
)
def test_only_objects_are_events(value: Any, kind: str) -> None:
    with pytest.raises(InvalidEvent, match=f"must be a JSON object with 'channel' and 'data'; this is {kind}"):
        from_json_object(orjson.dumps(value), LIMIT)


@pytest.mark.parametrize(("missing", "named"), [("channel", "'channel' or 'channels'"), ("data", "the field 'data'")])
def test_a_missing_field_is_named(missing: str, named: str) -> None:
    value = {"channel": "c", "data": "d"}
    del value[missing]
    with pytest.raises(InvalidEvent, match=f"{named} is missing"):
        from_json_object(orjson.dumps(value), LIMIT)


@pytest.mark.parametrize(
    "more",
    [
        *(
            {"ids": "1"},
            {"Event": "e"},
            {"": 1},
            {"event": None, "i": None},
            {"event": "e", "retry": 1, "comment": ""},
        ),
        *({"event": None, "retry": None, "x": 1}, {"retry": None, "x": 1}),
    ],
)
def test_an_unknown_field_is_named(more: dict[str, Any]) -> None:
    [unknown] = more.keys() - {"event", "retry"}
    with pytest.raises(InvalidEvent, match=f"unknown field '{unknown}'; the fields are"):
        from_json_object(orjson.dumps({"channel": "c", "data": "d"} | more), LIMIT)


def test_null_data_is_the_json_null() -> None:
    assert from_json_object(b'{"channel":"c","data":null}', LIMIT) == (b"c", b"data: null\n\n")


def test_json_nests_254_deep_and_no_deeper() -> None:
    deep = b"[" * 254 + b"]" * 254
    assert from_json_object(b'{"channel":"c","data":%b}' % deep, LIMIT)[1] == b"data: " + deep + b"\n\n"
    assert encode_publication("c", orjson.loads(deep), limit=LIMIT)[1] == b"data: " + deep + b"\n\n"
    with pytest.raises(InvalidEvent, match="at most 254 deep"):
        from_json_object(b'{"channel":"c","data":[%b]}' % deep, LIMIT)
    with pytest.raises(InvalidEvent, match="more than 254 deep"):
        encode_publication("c", [orjson.loads(deep)], limit=LIMIT)


@pytest.mark.parametrize("field", ["channel", "event", "retry"])
def test_a_refusal_stays_short_however_large_or_deep_the_value(field: str) -> None:
    for value in (b'"$%b"' % (b"x" * 100_000), b"[" * 1000 + b"]" * 1000, b'{"%b":1}' % (b"k" * 100_000)):
        with pytest.raises(InvalidEvent) as refusal:
            from_json_object(b'{"channel":"c","data":"d","%b":%b}' % (field.encode(), value), LIMIT)
        assert len(str(refusal.value)) < 1000
    with pytest.raises(InvalidEvent) as refusal:
        from_json_object(b'{"channel":"c","data":"d","%b":1}' % (b"k" * 100_000), LIMIT)
    assert len(str(refusal.value)) < 1000


def test_brief_shows_short_text_whole() -> None:
    assert brief("a" * 70) == repr("a" * 70)


# ---- one event in several channels -----------------------------------------------------------------------------------


def in_channels(channels: Any, **more: Any) -> bytes:
    return orjson.dumps({"channels": channels, "data": 1} | more)


@given(st.lists(channel_names, min_size=2, max_size=MAX_CHANNELS, unique=True))
def test_one_event_is_for_several_channels_by_whatever_way_it_is_published(channels: list[str]) -> None:
    expected = (tuple(name.encode() for name in channels), b"data: 1\n\n")
    body = in_channels(channels)
    assert encode_publication(channels, 1, limit=LIMIT) == expected
    assert encode_publication(tuple(channels), 1, limit=LIMIT) == expected
    assert from_json_object(body, LIMIT) == expected
    assert all_of(from_json_array(b"[%b]" % body, LIMIT)) == [expected]
    assert all_of(from_ndjson(body, LIMIT)) == [expected]


def test_a_list_of_one_channel_is_that_channel() -> None:
    assert from_json_object(in_channels(["c"]), LIMIT) == (b"c", b"data: 1\n\n")
    assert encode_publication(["c"], 1, limit=LIMIT) == (b"c", b"data: 1\n\n")


def test_null_is_as_good_as_left_out_of_channel_and_channels_too() -> None:
    assert from_json_object(in_channels(["a", "b"], channel=None), LIMIT)[0] == (b"a", b"b")
    assert from_json_object(in_channels(None, channel="c"), LIMIT)[0] == b"c"
    with pytest.raises(InvalidEvent, match=r"^'channel' or 'channels' is missing"):
        from_json_object(in_channels(None), LIMIT)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"channels": ["a"], "channel": "b"}, "an event has 'channel' or 'channels', not both"),
        ({"channels": []}, "'channels' names 1 to 32 channels, not 0"),
        ({"channels": [str(n) for n in range(MAX_CHANNELS + 1)]}, "'channels' names 1 to 32 channels, not 33"),
        ({"channels": ["a", "b", "a"]}, r"'channels'\[2\] names 'a' again"),
        ({"channels": ["a", "$stats"]}, r"'channels'\[1\]: channels that begin with '\$' belong to the server"),
        ({"channels": ["a", "b", "c d"]}, r"'channels'\[2\]: a channel name is .* 'c d' has ' ' at 1"),
        ({"channels": [""]}, r"'channels'\[0\]: a channel name has at least one character"),
        ({"channels": ["a", 1]}, r"'channels'\[1\] must be a string; this is a number"),
        ({"channels": "a"}, "'channels' must be an array of strings; this is a string"),
        ({"channels": {"a": 1}}, "'channels' must be an array of strings; this is an object"),
        ({"channel": ["a", "b"]}, "'channel' must be a string; this is an array. Several are 'channels'"),
        ({"channel": 1}, "'channel' must be a string; this is a number$"),
        ({"channel": None, "channels": None}, "'channel' must be a string; this is null$"),
        ({"channels": ["a"], "chanel": 1}, "unknown field 'chanel'; the fields are 'channel' or 'channels', "),
    ],
)
def test_channels_that_are_refused_say_why_and_where(fields: dict[str, Any], why: str) -> None:
    body = orjson.dumps(fields | {"data": 1})
    with pytest.raises(InvalidEvent, match=f"^{why}"):
        from_json_object(body, LIMIT)
    with pytest.raises(InvalidEvent, match=f"^event 1 of the array: {why}"):
        all_of(from_json_array(b'[{"channel":"c","data":1},%b]' % body, LIMIT))
    with pytest.raises(InvalidEvent, match=f"^line 2: {why}"):
        all_of(from_ndjson(b'{"channel":"c","data":1}\n' + body, LIMIT))


@pytest.mark.parametrize("channels", [{"a", "b"}, {"a": 1}, iter("ab"), b"ab", bytearray(b"ab"), None])
def test_python_takes_a_name_or_a_sequence_of_names(channels: Any) -> None:
    with pytest.raises(InvalidEvent, match="'channel' must be a string, or a list of them; this is "):
        encode_publication(channels, 1, limit=LIMIT)


# ---- many ----------------------------------------------------------------------------------------------------------


def value(number: int) -> dict[str, Any]:
    return {"channel": f"c{number % 7}", "data": {"n": number}}


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 2048, 5000])
def test_many_come_out_whole_and_in_order(count: int) -> None:
    values = [value(number) for number in range(count)]
    expected = [from_json_object(orjson.dumps(value), LIMIT) for value in values]
    assert all_of(from_json_array(orjson.dumps(values), LIMIT)) == expected
    assert all_of(from_ndjson(b"\n".join(map(orjson.dumps, values)), LIMIT)) == expected
    assert all(len(piece) <= 1024 for piece in from_json_array(orjson.dumps(values), LIMIT))


def test_events_that_name_many_channels_come_out_in_smaller_pieces() -> None:
    values = [{"channels": [f"c{number}:{each}" for each in range(32)], "data": ""} for number in range(2000)]
    for pieces in (
        list(from_json_array(orjson.dumps(values), LIMIT)),
        list(from_ndjson(b"\n".join(map(orjson.dumps, values)), LIMIT)),
    ):
        assert sum(map(len, pieces)) == len(values)
        assert all(len(orjson.dumps(values[0])) * (len(piece) - 1) <= 128 * 1024 for piece in pieces)


lines = st.lists(
    st.one_of(
        st.sampled_from([b"", b" ", b"\t \r", b"\r"]),
        st.builds(lambda value: json.dumps(value).encode(), st.just({"channel": "c", "data": 1})),
        st.builds(
            lambda channel, data: json.dumps({"channel": channel, "data": data}, ensure_ascii=False).encode(),
            channel_names,
            json_values,
        ),
    ),
    max_size=20,
)


@given(lines, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_ndjson_is_its_lines_without_the_blank_ones(lines: list[bytes], line_end: bytes, ends: bool) -> None:
    body = line_end.join(lines) + (line_end if ends else b"")
    expected = [from_json_object(line, LIMIT) for line in lines if line.strip()]
    assert all_of(from_ndjson(body, LIMIT)) == expected


@given(st.integers(0, 3000), st.sampled_from([b"{", b"[]", b"null", b'{"channel":"c"}', b"\x00", b"\xff", b"\x0b"]))
def test_the_bad_line_is_named(before: int, bad: bytes) -> None:
    good = b'{"channel":"c","data":1}'
    with pytest.raises(InvalidEvent, match=f"^line {before + 1}( is not JSON)?: "):
        all_of(from_ndjson(b"\n".join([good] * before + [bad, good]), LIMIT))


def test_a_line_that_is_too_large_says_so_and_where() -> None:
    with pytest.raises(EventTooLarge, match=r"^line 3: the event takes"):
        all_of(from_ndjson(b'\n\n{"channel":"c","data":"%b"}' % (b"x" * 100), 100))


@pytest.mark.parametrize(("body", "kind"), [(b"null", "null"), (b'{"channel":"c"}', "object"), (b"3", "number")])
def test_what_is_no_array_is_refused_by_what_it_is(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidEvent, match=f"a JSON array of them, not .*{kind}"):
        all_of(from_json_array(body, LIMIT))


def test_the_bad_item_of_an_array_is_named() -> None:
    with pytest.raises(InvalidEvent, match=r"^event 1500 of the array: an event must be a JSON object"):
        all_of(from_json_array(orjson.dumps([value(1)] * 1500 + [3, 4]), LIMIT))
    with pytest.raises(EventTooLarge, match=r"^event 0 of the array: "):
        all_of(from_json_array(orjson.dumps([value(1)]), 5))


@given(st.binary(max_size=200))
def test_any_bytes_are_publications_or_refused(body: bytes) -> None:
    try:
        events = all_of(from_ndjson(body, LIMIT))
    except InvalidEvent as error:
        assert str(error).startswith("line ")  # noqa: PT017 - either outcome is right
    else:
        assert not events or b"channel" in body


@given(st.integers(-5, 130))
def test_a_whole_number_is_taken_alike_in_python_and_as_text(number: int) -> None:
    rule = WholeNumber("limit", 100, least=1, unit="channels")
    if 1 <= number <= 100:
        assert rule.check(number) == rule.read(str(number)) == number
        return
    said = "'limit' is a whole number of channels from 1 to 100, not "
    with pytest.raises(InvalidEvent, match=f"{said}{number}$"):
        rule.check(number)
    with pytest.raises(InvalidEvent, match=f"{said}'{number}'$"):
        rule.read(str(number))


@pytest.mark.parametrize("text", ["", "+7", "-0", " 7", "7 ", "7.0", "1_0", "٧", "0000000007", "7" * 5000])
def test_text_that_is_more_than_decimal_digits_is_no_whole_number(text: str) -> None:
    with pytest.raises(InvalidEvent, match="'limit' is a whole number from 0 to 100, not ") as refused:
        WholeNumber("limit", 100).read(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("given_", [True, 7.0, "7", None])
def test_what_is_no_int_is_no_whole_number(given_: object) -> None:
    with pytest.raises(InvalidEvent, match="'limit' is a whole number from 0 to 100, not "):
        WholeNumber("limit", 100).check(given_)
