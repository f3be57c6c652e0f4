"""The examples of docs/ do what they say."""

from documentation import run

from sse_fast import SSEWriter
from sse_fast.testing import EventClient


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
