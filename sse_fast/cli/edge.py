"""How commands name a server, and what they show it."""

import os
import ssl

import click
import httpx

from sse_fast.cli.failure import Misuse
from sse_fast.client.failures import Refused
from sse_fast.settings import PUBLISH_KEY

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_GIVEN = "--key or SSE_FAST_PUBLISH_KEY, or --token or SSE_FAST_TOKEN"

url_option = click.option(
    "--url", envvar="SSE_FAST_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The server."
)
key_option = click.option(
    "--publish-key",
    "--key",
    "--token",
    "publish_key",
    metavar="KEY",
    envvar=["SSE_FAST_PUBLISH_KEY", "SSE_FAST_TOKEN"],
    show_envvar=True,
    help="The publish key, or a token, where the server needs one. --key and --token are the same: not an idempotency "
    "key.",
)


def authorization(key: str | None) -> dict[str, str]:
    """The headers for what `key_option` has. Raises Misuse, which does not show it, as errors further down would."""
    if key and not PUBLISH_KEY.fullmatch(key):
        raise Misuse("--publish-key: a key is visible ASCII characters, without spaces or line ends")
    return {"Authorization": f"Bearer {key}"} if key else {}


def http_client(url: str, timeout: httpx.Timeout, headers: dict[str, str] | None = None) -> httpx.Client:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Misuse(f"--url: {url!r} is not a URL: {error}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise Misuse(f"--url: {url!r} should look like {DEFAULT_URL}")
    try:
        return httpx.Client(base_url=base, timeout=timeout, headers=headers, follow_redirects=True)
    except (OSError, ssl.SSLError) as error:
        given = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        where = given[0] if given else "the certificates of known authorities"
        raise Misuse(f"{where}: cannot be read ({error})") from None


BESIDE_AN_APP = "beside an app the edge is under a path of its own: --url .../edge"


def next_step(error: Exception, credential: str, missing: str = BESIDE_AN_APP) -> str:
    """What whoever is refused so can do here. missing: where nothing is at the address."""
    status = error.status if isinstance(error, Refused) else 0
    if status == 401:
        return f"; here it is given by {credential}"
    if status == 404:
        return f"; {missing}"
    return ""
