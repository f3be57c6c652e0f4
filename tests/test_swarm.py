"""The load client: what it takes for wrong, what it takes for right, and that it counts both as they are."""

import asyncio
import gc
import os
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from click.testing import CliRunner
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st
from whatwg import Parser

from sse_fast._native.bench.board import bucket, bucket_value
from sse_fast._native.bench.dial import Request
from sse_fast._native.bench.payload import PAYLOAD_LEAST, payload
from sse_fast._native.bench.stream_parser import StreamParser
from sse_fast._native.bench.swarm import Swarm
from sse_fast.bench import Broadcast, Churn, Hold, InvalidPlan, Mode, Plan, Result, Slow, Storm, Target, run
from sse_fast.bench import runner as running
from sse_fast.bench.cli import target_of
from sse_fast.bench.results import SCHEMA, difference, timing
from sse_fast.bench.server import Edge
from sse_fast.cli.main import main

RUN = 0xC0FFEE42
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PLAIN = HEAD + b"\r\n"


def test_a_swarm_that_cannot_be_made_closes_nobodys_descriptor() -> None:
    stdin, nobody = os.fstat(0), cast(Any, None)
    with pytest.raises(TypeError):
        Swarm(nobody, 0, nobody, nobody, nobody, run=RUN, payload_bytes=64, capacity=1)
    gc.collect()
    assert os.path.samestat(os.fstat(0), stdin)


# ---- the payload and the parser --------------------------------------------------------------------------------------


def checksum(text: bytes) -> int:
    """As the payload's definition says, written once more."""
    mask = (1 << 64) - 1
    state = 0x9E3779B97F4A7C15 ^ len(text)
    for part in (text[:49], text[57:]):
        for at in range(0, len(part), 8):
            state = (state ^ int.from_bytes(part[at : at + 8], "little")) * 0xFF51AFD7ED558CCD & mask
            state ^= state >> 32
    return state & 0xFFFFFFFF


@given(
    st.integers(PAYLOAD_LEAST, 300),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**24 - 1),
    st.integers(0, 255),
    st.integers(0, 2**31),
    st.integers(0, 2**63),
)
def test_a_payload_says_what_it_is_and_survives_json(
    length: int, run_id: int, channel: int, publisher: int, n: int, sent: int
) -> None:
    text = payload(length, run_id, channel, publisher, n, sent)
    assert len(text) == length
    start = f"sw1:{run_id:08x}:{channel:06x}:{publisher:02x}:{n:08x}:{sent:016x}:{checksum(text):08x}:"
    assert text.startswith(start.encode())
    assert text.endswith(b".")
    assert orjson.dumps(text.decode()) == b'"' + text + b'"'


def test_any_changed_byte_of_a_payload_is_noticed() -> None:
    text = payload(70, RUN, 1, 2, 3, 4)
    for at in range(len(text)):
        parser = StreamParser(RUN, 70)
        broken = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        assert parser.feed(PLAIN + b"data: " + broken + b"\n\n") == []
        assert sum(parser.bad.values()) == 1 or at < 4  # without its first letters it is no payload; it will be missed


line_ends = st.sampled_from(["\n", "\r\n", "\r"])
wrappers = st.sampled_from(["%s", '{"data":"%s"}', '{"channel":"a","pub":{"data":{"v":"%s"},"offset":1}}', "é %s ☃"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """An event stream with payloads in it, and where it is split."""
    end = draw(line_ends)
    text = "\ufeff" if draw(st.booleans()) else ""
    for n in range(draw(st.integers(1, 5))):
        text += draw(st.sampled_from(["", f":{end}", f": a comment{end}", f"retry: 5{end}", f"{end}", f"id{end}{end}"]))
        lines = [f"id: abc-{n}"] if draw(st.booleans()) else []
        lines += draw(st.sampled_from([[], ["event: x"], ["data"], ["data:more"], ["nonsense"]]))
        lines.append(f"data: {draw(wrappers) % payload(64, RUN, 0, 0, n, 9).decode()}")
        lines += draw(st.sampled_from([[], ["data:"], ["data: }"]]))
        text += end.join(lines) + end
        if n < 4 or draw(st.booleans()):
            text += end
    body = text.encode()
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=12))
    return body, sorted(cuts)


PAYLOADS = re.compile(r"sw1:[0-9a-f]{8}:[0-9a-f]{6}:[0-9a-f]{2}:([0-9a-f]{8}):[^.]*[.]")


@given(streams())
def test_split_anywhere_a_stream_says_what_the_standard_says(stream: tuple[bytes, list[int]]) -> None:
    body, cuts = stream
    oracle, parser = Parser(), StreamParser(RUN, 64)
    parser.feed(PLAIN)
    expected = [int(n, 16) for event in oracle.feed(body) for n in PAYLOADS.findall(event.data)]
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += [n for _, _, n, _ in parser.feed(body[start:stop])]
    assert found == expected
    assert parser.last_id.decode() == oracle.last_event_id
    assert parser.fault is None
    assert not any(parser.bad.values())


@given(streams(), st.lists(st.integers(1, 40), min_size=1), st.lists(st.integers(1, 200), min_size=1))
def test_chunks_and_reads_may_meet_anywhere(
    stream: tuple[bytes, list[int]], chunks: list[int], reads: list[int]
) -> None:
    body, _ = stream
    whole = StreamParser(RUN, 64)
    expected = whole.feed(PLAIN + body)
    wire, at = CHUNKED, 0
    for number in range(len(body)):
        if at >= len(body):
            break
        size = chunks[number % len(chunks)]
        part = body[at : at + size]
        wire += b"%X%b\r\n%b\r\n" % (len(part), (b"", b";a=b", b" ; x")[number % 3], part)
        at += size
    wire += b"0\r\nTrailer: x\r\n\r\n"
    parser, found, at, number = StreamParser(RUN, 64), [], 0, 0
    while at < len(wire):
        size = reads[number % len(reads)]
        found += parser.feed(wire[at : at + size])
        at, number = at + size, number + 1
    assert found == expected
    assert parser.over
    assert parser.fault is None


def test_the_same_bytes_twice_on_one_stream_are_no_shortcut_past_the_order_of_ids() -> None:
    frame = b"id: abc-7\ndata: " + payload(64, RUN, 0, 0, 7, 1) + b"\n\n"
    parser = StreamParser(RUN, 64)
    parser.feed(PLAIN + b"id: abc-6\n\n")
    assert len(parser.feed(frame)) == 1
    assert parser.bad["ids_fell"] == 0
    assert len(parser.feed(frame)) == 1
    assert parser.bad["ids_fell"] == 1


def test_ids_without_an_order_are_left_alone() -> None:
    parser = StreamParser(RUN, 64)
    parser.feed(PLAIN)
    for identifier in (b"5f3c-aa", b"17:9", b"18:1", b"urn:uuid:2", b"x"):
        parser.feed(b"id: " + identifier + b"\ndata: " + payload(64, RUN, 0, 0, 0, 0) + b"\n\n")
    assert parser.bad["ids_fell"] == 0
    assert parser.last_id == b"x"


def test_a_request_counts_its_body_and_resumes() -> None:
    target = Target(
        "http://h:1/s/{channel}?a=b",
        "http://h:2/p/{channel}",
        headers=(("X-A", "1"),),
        body='{"c":"{channel}","d":{json}}',
        content_type="application/json",
    )
    subscribe = Request(target.subscribe_request()).render(12, b"", b"abc-9")
    assert subscribe.startswith(b"GET /s/12?a=b HTTP/1.1\r\nHost: h:1\r\n")
    assert b"\r\nX-A: 1\r\n" in subscribe
    assert subscribe.endswith(b"Last-Event-ID: abc-9\r\n\r\n")
    assert b"Last-Event-ID" not in Request(target.subscribe_request()).render(12, b"", b"")
    parts = target.publish_request()
    assert parts is not None
    head, _, body = Request(*parts).render(12, b"sw1:x;", b"").partition(b"\r\n\r\n")
    assert body == b'{"c":"12","d":"sw1:x;"}'
    assert f"Content-Length: {len(body)}".encode() in head


# ---- nasty servers ---------------------------------------------------------------------------------------------------


Write = Callable[[bytes], Awaitable[None]]


@dataclass
class Nasty:
    """A raw server with one stream: says `head` to a subscriber, and for each event what `say` makes of its payload."""

    head: bytes = CHUNKED
    say: Callable[["Nasty", bytes], bytes] = lambda self, data: self.chunk(self.event(data))
    at_once: bool = True  # else byte by byte
    after_head: str = ""  # "close" or "reset"
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    unanswered: tuple[int, ...] = ()  # events whose publisher is cut off
    count: int = 0
    requests: list[bytes] = field(default_factory=list)
    streams: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0

    def event(self, data: bytes) -> bytes:
        return b"id: abc-%d\ndata: %b\n\n" % (self.count, data)

    def chunk(self, text: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(text), text)

    @property
    def target(self) -> Target:
        return Target(f"http://127.0.0.1:{self.port}/s", f"http://127.0.0.1:{self.port}/p")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
                    await self.publish(body)
                    if self.count in self.unanswered:
                        return
                    writer.write(self.answer)
                else:
                    self.requests.append(head)
                    await self.write(writer, self.head)
                    if self.after_head == "close":
                        writer.close()
                    elif self.after_head == "reset":
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        writer.close()
                    self.streams.append(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def publish(self, data: bytes) -> None:
        self.count += 1
        text = self.say(self, data)
        for stream in self.streams:
            await self.write(stream, text)

    async def write(self, stream: asyncio.StreamWriter, text: bytes) -> None:
        step = len(text) if self.at_once else 1
        for at in range(0, len(text), step or 1):
            stream.write(text[at : at + step])
            if not self.at_once:
                await asyncio.sleep(0)  # the loop writes it out as a segment of its own


@asynccontextmanager
async def served(nasty: Nasty) -> AsyncIterator[Nasty]:
    server = await asyncio.start_server(nasty.serve, "127.0.0.1")
    nasty.port = server.sockets[0].getsockname()[1]
    try:
        yield nasty
    finally:
        server.close()
        for stream in nasty.streams:
            stream.close()


EVENTS = 6
FEW = Broadcast(1, rate=400.0, events=EVENTS, seconds=5.0, warm_up=0.0)
PLAN = Plan(FEW, publishers=1, settle=0.0, patience=0.5, drain=0.3)


async def tried(nasty: Nasty, plan: Plan = PLAN) -> Result:
    async with served(nasty):
        return await asyncio.to_thread(run, replace(plan, target=nasty.target))


def kinds(result: Result) -> dict[str, int]:
    return {problem.kind: problem.count for problem in result.problems}


def after(count: int, twist: Callable[[Nasty, bytes], bytes]) -> Callable[[Nasty, bytes], bytes]:
    """Say the right thing, but of event number `count` what the twist makes of it."""
    return lambda nasty, data: twist(nasty, data) if nasty.count == count else nasty.chunk(nasty.event(data))


GOOD = {
    "chunked": Nasty(),
    "byte by byte": Nasty(at_once=False),
    "chunk extensions": Nasty(say=lambda n, d: b'%X;a=b;c="d"\r\n%b\r\n' % (len(n.event(d)), n.event(d))),
    "a chunk for every byte": Nasty(say=lambda n, d: b"".join(n.chunk(bytes([c])) for c in n.event(d))),
    "not chunked": Nasty(head=PLAIN, say=Nasty.event),
    "with a content length": Nasty(head=HEAD + b"Content-Length: 100000\r\n\r\n", say=Nasty.event),
    "crlf": Nasty(head=PLAIN, say=lambda n, d: n.event(d).replace(b"\n", b"\r\n")),
    "crlf byte by byte": Nasty(head=PLAIN, at_once=False, say=lambda n, d: n.event(d).replace(b"\n", b"\r\n")),
    "cr": Nasty(head=PLAIN, at_once=False, say=lambda n, d: n.event(d).replace(b"\n", b"\r")),
    "in json, over lines": Nasty(head=PLAIN, say=lambda n, d: b'data: {"x":\ndata: {"y": "%b"}}\n\n' % d),
    "between comments and retries": Nasty(head=PLAIN, say=lambda n, d: b":\nretry: 3\n\n:hi\n%b:\n\n" % n.event(d)),
    "after an interim response": Nasty(head=b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + CHUNKED),
    "answers are chunked": Nasty(
        answer=b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n"
    ),
    "answers without a body": Nasty(answer=b"HTTP/1.1 204 No Content\r\n\r\n"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_right_stream_in_any_dress_is_right(name: str) -> None:
    nasty = replace(GOOD[name], requests=[], streams=[])
    result = await tried(nasty)
    assert kinds(result) == {}
    assert result.ok
    assert result.figures["deliveries"] == EVENTS
    assert result.timings["latency"].count == EVENTS


REFUSALS = {
    "no_content": Nasty(head=b"HTTP/1.1 204 No Content\r\n\r\n"),
    "status": Nasty(head=b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
    "redirect": Nasty(head=b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    "not_event_stream": Nasty(head=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"),
    "bad_head": Nasty(head=b"220 smtp.example.org ESMTP\r\n\r\n"),
    "timed_out": Nasty(head=b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "cut": Nasty(head=b"HTTP/1.1 200", after_head="close"),
    "reset": Nasty(head=b"", after_head="reset"),
    "ended": Nasty(head=PLAIN, after_head="close"),
    "bad_chunk": Nasty(head=CHUNKED + b"xyz\r\n"),
    "event_too_long": Nasty(head=PLAIN + b"data: " + b"x" * 700_000),
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_stream_that_fails_is_reported_as_what_it_is(kind: str) -> None:
    nasty = replace(REFUSALS[kind], requests=[], streams=[])
    async with served(nasty):
        target = replace(nasty.target, publish=None)
        result = await asyncio.to_thread(run, replace(PLAN, mode=Hold(1, 0.2), target=target))
    assert kinds(result) == {kind: 1}
    assert not result.ok


async def test_a_refused_connection_is_reported_as_that() -> None:
    async with served(Nasty()) as nasty:
        target = nasty.target
    result = await asyncio.to_thread(run, replace(PLAN, mode=Hold(3, 0.1), target=replace(target, publish=None)))
    assert kinds(result) == {"refused": 3}
    assert result.problems[0].example == "Connection refused"


WRONGS: dict[str, tuple[Nasty, dict[str, int]]] = {
    "a broken payload": (
        Nasty(say=after(3, lambda n, d: n.chunk(n.event(d.replace(d[-2:], b"!."))))),
        {"checksum": 1, "lost": 1},
    ),
    "a torn payload": (Nasty(say=after(3, lambda n, d: n.chunk(n.event(d[:-5])))), {"torn": 1, "lost": 1}),
    "an event that never comes": (Nasty(say=after(3, lambda n, d: b"")), {"lost": 1}),
    "the last event never comes": (Nasty(say=after(EVENTS, lambda n, d: b"")), {"lost": 1, "stalled": 1}),
    "the first event never comes": (Nasty(say=after(1, lambda n, d: b"")), {"lost_at_start": 1}),
    "an event that comes twice": (
        Nasty(say=after(3, lambda n, d: n.chunk(n.event(d)) + n.chunk(b"data: %b\n\n" % d))),
        {"duplicate": 1},
    ),
    "ids that stand still": (
        Nasty(say=after(3, lambda n, d: n.chunk(b"id: abc-2\ndata: %b\n\n" % d))),
        {"ids_fell": 1},
    ),
    "a clean end": (
        Nasty(say=after(EVENTS, lambda n, d: n.chunk(n.event(d)) + b"0\r\n\r\n")),
        {"ended": 1},
    ),
    "an event of another channel": (
        Nasty(say=after(EVENTS, lambda n, d: n.chunk(n.event(d) + b"data: " + elsewhere(d) + b"\n\n"))),
        {"wrong_channel": 1},
    ),
}


def elsewhere(data: bytes) -> bytes:
    return payload(len(data), int(data[4:12], 16), 77, 0, 0, 0)


@pytest.mark.parametrize("name", WRONGS)
async def test_a_wrong_stream_is_reported_as_what_it_is(name: str) -> None:
    nasty, expected = WRONGS[name]
    result = await tried(replace(nasty, requests=[], streams=[]))
    assert kinds(result) == expected
    assert not result.ok


async def test_two_events_in_the_wrong_order_are_out_of_order_not_lost() -> None:
    held: list[bytes] = []

    def swap(nasty: Nasty, data: bytes) -> bytes:
        if nasty.count == 3:
            held.append(data)
            return b""
        return nasty.chunk(b"".join(b"data: %b\n\n" % one for one in (data, *(held.pop() for _ in held[:1]))))

    assert kinds(await tried(Nasty(say=swap))) == {"out_of_order": 1}


async def test_a_refused_event_is_not_missed_by_anybody() -> None:
    nasty = Nasty(say=lambda n, d: b"", answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    result = await tried(nasty)
    assert kinds(result) == {"publish_refused": EVENTS}
    assert result.problems[0].example == "HTTP/1.1 403 Forbidden"


@pytest.mark.parametrize("unanswered", [(1,), (3,), (2, 3, 5), (EVENTS,), tuple(range(1, EVENTS + 1))])
@pytest.mark.parametrize("said", [True, False])
async def test_an_event_whose_answer_never_came_may_come_or_not(unanswered: tuple[int, ...], said: bool) -> None:
    def say(nasty: Nasty, data: bytes) -> bytes:
        return nasty.chunk(nasty.event(data)) if said or nasty.count not in unanswered else b""

    result = await tried(Nasty(say=say, unanswered=unanswered))
    assert kinds(result) == {"publish_failed": len(unanswered)}
    assert result.figures["deliveries"] == EVENTS - len(unanswered) * (not said)


@pytest.mark.parametrize(("lost", "kind"), [(2, "lost"), (1, "lost_at_start")])
async def test_beside_events_whose_answer_never_came_others_are_missed_all_the_same(lost: int, kind: str) -> None:
    nasty = Nasty(say=lambda n, d: b"" if n.count in (lost, 3) else n.chunk(n.event(d)), unanswered=(3,))
    assert kinds(await tried(nasty)) == {"publish_failed": 1, kind: 1}


async def test_a_server_that_closes_after_each_answer_is_published_to_again() -> None:
    nasty = Nasty(answer=b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    result = await tried(nasty)
    assert kinds(result) == {}
    assert result.figures["deliveries"] == EVENTS


async def test_who_may_reconnect_comes_back_with_its_last_event_id() -> None:
    def end_once(nasty: Nasty, data: bytes) -> bytes:
        if nasty.count == EVENTS:
            nasty.streams.clear()  # the old stream is over; what comes now goes to nobody
        return nasty.chunk(nasty.event(data)) + (b"0\r\n\r\n" if nasty.count == EVENTS - 1 else b"")

    def resume(nasty: Nasty, data: bytes) -> bytes:
        text = end_once(nasty, data)
        if nasty.count == EVENTS:
            nasty.head = CHUNKED + text  # what it missed comes with the head
        return text

    nasty = Nasty(say=resume)
    result = await tried(nasty, replace(PLAN, reconnect=0.1, drain=2.0))
    assert kinds(result) == {}
    assert b"Last-Event-ID: abc-%d\r\n" % (EVENTS - 1) in nasty.requests[1]


# ---- against the edge ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge() as running_edge:
        yield running_edge


MODES: dict[str, tuple[Mode, int]] = {
    "hold": (Hold(50, 0.1), 50),
    "broadcast, closed loop": (Broadcast(50, in_flight=8, events=100, warm_up=0.1), 5000),
    "broadcast, open loop": (Broadcast(50, rate=500.0, events=100, warm_up=0.0), 5000),
    "channels": (Broadcast(50, channels=10, in_flight=4, events=200, warm_up=0.0), 1000),
    "churn": (Churn(50, comes=200.0, life=0.1, rate=100.0, seconds=0.5), 50),
    "storm": (Storm(50, rate=100.0, before=0.2, away=0.2), 50),
    "slow": (Slow(50, share=0.2, rate=200.0, seconds=0.5), 50),
    "stopped": (Slow(50, share=0.2, drip=0, rate=200.0, seconds=0.5), 50),
    "slow and stopped, then awake": (Slow(50, share=0.1, stopped=0.1, wake=True, rate=200.0, seconds=0.5), 50),
}


SEVERAL_PROCESSES = ("broadcast, closed loop", "channels", "storm")


@pytest.mark.parametrize(("name", "processes"), [*((n, 1) for n in MODES), *((n, 2) for n in SEVERAL_PROCESSES)])
def test_the_edge_loses_nothing_in_any_mode(edge: Edge, name: str, processes: int) -> None:
    mode, least = MODES[name]
    result = run(Plan(mode, edge.target, processes=processes, settle=0.0))
    assert kinds(result) == {}
    deliveries = result.figures["deliveries"]
    assert deliveries is not None
    assert deliveries >= least
    assert result.server is not None
    assert result.figures["server_cpu_us_per_connect"] is not None
    if isinstance(mode, Broadcast):
        assert deliveries == least
        assert result.timings["latency"].count == deliveries
    if isinstance(mode, Storm):
        assert result.figures["came_back"] == result.figures["caught_up"] == mode.subscribers
        assert result.timings["complete"].count == mode.subscribers
    if isinstance(mode, Churn):
        assert (result.figures["came"] or 0) > 0
    if isinstance(mode, Slow) and mode.wake:
        assert result.figures["slow_complete"] == result.figures["slow"] == 10


def test_as_many_processes_run_as_descriptors_need(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "raise_descriptor_limit", lambda: running.DESCRIPTORS_BESIDE + 16 + 40)
    result = run(Plan(Hold(100, 0.0), edge.target, settle=0.0))
    assert kinds(result) == {}
    assert result.settings["processes"] == 3
    assert result.figures["connections"] == 100


# ---- histograms and reports ------------------------------------------------------------------------------------------


@given(st.integers(0, 999_999_999))
def test_native_buckets_are_those_of_hdrhistogram(value: int) -> None:
    made = HdrHistogram(1, 1_000_000_000, 3)
    assert bucket(value) == made._counts_index_for(value)
    assert bucket_value(bucket(value)) == made.get_lowest_equivalent_value(value)


def test_percentiles_agree_with_a_direct_computation() -> None:
    chance = random.Random(7)
    values = sorted(int(chance.lognormvariate(8, 2)) for _ in range(20_000))
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    found = timing(counts)
    assert found is not None
    assert found.count == len(values)
    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99_9"), (1.0, "max")):
        direct = values[max(1, round(share * len(values))) - 1]
        assert abs(getattr(found, name) - direct) <= direct / 1000 + 1
    assert HdrHistogram.decode(found.histogram).get_total_count() == len(values)


def test_the_difference_of_two_moments_is_what_came_between() -> None:
    assert difference({1: 5, 2: 1, 9: 3}, {1: 2, 2: 1}) == {1: 3, 9: 3}


def test_the_command_writes_its_json_and_says_in_its_status_whether_streams_were_right(
    edge: Edge, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    url = f"http://127.0.0.1:{edge.port}"
    done = CliRunner().invoke(main, ["bench", "hold", "-n", "5", "--seconds", "1.2", "--json", str(path), url])
    assert done.exit_code == 0, done.output
    assert "lost 0" in done.output
    result = orjson.loads(path.read_bytes())
    assert result["schema"] == SCHEMA
    assert result["ok"] is True
    assert result["figures"]["connections"] == 5
    assert result["series"][0]["connections"] == 5
    assert [phase["name"] for phase in result["phases"]][:2] == ["ramp", "settle"]

    done = CliRunner().invoke(main, ["bench", "hold", "-n", "5", "--seconds", "0", f"{url}/nothing"])
    assert done.exit_code == 1
    assert "WRONG: 5 answered with another status than 200: HTTP/1.1 404" in done.output
    assert CliRunner().invoke(main, ["bench", "hold", "https://127.0.0.1/x"]).exit_code == 2


@pytest.mark.parametrize(
    "plan",
    [
        Plan(Broadcast(10), Target("http://127.0.0.1:1/x")),
        Plan(Broadcast(10, channels=2), Target("http://127.0.0.1:1/x", "http://127.0.0.1:1/{channel}")),
        Plan(Broadcast(10), Target("http://127.0.0.1:1/x", "http://127.0.0.1:1/", body="nothing")),
        Plan(Broadcast(10, in_flight=17)),
        Plan(Broadcast(1, channels=2)),
        Plan(size=10),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_starts(plan: Plan) -> None:
    with pytest.raises(InvalidPlan):
        plan.check()


@pytest.mark.parametrize(
    ("url", "publish", "subscribes", "publishes"),
    [
        ("http://a:1", None, "http://a:1/sse/bench-{channel}", "http://a:1/publish/bench-{channel}"),
        ("http://a:2", "http://a:1/", "http://a:2/sse/bench-{channel}", "http://a:1/publish/bench-{channel}"),
        ("http://a:1/", "http://a:1/pub", "http://a:1/", "http://a:1/pub"),
        ("http://a:1/events", None, "http://a:1/events", None),
    ],
)
def test_urls_without_a_path_name_an_edge(
    url: str, publish: str | None, subscribes: str, publishes: str | None
) -> None:
    options = {"method": "POST", "body": "{data}", "content_type": "text/plain", "headers": (), "publish_header": ()}
    target = target_of({"url": url, "publish_url": publish, "key": None, **options})
    assert target is not None
    assert (target.subscribe, target.publish) == (subscribes, publishes)
