"""Positions and epochs from outside: whoever resumes, by an id of any epoch, gets what there is up to the fork, once,
and is told there.

The model is a list of what was appended, in order; it knows ids, and none of the log's own positions.
"""

import contextlib
import functools
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import Taking
from test_log_dying_writers import memories_on_the_way

from sse_fast._native.fanout.drain import EARLIEST, UNKNOWN, FanOut
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import BatchTooLarge, EventTooLarge
from sse_fast.event import EventId
from sse_fast.node.segment import open_log_file

OWN = "ownepoch"


@dataclass
class Epoch:
    name: str
    fork: int | None  # in the epoch before
    marked_at: int
    events: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)

    @property
    def newest(self) -> int:
        return self.events[-1][0] if self.events else self.marked_at


class Model:
    """What was appended to a log, and to whom it has to be given again."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.epochs = [Epoch(log.epoch, None, 0)]

    def own(self, channels: tuple[bytes, ...]) -> None:
        position = self.log.append(channels, body_of(self.log.position + 1))
        self.epochs[-1].events.append((position, channels))

    def begin(self, prev: int | None, position: int) -> None:
        name = f"{1700000000000 + len(self.epochs)}"
        mark(self.log, name, prev, position=position)
        self.epochs.append(Epoch(name, prev, position))

    def append(self, batch: Sequence[tuple[int, tuple[bytes, ...]]]) -> None:
        epoch, events = self.epochs[-1], []
        for skipped, channels in batch:
            position = (events[-1][0] if events else epoch.newest) + 1 + skipped
            events.append((position, channels))
        append_at(self.log, [(position, channels, body_of(position), 1000 + position) for position, channels in events])
        epoch.events += events

    def frame(self, epoch: Epoch, position: int) -> bytes:
        return body_of(position)[:-1] + f"id: {epoch.name}-{position}\n\n".encode()

    def gap(self, number: int) -> bytes:
        before, epoch = self.epochs[number - 1], self.epochs[number]
        after = epoch.fork if epoch.fork is not None else before.newest
        until = f"{epoch.name}-{epoch.marked_at}"
        return f'event: $gap\ndata: {{"after":"{before.name}-{after}","until":"{until}"}}\nid: {until}\n\n'.encode()

    def forks_at(self, number: int) -> float:
        """The last position of an epoch that is the next one's past, too."""
        if number + 1 == len(self.epochs):
            return float("inf")
        fork = self.epochs[number + 1].fork
        return fork if fork is not None else (0 if number == 0 else -1)

    def resumed(self, number: int, position: int, channels: Sequence[bytes]) -> tuple[bool, bytes]:
        """Whether one who was at this id is told at once of a gap, and the bytes that it gets then."""
        lost, out = False, b""
        if number and position < self.epochs[number].marked_at:
            lost, position = True, self.epochs[number].marked_at
        elif position > self.forks_at(number):
            lost, number = True, number + 1
            position = self.epochs[number].marked_at
        for at in range(number, len(self.epochs)):
            if at > number:
                out += self.gap(at)
            for own, names in self.epochs[at].events:
                if (at > number or own > position) and own <= self.forks_at(at) and set(names) & set(channels):
                    out += self.frame(self.epochs[at], own)
        return lost, out

    def live(self, channels: Sequence[bytes]) -> bytes:
        """What one gets who takes everything as it comes."""
        out = b""
        for at, epoch in enumerate(self.epochs):
            out += self.gap(at) if at else b""
            out += b"".join(self.frame(epoch, own) for own, names in epoch.events if set(names) & set(channels))
        return out


def body_of(number: int) -> bytes:
    return b"data: %d\n\n" % number


def follow(fanout: FanOut, channels: Sequence[bytes], epoch: str, position: int) -> tuple[bool, Taking]:
    sink = Taking()
    cursor = fanout.index.log.cursor(epoch, position)
    subscriber = fanout.subscribe(channels, sink, after=UNKNOWN if cursor is None else cursor)
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    return subscriber.lost, sink


def ids_of(stream: bytes) -> list[str]:
    return [line[4:] for line in stream.decode().splitlines() if line.startswith("id: ")]


def drain(fanout: FanOut) -> None:
    while fanout.drain(0.0):
        pass


channels = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3, unique=True).map(tuple)
batches = st.lists(st.tuples(st.sampled_from([0, 0, 1, 7]), channels), max_size=5)
later = st.one_of(
    st.tuples(st.just("append"), batches),
    st.tuples(st.just("mark"), st.tuples(st.one_of(st.none(), st.integers(-6, 2)), st.sampled_from([0, 0, 5]))),
)


@settings(max_examples=int(os.environ.get("SSE_FAST_EPOCH_EXAMPLES", "150")), deadline=None)
@given(
    owned=st.lists(channels, max_size=4),
    script=st.lists(later, max_size=12),
    piece=st.sampled_from([1, 60, 32768]),
    data=st.data(),
)
def test_who_resumes_gets_what_there_is_up_to_the_fork_and_is_told_there(
    owned: list[tuple[bytes, ...]], script: list[tuple[str, object]], piece: int, data: st.DataObject
) -> None:
    memory = mmap.mmap(-1, segment_size(2**16))
    model = Model(Log(memory, epoch=OWN))
    fanout = FanOut(Log(memory), piece=piece)  # whoever reads is another one than who writes
    live = {names: Taking() for names in ((b"a",), (b"a", b"b"), (b"nobody",))}
    for names, sink in live.items():
        fanout.unblock(fanout.subscribe(names, sink), 0.0)
    for names in owned:
        model.own(names)
    drain(fanout)
    for kind, what in [("mark", (None, 0)), *script]:
        if kind == "append":
            model.append(what)  # type: ignore[arg-type]
        else:
            back, position = what  # type: ignore[misc]
            model.begin(max(0, model.epochs[-1].newest + back) if back is not None else None, position)
        drain(fanout)
    verify(model.log)
    for names, sink in live.items():
        assert sink.stream == model.live(names)
    for _ in range(8):
        number = data.draw(st.integers(0, len(model.epochs) - 1))
        epoch = model.epochs[number]
        position = data.draw(st.integers(0, epoch.newest + (3 if number + 1 < len(model.epochs) and number else 0)))
        listened = data.draw(channels)
        lost, sink = follow(fanout, listened, epoch.name, position)
        assert (lost, sink.stream) == model.resumed(number, position, listened), (epoch.name, position)
    # Read again from the start, as by a worker that starts now.
    again = FanOut(Log(memory), piece=piece)
    while again.index.take_in():
        pass
    lost, sink = follow(again, [b"a"], model.epochs[-1].name, model.epochs[-1].marked_at)
    assert (lost, sink.stream) == model.resumed(len(model.epochs) - 1, model.epochs[-1].marked_at, [b"a"])
    for epoch in model.epochs:
        for position, _ in epoch.events:
            cursor = again.index.log.cursor(epoch.name, position)
            if cursor is not None and position <= model.forks_at(model.epochs.index(epoch)):
                assert again.index.log.event_id(cursor) == f"{epoch.name}-{position}"


def outside(size: int = 65536) -> Log:
    log = Log.private(size, epoch=OWN)
    mark(log, "1700000000001")
    return log


def test_an_id_is_the_engines_and_positions_may_leave_some_out() -> None:
    log = outside()
    append_at(log, [(1, b"a", body_of(1), 1_700_000_000_123), (5, (b"a", b"b"), body_of(5), 1_700_000_000_456)])
    _, *records = log.records()
    assert [record.frame for record in records] == [
        b"data: 1\nid: 1700000000001-1\n\n",
        b"data: 5\nid: 1700000000001-5\n\n",
    ]
    assert [record.milliseconds for record in records] == [1_700_000_000_123, 1_700_000_000_456]
    assert [log.event_id(record.position) for record in records] == ["1700000000001-1", "1700000000001-5"]
    assert (log.epoch, log.event_id(log.position)) == ("1700000000001", "1700000000001-5")


def test_the_longest_epoch_makes_an_id_that_clients_may_send() -> None:
    log = Log.private(4096)
    mark(log, "z" * 20, position=2**62 - 4)
    text = log.event_id(log.position)
    assert len(text) <= 64
    assert EventId.parse(text) == EventId("z" * 20, 2**62 - 4)


@pytest.mark.parametrize("epoch", ["", "z" * 21, "UPPER", "with-dash", "with space", "nul\0", "ümlaut"])
def test_an_epoch_that_would_not_do_as_an_id_is_refused(epoch: str) -> None:
    log = Log.private(4096)
    with pytest.raises(ValueError, match="an epoch is 1 to 20 characters"):
        mark(log, epoch)
    assert log.head == 0
    with pytest.raises(ValueError, match="an epoch is 8 characters"):
        Log.private(4096, epoch=epoch)


def test_what_is_an_epoch_to_who_reads_ids_is_one_to_the_log() -> None:
    for name in [f"epoch{chr(code)}00" for code in range(256)]:
        is_one = EventId.parse(f"{name}-1") is not None
        for begin in (
            functools.partial(mark, Log.private(4096), name),
            functools.partial(Log.private, 4096, epoch=name),
        ):
            with contextlib.nullcontext() if is_one else pytest.raises(ValueError, match="an epoch is"):
                begin()


def test_an_epoch_comes_once_so_that_no_id_comes_twice() -> None:
    log = Log.private(65536, epoch=OWN)
    mark(log, "a1")
    append_at(log, [(1, b"a", body_of(1), 0)])
    mark(log, "a10", 1)
    before = (log.head, log.position, log.epoch)
    for name in ("a1", "a10", OWN):
        with pytest.raises(ValueError, match="ids would come twice"):
            mark(log, name, 1)
    assert (log.head, log.position, log.epoch) == before
    mark(log, "a", 0)
    append_at(log, [(1, b"a", body_of(1), 0)])
    ids = list(told_ids(log))
    assert len(set(ids)) == len(ids) == 5


def test_a_follower_that_starts_again_goes_on_where_the_log_is() -> None:
    log = Log(memory := mmap.mmap(-1, segment_size(4096)))
    mark(log, "1700000000001")
    append_at(log, [(1, b"a", body_of(1), 0)])
    again = Log(memory)
    epoch, newest = again.event_id(again.position).split("-")
    append_at(again, [(int(newest) + 1, b"a", body_of(2), 0)])
    assert list(told_ids(log)) == [f"{epoch}-{n}" for n in range(3)]


def test_no_position_goes_beyond_what_a_log_can_count() -> None:
    log = Log.private(65536, epoch=OWN)
    mark(log, "a1", position=2**62 - 1000)
    append_at(log, [(2**62 - 900, b"a", body_of(1), 0)])
    before = (log.head, log.position, log.epoch)
    for begin in (
        lambda: mark(log, "a2", position=2**62 - 1),
        lambda: mark(log, "a2", position=900),
        lambda: mark(log, "a2", 2**62 - 1),
        lambda: append_at(log, [(2**62 - 1, b"a", body_of(1), 0)]),
        lambda: append_at(log, [(2**62 - 899, b"a", body_of(1), 0), (2**62 - 2, b"a", body_of(1), 0)]),
    ):
        with pytest.raises(ValueError, match="no log gets to the position"):
            begin()
        assert (log.head, log.position, log.epoch) == before
    append_at(log, [(2**62 - 5, b"a", body_of(1), 0)])
    verify(log)


def test_a_position_from_before_all_epochs_that_are_remembered_has_an_id_that_is_in_no_log() -> None:
    log = Log.private(65536, epoch=OWN)
    log.append(b"a", body_of(1))
    for number in range(60):
        mark(log, f"e{number}")
    for position in range(log.position + 1):
        parsed = EventId.parse(text := log.event_id(position))
        assert parsed is not None
        assert log.cursor(*parsed) == (None if parsed.epoch == "forgotten" else position), text
    assert log.event_id(1) == "forgotten-1"
    fanout = FanOut(log)
    assert follow(fanout, [b"a"], "forgotten", 1)[0] is True


@pytest.mark.parametrize("bytes_written", [1, 2, 24, 52])
def test_an_entry_that_is_being_overwritten_is_not_read(bytes_written: int) -> None:
    """Of a reader that began before: it finds the oldest place half written, or with a later epoch's entry."""
    memory = mmap.mmap(-1, segment_size(65536))
    log = Log(memory, epoch=OWN)
    for number in range(58):
        mark(log, f"e{number}")
        append_at(log, [(1, b"a", body_of(1), 0)])
    reader = Log(memory)
    oldest = 1088 + (59 - 49) % 50 * 56  # the place of epoch 10, e9
    assert memory[oldest : oldest + 3] == b"e9\0"
    own = log.cursor("e9", 1)
    assert own is not None
    assert reader.event_id(own) == "e9-1"
    newest = memory[1088 + 58 % 50 * 56 :][:56]
    memory[oldest : oldest + bytes_written] = b"f" + newest[1:bytes_written]
    assert reader.event_id(own) == f"forgotten-{own}"
    for name in ("e9", memory[oldest : oldest + 20].rstrip(b"\0").decode()):
        assert reader.cursor(name, 1) is None
    assert reader.event_id(own + 2) == "e10-1"
    assert reader.cursor("e10", 1) == own + 2


def test_the_record_of_a_mark_has_no_channel() -> None:
    assert [record.channel for record in outside().records()] == [None]


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([(3, b"a", b"data:\n\n", 0)], ValueError),
        ([(2, b"a", b"data:\n\n", 0)], ValueError),
        ([(4, b"a", b"data:\n\n", 0), (4, b"a", b"data:\n\n", 0)], ValueError),
        ([(5, b"a", b"data:\n\n", 0), (4, b"a", b"data:\n\n", 0)], ValueError),
        ([(4, b"a", b"data:\n\n", 0), (2**63, b"a", b"data:\n\n", 0)], ValueError),
        ([(-4, b"a", b"data:\n\n", 0)], ValueError),
        ([(2**64, b"a", b"data:\n\n", 0)], ValueError),
        ([(4.5, b"a", b"data:\n\n", 0)], ValueError),
        ([("4", b"a", b"data:\n\n", 0)], ValueError),
        ([(4, b"a", b"data:\n\n", -1)], ValueError),
        ([(4, b"a", b"data:\n\n", None)], ValueError),
        ([(4, b"a", b"data:\n\n", 0), (5, b"a", "text", 0)], TypeError),
        ([(4, b"a", b"data:\n\n", 0), (5, b"a", b"x" * 20_000, 0)], EventTooLarge),
        ([(n, b"a", b"x" * 1000, 0) for n in range(4, 40)], BatchTooLarge),
    ],
)
def test_what_does_not_rise_or_fit_is_refused_and_nothing_of_it_is_appended(
    events: list[tuple[int, bytes, bytes, int]], error: type[Exception]
) -> None:
    log = outside()
    append_at(log, [(3, b"a", body_of(3), 0)])
    before = (log.head, log.position, list(log.records()))
    with pytest.raises(error):
        append_at(log, events)
    assert (log.head, log.position, list(log.records())) == before
    append_at(log, [(4, b"a", body_of(4), 0)])


@pytest.mark.parametrize(
    "given", [{"prev": -1}, {"prev": 2**62}, {"prev": "1"}, {"position": -1}, {"position": 1.5}, {"milliseconds": -1}]
)
def test_what_is_no_position_or_time_of_a_mark_is_refused(given: dict[str, int]) -> None:
    log = outside()
    with pytest.raises(ValueError, match="is a whole number"):
        mark(log, "1700000000002", **given)  # type: ignore[arg-type]
    assert log.epoch == "1700000000001"


def test_a_log_takes_positions_from_one_side_only() -> None:
    log = Log.private(4096)
    with pytest.raises(ValueError, match="begins with a mark"):
        append_at(log, [(1, b"a", body_of(1), 0)])
    mark(log, "1700000000001")
    for append in (lambda: log.append(b"a", body_of(1)), lambda: log.append_many([(b"a", body_of(1))] * 2)):
        with pytest.raises(ValueError, match="come from outside"):
            append()
    append_at(log, [(1, b"a", body_of(1), 0)])
    assert log.event_id(log.position) == "1700000000001-1"


def test_what_was_before_a_window_is_told_as_a_gap_and_the_window_itself_is_complete() -> None:
    log = Log.private(65536, epoch=OWN)
    mark(log, "1700000000001", position=51_233)
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(51_234, 51_240)])
    fanout = FanOut(log)
    assert follow(fanout, [b"a"], "1700000000001", 100)[0] is True
    assert follow(fanout, [b"a"], "1700000000001", 51_233)[0] is False
    lost, sink = follow(fanout, [b"a"], "1700000000001", 51_237)
    assert (lost, sink.stream) == (False, b"".join(record.frame for record in list(log.records())[-2:]))
    earliest = Taking()
    fanout.unblock(fanout.subscribe([b"a"], earliest, after=EARLIEST), 0.0)
    drain(fanout)
    assert b"$gap" not in earliest.stream
    assert earliest.stream.count(b"\n\n") == 6


def test_who_comes_from_an_epoch_that_never_came_here_is_told_a_gap_and_what_is_later_alone() -> None:
    """It was that of another primary for a while, between two that came."""
    log = Log.private(65536, epoch=OWN)
    for epoch, prev in (("1700000000100", None), ("1700000000300", 2)):
        mark(log, epoch, prev)
        append_at(log, [(n, b"a", body_of(n), 0) for n in (1, 2)])
    fanout = FanOut(log)
    lost, sink = follow(fanout, [b"a"], "1700000000200", 700)
    assert lost
    assert ids_of(sink.stream)[-2:] == ["1700000000300-1", "1700000000300-2"]
    assert "1700000000100-1" not in sink.stream.decode()
    for unknown in ("1700000000099", "1700000000301", "170000000020a", "2"):
        assert log.cursor(unknown, 1) is None, "nobody knows where that was"


def test_history_is_of_what_is_no_fork() -> None:
    log = outside()
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 10)])
    mark(log, "1700000000002", 4)
    fanout, sink = FanOut(log), Taking()
    fanout.unblock(fanout.subscribe([b"a"], sink, history=3), 0.0)
    drain(fanout)
    assert b"$gap" not in sink.stream  # it has no cursor, so nothing was lost for it
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 3)])
    drain(fanout)
    assert sink.stream == b"".join(record.frame for record in list(log.records())[-2:])


def test_a_mark_is_no_event_among_those_that_are_kept() -> None:
    log = outside(4096)
    fanout = FanOut(log)
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 4)])
    mark(log, "1700000000002", 2)
    drain(fanout)
    assert fanout.index.kept == 3
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 3)])
    drain(fanout)
    assert fanout.index.kept == 5
    for n in range(3, 200):
        append_at(log, [(n, b"a", body_of(n), 0)])
        drain(fanout)
        assert fanout.index.kept == sum(record.channels != () for record in log.records())


def test_a_mark_that_was_evicted_leaves_a_gap_for_everybody_from_before_it() -> None:
    log = outside(4096)
    fanout = FanOut(log)
    append_at(log, [(1, b"quiet", body_of(1), 0)])
    mark(log, "1700000000002", 1)
    drain(fanout)
    for n in range(1, 200):
        append_at(log, [(n, b"noise", body_of(n), 0)])
        drain(fanout)
    assert follow(fanout, [b"quiet"], "1700000000001", 1)[0] is True
    assert follow(fanout, [b"never seen"], "1700000000001", 1)[0] is True
    assert follow(fanout, [b"quiet"], "1700000000002", 100)[0] is False
    again = FanOut(Log.private(4096))
    assert follow(again, [b"quiet"], "1700000000002", 100)[0] is True


def test_epochs_survive_a_restart_and_the_log_goes_on_under_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, 2**16) as segment:
        log = Log(segment.memory)
        own = log.epoch
        log.append(b"a", body_of(0))
        mark(log, "1700000000001")
        append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 8)])
        mark(log, "1700000000002", 5)
        append_at(log, [(n, (b"a", b"b"), body_of(n), 0) for n in range(3, 6)])
        segment._owner = 0  # as if it had been killed
        del log
    for _ in range(2):
        with open_log_file(path, 2**16) as segment:
            log = Log(segment.memory)
            fanout = FanOut(log)
            new = [f"1700000000002-{n}" for n in (3, 4, 5)]
            for epoch, position, expected in (
                ("1700000000001", 4, (False, ["1700000000001-5", "1700000000002-0", *new])),
                ("1700000000001", 6, (True, new)),
                ("1700000000002", 3, (False, new[1:])),
                (own, 1, (True, ["1700000000001-1"])),
                ("1700000000002", 6, (True, ["1700000000001-1"])),  # which this log never had: all that is kept follows
            ):
                lost, sink = follow(fanout, [b"a"], epoch, position)
                assert (lost, ids_of(sink.stream)[: len(expected[1])]) == expected, (epoch, position)
            assert len(log.epoch) == 8
            del log, fanout
    with open_log_file(path, 2**16) as segment:
        log = Log(segment.memory)
        assert log.event_id(log.append(b"a", body_of(1))).startswith(log.epoch)
        verify(log)
        del log
    assert not [other for other in tmp_path.iterdir() if other != path]


def test_readers_in_other_processes_learn_of_a_new_epoch() -> None:
    memory = mmap.mmap(-1, segment_size(2**16))
    log = Log(memory, epoch=OWN)
    to_child, to_parent = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        try:
            reader = Log(memory)
            fanout, sink = FanOut(reader), Taking()
            fanout.unblock(fanout.subscribe([b"a"], sink), 0.0)
            while word := os.read(to_child[0], 1):
                drain(fanout)
                answer = f"{reader.epoch} {reader.event_id(reader.position)} {reader.cursor('1700000000001', 3)}"
                if word == b"s":
                    answer = sink.stream.decode().replace("\n", "|")
                os.write(to_parent[1], answer.encode())
        finally:
            os._exit(0)

    def asked(word: bytes) -> str:
        os.write(to_child[1], word)
        return os.read(to_parent[0], 65536).decode()

    try:
        assert asked(b"?").startswith(OWN)
        log.append(b"a", body_of(1))
        assert asked(b"?") == f"{OWN} {OWN}-1 None"
        mark(log, "1700000000001", 1)
        append_at(log, [(3, b"a", body_of(3), 0)])
        assert asked(b"?") == f"1700000000001 1700000000001-3 {log.position}"
        mark(log, "1700000000002", 3)
        assert asked(b"?").startswith("1700000000002 1700000000002-0 ")
        assert ids_of(asked(b"s").replace("|", "\n").encode()) == [
            f"{OWN}-1",
            "1700000000001-0",
            "1700000000001-3",
            "1700000000002-0",
        ]
    finally:
        os.close(to_child[1])
        os.kill(pid, 9)
        os.waitpid(pid, 0)


# ---- writers that die ----


def begun() -> mmap.mmap:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory, epoch=OWN, checksums=True)
    mark(log, "1700000000001")
    append_at(log, [(n, b"a", body_of(n), 0) for n in range(1, 4)])
    return memory


def left_by_a_dead_writer(raw: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(raw))
    memory[:] = raw
    Log(memory).claim(b"")  # as the kernel does with a lock whose holder died
    return memory


def told_ids(log: Log) -> Iterator[str]:
    for record in log.records():
        yield record.frame.rpartition(b"id: ")[2].strip().decode()


BEFORE = ["1700000000001-0", "1700000000001-1", "1700000000001-2", "1700000000001-3"]


@pytest.mark.parametrize(
    ("append", "after"),
    [
        (lambda log: mark(log, "1700000000002", 2), ["1700000000002-0"]),
        (
            lambda log: append_at(log, [(n, (b"a", b"b"), body_of(n), 0) for n in (5, 6)]),
            ["1700000000001-5", "1700000000001-6"],
        ),
    ],
    ids=["mark", "append_at"],
)
def test_whoever_dies_at_any_instruction_has_done_all_or_nothing_and_the_next_one_does_it_again(
    append: Callable[[Log], object], after: list[str]
) -> None:
    outcomes = set()
    memories = memories_on_the_way(begun(), append)
    for raw in dict.fromkeys(memories):
        memory = left_by_a_dead_writer(raw)
        log = Log(memory)
        there = list(told_ids(log))
        done = there == BEFORE + after
        outcomes.add(done)
        assert done or there == BEFORE
        # Whoever reads finds the epoch of the newest record, and its id.
        assert log.event_id(log.position) == there[-1]
        assert log.epoch == there[-1].partition("-")[0]
        verify(log)
        if not done:
            append(log)
            assert list(told_ids(log)) == BEFORE + after
        epoch, newest = log.event_id(log.position).split("-")
        append_at(log, [(int(newest) + 1, b"a", body_of(1), 0)])
        assert log.event_id(log.position) == f"{epoch}-{int(newest) + 1}"
        fanout = FanOut(log)
        lost, sink = follow(fanout, [b"a"], "1700000000001", 1)
        ids = [
            "1700000000001-2",
            *(["1700000000001-3"] if "-5" in after[0] else []),
            *after,
            f"{epoch}-{int(newest) + 1}",
        ]
        assert (lost, ids_of(sink.stream)) == (
            False,
            ids,
        )
        verify(log)
    assert outcomes == {False, True}


def test_a_log_of_its_own_goes_on_after_a_mark_that_was_not_done() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory, epoch=OWN, checksums=True)
    log.append(b"a", body_of(1))
    for raw in dict.fromkeys(memories_on_the_way(memory, lambda log: mark(log, "1700000000001"))):
        log = Log(left_by_a_dead_writer(raw))
        if log.epoch == OWN:
            own = log.event_id(log.append(b"a", body_of(2)))
            assert own.startswith(OWN)
            assert list(told_ids(log)) == [f"{OWN}-1", own]
            verify(log)
            mark(log, "1700000000001")
        assert log.epoch == "1700000000001"
        verify(log)


@pytest.mark.parametrize("at", [*range(104, 112), 128, *range(1088, 1088 + 3 * 56)])
def test_a_flipped_bit_in_what_a_header_says_of_epochs_is_found_or_harmless(at: int) -> None:
    memory = begun()
    raw = bytearray(memory[:])
    sound = [(record.position, record.frame) for record in Log(memory).records()]
    for bit in range(8):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << bit
        log = Log(bytearray(raw))  # its own look at the epochs is of the sound one
        try:
            log = Log(flipped)
            verify(log)
        except ValueError:
            continue
        log.claim(b"")
        log.go_on(verify(log).head)
        assert [(record.position, record.frame) for record in log.records()] == sound
        assert log.cursor("1700000000001", 2) is not None
        assert [log.event_id(position) for position, _ in sound] == BEFORE


def test_a_layout_is_where_it_was_said() -> None:
    memory = begun()
    count, _, before_head, mode = struct.unpack_from("<QQQI", memory, 104)
    assert (count, mode) == (2, 2)
    assert 0 < before_head < Log(memory).head
    assert struct.unpack_from("<20sI", memory, 1088 + 56) == (b"1700000000001".ljust(20, b"\0"), 1)


def test_a_mark_is_told_in_a_stream_of_envelopes_as_it_is() -> None:
    log = outside()
    fanout, sink = FanOut(log), Taking()
    fanout.unblock(fanout.subscribe([b"a", b"b"], sink, enveloped=True), 0.0)
    append_at(log, [(1, (b"a", b"b"), body_of(1), 1_700_000_000_123)])
    drain(fanout)
    mark(log, "1700000000002", 1)
    append_at(log, [(1, b"a", body_of(1), 1_700_000_000_123)])
    drain(fanout)
    assert ids_of(sink.stream) == ["1700000000001-1", "1700000000002-0", "1700000000002-1"]
    assert sink.stream.count(b"event: $gap\ndata: {") == 1
    assert sink.stream.count(b"2023-") + sink.stream.count(b"1700000000123") >= 2
