"""What a client's requests end in when they fail, and the words for it.

There are two kinds: those that the next attempt would meet too (`Refused`, `Stopped`), and those that may pass
(`Unavailable`).
"""

import asyncio
import re
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import orjson

from sse_fast.client.errors import Forbidden, KeyReused, NotFound, Refused, Stopped, Unauthorized, Unavailable
from sse_fast.logs import printable

__all__ = [
    "AS_IT_IS",
    "Refused",
    "Stopped",
    "Unavailable",
    "check_encoding",
    "compression_of",
    "explain",
    "explain_answer",
    "explanation",
    "failure_of",
    "is_no_http",
    "mistrust_of",
    "read_of",
    "shown",
]

REFUSALS: dict[int, type[Refused]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 422: KeyReused}
PERHAPS_LATER = {408, 425, 429}  # request timeout, too early, too many requests; and all of 5xx
LONGEST_RETRY = 24 * 3600.0  # seconds
EXPLANATION_BYTES, EXPLANATION_SECONDS = 64 * 1024, 5.0  # of an answer that is an error: the rest is not read
LONGEST_DETAIL = 1000  # characters that are told of it
AS_IT_IS = {"Accept-Encoding": "identity"}
"""Sent with every request: what comes compressed all the same is not read, since a few bytes of it may be many."""


def failure_of(response: httpx.Response) -> Refused | Unavailable:
    """What an answer that is no success means."""
    if response.status_code not in PERHAPS_LATER and not response.is_server_error:
        return REFUSALS.get(response.status_code, Refused)(explain_answer(response), response.status_code)
    asked_for = response.headers.get("Retry-After", "")
    seconds = float(asked_for) if asked_for.isascii() and asked_for.isdigit() else 0.0
    return Unavailable(explain_answer(response), min(seconds, LONGEST_RETRY))


def explain_answer(response: httpx.Response) -> str:
    """What the server says is wrong, on one line: the `detail` of a problem (RFC 9457), or as much as there is."""
    try:
        problem = orjson.loads(explanation(response))
        detail = printable(str(problem.get("detail") or problem.get("title") or "")[:LONGEST_DETAIL])
    except (orjson.JSONDecodeError, AttributeError):
        detail = ""
    said = f"{response.status_code} {response.reason_phrase}".strip()
    return f"{detail} ({said})" if detail else said


def explanation(response: httpx.Response) -> bytes:
    """The body of an error, as far as it comes: it may break off, and need not end."""
    body = bytearray()
    if compression_of(response):
        return b""
    deadline = time.monotonic() + EXPLANATION_SECONDS
    with suppress(httpx.RequestError):
        for piece in response.iter_bytes():
            body += piece
            if len(body) >= EXPLANATION_BYTES or time.monotonic() > deadline:
                break
    return bytes(body)


async def read_of(response: httpx.Response) -> httpx.Response:
    """The same answer with its body, as far as it comes, and as `explanation` has it."""
    body = bytearray()
    if not compression_of(response):
        with suppress(httpx.RequestError, TimeoutError):
            async with asyncio.timeout(EXPLANATION_SECONDS):
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) >= EXPLANATION_BYTES:
                        break
    kept = {name: value for name in ("Retry-After", "Content-Type") if (value := response.headers.get(name))}
    return httpx.Response(response.status_code, headers=kept, content=bytes(body[:EXPLANATION_BYTES]))


def check_encoding(response: httpx.Response) -> None:
    """Raises Refused for what is compressed."""
    if encoding := compression_of(response):
        where = shown(str(response.url))
        raise Refused(f"{where} compresses ({printable(encoding[:40])}), which it was not asked for")


def compression_of(response: httpx.Response) -> str:
    said: str = response.headers.get("Content-Encoding", "").strip()
    return "" if said.lower() == "identity" else said


def shown(url: str) -> str:
    """An address without what may be secret in it: for logs and errors."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    where = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{where}{f':{parts.port}' if parts.port else ''}{parts.path}"


def explain(error: httpx.TransportError, client: httpx.Client | httpx.AsyncClient) -> str:
    """A broken or missing connection in words."""
    where = str(client.base_url).rstrip("/")
    said = re.sub(r"^\[Errno \d+\] ", "", str(error)) or type(error).__name__
    if mistrust := mistrust_of(error):
        return f"{where} {mistrust}"
    if is_no_http(error):
        hint = "; does it speak TLS? try https:// instead of http://" if where.startswith("http:") else ""
        return f"{where} answers something else than HTTP{hint}"
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return f"cannot reach {where} ({said}); is it running? start it with: sse-fast serve"
        case httpx.ReadTimeout():
            return f"nothing heard from {where} for {client.timeout.read:g} s"
        case _:
            return f"the connection to {where} broke ({said})"


EXPIRED = "it needs a new one, or the clock here is wrong"
MISNAMED = "ask it by the name that its certificate is for"
UNKNOWN = "if you know it, name the authority behind it: SSL_CERT_FILE=authority.pem sse-fast ..."
NO_STATUS_LINE = re.compile("illegal (status|request) line")  # h11's words
CURES = {9: EXPIRED, 10: EXPIRED, 62: MISNAMED, 64: MISNAMED}  # by X509_V_ERR_... of openssl/x509_vfy.h


def mistrust_of(error: BaseException | None) -> str | None:
    """Why there is no TLS with this server, where the next attempt would meet the same, and what to do; else None."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        cure = CURES.get(error.verify_code, UNKNOWN)
        return f"shows a certificate that is not to be trusted ({error.verify_message.rstrip('.')}); {cure}"
    if error is not None and error.reason == "WRONG_VERSION_NUMBER":
        return "speaks no TLS; try http:// instead of https://"
    return None


def is_no_http(error: httpx.TransportError) -> bool:
    """Whether an answer did not begin as one in HTTP does. A server that speaks TLS tells a client in clear so, in a
    record whose first byte h11 takes for the beginning of a request."""
    return isinstance(error, httpx.RemoteProtocolError) and NO_STATUS_LINE.match(str(error)) is not None
