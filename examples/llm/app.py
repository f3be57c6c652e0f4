"""Tokens of a language model as a stream, for clients that POST with `fetch`: `token` events, and `done` at the end.

The model is a fake that says one word after the other. When the client cancels, the model stops: the generator is
closed. When the model fails, the client gets an `error` event that says no more than that, and the log the reason; say
"fail" to see it.

    uvicorn --app-dir examples/llm app:app
    granian --interface asgi --working-dir examples/llm app:app
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from sse_fast import EventSourceResponse

PAUSE = 0.03  # seconds a token takes
ANSWER = (
    "You asked: “{prompt}”. I am only a loop over words, but I stream like the real thing: each word you see came as "
    "an event of its own, and when you press Stop the loop ends on the server too, in the middle of a word if need be. "
    "A proxy that buffers would show all of this at once; the headers of the response tell it not to."
)

app = FastAPI()
outcomes: Counter[str] = Counter()


class Prompt(BaseModel):
    prompt: str = Field(min_length=1, max_length=2000)


async def model(prompt: str) -> AsyncIterator[str]:
    for number, word in enumerate(ANSWER.format(prompt=prompt).split(" ")):
        await asyncio.sleep(PAUSE)
        if prompt.strip() == "fail" and number == 5:
            raise RuntimeError("out of memory on gpu-7")
        yield word if number == 0 else f" {word}"


async def events(prompt: str) -> AsyncIterator[dict[str, Any]]:
    count, outcome = 0, "cancelled"
    try:
        async for token in model(prompt):
            count += 1
            yield {"event": "token", "data": {"text": token}}
        outcome = "done"
        yield {"event": "done", "data": {"tokens": count}}
    finally:
        outcomes[outcome] += 1


@app.post("/chat")
async def chat(asked: Prompt) -> EventSourceResponse:
    return EventSourceResponse(events(asked.prompt))


@app.get("/outcomes")
async def how_they_ended() -> dict[str, int]:
    return outcomes


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))
