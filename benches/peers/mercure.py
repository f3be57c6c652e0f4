"""Mercure: the hub of github.com/dunglas/mercure as a Go library under net/http, from its module (servers/mercure.go).

The hub is the same that the Caddy build contains; Caddy, which would come on top of it, is left out, as its module of
Mercure is not on every mirror. In-memory transport (no history), anonymous subscribers, no write timeout, its logger at
errors, heartbeat 15 s, GOMAXPROCS=1. Publishing is the library's `Publish` with the body of a POST; so the form and the
token that its HTTP interface wants are not paid for. It sends the payload as it stands, with an id.
"""

from pathlib import Path

from .base import BUILD, SERVERS, Peer, built_version, go_build

VERSION = "v0.22.0"
PROGRAM = BUILD / "mercure" / f"mercure-{VERSION}"
SOURCE = SERVERS / "mercure.go"


def command(port: int, scratch: Path) -> list[str]:
    return ["env", "GOMAXPROCS=1", str(PROGRAM), f"127.0.0.1:{port}"]


PEER = Peer(
    name="mercure",
    about="Mercure's hub under Go's net/http",
    subscribe="/.well-known/mercure?topic=bench",
    publish="/publish/bench",
    command=command,
    version=lambda: built_version(PROGRAM, VERSION, SOURCE),
    install=lambda: go_build(PROGRAM, "github.com/dunglas/mercure", VERSION, SOURCE),
)
