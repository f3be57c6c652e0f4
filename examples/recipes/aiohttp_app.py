"""A hub in aiohttp. aiohttp speaks no ASGI, a hub's response does: `stream` stands between the two.

python examples/recipes/aiohttp_app.py
curl -N localhost:8080/events/news
curl -d 'hello' localhost:8080/publish/news
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from sse_fast import Hub, HubResponse

hub = Hub()


async def stream(request: web.Request, response: HubResponse) -> web.StreamResponse:
    """Answer with a hub's response. The server has to run with handler_cancellation=True, else nobody is told that a
    client has left."""
    answer = web.StreamResponse()
    complete = False
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal answer, complete
        if message["type"] == "http.response.start":
            answer = web.StreamResponse(
                status=message["status"],
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]],
            )
            await answer.prepare(request)
            return
        await answer.write(message["body"])
        complete = not message.get("more_body", False)

    streaming = asyncio.ensure_future(response(scope_of(request), receive, send))
    try:
        await asyncio.shield(streaming)
    except asyncio.CancelledError:
        gone.set()
        await streaming
        raise
    if not complete and request.transport is not None:
        request.transport.abort()  # broken off, so that the client comes back
    return answer


def scope_of(request: web.Request) -> dict[str, Any]:
    """As much of an ASGI scope as a hub looks at."""
    return {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "query_string": request.query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": (request.remote or "local", 0),
    }


async def events(request: web.Request) -> web.StreamResponse:
    return await stream(request, hub.response(scope_of(request), [request.match_info["channel"]]))


async def publish(request: web.Request) -> web.Response:
    return web.Response(text=str(await hub.publish(request.match_info["channel"], await request.text())))


async def run_hub(app: web.Application) -> AsyncIterator[None]:
    async with hub:
        yield


async def stop_hub(app: web.Application) -> None:
    await hub.stop()  # the server waits for its streams before it cleans up


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(run_hub)
    app.on_shutdown.append(stop_hub)
    app.add_routes([web.get("/events/{channel}", events), web.post("/publish/{channel}", publish)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), handler_cancellation=True)
