"""Streams that listen by pattern: to channels that are there, that come, go and come again; exactly, once, in order, or
told of a gap; at a price by what matches, and so much a turn. The state machine in test_fanout_machine holds all of it
against the model at once."""

import json
import mmap
import re
import time
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice, product
from typing import Any

import pytest
from front_port import FrontPort
from hypothesis import given
from hypothesis import strategies as st
from model import is_of, parse
from support import until
from taking import Taking
from test_front import Answer, raw_answer
from test_stream import JSON, Served

from sse_fast._native.fanout.drain import EARLIEST, UNKNOWN, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.ring import Log, segment_size
from sse_fast.access.patterns import Patterns
from sse_fast.embed.hub import Hub
from sse_fast.errors import InvalidEvent
from sse_fast.protocol import native
from sse_fast.protocol.native import MOST_PATTERNS, subscription

BODY = b"data: x\n\n"


class Listening(Taking):
    """A stream that takes all it is handed."""

    native: Subscriber

    @property
    def positions(self) -> list[int]:
        return [frame.position for frame in parse(self.stream)]

    @property
    def gaps(self) -> list[int]:
        return [frame.position for frame in parse(self.stream) if frame.event == "$gap"]


def listen(fanout: FanOut, *names: bytes, **options: Any) -> Listening:
    """To channels, and to patterns: those with a `*`."""
    sink = Listening()
    patterns = [name for name in names if b"*" in name]
    channels = [name for name in names if b"*" not in name]
    sink.native = fanout.subscribe(channels, sink, patterns=patterns, **options)
    fanout.unblock(sink.native, 0.0)
    return sink


def drained(fanout: FanOut) -> None:
    while fanout.drain(0.0, 1_000_000):
        time.sleep(fanout.rest)


def publish(fanout: FanOut, *names: bytes | tuple[bytes, ...]) -> list[int]:
    """An event to each, one after the other; their positions."""
    positions = []
    for name in names:
        positions.append(fanout.index.log.append(name, BODY))
        drained(fanout)
    return positions


def publish_many(fanout: FanOut, names: Iterable[bytes]) -> None:
    """An event to each, as fast as it goes."""
    for some in batched(names, 1000):
        fanout.index.log.append_many([(name, BODY) for name in some])
        fanout.index.take_in()


def batched(names: Iterable[bytes], count: int) -> Iterator[list[bytes]]:
    given = iter(names)
    while some := list(islice(given, count)):
        yield some


# ---- which channel is of which pattern ----

segments = st.sampled_from(["a", "b", "", "$a", "é"])
names = st.lists(segments, min_size=1, max_size=5).map(":".join).filter(bool)
texts = st.builds(
    lambda begin, end: ":".join([*begin, *end]),
    st.lists(st.one_of(segments, st.just("*")), max_size=4),
    st.sampled_from([["**"], ["*"], ["a"]]),
)


def fnmatches(pattern: str, name: str) -> bool:
    """Segment by segment, as shells match names."""
    if name.startswith("$") and pattern.startswith("*"):
        return False
    globs, parts = pattern.split(":"), name.split(":")
    if globs[-1] == "**" and len(parts) >= len(globs):
        globs[-1:] = ["*"] * (len(parts) - len(globs) + 1)
    return len(globs) == len(parts) and all(map(fnmatchcase, parts, globs))


@given(patterns=st.lists(texts, min_size=1, max_size=12, unique=True), name=names)
def test_a_channel_is_of_a_pattern_as_fnmatch_has_it_segment_by_segment_and_as_grants_have_it(
    patterns: list[str], name: str
) -> None:
    fanout = FanOut(Log.private(65536))
    streams = [fanout.subscribe([], Listening(), patterns=[pattern.encode()]) for pattern in patterns]
    expected = [pattern for pattern in patterns if fnmatches(pattern, name)]
    assert expected == [pattern for pattern in patterns if is_of(pattern.encode(), name.encode())]
    assert expected == [pattern for pattern in patterns if Patterns.of([pattern]).matches(name)]
    index = fanout.index.patterns
    assert index.matching(name.encode()) == sorted(pattern.encode() for pattern in expected)
    assert all(pattern.encode() in index for pattern in patterns)
    fanout.index.log.append(name.encode(), BODY)  # looked for by a walk, too
    replayed = [listen(fanout, pattern.encode(), after=EARLIEST) for pattern in patterns]
    drained(fanout)
    assert [pattern for pattern, stream in zip(patterns, replayed, strict=True) if stream.positions] == expected
    for stream in streams:
        fanout.unsubscribe(stream)
    for taking in replayed:
        fanout.unsubscribe(taking.native)
    assert index.count == index.remembered == 0
    assert not any(pattern.encode() in index for pattern in patterns)
    assert index.matching(name.encode()) == []


# ---- live ----


def test_channels_that_do_not_exist_yet_and_those_that_come_again_are_heard() -> None:
    fanout = FanOut(Log.private(4096))
    stream, others = listen(fanout, b"orders:*"), listen(fanout, b"orders:*:*")
    heard = []
    for number in range(300):  # each is dropped, and forgotten, long before its turn comes again
        heard += publish(fanout, b"orders:%d" % (number % 100), b"noise")[:1]
    assert fanout.index.get(b"orders:0") is None
    assert stream.positions == heard
    assert others.positions == []


def test_channels_and_patterns_are_one_stream_in_order_and_each_event_comes_once() -> None:
    fanout = FanOut(Log.private(65536))
    stream = listen(fanout, b"news", b"a:x", b"a:*", b"*:x", b"a:**")
    both = (b"a:x", b"a:y", b"news", b"other")
    own = publish(fanout, both, b"other", b"a:x", b"b:x", b"a:y:z", b"$a:x", b"b:y", (b"other", b"a:y"), b"news")
    own = [own[place] for place in (0, 2, 3, 4, 7, 8)]
    assert stream.positions == own
    late = [listen(fanout, b"news", b"a:x", b"a:*", b"*:x", b"a:**", after=after) for after in (EARLIEST, own[2])]
    drained(fanout)
    assert [one.positions for one in late] == [own, own[3:]]
    assert stream.native.position == late[0].native.position == fanout.index.position


def test_a_channel_that_is_there_is_heard_by_a_pattern_that_comes_later() -> None:
    fanout = FanOut(Log.private(65536))
    first = listen(fanout, b"a:*")
    before = publish(fanout, b"a:1")
    second = listen(fanout, b"*:1")
    after = publish(fanout, b"a:1")
    fanout.unsubscribe(first.native)
    last = publish(fanout, b"a:1")
    assert first.positions == before + after
    assert second.positions == after + last


def test_what_is_said_beside_the_log_comes_once_to_whoever_listens_by_name_or_pattern() -> None:
    fanout = FanOut(Log.private(65536))
    streams = [listen(fanout, *wanted) for wanted in ([b"a:b", b"a:*", b"**"], [b"a:*"], [b"a:b"], [b"b:*"])]
    assert fanout.say(b"a:b", b"data: now\n\n", 0.0) == 3
    assert [stream.stream.count(b"now") for stream in streams] == [1, 1, 1, 0]


def test_an_envelope_names_those_channels_of_an_event_that_the_stream_listens_to() -> None:
    fanout = FanOut(Log.private(65536))
    stream = listen(fanout, b"news", b"a:*", enveloped=True)
    publish(fanout, (b"secret", b"a:1", b"a:2", b"a:1:2", b"news"), b"a:3")
    insides = [json.loads(frame.data) for frame in parse(stream.stream)]
    assert [(inside["channel"], inside.get("channels")) for inside in insides] == [
        ("a:1", ["a:1", "a:2", "news"]),
        ("a:3", None),
    ]


def test_who_leaves_takes_the_pattern_with_the_last_of_them() -> None:
    fanout = FanOut(Log.private(65536))
    one, other = listen(fanout, b"a:*", b"b:*"), listen(fanout, b"a:*")
    publish(fanout, b"a:1", b"b:1")
    fanout.unsubscribe(one.native)
    assert (fanout.patterns, fanout.listened) == (1, 1)
    [position] = publish(fanout, b"a:1")
    publish(fanout, b"b:1")
    assert other.positions[-1] == position
    fanout.unsubscribe(other.native)
    publish(fanout, b"a:1")
    patterns = fanout.index.patterns
    assert (fanout.patterns, fanout.listened, patterns.remembered) == (0, 0, 0)


# ---- replay ----


def filled(capacity: int, *, rare: int, names: int = 50, **options: Any) -> tuple[FanOut, list[int]]:
    """A log that is full, in which every so many events there is one of a pattern, each in a channel of its own; their
    positions."""
    fanout = FanOut(Log.private(capacity), **options)
    found = []
    while fanout.index.kept == fanout.index.position:
        for number in range(rare - 1):
            fanout.index.log.append(b"noise:%d" % (number % names), BODY)
        found.append(fanout.index.log.append(b"rare:%d" % len(found), BODY))
        drained(fanout)
    return fanout, found


@pytest.mark.parametrize("look", [1, 7, 4096])
@pytest.mark.parametrize("matched", [0, 8, 1 << 20])
def test_a_resume_is_complete_wherever_it_begins_and_a_beginning_that_is_gone_is_told(look: int, matched: int) -> None:
    fanout, rare = filled(16384, rare=7, look=look, matched=matched)
    oldest = fanout.index.position - fanout.index.kept + 1
    gone = max(position for position in rare if position < oldest)
    for after in range(0, fanout.index.position, 5):
        stream = listen(fanout, b"rare:*", after=after)
        assert stream.native.lost == (after < gone)
        drained(fanout)
        assert stream.positions == [position for position in rare if position > max(after, oldest - 1)]
        fanout.unsubscribe(stream.native)


@pytest.mark.parametrize("look", [2, 4096])
@pytest.mark.parametrize("count", [1, 2, 10, 40, 10_000])
def test_history_is_the_newest_of_a_pattern_however_long_they_take_to_find(look: int, count: int) -> None:
    fanout, rare = filled(32768, rare=9, look=look)
    fanout.index.log.append(b"noise:0", BODY)
    stream = listen(fanout, b"rare:*", b"nobody", history=count)
    late = publish(fanout, b"rare:late")
    kept = [position for position in rare if position > fanout.index.position - fanout.index.kept]
    assert not stream.native.lost
    assert stream.positions == kept[-count:] + late
    assert listen(fanout, b"nobody:*", history=count).positions == []


def test_history_that_there_is_no_room_to_find_begins_with_a_gap() -> None:
    fanout, rare = filled(16384, rare=2, matched=0)
    stream = listen(fanout, b"rare:*", history=10)
    begins = stream.native.position
    assert stream.native.lost
    drained(fanout)
    assert stream.positions == [position for position in rare if position > begins]
    assert fanout.gaps == 1


def test_history_that_is_looked_for_while_all_of_it_is_evicted_hides_no_loss_of_what_came_since() -> None:
    fanout, _ = filled(4096, rare=1000, look=1)
    stream = listen(fanout, b"rare:*", history=5)
    for number in range(200):
        fanout.index.log.append(b"rare:x" if number == 0 else b"noise", BODY)
    drained(fanout)
    assert stream.native.closed, "an event of its own was evicted before it was there: it resumes, and is told"


def test_after_an_id_that_was_never_given_come_the_newest_behind_a_gap() -> None:
    fanout, rare = filled(16384, rare=7, unknown=3)
    stream = listen(fanout, b"rare:*", after=UNKNOWN)
    drained(fanout)
    assert stream.native.lost
    assert stream.positions == rare[-3:]


def test_since_a_moment_ago_is_exact_with_history_before_it() -> None:
    fanout = FanOut(Log.private(65536))
    own = publish(fanout, b"a:1", b"b", b"a:2", b"b", b"a:3")
    stream = listen(fanout, b"a:*", since=own[3], history=1)
    drained(fanout)
    assert stream.positions == [own[2], own[4]]


def test_a_quiet_pattern_is_told_of_no_gap_while_others_are_evicted() -> None:
    fanout = FanOut(Log.private(4096))
    [last] = publish(fanout, b"quiet:1")
    stream = listen(fanout, b"quiet:*")
    publish(fanout, *[b"noise:%d" % (number % 9) for number in range(300)])
    late = publish(fanout, b"quiet:2")
    assert stream.positions == late
    again = listen(fanout, b"quiet:*", after=late[0] - 1)
    before = listen(fanout, b"*:1", b"quiet:*", after=last)
    drained(fanout)
    assert not again.native.lost
    assert before.native.lost, "noise:1 is gone, too"
    for taken in (stream, again, before):
        fanout.unsubscribe(taken.native)
    new = listen(fanout, b"quiet:*", after=last)
    drained(fanout)
    assert not new.native.lost, "nobody listened meanwhile, and each channel knows what it lost"
    assert new.positions == late
    assert listen(fanout, b"quiet:*", after=last - 1).native.lost


@pytest.mark.parametrize("skip", [False, True])
def test_who_was_blocked_until_its_event_was_evicted_is_told_or_leaves_though_nothing_came_since(skip: bool) -> None:
    fanout = FanOut(Log.private(4096), skip=skip)
    sink = Listening()
    sink.native = fanout.subscribe([], sink, patterns=[b"quiet:*"])  # parked
    publish(fanout, b"quiet:1", *[b"noise"] * 300)
    fanout.unblock(sink.native, 0.0)
    drained(fanout)
    assert sink.native.closed != skip
    assert bool(sink.gaps) == skip


def test_where_there_are_too_many_channels_to_ask_a_gap_is_told_rather_than_not() -> None:
    fanout = FanOut(Log.private(1 << 20), remembered=1 << 20)
    publish_many(fanout, (b"c:%d" % number for number in range(18_000)))
    drained(fanout)
    assert fanout.index.position > fanout.index.kept
    assert listen(fanout, b"quiet:*", after=1).native.lost
    assert not listen(fanout, b"quiet:*", after=fanout.index.position - fanout.index.kept).native.lost


def test_a_stream_of_patterns_that_is_overtaken_leaves_or_is_told() -> None:
    for skip in (False, True):
        memory = mmap.mmap(-1, segment_size(4096))
        writer, fanout = Log(memory), FanOut(Log(memory), skip=skip)
        stream, idle = listen(fanout, b"a:*"), listen(fanout, b"b:*")
        for number in range(300):
            writer.append(b"a:%d" % (number % 5), BODY)
        drained(fanout)
        assert stream.native.closed != skip
        assert bool(stream.gaps) == skip
        # It cannot know what there was in the hole either.
        assert idle.native.closed != skip
        assert stream.positions[-1:] == ([fanout.index.position] if skip else [])


FORGOTTEN = b"event: $forgotten\ndata: {}\n\n"


@pytest.mark.parametrize("matched", [0, 1 << 20])
def test_what_a_channel_forgets_is_in_no_replay_of_a_pattern_and_who_was_to_get_it_is_told(matched: int) -> None:
    fanout = FanOut(Log.private(65536), matched=matched)
    live = listen(fanout, b"a:*")
    own = publish(fanout, b"a:1", b"a:2", (b"a:1", b"a:2"), b"b", b"a:1")
    behind = listen(fanout, b"a:*", after=EARLIEST)
    fanout.index.log.forget(b"a:1", FORGOTTEN)
    drained(fanout)
    told = fanout.index.position
    assert live.positions == [*own[:3], own[4], told], "it had them already, and gets the event that says so"
    assert behind.gaps == [own[4]], "it was to get some that are forgotten"
    assert behind.positions[-1] == told
    kept = [own[1], own[2], told]  # the other channel of one has not forgotten it
    fresh = listen(fanout, b"a:*", after=EARLIEST)
    newest = listen(fanout, b"a:*", b"nobody:*", history=2)
    before, after = (listen(fanout, b"a:*", after=position) for position in (own[0], own[4]))
    for stream in (live, behind):
        fanout.unsubscribe(stream.native)
    drained(fanout)
    assert (fresh.positions, fresh.native.lost) == (kept, False)
    assert (newest.positions, newest.native.lost) == (kept[-2:], False)
    assert (before.native.lost, after.native.lost, after.positions) == (True, False, [told])
    publish(fanout, b"a:1")
    assert fresh.gaps == newest.gaps == after.gaps == []


def test_a_mark_of_another_epoch_is_passed_by_streams_of_patterns_too() -> None:
    log = Log.private(65536)
    fanout = FanOut(log)
    live = listen(fanout, b"a:*")
    first = log.append(b"a:1", BODY)
    behind = log.append(b"a:2", BODY)
    drained(fanout)
    mark(log, "1700000000001", first, position=5)
    append_at(log, [(6, b"a:3", BODY, 0)])
    drained(fanout)
    fresh = listen(fanout, b"a:*", after=EARLIEST)
    forked = listen(fanout, b"a:*", after=behind)
    drained(fanout)
    assert [re.findall(rb"event: \$gap", stream.stream) for stream in (live, fresh)] == [[b"event: $gap"]] * 2
    assert forked.native.lost
    assert [stream.stream.count(b"data: x") for stream in (live, fresh, forked)] == [3, 2, 1]


# ---- the price ----


def test_publishing_costs_nothing_by_patterns_that_do_not_match() -> None:
    """A channel looks through them once, along its own segments, and again when one came or went that it is of."""
    fanout = FanOut(Log.private(1 << 20))
    for number in range(5_000):
        listen(fanout, b"tenant:%d:*" % number, b"other:**")
    looked = fanout.index.patterns.looked
    publish(fanout, b"tenant:7:a")
    first = fanout.index.patterns.looked - looked
    assert first <= 8
    publish(fanout, *[b"tenant:7:a"] * 500)
    assert fanout.index.patterns.looked == looked + first
    told = fanout.told
    publish(fanout, b"tenant:7:a")
    assert fanout.told == told + 1


def test_patterns_that_come_and_go_cost_a_publish_no_look_through_the_others_however_they_are_made() -> None:
    """Of 2^n patterns with a wildcard or not in each of n places a name of theirs has all nodes to look at."""
    fanout = FanOut(Log.private(1 << 20))
    index, places = fanout.index.patterns, 9
    hostile = [b":".join(each) + b":zz" for each in product([b"a", b"*"], repeat=places)]
    for some in batched(hostile, 8):
        listen(fanout, *some)
    name = b":".join([b"a"] * (places + 1))
    other = b"b" + name[1:]
    publish(fanout, name, other)
    looked = index.looked
    toggled = listen(fanout, b"a:*:nobody")
    for _ in range(10):
        fanout.unsubscribe(toggled.native)
        publish(fanout, name, other)
        toggled = listen(fanout, b"a:*:nobody")
        publish(fanout, name, other)
    assert index.looked == looked
    assert index.compared == 2 * 21
    last = listen(fanout, name[:-1] + b"*")
    positions = publish(fanout, name, other)
    assert index.looked >= looked + 2**places, "what it is of has come"
    assert last.positions == positions[:1]
    for _ in range(2**places + 2):
        fanout.unsubscribe(listen(fanout, b"nobody:*").native)
    looked, compared = index.looked, index.compared
    publish(fanout, name)
    assert index.compared - compared <= 2 * 2**places, "more than there are nodes is not worth it"


@given(
    st.lists(
        st.one_of(st.tuples(st.just("listen"), texts), st.tuples(st.just("leave"), st.integers(0, 9)), names),
        max_size=40,
    )
)
def test_whatever_came_went_or_moved_meanwhile_each_has_what_its_pattern_matches(steps: list[Any]) -> None:
    fanout = FanOut(Log.private(1 << 18))
    streams: list[tuple[str, Listening]] = []
    for step in steps:
        if isinstance(step, str):
            before = {stream: len(stream.positions) for _, stream in streams}
            (position,) = publish(fanout, step.encode())
            for pattern, stream in streams:
                assert stream.positions[before[stream] :] == [position] * fnmatches(pattern, step)
        elif step[0] == "listen":
            streams.append((step[1], listen(fanout, step[1].encode())))
        elif streams:
            _, stream = streams.pop(step[1] % len(streams))
            fanout.unsubscribe(stream.native)


def test_a_pattern_among_many_channels_is_there_at_once_and_what_it_had_is_looked_for_so_much_a_turn() -> None:
    count, look = 20_000, 500
    fanout = FanOut(Log.private(1 << 22), look=look)
    publish_many(fanout, (b"c:%d" % number for number in range(count)))
    drained(fanout)
    streams = []
    for options in ({}, {"after": 1}, {"after": EARLIEST}, {"history": 2}):
        steps = fanout.index.steps
        streams.append(listen(fanout, b"c:*", b"x:*", **options))
        assert fanout.index.steps - steps <= 2 * look
    fanout.index.log.append(b"x:new", BODY)
    live, resumed, earliest, history = streams
    turns = 0
    while True:
        steps = fanout.index.steps
        more = fanout.drain(0.0, 0)
        assert fanout.index.steps - steps <= 3 * (look + 4096)  # what a turn looks at, and a piece, of each queue
        turns += 1
        if turns == 2:
            assert live.positions == [count + 1], "it missed nothing, and waits for nobody's past"
        if not more:
            break
    assert live.positions == [count + 1]
    assert resumed.positions == list(range(2, count + 2))
    assert earliest.positions == list(range(1, count + 2))
    assert history.positions == [count - 1, count, count + 1]


def test_what_a_pattern_had_is_looked_for_once_for_all_its_streams() -> None:
    fanout, rare = filled(1 << 17, rare=50)
    steps = fanout.index.steps
    streams = [listen(fanout, b"rare:*", after=fanout.index.position - fanout.index.kept) for _ in range(100)]
    drained(fanout)
    assert fanout.index.steps - steps < 2 * fanout.index.kept
    kept = [position for position in rare if position > fanout.index.position - fanout.index.kept]
    assert all(stream.positions == kept for stream in streams)


def test_what_patterns_remember_is_bounded_over_all_of_them() -> None:
    fanout = FanOut(Log.private(1 << 20), matched=1000)
    streams = [listen(fanout, b"*:*:x", b"c:%d:*" % number) for number in range(20)]
    slow = listen(fanout, b"c:**")
    begins = fanout.index.position
    publish_many(fanout, (b"c:%d:x" % (number % 25) for number in range(5000)))
    drained(fanout)
    publish_many(fanout, [b"c:1:x"] * 5000)
    drained(fanout)
    assert fanout.index.patterns.remembered <= 1000 + 256 * fanout.patterns
    for stream in [*streams, slow]:
        assert stream.positions == list(range(begins + 1, fanout.index.position + 1))


# ---- asked for over HTTP ----


@pytest.mark.parametrize(
    ("path", "query", "channels", "patterns"),
    [
        ("", "pattern=a:*", (), ("a:*",)),
        ("", "pattern=a%3A*&pattern=**&pattern=a:*", (), ("a:*", "**")),
        ("x", "pattern=a:*", ("x",), ("a:*",)),
        ("", "pattern=a:b&channel=c&pattern=d:**", ("c", "a:b"), ("d:**",)),
        ("", "pattern=$presence:*", (), ("$presence:*",)),
        ("a", "pattern=a", ("a",), ()),
    ],
)
def test_a_stream_names_patterns_beside_channels_and_one_without_a_wildcard_is_a_channel(
    path: str, query: str, channels: tuple[str, ...], patterns: tuple[str, ...]
) -> None:
    asked = subscription(path, query.encode(), None, 8)
    assert (asked.channels, asked.patterns) == (channels, patterns)
    assert native.query_is_plain(query.encode())


@pytest.mark.parametrize("name", ["orders:*", "orders:**", "*", "**:a", "a:*:b"])
def test_a_pattern_is_no_channel_to_listen_to(name: str) -> None:
    """Nobody publishes there: it would listen in silence."""
    for path, query in ((name, ""), ("", f"channel={name}"), ("a", f"channel={name}")):
        with pytest.raises(InvalidEvent, match=r"is a pattern, .*/sse\?pattern="):
            subscription(path, query.encode(), None, 8)
    for plain in ("a*", "a:b*", "a:***"):
        assert subscription(plain, b"", None, 8).channels == (plain,)


@pytest.mark.parametrize(
    "query",
    [
        "pattern=",
        "pattern=ord*",
        "pattern=**:a",
        "pattern=a/*",
        "pattern=a:%20*",
        "pattern=" + "a:" * 20 + "*",
        "pattern=" + "x" * 2047 + ":*",
        "pattern=$nothing",
        "patterns=a:*",
        "&".join(f"pattern=a{number}:*" for number in range(MOST_PATTERNS + 1)),
    ],
)
def test_a_pattern_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(InvalidEvent):
        subscription("", query.encode(), None, 8)


async def test_a_stream_over_http_listens_by_pattern_resumes_exactly_and_is_told_what_it_is_from() -> None:
    served = Served()
    stream = await served.call("", query=b"pattern=orders:*&channel=news").opened()
    first = await served.hub.publish("orders:1", "one")
    await served.hub.publish("orders:1:lines", "no")
    await served.hub.publish(["news", "orders:2"], "two")
    await stream.until(b"two")
    assert stream.events[1:] == [("message", "one"), ("message", "two")]
    again = await served.call("", query=b"pattern=orders:*&envelope=json&last_event_id=" + str(first).encode()).opened()
    await again.until(b"two")
    [inside] = [json.loads(data) for type, data in again.events if type == "message"]
    assert (inside["channel"], inside["data"]) == ("orders:2", "two")
    for call in (stream, again):
        await call.leave()
    assert served.empty
    await served.hub.close()


def test_what_a_pattern_may_replay_counts_as_all_that_is_looked_through() -> None:
    fanout = FanOut(Log.private(65536))
    publish(fanout, *[b"a:1", b"b"] * 50)
    whole = fanout.to_replay([], patterns=[b"a:*"], after=EARLIEST)
    assert whole == fanout.index.log.head
    assert fanout.to_replay([], patterns=[b"a:*"], after=UNKNOWN) == whole
    assert 0 < fanout.to_replay([], patterns=[b"a:*"], history=10) < whole // 5
    assert 0 < fanout.to_replay([], patterns=[b"a:*"], after=90) < whole // 5
    assert fanout.to_replay([], patterns=[b"a:*"]) == fanout.to_replay([], patterns=[b"a:*"], after=100) == 0


async def test_a_stream_of_the_front_listens_by_pattern() -> None:
    async with FrontPort.opened(log_size=1 << 20) as port:
        request = b"GET /sse?pattern=orders:*&last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n"
        for channel in ("orders:1", "other", "orders:2"):
            await port.hub.publish(channel, channel)
        answer = Answer(await raw_answer(port.number, request, enough=b"orders:2"), ended=False)
        assert answer.events[1:] == [("message", "orders:1"), ("message", "orders:2")]
        await until(lambda: not port.hub.fanout.connections)
        assert port.hub.fanout.patterns == 0


async def test_an_app_may_answer_with_a_stream_of_patterns() -> None:
    hub = Hub()
    request = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    response = hub.response(request, ["a"], patterns=["orders:*", "b", "orders:*"])
    assert (response.wanted.channels, response.wanted.patterns) == (("a", "b"), ("orders:*",))
    assert hub.response(request, [], patterns=["**"]).wanted.patterns == ("**",)
    with pytest.raises(InvalidEvent, match="within a segment"):
        hub.response(request, [], patterns=["ord*"])
    with pytest.raises(InvalidEvent, match="at least one channel or pattern"):
        hub.response(request, [])
    with pytest.raises(TypeError, match="lists of names"):
        hub.response(request, [], patterns="**")
    await hub.close()


async def test_patterns_that_are_listened_to_are_bounded_and_the_same_one_counts_once() -> None:
    served = Served(max_patterns=2)
    inside = [await served.call("", query=b"pattern=a:*&pattern=b:*").opened() for _ in range(3)]
    refused = await served.call("", query=b"pattern=a:*&pattern=c:*", headers=JSON).answered()
    assert refused.status == 503
    assert "all 2 patterns" in json.loads(refused.body)["detail"]
    assert served.admission.refused["max_patterns"] == 1
    for call in inside:
        await call.leave()
    await (await served.call("", query=b"pattern=c:*").opened()).leave()
    assert served.empty
    await served.hub.close()
