"""Conflated ticks: many updates a second, of 100 keys, to clients of which half are slow; beside the same unconflated.

    python benches/bench_conflate.py [--quick] [--clients 1000] [--rate 10000] [--seconds 10] [--json PATH]

The edge as `sse-fast serve` starts it, with and without `conflate` for the channel, in turns. A publisher sends the
updates as NDJSON, 100 times a second; each is some 60 bytes as a client sees it. The clients are sockets of another
process: the fast ones are read whenever there is something, the slow ones 16 KiB twice a second, and all that is left
when the last update was published. Everybody has to end with the last value of each key, ids rising to the last: or the
bench fails.
"""

import contextlib
import http.client
import json
import multiprocessing
import random
import re
import select
import socket
import time
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness import EDGE, Running, Server, arguments_for, edge_command, in_turn, machine, parse, say

from sse_fast.base.descriptors import raise_descriptor_limit

CLOCK = """\
CPU: user and system time of all processes of the server, from the first update to when the last client has the last
value of each key; "while published" is its part until the last update was acknowledged. A core is 100 %. Events: handed
to clients, as the server counts them. Last: seconds from the last update to when the last client had everything."""

KEYS = 100
BATCHES = 100  # a second
TAIL = 64 * 1024  # bytes of a stream that are kept: more than two rounds of all keys take
SLOW_BYTES, SLOW_SECONDS = 16 * 1024, 0.5
PATIENCE = 120.0
EVENT = re.compile(rb'data: \{"k":(\d+),"v":(\d+)\}\nid: [^\n]*-(\d+)\n')


def command(conflated: bool, port: int, scratch: Path) -> list[str]:
    namespace = json.dumps({"pattern": "ticks", "conflate": conflated})
    return [*edge_command(port, scratch), "--namespace", namespace, "--log-size", "256MiB", "--max-event-size", "1KiB"]


SERVERS = [
    Server("conflated", "", "/sse/ticks", "/publish", partial(command, True)),
    replace(EDGE, name="unconflated", command=partial(command, False)),
]


class Client:
    """One stream: what it has read last."""

    def __init__(self, port: int, slow: bool) -> None:
        self.slow, self.tail, self.behind = slow, bytearray(), True
        self.socket = socket.socket()
        if slow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(b"GET /sse/ticks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b"$connected" not in self.tail:
            self.tail += self.socket.recv(4096)
        self.socket.setblocking(False)

    def read(self, size: int) -> None:
        data = self.socket.recv(size)
        if not data:
            raise RuntimeError(f"a stream ended: {bytes(self.tail[-200:])!r}")
        self.tail += data
        if len(self.tail) > 2 * TAIL:
            del self.tail[:-TAIL]

    def values(self) -> tuple[dict[int, int], int]:
        """The last of each key among what is kept, and the last position. Chunks' sizes stand between the events."""
        seen: dict[int, int] = {}
        last = 0
        for key, value, position in EVENT.findall(re.sub(rb"\r\n[0-9a-f]+\r\n", b"", bytes(self.tail))):
            if int(position) <= last:
                raise RuntimeError(f"positions fall: {last}, {int(position)}")
            seen[int(key)], last = int(value), int(position)
        return seen, last


def read_streams(port: int, count: int, parent: Connection) -> None:
    """The other process: read until every client has the values that the parent says are the last."""
    raise_descriptor_limit()
    clients = [Client(port, slow=number % 2 == 1) for number in range(count)]
    by_fd = {client.socket.fileno(): client for client in clients}
    waiting = select.epoll()
    for fd, client in by_fd.items():
        if not client.slow:
            waiting.register(fd, select.EPOLLIN)
    parent.send("open")
    expected: dict[int, int] | None = None
    left, due = set(clients), time.monotonic()
    while left:
        if expected is None and parent.poll():
            expected = parent.recv()
            for fd, client in by_fd.items():
                if client.slow:
                    waiting.register(fd, select.EPOLLIN)
        if expected is None and time.monotonic() >= due:
            due += SLOW_SECONDS
            for client in clients:
                if client.slow:
                    with contextlib.suppress(BlockingIOError):
                        client.read(SLOW_BYTES)
        events = waiting.poll(0.02)
        for fd, _ in events:
            by_fd[fd].read(256 * 1024)
        if expected is not None and not events:  # all is quiet: who has everything?
            left = {client for client in left if client.values()[0] != expected}
    parent.send("done")


def publish(port: int, rate: int, seconds: float) -> dict[int, int]:
    """The last value of each key."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    values: dict[int, int] = {}
    sent, keys = 0, list(range(KEYS))
    begun = time.monotonic()
    for batch in range(int(seconds * BATCHES)):
        lines = []
        for _ in range(rate // BATCHES):
            if sent % KEYS == 0:
                random.shuffle(keys)
            key = keys[sent % KEYS]
            sent += 1
            values[key] = sent
            data = {"k": key, "v": sent}
            lines.append(json.dumps({"channel": "ticks", "data": data, "conflate_key": str(key)}))
        connection.request("POST", "/publish", "\n".join(lines), {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.read()!r}")
        answer.read()
        time.sleep(max(0.0, begun + (batch + 1) / BATCHES - time.monotonic()))
    return values


def figures(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/stats", headers={"host": "localhost"})
    return json.loads(connection.getresponse().read())


def measure(server: Server, clients: int, rate: int, seconds: float) -> dict[str, float]:
    with Running(server) as running:
        here, there = multiprocessing.Pipe()
        reader = multiprocessing.Process(target=read_streams, args=(running.port, clients, there))
        reader.start()
        there.close()
        try:
            here.recv()
            cpu, begun = running.cpu_seconds(), time.monotonic()
            values = publish(running.port, rate, seconds)
            published, while_published = time.monotonic(), running.cpu_seconds() - cpu
            here.send(values)
            if not here.poll(PATIENCE):
                raise RuntimeError(f"somebody has not got the last value of each key after {PATIENCE:g} s")
            here.recv()
            return {
                "updates/s": rate * seconds / (published - begun),
                "CPU s": running.cpu_seconds() - cpu,
                "while published %": 100 * while_published / (published - begun),
                "events": figures(running.port)["deliveries"],
                "last s": time.monotonic() - published,
            }
        finally:
            reader.kill()
            reader.join()


def main() -> None:
    parser = arguments_for("Conflated ticks.", seconds=10, quick="one round of 2 s, 200 clients")
    parser.add_argument("--clients", type=int, default=1000, help="half of them slow (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=10_000, help="updates a second (default: %(default)s)")
    arguments = parse(parser, seconds=2, clients=200)
    raise_descriptor_limit()
    rows = []
    for round_ in range(arguments.rounds):
        for server in in_turn(SERVERS, round_):
            say(f"{server.name}, round {round_ + 1}")
            found = measure(server, arguments.clients, arguments.rate, arguments.seconds)
            rows.append({"server": server.name, "clients": arguments.clients} | found)
    print(machine())
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    print(CLOCK)
    print("Everybody ended with the last value of each key.")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
