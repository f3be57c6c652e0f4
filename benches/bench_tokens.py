"""What a token costs: the server's CPU for a stream opened with one, beside a stream without.

    python benches/bench_tokens.py [--quick] [--streams 3000] [--rounds 5] [--json PATH]

One server with an RS256 key, started afresh for every round. Streams of one channel, which everybody may listen to, are
opened in bursts and stay idle:

- **none**: without a token;
- **one for all**: with the same token each, as the users of an app that has one for its public part;
- **one each**: each with a token of its own, which the server has never seen: its signature is verified;
- **one each, again**: the same, who come back.

Goal: with one token for all a stream takes at most 1.15 times the CPU of one without. Exits with 1 if a stream does not
open; or if the goal is missed, without --quick.
"""

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import EDGE, Running, machine
from jwt.algorithms import RSAAlgorithm
from peers.report import spread, table

from sse_fast.base.descriptors import raise_descriptor_limit

GOAL = 1.15  # times a stream without a token
NONE, SAME, OWN, AGAIN = WAYS = ("none", "one for all", "one each", "one each, again")
BURST = 50  # connections that come at once
PATIENCE = 30.0  # seconds

CLOCK = """\
CPU: user and system time of all processes of the server, from before the first connect to after the last stream's first
event has come. Figures are medians over the rounds, in brackets the least and the greatest; ratios are taken within a
round."""

KEY = rsa.generate_private_key(65537, 2048)
HEAD = "GET /sse/bench HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nUser-Agent: bench\r\n{}\r\n"


def token(user: str) -> str:
    claims = {"sub": user, "exp": int(time.time()) + 3600, "sse": {"subscribe": ["bench", f"user:{user}:**"]}}
    return jwt.encode(claims, KEY, "RS256", headers={"kid": "bench"})


def command(port: int, scratch: Path) -> list[str]:
    keys = scratch / "keys.json"
    jwk = RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "bench"}
    keys.write_text(json.dumps({"keys": [jwk]}))
    return [*EDGE.command(port, scratch), "--token-keys", str(keys), "--grant-subscribe", "bench"]


SERVER = replace(EDGE, name="with tokens", command=command)


@contextmanager
def opened(port: int, heads: list[bytes]) -> Iterator[None]:
    """A stream for each, until the block is left. Raises RuntimeError for one that does not open."""
    with ExitStack() as stack:
        for at in range(0, len(heads), BURST):
            burst = []
            for head in heads[at : at + BURST]:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                client.sendall(head)
                burst.append(client)
            for client in burst:
                said = b""
                while b"$connected" not in said:
                    if not (part := client.recv(4096)):
                        raise RuntimeError(f"a stream did not open: {said[:200]!r}")
                    said += part
        yield


def heads_of(way: str, tokens: list[str]) -> list[bytes]:
    if way == NONE:
        lines = [""] * len(tokens)
    else:
        lines = [f"Authorization: Bearer {text}\r\n" for text in (tokens[:1] * len(tokens) if way == SAME else tokens)]
    return [HEAD.format(line).encode() for line in lines]


def turn(streams: int, first: int) -> dict[str, float]:
    """CPU µs per stream, of each way."""
    figures = {}
    ways = [NONE, SAME] if first % 2 == 0 else [SAME, NONE]
    with Running(SERVER) as running, httpx.Client(base_url=f"http://127.0.0.1:{running.port}") as http:
        tokens = [token(str(number)) for number in range(streams)]
        with opened(running.port, heads_of(NONE, tokens[:BURST])):
            pass  # to warm up
        for way in (*ways, OWN, AGAIN):
            settle(http)
            before = running.cpu_seconds()
            with opened(running.port, heads_of(way, tokens)):
                figures[way] = (running.cpu_seconds() - before) / streams * 1e6
    return figures


def settle(http: httpx.Client) -> None:
    """Wait until the server is done with those who left."""
    deadline = time.monotonic() + PATIENCE
    while http.get("/healthz").json()["connections"]:
        if time.monotonic() > deadline:
            raise RuntimeError("the server still has streams of clients that left")
        time.sleep(0.1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Streams opened with tokens beside streams without.")
    parser.add_argument("--streams", type=int, default=3000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="200 streams, once: does it all work?")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.streams, arguments.rounds = 200, 1
    return arguments


def main() -> int:
    arguments = parse_arguments()
    raise_descriptor_limit()
    print(f"{CLOCK}\n\n{machine()}")
    rounds = []
    for number in range(arguments.rounds):
        rounds.append(turn(arguments.streams, number))
        words = "; ".join(f"{way} {value:,.1f}" for way, value in rounds[-1].items())
        print(f"round {number + 1}: {words}", file=sys.stderr, flush=True)
    ratios = {way: [figures[way] / figures[NONE] for figures in rounds] for way in WAYS}
    rows = [[way, spread((figures[way] for figures in rounds), 1), spread(ratios[way], 2)] for way in WAYS]
    print(f"\n{arguments.streams:,} streams\n\n{table(['token', 'CPU µs per stream opened', '× none'], rows)}")
    met = median(ratios[SAME]) <= GOAL
    print(f"\n{'met   ' if met else 'MISSED'} one for all: {spread(ratios[SAME], 2)} of none, goal {GOAL:.2f}")
    if arguments.json:
        record = {"machine": machine(), "streams": arguments.streams, "rounds": rounds}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if met or arguments.quick else 1


if __name__ == "__main__":
    sys.exit(main())
