"""Whose word is taken for who the client is: X-Forwarded-For of trusted proxies."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from sse_fast.access.addresses import Address, address_of

MOST_HOPS = 32  # of a header that are looked at, from the right
REMEMBERED_LENGTH = 128  # bytes of a header


class TrustedProxies:
    """Addresses and networks of proxies. "*": whoever connects is one; what it says of others is not made one by that.
    IPv4 within IPv6 is that IPv4, wherever it stands."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._whoever_connects = "*" in trusted
        self._networks = [_plain(ip_network(named)) for named in trusted if named != "*"]
        # A proxy's clients come again and again.
        self.trusts = lru_cache(maxsize=1024)(self._trusts)
        self._remembered = lru_cache(maxsize=8192)(self._named_by)

    def client_of(self, peer: str, forwarded_for: bytes | None) -> str:
        """Whom a connection from `peer` is for, going by the header, several of which are one list: the last one in it
        that is no proxy; each proxy appends who connected to it, and what stands before that anybody may have written.

        What is no address says nothing: then it is the proxy that said so.
        """
        if forwarded_for is None or not self.trusts(peer):
            return peer
        named = self._remembered if len(forwarded_for) <= REMEMBERED_LENGTH else self._named_by
        return named(peer, forwarded_for)

    def _trusts(self, peer: str) -> bool:
        """Whether what comes from there is a proxy's word."""
        return self._whoever_connects or self._is_one(address_of(peer))

    def _named_by(self, peer: str, forwarded_for: bytes) -> str:
        client = peer
        for entry in reversed(forwarded_for.decode("latin-1").rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
            if entry.strip(" \t"):  # else of a list that somebody left a comma in (RFC 9110, section 5.6.1)
                address = address_of(entry)
                if address is None:
                    return client
                client = str(address)
                if not self._is_one(address):
                    return client
        return client

    def _is_one(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _plain(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Of IPv4 within IPv6 the IPv4 network."""
    if isinstance(network, IPv4Network) or network.prefixlen < 96 or network.network_address.ipv4_mapped is None:
        return network
    return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
