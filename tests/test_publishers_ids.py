"""Publishers' ids: what every reader of an event sees and resumes by; the hub's own stand for the same place."""

import asyncio
import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import Taking

from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast._native.wire.publication import encode_publication, from_json_object
from sse_fast.errors import EventTooLarge, InvalidEvent
from sse_fast.event import EventId
from sse_fast.event_rules import MAX_ID_BYTES
from sse_fast.hub.hub import Hub, own_id
from sse_fast.hub.recall import with_id
from sse_fast.protocol.native import resume_id

URN = "urn:uuid:550e8400-e29b-41d4-a716-446655440000"


def frame_of(body: bytes) -> bytes:
    log = Log.private(1 << 16, epoch="abcdefgh")
    log.append(b"c", body)
    (record,) = log.records()
    return record.frame


def parsed(frame: bytes) -> ReceivedEvent:
    (event,) = EventParser().feed(frame)
    return event


@pytest.mark.parametrize("id", [URN, "17", "caf\u00e9", "x" * MAX_ID_BYTES, "a-b-5", "a b"])
def test_readers_see_the_publishers_id_last_in_the_frame(id: str) -> None:
    _, body = encode_publication("c", "one\ntwo", event="kind", retry=5, id=id, limit=2000)
    frame = frame_of(body)
    assert parsed(frame) == ReceivedEvent("one\ntwo", "kind", id, 5)
    assert frame.endswith(b"\nid: %b\n\n" % id.encode())
    assert frame.count(b"id: ") == 1
    assert frame == with_id(body, EventId("abcdefgh", 1))  # what is read from an engine is the same


def test_an_id_of_the_hubs_may_be_a_fragment() -> None:
    _, body = encode_publication("c", "one", fragment=True, limit=2000)
    assert parsed(frame_of(body)).id == "#abcdefgh-1"
    assert frame_of(body) == with_id(body, EventId("abcdefgh", 1))
    assert own_id("#abcdefgh-1") == own_id("abcdefgh-1") == EventId("abcdefgh", 1)


def test_without_one_it_is_the_hubs() -> None:
    _, body = encode_publication("c", "id: x", limit=2000)
    assert parsed(frame_of(body)).id == "abcdefgh-1"


@pytest.mark.parametrize(
    "id", ["", "earliest", "#a", "a\nb", "a\0", " a", "a ", "x" * (MAX_ID_BYTES + 1), "\x85", "\ud800", 5]
)
def test_what_no_reader_could_resume_by_is_no_id(id: str) -> None:
    with pytest.raises(InvalidEvent):
        encode_publication("c", "x", id=id, limit=2000)


def test_an_id_counts_for_the_size_of_an_event() -> None:
    encode_publication("c", "x", id="y" * 20, limit=34)
    with pytest.raises(EventTooLarge):
        encode_publication("c", "x", id="y" * 20, limit=33)


def test_json_has_an_id() -> None:
    assert from_json_object(b'{"channel":"c","data":"x","id":"urn:x"}', 100) == encode_publication(
        "c", "x", id="urn:x", limit=100
    )
    with pytest.raises(InvalidEvent, match="'id' must be a string"):
        from_json_object(b'{"channel":"c","data":"x","id":5}', 100)


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), max_size=60),
    st.sampled_from([1024, 4096]),
    st.sampled_from([2, 8, 64]),
)
@settings(max_examples=60, deadline=None)
def test_an_id_is_that_of_its_first_event_that_is_kept(ids: list[str | None], size: int, room: int) -> None:
    log = Log.private(size)
    index = Index(log, ids=room)
    for id in ids:
        body = encode_publication("c", "x" * 40, id=id, limit=2000)[1] if id else b"data: y\n\n"
        log.append(b"c", body)
        index.take_in()
    kept = {record.position for record in log.records()}
    given = [(at, id) for at, id in enumerate(ids, 1) if id][-room:]  # the oldest are forgotten
    for id in "abc":
        its = [at for at, one in given if one == id]
        expected = next((at for at in its if at in kept), its[0] if its else 0)
        assert index.position_of_id(id.encode()) == expected


def test_a_log_that_outlived_its_writers_still_knows_ids() -> None:
    memory = mmap.mmap(-1, segment_size(1 << 16))
    log = Log(memory, checksums=True)
    log.append((b"c", b"d"), encode_publication("c", "x", id=URN, limit=2000)[1])
    assert verify(log).events == 1
    log.go_on(log.head)
    index = Index(log)
    index.take_in()
    assert index.position_of_id(URN.encode()) == 1
    assert index.position_of_id(b"urn:uuid:other") == 0


async def resumed(hub: Hub, id: str | None, channel: str = "c") -> tuple[str, list[str]]:
    sink = Taking()
    subscription = hub.attach([channel], sink, last_event_id=id)
    subscription.start()
    while hub.fanout.drain(0.0):
        pass
    subscription.close()
    return subscription.resumed, [event.data for event in EventParser().feed(sink.stream)]


def test_streams_resume_by_publishers_ids() -> None:
    async def run() -> None:
        hub = Hub(log_size=1 << 16)
        first = await hub.publish("c", "1", id=URN)
        await hub.publish("c", "2", id="again")
        third = await hub.publish("c", "3")
        await hub.publish("c", "4", id="again")
        assert await resumed(hub, URN) == ("complete", ["2", "3", "4"]) == await resumed(hub, str(first))
        assert await resumed(hub, "again") == ("complete", ["3", "4"])
        assert await resumed(hub, f"#{third}") == ("complete", ["4"])
        assert (await resumed(hub, "urn:nobody"))[0] == "gap"
        await hub.close()

    asyncio.run(run())


def test_a_publisher_cannot_take_the_place_of_an_id_of_the_hubs() -> None:
    async def run() -> None:
        hub = Hub(log_size=1 << 16)
        first = await hub.publish("c", "1")
        await hub.publish("c", "2")
        for position in (first.position, first.position + 100):  # one that was given, one that will be
            with pytest.raises(InvalidEvent, match="the form of the server's own ids"):
                await hub.publish("d", "3", id=str(EventId(first.epoch, position)))
        assert await resumed(hub, str(first)) == ("complete", ["2"])
        await hub.close()

    asyncio.run(run())


def test_another_worker_resumes_by_an_id_it_has_not_read_yet() -> None:
    async def run() -> None:
        memory = mmap.mmap(-1, segment_size(1 << 16))
        one, other = Hub(log=Log(memory)), Hub(log=Log(memory))
        await one.publish("c", "1", id=URN)
        await one.publish("c", "2")
        assert await resumed(other, URN) == ("complete", ["2"])
        await one.close()
        await other.close()

    asyncio.run(run())


def test_an_id_whose_event_is_gone_still_says_exactly_what_is_missing() -> None:
    async def run() -> None:
        hub = Hub(log_size=4096)
        await hub.publish("c", "1", id=URN)
        while hub.log.tail == 0:
            await hub.publish("other", "x" * 200)
        assert await resumed(hub, URN) == ("complete", [])
        await hub.close()

    asyncio.run(run())


def test_a_header_has_an_id_in_utf8() -> None:
    id = "urn:caf\u00e9:\U0001f600"
    assert resume_id(id.encode().decode("latin-1"), None) == id
