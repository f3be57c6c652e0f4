"""A hub in somebody's own app, over a Redis: under a server of several worker processes what any of them publishes
reaches the streams of all."""

from pathlib import Path

import redis_servers
from served import served
from support import Listener, until

APP = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from sse_fast import Hub
import os

hub = Hub(backplane={url!r})

@asynccontextmanager
async def lifespan(app):
    async with hub:
        yield

async def events(request):
    return hub.response(request, channels=["news"])

async def publish(request):
    id = await hub.publish("news", (await request.body()).decode())
    return PlainTextResponse(f"{{os.getpid()}} {{id}}")

app = Starlette(routes=[Route("/events", events), Route("/publish", publish, methods=["POST"])], lifespan=lifespan)
"""


async def test_what_any_worker_of_an_app_publishes_reaches_the_streams_of_all(tmp_path: Path) -> None:
    redis_servers.need()
    with redis_servers.running() as redis:
        (tmp_path / "fleet_app.py").write_text(APP.format(url=redis.url))
        async with served("uvicorn", tmp_path, "fleet_app:app", "--workers", "4") as running:
            pids: set[str] = set()
            published: list[tuple[str, str]] = []
            streams = [await Listener.open(running.port, "/events") for _ in range(12)]
            for stream in streams:
                await stream.__aenter__()

            async def publish() -> bool:
                text = f"{len(published)}"
                # A connection of its own each: the kernel deals them out.
                answer = await running.http.post("/publish", content=text, headers={"connection": "close"})
                pid, id = answer.text.split()
                pids.add(pid)
                published.append((id, text))
                return len(pids) > 1 and len(published) >= 40

            await until(publish)
            for stream in streams:
                await stream.read_count(len(published))
                assert stream.data == [text for _, text in published]
                assert stream.last_event_id == published[-1][0]
                stream.close()
            assert "several processes serve" not in running.log
