"""The peers, one file each; see base.py for what a peer is."""

from . import (
    better_sse,
    centrifugo,
    fastapi_sse,
    mercure,
    nchan,
    pushpin,
    raw_floor,
    sse_fast,
    sse_fast_asgi,
    sse_starlette,
)
from .base import CannotInstall, Peer

PEERS = tuple(
    module.PEER
    for module in (
        sse_fast,
        sse_fast_asgi,
        raw_floor,
        nchan,
        mercure,
        centrifugo,
        pushpin,
        better_sse,
        sse_starlette,
        fastapi_sse,
    )
)

__all__ = ["PEERS", "CannotInstall", "Peer"]
