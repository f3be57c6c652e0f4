"""The examples of README.md do what it says."""

import re
from pathlib import Path
from typing import Any

from sse_fast import SSEWriter
from sse_fast.testing import EventClient

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(words: str, **names: Any) -> dict[str, Any]:
    (block,) = [block for block in BLOCKS if words in block]
    exec(compile(block, "README.md", "exec"), names)
    return names


async def test_the_response_and_the_test_of_it() -> None:
    app = run("async def ticks")["app"]
    await run("async def test_ticks", app=app)["test_ticks"]()
    async with EventClient(app) as client, client.stream("/ticks") as stream:
        assert [event.json() for event in await stream.rest()] == [{"number": number} for number in range(3)]


async def test_the_writer() -> None:
    app = run("WriterResponse(body")["app"]
    async with EventClient(app) as client, client.stream("/jobs/7/progress") as stream:
        assert stream.headers["x-job"] == "7"
        assert [event.json() for event in await stream.rest()] == [{"job": 7, "percent": n} for n in (0, 50, 100)]
        assert stream.comments == ["done"]


async def test_the_writer_in_plain_asgi() -> None:
    app = run("SSEWriter(scope", SSEWriter=SSEWriter)["app"]
    async with EventClient(app, lifespan=False) as client, client.stream("/") as stream:
        assert [event.data for event in await stream.rest()] == ["hello"]
