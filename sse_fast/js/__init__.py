"""The browser client: one ES module without dependencies and its types, as they are served and shipped.

It is written in TypeScript, in the parts in client/; `scripts/client` makes the module and its types of them, and
`sse-fast generate typescript` puts the same text into each client that it makes.
`/client.js` is asked for anew each time, and answered 304 while it is the same. `/client.<hash>.js` never changes, so a
browser keeps it; `Content-Location` of the first names it, and `Repr-Digest` (RFC 9530) is what `integrity=` takes.
"""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

CLIENT: bytes = files(__name__).joinpath("sse-fast.js").read_bytes()
TYPES: bytes = files(__name__).joinpath("sse-fast.d.ts").read_bytes()

DIGEST = b64encode(sha256(CLIENT).digest()).decode()
INTEGRITY = f"sha256-{DIGEST}"
"""Of the module, as Subresource Integrity and Content-Security-Policy write it."""
NAME = f"client.{sha256(CLIENT).hexdigest()[:16]}.js"
"""Under which these bytes are served, and no others ever."""

_ETAG = f'"{sha256(CLIENT).hexdigest()[:16]}"'
_SCRIPT = {
    "Content-Type": "text/javascript; charset=utf-8",
    "ETag": _ETAG,
    "Repr-Digest": f"sha-256=:{DIGEST}:",
    "X-Content-Type-Options": "nosniff",
}
NEWEST: dict[str, str] = _SCRIPT | {"Cache-Control": "no-cache", "Content-Location": NAME}
IMMUTABLE: dict[str, str] = _SCRIPT | {"Cache-Control": "public, max-age=31536000, immutable"}
OF_TYPES: dict[str, str] = {
    "Content-Type": "text/plain; charset=utf-8",
    "ETag": f'"{sha256(TYPES).hexdigest()[:16]}"',
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}

PARTS = ("types", "parser", "stream", "tabs", "connection")
VALUES = ("connect", "EventStreamParser", "StreamError")
SHAPES = ("Connection", "Gap", "HeadersGiven", "StreamEvent", "StreamOptions", "StreamSource", "StreamState", "Token")
"""What the module exports, of values and of types alone."""
OWN_ADDRESS = "import.meta.url"
"""In it, once: of the edge that served it the streams are, where none is said."""


@cache
def source() -> str:
    """The client in TypeScript, as one module without its exports."""
    parts = files(__name__).joinpath("client")
    text = "\n".join(parts.joinpath(f"{name}.ts").read_text() for name in PARTS)
    text = re.sub(r"^import [^;]*;\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


def module() -> str:
    """The client in TypeScript, as the module that it is served as."""
    return f"{source()}\nexport {{ {', '.join(VALUES)} }};\nexport type {{ {', '.join(SHAPES)} }};\n"


def is_held(headers: dict[str, str], if_none_match: str | None) -> bool:
    """Whether who asks has what has these headers (RFC 9110, section 13.1.2: by weak comparison)."""
    held = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return headers["ETag"] in held or held == ["*"]
