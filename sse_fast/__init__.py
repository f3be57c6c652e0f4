"""Server-Sent Events at high fan-out: a hub, an encoder, and an edge to serve them.

`encode` alone for your own server, `EventParser` for your own client; `EventSourceResponse`, `WriterResponse`,
`SSEWriter` and `Hub` inside your own app; `stream` for typed events; `create_app` for the
whole edge; `Publisher` for jobs, beside a fleet of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast._native.wire.frame import encode
from sse_fast.errors import (
    ConnectionClosed,
    EndReason,
    EngineRefused,
    EngineUnavailable,
    EventTooLarge,
    HubClosed,
    InvalidEvent,
    InvalidSchema,
    KeyReused,
    NeedsExtra,
    NeedsLinux,
    NotReplicated,
    Overloaded,
    ResponseAlreadySent,
    SSEFastError,
    Unauthorized,
)
from sse_fast.event import Event, EventId
from sse_fast.hub.subscription import Subscription

if TYPE_CHECKING:
    from sse_fast.cluster.publisher import AsyncPublisher, Publisher
    from sse_fast.edge.app import create_app
    from sse_fast.embed.hub import Hub
    from sse_fast.embed.hub_response import HubResponse
    from sse_fast.embed.presence import StreamInfo
    from sse_fast.embed.responses import EventSourceResponse
    from sse_fast.embed.server_sent_event import JSONServerSentEvent, ServerSentEvent
    from sse_fast.embed.writer import SSEWriter, WriterResponse
    from sse_fast.schema.definitions import stream
    from sse_fast.schema.routes import openapi_for
    from sse_fast.settings import Settings

__all__ = [
    "AsyncPublisher",
    "ConnectionClosed",
    "EndReason",
    "EngineRefused",
    "EngineUnavailable",
    "Event",
    "EventId",
    "EventParser",
    "EventSourceResponse",
    "EventTooLarge",
    "Hub",
    "HubClosed",
    "HubResponse",
    "InvalidEvent",
    "InvalidSchema",
    "JSONServerSentEvent",
    "KeyReused",
    "NeedsExtra",
    "NeedsLinux",
    "NotReplicated",
    "Overloaded",
    "Publisher",
    "ReceivedEvent",
    "ResponseAlreadySent",
    "SSEFastError",
    "SSEWriter",
    "ServerSentEvent",
    "Settings",
    "StreamInfo",
    "Subscription",
    "Unauthorized",
    "WriterResponse",
    "create_app",
    "encode",
    "openapi_for",
    "stream",
]


_LAZY = {
    "AsyncPublisher": "sse_fast.cluster.publisher",
    "EventSourceResponse": "sse_fast.embed.responses",
    "Hub": "sse_fast.embed.hub",
    "HubResponse": "sse_fast.embed.hub_response",
    "JSONServerSentEvent": "sse_fast.embed.server_sent_event",
    "Publisher": "sse_fast.cluster.publisher",
    "SSEWriter": "sse_fast.embed.writer",
    "ServerSentEvent": "sse_fast.embed.server_sent_event",
    "Settings": "sse_fast.settings",
    "StreamInfo": "sse_fast.embed.presence",
    "WriterResponse": "sse_fast.embed.writer",
    "create_app": "sse_fast.edge.app",
    "openapi_for": "sse_fast.schema.routes",
    "stream": "sse_fast.schema.definitions",
}


def __getattr__(name: str) -> Any:
    # What needs more than the core, Starlette and the edge's own dependencies, is loaded only by those who use it.
    if name in _LAZY:
        try:
            return getattr(import_module(_LAZY[name]), name)
        except ModuleNotFoundError as missing:
            if isinstance(missing, NeedsExtra) or (missing.name or "").startswith("sse_fast"):
                raise
            raise NeedsExtra(f"sse_fast.{name}", missing, "edge") from None
    raise AttributeError(f"module 'sse_fast' has no attribute {name!r}")
