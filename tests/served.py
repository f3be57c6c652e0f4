"""Somebody's ASGI app under a real server, in processes of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import httpx
from support import PATIENCE, free_port, until, written_to

SERVERS = {
    "uvicorn": ["uvicorn", "--port", "{port}", "{app}"],
    # Its worker processes hear of no signal; without them it serves in the process that does.
    "hypercorn": ["hypercorn", "--workers", "0", "--bind", "127.0.0.1:{port}", "{app}"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}", "{app}"],
    "sse_fast": ["sse_fast", "serve", "--port", "{port}", "--app={app}"],
}
WITH_WORKERS = SERVERS | {
    "gunicorn": ["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "--bind", "127.0.0.1:{port}", "{app}"],
}


class Served:
    """A running server. `url` is where it listens."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE)
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return written_to(self._log)

    async def up(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            await self.http.get("/nothing")
        except httpx.TransportError:
            return False
        return True

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self._process.terminate()
        await until(lambda: self._process.poll() is not None)
        return self._process.returncode

    async def end(self) -> None:
        await self.http.aclose()
        if self._process.poll() is None:
            await self.stop()


@asynccontextmanager
async def served(server: str, directory: Path, app: str, *options: str, factory: bool = False) -> AsyncIterator[Served]:
    """`app` is MODULE:NAME, of an app or of what makes one; the module is in `directory`. `options`: the server's."""
    port = free_port()
    *words, named = (word.format(port=port, app=app) for word in WITH_WORKERS[server])
    command = [sys.executable, "-m", *words, *options, named]
    if factory and server == "hypercorn":
        command[-1] += "()"
    elif factory:
        command.append("--factory")
    environment = os.environ | {"PYTHONPATH": str(directory)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: ASYNC220
        running = Served(port, process, log)
        try:
            await until(running.up)
            yield running
        finally:
            try:
                await running.end()
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
