"""The floor: a C program that calls send(2) in a loop over all descriptors, once an event (servers/raw_floor.c).

No limits, no history, no slow subscriber, no heartbeat: less than this no server can do that sends every event by
itself. Chunked as the others, so that the client's work is the same. One that sends several events in one call can
get below it.
"""

from pathlib import Path

from .base import BUILD, SERVERS, Peer, built_version, run

SOURCE = SERVERS / "raw_floor.c"
PROGRAM = BUILD / "raw_floor"


def install() -> None:
    BUILD.mkdir(exist_ok=True)
    run("gcc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(PROGRAM), str(SOURCE))


def command(port: int, scratch: Path) -> list[str]:
    return [str(PROGRAM), str(port)]


PEER = Peer(
    name="raw C",
    about="send(2) in a loop over all descriptors: the floor",
    subscribe="/sse/bench",
    publish="/publish/bench",
    command=command,
    version=lambda: built_version(PROGRAM, SOURCE.name, SOURCE),
    install=install,
)
