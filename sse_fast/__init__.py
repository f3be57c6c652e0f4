"""Server-Sent Events at high fan-out: a hub, an encoder, and an edge to serve them.

`encode` alone for your own server; `Hub` inside your own app; `create_app` for the whole edge.
"""

from typing import TYPE_CHECKING, Any

from sse_fast._native.frame import encode
from sse_fast.errors import (
    EventTooLarge,
    HubClosed,
    InvalidEvent,
    Leaving,
    Overloaded,
    SSEFastError,
    Unauthorized,
)
from sse_fast.event import Event, EventId
from sse_fast.hub import Hub, Subscription

if TYPE_CHECKING:
    from sse_fast.app import create_app
    from sse_fast.settings import Settings

__all__ = [
    "Event",
    "EventId",
    "EventTooLarge",
    "Hub",
    "HubClosed",
    "InvalidEvent",
    "Leaving",
    "Overloaded",
    "SSEFastError",
    "Settings",
    "Subscription",
    "Unauthorized",
    "create_app",
    "encode",
]


def __getattr__(name: str) -> Any:
    # The edge's own dependencies are loaded only by those who use it.
    if name == "create_app":
        from sse_fast.app import create_app

        return create_app
    if name == "Settings":
        from sse_fast.settings import Settings

        return Settings
    raise AttributeError(f"module 'sse_fast' has no attribute {name!r}")
