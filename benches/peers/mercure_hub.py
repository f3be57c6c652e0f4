"""Mercure's hub as its users meet it: its own handler, for streams and for publishing, with tokens (mercure_hub.go).

The last release of 0.x, as a Go library, without Caddy, as in mercure.py. In-memory transport, anonymous subscribers,
subscription events on, no write timeout, heartbeat 15 s, GOMAXPROCS=1. A publisher sends its form and a token (HS256)
that allows every topic, as the hub's documentation has it.
"""

from dataclasses import replace
from pathlib import Path

from harness import edge_command

from .base import BUILD, SERVERS, Peer, built_version, go_build, python_packages, python_version, signed_token

VERSION = "v0.24.2"
PROGRAM = BUILD / "mercure-hub" / f"mercure-hub-{VERSION}"
SOURCE = SERVERS / "mercure_hub.go"
KEY = "!ChangeThisMercureHubJWTSecretKey!"  # that of its documentation; it listens on loopback only
PUBLISH_HEADERS = (("Authorization", f"Bearer {signed_token({'mercure': {'publish': ['*']}}, KEY)}"),)
SUBSCRIBE_HEADERS = (("Authorization", f"Bearer {signed_token({'mercure': {'subscribe': ['*']}}, KEY)}"),)


def command(port: int, scratch: Path) -> list[str]:
    return ["env", "GOMAXPROCS=1", str(PROGRAM), f"127.0.0.1:{port}", KEY]


PEER = Peer(
    name="mercure hub",
    about="Mercure's hub under Go's net/http, by its own protocol and tokens",
    subscribe="/.well-known/mercure?topic=bench",
    publish="/.well-known/mercure",
    command=command,
    version=lambda: built_version(PROGRAM, VERSION, SOURCE),
    install=lambda: go_build(PROGRAM, "github.com/dunglas/mercure", VERSION, SOURCE),
    publish_headers=PUBLISH_HEADERS,
    body="topic=bench&data={data}",
    content_type="application/x-www-form-urlencoded",
)


def edge(port: int, scratch: Path) -> list[str]:
    keys = ["--mercure-publisher-key", KEY, "--mercure-subscriber-key", KEY]
    return [*edge_command(port, scratch), "--mercure", "--mercure-anonymous", "--mercure-subscriptions", *keys]


OURS = replace(
    PEER,
    name="sse_fast",
    about="sse-fast serve --mercure",
    command=edge,
    version=lambda: python_version("sse-fast", "granian"),
    install=python_packages,
)
