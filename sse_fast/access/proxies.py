"""Whose word is taken for who the client is: X-Forwarded-For of trusted proxies, by Granian's rules."""

from collections.abc import Sequence
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers


class TrustedProxies:
    """Addresses and networks of proxies; "*" is everybody."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._named: Any = wrap_asgi_with_proxy_headers(_scope_itself, "*" if "*" in trusted else list(trusted))

    def client_of(self, peer: str, forwarded_for: bytes | None) -> str:
        """Whom a connection from `peer` is for, going by the header, several of which are one list."""
        if forwarded_for is None:
            return peer
        scope = {"type": "http", "client": (peer, 0), "headers": [(b"x-forwarded-for", forwarded_for)]}
        client: str = self._named(scope, None, None)["client"][0]
        return client

    def trusts(self, peer: str) -> bool:
        """Whether what comes from there is a proxy's word."""
        return self.client_of(peer, b"somebody else") == "somebody else"


def _scope_itself(scope: Any, receive: Any, send: Any) -> Any:
    """In an app's place: Granian's wrapper is asked for nothing but what it writes into the scope."""
    return scope
