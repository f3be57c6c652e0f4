"""Laws 3 to 6 as a state machine: the native log, index and fan-out against the model, step by step.

Every write is checked byte for byte, taken out of gzip and of its envelopes where the stream has them, against what
the model says must come next. Beside that, a ledger that knows nothing of cursors reads what each subscriber got, as a
client would: every event once, in order, or told of a gap.

HYPOTHESIS_PROFILE=long runs a hundred times as many examples.
"""

import gzip
import json
import mmap
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from model import (
    CLOSED,
    PARKED,
    READY,
    Channels,
    ModelFanOut,
    ModelLog,
    ModelSubscriber,
    Wanted,
    assert_none_lost_in_silence,
)

from sse_fast._native.fanout.drain import EARLIEST, TIMEOUTS_UNDER_SKIP, UNKNOWN, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import Log, segment_size
from sse_fast.errors import BatchTooLarge, EndReason

PROFILES = {"default": (250, 40), "long": (6000, 70)}
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]
EPOCH = "modelled"

channels = st.sampled_from([b"a", b"b", b"c", b"room:%s" % (b"d" * 40), b"room:e", b"$f"])
patterns = st.sampled_from([b"*", b"**", b"room:*", b"room:**", b"*:e", b"*:*", b"nobody:*", b"*:e:**"])
channel_sets = st.one_of(
    st.lists(channels, min_size=1, max_size=1), st.lists(channels, min_size=2, max_size=4, unique=True)
)
selections = st.builds(
    Wanted,
    st.lists(channels, max_size=2, unique=True),
    st.lists(patterns, min_size=1, max_size=3, unique=True),
)
bodies = st.one_of(st.integers(0, 40), st.integers(0, 800)).map(lambda n: b"data: %s\n\n" % (b"x" * n))
events = st.tuples(st.one_of(channels, channels, st.lists(channels, min_size=1, max_size=4).map(tuple)), bodies)
pauses = st.sampled_from([0.0, 1.0, 5.0])


class Broken(Exception):
    pass


class RecordingSink(Sink):
    """Answers each write as told beforehand (`plans`), and as `habit` when nothing was told."""

    def __init__(self, machine: "FanOutMachine") -> None:
        self.machine = machine
        self.plans: list[str] = []
        self.habit = "take"
        self.enveloped = False
        self.compressed = b""  # of a gzip stream, all that a client has been sent
        self.plain = b""  # what that is to be
        self.native: Subscriber
        self.model: ModelSubscriber
        self.stream = b""
        self.begins_after = 0
        self.gap_until = 0  # what was told to be gone at the start, by `lost`
        self.forgotten: frozenset[int] = frozenset()  # what was by then, for one that did not come back
        self.end: EndReason | None = None

    def write(self, data: bytes) -> bool:
        plan = self.plans.pop(0) if self.plans else self.habit
        self.machine.on_write(self, data, plan)
        return plan != "block"

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.machine.on_ended(self, reason, error)

    def become_gzip(self) -> None:
        self.plain = b"retry: 1\n"
        self.compressed = self.gzip(self.plain)

    def unzipped(self, data: bytes) -> bytes:
        """What a client reads in this, whatever it has read before, and at once: nothing may be left for later."""
        if not self.compressed:
            return data
        piece = zlib.decompressobj(-15).decompress(data)
        self.compressed += data
        self.plain += piece
        return piece


class FanOutMachine(RuleBasedStateMachine):
    subscribers = Bundle("subscribers")

    @initialize(
        capacity=st.sampled_from([4096, 8192, 65536]),
        skip=st.booleans(),
        piece=st.sampled_from([1, 150, 1000, 32768]),
        remembered=st.sampled_from([0, 1, 2, 65536]),
        take_in=st.sampled_from([0, 2, 65536, 65536]),
        tell=st.sampled_from([1, 2, 4096]),
        deep=st.sampled_from([0, 300, 262144]),
        unknown=st.sampled_from([1, 3, 10_000]),
        drop=st.sampled_from([1, 3, 1024]),
        merge=st.sampled_from([1, 2, 5, 16384]),
        matched=st.sampled_from([0, 1, 5, 1 << 20, 1 << 20]),
        look=st.sampled_from([1, 3, 4096]),
        compress=st.sampled_from([0, 60, 256]),
    )
    def start(self, capacity: int, tell: int, deep: int, matched: int, look: int, compress: int, **limits: Any) -> None:
        memory = mmap.mmap(-1, segment_size(capacity))
        self.writer = Log(memory, epoch=EPOCH)
        self.native = FanOut(Log(memory), tell=tell, deep=deep, matched=matched, look=look, compress=compress, **limits)
        self.log = ModelLog(capacity, EPOCH)
        self.model = ModelFanOut(self.log, **limits)
        self.sinks: list[RecordingSink] = []
        self.now = 100.0
        self.wall = time.time()
        self.step = SimpleNamespace(doing="", frame=b"", wrote=[], timeout=0.0)

    # ---- what the native fan-out does to sinks ----

    def out_of_envelopes(self, data: bytes, listened: Sequence[bytes]) -> bytes:
        """What the log has, of what a stream of these channels is handed; an envelope says which of them it is from."""
        frames = []
        for frame in data.removesuffix(b"\n\n").split(b"\n\n"):
            before, found, line = frame.partition(b"data: ")
            if not found or b'"channel":' not in line:
                frames.append(frame + b"\n\n")
                continue
            line, _, behind = line.partition(b"\n")
            inside = json.loads(line)
            if behind:
                event = self.log.history[int(behind.rpartition(b"-")[2]) - 1]
                names = [name.decode() for name in event.channels if name in listened]
                assert (inside["channel"], inside.get("channels", names[:1])) == (names[0], names)
            lines = inside["data"].encode().split(b"\n")
            frames.append(b"".join((before, *(b"data: %b\n" % text for text in lines), behind)))
            frames[-1] += b"\n\n" if behind else b"\n"
        return b"".join(frames)

    def on_write(self, sink: RecordingSink, data: bytes, plan: str) -> None:
        subscriber = sink.model
        handed = len(data)
        data = sink.unzipped(data)
        written = len(data)
        if sink.enveloped and self.step.doing in ("drain", "say"):
            data = self.out_of_envelopes(data, subscriber.channels)
        assert subscriber.state == READY, f"a {subscriber.state} subscriber was written to"
        assert not subscriber.finished, "it was written to behind its last words"
        assert subscriber not in self.step.wrote or self.step.doing != "say"
        self.step.wrote.append(subscriber)
        if self.step.doing == "end_due":
            assert subscriber.until is not None
            assert subscriber.due <= self.wall, "it was told of an end that is not near"
            count = False
            if subscriber.until <= self.wall:
                expected = subscriber.last_words(self.wall)
            else:
                expected = subscriber.notice(self.wall)
                subscriber.warned = True
        elif self.step.doing == "drain":
            if subscriber.wanted is None:
                expected, count = self.model.next_write(subscriber)
            else:
                if subscriber.seeks_until is not None:  # what was evicted before it was found is no history
                    sink.gap_until = max(sink.gap_until, min(self.model.index.floor, subscriber.seeks_until))
                expected, count = data, self.model.next_selected(subscriber, data, sink.native)
            assert written <= self.model.piece or count <= 1, "more than a piece was handed over at once"
        else:
            expected, count = self.step.frame, self.step.doing == "say"
        assert data == expected
        if plan == "raise":
            raise Broken
        if self.step.doing == "drain":
            sink.stream += data
        if plan == "leave":
            self.drop(sink)
        elif plan == "kick":
            self.drop(next((other for other in self.sinks if other.model.state != CLOSED), sink))
        self.model.written(subscriber, data, count, self.now, plan == "block")
        self.model.delivered_bytes += handed - len(data)  # the envelopes', and less where it is compressed

    def on_ended(self, sink: RecordingSink, reason: EndReason, error: Exception | None) -> None:
        subscriber = sink.model
        assert subscriber.state != CLOSED, "it was told twice that it left"
        if reason is EndReason.ERROR:
            if not isinstance(error, Broken):
                raise error or AssertionError("no error was named")
            assert self.step.wrote[-1] is subscriber
        elif reason is EndReason.SLOW:
            assert error is None
            assert not self.model.skip or subscriber.timeouts == TIMEOUTS_UNDER_SKIP
            self.model.slow += 1
            if self.step.doing == "expire":
                assert subscriber.blocked
                assert self.now - subscriber.touched >= self.step.timeout
            else:
                assert self.step.doing == "drain"
                assert subscriber.state == READY
                assert self.model.is_lost(subscriber), "it had to leave although nothing of its channels is gone"
                if subscriber.wanted is None:
                    oldest = self.model.index.oldest_of(subscriber.channels)
                    assert subscriber.position < oldest, "it had to leave although nothing of its channels was evicted"
        elif reason is EndReason.EXPIRED or reason is EndReason.AGE:
            assert self.step.doing == "end_due"
            assert subscriber.until is not None
            assert subscriber.until <= self.wall, "it was ended before its time"
            assert subscriber.aged == (reason is EndReason.AGE)
        else:
            assert reason is EndReason.SHUTDOWN
            assert self.step.doing == "end_all"
        sink.end = reason
        self.model.remove(subscriber)

    def drop(self, sink: RecordingSink) -> None:
        self.native.unsubscribe(sink.native)
        if sink.model.state != CLOSED:
            self.model.remove(sink.model)

    @contextmanager
    def doing(self, what: str, frame: bytes = b"", pause: float = 0.0, timeout: float = 0.0) -> Iterator[None]:
        self.now += pause
        self.step = SimpleNamespace(doing=what, frame=frame, wrote=[], timeout=timeout)
        yield
        self.step.doing = ""

    # ---- publishing ----

    @rule(event=events)
    def append(self, event: tuple[Channels, bytes]) -> None:
        assert self.writer.append(*event) == self.log.append(*event)

    @rule(burst=st.lists(events, max_size=25))
    def append_many(self, burst: list[tuple[Channels, bytes]]) -> None:
        if len(burst) > 1 and self.log.room_for(burst) > self.log.capacity // 4:
            with pytest.raises(BatchTooLarge):
                self.writer.append_many(burst)
            return
        assert self.writer.append_many(burst) == len(self.log.history) + 1
        for event in burst:
            self.log.append(*event)

    @rule(event=events, times=st.integers(10, 80))
    def append_one_over_and_over(self, event: tuple[Channels, bytes], times: int) -> None:
        for _ in range(times):
            self.append(event)

    @rule(channel=channels)
    def forget(self, channel: bytes) -> None:
        body = b"event: $forgotten\ndata: {}\n\n"
        assert self.writer.forget(channel, body) == self.log.append(channel, body, forgets=True)

    @rule(limit=st.integers(0, 12))
    def take_in(self, limit: int) -> None:
        before = len(self.native.index)
        more = self.native.index.take_in(limit)
        self.model.index.take_in(limit)
        most = max(limit, self.model.index.drop) + 2 * 3  # an event of four channels is taken in, and dropped, whole
        assert len(self.native.index) >= before - most
        assert more or limit == 0 or self.native.index.unread == 0

    # ---- coming and going ----

    @rule(
        target=subscribers,
        names=channel_sets,
        after=st.one_of(st.just(EARLIEST), st.just(UNKNOWN), st.none(), st.integers(0, 30)),
        history=st.one_of(st.just(0), st.integers(0, 6)),
        enveloped=st.booleans(),
        compressed=st.booleans(),
        starts=st.booleans(),
        lives=st.one_of(st.none(), st.sampled_from([-1.0, 3.0, 50.0, 400.0])),
        aged=st.booleans(),
    )
    def subscribe(
        self,
        names: list[bytes],
        after: int | None,
        history: int,
        enveloped: bool,
        compressed: bool,
        starts: bool,
        lives: float | None,
        aged: bool,
    ) -> RecordingSink:
        if after is not None and after >= 0:  # counted from the newest, so that it is near the edge of what is kept
            after = max(0, len(self.log.history) + 2 - after)
        sink = RecordingSink(self)
        sink.enveloped = enveloped
        if compressed:
            sink.become_gzip()
        until = self.wall + lives if lives is not None else None
        sink.native = self.native.subscribe(
            names, sink, after=after, history=history, enveloped=enveloped, until=until, aged=aged
        )
        sink.model = self.model.subscribe(names, after, history)
        assert sink.native.until == until
        sink.model.until, sink.model.aged, sink.model.opened = until, aged, sink.native.opened
        sink.model.enveloped = enveloped
        assert sink.native.lost == sink.model.lost
        sink.begins_after = after if after is not None and after >= 0 and not sink.native.lost else 0
        if after is None:
            sink.begins_after = sink.native.position
            self.check_history(sink, history)
        elif sink.native.lost or after == EARLIEST:
            sink.gap_until = sink.native.position
        if not sink.model.resumed:
            index = self.model.index
            alive = {e.position for name in names for e in index.channels[name].kept}
            sink.forgotten = frozenset(e.position for e in self.log.history if e.position <= index.position) - alive
        self.sinks.append(sink)
        if starts:
            self.unblock(sink, pause=0.0)
        return sink

    def check_history(self, sink: RecordingSink, history: int) -> None:
        index = self.model.index
        alive = {e.position for name in sink.model.channels for e in index.channels[name].kept}
        own = [
            e
            for e in self.log.kept
            if set(e.channels) & set(sink.model.channels) and (e.position > index.position or e.position in alive)
        ]
        unread = [e for e in own if e.position > self.native.index.position]
        taken_in = own[: len(own) - len(unread)]
        begun = [e for e in own if e.position > sink.begins_after]
        most = history * len(sink.model.channels)
        if history and most > self.model.index.merge:  # more may come, and never fewer
            assert len(taken_in[-history:] + unread) <= len(begun) <= len(taken_in[-most:] + unread)
            assert begun == own[-len(begun) :]
        else:
            assert begun == (taken_in[-history:] + unread if history else [])

    @rule(
        target=subscribers,
        wanted=selections,
        after=st.one_of(st.just(EARLIEST), st.just(UNKNOWN), st.none(), st.integers(0, 30)),
        history=st.one_of(st.just(0), st.integers(0, 6)),
        enveloped=st.booleans(),
        compressed=st.booleans(),
        starts=st.booleans(),
    )
    def subscribe_to_patterns(
        self, wanted: Wanted, after: int | None, history: int, enveloped: bool, compressed: bool, starts: bool
    ) -> RecordingSink:
        if after is not None and after >= 0:
            after = max(0, len(self.log.history) + 2 - after)
        sink = RecordingSink(self)
        sink.enveloped = enveloped
        if compressed:
            sink.become_gzip()
        names = list(wanted)
        sink.native = self.native.subscribe(
            names, sink, patterns=wanted.patterns, after=after, history=history, enveloped=enveloped
        )
        sink.model = self.model.subscribe_selected(wanted, sink.native, after, history)
        sink.model.enveloped = enveloped
        if sink.native.lost or after == EARLIEST:
            sink.gap_until = sink.native.position
        else:
            sink.begins_after = sink.native.position if after is None else after
            sink.gap_until = sink.model.position
        if not sink.model.resumed:
            index = self.model.index
            alive = {event.position for event in index.kept_of_wanted(wanted)}
            sink.forgotten = frozenset(e.position for e in self.log.history if e.position <= index.position) - alive
        self.sinks.append(sink)
        if starts:
            self.unblock(sink, pause=0.0)
        return sink

    @rule(sink=subscribers, pause=pauses)
    def unblock(self, sink: RecordingSink, pause: float) -> None:
        self.now += pause
        waits, waited = self.native.unblock(sink.native, self.now), self.model.unblock(sink.model, self.now)
        assert waits >= waited if sink.model.wanted is not None else waits == waited

    @rule(
        sink=subscribers,
        plans=st.lists(st.sampled_from(["take", "block", "block", "raise", "leave", "kick"]), max_size=4),
    )
    def tell_sink(self, sink: RecordingSink, plans: list[str]) -> None:
        sink.plans = plans

    @rule(sink=subscribers, habit=st.sampled_from(["take", "block"]))
    def tell_habit(self, sink: RecordingSink, habit: str) -> None:
        sink.habit = habit

    @rule(sink=consumes(subscribers))
    def unsubscribe(self, sink: RecordingSink) -> None:
        self.drop(sink)

    @precondition(lambda self: len(self.model.everyone) > 8)
    @rule()
    def end_all(self) -> None:
        connections = self.native.connections
        with self.doing("end_all"):
            assert self.native.end_all(EndReason.SHUTDOWN) == connections
        assert self.native.connections == 0

    # ---- the drain and its peers ----

    @rule(budget=st.sampled_from([0, 1000, 20_000, 10**7]), pause=pauses)
    def drain(self, budget: int, pause: float) -> None:
        self.drain_once(budget, pause)

    def drain_once(self, budget: int, pause: float = 0.0) -> bool:
        with self.doing("drain", pause=pause):
            self.model.take_in(4096)
            more = self.native.drain(self.now, budget)
        if not more:
            assert self.native.index.unread == 0
            for subscriber in self.model.everyone:
                assert subscriber.state == PARKED or not self.model.waits(subscriber), "the drain left somebody behind"
        return more

    @rule()
    def drain_until_idle(self) -> None:
        for _ in range(10_000):
            if not self.drain_once(0):
                return
            time.sleep(self.native.rest)
        raise AssertionError("the drain does not come to rest")

    @rule(pause=pauses, timeout=st.sampled_from([0.0, 3.0, 8.0]))
    def expire(self, pause: float, timeout: float) -> None:
        with self.doing("expire", pause=pause, timeout=timeout):
            due = [s for s in self.model.everyone if s.blocked and self.now - s.touched >= timeout]
            for subscriber in due if self.model.skip else ():
                subscriber.timeouts += 1
                if subscriber.timeouts < TIMEOUTS_UNDER_SKIP:
                    subscriber.touched = self.now
                    if subscriber.wanted is not None:
                        subscriber.may_skip = True
                    elif self.model.waits(subscriber):
                        self.model.skip_ahead(subscriber)
            self.native.expire(self.now, timeout)
        for subscriber in due:
            ended = not self.model.skip or subscriber.timeouts >= TIMEOUTS_UNDER_SKIP
            assert subscriber.blocked != ended

    @rule(pause=st.sampled_from([0.0, 2.0, 30.0, 300.0]), count=st.sampled_from([1, 3, 100]))
    def end_due(self, pause: float, count: int) -> None:
        self.wall += pause
        self.model.wall = self.wall
        more = True
        with self.doing("end_due"):
            while more:
                told, before = len(self.step.wrote), list(self.model.everyone)
                more = self.native.end_due(self.wall, self.now, count)
                written = {id(subscriber) for subscriber in self.step.wrote[told:]}
                gone = {id(subscriber) for subscriber in before} - {id(each) for each in self.model.everyone}
                assert len(written | gone) <= count
        for subscriber in self.model.everyone:
            if subscriber.state == PARKED and subscriber.due <= self.wall:  # it is told when it can be written to
                subscriber.warned = subscriber.owes_notice = True
            assert subscriber.due > self.wall

    @rule(pause=pauses, idle=st.sampled_from([0.0, 1.0, 5.0]), everybody=st.booleans(), count=st.integers(0, 3))
    def beat(self, pause: float, idle: float, everybody: bool, count: int) -> None:
        with self.doing("beat", b":\n", pause):
            due = [s for s in self.model.writable if self.now - s.touched >= idle]
            before = list(self.model.everyone)
            self.native.beat(self.now, idle, len(before) if everybody else count)
        self.model.heartbeats += len(self.step.wrote)
        assert all(subscriber in due for subscriber in self.step.wrote)
        if not everybody:
            assert len(self.step.wrote) <= count
        elif before == self.model.everyone:
            assert len(self.step.wrote) == len(due)

    @rule(channel=channels)
    def say(self, channel: bytes) -> None:
        with self.doing("say", b"event: $said\ndata: now\n\n"):
            due = [s for s in self.model.writable if channel in s.channels]
            before = list(self.model.everyone)
            assert self.native.say(channel, self.step.frame, self.now) == len(self.step.wrote)
        assert all(subscriber in due for subscriber in self.step.wrote)
        if before == self.model.everyone:
            assert len(self.step.wrote) == len(due)

    # ---- what must hold after every step ----

    @invariant()
    def counters_agree(self) -> None:
        for name in ("deliveries", "delivered_bytes", "writes", "heartbeats", "gaps", "slow"):
            native, model = getattr(self.native, name), getattr(self.model, name)
            if name in ("gaps", "slow") and any(sink.model.wanted is not None for sink in self.sinks):
                assert native >= model, name  # the model does not know who is skipped ahead, or finds no room
            else:
                assert native == model, name
        assert self.native.connections == len(self.model.everyone)
        assert self.native.blocked == sum(subscriber.blocked for subscriber in self.model.everyone)

    @invariant()
    def log_and_index_agree(self) -> None:
        assert (self.writer.head, self.writer.tail) == (self.log.head, self.log.tail)
        assert [(r.position, r.channels, r.frame) for r in self.native.index.log.records()] == [
            (event.position, event.channels, event.frame) for event in self.log.kept
        ]
        index, model = self.native.index, self.model.index
        assert (index.position, index.forgotten) == (model.position, model.forgotten)
        assert set(index.names()) == set(model.channels)
        assert index.kept == model.kept
        for name, channel in model.channels.items():
            native = index.get(name)
            assert native is not None
            assert (native.kept, native.evicted) == (len(channel.kept), channel.evicted), name
            assert native.subscribers == channel.subscribers
            # It may have to be told of the hole yet; whoever listens can't stand within one.
            assert max(native.last_position, model.lapped) == max(channel.last_position, model.lapped), name

    @invariant()
    def cursors_agree(self) -> None:
        for sink in self.sinks:
            assert sink.native.closed == (sink.model.state == CLOSED)
            assert (sink.native.sink is None) == sink.native.closed
            if not sink.native.closed:
                self.cursor_agrees(sink)

    def cursor_agrees(self, sink: RecordingSink) -> None:
        wanted = sink.model.wanted
        if wanted is None:
            assert sink.native.position == sink.model.position
        elif sink.model.seeks_until is None and not sink.model.may_skip and not self.model.skip:
            passed = self.log.history[sink.model.position : sink.native.position]
            assert sink.native.position >= sink.model.position
            if self.model.index.forgot:
                kept = self.model.index.kept_of_wanted(wanted)
                passed = [event for event in passed if event in kept]
            assert not any(name in wanted for event in passed for name in event.channels), "it passed over an event"

    @invariant()
    def patterns_agree(self) -> None:
        listened = {p for s in self.model.everyone if s.wanted is not None for p in s.wanted.patterns}
        assert self.native.patterns == len(listened)
        for name in (b"a", b"room:e", b"$f"):
            assert self.native.index.patterns.matching(name) == sorted(p for p in listened if name in Wanted((), [p]))
        if not listened:
            assert self.native.index.patterns.remembered == 0

    # ---- the ledger ----

    def settle(self) -> None:
        """Everybody takes everything; then each stream is read as its client would."""
        for sink in self.sinks:
            sink.plans, sink.habit = [], "take"
            self.unblock(sink, pause=0.0)
        self.drain_until_idle()
        for sink in self.sinks:
            self.read_as_client(sink)

    def read_as_client(self, sink: RecordingSink) -> None:
        if sink.compressed:
            assert gzip.decompress(sink.compressed + sink.gzip_end(b"bye\n")) == sink.plain + b"bye\n"
        ended = sink.model.state == CLOSED or sink.model.finished
        if sink.model.seeks_until is not None:
            sink.gap_until = max(sink.gap_until, min(self.model.index.floor, sink.model.seeks_until))
        assert_none_lost_in_silence(
            self.log,
            sink.model.channels,
            sink.stream,
            begins_after=sink.begins_after,
            gap_until=sink.gap_until,
            forgotten=sink.forgotten,
            ended=ended,
        )

    def teardown(self) -> None:
        if hasattr(self, "log") and not self.step.doing:  # a step that failed half-way is told by its own error
            self.settle()
            self.counters_agree()
            self.cursors_agree()


TestFanOut = FanOutMachine.TestCase
TestFanOut.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
