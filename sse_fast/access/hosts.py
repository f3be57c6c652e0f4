"""By which names this server is called: the Host of a request (RFC 9110, section 7.2). No I/O.

A page of a stranger's name, which resolves to this machine when it suits the stranger (DNS rebinding), is of one origin
with a server that answers to any name, and reads all that it says. The name is what gives it away: the browser sends
it, whatever the page does.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit


class Hosts:
    """Names that are this server's, without ports: exact ones; `*.shop.example`, all below that one; "*", any. Loopback
    names always are: no stranger's resolves to this machine by being one."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._any = "*" in allowed
        self._names = frozenset(name.lower() for name in allowed)
        self._below = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self.allow = lru_cache(maxsize=256)(self._allow)

    def _allow(self, host: bytes | None) -> bool:
        """Whether a request with this header may be answered. One without, or with an empty one, is of no browser."""
        if not host or self._any:
            return True
        given = host.decode("latin-1")
        name = name_of(given)
        return name in self._names or name.endswith(self._below) or is_loopback(given)


def name_of(host: str) -> str:
    """The name or address in a Host header, in lower case; "": there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def is_loopback(host: str | None) -> bool:
    """Whether a Host header names this machine, and nothing that a stranger's DNS could."""
    name = name_of(host or "")
    try:
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:  # no host at all, or a name
        return False
