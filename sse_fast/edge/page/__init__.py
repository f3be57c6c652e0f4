"""The live page: one self-contained HTML file, and the headers that let a browser run that file and nothing else.

The policy names the inline script and style by the hash of their bytes, so it can't drift from the file, needs no nonce
for each response, and whatever else found its way into the page would not run.
"""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):\d+")
PAGE: bytes = files(__name__).joinpath("index.html").read_bytes()


def _sources(tag: bytes) -> str:
    """The CSP source list (CSP Level 3, section 2.3.1) of every inline `tag` element in the page."""
    blocks = re.findall(rb"<%b[^>]*>(.*?)</%b>" % (tag, tag), PAGE, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(block).digest()).decode()}'" for block in blocks)


def _policy(connect: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_sources(b'script')}",
            f"style-src {_sources(b'style')}",
            f"connect-src {connect}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


HEADERS: dict[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": _policy("'self'"),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def headers(streams: str | None = None) -> dict[str, str]:
    """`streams`: the origin that requests for streams are redirected to; a browser's policy holds for redirects too."""
    if streams is None or not ORIGIN.fullmatch(streams):  # made of a Host header, and must not end in a directive
        return HEADERS
    return HEADERS | {"Content-Security-Policy": _policy(f"'self' {streams}")}
