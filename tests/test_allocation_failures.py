"""Law 3 where memory runs out: a script is played as often as it allocates, and each time another allocation fails.

The caller does what the hub does: it calls again. Then every subscriber has got every event once and in order, or
was told of a gap or of its end; the index stands as if nothing had happened, and nothing is left of those that are
gone. What sinks are handed is held against the model byte for byte; streams on sockets are read as their clients do.

SSE_FAST_EVERY_ALLOCATION=1 plays them all, with one allocation failing and with all from there on.
"""

import asyncio
import gc
import logging
import mmap
import os
import re
import select
import socket
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, product, repeat
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from e2e.client import Chunks
from failing import Failing, allocations
from model import (
    CLOSED,
    EARLIEST,
    READY,
    ModelFanOut,
    ModelLog,
    ModelSubscriber,
    Wanted,
    assert_none_lost_in_silence,
    parse,
)
from support import Reader, turns_of_others, until

from sse_fast import Settings, create_app
from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.fanout.groups import Group, Subscriber
from sse_fast._native.fanout.sinks import Batch, Sink, SteppedSink
from sse_fast._native.front import table
from sse_fast._native.front.connection import Connection
from sse_fast._native.front.listener import Listener
from sse_fast._native.log.channels import Channel
from sse_fast._native.log.patterns import Node, Pattern
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.wire import publication
from sse_fast._native.wire.event_parser import EventParser
from sse_fast.embed.hub import Hub
from sse_fast.errors import EndReason
from sse_fast.hub import hub, memory
from sse_fast.transports import sink

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
NEVER = 1 << 40
EVERYTHING = bool(os.environ.get("SSE_FAST_EVERY_ALLOCATION"))
PATIENCE = 30.0  # seconds for anything at all
NATIVE = (Batch, Channel, Connection, Group, Node, Pattern, Subscriber)
A, B, C, D = b"news:a", b"news:b", b"news:c", b"news:d"  # names of one byte would need no memory


def out_of_envelopes(data: bytes, listened: Sequence[bytes]) -> bytes:
    """What the log has; the events of these scripts are in one channel."""

    def opened(line: re.Match[bytes]) -> bytes:
        assert line["channel"] in listened
        return b"data: " + line["data"]

    inside = rb'data: {"channel":"(?P<channel>[^"]+)","event":"message","time":"[^"]+","data":"(?P<data>x*)"}'
    return re.sub(inside, opened, data)


class Client:
    """Who listens: what it was handed, and how it ended."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.blocks = False
        self.compressed = False
        self.stream = b""
        self.end: EndReason | None = None
        self.begins_after = 0
        self.native: Subscriber
        self.model: ModelSubscriber

    def take(self, data: bytes) -> bool:
        with self.world.memory:
            assert self.model.state == READY, f"a {self.model.state} subscriber was written to"
            if self.world.ending:
                assert self.model.until is not None
                assert self.model.due <= self.world.wall
                events = 0
                if self.model.until <= self.world.wall:
                    expected = self.model.last_words(self.world.wall)
                else:
                    assert not self.model.warned, "it was told twice that its end is near"
                    self.model.warned = True
                    expected = self.model.notice(self.world.wall)
            else:
                expected, events = self.world.model.next_write(self.model)
            if self.compressed:
                data = zlib.decompressobj(-15).decompress(data)
            if self.model.enveloped:
                data = out_of_envelopes(data, self.model.channels)
            assert data == expected
            self.stream += data
            self.world.model.written(self.model, data, events, self.world.now, self.blocks)
            return not self.blocks

    def ended(self, reason: EndReason) -> None:
        with self.world.memory:
            assert self.end is None, "it was told twice that it left"
            self.end = reason
            self.world.model.remove(self.model)


class Plain(Sink):
    def __init__(self, client: Client) -> None:
        self.client = client

    def write(self, data: bytes) -> bool:
        return self.client.take(data)

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.client.ended(reason)


class Sent:
    """What an ASGI `send` returns: one that waits does so until the test unblocks the subscriber."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits

    def __await__(self) -> Iterator[None]:
        return repeat(None) if self.waits else iter(())


class Wire:
    def __init__(self, client: Client) -> None:
        self.client = client

    def send(self, message: dict[str, Any]) -> Sent:
        return Sent(waits=not self.client.take(message["body"]))


class Stepped(SteppedSink):
    def __init__(self, send: Callable[..., Any], client: Client) -> None:
        self.client = client

    def suspended(self, awaited: Any, yielded: Any) -> None:
        pass

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        self.client.ended(reason)


class Memory:
    """The test's own code has memory."""

    def __init__(self) -> None:
        self._counted: list[bool] = [False] * 8  # room for all that nest
        self._depth = 0

    def __enter__(self) -> None:
        self._counted[self._depth] = allocations().count(False)
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        allocations().count(self._counted[self._depth])


class World:
    """A log, a fan-out and its model; `do` is where an allocation may fail."""

    def __init__(self, failing: Failing, *, skip: bool = False, capacity: int = 4096, piece: int = 300) -> None:
        self.failing, self.memory = failing, Memory()
        memory = mmap.mmap(-1, segment_size(capacity))
        self.writer = Log(memory, epoch="modelled")
        self.log = ModelLog(capacity, "modelled")
        self.native = FanOut(Log(memory), skip=skip, piece=piece, remembered=1)
        self.model = ModelFanOut(self.log, skip=skip, piece=piece, remembered=1, take_in=1 << 14, unknown=10_000)
        self.now = 100.0
        self.wall = time.time()
        self.ending = False
        self.clients: list[Client] = []

    # ---- what a script is made of ----

    def publish(self, *events: tuple[bytes, int]) -> None:
        for channel, size in events:
            frame = b"data: %s\n\n" % (b"x" * size)
            assert self.writer.append(channel, frame) == self.log.append(channel, frame)

    def subscribe(
        self,
        *names: bytes,
        after: int | None = None,
        history: int = 0,
        stepped: bool = False,
        enveloped: bool = False,
        compressed: bool = False,
        lives: float | None = None,
        aged: bool = False,
    ) -> Client:
        client = Client(self)
        until = self.wall + lives if lives is not None else None
        sink = Stepped(Wire(client).send, client) if stepped else Plain(client)
        if compressed:
            client.compressed = True
            sink.gzip(b"")
        before = self.native.connections

        def subscribe() -> Subscriber:
            return self.native.subscribe(
                names, sink, after=after, history=history, enveloped=enveloped, until=until, aged=aged
            )

        try:
            client.native = self.failing.once(subscribe)
        except MemoryError:
            assert self.native.connections == before
            client.native = subscribe()
        client.model = self.model.subscribe(sorted(names), after, history)
        client.model.enveloped = enveloped
        client.model.until, client.model.aged, client.model.opened = until, aged, client.native.opened
        assert client.native.lost >= client.model.lost
        client.model.position = client.native.position
        client.begins_after = client.native.position
        self.clients.append(client)
        self.unblock(client)
        self.check()
        return client

    def unblock(self, client: Client) -> None:
        client.blocks = False
        self.model.unblock(client.model, self.now)
        self.failing.until_done(self.native.unblock, client.native, self.now)

    def leave(self, client: Client) -> None:
        """Its own doing: that cannot fail."""
        if client.end is None:
            self.failing.once(self.native.unsubscribe, client.native)
            self.model.remove(client.model)
            client.end = EndReason.CLIENT
            self.check()

    def drain(self) -> None:
        self.model.take_in(4096)
        while self.failing.until_done(self.native.drain, self.now, 1 << 40):
            pass
        self.check()

    def expire(self, timeout: float) -> None:
        self.now += timeout
        for subscriber in self.model.everyone if self.model.skip else ():
            if subscriber.blocked and self.model.waits(subscriber):
                self.model.skip_ahead(subscriber)
                subscriber.touched = self.now
        self.failing.until_done(self.native.expire, self.now, timeout)
        self.drain()

    def end_due(self, pause: float) -> None:
        self.wall += pause
        self.model.wall = self.wall
        self.ending = True
        while self.failing.until_done(self.native.end_due, self.wall, self.now, 2):
            pass
        self.ending = False
        for subscriber in self.model.everyone:
            if subscriber.blocked and subscriber.due <= self.wall:
                subscriber.warned = subscriber.owes_notice = True
        self.drain()
        assert all(subscriber.due > self.wall for subscriber in self.model.everyone)

    # ---- what must hold ----

    def check(self) -> None:
        index, model = self.native.index, self.model.index
        exact = index.forgotten == model.forgotten
        assert index.position == model.position
        assert index.forgotten >= model.forgotten
        assert set(index.names()) == set(model.channels)
        assert index.kept == model.kept
        for name, channel in model.channels.items():
            native = index.get(name)
            assert native is not None
            assert (native.kept, native.subscribers) == (len(channel.kept), channel.subscribers), name
            # What is remembered of evictions may be less exact for want of memory, never less cautious.
            assert native.evicted >= channel.evicted
            assert native.last_position == channel.last_position or not native.kept
        assert self.native.connections == len(self.model.everyone)
        assert self.native.blocked == sum(subscriber.blocked for subscriber in self.model.everyone)
        for client in self.clients:
            assert client.native.closed == (client.model.state == CLOSED) == (client.end is not None)
            assert client.native.closed or client.native.position == client.model.position or not exact

    def settle(self) -> None:
        """Everybody takes everything, and is read as by its client."""
        for client in self.clients:
            self.unblock(client)
        self.drain()
        assert not self.native.busy
        for client in self.clients:
            assert_none_lost_in_silence(
                self.log,
                client.model.channels,
                client.stream,
                begins_after=client.begins_after,
                ended=client.end is not None or client.model.finished,
            )

    def end(self) -> None:
        try:
            self.failing.once(self.native.end_all, EndReason.SHUTDOWN)
        except MemoryError:
            self.drain()
        assert self.native.connections == 0
        assert all(client.end is not None for client in self.clients)


# ---- the scripts ----


def streams(failing: Failing, *, skip: bool) -> None:
    """Groups of one and of several channels, sinks of both kinds, batches, blocked ones, an index overtaken."""
    world = World(failing, skip=skip)
    world.publish((A, 10), (B, 20), (A, 30))
    world.drain()
    alone = world.subscribe(A)
    both = world.subscribe(A, B, after=EARLIEST)
    late = world.subscribe(B, A, history=2)
    sent = world.subscribe(B, stepped=True)
    gone = world.subscribe(A, C)
    world.publish((A, 10), (B, 10), (C, 10), (A, 200), (A, 200))
    world.drain()
    world.leave(gone)
    both.blocks = sent.blocks = True
    world.publish((B, 40), (A, 50))
    world.drain()
    alone.blocks = True
    world.publish(*[(A, 100)] * 4, *[(B, 100)] * 4)
    world.drain()
    world.expire(1.0)
    for client in (alone, both, late, sent):
        world.unblock(client)
    world.drain()
    late.blocks = True
    world.publish((A, 10))
    world.drain()
    world.publish(*[(B, 300)] * 30)  # more than the log keeps, before the index has looked
    world.drain()
    world.subscribe(B, after=EARLIEST)
    world.settle()
    world.end()


def evictions(failing: Failing, *, skip: bool) -> None:
    """Channels that come, go and are forgotten, one of them resumed; those who fall behind what is kept."""
    world = World(failing, skip=skip)
    slow = world.subscribe(A, B)
    slow.blocks = True
    for name in (C, D, b"e", A, b"f"):
        world.publish((name, 50))
        world.drain()
    for _ in range(12):
        world.publish((A, 200), (b"g", 200))
        world.drain()
    for name in (C, D, b"e", b"f"):
        world.subscribe(name, after=1)
    world.publish((C, 20), (D, 20), (A, 20))
    world.drain()
    world.unblock(slow)
    world.drain()
    world.settle()
    world.end()


def envelopes(failing: Failing, *, skip: bool) -> None:
    """Events in envelopes: groups of one and of several channels, some that catch up from different places by what is
    remembered, some in no envelopes, and those who want them all gone and back."""
    world = World(failing, skip=skip)
    world.publish((A, 10), (B, 20), (A, 30))
    world.drain()
    plain = world.subscribe(A, B)
    first = world.subscribe(A, after=EARLIEST, enveloped=True)
    world.drain()
    both = world.subscribe(A, B, after=EARLIEST, enveloped=True, stepped=True)
    both.blocks = True
    world.publish(*[(A, 40), (B, 40)] * 4)
    world.drain()
    second = world.subscribe(A, after=1, enveloped=True)
    third = world.subscribe(B, A, after=2, enveloped=True)
    for client in (plain, both):
        world.unblock(client)
    world.drain()
    for client in (first, both, second, third):
        world.leave(client)
    slow = world.subscribe(A, B, after=4, enveloped=True)
    slow.blocks = True
    world.drain()
    world.publish(*[(B, 300)] * 12)  # more than the log keeps
    world.drain()
    world.subscribe(B, after=EARLIEST, enveloped=True)
    world.settle()
    world.end()


def compressed(failing: Failing, *, skip: bool) -> None:
    """Streams in gzip, by sinks of both kinds, beside plain ones: short pieces and long ones, those that catch up, and
    one that is skipped or ended."""
    world = World(failing, skip=skip, piece=2000)
    plain = world.subscribe(A)
    first = world.subscribe(A, compressed=True)
    sent = world.subscribe(A, B, compressed=True, stepped=True)
    for size in (10, 500, 700):
        world.publish((A, size), (B, size))
        world.drain()
    sent.blocks = True
    world.publish((A, 400), (B, 400))
    world.drain()
    world.subscribe(B, A, after=2, compressed=True, enveloped=True)
    world.subscribe(A, after=EARLIEST, compressed=True, stepped=True)
    for client in (plain, first, sent):
        world.unblock(client)
    world.drain()
    first.blocks = True
    world.publish(*[(A, 300)] * 20)  # more than the log keeps
    world.drain()
    world.settle()
    world.end()


def endings(failing: Failing, *, skip: bool) -> None:
    """Streams that end by themselves: sinks of both kinds, one that is blocked meanwhile, one that is old, one that has
    left, and one that comes when others were told."""
    world = World(failing, skip=skip)
    plain = world.subscribe(A, lives=100)
    sent = world.subscribe(A, B, stepped=True, lives=101)
    blocked = world.subscribe(B, stepped=True, lives=102)
    old = world.subscribe(A, lives=90, aged=True)
    gone = world.subscribe(B, lives=95)
    stays = world.subscribe(A, B)
    blocked.blocks = True
    world.publish((A, 10), (B, 10))
    world.drain()
    world.leave(gone)
    world.end_due(80)
    late = world.subscribe(B, lives=3)
    world.publish((A, 20), (B, 20))
    world.drain()
    world.unblock(blocked)
    world.drain()
    blocked.blocks = True
    world.publish((B, 30))
    world.drain()
    world.end_due(2)
    world.end_due(30)
    world.end_due(1)
    for client in (plain, sent, blocked, late, old):
        reason = "age" if client is old else "expired"
        if client.end is EndReason.ERROR:  # the write itself found no memory
            assert failing.failed
            continue
        assert client.end == reason
        assert (b"$expiring" in client.stream) == (reason == "expired")
    assert stays.end is None or failing.failed
    world.settle()
    world.end()


class Hearer(Sink):
    """Who listens by pattern."""

    def __init__(self, memory: Memory, wanted: Wanted) -> None:
        self.memory, self.wanted = memory, wanted
        self.blocks = False
        self.stream = b""
        self.end: EndReason | None = None
        self.begins_after = self.gap_until = 0
        self.native: Subscriber

    def write(self, data: bytes) -> bool:
        with self.memory:
            self.stream += data
            return not self.blocks

    def ended(self, reason: EndReason, error: Exception | None) -> None:
        with self.memory:
            assert self.end is None, "it was told twice that it left"
            self.end = reason


class Hearers:
    """A log, a fan-out, and streams of patterns; what each of them is handed is read as by its client, in the end."""

    def __init__(self, failing: Failing, *, skip: bool, matched: int) -> None:
        self.failing, self.memory, self.now = failing, Memory(), 100.0
        self.log, self.model = Log.private(4096, epoch="modelled"), ModelLog(4096, "modelled")
        self.fanout = FanOut(self.log, skip=skip, piece=300, remembered=4, matched=matched, look=5)
        self.everyone: list[Hearer] = []

    def publish(self, *events: tuple[bytes | tuple[bytes, ...], int]) -> None:
        for channel, size in events:
            frame = b"data: %s\n\n" % (b"x" * size)
            assert self.log.append(channel, frame) == self.model.append(channel, frame)
        while self.failing.until_done(self.fanout.drain, self.now, 100_000):
            pass

    def subscribe(self, *names: bytes, after: int | None = None, history: int = 0) -> Hearer:
        wanted = Wanted([name for name in names if b"*" not in name], [name for name in names if b"*" in name])
        hearer = Hearer(self.memory, wanted)
        before = (self.fanout.connections, self.fanout.patterns, self.fanout.listened, len(self.fanout.index))
        nothing_yet = list(wanted)

        def subscribe() -> Subscriber:
            return self.fanout.subscribe(nothing_yet, hearer, patterns=wanted.patterns, after=after, history=history)

        try:
            hearer.native = self.failing.once(subscribe)
        except MemoryError:
            fanout = self.fanout
            assert (fanout.connections, fanout.patterns, fanout.listened, len(fanout.index)) == before
            hearer.native = subscribe()
        hearer.begins_after = hearer.gap_until = hearer.native.position
        own = [e.position for e in self.model.kept if any(name in wanted for name in e.channels)]
        if len(own) > history > 0:
            hearer.gap_until = max(hearer.gap_until, own[-history] - 1)
        self.everyone.append(hearer)
        self.unblock(hearer)
        return hearer

    def unblock(self, hearer: Hearer) -> None:
        hearer.blocks = False
        self.failing.until_done(self.fanout.unblock, hearer.native, self.now)

    def leave(self, hearer: Hearer) -> None:
        if hearer.end is None:
            self.failing.once(self.fanout.unsubscribe, hearer.native)
            hearer.end = EndReason.CLIENT

    def settle(self) -> None:
        for hearer in self.everyone:
            self.unblock(hearer)
        self.publish()
        assert not self.fanout.busy
        for hearer in self.everyone:
            assert_none_lost_in_silence(
                self.model,
                hearer.wanted,
                hearer.stream,
                begins_after=hearer.begins_after,
                gap_until=hearer.gap_until,
                ended=hearer.end is not None,
            )
            self.leave(hearer)
        patterns = self.fanout.index.patterns
        assert (self.fanout.patterns, self.fanout.listened, patterns.remembered) == (0, 0, 0)
        assert patterns.matching(A) == []


def selections(failing: Failing, *, skip: bool) -> None:
    """Patterns beside channels and alone; what they had looked for forwards and backwards; some that come and go; one
    that is too slow."""
    for matched in (1, 1000) if EVERYTHING else (1,) if skip else (1000,):
        world = Hearers(failing, skip=skip, matched=matched)
        world.publish((A, 10), ((B, C), 20), (b"other:a", 10), ((A, B, D), 30))
        every = world.subscribe(b"news:*")
        mixed = world.subscribe(A, b"*:b", b"nobody:**", after=1)
        world.publish((A, 10), (b"news:new", 10), ((b"other:b", B), 10))
        passing = world.subscribe(b"news:*:*", b"news:**", history=2)
        world.publish((C, 10), (b"news:x:y", 10))
        world.leave(passing)
        world.subscribe(b"other:*", C, after=EARLIEST)
        mixed.blocks = True
        world.publish(*[(A, 100), (b"other:b", 100)] * 8)
        world.now += 1
        failing.until_done(world.fanout.expire, world.now, 1.0)
        world.subscribe(b"*:*", after=2)
        world.publish(*[(b"news:%d" % number, 50) for number in range(20)])
        every.blocks = True
        world.publish(*[(b"news:%d" % number, 50) for number in range(60)])
        world.subscribe(b"**", b"*:a", history=3)
        world.settle()


SCRIPTS: list[Callable[..., None]] = [streams, evictions, envelopes, compressed, endings, selections]


def alive() -> Counter[type]:
    gc.collect()
    return Counter(kind for thing in gc.get_objects() if (kind := type(thing)) in NATIVE)


@pytest.fixture(autouse=True)
def memory_is_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A collection would come at other allocations each time, a kept log record keep what is in its traceback. And
    nothing may fail where nobody can be told of it."""
    untold: list[str] = []
    for module in (table, hub, memory, sink):
        monkeypatch.setattr(module, "logger", logging.Logger("kept by nobody"))
    monkeypatch.setattr(sys, "unraisablehook", lambda error: untold.append(repr(error)))
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    assert untold == []


def until_nothing_fails(script: Callable[[Failing], None], *, lasting: bool) -> int:
    """Play a script with its first, second, ... allocation failing. How many it has."""
    script(Failing(NEVER))  # what is made once is made
    before = alive()
    for number in count(1):
        failing = Failing(number, lasting=lasting)
        try:
            script(failing)
        except BaseException as error:
            error.add_note(f"allocation {number} had failed")
            raise
        if not failing.failed:
            break
    assert alive() == before
    return number - 1


def pairs(script: Callable[..., None], skip: bool, lasting: bool) -> bool:
    """Half of a script's, and of the next script the other half."""
    return EVERYTHING or (skip == lasting) == bool(SCRIPTS.index(script) % 2)


@pytest.mark.parametrize(
    ("script", "skip", "lasting"),
    [
        pytest.param(
            *each, id=f"{each[0].__name__}-{'skip' if each[1] else 'disconnect'}-{'all' if each[2] else 'one'}"
        )
        for each in product(SCRIPTS, [False, True], [False, True])
        if pairs(*each)
    ],
)
def test_no_event_is_lost_in_silence_wherever_an_allocation_fails(
    script: Callable[..., None], skip: bool, lasting: bool
) -> None:
    assert until_nothing_fails(lambda failing: script(failing, skip=skip), lasting=lasting) > 50


class Taking(Sink):
    def __init__(self) -> None:
        self.got: list[bytes] = []

    def write(self, data: bytes) -> bool:
        self.got.append(data)
        return True


def test_an_index_that_cannot_grow_takes_the_event_in_later_and_once() -> None:
    room, events = 1024, 1030
    log = Log.private(1 << 19)
    log.append_many([(A if number % 2 else B, b"data:\n\n") for number in range(events)])

    def script(failing: Failing) -> None:
        fanout = FanOut(log, take_in=0)
        sink = Taking()
        fanout.unblock(fanout.subscribe([A, B], sink, after=EARLIEST), 0.0)
        fanout.index.take_in(room - 3)
        while failing.until_done(fanout.drain, 0.0, 1 << 40):
            pass
        assert fanout.index.kept == events
        if fanout.connections:
            assert [frame.position for frame in parse(b"".join(sink.got))] == list(range(1, events + 1))

    assert until_nothing_fails(script, lasting=False) > 10


# ---- a client's parser ----

EVENTS = [("1", "abc-def", "first one"), ("2", "message", "second two"), ("", "message", "third three")]
STREAM = b"".join(
    b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), event.encode(), data.encode()) for id, event, data in EVENTS
)


def test_a_parser_that_finds_no_memory_has_ended_and_whoever_resumes_there_misses_nothing() -> None:
    def read(failing: Failing) -> None:
        parser = EventParser(on_comment=str)
        parser.feed(b": beat\nretry: 5000\n" + STREAM)
        got: list[tuple[str, str, str]] = []
        try:
            while event := failing.once(next, parser, None):
                got.append((event.id, event.event, event.data))
        except MemoryError:
            assert got == EVENTS[: len(got)]
            assert parser.last_event_id == (got[-1][0] if got else "")
            with pytest.raises(MemoryError):
                next(parser)
            with pytest.raises(MemoryError):
                next(parser.feed(STREAM))
        else:
            assert got == EVENTS

    assert until_nothing_fails(read, lasting=False) > 5


# ---- sockets ----


class Remote(Reader):
    """A client of a listener that is told which channels by their names."""

    def __init__(self, listening: socket.socket, *names: bytes, begins_after: int) -> None:
        self.names, self.begins_after = names, begins_after
        connected = socket.socket(listening.family)
        connected.connect(listening.getsockname())
        super().__init__(connected)
        self.socket.send(b",".join(names))

    @property
    def stream(self) -> bytes:
        """Whole events only where it was cut."""
        body = Chunks().feed(bytes(self.received[len(HEAD) :]))
        return body[: body.rfind(b"\n\n") + 2] if self.ended else body

    def vanish(self) -> None:
        self.socket.close()
        self.ended = True


class Port:
    """A fan-out behind a listener, and its front: whoever sends the names of channels gets their events from now on."""

    def __init__(self, failing: Failing, *, skip: bool = False, family: socket.AddressFamily = socket.AF_UNIX) -> None:
        self.failing = failing
        self.log, self.model = Log.private(1 << 16, epoch="modelled"), ModelLog(1 << 16, "modelled")
        self.fanout = FanOut(self.log, skip=skip, piece=4096)
        self.listening = socket.socket(family)
        self.listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
        self.listening.listen()
        self.listening.setblocking(False)
        self.listener = Listener(self.listening, self.fanout, self)
        self.now = 100.0
        self.clients: list[Remote] = []

    def feed(self, connection: Connection, data: bytes) -> None:
        subscriber = self.fanout.subscribe(data.split(b","), connection)
        try:
            connection.stream(HEAD, subscriber, connection.address, True)
        except BaseException:
            self.fanout.unsubscribe(subscriber)
            raise

    def late(self, connection: Connection) -> None:
        connection.abort()

    def resume(self, subscriber: Subscriber) -> None:
        self.fanout.unblock(subscriber, self.now)

    def left(self, address: str, reason: EndReason) -> None:
        pass

    def trusts(self, address: str) -> bool:
        return False

    def turn_away(self, data: bytes, crowded: str | None) -> bytes:
        return b""

    def client(self, *names: bytes) -> Remote:
        client = Remote(self.listening, *names, begins_after=len(self.model.history))
        self.clients.append(client)
        accepted = self.listener.accepted
        while not (client.ended or self.listener.accepted > accepted):
            select.select([self.listener, client.socket], [], [], PATIENCE)
            self.turn()
            client.read()
        self.turn()
        return client

    def publish(self, channel: bytes, *sizes: int) -> None:
        for size in sizes:
            frame = b"data: %s\n\n" % (b"x" * size)
            assert self.log.append(channel, frame) == self.model.append(channel, frame)
        self.turn()

    def turn(self) -> None:
        self.failing.until_done(self.listener.turn)
        while self.failing.until_done(self.fanout.drain, self.now, 1 << 40):
            pass

    def expire(self, timeout: float) -> None:
        self.now += timeout
        self.failing.until_done(self.listener.tick, self.now)
        self.failing.until_done(self.fanout.beat, self.now, 5.0, 100)
        self.failing.until_done(self.fanout.expire, self.now, timeout)
        self.turn()

    def settle(self) -> None:
        """Everybody reads until everything is there that will come."""
        deadline = time.monotonic() + PATIENCE
        newest = b"id: %s\n" % self.model.event_id(len(self.model.history)).encode()
        while not all(client.ended or newest in client.stream for client in self.clients):
            assert time.monotonic() < deadline, "somebody waits in vain"
            select.select([self.listener, *(client.socket for client in self.clients if not client.ended)], [], [], 0.1)
            for client in self.clients:
                if not client.ended:
                    client.read()
            self.turn()
        for client in self.clients:
            assert_none_lost_in_silence(
                self.model,
                client.names,
                client.stream.replace(b":\n", b""),
                begins_after=client.begins_after,
                ended=client.ended,
            )
        assert self.fanout.connections == self.listener.streams == sum(not client.ended for client in self.clients)

    def end(self) -> None:
        self.failing.once(self.listener.close)
        assert (self.listener.open, self.fanout.connections, self.fanout.blocked) == (0, 0, 0)
        self.listening.close()
        for client in self.clients:
            client.socket.close()


def volleys(failing: Failing, *, skip: bool) -> None:
    """Volleys to several at once; some don't read for a while, or for ever; one vanishes."""
    port = Port(failing, skip=skip)
    port.client(A)
    reader = port.client(A, B)
    port.publish(A, 10, 20)
    vanishing, slow = port.client(A), port.client(A, B)
    port.publish(B, 10)
    vanishing.vanish()
    port.publish(A, 10)
    for _ in range(8):  # the slow one blocks; the log goes on past it
        port.publish(B, *[8000] * 4)
        reader.read()
        port.turn()
    assert port.fanout.blocked or failing.failed
    port.expire(10.0)
    port.publish(B, *[8000] * 8)
    port.publish(A, 10)
    port.publish(B, 10)
    for _ in range(3):
        slow.read()
        port.turn()
    port.publish(A, 30)
    port.settle()
    port.end()


@pytest.mark.parametrize(
    ("skip", "lasting"), list(product([False, True], repeat=2)) if EVERYTHING else [(False, False), (True, True)]
)
def test_no_event_is_lost_in_silence_on_sockets_wherever_an_allocation_fails(skip: bool, lasting: bool) -> None:
    assert until_nothing_fails(lambda failing: volleys(failing, skip=skip), lasting=lasting) > 50


def newcomers(failing: Failing) -> None:
    port = Port(failing, family=socket.AF_INET)
    for _ in range(3):
        port.client(A)
    port.publish(A, 10)
    assert sum(client.ended for client in port.clients) <= 1, "who came later was turned away, too"
    port.settle()
    port.end()


def test_a_connection_that_finds_no_memory_costs_the_next_one_nothing_and_leaves_no_descriptor() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    assert until_nothing_fails(newcomers, lasting=True) > 10
    assert len(os.listdir("/proc/self/fd")) == descriptors


# ---- the hub ----


class Reader:
    """A stream of the hub; one that is slow suspends in each send."""

    def __init__(self, node: Hub, *, slow: bool) -> None:
        self.slow = slow
        self.raw = b""
        self.ends: list[EndReason] = []
        node.subscribe(["news"], self.send, lambda reason, error: self.ends.append(reason)).start()

    async def send(self, message: dict[str, Any]) -> None:
        self.raw += message["body"]
        if self.slow:
            await asyncio.sleep(0)

    def has(self, texts: list[str]) -> bool:
        return re.findall(rb"data: (\d+)", self.raw) == [text.encode() for text in texts]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_fast.hub.hub.TICK", 0.001)
    monkeypatch.setattr("sse_fast.hub.hub.PUMP_SECONDS", 0.01)


async def publish_and_read(failing: Failing) -> None:
    node = Hub(log_size=64 * 1024)
    readers = [Reader(node, slow=slow) for slow in (False, True, True, False)]
    run = node.stepper.run
    node.stepper.run = partial(failing.once, run)  # type: ignore[method-assign]
    for number in range(1, 4):
        await node.publish("news", str(number))
        published = [str(number) for number in range(1, number + 1)]
        await until(lambda published=published: all(reader.ends or reader.has(published) for reader in readers))
    node.stepper.run = run  # type: ignore[method-assign]
    later = Reader(node, slow=True)
    await node.publish("news", "4")
    await until(lambda: later.has(["4"]))
    await node.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("error::RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning")
async def test_a_hub_goes_on_wherever_an_allocation_of_a_drain_fails_and_leaves_no_coroutine_behind() -> None:
    for number in count(1, 1 if EVERYTHING else 3):
        failing = Failing(number)
        await publish_and_read(failing)
        if not failing.failed:
            break
    assert number > 20


@pytest.mark.usefixtures("impatient")
async def test_a_pump_whose_waking_was_lost_is_replaced() -> None:
    node = Hub(log_size=64 * 1024)
    reader = Reader(node, slow=False)
    await node.publish("news", "1")
    await until(lambda: reader.has(["1"]))
    node._awake = True  # what a loop leaves behind that has forgotten to run it
    await node.publish("news", "2")
    await until(lambda: reader.has(["1", "2"]))
    await node.close()


async def test_a_hub_that_finds_no_memory_to_wait_gives_the_loop_back_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Hub(log_size=64 * 1024)
    sleep = asyncio.sleep
    had_by_others: list[int] = []
    done = asyncio.Event()

    async def step() -> None:
        raise MemoryError

    def sleep_without_memory(seconds: float) -> Any:
        had_by_others.append(turns.count)
        if len(had_by_others) < 100:
            raise MemoryError
        done.set()
        return sleep(seconds)

    monkeypatch.setattr("sse_fast.hub.hub.asyncio", SimpleNamespace(sleep=sleep_without_memory))
    async with turns_of_others() as turns, asyncio.timeout(PATIENCE):
        task = asyncio.create_task(node._for_ever(step, "it failed"))
        await done.wait()
        task.cancel()
    assert len(set(had_by_others)) == 100


# ---- a body ----

EVENT = b'{"channel": "news", "data": "%s"}' % (b"x" * 600)


@pytest.mark.parametrize(
    ("entrance", "body", "content_type"),
    [
        ("from_json_object", EVENT, "application/json"),
        ("from_json_array", b"[%b]" % EVENT, "application/json"),
        ("from_ndjson", EVENT, "application/x-ndjson"),
    ],
)
async def test_a_body_that_there_is_no_memory_to_parse_is_not_called_wrong(
    entrance: str, body: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = getattr(publication, entrance)

    def first_of(*given: Any) -> Any:
        found = parse(*given)
        return list(found) if entrance != "from_json_object" else found

    def parse_without_memory(*given: Any) -> Any:
        # The first that fails within the parser; of some later ones it takes no notice, and dies.
        for number in count(1):
            try:
                return Failing(number).once(first_of, *given)
            except MemoryError as error:
                if "read this" in str(error):
                    raise
        raise AssertionError

    monkeypatch.setattr("sse_fast.edge.publish." + entrance, parse_without_memory)
    edge = create_app(Settings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
        answer = await client.post("/publish", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "no memory to read this" in answer.json()["detail"]
    assert edge.hub.log.position == 0
    await edge.close()


# ---- what is answered to a publisher ----


class Publisher:
    """A publisher's request, played without a server, and the answer."""

    def __init__(self, path: str, body: bytes) -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [],
        }
        self._body = body
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Any) -> None:
        allocations().count(False)  # from here on it is the server's affair
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])


@pytest.mark.parametrize(
    ("path", "body", "events"),
    [
        ("/publish/a", b"first", 1),
        ("/publish", b'{"channel": "a", "data": 1}', 1),
        ("/publish", b'[{"channel": "a", "data": 1}, {"channel": "a", "data": 2}]', 2),
    ],
)
async def test_again_is_said_to_no_publisher_whose_events_are_in_the_log(path: str, body: bytes, events: int) -> None:
    """Law 10: wherever an allocation fails from the append on, until the answer is handed to the server."""
    edge = create_app(Settings(log_size=1 << 20))
    edge._start_up()
    node = edge.hub
    await node.append([(b"a", b"data: x\n\n")] * 1000)  # positions that CPython has not got ready
    answers = Counter[tuple[int | None, bool]]()
    backplane: Any = node.backplane
    append = backplane._append

    def append_and_count(*args: Any) -> int:
        allocations().count(True)
        first: int = append(*args)
        return first

    backplane._append = append_and_count
    for number in count(1):
        before, publisher = node.log.position, Publisher(path, body)
        allocations().fail(number, number)
        try:
            await edge(publisher.scope, publisher.receive, publisher.send)
        except Exception as error:
            assert isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)  # noqa: PT017
        finally:
            allocations().count(False)
        if not allocations().failures():
            break
        appended = node.log.position - before
        assert appended in (0, events)
        assert node.published == node.log.position
        if publisher.status == 503:
            assert not appended
        else:
            assert b"retry-after" not in publisher.headers
        answers[publisher.status, bool(appended)] += 1
    assert publisher.status == 200
    assert answers[503, False]  # no memory for the append
    assert answers[500, True]  # nor for the answer
    await edge.close()
