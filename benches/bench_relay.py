"""Your app behind the front: what a relayed request costs beside the same app under Granian alone.

    python benches/bench_relay.py [small] [large] [--quick] [--rounds 3] [--seconds 3] [--json PATH]

One FastAPI app (user_app.py) is served in turn, started afresh for every round, by **relayed**, which is
`sse-fast serve --app`, and by **Granian alone** on TCP, with the settings that `sse-fast serve` gives it.

- **small**: `GET /hello`, over 1 and over 16 kept-alive connections. Goal: at most 1.6 times Granian's CPU a request.
- **large**: 100 MiB up and down; how fast, and by how much the server's memory grew at its highest. Then the same with
  a reader, the app or the client, that stops for a second behind the first bytes, so that what is sent meanwhile has to
  wait somewhere. Goal: the front and Granian together grow by at most 8 MiB more than Granian alone.

Exits with 1 if an answer is wrong or missing, or if a goal is missed, without --quick.
"""

import argparse
import json
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exchanges import exchange
from harness import Running, Server, arguments_for, edge_command, granian_command, in_turn, machine, parse, say
from peers.report import spread, table
from verdict import Verdict, conclude

from sse_fast.bench import Target

PARTS = ("small", "large")
CONNECTIONS = (1, 16)
MIB = 1024 * 1024
PATIENCE = 60.0  # seconds without a byte
PIECE = memoryview(bytes(256 * 1024))
CPU_GOAL = 1.6  # times Granian's
MEMORY_GOAL = 8.0  # MiB more than Granian

CLOCK = """\
CPU: user and system time of all processes of the server over the window, divided by the answers in it; the kernel's
work on the server's side of loopback is in it. Latency: from just before a request is sent until its answer is read.
Speed: from the first byte of the request to the last of the answer. Memory: how far the resident sets of the server's
processes, at their highest during the transfer, were above those before it. Client and server share the machine.
Figures are medians over the rounds, in brackets the least and the greatest; ratios are taken within a round."""


def relay_command(port: int, scratch: Path) -> list[str]:
    return [*edge_command(port, scratch), "--app", "benches.user_app:app"]


def alone_command(port: int, scratch: Path) -> list[str]:
    return granian_command(port, "benches.user_app:app", "--ws")  # as beside an app


RELAYED = Server("relayed", "sse-fast serve --app", "", "", relay_command)
ALONE = Server("Granian alone", "the same app under Granian on TCP", "", "", alone_command)
SERVERS = (RELAYED, ALONE)


@dataclass(frozen=True)
class Finding:
    part: str
    what: str  # a row of its table
    server: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    problem: str = ""


# ---- small -----------------------------------------------------------------------------------------------------------


def small(running: Running, round_: int, seconds: float, size: int) -> Iterator[Finding]:
    url = f"http://127.0.0.1:{running.port}/hello"
    for connections in CONNECTIONS:
        found = exchange(running, Target(url, url, method="GET", body=""), connections, seconds)
        figures = {"CPU µs": found.cpu_us, "answers/s": found.answers / found.seconds}
        figures |= {f"{name} ms": value / 1000 for name, value in found.latency_us.items() if name != "max"}
        what = f"GET over {connections} connection{'s'[: connections > 1]}"
        yield Finding("small", what, running.server.name, round_, figures, "; ".join(found.problems.values()))


# ---- large -----------------------------------------------------------------------------------------------------------


def large(running: Running, round_: int, seconds: float, size: int) -> Iterator[Finding]:
    pause = min(1.0, seconds)
    transfers: dict[str, Callable[[], None]] = {
        "upload": lambda: upload(running.port, size),
        "download": lambda: download(running.port, size),
        "upload, the app pauses": lambda: upload(running.port, size, f"?pause={pause}"),
        "download, the client pauses": lambda: download(running.port, size, pause),
    }
    for what, transfer in transfers.items():
        transfer_of_little(running.port)
        problem, began = "", time.monotonic()
        with growth_of(running) as grown:
            try:
                transfer()
            except (OSError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        figures = {"memory MiB": grown() / MIB}
        if "pauses" not in what:  # the rest is a clock of the pause
            figures["MiB/s"] = size / MIB / took
        yield Finding("large", what, running.server.name, round_, figures, problem)


def transfer_of_little(port: int) -> None:
    """What a server allocates at its first transfer it has afterwards."""
    upload(port, MIB)
    download(port, MIB)


def upload(port: int, size: int, query: str = "") -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as server:
        server.sendall(f"POST /upload{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        for sent in range(0, size, len(PIECE)):
            server.sendall(PIECE[: size - sent])
        head, body = read_head(server)
        while not body.endswith(b"}"):
            body += received(server)
    if not head.startswith(b"HTTP/1.1 200") or json.loads(body) != {"bytes": size}:
        raise ValueError(f"{size} bytes were sent, and answered with {head[:100]!r} {body!r}")


def download(port: int, size: int, pause: float = 0.0) -> None:
    room = bytearray(len(PIECE))
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as server:
        server.sendall(f"GET /download/{size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, body = read_head(server)
        time.sleep(pause)
        taken = len(body)
        while taken < size and (count := server.recv_into(room, min(len(room), size - taken))):
            taken += count
    if not head.startswith(b"HTTP/1.1 200") or taken != size:
        raise ValueError(f"of {size} bytes {taken} came behind {head[:100]!r}")


def read_head(server: socket.socket) -> tuple[bytes, bytes]:
    """The head of an answer, and what came of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(server)
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def received(server: socket.socket) -> bytes:
    data = server.recv(65536)
    if not data:
        raise ValueError("the server ended the connection in the middle of an answer")
    return data


@contextmanager
def growth_of(running: Running) -> Iterator[Callable[[], int]]:
    """By how many bytes the processes of the server grew at their highest, counted from the block's beginning."""
    pids = [process.pid for process in running.processes()]
    before = {}
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the highest is now what it is now: proc_pid_clear_refs(5)
        before[pid] = resident(pid, "VmRSS")
    yield lambda: sum(max(0, resident(pid, "VmHWM") - before[pid]) for pid in pids)


def resident(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


MEASURE: dict[str, Callable[[Running, int, float, int], Iterator[Finding]]] = {"small": small, "large": large}


# ---- what is said of them --------------------------------------------------------------------------------------------


def part_table(findings: list[Finding]) -> str:
    figures = list(dict.fromkeys(name for finding in findings for name in finding.figures))
    rows = []
    by_row: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_row[finding.what, finding.server].append(finding)
    for (what, server), found in sorted(by_row.items(), key=lambda item: item[0][0]):
        cells = [spread((one.figures[name] for one in found if name in one.figures), digits(name)) for name in figures]
        rows.append([what, server, *cells])
    return table(["what", "server", *figures], rows)


def digits(figure: str) -> int:
    return {"answers/s": 0, "MiB/s": 0, "p50 ms": 2, "p99 ms": 2}.get(figure, 1)


def pairs(findings: list[Finding], what: str, figure: str) -> list[tuple[float, float]]:
    """(relayed, Granian alone), of each round that has both."""
    found = {
        (one.server, one.round): one.figures[figure] for one in findings if one.what == what and figure in one.figures
    }
    rounds = [round_ for server, round_ in found if server == RELAYED.name and (ALONE.name, round_) in found]
    return [(found[RELAYED.name, round_], found[ALONE.name, round_]) for round_ in rounds]


def judge(findings: list[Finding]) -> Verdict:
    """Of the goals those that this run can speak about."""
    verdict = Verdict()
    for what in dict.fromkeys(finding.what for finding in findings):
        for figure in ("CPU µs", "p99 ms", "MiB/s"):
            if ratios := [mine / other for mine, other in pairs(findings, what, figure) if other]:
                verdict.add(what, ratios, f"of Granian's {figure}", CPU_GOAL if figure == "CPU µs" else None)
        if more := [mine - other for mine, other in pairs(findings, what, "memory MiB")]:
            verdict.add(what, more, "MiB more than Granian", MEMORY_GOAL, digits=1)
    return verdict


def parse_arguments() -> argparse.Namespace:
    about = "A FastAPI app behind the front, beside the same app under Granian."
    parser = arguments_for(about, PARTS, seconds=3.0, quick="one round, for a moment: is every answer right?")
    parser.add_argument("--size", type=int, default=100, help="MiB of a transfer (default: %(default)s)")
    return parse(parser, PARTS, seconds=0.3, size=8)


def main() -> int:
    arguments = parse_arguments()
    findings: list[Finding] = []
    print(f"{CLOCK}\n\n{machine()}")
    for part in arguments.parts:
        for round_ in range(arguments.rounds):
            for server in in_turn(SERVERS, round_):
                with Running(server) as running:
                    for finding in MEASURE[part](running, round_, arguments.seconds, arguments.size * MIB):
                        findings.append(finding)
                        words = [f"{name} {value:,.2f}" for name, value in finding.figures.items()]
                        say(f"{finding.what}, round {round_ + 1}, {server.name}: {'; '.join(words)} {finding.problem}")
        whats = {"small": f"GET /hello, {arguments.seconds:g} s", "large": f"{arguments.size} MiB"}
        found = part_table([one for one in findings if one.part == part])
        print(f"\n## {part}: {whats[part]}\n\n{found}", flush=True)
    wrong = [f"{one.what}, {one.server}, round {one.round + 1}: {one.problem}" for one in findings if one.problem]
    return conclude(judge(findings), findings, wrong, arguments)


if __name__ == "__main__":
    sys.exit(main())
