"""A slow, obvious model of the log, the index and the fan-out: what the native ones are held against.

Nothing here is clever on purpose. `ModelLog` keeps every event for ever beside those a ring of that size would keep;
`ModelIndex` looks through lists; `ModelFanOut` says what the next write to a subscriber must be, byte for byte.
"""

import json
import math
import re
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.wire.envelope import envelope

RECORD_HEADER, ALIGNMENT = 32, 16
EARLIEST, UNKNOWN = -1, -2
READY, PARKED, CLOSED = "ready", "parked", "closed"


class Frame(NamedTuple):
    """One event as a client sees it."""

    epoch: str
    position: int
    event: str
    data: str


def parse(stream: bytes) -> Iterator[Frame]:
    """Whole events only: fails on half a frame, on an event without its id, on a line that is no field."""
    assert not stream or stream.endswith(b"\n\n"), f"not a whole frame: {stream[-60:]!r}"
    for block in stream.decode().split("\n\n")[:-1]:
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            assert colon, f"no field: {line!r}"
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if fields.get("event", [""])[0] in ("$expiring", "$closing"):  # of no place in the log
            assert "id" not in fields
            continue
        assert set(fields) <= {"id", "event", "data"}, f"not a frame of these tests: {block[:200]!r}"
        [event_id] = fields["id"]
        assert re.fullmatch(r"[a-z0-9]{8}-(0|[1-9][0-9]*)", event_id)
        yield Frame(event_id[:8], int(event_id[9:]), fields.get("event", ["message"])[0], "\n".join(fields["data"]))


@dataclass(frozen=True)
class Event:
    position: int
    channels: tuple[bytes, ...]
    frame: bytes
    offset: int
    length: int  # of its record
    forgets: bool = False  # what its channel has from before


Channels = bytes | tuple[bytes, ...]


def names_of(channels: Channels) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(channels)) if isinstance(channels, tuple) else (channels,)


def names_length(names: Sequence[bytes]) -> int:
    """Bytes of a record's names: several stand behind their lengths."""
    return len(names[0]) if len(names) == 1 else sum(2 + len(name) for name in names)


def record_length(names: Sequence[bytes], frame_length: int) -> int:
    """One of several channels takes at least 64 bytes for each."""
    length = -(-(RECORD_HEADER + names_length(names) + frame_length) // ALIGNMENT) * ALIGNMENT
    return max(length, 64 * len(names)) if len(names) > 1 else length


class ModelLog:
    def __init__(self, capacity: int, epoch: str) -> None:
        self.capacity, self.epoch = capacity, epoch
        self.history: list[Event] = []  # every event ever, whether kept or not
        self.records: deque[tuple[int, Event | None]] = deque()  # (length, event; None: the padding at the end)
        self.head = self.tail = 0

    def room_for(self, batch: list[tuple[Channels, bytes]]) -> int:
        """Bytes of its records, at the length of id that its last one will have."""
        id_line = b"id: %s\n" % self.event_id(len(self.history) + 1 + len(batch)).encode()
        return sum(record_length(names_of(to), len(body) + len(id_line)) for to, body in batch)

    def append(self, channel: Channels, body: bytes, *, forgets: bool = False) -> int:
        position, names = len(self.history) + 1, names_of(channel)
        frame = body[:-1] + b"id: %s\n" % self.event_id(position).encode() + body[-1:]
        length = record_length(names, len(frame))
        to_end = self.capacity - self.head % self.capacity
        padding = to_end if to_end < length else 0
        while self.head + padding + length - self.tail > self.capacity:
            self.tail += self.records.popleft()[0]
        if padding:
            self.records.append((padding, None))
        event = Event(position, names, frame, self.head + padding, length, forgets)
        self.records.append((length, event))
        self.history.append(event)
        self.head += padding + length
        return position

    def event_id(self, position: int) -> str:
        return f"{self.epoch}-{position}"

    @property
    def kept(self) -> list[Event]:
        return [event for _, event in self.records if event]


def assert_none_lost_in_silence(
    log: ModelLog,
    channels: Container[bytes],
    stream: bytes,
    *,
    begins_after: int,
    gap_until: int = 0,
    forgotten: frozenset[int] = frozenset(),
    ended: bool,
) -> None:
    """Read a stream as its client would: every event of its channels once, in order, or told that some are gone.

    `gap_until`: what was told to be gone at its start, up to this position. `forgotten`: what was by then, if it did
    not come back. `ended`: what came later it gets elsewhere.
    """
    own = {event.position for event in log.history if any(name in channels for name in event.channels)} - forgotten
    told, at, got = gap_until, begins_after, set()

    def assert_none_missing(until: int) -> None:
        missing = {position for position in own if at < position <= until and position > told} - got
        assert not missing, f"lost in silence: {sorted(missing)}"

    for frame in parse(stream):
        assert frame.epoch == log.epoch
        assert frame.position > at, "positions must rise"
        if frame.event == "$gap":
            gap = json.loads(frame.data)
            assert gap["until"] == log.event_id(frame.position)
            after = int(gap["after"].partition("-")[2])
            assert after >= at
            assert (
                gap["positions"]
                == frame.position - after
                >= len({event for event in own if after < event <= frame.position})
            )
            told = frame.position
        else:
            assert frame.position in own, "an event of another channel"
            got.add(frame.position)
        assert_none_missing(frame.position)
        at = frame.position
    if not ended:
        assert_none_missing(len(log.history))


def is_of(pattern: bytes, name: bytes) -> bool:
    """Whether a channel is of a pattern."""
    if pattern.startswith(b"*") and name.startswith(b"$"):
        return False
    segments = [{b"*": b"[^:]*", b"**": b".*"}.get(segment, re.escape(segment)) for segment in pattern.split(b":")]
    return re.fullmatch(b":".join(segments), name) is not None


class Wanted(tuple[bytes, ...]):
    """The names of channels that a stream listens to, and patterns of more; `in` says of any name whether it is one."""

    patterns: tuple[bytes, ...]

    def __new__(cls, names: Iterable[bytes], patterns: Iterable[bytes] = ()) -> "Wanted":
        wanted = super().__new__(cls, names)
        wanted.patterns = tuple(patterns)
        return wanted

    def __contains__(self, name: object) -> bool:
        assert isinstance(name, bytes)
        return super().__contains__(name) or any(is_of(pattern, name) for pattern in self.patterns)


def in_log_order(events: Iterable[Event]) -> list[Event]:
    return sorted({event.position: event for event in events}.values(), key=lambda event: event.position)


@dataclass
class ModelChannel:
    evicted: int
    last_position: int
    kept: list[Event] = field(default_factory=list)
    subscribers: int = 0
    forgot: int = 0  # position of the event at which it last did, if it had something to forget


class ModelIndex:
    def __init__(self, log: ModelLog, remembered: int, drop: int = 1024, merge: int = 16384) -> None:
        self.log, self.remembered, self.drop, self.merge = log, remembered, drop, merge
        self.widest = 1  # the most channels of an event since there was none of several
        self.live_from = 0  # an offset: the channels may still have what was evicted before it
        self.channels: dict[bytes, ModelChannel] = {}
        self.entries: list[Event] = []  # taken in and not dropped, forgotten ones too
        self.gone: dict[bytes, int] = {}
        self.forgot: dict[bytes, int] = {}  # the newest that a channel had when it last did
        self.position = self.forgotten = self.lapped = 0
        self.offset = log.tail
        self.lap()

    def take_in(self, limit: int) -> None:
        taken = 0
        while taken < limit:
            if self.offset < self.log.tail:
                self.lap()
            event = next((event for event in self.log.kept if event.offset >= self.offset), None)
            if event is None:
                break
            if len(event.channels) > 1:
                self.widest = max(len(event.channels), self.widest if self.has_shared() else 1)
            self.entries.append(event)
            for channel in [self.open_channel(name) for name in event.channels]:
                if event.forgets and channel.kept:
                    channel.evicted = self.forgot[event.channels[0]] = channel.kept[-1].position
                    channel.forgot = event.position
                    channel.kept.clear()
                channel.kept.append(event)
                channel.last_position = self.position = event.position
                taken += 1
            self.offset = event.offset + event.length
        self.live_from = self.log.tail
        self.evict(max(taken, self.drop))

    def evict(self, limit: int) -> None:
        """In log order, because the order in which channels are dropped decides which of them are remembered."""
        for event in list(self.entries):
            if event.offset >= self.live_from or limit <= 0:
                return
            limit -= len(event.channels)
            self.entries.remove(event)
            for name in event.channels:
                channel = self.channels[name]
                if event in channel.kept:
                    channel.kept.remove(event)
                    channel.evicted = event.position
                    self.release_if_idle(name)

    @property
    def kept(self) -> int:
        return sum(event.offset >= self.live_from for event in self.entries)

    def lap(self) -> None:
        """Events were evicted before they were read, nobody knows of which channels."""
        self.offset = self.log.tail
        kept = self.log.kept
        end = kept[0].position - 1 if kept else 0
        if end > self.position:
            self.lapped = self.position = end
            for channel in self.channels.values():
                channel.last_position = end

    def open_channel(self, name: bytes) -> ModelChannel:
        if name not in self.channels:
            evicted = self.gone.pop(name, self.forgotten)
            self.channels[name] = ModelChannel(evicted, last_position=evicted)
        return self.channels[name]

    def release_if_idle(self, name: bytes) -> None:
        channel = self.channels[name]
        if not channel.kept and not channel.subscribers:
            del self.channels[name]
            if channel.evicted > self.forgotten:
                self.gone[name] = channel.evicted
            if len(self.gone) > self.remembered:
                self.forgotten = max(self.forgotten, self.gone.pop(next(iter(self.gone))))

    def evicted_of(self, names: Sequence[bytes]) -> int:
        gone = [e.position for name in names for e in self.channels[name].kept if e.offset < self.live_from]
        return max(self.lapped, *(self.channels[name].evicted for name in names), *gone)

    def gone_of(self, name: bytes) -> tuple[int, int]:
        """Position of the newest event of a channel that is gone; and where it was forgotten, 0: it was evicted."""
        channel = self.channels[name]
        evicted = [event.position for event in channel.kept if event.offset < self.live_from]
        first = channel.kept[0].position if channel.kept and not evicted else 0
        forgot = first if first == channel.forgot else 0
        return max(channel.evicted, *evicted, 0), forgot

    def oldest_of(self, names: Sequence[bytes]) -> int:
        """Of what was evicted, and not forgotten."""
        return max(self.lapped, *(gone for gone, forgot in map(self.gone_of, names) if not forgot), 0)

    def lost_after(self, names: Sequence[bytes], position: int, told: int = 0) -> bool:
        """What the index must say: True when events are gone, and else only where nobody can know. What was forgotten
        at a position up to `told` counts for nothing."""
        counts = [gone for gone, forgot in map(self.gone_of, names) if not 0 < forgot <= told]
        said = position < max(self.lapped, *counts, 0)
        oldest_kept = min((event.position for event in self.kept_of(names)), default=self.position + 1)
        gone = any(set(e.channels) & set(names) and position < e.position < oldest_kept for e in self.log.history)
        # Other channels of these may have what one forgot.
        gone = gone or any(position < self.forgot.get(name, 0) for name in names)
        assert said or not gone or position < told, "the model itself is silent about a loss"
        assert gone or not said or position < max(self.lapped, self.forgotten), "the model itself tells a false gap"
        return said

    def before_newest(self, names: Sequence[bytes], count: int) -> int:
        """Before exactly so many, unless they stand in more than `merge` lists: then so many at least."""
        kept = self.kept_of(names)
        links = [  # newest first
            event.position
            for event in reversed(kept)
            for name in event.channels
            if name in names and event in self.channels[name].kept
        ]
        walked = list(dict.fromkeys(links[: self.merge] if len(names) > 1 and self.has_shared() else links))
        if len(links) <= count:
            return self.oldest_of(names)
        if count <= len(walked):
            return walked[count - 1] - 1
        needed = self.merge + (count - len(walked)) * min(len(names), self.widest)
        return links[needed - 1] - 1 if needed < len(links) else self.oldest_of(names)

    @property
    def floor(self) -> int:
        """Position of the newest event that is gone."""
        taken_in = [e.position for e in self.log.history if e.offset < min(self.live_from, self.offset)]
        return max([self.lapped, *taken_in])

    def kept_of_wanted(self, wanted: Wanted) -> list[Event]:
        return self.kept_of([name for name in self.channels if name in wanted])

    def says_lost(self, wanted: Wanted, position: int, said: bool) -> None:
        """With patterns it must be said where events are gone, and else only where nobody can know."""
        assert said or not self.is_gone(wanted, position), "it is silent about a loss"
        assert not said or self.may_be_lost(wanted, position), "it tells a false gap"

    def is_gone(self, wanted: Wanted, position: int) -> bool:
        gone = (event for event in self.log.history if position < event.position <= self.floor)
        forgotten = any(position < newest for name, newest in self.forgot.items() if name in wanted)
        return forgotten or any(name in wanted for event in gone for name in event.channels)

    def may_be_lost(self, wanted: Wanted, position: int) -> bool:
        return self.is_gone(wanted, position) or position < max(self.lapped, self.forgotten)

    def has_shared(self) -> bool:
        return any(len(event.channels) > 1 for event in self.entries)

    def kept_of(self, names: Iterable[bytes]) -> list[Event]:
        """Each once, of however many of these channels it is."""
        kept = [event for name in names for event in self.channels[name].kept if event.offset >= self.live_from]
        return in_log_order(kept)


@dataclass(eq=False)
class ModelSubscriber:
    channels: tuple[bytes, ...]
    position: int
    lost: bool
    state: str = PARKED
    blocked: bool = False
    tell_after: int | None = None
    told: int = 0
    resumed: bool = False
    until: float | None = None  # with `aged`, `opened` and `warned`: whether and when it ends
    aged: bool = False
    opened: float = 0.0
    warned: bool = False
    owes_notice: bool = False
    finished: bool = False  # it has the last words
    touched: float = 0.0
    timeouts: int = 0
    enveloped: bool = False
    seeks_until: int | None = None  # with patterns: it looks for the history that it has before this
    may_skip: bool = False  # with patterns: it was slow, and may have been skipped ahead

    @property
    def wanted(self) -> Wanted | None:
        """With patterns, what it listens to."""
        return self.channels if isinstance(self.channels, Wanted) else None

    @property
    def due(self) -> float:
        """When something is to be said of its end, or done."""
        if self.until is None:
            return math.inf
        if self.aged or self.warned:
            return self.until
        return self.until - min(30.0, max(0.0, self.until - self.opened) / 2)

    def notice(self, wall: float) -> bytes:
        assert self.until is not None
        return b'event: $expiring\ndata: {"seconds":%d}\n\n' % math.floor(max(0.0, self.until - wall) + 0.5)

    def last_words(self, wall: float) -> bytes:
        """Behind them nothing comes but the end, a moment later."""
        self.until, self.warned, self.finished = wall + 0.25, True, True
        return b'event: $closing\nretry: 250\ndata: {"reason":"%b"}\n\n' % (b"age" if self.aged else b"expired")

    def length_of(self, event: Event) -> int:
        """Bytes of an event as it is handed over."""
        if not self.enveloped:
            return len(event.frame)
        return len(envelope(event.frame, [name for name in event.channels if name in self.channels], 0))


class ModelFanOut:
    def __init__(
        self,
        log: ModelLog,
        *,
        skip: bool,
        piece: int,
        remembered: int,
        take_in: int,
        unknown: int,
        drop: int = 1024,
        merge: int = 16384,
    ) -> None:
        self.log, self.skip, self.piece, self.at_once, self.unknown = log, skip, piece, take_in, unknown
        self.index = ModelIndex(log, remembered, drop, merge)
        self.everyone: list[ModelSubscriber] = []
        self.wall = 0.0  # when ends were last looked at
        self.deliveries = self.delivered_bytes = self.writes = self.heartbeats = self.gaps = self.slow = 0

    @property
    def writable(self) -> list[ModelSubscriber]:
        return [subscriber for subscriber in self.everyone if subscriber.state == READY and not subscriber.finished]

    def subscribe(self, channels: Sequence[bytes], after: int | None, history: int) -> ModelSubscriber:
        self.take_in(self.at_once)
        index, names, lost, resumed = self.index, tuple(channels), False, False
        newest = index.position if index.offset == self.log.head else len(self.log.history)
        for name in names:
            index.open_channel(name).subscribers += 1
        if after is None:
            position = index.before_newest(names, history) if history else newest
        else:
            unknown = after == UNKNOWN or after > newest
            resumed = not unknown and after != EARLIEST
            lost = unknown or (after >= 0 and index.lost_after(names, after))
            if unknown:
                position = index.before_newest(names, self.unknown)
            else:
                position = index.evicted_of(names) if lost else index.oldest_of(names) if after == EARLIEST else after
        self.gaps += lost
        subscriber = ModelSubscriber(names, position, lost, told=index.position, resumed=resumed)
        self.everyone.append(subscriber)
        return subscriber

    def subscribe_selected(
        self, wanted: Wanted, native: Subscriber, after: int | None, history: int
    ) -> ModelSubscriber:
        """With patterns: where `native` has begun is looked at: where it may depends on what the patterns remember."""
        self.take_in(self.at_once)
        index = self.index
        for name in wanted:
            index.open_channel(name).subscribers += 1
        kept = index.kept_of_wanted(wanted)
        newest = index.position if index.offset == self.log.head else len(self.log.history)
        subscriber = ModelSubscriber(wanted, native.position, native.lost)
        subscriber.resumed = after is not None and 0 <= after <= newest
        if after is not None and 0 <= after <= newest:
            index.says_lost(wanted, after, native.lost)
            begins = [event for event in kept if event.position > after]
            if native.lost:  # what was forgotten is skipped with what is kept of others before it
                assert native.position <= max([index.floor, *index.forgot.values()])
                begins = [event for event in kept if event.position > native.position]
        elif after == EARLIEST:
            assert not native.lost
            begins = kept
        elif after is not None:
            assert native.lost
            begins = [event for event in kept if event.position > native.position]
            assert len(begins) <= self.unknown
        else:
            begins = kept[-history:] if history else []
            assert history or not native.lost
            if history and native.position == index.floor:
                subscriber.seeks_until = min(newest, index.position)
                subscriber.position = max(native.position, begins[0].position - 1) if begins else native.position
        begun = [event for event in kept if event.position > subscriber.position]
        there_was_no_room_to_find_them = native.lost and after is None
        assert begun == begins or (there_was_no_room_to_find_them and begun == begins[len(begins) - len(begun) :])
        self.gaps += native.lost
        self.everyone.append(subscriber)
        return subscriber

    def next_selected(self, subscriber: ModelSubscriber, data: bytes, native: Subscriber) -> int:
        """Hold what the drain hands over against what it may: how many events. Moves the cursor."""
        wanted = subscriber.wanted
        assert wanted is not None
        if data.startswith(b"event: $gap\n"):
            assert subscriber.may_skip or subscriber.seeks_until is not None or self.skip or self.index.forgot
            [gap] = parse(data)
            assert gap.position == native.position > subscriber.position or subscriber.seeks_until is not None
            subscriber.position, subscriber.seeks_until, subscriber.may_skip = gap.position, None, False
            return 0
        waiting = [e for e in self.index.kept_of_wanted(wanted) if e.position > subscriber.position]
        frames = 0
        while data and frames < len(waiting) and data.startswith(waiting[frames].frame):
            data = data.removeprefix(waiting[frames].frame)
            frames += 1
        assert frames, "there is nothing to write, or something else"
        assert not data, "what follows is another event"
        subscriber.position, subscriber.seeks_until = waiting[frames - 1].position, None
        return frames

    def remove(self, subscriber: ModelSubscriber) -> None:
        subscriber.state, subscriber.blocked = CLOSED, False
        self.everyone.remove(subscriber)
        for name in sorted(subscriber.channels):
            self.index.channels[name].subscribers -= 1
        for name in sorted(subscriber.channels):
            self.index.release_if_idle(name)

    def unblock(self, subscriber: ModelSubscriber, now: float) -> bool:
        if subscriber.state != PARKED:
            return False
        subscriber.state, subscriber.blocked, subscriber.touched, subscriber.timeouts = READY, False, now, 0
        return self.waits(subscriber)

    def waits(self, subscriber: ModelSubscriber) -> bool:
        """Whether there is something for it in the index."""
        if subscriber.finished:
            return False
        if subscriber.wanted is not None:
            waiting = any(e.position > subscriber.position for e in self.index.kept_of_wanted(subscriber.wanted))
            return waiting or subscriber.owes_notice
        newest = max(self.index.channels[name].last_position for name in subscriber.channels)
        return subscriber.tell_after is not None or subscriber.owes_notice or subscriber.position < newest

    def take_in(self, limit: int) -> None:
        """The first thing a drain does."""
        self.index.take_in(limit)

    def is_lost(self, subscriber: ModelSubscriber) -> bool:
        if subscriber.wanted is not None:
            after = subscriber.position if subscriber.seeks_until is None else subscriber.seeks_until
            return self.index.may_be_lost(subscriber.wanted, after)
        return self.index.lost_after(subscriber.channels, subscriber.position, subscriber.told)

    def next_write(self, subscriber: ModelSubscriber) -> tuple[bytes, int]:
        """What the drain must hand over at its next visit, and how many events that is. Moves the cursor."""
        if self.is_lost(subscriber):
            if subscriber.position >= self.index.oldest_of(subscriber.channels):
                self.go_on_at(subscriber, self.index.evicted_of(subscriber.channels))
            else:
                assert self.skip, "it must leave, not be written to"
                self.skip_ahead(subscriber)
        if subscriber.tell_after is not None:
            positions = subscriber.position - subscriber.tell_after
            after, until = (self.log.event_id(p) for p in (subscriber.tell_after, subscriber.position))
            subscriber.tell_after = None
            told = f'{{"after":"{after}","until":"{until}","positions":{positions}}}'
            return f"event: $gap\ndata: {told}\nid: {until}\n\n".encode(), 0
        if subscriber.owes_notice:
            subscriber.owes_notice = False
            return subscriber.notice(self.wall), 0
        waiting = [e for e in self.index.kept_of(subscriber.channels) if e.position > subscriber.position]
        assert waiting, "there is nothing to write"
        piece = [waiting.pop(0)]
        length = subscriber.length_of(piece[0])
        while waiting and sum(len(e.frame) for e in piece) + len(waiting[0].frame) <= self.piece:
            length += subscriber.length_of(waiting[0])
            if length > self.piece:
                break
            piece.append(waiting.pop(0))
        subscriber.position = piece[-1].position if waiting else self.index.position
        return b"".join(e.frame for e in piece), len(piece)

    def skip_ahead(self, subscriber: ModelSubscriber) -> None:
        position = self.index.before_newest(subscriber.channels, 1)
        if position > subscriber.position:
            self.slow += subscriber.tell_after is None
            self.go_on_at(subscriber, position)

    def go_on_at(self, subscriber: ModelSubscriber, position: int) -> None:
        if subscriber.tell_after is None:
            subscriber.tell_after = subscriber.position
            subscriber.told = subscriber.position
            self.gaps += 1
        subscriber.position = position

    def written(self, subscriber: ModelSubscriber, data: bytes, events: int, now: float, blocked: bool) -> None:
        self.writes += 1
        self.deliveries += events
        self.delivered_bytes += len(data)
        if subscriber.state != CLOSED:
            subscriber.touched, subscriber.blocked = now, blocked
            subscriber.state = PARKED if blocked else READY
