"""Law 3 where a server's memory runs out: a process whose address space is squeezed while it serves.

Allocations fail anywhere, also in libraries, and workers may die of it. Every stream has an unbroken part of what was
kept, and one that is still open has all of it to the end.
"""

import http.client
import json
import os
import random
import socket
import time
from contextlib import suppress

import psutil
import pytest
from conftest import EdgeProcess, Edges
from conftest import until as server_until
from e2e.client import Chunks
from support import PATIENCE, Reader
from whatwg import Event, Parser

LAST = "last of the run"


class Stream(Reader):
    """One stream of a server in another process."""

    def __init__(self, port: int, target: str, resume: str = "") -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port), PATIENCE))
        self.socket.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n".encode())

    @property
    def events(self) -> list[Event]:
        return Parser().feed(Chunks().feed(bytes(self.received.partition(b"\r\n\r\n")[2])))

    @property
    def texts(self) -> list[str]:
        return [event.data[:16] for event in self.events if event.type == "message"]


@pytest.mark.skipif(
    not os.environ.get("SSE_FAST_EVERY_ALLOCATION"), reason="takes a minute: SSE_FAST_EVERY_ALLOCATION=1"
)
def test_a_server_whose_address_space_is_squeezed_loses_nothing_in_silence(edge: Edges, rng: random.Random) -> None:
    server = edge()
    server.noise_expected = True
    streams: list[tuple[str, Stream]] = []
    failed = died = 0
    for number in range(300):
        if not server.workers() or not any(not stream.ended for _, stream in streams):
            died += bool(streams)
            server.wait_ready()
        (worker,) = server.workers()
        with suppress(ConnectionError):
            while sum(not stream.ended for _, stream in streams) < 30:
                channels = rng.choice(["a", "b", "ab"])
                target = "/sse?" + "&".join(f"channel={name}" for name in channels)
                streams.append((channels, Stream(server.port, target)))
        with suppress(psutil.NoSuchProcess):
            slack = rng.choice([0, 1 << 16, 1 << 18, 1 << 20, 1 << 21])
            worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + slack, -1))
        batch = [
            {"channel": rng.choice("ab"), "data": f"{number:08}-{at:07}" + "x" * rng.choice([0, 100, 30_000])}
            for at in range(rng.choice([1, 5, 20]))
        ]
        try:
            failed += server.request("POST", "/publish", json.dumps(batch).encode())[0] != 200
        except (OSError, http.client.HTTPException):
            failed += 1
        for _ in range(3):
            time.sleep(0.01)
            for _, stream in streams:
                if not stream.ended:
                    stream.read()
        with suppress(psutil.NoSuchProcess):
            worker.rlimit(psutil.RLIMIT_AS, (-1, -1))
    server.wait_ready()
    for name in "ab":
        server.publish(name, LAST)
    # What of each channel was kept, which is all of it; a stream has an unbroken part of that.
    kept = {channels: everything_in(server, channels) for channels in ("a", "b", "ab")}
    for channels, stream in streams:
        if not stream.ended:
            server_until(lambda stream=stream: stream.read() or stream.ended or LAST in stream.texts, "the last event")
        texts = stream.texts
        assert not any(event.type == "$gap" for event in stream.events)
        if texts:
            begin = kept[channels].index(texts[0])
            assert texts == kept[channels][begin : begin + len(texts)]
            assert stream.ended or LAST in texts
    ended = sum(stream.ended for _, stream in streams)
    server.kill()  # what it has logged would be bad news elsewhere
    print(f"{failed} of 300 requests failed, {died} workers died, {ended} of {len(streams)} streams were ended")


def everything_in(server: EdgeProcess, channels: str) -> list[str]:
    target = "/sse?" + "&".join(f"channel={name}" for name in channels)
    stream = Stream(server.port, target, "Last-Event-ID: earliest\r\n")
    server_until(lambda: stream.read() or stream.texts.count(LAST) == len(channels), "all that was kept")
    return stream.texts
