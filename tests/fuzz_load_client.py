"""The load client against a server that lies: its swarm, publishers, dialer, parser and board.

    scripts/sanitized tests/fuzz_load_client.py --seconds 600 [--seed N]

The server accepts, waits, answers what was drawn from a seed, cut anywhere, and ends or resets; the load client is told
to open, cut, resume, churn, slow down and publish in any order. Whatever comes, no counter falls below nothing, and at
the end nobody is left.
"""

import contextlib
import os
import random
import selectors
import socket
import struct
import time
from collections import Counter

from fuzz_event_parser import CHUNKED, HEADS, mutate, stream
from fuzzing import fuzz

from sse_fast._native.bench.board import Board
from sse_fast._native.bench.dial import CHANNEL, LAST_EVENT_ID, LENGTH, PAYLOAD, Dialer, Request
from sse_fast._native.bench.payload import payload
from sse_fast._native.bench.swarm import Swarm

RUN = 7
CAPACITY, CHANNELS, PUBLISHERS, SIZE = 24, 3, 4, 64
RST_AT_CLOSE = struct.pack("ii", 1, 0)
SUBSCRIBE = (b"GET /s/", CHANNEL, b" HTTP/1.1\r\nHost: x\r\n", LAST_EVENT_ID, b"\r\n")
PUBLISH = ((b"POST /p/", CHANNEL, b" HTTP/1.1\r\nContent-Length: ", LENGTH, b"\r\n\r\n"), (PAYLOAD,))
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /" + b"x" * 500 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 17_000,
    b"ffffffffffffffff\r\n",
]
CLOSING = b'event: $closing\ndata: {"reason":"overloaded"}\n\n'


class Liar:
    """One connection of the server: what it will still say."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.to_say = bytearray()
        self.in_chunks = False
        self.streams = False


class Server:
    def __init__(self, rng: random.Random, tally: Counter[str]) -> None:
        self.rng, self.tally = rng, tally
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listening.setblocking(False)
        self.port = self.listening.getsockname()[1]
        self.ready = selectors.DefaultSelector()
        self.liars: set[Liar] = set()

    def close(self) -> None:
        for liar in list(self.liars):
            self.leave(liar)
        self.ready.close()
        self.listening.close()

    def step(self) -> None:
        while self.rng.random() < 0.9:
            try:
                opened, _ = self.listening.accept()
            except BlockingIOError:
                break
            opened.setblocking(False)
            liar = Liar(opened)
            self.liars.add(liar)
            self.ready.register(opened, selectors.EVENT_READ, liar)
        for key, _ in self.ready.select(0):
            self.asked(key.data)
        for liar in list(self.liars):
            if liar.streams and self.rng.random() < 0.3:
                self.say_more(liar)
            if liar.to_say:
                self.speak(liar)
            if self.rng.random() < (0.02 if liar.to_say else 0.005):
                self.leave(liar)

    def asked(self, liar: Liar) -> None:
        try:
            said = liar.socket.recv(65536)
        except ConnectionError:
            said = b""
        if not said:
            self.leave(liar)
            return
        self.tally["requests"] += said.count(b" HTTP/1.1\r\n")
        if said.startswith(b"GET") and self.rng.random() < 0.9:
            head = bytearray(self.rng.choice((CHUNKED, CHUNKED, *HEADS)))
            liar.in_chunks = head == CHUNKED
            liar.streams = True
        else:
            head = bytearray(self.rng.choice((ANSWERS[0], ANSWERS[0], *ANSWERS)))
        for _ in range(self.rng.choice((0, 0, 0, 1, 3))):
            mutate(head, self.rng)
        liar.to_say += head

    def say_more(self, liar: Liar) -> None:
        rng = self.rng
        match rng.randrange(6):
            case 0:
                text = bytes(stream(rng))
            case 1:
                text = CLOSING
            case _:  # payloads as they might be, of numbers that may fall, leap and come twice
                text = b"".join(
                    b"id: e-%d\ndata: %b\n\n"
                    % (
                        rng.randrange(200),
                        payload(SIZE, RUN, rng.randrange(CHANNELS), rng.randrange(PUBLISHERS + 1), number, 0),
                    )
                    for number in (rng.randrange(rng.choice((4, 100, 2**32))) for _ in range(rng.choice((1, 20))))
                )
        if liar.in_chunks:
            sizes = rng.choice((b"%x\r\n", b"%X ;x=y\r\n", b"%016x\r\n" if rng.random() < 0.1 else b"%x\r\n"))
            text = sizes % len(text) + text + b"\r\n"
        if rng.random() < 0.05:
            changed = bytearray(text)
            mutate(changed, rng)
            text = bytes(changed)
        liar.to_say += text

    def speak(self, liar: Liar) -> None:
        most = self.rng.choice((1, 7, 100, 5000, 400_000))
        try:
            sent = liar.socket.send(liar.to_say[:most])
        except BlockingIOError:
            return
        except ConnectionError:
            self.leave(liar)
            return
        self.tally["bytes"] += sent
        del liar.to_say[:sent]

    def leave(self, liar: Liar) -> None:
        self.liars.remove(liar)
        self.ready.unregister(liar.socket)
        if self.rng.random() < 0.5:
            with contextlib.suppress(OSError):
                liar.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
        liar.socket.close()


def order(swarm: Swarm, board: Board, rng: random.Random, tally: Counter[str]) -> None:
    match rng.randrange(12):
        case 0 | 1:
            with contextlib.suppress(ValueError):  # full
                swarm.open(rng.randint(1, 6), first=rng.randrange(9), rate=rng.choice((0.0, 500.0)))
        case 2:
            swarm.churn(rng.choice((0.0, 50.0, 500.0)), rng.choice((0.0, 0.01, 0.2)))
        case 3:
            swarm.cut()
        case 4:
            board.aim()
            swarm.come_back(rng.choice((0.0, 300.0)))
        case 5:
            swarm.slow_down(every=0.005, most=rng.choice((0, 1, 10)))
        case 6:
            swarm.wake_up()
        case 7:
            swarm.publishing.closed(rng.randint(1, PUBLISHERS + 1), rng.choice((0, 1, 50)))
        case 8:
            swarm.publishing.open(rng.choice((100.0, 5000.0)), rng.choice((0, 20)))
        case 9:
            swarm.publishing.quiet()
        case 10:
            swarm.audit()
        case _:
            swarm.give_up()
    tally["orders"] += 1


def a_run(rng: random.Random, tally: Counter[str], until: float) -> None:
    server = Server(rng, tally)
    bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    board = Board(bytearray(Board.size(1, CHANNELS, PUBLISHERS)), 1, CHANNELS, PUBLISHERS)
    dialer = Dialer(socket.AF_INET, "127.0.0.1", server.port, 0)
    swarm = Swarm(
        board,
        0,
        dialer,
        Request(SUBSCRIBE),
        Request(*PUBLISH),
        run=RUN,
        payload_bytes=SIZE,
        capacity=CAPACITY,
        at_once=rng.choice((1, 8, 256)),
        patience=rng.choice((0.05, 5.0)),
        reconnect=rng.choice((-1.0, 0.0, 0.02)),
        listens=rng.random() < 0.3,
        bell=bell,
    )
    swarm.open(rng.randint(1, 4), slow=True, stopped=rng.random() < 0.3)
    for _ in range(rng.choice((20, 200, 600))):
        if time.monotonic() > until:
            break
        server.step()
        swarm.loop(0.001)
        if rng.random() < 0.1:
            order(swarm, board, rng, tally)
        counters = board.counters()
        assert all(count < 2**63 for count in counters.values()), counters
        assert counters["streaming"] + counters["slow_streams"] <= CAPACITY, counters
    for name, (count, _) in board.faults().items():
        tally[name] += count if count < 2**32 else 0  # one that was lost and came late is subtracted again
    tally["deliveries"] += board.counters()["deliveries"]
    tally["runs"] += 1
    swarm.close()
    counters = board.counters()
    assert (counters["streaming"], counters["slow_streams"]) == (0, 0), counters
    del swarm
    server.close()
    os.close(bell)


if __name__ == "__main__":
    fuzz(__doc__, a_run)
