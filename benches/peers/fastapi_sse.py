"""FastAPI's own SSE (fastapi.sse, since 0.135) on uvicorn (pip, the extra `bench`): servers/fastapi_sse_app.py.

uvicorn as for sse-starlette. A generator and a queue a subscriber, as its guide shows; its ping comes every 15 s. It
sends the payload as it stands (`raw_data`), with an id.
"""

from pathlib import Path

from .base import Peer, python_packages, python_version
from .sse_starlette import uvicorn_command


def command(port: int, scratch: Path) -> list[str]:
    return uvicorn_command("fastapi_sse_app:app", port)


def version() -> str | None:
    try:
        import fastapi.sse  # noqa: F401
    except ImportError:
        return None
    return python_version("fastapi", "starlette", "uvicorn", "httptools", "uvloop")


PEER = Peer(
    name="FastAPI",
    about="fastapi.sse on uvicorn, uvloop and httptools",
    subscribe="/sse/bench",
    publish="/publish/bench",
    command=command,
    version=version,
    install=python_packages,
)
