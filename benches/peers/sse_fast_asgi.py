"""sse_fast's ASGI app, `create_app`, under Granian alone: streams and publishing by ASGI, as under any ASGI server.

One worker, with the settings that `sse-fast serve` gives Granian. Its own settings are the defaults.
"""

from harness import ASGI

from .base import Peer, python_packages, python_version

PEER = Peer(
    name=ASGI.name,
    about=ASGI.about,
    subscribe=ASGI.subscribe,
    publish=ASGI.publish,
    command=ASGI.command,
    version=lambda: python_version("sse-fast", "granian"),
    install=python_packages,
)
