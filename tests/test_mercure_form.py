"""An update as a publisher's form says it: what is read, and what is refused."""

import pytest

from sse_fast._native.wire.form import parse_form
from sse_fast.errors import InvalidEvent
from sse_fast.protocol.mercure_form import MOST_FIELDS, is_reserved, update_of
from sse_fast.protocol.problem import TooMuch


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", []),
        (b"&&", []),
        (b"a=1&b=2", [(b"a", b"1"), (b"b", b"2")]),
        (b"a&b=", [(b"a", b""), (b"b", b"")]),
        (b"a=1=2", [(b"a", b"1=2")]),
        (b"a=x+y%20z", [(b"a", b"x y z")]),
        (b"%61=%C3%a9", [(b"a", "é".encode())]),
        (b"a=%&b=%4&c=%zz&d=%4g1", [(b"a", b"%"), (b"b", b"%4"), (b"c", b"%zz"), (b"d", b"%4g1")]),
        (b"a=1;b=2", [(b"a", b"1;b=2")]),
        (b"a=\xff%00", [(b"a", b"\xff\x00")]),
    ],
)
def test_a_form_is_read_as_the_standard_says(body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    assert parse_form(body) == fields


def test_a_form_has_so_many_fields_at_most() -> None:
    assert len(parse_form(b"&".join([b"a=1"] * 8), 8)) == 8
    with pytest.raises(ValueError, match="more than 8 fields"):
        parse_form(b"&".join([b"a=1"] * 9), 8)


def test_an_update_has_its_topics_in_order_and_each_once() -> None:
    update = update_of(b"topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&topic=b&topic=b&data=hello%0Aworld")
    assert update.topics == ("https://example.com/books/1", "b")
    assert update.data == b"hello\nworld"
    assert (update.private, update.id, update.event, update.retry) == (False, None, None, None)


def test_all_fields_of_an_update_are_read_and_what_nobody_knows_is_somebody_elses() -> None:
    update = update_of(b"topic=a&data=x&id=urn%3Auuid%3A1&type=added&retry=2000&further=1")
    assert update == (("a",), b"x", False, "urn:uuid:1", "added", 2000)
    assert update_of(b"topic=a").data == b""
    assert update_of(b"topic=a&id=&type=&retry=&data=").id is None


@pytest.mark.parametrize("given", [b"private", b"private=", b"private=on", b"private=0", b"private=false"])
def test_an_update_is_private_whatever_the_fields_value_is(given: bytes) -> None:
    assert update_of(b"topic=a&" + given).private


@pytest.mark.parametrize(
    "topic",
    [
        b"/.well-known/mercure",
        b"/.well-known/mercure/subscriptions/exact/a/b",
        b"https://hub.example/.well-known/mercure/subscriptions",
        b"https://other.example/.well-known/mercure",
        b"ftp://other.example/.well-known/mercure/x",
        b"/.well-known/%256Dercure/x",
        b"/.well-known/%256d%2565rcure",
        b"/.well-known/mercure/../mercure/x",
        b"/x/%252e%252e/.well-known/mercure",
        b"\\.well-known\\mercure",
        b"//hub.example/.well-known/mercure/",
        b"mercure/x",
        b"%23a",
        b"?a",
        b"%20",
        b"%20%3Fa",
    ],
)
def test_nobody_publishes_where_the_hub_does(topic: bytes) -> None:
    with pytest.raises(InvalidEvent):
        update_of(b"data=x&topic=fine&topic=" + topic)


@pytest.mark.parametrize(
    "topic",
    ["https://example.com/mercure", "/.well-known/mercurex", "/.WELL-KNOWN/mercure", "urn:mercure", "a b", "mercure:[",
     "https://example.com/?/.well-known/mercure", "%2F.well-known%2Fmercure", "café", "{id}", "foo"],
)  # fmt: skip
def test_a_topic_elsewhere_is_anybodys(topic: str) -> None:
    assert not is_reserved(topic)


@pytest.mark.parametrize(
    "body",
    [
        b"data=x",
        b"topic=&data=x",
        b"topic=*",
        b"topic=a&topic=*",
        b"topic=$stats",
        b"topic=a%00",
        b"topic=a%0Ab",
        b"topic=a%7F",
        b"topic=a%C2%85",
        b"topic=a%E2%80%AEb",
        b"topic=%FF",
        b"topic=a&id=%23a",
        b"topic=a&id=earliest",
        b"topic=a&id=a%0Ab",
        b"topic=a&id=a%E2%80%8B",
        b"topic=a&id=%FF",
        b"topic=a&type=mercure",
        b"topic=a&type=a%0Db",
        b"topic=a&type=%FF",
        b"topic=a&retry=1s",
        b"topic=a&retry=-1",
        b"topic=a&retry=1.5",
        b"topic=a&retry=%D9%A1",
    ],
)
def test_an_update_that_the_drafts_forbid_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        update_of(body)


@pytest.mark.parametrize(
    "body",
    [
        b"topic=" + b"a" * 2049,
        b"&".join(b"topic=%d" % number for number in range(33)),
        b"topic=a&id=" + b"a" * 513,
        b"topic=a&type=" + b"a" * 1025,
        b"topic=a&" + b"&".join([b"x=1"] * MOST_FIELDS),
    ],
)
def test_an_update_that_is_larger_than_may_be_is_too_much(body: bytes) -> None:
    with pytest.raises(TooMuch):
        update_of(body)


def test_a_retry_of_more_than_a_day_is_a_day() -> None:
    assert update_of(b"topic=a&retry=000000000000000000000000005").retry == 5
    assert update_of(b"topic=a&retry=99999999999999999999999999").retry == 86_400_000
