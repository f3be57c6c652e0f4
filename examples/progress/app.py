"""Progress of a long task: the work runs in a thread and publishes; any number of pages watch it, and one that comes
late, or is reloaded, sees everything from the beginning.

    uvicorn --app-dir examples/progress app:app
    granian --interface asgi --working-dir examples/progress app:app
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse

from sse_fast import Hub

STEPS = ["reading", "resizing", "sharpening", "packing", "uploading"]
PARTS = 20  # of a step
PAUSE = 0.03  # seconds a part takes

hub = Hub()
tasks: dict[str, "asyncio.Task[None]"] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:  # so that threads can publish
        yield


app = FastAPI(lifespan=lifespan)


def work(task: str) -> None:
    """Something that blocks, in a thread of its own."""
    channel, total = f"task:{task}", len(STEPS) * PARTS
    for done in range(1, total + 1):
        time.sleep(PAUSE)
        step = STEPS[(done - 1) // PARTS]
        hub.publish_threadsafe(channel, {"done": done, "total": total, "step": step}, event="progress")
    hub.publish_threadsafe(channel, {"result": f"/results/{task}.zip"}, event="done")


@app.post("/tasks")
async def start() -> dict[str, str]:
    task = secrets.token_hex(4)
    tasks[task] = asyncio.create_task(asyncio.to_thread(work, task))
    return {"task": task}


@app.get("/tasks/{task}/events")
async def events(task: str, request: Request) -> Response:
    if task not in tasks:
        raise HTTPException(404, f"there is no task {task}")
    # A new page gets all that was said so far; one that lost its connection goes on where it was.
    return hub.response(request, [f"task:{task}"], history=len(STEPS) * PARTS + 1)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))
