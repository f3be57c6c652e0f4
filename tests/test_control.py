"""What a stream says of itself: one frame each to a client that keeps the standard, written in one place."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whatwg import Event, Parser

from sse_fast._native.wire.control import CONTROL_EVENTS, HEARTBEAT, closing, connected, gap, preamble
from sse_fast.embed.hub import Hub

ROOT = Path(__file__).parent.parent


def received(stream: bytes) -> list[Event]:
    parser = Parser()
    return list(parser.feed(stream))


def told(frame: bytes) -> dict[str, object]:
    (event,) = received(frame)
    data: dict[str, object] = json.loads(event.data)
    return data


def test_what_a_stream_says_of_itself_has_these_bytes() -> None:
    assert preamble(3000) == b":\nretry: 3000\n"
    assert HEARTBEAT == b":\n"
    assert connected("live", "e-7") == b'event: $connected\ndata: {"resume":"live"}\nid: e-7\n\n'
    assert (
        connected("live", "e-7", True) == b'event: $connected\ndata: {"resume":"live","envelope":"json"}\nid: e-7\n\n'
    )
    left_out = connected("live", "e-7", False, ("a", 'q"\\\u00e9'))
    assert told(left_out) == {"resume": "live", "left_out": ["a", 'q"\\\u00e9']}
    assert connected("gap", None) == b'event: $connected\ndata: {"resume":"gap"}\n\n'
    assert gap("x", "e-7") == b'event: $gap\ndata: {"after":"x","until":"e-7"}\nid: e-7\n\n'
    assert gap("x", "e-7", False) == b'event: $gap\ndata: {"after":"x","until":"e-7"}\n\n'
    assert closing("shutdown") == b'event: $closing\ndata: {"reason":"shutdown"}\n\n'


def test_neither_preamble_nor_heartbeat_is_an_event_to_anybody() -> None:
    stream = preamble(1) + connected("live", "e-1") + HEARTBEAT + HEARTBEAT + closing("app")
    assert [event.type for event in received(stream)] == ["$connected", "$closing"]
    assert b"\n\n" not in preamble(1) + HEARTBEAT


@given(st.text(st.characters(codec="utf-8"), max_size=128))
def test_an_id_that_a_client_asked_for_is_told_back_as_it_was_and_as_nothing_else(asked: str) -> None:
    (event,) = received(gap(asked, "e-7"))
    assert (event.type, event.last_event_id, json.loads(event.data)["after"]) == ("$gap", "e-7", asked)


def test_a_gap_says_how_many_positions_were_skipped_where_both_ids_are_of_one_epoch() -> None:
    assert told(gap("abcdefgh-3", "abcdefgh-45"))["positions"] == 42
    assert told(gap("of-two-parts-3", "of-two-parts-4"))["positions"] == 1


@pytest.mark.parametrize(
    "after",
    [
        *(None, "", "45", "-3", "zzzzzzzz-3", "abcdefgh", "abcdefgh-", "abcdefgh-x", "abcdefgh--3", "abcdefgh-+3"),
        *("abcdefgh-٣", "abcdefgh- 3", "abcdefgh-3 ", "abcdefgh-46", "abcdefgh-" + "9" * 100),
    ],
)
def test_a_gap_whose_length_nobody_knows_names_none(after: str | None) -> None:
    assert told(gap(after, "abcdefgh-45")) == {"after": after, "until": "abcdefgh-45"}


def test_a_gap_behind_an_event_without_an_id_leaves_the_client_s_own() -> None:
    (event,) = received(gap("e-1", None))
    assert (json.loads(event.data), event.last_event_id) == ({"after": "e-1", "until": None}, "")


async def test_positions_are_those_of_all_channels_and_what_is_missed_is_no_more_than_they_are() -> None:
    hub = Hub(log_size=64 * 1024)
    for number in range(200):
        await hub.publish("a" if number % 2 else "b", "x" * 1000)
    oldest = next(record.position for record in hub.log.records() if record.position % 2 == 0)
    for asked, known in ((hub.event_id(1), True), ("elsewher-1", False), (hub.event_id(10_000), False)):
        opening = hub.subscribe(["a"], lambda message: None, lambda *_: None, last_event_id=asked).opening()
        _, gone = received(opening)
        until = int(gone.last_event_id.partition("-")[2])
        said = json.loads(gone.data)
        assert said == {"after": asked, "until": hub.event_id(until)} | ({"positions": until - 1} if known else {})
        if known:
            lost = len(range(2, oldest, 2))
            assert lost < said["positions"] <= 2 * lost
    await hub.close()


@pytest.mark.parametrize("name", sorted(CONTROL_EVENTS))
def test_the_server_writes_each_of_its_own_events_in_one_place(name: str) -> None:
    writes = re.compile(rf"event: {re.escape(name)}")
    sources = [
        path for kind in ("*.py", "*.pyx") for tree in ("sse_fast", "src_ext") for path in (ROOT / tree).rglob(kind)
    ]
    assert [path.name for path in sources if writes.search(path.read_text())] == ["control.pyx"]
