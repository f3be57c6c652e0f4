"""The responses in the frameworks' own apps, under the real servers in processes of their own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from httpx_sse import aconnect_sse
from support import PATIENCE, free_port, until

SERVERS = {
    "uvicorn": ["uvicorn", "--factory", "--port", "{port}", "{app}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}", "--workers", "0", "{app}()"],  # else it hears of no signal
    "granian": ["granian", "--interface", "asgi", "--factory", "--port", "{port}", "{app}"],
}
FRAMEWORKS = ("fastapi", "starlette", "wrapped", "litestar")
BOTH = [(server, framework) for server in SERVERS for framework in FRAMEWORKS]


class Served:
    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
        self.process = process
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
        self._log = log

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    async def up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            await self.http.get("/nothing")
        except httpx.TransportError:
            return False
        return True

    async def stops(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        await until(lambda: self.process.poll() is not None)
        return self.process.returncode


@asynccontextmanager
async def serving(server: str, framework: str) -> AsyncIterator[Served]:
    port = free_port()
    words = [word.format(port=port, app=f"stream_apps:{framework}") for word in SERVERS[server]]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", *words]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: ASYNC220
        served = Served(port, process, log)
        try:
            await until(served.up)
            yield served
        finally:
            await served.http.aclose()
            if process.poll() is None:
                process.kill()
            process.wait()


async def events(served: Served, path: str) -> list[Any]:
    async with aconnect_sse(served.http, "GET", path) as source:
        assert source.response.status_code == 200
        assert source.response.headers["x-accel-buffering"] == "no"
        return [(event.event, event.data, event.id) async for event in source.aiter_sse()]


@pytest.mark.parametrize(("server", "framework"), BOTH)
async def test_streams_arrive_whole_and_let_go_of_clients_and_of_the_server(server: str, framework: str) -> None:
    async with serving(server, framework) as served:
        counted = [
            ("count", json.dumps({"number": number}, separators=(",", ":")), str(number)) for number in range(100)
        ]
        assert await events(served, "/count/100") == counted
        assert await events(served, "/writer/") == counted[:3]
        if framework == "fastapi":
            assert await events(served, "/yielded/100") == counted
        failed = await events(served, "/fail")
        assert [(kind, data) for kind, data, _ in failed] == [("message", "good"), ("error", '{"error":"internal"}')]

        head = await served.http.head("/count/5")
        if head.status_code != 405:  # FastAPI and Litestar route no HEAD by themselves
            assert head.headers["content-type"].startswith("text/event-stream")
            assert head.content == b""

        # A client leaves: the content is closed.
        async with aconnect_sse(served.http, "GET", "/stay") as source:
            arriving = aiter(source.aiter_sse())  # held, as it would close the connection when it goes
            await anext(arriving)
            assert "content closed" not in served.log
        await until(lambda: "content closed" in served.log)

        # The server stops, with a stream open: it leaves, and the content is closed.
        async with aconnect_sse(served.http, "GET", "/stay") as source:
            arriving = aiter(source.aiter_sse())
            await anext(arriving)
            status = await served.stops()
        assert served.log.count("content closed") == 2, served.log
        # Some servers end by the signal they were sent.
        assert status in (0, -15), served.log
