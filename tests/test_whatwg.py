"""The oracle itself, against the examples and the rules of the standard (WHATWG HTML, 9.2.5 and 9.2.6)."""

import pytest
from whatwg import Event, Parser


def parse(stream: bytes) -> list[Event]:
    return Parser().feed(stream)


def test_the_first_example_gives_one_message_of_three_lines() -> None:
    assert parse(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [Event("message", "YHOO\n+2\n10", "")]


def test_the_second_example_gives_two_events_and_drops_the_unfinished_one() -> None:
    parser = Parser()
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"
    assert parser.feed(stream) == [Event("message", "first event", "1"), Event("message", "second event", "")]
    assert parser.feed(b"\n\n") == [Event("message", " third event", "")]


def test_the_third_example_gives_an_empty_event_and_a_lone_newline() -> None:
    assert parse(b"data\n\ndata\ndata\n\ndata:") == [Event("message", "", ""), Event("message", "\n", "")]


def test_the_fourth_example_gives_two_equal_events() -> None:
    assert parse(b"data:test\n\ndata: test\n\n") == [Event("message", "test", "")] * 2


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_ends_a_line_whether_fed_whole_or_byte_by_byte(end: bytes) -> None:
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    expected = [Event("a", "1\n2", ""), Event("message", "3", "")]
    assert parse(stream) == expected
    parser = Parser()
    assert [event for byte in stream for event in parser.feed(bytes([byte]))] == expected


def test_an_event_is_dispatched_at_its_cr_without_waiting_for_an_lf() -> None:
    parser = Parser()
    assert parser.feed(b"data: 1\r\r") == [Event("message", "1", "")]
    assert parser.feed(b"\ndata: 2\r\r") == [Event("message", "2", "")]


def test_an_event_without_data_is_not_dispatched_and_leaves_no_type_behind() -> None:
    assert parse(b"event: a\n\ndata: 1\n\n") == [Event("message", "1", "")]


def test_an_id_lasts_until_the_next_and_counts_only_from_the_blank_line_on() -> None:
    parser = Parser()
    parser.feed(b"id: 7\n")
    assert parser.last_event_id == ""
    parser.feed(b"\n")
    assert parser.last_event_id == "7"
    assert parser.feed(b"data: 1\n\nid: 8\ndata: 2\n\n") == [Event("message", "1", "7"), Event("message", "2", "8")]


def test_an_id_with_nul_is_ignored() -> None:
    assert parse(b"id: 1\nid: 2\x00\ndata: x\n\n") == [Event("message", "x", "1")]


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"+1", b"1 ", "٣".encode(), b"0x10"])
def test_a_retry_of_anything_but_ascii_digits_is_ignored(value: bytes) -> None:
    parser = Parser()
    parser.feed(b"retry: 5\nretry: " + value + b"\n")
    assert parser.reconnection_time == 5


def test_unknown_fields_and_fields_in_capitals_are_ignored() -> None:
    assert parse(b"Data: a\nfoo: b\n data: c\ndata: d\n\n") == [Event("message", "d", "")]


def test_only_one_bom_at_the_very_start_is_taken_away() -> None:
    bom = b"\xef\xbb\xbf"
    assert parse(bom + b"data: 1\n\n") == [Event("message", "1", "")]
    assert parse(bom + bom + b"data: 1\n\n") == []
    assert parse(b"data: 1\n\n" + bom + b"data: 2\n\n") == [Event("message", "1", "")]


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert parse(b"data: a\xffb\n\n") == [Event("message", "a\ufffdb", "")]
