"""The app server's side of a relay: the app hears of the client, and not of the relay."""

import asyncio

from starlette.types import ASGIApp, Message

from sse_fast.asgi import Receive, Scope, Send
from sse_fast.transports.forwarding import LOCAL, NOBODY, WHO

PIECES = 16  # of an answer, until others get their turn
PROTOCOL = b"x-forwarded-proto"
SCHEMES = frozenset(("http", "https", "ws", "wss"))
IS_LOCAL = "sse_fast.local"
"""Key in the ASGI scope, behind a relay: whether the request comes from this machine itself."""


class BehindRelay:
    """BehindRelay(app, server): `app` for a server that nobody but the relay can reach, as on a Unix socket in a
    directory of its own. `server`: the host and port that clients connect to.

    Sets the scope's `client` and `server`, IS_LOCAL, and `scheme` from what a trusted proxy said; the relay lets nobody
    else say it. Whoever could reach the server by another way could write whatever it likes there.
    """

    def __init__(self, app: ASGIApp, server: tuple[str, int | None]) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["server"] = self._server
            scope[IS_LOCAL] = False
            scheme = ""
            for name, value in scope["headers"]:
                if name == WHO:
                    scope["client"] = (value.decode("latin-1"), 0) if value != NOBODY else None
                elif name == PROTOCOL:
                    scheme = scheme or value.decode("latin-1").strip()
                elif name == LOCAL:
                    scope[IS_LOCAL] = True
            if scope[IS_LOCAL]:
                scope["headers"] = [header for header in scope["headers"] if header[0] != LOCAL]
            if scheme in SCHEMES:  # the first that says one, as under Granian's own wrapper
                scope["scheme"] = scheme if scope["type"] == "http" else scheme.replace("http", "ws")
        await self._app(scope, receive, _in_turns(send) if scope["type"] == "http" else send)


def _in_turns(send: Send) -> Send:
    """`send`, that gives the loop back now and then: to a client that has left Granian's returns at once, for ever."""
    pieces = 0

    async def send_piece(message: Message) -> None:
        nonlocal pieces
        await send(message)
        pieces += 1
        if pieces % PIECES == 0:
            await asyncio.sleep(0)

    return send_piece
