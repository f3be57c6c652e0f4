"""Namespaces in the log as a state machine: whatever is published, resumed, blocked and evicted, each stream is read as
its client would, by a ledger that knows nothing of cursors.

What a stream did not get was superseded by a newer event of its key, and the last of each key is there; or a namespace
does not show it to who comes back, or it is gone, and that was told. Who keeps up gets everything.
"""

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
from sse_fast.event_rules import Keyed

PROFILES = {"default": (100, 30), "long": (6000, 70)}
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]

Rules = Sequence[tuple[bytes, int, int, bool]]
channels = st.sampled_from([b"a", b"b", b"room:x", b"room:y"])
rules = st.sampled_from(
    [
        [(b"a", 0, 0, True)],
        [(b"**", 0, 0, True)],
        [(b"a", 2, 0, False)],
        [(b"a", 1, 0, True), (b"room:*", 3, 0, False)],
        [(b"room:*", 2, 0, True), (b"b", 1, 0, False)],
    ]
)
keys = st.sampled_from([b"", b"k", b"l", b"m"])
events = st.tuples(st.lists(channels, min_size=1, max_size=3, unique=True), keys, st.sampled_from([0, 20, 200]))
wanted = st.one_of(
    st.builds(Wanted, st.lists(channels, min_size=1, max_size=3, unique=True)),
    st.builds(
        Wanted,
        st.lists(channels, max_size=1),
        st.lists(st.sampled_from([b"*", b"**", b"room:*"]), min_size=1, max_size=2, unique=True),
    ),
)


@dataclass(frozen=True)
class Published:
    position: int
    channels: tuple[bytes, ...]
    key: bytes


class Ledger:
    """Everything that was ever published, and what the namespaces say."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.events: list[Published] = []

    def rule_of(self, channel: bytes) -> tuple[int, bool]:
        """How many it keeps, 0: all; and whether it conflates."""
        return next(
            ((keep, conflates) for pattern, keep, _, conflates in self.rules if is_of(pattern, channel)), (0, False)
        )

    def own(self, wanted: Wanted, after: int) -> list[Published]:
        return [e for e in self.events if e.position > after and any(name in wanted for name in e.channels)]

    def is_owed(self, event: Published, wanted: Wanted, told: int, comes_back: bool = True) -> bool:
        """To who came when the log had got to `told`: one of its channels shows it, and has no newer one of its key."""
        return any(
            name in wanted
            and not (event.key and self.rule_of(name)[1] and self._newer(event, name, event.key))
            and not (comes_back and self._is_hidden(event, name, told))
            for name in event.channels
        )

    def _newer(self, event: Published, channel: bytes, key: bytes) -> bool:
        return any(e.position > event.position and channel in e.channels and e.key == key for e in self.events)

    def _is_hidden(self, event: Published, channel: bytes, told: int) -> bool:
        newer = sum(channel in e.channels for e in self.events if event.position < e.position <= told)
        return event.position <= told and 0 < self.rule_of(channel)[0] <= newer


@dataclass
class Reader(Sink):
    wanted: Wanted
    stream: bytes = b""
    blocks: bool = False
    lagged: bool = False
    end: EndReason | None = None
    after: int = 0  # it has seen what was before, or does not ask for it
    told: int = 0  # how far the log had got when it began
    gone_until: int = 0
    resumes: bool = False
    native: Subscriber = field(init=False)

    def write(self, data: bytes) -> bool:
        self.stream += data
        self.lagged = self.lagged or self.blocks
        return not self.blocks

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.end = reason

    def assert_read(self, ledger: Ledger, kept: set[int]) -> None:
        got, at, gone = [], 0, self.gone_until
        for frame in parse(self.stream):
            assert frame.position > at, "positions must rise"
            at = frame.position
            if frame.event == "$gap":
                gone = frame.position
            else:
                got.append(at)
        own = ledger.own(self.wanted, self.after)
        assert set(got) <= {event.position for event in own}, "an event of another channel"
        if self.end is not None:
            return
        missed = [event for event in own if event.position not in got and event.position > gone]
        for event in missed:
            if not self.lagged and not self.resumes:
                assert event.position not in kept, "who keeps up gets everything, but what the log took away before"
            assert not ledger.is_owed(event, self.wanted, self.told, self.resumes), f"lost in silence: {event}"


class NamespacesMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    @initialize(
        capacity=st.sampled_from([4096, 65536]),
        rules=rules,
        piece=st.sampled_from([1, 150, 32768]),
        look=st.sampled_from([2, 4096]),
        keys=st.sampled_from([1, 262144]),
        skip=st.booleans(),
        reads=st.booleans(),
    )
    def start(self, capacity: int, rules: Rules, piece: int, look: int, keys: int, skip: bool, reads: bool) -> None:
        self.log = Log.private(capacity)
        self.fanout = FanOut(self.log, rules=rules, piece=piece, look=look, keys=keys, skip=skip)
        self.ledger = Ledger(rules)
        self.all: list[Reader] = []
        self.reads = reads  # so that nothing is evicted before it is known what it was
        self.exact = reads and keys > 1

    @rule(event=events)
    def publish(self, event: tuple[list[bytes], bytes, int]) -> None:
        names, key, size = event
        to = Keyed.of(tuple(names), key) if key else tuple(names)
        position = self.log.append(to, b"data: %s\n\n" % (b"x" * size))
        self.ledger.events.append(Published(position, tuple(names), key))
        if self.reads:
            self.fanout.index.take_in()

    @rule(event=events, times=st.integers(2, 30))
    def publish_over_and_over(self, event: tuple[list[bytes], bytes, int], times: int) -> None:
        for _ in range(times):
            self.publish(event)

    @rule(
        target=readers,
        wanted=wanted,
        after=st.one_of(st.none(), st.just(EARLIEST), st.integers(0, 30)),
        history=st.sampled_from([0, 0, 3]),
    )
    def subscribe(self, wanted: Wanted, after: int | None, history: int) -> Reader:
        if after is not None and after >= 0:
            after = max(0, self.log.position - after)
        reader = Reader(wanted)
        reader.native = native = self.fanout.subscribe(
            list(wanted), reader, patterns=wanted.patterns, after=after, history=history
        )
        reader.told = self.log.position
        reader.resumes = after is not None or history > 0
        reader.after = after if after is not None and after >= 0 else native.position
        if native.lost:
            reader.gone_until = self.fanout.gone_until(native)
            if not wanted.patterns and after is not None:
                self.assert_no_false_gap(wanted, after)
        elif after == EARLIEST:
            reader.gone_until = native.position
        elif history:  # which of them it gets is looked at elsewhere
            reader.gone_until = self.log.position
        self.all.append(reader)
        self.fanout.unblock(native, 0.0)
        return reader

    def assert_no_false_gap(self, wanted: Wanted, after: int) -> None:
        if self.exact and after >= self.fanout.index.forgotten:
            kept, now = {record.position for record in self.log.records()}, self.log.position
            lacks = [
                (event, name)
                for event in self.ledger.own(wanted, after)
                for name in event.channels
                if name in wanted and self.ledger.is_owed(event, Wanted([name]), now, comes_back=False)
                if event.position not in kept or not self.ledger.is_owed(event, Wanted([name]), now)
            ]
            assert lacks, "a false gap"

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
        for _ in range(2_000):
            if not self.fanout.drain(0.0):
                return
            time.sleep(self.fanout.rest)
        raise AssertionError("the drain does not come to rest")

    def teardown(self) -> None:
        for _ in range(3):
            for reader in getattr(self, "all", ()):
                reader.blocks = False
                self.fanout.unblock(reader.native, 0.0)
            if hasattr(self, "all"):
                self.drain_until_idle()
        for reader in getattr(self, "all", ()):
            reader.assert_read(self.ledger, {record.position for record in self.log.records()})


TestNamespaces = NamespacesMachine.TestCase
TestNamespaces.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
