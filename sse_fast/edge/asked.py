"""What is asked of another server over HTTP before something is decided: bounded in time and size, and of nobody else
than the one that a setting names."""

import asyncio
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import httpx

from sse_fast.errors import SSEFastError
from sse_fast.version import VERSION

IDLE_SECONDS = 2.0  # that a connection is kept between two questions


class AskFailed(SSEFastError):
    """There was no answer, or none that can be used. The words are for this server's log: they show no credential."""


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    headers: httpx.Headers
    body: bytes


class Asked:
    """Asked(url, connections=8): a server, and so many connections to it at most.

    By httpx's transport and not by its client, which would follow whom the answer names, keep its cookies, and log each
    URL, a secret of whose may be a part. Of the environment it has the proxies, and the authorities to trust.
    """

    def __init__(self, url: str, *, connections: int) -> None:
        self._url = httpx.URL(url)
        proxy = None if proxy_bypass(self._url.host) else getproxies().get(self._url.scheme)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=16, keepalive_expiry=IDLE_SECONDS)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)

    async def ask(self, *, json: bytes | None = None, seconds: float, most: int) -> Answered:
        """GET, or POST of JSON; the answer, whole, of at most so many bytes and after so long at most. Raises
        AskFailed."""
        headers = {"user-agent": f"sse-fast/{VERSION}", "accept": "application/json", "accept-encoding": "identity"}
        if json is not None:
            headers["content-type"] = "application/json"
        request = httpx.Request("GET" if json is None else "POST", self._url, headers=headers, content=json)
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._ask(request, most)
                except httpx.RemoteProtocolError:  # it closed a connection that was kept as the request was on its way
                    return await self._ask(request, most)
        except TimeoutError:
            raise AskFailed(f"it did not answer within {seconds:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise AskFailed(f"it cannot be asked: {type(error).__name__}: {error}"[:300]) from None

    async def _ask(self, request: httpx.Request, most: int) -> Answered:
        response = await self._transport.handle_async_request(request)
        try:
            return Answered(response.status_code, response.headers, await _body(response, most))
        finally:
            await response.aclose()

    async def close(self) -> None:
        await self._transport.aclose()


async def _body(response: httpx.Response, most: int) -> bytes:
    if response.is_redirect:
        raise AskFailed(f"it redirects ({response.status_code}), and redirects are not followed; name where it is")
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise AskFailed(f"its answer is encoded ({encoding[:40]}), which was not asked for")
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > most:
            raise AskFailed(f"its answer has more than {most} bytes")
        parts.append(part)
    return b"".join(parts)
