"""sse_fast itself, as `sse-fast serve` starts it: one worker. Its settings are the defaults."""

from harness import EDGE

from .base import Peer, python_packages, python_version

PEER = Peer(
    name=EDGE.name,
    about=EDGE.about,
    subscribe=EDGE.subscribe,
    publish=EDGE.publish,
    command=EDGE.command,
    version=lambda: python_version("sse-fast", "granian"),
    install=python_packages,
)
