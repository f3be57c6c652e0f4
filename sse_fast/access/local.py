"""Whether a request comes from this machine itself, as far as what it says can show that."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from sse_fast.access.hosts import is_loopback

UNIX = "local"
"""What stands for the address of a connection by a Unix socket."""
FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
FORWARDED = frozenset((b"forwarded", b"via", b"x-forwarded-host", FORWARDED_PROTO, b"x-real-ip"))
"""What proxies add beside that."""
HTTP_1_0 = ("1.0", "1")
"""In the words of ASGI, and of Granian."""


def is_address(host: str | None) -> bool:
    """Whether a Host header is an IP address, which no DNS can make another machine's."""
    try:
        ipaddress.ip_address(urlsplit(f"//{host or ''}").hostname or "")
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def is_loopback_address(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def of_another_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page asks that is not of this server: of another origin, or of one that its browser does not tell. By
    which scheme it is of this server is not looked at: see `of_another_scheme`."""
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def of_another_scheme(headers: Mapping[bytes, bytes], scheme: str) -> bool:
    """Whether a page asks that came to its browser by another scheme than this request. `scheme`: by which that came
    here.

    Before a proxy it may have come by another: the proxy says by which. Of several that append to a list it is the
    outermost that knows, which stands first. A page of another origin could only say so if this server had let it (a
    preflight). Where there is a proxy that does not say, either is taken.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return False
    theirs = origin.partition(b"://")[0]
    if (said := headers.get(FORWARDED_PROTO)) is not None:
        return theirs != said.strip(b", \t").partition(b",")[0].rstrip().lower()
    proxied = FORWARDED_FOR in headers or not FORWARDED.isdisjoint(headers)
    return not proxied and theirs != scheme.encode()


def is_local(peer: str, headers: Mapping[bytes, bytes], version: str, *, trusted: bool) -> bool:
    """Of a request from `peer`: not from another machine by a proxy on this one, nor from a page of another origin,
    even if somebody has made its name mean this machine (DNS rebinding). `trusted`: what that proxy says counts.

    A proxy that says nothing of its clients cannot be told from one of them, but for that it speaks HTTP/1.0, as nginx
    does where nobody told it otherwise.
    """
    if not (peer == UNIX or is_loopback_address(peer)):
        return False
    host = headers.get(b"host")
    if not is_loopback(host.decode("latin-1") if host is not None else None) or of_another_page(headers):
        return False
    forwarded_for = headers.get(FORWARDED_FOR)
    if forwarded_for is None:
        return version not in HTTP_1_0 and FORWARDED.isdisjoint(headers)
    return trusted and all(is_loopback_address(each.strip()) for each in forwarded_for.decode("latin-1").split(","))
