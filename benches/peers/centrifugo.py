"""Centrifugo: github.com/centrifugal/centrifugo, built from its Go module; streams over its uni_sse endpoint.

The last release of its version 5: of version 6 not every mirror of modules has the sources. In-memory engine, no
history, log level error, ping every 25 s (its own), no limit on connections or their rate, GOMAXPROCS=1. A subscriber
comes with a token that names its channel (HS256), as its guide has it for one-way streams; checking it is part of
connecting. Publishing is its HTTP API with a key. It wraps the data in JSON and sends no ids.
"""

import json
from pathlib import Path
from urllib.parse import quote

from .base import BUILD, Peer, built_version, go_build, signed_token

MODULE = "github.com/centrifugal/centrifugo/v5"
VERSION = "v5.4.9"
PROGRAM = BUILD / "centrifugo" / f"centrifugo-{VERSION}"
KEY = "bench"  # of tokens and of the API; it listens on loopback only
SETTINGS = {
    "address": "127.0.0.1",
    "log_level": "error",
    "uni_sse": True,
    "token_hmac_secret_key": KEY,
    "api_key": KEY,
    "allowed_origins": ["*"],
}


def command(port: int, scratch: Path) -> list[str]:
    config = scratch / "centrifugo.json"
    config.write_text(json.dumps(SETTINGS | {"port": str(port)}))
    return ["env", "GOMAXPROCS=1", str(PROGRAM), "--config", str(config)]


CONNECT = json.dumps({"token": signed_token({"sub": "", "channels": ["bench"]}, KEY)})

PEER = Peer(
    name="centrifugo",
    about="Centrifugo, uni_sse",
    subscribe=f"/connection/uni_sse?cf_connect={quote(CONNECT)}",
    publish="/api/publish",
    command=command,
    version=lambda: built_version(PROGRAM, VERSION),
    install=lambda: go_build(PROGRAM, MODULE, VERSION),
    publish_headers=(("X-API-Key", KEY),),
    body='{"channel":"bench","data":{json}}',
    content_type="application/json",
)
