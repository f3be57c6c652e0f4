"""Reserves as a state machine: whatever is published, forgotten, resumed and evicted, each stream gets what the log or
a reserve has of its channels, in order and once, and what it did not get is gone, and was told."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule
from model import Wanted, is_of, parse

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import Log
from sse_fast.errors import EndReason

PROFILES = {"default": (60, 30), "long": (4000, 70)}
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]

channels = st.sampled_from([b"noise", b"other", b"room:x", b"room:y", b"order:1", b"order:2"])
patterns = st.sampled_from([b"*", b"**", b"room:*", b"order:*", b"*:1", b"room:y"])
reserves = st.one_of(
    st.just([(b"room:*", 4096), (b"order:*", 4096)]),
    st.lists(
        st.tuples(patterns, st.sampled_from([4096, 4096, 8192, 0])),
        min_size=1,
        max_size=4,
        unique_by=lambda reserve: reserve[0],
    ).filter(lambda reserves: any(size for _, size in reserves)),
)
wanted = st.one_of(
    st.builds(Wanted, st.lists(channels, min_size=1, max_size=3, unique=True)),
    st.builds(
        Wanted,
        st.lists(channels, max_size=1),
        st.lists(patterns, min_size=1, max_size=2, unique=True),
    ),
)


@dataclass(frozen=True)
class Published:
    position: int
    channels: tuple[bytes, ...]


@dataclass
class Reader(Sink):
    wanted: Wanted
    stream: bytes = b""
    blocks: bool = False
    end: EndReason | None = None
    after: int = 0
    lost: bool = False
    gone_until: int = 0
    whole: bool = True
    """It is owed all that is kept after `after`, and not a history of some length."""
    native: Subscriber = field(init=False)

    def write(self, data: bytes) -> bool:
        self.stream += data
        return not self.blocks

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.end = reason


class ReservesMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    @initialize(
        reserves=reserves,
        piece=st.sampled_from([1, 150, 32768]),
        look=st.sampled_from([2, 4096]),
        drop=st.sampled_from([1, 1024]),
        skip=st.booleans(),
        keeps_up=st.booleans(),
    )
    def start(
        self, reserves: Sequence[tuple[bytes, int]], piece: int, look: int, drop: int, skip: bool, keeps_up: bool
    ) -> None:
        self.reserves = reserves
        self.log = Log.private(4096, reserves=reserves)
        self.options = {"piece": piece, "look": look, "drop": drop, "skip": skip}
        self.fanout = FanOut(self.log, **self.options)  # type: ignore[arg-type]
        self.events: list[Published] = []
        self.all: list[Reader] = []
        self.forgotten: dict[bytes, int] = {}
        self.renewed = False
        self.keeps_up, self.lapped = keeps_up, False

    def reserve_of(self, name: bytes) -> int | None:
        """Which of the log's reserves it has."""
        for at, (pattern, size) in enumerate(self.reserves):
            if is_of(pattern, name):
                return sum(size > 0 for _, size in self.reserves[:at]) if size else None
        return None

    def kept(self) -> tuple[set[int], list[set[int]]]:
        return {record.position for record in self.log.records()}, [
            {record.position for record in log.records()} for log in self.log.reserves
        ]

    def is_kept(self, event: Published, name: bytes, kept: tuple[set[int], list[set[int]]]) -> bool:
        reserve = self.reserve_of(name)
        return event.position > self.forgotten.get(name, 0) and (
            event.position in kept[0] or (reserve is not None and event.position in kept[1][reserve])
        )

    @rule(names=st.lists(channels, min_size=1, max_size=3, unique=True), size=st.sampled_from([0, 20, 200]))
    def publish(self, names: list[bytes], size: int) -> None:
        if self.fanout.index.unread > 2048:  # who is overtaken is told of a gap, whatever there was
            self.fanout.index.take_in()
        position = self.log.append(tuple(names), b"data: %s\n\n" % (b"x" * size))
        self.events.append(Published(position, tuple(names)))
        if self.keeps_up and self.fanout.index.unread >= self.log.capacity // 2:
            self.drain_until_idle()
        self.lapped |= self.fanout.index.unread >= self.log.capacity

    @rule(
        names=st.lists(channels, min_size=1, max_size=3, unique=True),
        size=st.sampled_from([0, 200]),
        times=st.integers(2, 40),
    )
    def flood(self, names: list[bytes], size: int, times: int) -> None:
        for _ in range(times):
            self.publish(names, size)

    @rule(name=channels)
    def give_up(self, name: bytes) -> None:
        """All that the log has."""
        end = self.log.head + self.log.capacity
        while self.log.head < end:
            self.publish([name], 200)

    @rule(name=channels)
    def forget(self, name: bytes) -> None:
        before = self.log.position
        position = self.log.forget(name, b"event: $forgotten\ndata: {}\n\n")
        self.events.append(Published(position, (name,)))
        self.forgotten[name] = before
        self.drain_until_idle()

    @rule()
    def another_worker(self) -> None:
        """Whoever comes from now on comes to one that has seen nothing before."""
        self.finish()
        self.all = []
        self.fanout = FanOut(self.log, **self.options)  # type: ignore[arg-type]
        self.renewed = True

    @rule(
        target=readers,
        wanted=wanted,
        after=st.one_of(st.none(), st.just(EARLIEST), st.integers(0, 90)),
        history=st.sampled_from([0, 0, 3]),
    )
    def subscribe(self, wanted: Wanted, after: int | None, history: int) -> Reader:
        self.drain_until_idle()
        if after is not None and after >= 0:
            after = max(0, self.log.position - after)
        reader = Reader(wanted)
        kept = self.kept()
        reader.native = native = self.fanout.subscribe(
            list(wanted), reader, patterns=wanted.patterns, after=after, history=history
        )
        reader.lost = native.lost
        reader.after = native.position if after is None else max(after, 0)
        reader.whole = after is not None
        reader.gone_until = self.fanout.gone_until(native) if native.lost or after == EARLIEST else 0
        own = [event for event in self.events if event.position > reader.after]
        lacks = [
            event for event in own for name in event.channels if name in wanted and not self.is_kept(event, name, kept)
        ]
        # Whether one that forgets had anything is not known where its reserve has more than was read of it.
        unknown = self.renewed or self.lapped or any(name in self.forgotten for name in wanted)
        if native.lost and not wanted.patterns and not unknown:
            assert lacks, "a false gap"
        if after is not None and after >= 0:
            # Of what was forgotten, and is another's event as well, nothing more is said.
            gone = [e for e in lacks if not any(n in wanted and self.is_kept(e, n, kept) for n in e.channels)]
            assert native.lost or not gone, "lost in silence"
        if after is None and history and not wanted.patterns:
            there = [
                event.position
                for event in self.events
                if any(name in wanted and self.is_kept(event, name, kept) for name in event.channels)
            ]
            reader.after, reader.whole = (there[-history] - 1 if len(there) >= history else 0), True
            assert native.position <= (there[-history:] or [self.log.position])[0], "fewer than there are"
            reader.gone_until = self.log.position
        self.all.append(reader)
        self.fanout.unblock(native, 0.0)
        return reader

    @rule(reader=readers, blocks=st.booleans())
    def habit(self, reader: Reader, blocks: bool) -> None:
        reader.blocks = blocks

    @rule(reader=readers)
    def unblock(self, reader: Reader) -> None:
        self.fanout.unblock(reader.native, 0.0)

    @rule(budget=st.sampled_from([0, 10**7]))
    def drain(self, budget: int) -> None:
        self.fanout.drain(0.0, budget)

    def drain_until_idle(self) -> None:
        for _ in range(5_000):
            if not self.fanout.drain(0.0):
                return
            time.sleep(self.fanout.rest)
        raise AssertionError("the drain does not come to rest")

    def finish(self) -> None:
        for _ in range(3):
            for reader in self.all:
                reader.blocks = False
                self.fanout.unblock(reader.native, 0.0)
            self.drain_until_idle()
        kept = self.kept()
        for reader in self.all:
            self.assert_read(reader, kept)

    def assert_read(self, reader: Reader, kept: tuple[set[int], list[set[int]]]) -> None:
        got, at, skipped = set(), 0, 0
        for frame in parse(reader.stream):
            assert frame.position > at, "positions must rise"
            at = frame.position
            if frame.event == "$gap":
                skipped = at
            else:
                got.add(at)
        own = [e for e in self.events if any(name in reader.wanted for name in e.channels)]
        assert got <= {event.position for event in own}, "an event of another channel"
        if reader.end is not None or not reader.whole:
            return
        # Who has no channel with a reserve, and missed what one of them forgot, is told, and goes on behind that.
        told = 0
        if reader.lost and not reader.wanted.patterns and all(self.reserve_of(name) is None for name in reader.wanted):
            told = reader.gone_until
        for event in own:
            if event.position <= max(reader.after, skipped, told) or event.position in got:
                continue
            reserves = reader.wanted.patterns or any(self.reserve_of(name) is not None for name in reader.wanted)
            if event.position <= reader.gone_until and not reserves:
                continue  # it goes on behind what it was told of
            there = any(name in reader.wanted and self.is_kept(event, name, kept) for name in event.channels)
            assert not there, f"it is kept, and was not handed out: {event}"
            forgotten = any(event.position <= self.forgotten.get(name, 0) for name in event.channels)
            assert event.position <= reader.gone_until or forgotten, f"lost in silence: {event}"

    def teardown(self) -> None:
        if hasattr(self, "all"):
            self.finish()


TestReserves = ReservesMachine.TestCase
TestReserves.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
