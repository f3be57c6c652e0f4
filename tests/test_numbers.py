"""Numbers arrive digit for digit, or are refused: over HTTP as text, and from Python as values."""

import json
import math
import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from whatwg import Parser

from sse_fast import InvalidEvent, encode
from sse_fast._native.wire.publication import from_json_array, from_json_object, from_ndjson

LIMIT = 1_000_000
STRING = re.compile(r'"(\\.|[^"\\])*"')
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
texts = st.text(max_size=10).map(lambda text: json.dumps(text)) | st.sampled_from(
    [r'"\""', r'"\\"', r'"\\\""', r'"\u0022,"', '"[}"', '"data"', r'"\/"']
)
space = st.sampled_from(["", "", " ", "\t", " \r ", "  "])


def spaced(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{}{}{}".format, space, texts, space)


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(spaced(items), max_size=4).map(lambda items: f"[{','.join(items)}]")


def objects(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.builds("{}:{}".format, spaced(texts), spaced(items))
    return st.lists(members, max_size=4).map(lambda members: f"{{{','.join(members)}}}")


values = st.recursive(
    numbers | texts | st.sampled_from(["null", "true", "false"]), lambda inner: arrays(inner) | objects(inner)
)
names_of_data = st.sampled_from(['"data"', r'"d\u0061ta"', r'"\u0064\u0061\u0074\u0061"'])
events = st.builds(
    lambda before, name, value, after: "{" + ",".join([*before, f"{name}:{value}", *after]) + "}",
    st.lists(st.sampled_from(['"channel":"c"', '"event": null ', '"data":[0]', r'"d\u0061ta" : 1']), max_size=3),
    spaced(names_of_data),
    spaced(values),
    st.just([' "channel" : "c" ']),
)


def digits(text: str | bytes) -> Any:
    """What JSON says, with each number as its own text."""
    return json.loads(text, parse_int=lambda digits: ("number", digits), parse_float=lambda digits: ("number", digits))


def received(frame: bytes) -> Any:
    """What a client reads, a text as text."""
    [event] = Parser().feed(frame)
    return event.data


@given(st.lists(events, min_size=1, max_size=4), spaced(st.just("")))
@example(['{"channel":"c","data":12345678901234567890123}'], "")
@example(['{"channel":"c","data":1.10}', '{"channel":"c","data" : [ 1e5 , "a b\\"" ] }'], " ")
def test_every_form_passes_digits_on_or_refuses_the_number(sent: list[str], around: str) -> None:
    body = f"{around}[{','.join(sent)}]{around}".encode()
    forms = [
        lambda: [from_json_object(text.encode(), LIMIT) for text in sent],
        lambda: [event for piece in from_json_array(body, LIMIT) for event in piece],
        lambda: [event for piece in from_ndjson("\n".join(sent).encode(), LIMIT) for event in piece],
    ]
    try:
        expected = [orjson.loads(text)["data"] for text in sent]
    except orjson.JSONDecodeError:  # a number that no double holds, a lone surrogate
        for form in forms:
            with pytest.raises(InvalidEvent, match=r"line \d+.* column \d+"):
                form()
        return
    for form in forms:
        for text, value, (_, frame) in zip(sent, expected, form(), strict=True):
            if isinstance(value, str):
                assert received(frame) == value.replace("\r\n", "\n").replace("\r", "\n")
            else:
                assert digits(received(frame)) == digits(text)["data"]


@given(values.filter(lambda text: not text.startswith('"')))
def test_the_text_that_arrives_has_no_white_space_between_its_parts(text: str) -> None:
    try:
        _, frame = from_json_object(b'{"channel":"c","data":%b}' % text.encode(), LIMIT)
    except InvalidEvent:
        return
    assert not set(STRING.sub("", received(frame))) & set(" \t\r\n")


@given(st.recursive(st.integers() | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@example(2**64)
@example([-(2**63) - 1])
@example(math.inf)
@example({"a": [math.nan]})
@example([0.5, {"full": [math.inf]}])
def test_from_python_a_number_is_exact_or_refused(value: Any) -> None:
    def all_finite(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(all_finite, value.values()))
        return all(map(all_finite, value)) if isinstance(value, list) else math.isfinite(value)

    if all_finite(value):
        assert json.loads(received(encode(value))) == value
    else:
        with pytest.raises(InvalidEvent, match=r"(nan|inf) is no JSON number"):
            encode(value)
