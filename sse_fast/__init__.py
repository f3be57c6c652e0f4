"""Server-Sent Events at high fan-out: a hub, an encoder, and an edge to serve them.

`encode` alone for your own server, `EventParser` for your own client; `EventSourceResponse`, `WriterResponse`,
`SSEWriter` and `Hub` inside your own app; `create_app` for the whole edge.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sse_fast._native.event_parser import EventParser, ReceivedEvent
from sse_fast._native.frame import encode
from sse_fast.errors import (
    ConnectionClosed,
    EventTooLarge,
    HubClosed,
    InvalidEvent,
    Leaving,
    Overloaded,
    ResponseAlreadySent,
    SSEFastError,
    Unauthorized,
)
from sse_fast.event import Event, EventId
from sse_fast.hub import Subscription

if TYPE_CHECKING:
    from sse_fast.app import create_app
    from sse_fast.embedded import Hub, HubResponse, StreamInfo
    from sse_fast.responses import EventSourceResponse
    from sse_fast.settings import Settings
    from sse_fast.writer import SSEWriter, WriterResponse

__all__ = [
    "ConnectionClosed",
    "Event",
    "EventId",
    "EventParser",
    "EventSourceResponse",
    "EventTooLarge",
    "Hub",
    "HubClosed",
    "HubResponse",
    "InvalidEvent",
    "Leaving",
    "Overloaded",
    "ReceivedEvent",
    "ResponseAlreadySent",
    "SSEFastError",
    "SSEWriter",
    "Settings",
    "StreamInfo",
    "Subscription",
    "Unauthorized",
    "WriterResponse",
    "create_app",
    "encode",
]


_LAZY = {
    "EventSourceResponse": "sse_fast.responses",
    "Hub": "sse_fast.embedded",
    "HubResponse": "sse_fast.embedded",
    "SSEWriter": "sse_fast.writer",
    "Settings": "sse_fast.settings",
    "StreamInfo": "sse_fast.embedded",
    "WriterResponse": "sse_fast.writer",
    "create_app": "sse_fast.app",
}


def __getattr__(name: str) -> Any:
    # What needs more than the core, Starlette and the edge's own dependencies, is loaded only by those who use it.
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sse_fast' has no attribute {name!r}")
