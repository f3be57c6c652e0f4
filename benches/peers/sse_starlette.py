"""sse-starlette on uvicorn (pip, the extra `bench`): servers/sse_starlette_app.py.

uvicorn with uvloop and httptools, one process, no access log, no limit on connections. A queue a subscriber, as its
guide shows; its ping comes every 15 s. It sends the payload as it stands, with an id.
"""

import sys
from pathlib import Path

from .base import SERVERS, Peer, python_packages, python_version


def uvicorn_command(app: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--backlog", "4096"]
    return [*command, "--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "3600", app]


def command(port: int, scratch: Path) -> list[str]:
    return uvicorn_command("sse_starlette_app:app", port)


PEER = Peer(
    name="sse-starlette",
    about="sse-starlette on uvicorn, uvloop and httptools",
    subscribe="/sse/bench",
    publish="/publish/bench",
    command=command,
    version=lambda: python_version("sse-starlette", "uvicorn", "httptools", "uvloop"),
    install=python_packages,
)
