"""One grammar for all who read event streams: every vector, however it is split, says the same to `EventParser`, to
`EventClient`, to `sse-fast listen` and to the load client; and what the parser's own contract says.
"""

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from event_streams import BOM, EVENT_STREAMS, OTHERS, VECTORS, Said, Vector
from hypothesis import given
from hypothesis import strategies as st
from whatwg import Parser

from sse_fast import EventParser, EventTooLarge, ReceivedEvent
from sse_fast._native.bench.stream_parser import StreamParser
from sse_fast.client.failures import Refused
from sse_fast.client.listener import Listener
from sse_fast.testing import EventClient, EventStream, NoEvent

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
LOAD_CLIENT_TAKES = 256 * 1024

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def ways(stream: bytes) -> Iterator[list[bytes]]:
    """The stream whole, byte by byte, and split in two at every byte; a read of nothing is none."""
    yield [stream] if stream else []
    yield [stream[at : at + 1] for at in range(len(stream))]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]


def said(events: list[ReceivedEvent]) -> tuple[Said, ...]:
    return tuple((event.data, event.event, event.id) for event in events)


# ---- the vectors -----------------------------------------------------------------------------------------------------


@every_vector
def test_the_oracle_finds_what_the_vector_says(vector: Vector) -> None:
    for pieces in ways(vector.stream):
        oracle = Parser()
        found = tuple((e.data, e.type, e.last_event_id) for piece in pieces for e in oracle.feed(piece))
        assert (found, oracle.reconnection_time) == (vector.events, vector.retry)
        assert oracle.last_event_id == vector.last_event_id


@every_vector
def test_the_parser_finds_what_the_vector_says_however_it_is_split(vector: Vector) -> None:
    for pieces in ways(vector.stream):
        parser = EventParser()
        found = [event for piece in pieces for event in parser.feed(piece)]
        assert (said(found), parser.retry) == (vector.events, vector.retry), pieces
        assert parser.last_event_id == vector.last_event_id, pieces


@every_vector
def test_the_load_client_finds_what_the_vector_says_however_it_is_split(vector: Vector) -> None:
    for pieces in ways(vector.stream):
        parser = StreamParser(1, 64)
        for piece in (HEAD, *pieces):
            parser.feed(piece)
        assert (parser.events, parser.fault) == (len(vector.events), None), pieces
        assert parser.last_id.decode(errors="replace") == vector.last_event_id, pieces


class Exchange:
    """What an app sent, as EventStream reads it."""

    complete = True

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = iter(pieces)
        self.read_so_far = bytearray()

    async def read(self) -> bytes:
        return next(self.pieces, b"")


@every_vector
async def test_the_client_of_tests_finds_what_the_vector_says_however_it_is_split(vector: Vector) -> None:
    head = httpx.Response(200, headers={"content-type": "text/event-stream; charset=windows-1252"})
    for pieces in ways(vector.stream):
        exchange: Any = Exchange(pieces)
        assert said(await EventStream(exchange, head, 5).rest()) == vector.events, pieces


@every_vector
async def test_an_app_s_stream_is_read_as_the_vector_says(vector: Vector) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"TEXT/Event-Stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at in range(len(vector.stream)):
            await send({"type": "http.response.body", "body": vector.stream[at : at + 1], "more_body": True})
        await send({"type": "http.response.body"})

    async with EventClient(app, lifespan=False) as client, client.stream("/") as stream:
        assert said(await stream.rest()) == vector.events


class Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


def listened(pieces: list[bytes], content_type: str = "text/event-stream") -> tuple[Listener, list[ReceivedEvent]]:
    """A listener to one such stream, and what it handed out."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": content_type}, stream=Pieces(pieces))

    with httpx.Client(base_url="http://edge.test", transport=httpx.MockTransport(answer)) as client:
        listener = Listener(client, ["a"])
        return listener, list(listener._connection())


@every_vector
def test_listen_finds_what_the_vector_says_however_it_is_split(vector: Vector) -> None:
    all_ways = list(ways(vector.stream))
    # A request takes most of the time: of the longest streams, so many splits all over them.
    for pieces in all_ways if len(all_ways) < 60 else all_ways[:2] + random.Random(1).sample(all_ways, 58):
        listener, found = listened(pieces, "text/event-stream; charset=windows-1252")
        assert said(found) == vector.events, pieces
        # A header, by which an id is sent back, keeps no white space at its ends: such an id moves no cursor.
        fits = vector.last_event_id and vector.last_event_id == vector.last_event_id.strip(" \t")
        assert listener.cursor in ((vector.last_event_id,) if fits else (None, "")), pieces
        assert listener.retry == (1.0 if vector.retry is None else min(vector.retry / 1000, 86400)), pieces


TOKENS = b"data|id|event|retry|:|:| |\n|\n|\r|\r\n|\n\n|\r\r|\0|7|x|\xef|\xff|data: x\n|id: 1\r\n|event: e\r".split(
    b"|"
)
STREAMS = st.lists(st.sampled_from([*TOKENS, BOM, "☃".encode()]), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=8).map(sorted)


@given(STREAMS, CUTS)
def test_parser_and_load_client_agree_with_the_oracle_on_any_stream_at_any_split(
    stream: bytes, cuts: list[int]
) -> None:
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True) if start < stop]
    oracle, parser, load_client = Parser(), EventParser(), StreamParser(1, 64)
    load_client.feed(HEAD)
    for piece in pieces:
        expected = oracle.feed(piece)
        found = list(parser.feed(piece))
        assert said(found) == tuple((e.data, e.type, e.last_event_id) for e in expected)
        assert parser.last_event_id == oracle.last_event_id
        assert parser.retry == oracle.reconnection_time
        before = load_client.events
        load_client.feed(piece)
        assert load_client.events - before == len(expected)
        if len(oracle.last_event_id) < 16:
            assert load_client.last_id.decode(errors="replace") == oracle.last_event_id


# ---- the content type ------------------------------------------------------------------------------------------------


def read_by_load_client(content_type: str) -> bool:
    parser = StreamParser(1, 64)
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Type:%b\r\n\r\ndata: x\n\n" % content_type.encode())
    assert parser.fault in (None, "not_event_stream")
    return parser.fault is None and parser.events == 1


def read_by_listen(content_type: str) -> bool:
    try:
        return len(listened([b"data: x\n\n"], content_type)[1]) == 1
    except Refused:
        return False


@pytest.mark.parametrize("read", [EventParser.reads, read_by_load_client, read_by_listen])
def test_a_stream_is_known_by_its_media_type_in_any_letters_and_by_nothing_else(read: Callable[[str], bool]) -> None:
    assert [content_type for content_type in EVENT_STREAMS if not read(content_type)] == []
    assert [content_type for content_type in OTHERS if read(content_type)] == []


def test_no_content_type_is_no_stream() -> None:
    assert not EventParser.reads(None)


async def test_the_client_of_tests_reads_no_events_where_a_browser_would_not() -> None:
    head = httpx.Response(200, headers={"content-type": "text/event-stream-foobar"})
    exchange: Any = Exchange([b"data: x\n\n"])
    with pytest.raises(NoEvent, match="text/event-stream-foobar, and no event stream"):
        await EventStream(exchange, head, 5).next()


# ---- size ------------------------------------------------------------------------------------------------------------


def parsed(stream: bytes, step: int, **options: Any) -> tuple[list[str], bool]:
    """The data of the events, and whether one was too large."""
    parser = EventParser(**options)
    found: list[str] = []
    try:
        for at in range(0, len(stream), step):
            for event in parser.feed(stream[at : at + step]):
                found.append(event.data)
    except EventTooLarge:
        return found, True
    return found, False


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_event_too_large_ends_the_stream_behind_those_before_it_however_it_came(step: int, end: str) -> None:
    def found(*lines: str) -> tuple[list[str], bool]:
        return parsed("".join(line + end for line in lines).encode(), step, max_event_size=20)

    before = ("data: a", "", "data: b", "")
    assert found(*before, "data: 78901234567890", "") == (["a", "b", "78901234567890"], False)
    assert found(*before, "data: 789012345678901", "") == (["a", "b"], True)
    # All lines that an event is made of count, names too.
    assert found(*before, "data: 789", "data: 78901", "") == (["a", "b", "789\n78901"], False)
    assert found(*before, "data: 789", "data: 789012", "") == (["a", "b"], True)
    assert found(*before, "id: 56789", "data: 678901") == (["a", "b"], True)
    assert found(*before, *["data"] * 5, "") == (["a", "b", "\n" * 4], False)
    assert found(*before, *["data"] * 6, "") == (["a", "b"], True)
    # What is dropped at once counts only while its own line lasts.
    assert found(*[":"] * 30, *before, *[": a comment, 18 long"] * 30, *before) == (["a", "b"] * 2, False)
    assert found(*before, "a field that nobody knows") == (["a", "b"], True)


def test_the_error_says_the_limit_and_stays() -> None:
    parser = EventParser(max_event_size=1000)
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"larger than max_event_size, 1,000 bytes"):
            list(parser.feed(b"data: " + b"x" * 1000))


@pytest.mark.parametrize("step", [1 << 20, 100_000, 999])
def test_the_load_client_s_limit_is_the_same_in_one_read_and_in_many(step: int) -> None:
    for size, fault in ((LOAD_CLIENT_TAKES, None), (LOAD_CLIENT_TAKES + 1, "event_too_long")):
        parser = StreamParser(1, 64)
        stream = HEAD + b"data: small\n\ndata:" + b"x" * (size - 5) + b"\n\n"
        for at in range(0, len(stream), step):
            parser.feed(stream[at : at + step])
            if parser.fault is not None:
                break
        assert (parser.fault, parser.events) == (fault, 1 + (fault is None))


def test_a_long_line_in_small_reads_is_not_read_again_with_each() -> None:
    """Who looks at all it has with every read has some 500 GB to look at here."""
    line = b"x" * 1_000_000
    parser = EventParser()
    found = list(parser.feed(b"data: "))
    for at in range(0, len(line), 1):
        found += parser.feed(line[at : at + 1])
    found += parser.feed(b"\n\n")
    assert [event.data.encode() == line for event in found] == [True]


async def test_the_client_of_tests_reads_a_long_line_in_small_pieces() -> None:
    line = b"x" * 8_000_000
    exchange: Any = Exchange([b"data: ", *(line[at : at + 100] for at in range(0, len(line), 100)), b"\n\n"])
    head = httpx.Response(200, headers={"content-type": "text/event-stream"})
    assert len((await EventStream(exchange, head, 600).next()).data) == 8_000_000


def test_many_lines_that_end_in_cr_are_searched_for_lf_once() -> None:
    """Who searches the rest of the read for an LF at each line has some 22 TB to search."""
    assert [event.data for event in EventParser().feed(b"data\r" * 3_000_000 + b"\r")] == ["\n" * 2_999_999]


# ---- the parser's own contract ---------------------------------------------------------------------------------------


def test_an_event_that_ends_in_cr_is_there_at_once() -> None:
    parser = EventParser()
    assert said(list(parser.feed(b"data: 1\r\r"))) == (("1", "message", ""),)
    assert said(list(parser.feed(b"\ndata: 2\r\n\r"))) == (("2", "message", ""),)
    assert said(list(parser.feed(b"\n\n"))) == ()


def test_what_was_fed_and_not_looked_at_comes_first() -> None:
    parser = EventParser()
    for piece in (b"data: 1\n\nda", b"ta: 2\n\ndata", b": 3\n\n"):
        parser.feed(piece)
    assert [event.data for event in parser] == ["1", "2", "3"]
    assert list(parser) == []


def test_the_last_event_id_is_that_of_the_event_in_hand() -> None:
    parser = EventParser()
    seen = [(event.id, parser.last_event_id) for event in parser.feed(b"id: 1\ndata\n\nid: 2\ndata\n\nid: 3\n\n")]
    assert seen == [("1", "1"), ("2", "2")]
    assert parser.last_event_id == "3"


def test_a_stream_that_goes_on_where_another_ended_keeps_its_id() -> None:
    parser = EventParser(last_event_id="7")
    assert parser.last_event_id == "7"
    assert [event.id for event in parser.feed(b"data: a\n\nid: 8\ndata: b\n\nid\ndata: c\n\n")] == ["7", "8", ""]


def test_comments_are_told_in_their_place() -> None:
    told: list[object] = []
    parser = EventParser(on_comment=told.append)
    for event in parser.feed(b":a\r:\n: b\ndata: 1\n:  c\n\n:d\ndata: 2\n\n: \xc3\xa9\xff\n:unfin"):
        told.append(event)
    assert told == ["a", "", "b", " c", ReceivedEvent("1"), "d", ReceivedEvent("2"), "é\ufffd"]


def test_whoever_is_told_of_comments_may_fail_and_nothing_is_lost() -> None:
    def fail(comment: str) -> None:
        raise RuntimeError(comment)

    parser = EventParser(on_comment=fail)
    parser.feed(b"data: 1\n:no\ndata: 2\n\n")
    with pytest.raises(RuntimeError, match="no"):
        next(parser)
    assert [event.data for event in parser] == ["1\n2"]


def test_whoever_is_told_of_comments_may_feed_and_read_on() -> None:
    found: list[str] = []
    parser = EventParser(on_comment=lambda comment: found.extend(event.data for event in parser.feed(b"data: 3\n\n")))
    found += [event.data for event in parser.feed(b"data: 1\n\n:now\ndata: 2\n\n")]
    assert found == ["2", "3", "1"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_may_be_fed_and_are_the_caller_s_own_again(kind: Callable[[bytes], Any]) -> None:
    piece = kind(b"data: x\n")
    parser = EventParser()
    parser.feed(piece)
    if kind is bytearray:
        piece[:] = b"!"
    assert [event.data for event in parser.feed(b"\n")] == ["x"]


@pytest.mark.parametrize("piece", ["data: x\n\n", 5, None, [100]])
def test_what_is_not_bytes_is_refused(piece: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes of a stream.*not {type(piece).__name__}"):
        EventParser().feed(piece)


def test_a_wait_beyond_all_numbers_is_a_long_one() -> None:
    parser = EventParser()
    list(parser.feed(b"retry: " + b"9" * 10_000 + b"\n"))
    assert parser.retry == 10**18


def test_an_event_knows_the_retry_that_came_with_it() -> None:
    events = list(EventParser().feed(b"retry: 1\n\nretry: 2\ndata: a\n\ndata: b\n\n"))
    assert [event.retry for event in events] == [2, None]


def test_an_event_is_a_value() -> None:
    event = next(EventParser().feed(b'event: e\nid: 1\nretry: 2\ndata: {"a": 1}\n\n'))
    assert event == ReceivedEvent('{"a": 1}', "e", "1", 2)
    assert hash(event) == hash(ReceivedEvent('{"a": 1}', "e", "1", 2))
    assert event != ReceivedEvent('{"a": 1}', "e", "1")
    assert event != ('{"a": 1}', "e", "1", 2)
    assert event.json() == {"a": 1}
    assert pickle.loads(pickle.dumps(event)) == event
    assert repr(event) == "ReceivedEvent(data='{\"a\": 1}', event='e', id='1', retry=2)"
    match event:
        case ReceivedEvent(data, kind, id):
            assert (data, kind, id) == ('{"a": 1}', "e", "1")
    with pytest.raises(AttributeError):
        event.data = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="Expecting value"):
        ReceivedEvent("no JSON").json()


def test_an_id_too_long_for_the_load_client_is_none_in_one_read_and_in_many() -> None:
    stream = HEAD + b"id: 7\ndata\n\nid: " + b"i" * 65 + b"\ndata\n\n"
    for step in (len(stream), 70, 1):
        parser = StreamParser(1, 64)
        for at in range(0, len(stream), step):
            parser.feed(stream[at : at + step])
        assert (parser.events, parser.last_id) == (2, b"")


def test_the_fuzzer_finds_nothing() -> None:
    """SSE_FAST_FUZZ_SECONDS makes it longer; `scripts/sanitized tests/fuzz_event_parser.py` is the long one."""
    seconds = os.environ.get("SSE_FAST_FUZZ_SECONDS", "1")
    command = [sys.executable, str(Path(__file__).with_name("fuzz_event_parser.py")), "--seconds", seconds]
    # A process of its own: a crash is to be told with its seed.
    done = subprocess.run(command, capture_output=True, text=True, timeout=float(seconds) + 60, check=False)
    assert done.returncode == 0, f"{done.stdout}\nstatus {done.returncode}\n{done.stderr}"
