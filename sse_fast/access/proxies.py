"""Whose word is taken for who the client is: X-Forwarded-For of trusted proxies, by Granian's rules."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers


class TrustedProxies:
    """Addresses and networks of proxies; "*" is everybody. IPv4 within IPv6 is that IPv4, wherever it stands."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._named: Any = wrap_asgi_with_proxy_headers(
            _scope_itself, "*" if "*" in trusted else [*map(_plain, trusted)]
        )

    def client_of(self, peer: str, forwarded_for: bytes | None) -> str:
        """Whom a connection from `peer` is for, going by the header, several of which are one list."""
        if forwarded_for is None:
            return peer
        if ":" in peer:
            peer = _plain(peer)
        if b":" in forwarded_for:
            named = forwarded_for.decode("latin-1").split(",")
            forwarded_for = ", ".join(_plain(each.strip()) for each in named).encode("latin-1")
        scope = {"type": "http", "client": (peer, 0), "headers": [(b"x-forwarded-for", forwarded_for)]}
        client: str = self._named(scope, None, None)["client"][0]
        return client

    def trusts(self, peer: str) -> bool:
        """Whether what comes from there is a proxy's word."""
        return self.client_of(peer, b"somebody else") == "somebody else"


def _plain(named: str) -> str:
    """An address or network; what is none is itself."""
    if ":" not in named:
        return named
    try:
        network = ipaddress.IPv6Network(named)
    except ValueError:
        return named
    inner = network.network_address.ipv4_mapped
    if inner is None or network.prefixlen < 96:
        return named
    return f"{inner}/{network.prefixlen - 96}" if "/" in named else str(inner)


def _scope_itself(scope: Any, receive: Any, send: Any) -> Any:
    """In an app's place: Granian's wrapper is asked for nothing but what it writes into the scope."""
    return scope
