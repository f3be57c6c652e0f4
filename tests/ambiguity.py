"""Requests that two parsers could read differently, each with its one verdict.

A case is what a client sends on one connection: all bytes of it. Its verdict is the requests that it means, in order,
and whether the connection is refused behind them (with which status; a refused connection is closed, and nothing behind
is ever looked at), or closed without a word more, or still open. RFC 9112 is meant where a section is named.

`/app…` is relayed to whoever serves it, `/publish/…` is published in place, `/sse/…` would be a stream.
"""

from typing import NamedTuple

HEAD_MOST = 16 * 1024


class Meant(NamedTuple):
    """One request. fields: headers that the app must be handed; None: that it must not."""

    method: str
    target: bytes
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes | None], ...] = ()

    @property
    def published(self) -> bool:
        return self.target.startswith(b"/publish/")


class Case(NamedTuple):
    """means: the requests that `sent` is. refused: the status of the last answer, behind theirs. closed: the server
    closes, because the last request asks for it."""

    name: str
    sent: bytes
    means: tuple[Meant, ...] = ()
    refused: int | None = None
    closed: bool = False


BEHIND = b"GET /app?behind HTTP/1.1\r\nHost: x\r\n\r\n"
"""Another request, sound in itself; what stands before it decides whether it is one."""
SECOND = Meant("GET", b"/app?behind")
PLAIN = Meant("GET", b"/app")
POST = Meant("POST", b"/app", b"hello")


def get(*lines: bytes, target: bytes = b"/app", version: bytes = b"HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join((b"GET %b %b" % (target, version), *([host] if host else []), *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/app", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b"POST %b %b" % (target, version), b"Host: x", *lines, b"", b"")) + body


def refused(name: str, sent: bytes, status: int = 400, after: tuple[Meant, ...] = ()) -> Case:
    """With a sound request behind, which nobody may answer."""
    return Case(name, sent + BEHIND, after, status)


def means(name: str, sent: bytes, *requests: Meant) -> Case:
    """With a sound request behind, which has to be answered as the next one."""
    return Case(name, sent + BEHIND, (*(requests or (PLAIN,)), SECOND))


def ends(name: str, sent: bytes, *requests: Meant) -> Case:
    """With a sound request behind, which nobody may answer: the one before says that it is the last."""
    return Case(name, sent + BEHIND, requests or (PLAIN,), closed=True)


def with_fields(*fields: tuple[bytes, bytes | None], of: Meant = PLAIN) -> Meant:
    return of._replace(fields=fields)
