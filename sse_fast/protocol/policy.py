"""What deciding goes by, beside the request: one frozen value, made when the server starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from sse_fast.access.access import Access
from sse_fast.access.hosts import Hosts, is_loopback
from sse_fast.access.local import is_address, is_local, of_another_page
from sse_fast.access.mercure import MercureAccess
from sse_fast.access.namespaces import NO_NAMESPACES, Namespaces
from sse_fast.access.origins import Origins
from sse_fast.access.patterns import NOTHING, Patterns
from sse_fast.event_rules import WholeNumber
from sse_fast.protocol.request import READ, Request

HISTORY = WholeNumber("history", 1_000_000)  # the rule where no lower limit is set


class Operations(Enum):
    """Where those who operate the server ask it."""

    HERE = "here"  # beside all else
    APART = "apart"  # at a port of their own, and not here
    ALONE = "alone"  # this is that port


class Proxies(Protocol):
    """The proxies that are believed when they say who their client is."""

    def client_of(self, peer: str, forwarded_for: bytes | None) -> str: ...

    def trusts(self, peer: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """max_channels, max_history: that one stream may ask for. max_event_size, max_json_size, max_body_size: bytes of
    the body of a publish request: of one event, of JSON, of NDJSON. access: who may what. origins: whose pages
    may read answers; None: their own only, and no header says more. hosts: the names of the server; None: any will do.
    path: where all of ours is, the rest is elsewhere; "": at the root. read: the headers that count. presence: the
    channels of which it is kept, where no one of `namespaces` says. now: the time, in seconds since 1970, by which
    credentials end. operations: where they are. anybody_operates: who reaches this port does, from any machine.
    compress: streams are gzip for who takes it. private_schema: what describes this server is for who operates it.
    mercure: who may what by that dialect; None: it is not spoken."""

    max_channels: int = 128
    max_history: int = HISTORY.most
    max_event_size: int = 64 * 1024
    max_json_size: int = 1024 * 1024
    max_body_size: int = 16 * 1024 * 1024
    access: Access = field(default_factory=Access)
    origins: Origins | None = None
    hosts: Hosts | None = None
    proxies: Proxies | None = None
    path: str = ""
    read: frozenset[bytes] = READ
    presence: Patterns = NOTHING
    namespaces: Namespaces = NO_NAMESPACES
    now: Callable[[], float] = time.time
    operations: Operations = Operations.HERE
    anybody_operates: bool = False
    compress: bool = False
    private_schema: bool = False
    mercure: MercureAccess | None = None

    def keeps_presence(self, channel: str) -> bool:
        """Whether it is kept who is there."""
        return self.namespaces.keeps_presence(channel, self.presence)

    def client_of(self, request: Request, peer: str) -> str:
        """The address of who asks: `peer`, from where the connection is, or whom a trusted proxy there names."""
        if self.proxies is None:
            return peer
        return self.proxies.client_of(peer, request.headers.get(b"x-forwarded-for"))

    def trusts(self, peer: str) -> bool:
        """Whether a request from there says by a trusted proxy's word which way it came."""
        return self.proxies is not None and self.proxies.trusts(peer)

    def is_local(self, request: Request, peer: str) -> bool:
        """Whether this comes from this machine, or as good as that: see `access.local`. Only a name that nobody's DNS
        can give this server proves that no page of a stranger's asks."""
        if self.anybody_operates:
            host = request.header(b"host")
            return (is_loopback(host) or is_address(host)) and not of_another_page(request.headers)
        return is_local(peer, request.headers, request.version, trusted=self.trusts(peer))
