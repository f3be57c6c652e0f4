"""Clients of an edge: publish to it, and listen.

    from sse_fast.client import AsyncClient, Client

`Client` is for scripts, jobs and threads, `AsyncClient` for event loops. Whoever holds the hub in his own process has
`hub.publish` and `hub.listen`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sse_fast.client.errors import Forbidden, KeyReused, NotFound, Refused, Unauthorized, Unavailable

if TYPE_CHECKING:
    from sse_fast.client.blocking import Client, Listening
    from sse_fast.client.envelope import PublishedEvent
    from sse_fast.client.items import Gap
    from sse_fast.client.on_loop import AsyncClient, AsyncListening

__all__ = [
    "AsyncClient",
    "AsyncListening",
    "Client",
    "Forbidden",
    "Gap",
    "KeyReused",
    "Listening",
    "NotFound",
    "PublishedEvent",
    "Refused",
    "Unauthorized",
    "Unavailable",
]

_LAZY = {
    "AsyncClient": "on_loop",
    "AsyncListening": "on_loop",
    "Client": "blocking",
    "Gap": "items",
    "Listening": "blocking",
    "PublishedEvent": "envelope",
}


def __getattr__(name: str) -> Any:
    # All commands have errors in common with this; what a loop needs is for those who have one.
    if name in _LAZY:
        return getattr(import_module(f"sse_fast.client.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'sse_fast.client' has no attribute {name!r}")
