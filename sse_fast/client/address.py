"""Where an edge is, who asks it, and how long anything may take: what both clients are made of. Loads no httpx."""

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sse_fast.client.errors import NotFound, Refused, Unauthorized
from sse_fast.errors import NeedsExtra
from sse_fast.event_rules import brief, channel_name

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger("sse_fast.client")

MAX_EVENT_SIZE = 16 * 1024 * 1024
SILENCE = 45.0  # seconds: three heartbeats
WARNED = (3, 10)  # which failures in a row are told as warnings; then each fiftieth


class Address:
    """The edge's, with what is shown to it. Raises ValueError for a URL that is none, without what may be secret."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None,
        timeout: float,
        silence: float,
        verify: "ssl.SSLContext | bool",
    ) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except (ValueError, AttributeError):
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ValueError("the URL of an edge looks like http://127.0.0.1:8000, or https://example.com/edge")
        if not timeout > 0 or not silence > 0:
            raise ValueError("timeout and silence are numbers of seconds, more than 0")
        try:
            # Whoever makes a client is told here, and not at its first request, which is what loads it.
            if find_spec("httpx") is None:
                raise ModuleNotFoundError("No module named 'httpx'", name="httpx")
        except ModuleNotFoundError as missing:
            raise NeedsExtra("sse_fast.client", missing, "client") from None
        self.url, self.headers = url, dict(headers or {})
        self.timeout, self.silence, self.verify = timeout, silence, verify

    def options(self, *, streams: bool) -> dict[str, Any]:
        """Of an httpx client. Streams have one of their own: each takes a connection for as long as it is open."""
        import httpx

        return {
            "base_url": self.url,
            "headers": self.headers,
            "verify": self.verify,
            "timeout": httpx.Timeout(self.timeout, read=self.silence if streams else self.timeout),
            "limits": httpx.Limits(max_connections=None if streams else 100, max_keepalive_connections=20),
        }


def with_hint(error: Refused, token: object) -> Refused:
    """The same, and what can be done about it here."""
    hint = ""
    if isinstance(error, Unauthorized) and token is None:
        hint = "; no token was given: token=..."
    elif isinstance(error, NotFound):
        hint = "; is this the edge's address? beside an app the edge is under a path of its own: http://.../edge"
    return type(error)(f"{error}{hint}", error.status) if hint else error


def named(channels: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The channels of a stream. Raises TypeError or InvalidEvent for what are none."""
    for name in (*channels, *patterns):
        if not isinstance(name, str):
            raise TypeError(f'listen("a", "b", patterns=["c:*"]): {brief(name)} is no name')
    for name in channels:
        channel_name(name)
    if not channels and not patterns:
        raise TypeError('listen("a"): which channels?')
    return list(channels)


def told(sentence: str) -> None:
    logger.info("%s", sentence)


def failed(sentence: str, failures: int) -> None:
    """A server that is replaced is no news, one that stays away is."""
    warned = failures in WARNED or failures % 50 == 0
    logger.log(logging.WARNING if warned else logging.INFO, "%s", sentence)
