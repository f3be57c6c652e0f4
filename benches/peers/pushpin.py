"""Pushpin: Debian's package (apt), with condure in front, and nginx as the application behind it.

Pushpin asks an application what to do with each request: here nginx answers every GET with "hold this stream on channel
bench" (GRIP) and a first comment. Its CPU counts when streams are opened: no Pushpin works without an application.
Settings (servers/pushpin.conf.in): the shipped ones, but room for 20,000 connections, no limit on messages a second,
logging at warnings. It is five processes of its own; condure has two threads, which pushpin.conf cannot change.
Publishing is its HTTP control port, `http-stream` items; it sends each item's content, so the body has the whole event.
Each part listens on a loopback address of its own with the same port: 127.0.0.1 clients, .2 control, .3 application.
It has no heartbeat unless the application asks for one; none is asked for. It cuts a few streams while many are opened
("received message out of sequence" in its log), most often just after its start, so it gets three seconds; asked for
256 streams at once it answers some with 502, so it is asked for 64.
"""

from pathlib import Path

from .base import SERVERS, Peer, apt, debian_version
from .nchan import filled_in, nginx


def command(port: int, scratch: Path) -> list[str]:
    values = {"PORT": str(port), "PREFIX": str(scratch)}
    application = filled_in(SERVERS / "pushpin_nginx.conf.in", scratch, values)
    config = filled_in(SERVERS / "pushpin.conf.in", scratch, values)
    (scratch / "routes").write_text(f"* 127.0.0.3:{port}\n")
    start = '"$0" -p "$1" -e "$1/error.log" -c "$2" & exec pushpin --config "$3" --merge-output'
    return ["sh", "-c", start, nginx(), str(scratch), str(application), str(config)]


def version() -> str | None:
    return debian_version("pushpin") if debian_version("nginx") else None


PEER = Peer(
    name="pushpin",
    about="Pushpin with condure and zurl, nginx as the application",
    subscribe="/sse/bench",
    publish="/publish/",
    command=command,
    version=version,
    install=lambda: apt("nginx", "pushpin"),
    publish_host="127.0.0.2",
    body=r'{"items":[{"channel":"bench","formats":{"http-stream":{"content":"data: {data}\n\n"}}}]}',
    content_type="application/json",
    known_faults=frozenset({"cut"}),
    settling=3.0,
    connecting=64,
)
