"""A hub in Django under an ASGI server, in one file; in a project these are settings.py, views.py, urls.py and asgi.py.

The streams are answered in front of Django (`application`), so that no middleware of Django's sees them; every view
can publish. `countdown` is a view that streams by itself, with the encoder alone.

    uvicorn --app-dir examples/recipes django_app:application
    curl -N localhost:8000/events/news
    curl -d 'hello' localhost:8000/publish/news
    curl -N localhost:8000/countdown
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from sse_fast import Hub, encode

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"], SECRET_KEY="example"
    )

hub = Hub()


@csrf_exempt
async def publish(request: HttpRequest, channel: str) -> HttpResponse:
    return HttpResponse(str(await hub.publish(channel, request.body)))


@csrf_exempt
def publish_from_sync_view(request: HttpRequest, channel: str) -> HttpResponse:
    """Django runs a view that is no coroutine function in a thread."""
    return HttpResponse(str(hub.publish_threadsafe(channel, request.body).result(timeout=5)))


async def countdown(request: HttpRequest) -> StreamingHttpResponse:
    async def events() -> AsyncIterator[bytes]:
        for number in (3, 2, 1):
            yield encode({"left": number}, event="tick")
            await asyncio.sleep(0.1)
        yield encode("lift-off", event="done")

    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(events(), content_type="text/event-stream", headers=headers)


urlpatterns = [
    path("publish/<channel>", publish),
    path("sync/<channel>", publish_from_sync_view),
    path("countdown", countdown),
]

django = get_asgi_application()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/events/"):
        await hub.response(scope, [scope["path"].removeprefix("/events/")])(scope, receive, send)
    else:
        await django(scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Django knows no lifespan; the hub needs one only to be published to from threads."""
    await receive()
    async with hub:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
