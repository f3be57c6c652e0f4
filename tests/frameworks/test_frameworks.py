"""The responses in the frameworks' own apps, under the real servers in processes of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
from httpx_sse import aconnect_sse
from served import SERVERS, Served, served
from support import until

FRAMEWORKS = ("fastapi", "starlette", "wrapped", "litestar")
BOTH = [(server, framework) for server in SERVERS for framework in FRAMEWORKS]


async def events(running: Served, path: str) -> list[Any]:
    async with aconnect_sse(running.http, "GET", path) as source:
        assert source.response.status_code == 200
        assert source.response.headers["x-accel-buffering"] == "no"
        return [(event.event, event.data, event.id) async for event in source.aiter_sse()]


@pytest.mark.parametrize(("server", "framework"), BOTH)
async def test_streams_arrive_whole_and_let_go_of_clients_and_of_the_server(server: str, framework: str) -> None:
    async with served(server, Path(__file__).parent, f"stream_apps:{framework}", factory=True) as running:
        counted = [
            ("count", json.dumps({"number": number}, separators=(",", ":")), str(number)) for number in range(100)
        ]
        assert await events(running, "/count/100") == counted
        assert await events(running, "/writer/") == counted[:3]
        if framework == "fastapi":
            assert await events(running, "/yielded/100") == counted
        failed = await events(running, "/fail")
        assert [(kind, data) for kind, data, _ in failed] == [("message", "good"), ("error", '{"error":"internal"}')]

        head = await running.http.head("/count/5")
        if head.status_code != 405:  # FastAPI and Litestar route no HEAD by themselves
            assert head.headers["content-type"].startswith("text/event-stream")
            assert head.content == b""

        # A client leaves: the content is closed.
        async with aconnect_sse(running.http, "GET", "/stay") as source:
            arriving = aiter(source.aiter_sse())  # held, as it would close the connection when it goes
            await anext(arriving)
            assert "content closed" not in running.log
        await until(lambda: "content closed" in running.log)

        # The server stops, with a stream open: it leaves, and the content is closed.
        async with aconnect_sse(running.http, "GET", "/stay") as source:
            arriving = aiter(source.aiter_sse())
            await anext(arriving)
            status = await running.stop()
        assert running.log.count("content closed") == 2, running.log
        # Some servers end by the signal they were sent.
        assert status in (0, -15), running.log


WRITTEN = [
    (server, framework) for server in ("uvicorn", "granian") for framework in ("fastapi", "starlette", "litestar")
]


@pytest.mark.parametrize(("server", "framework"), WRITTEN)
async def test_a_handler_returns_a_writer_whose_body_ends_with_the_client_and_with_the_server(
    server: str, framework: str
) -> None:
    async with served(server, Path(__file__).parent, f"stream_apps:{framework}", factory=True) as running:

        def ended(name: str, times: int = 1) -> bool:
            """The body is over, and the background task behind it has run."""
            return running.log.count(f"background {name}") == times

        async with aconnect_sse(running.http, "GET", "/written/count/25") as source:
            assert (source.response.status_code, source.response.headers["x-written"]) == (203, "count")
            assert source.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            arrived = [(event.event, event.json()["number"], event.id) async for event in source.aiter_sse()]
        assert arrived == [("count", number, str(number)) for number in range(25)]
        await until(lambda: ended("count"))

        # It raises: the client is told that and no more, the log why, and nothing else goes wrong behind it.
        async with aconnect_sse(running.http, "GET", "/written/fail/0") as source:
            told = [(event.event, event.data) async for event in source.aiter_sse()]
        assert told == [("message", "good"), ("error", '{"error":"internal"}')]
        await until(lambda: ended("fail"))
        await until(lambda: "ValueError: secret" in running.log)  # Litestar logs from a thread of its own
        assert running.log.count("Traceback") == 1, running.log

        # The client leaves, then the server stops: the body is cancelled where it waits.
        async with aconnect_sse(running.http, "GET", "/written/stay/0") as source:
            arriving = aiter(source.aiter_sse())  # held, as it would close the connection when it goes
            await anext(arriving)
            assert "content closed" not in running.log
        await until(lambda: ended("stay"))
        async with aconnect_sse(running.http, "GET", "/written/stay/0") as source:
            arriving = aiter(source.aiter_sse())
            await anext(arriving)
            status = await running.stop()
        assert running.log.count("content closed") == 2, running.log
        assert ended("stay", 2), running.log
        assert status in (0, -15), running.log
