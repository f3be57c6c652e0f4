"""What streams with matchers get: public events of what they listen to, and private ones that they may see too."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import Taking

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.log.index import Index
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.ring import Log
from sse_fast._native.log.sources import Source
from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.publication import encode_publication, from_json_object
from sse_fast.cluster.edge import item_of, line_of
from sse_fast.cluster.entries import Events, pack, unpack
from sse_fast.errors import HubClosed, InvalidEvent
from sse_fast.event_rules import PrivateGrants, hidden, is_private, visible
from sse_fast.hub.hub import Hub
from sse_fast.hub.listening import listening


@dataclass(frozen=True)
class Exact:
    exact: str

    def matches(self, name: str) -> bool:
        return name == self.exact


@dataclass(frozen=True)
class Template:
    text: str
    exact: None = None

    def matches(self, name: str) -> bool:
        return re.fullmatch(self.text, name) is not None


def published(channels: Any, data: str, *, private: bool = False, **further: Any) -> Any:
    return encode_publication(channels, data, private=private, limit=5000, **further)


# ---- what a private event is -----------------------------------------------------------------------------------------


def test_a_private_event_has_a_name_before_its_own_that_nobody_can_spell() -> None:
    channels, _ = published(["a", "b/c"], "x", private=True)
    assert channels == (b"\x01a\x01b/c", b"a", b"b/c")
    assert visible(channels) == (b"a", b"b/c")
    assert is_private(channels)
    assert visible(published("a", "x")[0]) == (b"a",)
    with pytest.raises(InvalidEvent):
        published("\x01a", "x")
    assert unpack(pack((channels, b"data: x\n\n"))) == (channels, b"data: x\n\n")


def test_json_says_that_an_event_is_private() -> None:
    said = from_json_object(b'{"channels":["a","b"],"data":"x","private":true,"id":"urn:x"}', 100)
    assert said == published(["a", "b"], "x", private=True, id="urn:x")
    assert from_json_object(b'{"channel":"a","data":"x","private":false}', 100) == published("a", "x")
    with pytest.raises(InvalidEvent, match="'private' must be true or false"):
        from_json_object(b'{"channel":"a","data":"x","private":"on"}', 100)


def test_nothing_lists_hidden_names() -> None:
    log = Log.private(1 << 16)
    index = Index(log)
    log.append_many([published("a", "x", private=True), published("b", "x")])
    index.take_in()
    assert index.names() == [b"a", b"b"]
    assert len(index) == 2
    assert {channel.name for channel in index.page(0, b"", 10, 10)[0]} == {b"a", b"b"}


# ---- who gets what: against a model that looks at every event --------------------------------------------------------

TOPICS = ["a", "b", "books/1", "books/2", "$x"]
MATCHERS = [Exact("a"), Exact("b"), Exact("books/1"), Template("books/.*"), Template(".*"), Template("a|b")]
GRANTS = [
    None,
    PrivateGrants(everything=True),
    PrivateGrants(),
    PrivateGrants((Exact("a"),)),
    PrivateGrants((Exact("b"), Template("books/1"))),
    PrivateGrants((Template(".*"),)),
]
events = st.tuples(
    st.lists(st.sampled_from(TOPICS[:4]), min_size=1, max_size=3, unique=True), st.booleans(), st.integers(1, 120)
)
streams = st.tuples(st.lists(st.sampled_from(MATCHERS), min_size=1, max_size=3, unique=True), st.sampled_from(GRANTS))


def wanted(matchers: Iterable[Any], grants: PrivateGrants | None, topics: list[str], private: bool) -> bool:
    if not any(matcher.matches(topic) for matcher in matchers for topic in topics):
        return False
    if not private:
        return True
    if grants is None:
        return False
    return grants.everything or any(granted.matches(topic) for granted in grants.matchers for topic in topics)


class Stream:
    """One with matchers, in a fan-out."""

    def __init__(self, fanout: FanOut, stream: tuple[list[Any], PrivateGrants | None], after: int | None) -> None:
        self.fanout, (self.matchers, self.grants) = fanout, stream
        names, source = listening(self.matchers, self.grants)
        self.sink = Taking()
        self.subscriber: Subscriber = fanout.subscribe(names, self.sink, source=source, after=after)
        self.lost = self.subscriber.lost
        fanout.unblock(self.subscriber, 0.0)

    @property
    def got(self) -> list[int]:
        return [int(event.data) for event in EventParser().feed(self.sink.stream) if event.event == "message"]


def settle(fanout: FanOut) -> None:
    while fanout.drain(0.0):
        pass


@given(
    st.lists(
        st.one_of(events, streams.map(lambda one: ("open", one)), st.just("settle"), st.integers(0, 3)), max_size=40
    ),
    st.lists(streams, min_size=1, max_size=3),
    st.sampled_from([4096, 65536]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_stream_gets_what_it_listens_to_and_may_see_live_and_on_resume(
    steps: list[Any], later: list[Any], size: int, data: st.DataObject
) -> None:
    log = Log.private(size)
    fanout = FanOut(log, take_in=64)
    log_of_all: list[tuple[list[str], bool]] = []
    live: list[tuple[Stream, int]] = []
    for step in steps:
        if step == "settle":
            settle(fanout)
        elif isinstance(step, int):
            if step < len(live):  # somebody leaves, who has got everything
                settle(fanout)
                stream, since = live.pop(step)
                due = range(since + 1, len(log_of_all) + 1)
                assert stream.got == [at for at in due if wanted(stream.matchers, stream.grants, *log_of_all[at - 1])]
                fanout.unsubscribe(stream.subscriber)
        elif step[0] == "open":
            settle(fanout)
            live.append((Stream(fanout, step[1], None), len(log_of_all)))
        else:
            topics, private, length = step
            log_of_all.append((topics, private))
            log.append(*published(topics, str(len(log_of_all)).zfill(length), private=private))
            if size == 4096:
                settle(fanout)  # nobody is overtaken
    settle(fanout)
    for stream, since in live:
        everything = range(since + 1, len(log_of_all) + 1)
        assert stream.got == [at for at in everything if wanted(stream.matchers, stream.grants, *log_of_all[at - 1])]
    kept = [record.position for record in log.records()]
    for one in later:
        after = data.draw(st.integers(0, len(log_of_all)))
        stream = Stream(fanout, one, after)
        settle(fanout)
        due = [at for at in range(after + 1, len(log_of_all) + 1) if wanted(*one, *log_of_all[at - 1])]
        assert stream.got == [at for at in due if at in kept]
        if any(at not in kept for at in due):
            assert stream.lost
        if not kept or after >= kept[0] - 1:
            assert not stream.lost
        everything = Stream(fanout, one, EARLIEST)
        settle(fanout)
        assert everything.got == [at for at in kept if wanted(*one, *log_of_all[at - 1])]
        for each in (stream, everything):
            fanout.unsubscribe(each.subscriber)
    for stream, _ in live:
        fanout.unsubscribe(stream.subscriber)
    assert fanout.patterns == 0


def test_the_newest_events_of_a_stream_with_matchers_are_those_that_it_may_see() -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    for at in range(1, 9):
        log.append(*published("books/1", str(at), private=at % 2 == 0))
    for grants, expected in ((None, [5, 7]), (PrivateGrants((Exact("books/1"),)), [7, 8])):
        names, source = listening([Template("books/.*")], grants)
        sink = Taking()
        fanout.unblock(fanout.subscribe(names, sink, source=source, history=2), 0.0)
        settle(fanout)
        assert [int(event.data) for event in EventParser().feed(sink.stream)] == expected


# ---- beside streams of ours ------------------------------------------------------------------------------------------


def heard(fanout: FanOut, channels: list[bytes], **further: Any) -> Taking:
    sink = Taking()
    fanout.unblock(fanout.subscribe(channels, sink, **further), 0.0)
    return sink


@pytest.mark.parametrize("after", [None, EARLIEST])
def test_streams_of_channels_and_patterns_get_private_events_once_and_as_any(after: int | None) -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    ways: list[dict[str, Any]] = [
        {"channels": [b"a"]},
        {"channels": [b"a", b"b"]},
        {"channels": [], "patterns": [b"**"]},
        {"channels": [b"z"], "patterns": [b"a"]},
        {"channels": [b"a"], "enveloped": True},
        {"channels": [], "patterns": [b"*"], "enveloped": True},
    ]
    sinks = [heard(fanout, **way) for way in ways] if after is None else []
    log.append(*published(["a", "b"], "x", private=True, id="urn:x"))
    sinks = sinks or [heard(fanout, **way, after=after) for way in ways]
    settle(fanout)
    for sink in sinks:
        (event,) = EventParser().feed(sink.stream)
        assert event.id == "urn:x"
        assert "x" in event.data
        assert "\\u0001" not in event.data
        assert "\x01" not in event.data
    assert '"private":true' in sinks[4].stream.decode()
    assert f'"at":"{log.event_id(1)}"' in sinks[5].stream.decode()


def test_no_pattern_of_everything_and_no_template_has_the_servers_own_channels() -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    stream = Stream(fanout, ([Template(".*"), Exact("$stats")], PrivateGrants(everything=True)), None)
    log.append(b"$stats", b"data: 1\n\n")
    settle(fanout)
    assert stream.got == []


def test_what_a_channel_forgets_streams_with_matchers_forget() -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    log.append(*published(["a", "b"], "1", private=True))
    log.append(*published("a", "2", private=True))
    log.append(*published("b", "3"))
    settle(fanout)
    log.forget(b"a", b"event: $forgotten\ndata: x\n\n")
    all_of = ([Template("a|b")], PrivateGrants(everything=True))
    stream, only = Stream(fanout, all_of, EARLIEST), Stream(fanout, ([Template("a")], all_of[1]), EARLIEST)
    settle(fanout)
    assert stream.got == [1, 3]
    assert only.got == []


# ---- once per name ---------------------------------------------------------------------------------------------------


class Counting:
    def __init__(self, literal: str = "") -> None:
        self.asked: list[str] = []
        self.exact, self.literal = None, literal

    def matches(self, name: str) -> bool:
        self.asked.append(name)
        return name.startswith("a")


def test_a_matcher_is_asked_of_a_name_once_and_of_no_event() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    matcher = Counting()
    sinks = [heard(fanout, [], source=Source([], [matcher])) for _ in range(3)]
    for _ in range(50):
        log.append(b"a", b"data: 1\n\n")
        log.append(b"b", b"data: 1\n\n")
        settle(fanout)
    heard(fanout, [], source=Source([], [matcher]), after=EARLIEST)
    settle(fanout)
    assert sorted(matcher.asked) == ["a", "b"]
    assert all(sink.stream.count(b"data: 1") == 50 for sink in sinks)


def test_in_one_turn_few_names_are_shown_to_templates_and_no_event_is_lost_by_that() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    matchers = [Counting() for _ in range(100)]
    sinks = [heard(fanout, [], source=Source([], matchers[at : at + 10])) for at in range(0, 100, 10)]
    others = heard(fanout, [b"other"])
    names = tuple(b"a%d" % number for number in range(31))
    log.append(names, b"data: 1\n\n")
    log.append(published([name.decode() for name in names], "2", private=True)[0], b"data: 2\n\n")
    log.append(b"other", b"data: 3\n\n")
    before, turns = 0, 0
    while fanout.drain(0.0):
        asked = sum(len(matcher.asked) for matcher in matchers)
        assert asked - before <= 128
        before, turns = asked, turns + 1
    assert turns >= 31 * 100 // 128
    assert all(sorted(matcher.asked) == sorted([*(name.decode() for name in names), "other"]) for matcher in matchers)
    assert all(sink.stream.count(b"data: 1") == 1 for sink in sinks)
    assert others.stream.count(b"data: 3") == 1


def test_what_is_granted_by_is_asked_within_the_same_bounds() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    grants = [Counting() for _ in range(300)]
    sinks = [heard(fanout, [], source=Source([b"a"], granted_by=[each])) for each in grants]
    log.append(published("a", "2", private=True)[0], b"data: 2\n\n")
    before = 0
    while fanout.drain(0.0):
        asked = sum(len(each.asked) for each in grants)
        assert asked - before <= 128
        before = asked
    assert all(sink.stream.count(b"data: 2") == 1 for sink in sinks)


def test_a_name_is_shown_to_the_templates_that_it_begins_like() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    matchers = [Counting(literal) for literal in ("", "a", "a/", "b/", "a/long" + "é" * 100)]
    sinks = [heard(fanout, [], source=Source([], [matcher])) for matcher in matchers]
    for name in ("a/long" + "é" * 100, "a/1", "b", "a"):
        log.append(name.encode(), b"data: 1\n\n")
        settle(fanout)
    assert [len(matcher.asked) for matcher in matchers] == [4, 3, 2, 0, 1]
    assert [sink.stream.count(b"data: 1") for sink in sinks] == [3, 3, 2, 0, 1]


def test_exact_names_are_found_without_asking_anybody() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    sinks = [heard(fanout, [], source=Source([b"user/%d" % at])) for at in range(500)]
    log.append(b"user/7", b"data: 1\n\n")
    settle(fanout)
    assert [at for at, sink in enumerate(sinks) if sink.stream] == [7]
    assert fanout.index.patterns.looked < 5


def test_a_matcher_that_fails_has_no_name_and_harms_nobody() -> None:
    class Failing(Counting):
        def matches(self, name: str) -> bool:
            raise ValueError(name)

    log = Log.private(1 << 16)
    fanout = FanOut(log)
    ours = heard(fanout, [b"a"])
    theirs = heard(fanout, [], source=Source([], [Failing()]))
    log.append(b"a", b"data: 1\n\n")
    settle(fanout)
    assert b"data: 1" in ours.stream
    assert theirs.stream == b""


def test_different_templates_are_bounded_and_come_back_with_who_leaves() -> None:
    fanout = FanOut(Log.private(1 << 16))
    streams = [fanout.subscribe([], Taking(), source=Source([], [Template(f"t{at}")])) for at in range(1024)]
    with pytest.raises(HubClosed):
        fanout.subscribe([], Taking(), source=Source([], [Template("one more")]))
    assert fanout.patterns == 1024
    fanout.unsubscribe(streams.pop())
    fanout.subscribe([], Taking(), source=Source([], [Template("one more")]))
    with pytest.raises(HubClosed):
        fanout.subscribe([], Taking(), source=Source([], [Template("t1"), Template("two more")]))
    assert fanout.patterns == 1024


def test_what_is_only_granted_is_no_template_that_counts() -> None:
    fanout = FanOut(Log.private(1 << 16))
    for user in range(1100):
        fanout.subscribe([], Taking(), source=Source([b"news"], granted_by=[Template(f"users/{user}/.*")]))
    assert fanout.patterns == 1100


# ---- by the hub ------------------------------------------------------------------------------------------------------


def test_who_names_all_and_may_see_all_of_it_needs_no_more_than_channels() -> None:
    exact = (Exact("a"), Exact("b"))
    assert listening(exact, PrivateGrants(everything=True)) == ((b"a", b"b"), None)
    assert listening(exact, PrivateGrants((*exact, Template(".*")))) == ((b"a", b"b"), None)
    assert listening(exact, None) == ((), Source([b"a", b"b"]))
    assert listening((*exact, Template("c")), PrivateGrants(everything=True))[0] == ()
    assert listening((), None) == ((), None)


def run(hub: Hub, **wants: Any) -> tuple[str, str, list[str]]:
    """How it resumes, behind which event it begins, and what it gets."""
    sink = Taking()
    subscription = hub.attach([], sink, **wants)
    preceding = subscription.preceding
    subscription.start()
    settle(hub.fanout)
    subscription.close()
    return subscription.resumed, preceding, [event.data for event in EventParser().feed(sink.stream)]


def test_a_hub_says_behind_which_event_a_stream_begins() -> None:
    async def check() -> None:
        hub = Hub(log_size=1 << 16)
        first = await hub.publish("a", "1", id="urn:1")
        await hub.publish("other", "2", id="urn:2")
        await hub.publish("a", "3", private=True)
        one = (Exact("a"),)
        assert run(hub, matchers=one, last_event_id="urn:1") == ("complete", "urn:1", [])
        assert run(hub, matchers=one, last_event_id="earliest") == ("complete", "earliest", ["1"])
        assert run(hub, matchers=one, last_event_id="urn:nobody") == ("gap", "earliest", ["1"])
        granted = PrivateGrants(one)
        assert run(hub, matchers=one, private=granted, last_event_id=str(first)) == ("complete", str(first), ["3"])
        assert run(hub, matchers=one, private=granted, history=1) == ("live", "urn:2", ["3"])
        assert run(hub, matchers=one) == ("live", hub.event_id(3), [])
        await hub.close()

    asyncio.run(check())


def test_hidden_names_of_many_topics_are_whole() -> None:
    assert hidden([b"a", b"b"]) == b"\x01a\x01b"


# ---- from an engine, and from an edge --------------------------------------------------------------------------------


def test_a_nodes_log_has_private_events_and_publishers_ids_as_the_engine_has() -> None:
    log = Log.private(1 << 16)
    mark(log, "1700000000000")
    channels, body = unpack(pack(published(["a", "b"], "x", private=True, id="urn:x")))
    append_at(log, [(1, channels, body, 0), (2, b"a", published("a", "y", fragment=True)[1], 0)])
    fanout = FanOut(log)
    stream = Taking()
    fanout.unblock(fanout.subscribe([b"a"], stream, after=EARLIEST), 0.0)
    refused = heard(fanout, [], source=Source([b"a"]), after=EARLIEST)
    settle(fanout)
    ids = [event.id for event in EventParser().feed(stream.stream) if event.event == "message"]
    assert ids == ["urn:x", "#1700000000000-2"]
    assert [event.data for event in EventParser().feed(refused.stream) if event.event == "message"] == ["y"]
    assert fanout.position_of_id(b"urn:x") == log.cursor("1700000000000", 1)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("wants", [{}, {"id": "urn:x"}, {"fragment": True}])
def test_an_edge_in_front_has_both_from_the_inner_one(private: bool, wants: dict[str, Any]) -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    event = published(["a", "b"], "x", private=private, event="kind", **wants)
    log.append(*event)
    sink = heard(fanout, [], patterns=[b"**"], enveloped=True, after=EARLIEST)
    settle(fanout)
    (said,) = EventParser().feed(sink.stream)
    item = item_of(said)
    assert isinstance(item, Events)
    assert (item.epoch, [(position, *rest) for position, *rest, _ in item.events]) == (log.epoch, [(1, *event)])
    if "fragment" not in wants:
        assert from_json_object(line_of(event, None), 1000) == event


def test_who_moves_into_the_place_of_a_stream_that_left_gets_nothing_of_its() -> None:
    log = Log.private(1 << 16)
    fanout = FanOut(log)
    matching = [Stream(fanout, ([Template("a")], None), None), Stream(fanout, ([Exact("a")], None), None)]
    others = [Stream(fanout, ([Template("b")], None), None) for _ in range(2)] + [
        Stream(fanout, ([Exact("c")], None), None)
    ]
    log.append(*published("a", "1"))
    settle(fanout)
    for number, stream in enumerate(matching, 2):
        fanout.unsubscribe(stream.subscriber)
        log.append(*published("a", str(number)))
        settle(fanout)
    assert [stream.got for stream in matching] == [[1], [1, 2]]
    assert [stream.got for stream in others] == [[], [], []]
