"""sse_fast with its stream port, `sse-fast serve --stream-port`: one worker; events are published at the main port."""

from harness import STREAM

from .base import Peer, python_packages, python_version

PEER = Peer(
    name=STREAM.name,
    about="sse-fast serve --stream-port",
    subscribe=STREAM.subscribe,
    publish=STREAM.publish,
    command=STREAM.command,
    stream_flag=STREAM.stream_flag,
    version=lambda: python_version("sse-fast", "granian"),
    install=python_packages,
)
