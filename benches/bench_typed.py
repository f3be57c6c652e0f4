"""What typed events cost: publishing them in an app, and at the edge to channels that have no stream.

    python benches/bench_typed.py [app] [edge] [--quick] [--rounds 3] [--seconds 3] [--json PATH]

- **app**: `await hub.publish(...)` in process, to a hub without subscribers, of an event of four fields: as a dict with
  its type by hand, as an instance by hand, typed (its class and fields are checked), and by hand to a hub with a
  schema, which checks the same; for a pydantic model, a dataclass and a msgspec struct.
- **edge**: one POST of one event of 64 bytes to 1,000 channels that have no stream, of a server with `--schema` (100
  streams, whose channels begin alike) and of one without, in turn.

Every answer is checked. Exits with 1 if one is wrong.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from exchanges import Exchanges, exchange
from harness import Running, arguments_for, in_turn, machine, parse, say
from peers.base import Peer
from peers.report import spread, table
from peers.sse_fast import PEER as OURS
from pydantic import BaseModel

from sse_fast import Hub, stream
from sse_fast.schema import document_of

PARTS = ("app", "edge")
CONNECTIONS = (1, 16)
STREAMS = 100
CLOCK = """\
CPU: in an app of the thread, over a loop of publishes; at the edge user and system time of all processes of the server
over the window, divided by the answers in it. Medians over the rounds, in brackets the least and the greatest."""


class OfPydantic(BaseModel):
    comment_id: int
    author: str
    text: str
    stars: float = 0


@dataclass
class OfDataclass:
    comment_id: int
    author: str
    text: str
    stars: float = 0


class OfMsgspec(msgspec.Struct):
    comment_id: int
    author: str
    text: str
    stars: float = 0


KINDS: dict[str, type] = {"pydantic": OfPydantic, "dataclass": OfDataclass, "msgspec": OfMsgspec}
Comments = stream("item:{item_id}", *KINDS.values(), name="Comments")
Publish = Callable[[], Awaitable[object]]


# ---- in an app -------------------------------------------------------------------------------------------------------


def ways(hub: Hub, strict: Hub, kind: type) -> dict[str, Publish]:
    """The same event, published in each."""
    event: Any = kind(comment_id=7, author="ada", text="forty characters, as a comment may have", stars=4.5)
    fields = event.model_dump() if isinstance(event, BaseModel) else None
    fields = fields or (asdict(event) if kind is OfDataclass else msgspec.to_builtins(event))
    name, channel = kind.__name__, Comments(item_id="7")
    return {
        "a dict, by hand": lambda: hub.publish("item:7", fields, event=name),
        "an instance, by hand": lambda: hub.publish("item:7", event, event=name),
        "typed": lambda: hub.publish(channel, event),
        "typed, and its channel made": lambda: hub.publish(Comments(item_id="7"), event),
        "by hand, to a hub with a schema": lambda: strict.publish("item:7", event, event=name),
    }


async def publish_often(publish: Publish, seconds: float) -> float:
    """CPU microseconds of one."""
    for _ in range(200):
        await publish()
    count, until, began = 0, time.perf_counter() + seconds, time.thread_time()
    while time.perf_counter() < until:
        for _ in range(100):
            await publish()
        count += 100
        await asyncio.sleep(0)
    return (time.thread_time() - began) * 1e6 / count


async def in_an_app(rounds: int, seconds: float) -> dict[tuple[str, str], list[float]]:
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    async with Hub() as hub, Hub(schema=[Comments]) as strict:
        for _ in range(rounds):
            for kind, made in KINDS.items():
                for way, publish in ways(hub, strict, made).items():
                    found[kind, way].append(await publish_often(publish, seconds))
    return found


# ---- at the edge -----------------------------------------------------------------------------------------------------


def peers(scratch: Path) -> list[Peer]:
    """Without a schema, and with one that has streams of other channels."""
    streams = [stream(f"bench-{number}:{{id}}", OfMsgspec, name=f"Bench{number}") for number in range(STREAMS)]
    path = scratch / "schema.json"
    path.write_text(json.dumps(document_of(streams)))
    plain = replace(OURS, subscribe="/sse/bench-{channel}", publish="/publish/bench-{channel}")

    def command(port: int, directory: Path) -> list[str]:
        return [*OURS.command(port, directory), "--schema", str(path)]

    return [replace(plain, name="without"), replace(plain, name="with --schema", command=command)]


def at_the_edge(rounds: int, seconds: float, channels: int) -> tuple[dict[tuple[int, str], list[Exchanges]], list[str]]:
    found: defaultdict[tuple[int, str], list[Exchanges]] = defaultdict(list)
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        both = peers(Path(scratch))
        for round_ in range(rounds):
            for peer in in_turn(both, round_):
                with Running(peer) as running:
                    for connections in CONNECTIONS:
                        one = exchange(running, peer.target(running.port), connections, seconds, channels)
                        found[connections, peer.name].append(one)
                        wrong += [f"{peer.name}: {what}" for what in one.problems.values()]
                        say(f"round {round_ + 1}, {peer.name}, {connections} connections: {one.cpu_us:.2f} µs a POST")
    return found, wrong


def main() -> int:
    quick = "one round, for a moment: is every answer right?"
    parser = arguments_for("What typed events cost.", PARTS, seconds=3.0, quick=quick)
    arguments = parse(parser, PARTS, seconds=0.3)
    print(f"{CLOCK}\n\n{machine()}")
    results: dict[str, Any] = {}
    wrong: list[str] = []
    if "app" in arguments.parts:
        costs = asyncio.run(in_an_app(arguments.rounds, arguments.seconds / 10))
        rows = []
        for (kind, way), found in costs.items():
            base = statistics.median(costs[kind, "an instance, by hand"])
            rows.append([kind, way, spread(found, 2), f"{statistics.median(found) / base:.2f}"])
        print(f"\n## app\n\n{table(['class', 'published as', 'CPU µs', 'of by hand'], rows)}", flush=True)
        results["app"] = [{"class": kind, "way": way, "cpu_us": found} for (kind, way), found in costs.items()]
    if "edge" in arguments.parts:
        exchanges, wrong = at_the_edge(arguments.rounds, arguments.seconds, 100 if arguments.quick else 1000)
        rows = [
            [str(connections), name, spread((one.cpu_us for one in found), 2)]
            for (connections, name), found in sorted(exchanges.items())
        ]
        print(f"\n## edge\n\n{table(['connections', 'server', 'CPU µs a POST'], rows)}", flush=True)
        results["edge"] = [
            {"connections": connections, "server": name, "cpu_us": [one.cpu_us for one in found]}
            for (connections, name), found in exchanges.items()
        ]
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(results, indent=2))
    for each in wrong:
        print(f"wrong: {each}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
