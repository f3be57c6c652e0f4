"""Addresses as addresses: read in whichever spelling they come, and whom each counts as."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

PORT = re.compile(r":[0-9]{1,5}")
LONGEST = 80  # characters: an IPv6 address with IPv4 in it, a zone, brackets and a port


def address_of(text: str) -> Address | None:
    """The address that a socket or a proxy names, as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; of
    one with a zone without it, and of IPv4 within IPv6 the IPv4 address. None: it is none, as RFC 7239's `unknown`."""
    return _read(text) if len(text) <= LONGEST else None


def one_client(address: str) -> str:
    """Whom an address counts as: of IPv6 everybody in its /64, which is what one host is given, has one name. What is
    no address is itself."""
    return _one_client(address) if len(address) <= LONGEST else address


@lru_cache(maxsize=8192)
def _read(text: str) -> Address | None:
    text = text.strip(" \t")
    bracketed = text.startswith("[")
    if bracketed:
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not PORT.fullmatch(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not PORT.fullmatch(":" + port):
            return None
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return None if bracketed else found
    return found.ipv4_mapped or found


@lru_cache(maxsize=8192)
def _one_client(address: str) -> str:
    found = _read(address)
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return address if found is None else str(found)
