"""One process of the load client: `python -m sse_fast.bench.worker CONTROL MEMORY BELL`, three inherited descriptors.

It takes orders over the control socket, one line of JSON each, answers every one with a line, and works in the native
loop in between. When the control socket ends it ends too.
"""

import mmap
import signal
import socket
import sys
from typing import Any

import orjson

from sse_fast._native.bench.board import Board
from sse_fast._native.bench.dial import Dialer, Request
from sse_fast._native.bench.swarm import Swarm
from sse_fast.base.descriptors import raise_descriptor_limit


def main(control: int, memory: int, bell: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who then ends the control socket
    with socket.socket(fileno=control) as sock, sock.makefile("rwb") as lines:
        swarm = build(orjson.loads(lines.readline()), mmap.mmap(memory, 0), control, bell)
        answer: Any = None
        while True:
            lines.write(orjson.dumps(answer) + b"\n")
            lines.flush()
            swarm.loop()
            line = lines.readline()
            if not line:
                break
            answer = obey(swarm, orjson.loads(line))
        swarm.close()


def build(setting: dict[str, Any], memory: mmap.mmap, control: int, bell: int) -> Swarm:
    raise_descriptor_limit()
    worker = setting["worker"]
    publish = setting["publish"]
    return Swarm(
        Board(memory, setting["workers"], setting["channels"], setting["publishers"]),
        worker,
        dialer(setting["address"], worker),
        Request(parts(setting["subscribe"])),
        Request(parts(publish[0]), parts(publish[1])) if publish else None,
        publish_to=dialer(setting["publish_address"], worker),
        run=setting["run"],
        payload_bytes=setting["size"],
        capacity=setting["capacity"],
        at_once=setting["connecting"],
        patience=setting["patience"],
        reconnect=setting["reconnect"],
        bell=bell,
        control=control,
    )


def dialer(address: tuple[int, str, int], worker: int) -> Dialer:
    family, ip, port = address
    return Dialer(family, ip, port, worker)


def parts(listed: list[str | int]) -> list[bytes | int]:
    return [part.encode() if isinstance(part, str) else part for part in listed]


def obey(swarm: Swarm, order: dict[str, Any]) -> Any:
    match order.pop("do"):
        case "open":
            return swarm.open(**order)
        case "slow_down":
            return swarm.slow_down(**order)
        case "wake_up":
            return swarm.wake_up()
        case "churn":
            return swarm.churn(**order)
        case "cut":
            return swarm.cut()
        case "come_back":
            return swarm.come_back(**order)
        case "closed_loop":
            return swarm.publishing.closed(**order)
        case "open_loop":
            return swarm.publishing.open(**order)
        case "quiet":
            return swarm.publishing.quiet()
        case "busy":
            return swarm.publishing.busy
        case "audit":
            return swarm.audit()
        case "give_up":
            return swarm.give_up()
        case unknown:
            raise ValueError(f"there is no order {unknown!r}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
