"""Random event streams, split at random: `EventParser` and the load client's parser come through them, and find what
the oracle finds.

    scripts/sanitized tests/fuzz_event_parser.py --seconds 600 [--seed N]

Streams are vectors that were cut, joined and mutated, and noise; some go in chunks, with heads that were mutated too.
"""

import random
import re
from collections import Counter

from event_streams import VECTORS
from fuzzing import fuzz
from whatwg import Parser

from sse_fast import EventParser, EventTooLarge
from sse_fast._native.bench.payload import payload
from sse_fast._native.bench.stream_parser import StreamParser

RUN = 7
HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: TEXT/event-stream;x=y\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = [
    b"data",
    b"id",
    b"event",
    b"retry",
    b":",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"12",
    b"x",
]
PAYLOAD = re.compile(r"sw1:00000007:.{44}:.{5}[.]")


def stream(rng: random.Random) -> bytearray:
    made = bytearray()
    for _ in range(rng.choice((1, 2, 5, 20))):
        match rng.randrange(5):
            case 0:
                made += rng.choice(VECTORS).stream
            case 1:
                made += b"".join(rng.choices(TOKENS, k=rng.randrange(30)))
            case 2:
                made += b"id: e-%d\ndata: %b\n\n" % (len(made), payload(64, RUN, 1, 2, len(made), 3))
            case 3:
                made += b"data: %b\r\ndata:%b" % (payload(64, RUN, 1, 2, 3, 4), payload(64, RUN, 1, 2, 3, 4))
            case _:
                made += rng.choice((b"data: ", b":", b"id:", b"")) + b"y" * rng.choice((0, 1, 63, 64, 65, 255, 5000))
    for _ in range(rng.choice((0, 0, 0, 1, 4))):
        mutate(made, rng)
    return made


def mutate(made: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(made) + 1)
    match rng.randrange(4):
        case 0 if at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            del made[at : at + rng.choice((1, 1, 5, 50))]
        case 2:
            made[at:at] = rng.choice(TOKENS)
        case _:
            made[at:at] = made[at : at + rng.randrange(80)]


def pieces(raw: bytes, rng: random.Random) -> list[bytes]:
    most = rng.choice((1, 2, 10, 100, 100_000))
    found, at = [], 0
    while at < len(raw):
        size = rng.randint(1, most)
        found.append(raw[at : at + size])
        at += size
    return found


def against_the_oracle(raw: bytes, rng: random.Random, tally: Counter[str]) -> None:
    """Both readers, fed alike; the load client in chunks of other sizes than its reads."""
    oracle, parser, load_client = Parser(), EventParser(), StreamParser(RUN, 64)
    expected = oracle.feed(raw)
    found = [event for piece in pieces(raw, rng) for event in parser.feed(piece)]
    assert [(e.event, e.data, e.id) for e in found] == [(e.type, e.data, e.last_event_id) for e in expected]
    assert (parser.last_event_id, parser.retry) == (oracle.last_event_id, oracle.reconnection_time)
    wire = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces(raw, rng))
    payloads = [n for piece in pieces(wire, rng) for _, _, n, _ in load_client.feed(piece)]
    assert load_client.fault is None
    assert load_client.events == len(expected)
    if not any(load_client.bad[kind] for kind in ("torn", "checksum", "foreign")):
        assert payloads == [int(one[23:31], 16) for event in expected for one in PAYLOAD.findall(event.data)]
    tally["events"] += len(expected)
    tally["payloads"] += len(payloads)


def without_one(raw: bytes, rng: random.Random, tally: Counter[str]) -> None:
    """Whatever it is, the parsers come through; and a limit ends it at the same event, however it was split."""
    head = bytearray(rng.choice([*HEADS, CHUNKED]))
    for _ in range(rng.choice((0, 1, 3))):
        mutate(head, rng)
    load_client = StreamParser(RUN, 64)
    for piece in pieces(bytes(head) + raw, rng):
        load_client.feed(piece)
        if load_client.fault is not None:
            tally[load_client.fault] += 1
            break
    limit = rng.choice((0, 1, 10, 100, 1000))
    results = []
    for way in ([raw], pieces(raw, rng), pieces(raw, rng)):
        comments: list[str] = []
        parser, events, failed = EventParser(max_event_size=limit, on_comment=comments.append), [], False
        try:
            for piece in way:
                events += parser.feed(piece)
        except EventTooLarge:
            failed = True
            tally["too large"] += 1
        # `+=` keeps what came before the error.
        results.append((events, comments, failed, parser.last_event_id, parser.retry))
    assert results[0] == results[1] == results[2], limit


def step(rng: random.Random, tally: Counter[str], end: float) -> None:
    raw = bytes(stream(rng))
    against_the_oracle(raw, rng, tally)
    without_one(raw, rng, tally)
    tally["streams"] += 1


if __name__ == "__main__":
    fuzz(__doc__, step)
