"""The live page: one self-contained HTML file, and the headers that let a browser run that file and nothing else. Its
styles and the modules of its script are files of their own here, and inline in what is served, the script behind the
browser client.

The policy names the inline script and style, and the browser client, by the hash of their bytes, so it can't drift from
the files, needs no nonce for each response, and whatever else found its way into the page would not run.
"""

import gzip
import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from sse_fast.js import CLIENT, INTEGRITY

STYLES = ("base", "figures", "panels")
MODULES = (
    "dom",
    "format",
    "session",
    "history",
    "chart",
    "charts",
    "health",
    "node",
    "channels",
    "feed",
    "drawer",
    "page",
)
"""Each behind those that it imports: in one script they need no imports, and what they name is named once."""
STYLE = '<link rel="stylesheet" href="page.css">'
SCRIPT = '<script type="module" src="page.js"></script>'


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text()


def _script() -> str:
    text = "\n".join(_read(f"{name}.js") for name in MODULES)
    text = re.sub(r"^import [^;]*;\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


PAGE: bytes = (
    _read("index.html")
    .replace(STYLE, f"<style>\n{''.join(_read(f'{name}.css') for name in STYLES)}</style>", 1)
    .replace(SCRIPT, f'<script type="module">\n{CLIENT.decode()}\n{_script()}</script>', 1)
    .encode()
)

PACKED: bytes = gzip.compress(PAGE, mtime=0)


def _sources(tag: bytes) -> str:
    """The CSP source list (CSP Level 3, section 2.3.1) of every inline `tag` element in the page."""
    blocks = re.findall(rb"<%b[^>]*>(.*?)</%b>" % (tag, tag), PAGE, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(block).digest()).decode()}'" for block in blocks)


HEADERS: dict[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_sources(b'script')} '{INTEGRITY}'",
            f"style-src {_sources(b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
