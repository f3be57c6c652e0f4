"""`pip install sse-fast` brings little; what an extra brings is asked for by its name; importing loads no server."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the dependencies themselves bring: Starlette's.
LITTLE = {"orjson", "starlette", "anyio", "sniffio", "idna", "typing_extensions"}

ALONE = f"""
import sys

class Little:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {LITTLE | {"sse_fast"}!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Little())
"""

AN_APP = """
import asyncio
import sse_fast

assert sse_fast.encode("x") == b"data: x\\n\\n"
assert [event.data for event in sse_fast.EventParser().feed(b"data: x\\n\\n")] == ["x"]
messages = []
SCOPE = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [],
    "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http", "root_path": ""}

async def send(message):
    messages.append(message)

async def receive():
    await asyncio.sleep(30)

def body():
    return b"".join(message.get("body", b"") for message in messages)

async def main():
    await sse_fast.EventSourceResponse(["a", sse_fast.ServerSentEvent("b")])(dict(SCOPE), receive, send)
    assert b"data: a" in body() and b"data: b" in body()
    async with sse_fast.Hub() as hub:
        id = await hub.publish("news", "hello")
        stream = asyncio.create_task(hub.response(dict(SCOPE), ["news"], history=1)(dict(SCOPE), receive, send))
        while b"data: hello" not in body():
            await asyncio.sleep(0.01)
    await stream
    print(id)

asyncio.run(asyncio.wait_for(main(), 30))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_brought_is_what_the_encoder_the_responses_and_the_hub_need() -> None:
    assert {re.split(r"[^\w-]", one)[0] for one in PROJECT["dependencies"]} == {"orjson", "starlette"}
    done = run(ALONE + AN_APP)
    assert re.fullmatch(r"\w+-\d+\n", done.stdout), done.stderr


@pytest.mark.parametrize(
    ("asked", "extra"),
    [
        ("from sse_fast import create_app", "edge"),
        ("from sse_fast import Settings", "edge"),
        ("from sse_fast.client import Client; Client('http://127.0.0.1:8000')", "client"),
        ("from sse_fast.client import AsyncClient; AsyncClient('http://127.0.0.1:8000')", "client"),
        ("import sse_fast.testing", "client"),
        ("from sse_fast import Hub; Hub().relay('http://127.0.0.1:8000/sse/a', 'a')", "client"),
        ("from sse_fast import Publisher; Publisher('redis://127.0.0.1')", "redis"),
        ("from sse_fast import Hub; Hub(backplane='redis://127.0.0.1')", "redis"),
    ],
)
def test_what_is_missing_is_said_with_the_extra_that_brings_it(asked: str, extra: str) -> None:
    assert extra in PROJECT["optional-dependencies"]
    done = run(ALONE + asked)
    assert done.returncode == 1
    assert f"pip install 'sse-fast[{extra}]'" in done.stderr.splitlines()[-1], done.stderr


def test_the_command_line_says_its_extra_in_one_line() -> None:
    done = run(f"{ALONE}\nimport runpy\nrunpy.run_module('sse_fast', run_name='__main__')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sse-fast: the command line needs click, which is not installed: pip install 'sse-fast[edge]'\n"
    )


def test_importing_the_package_loads_no_server_and_little_else() -> None:
    """It takes a tenth of a second. That is said in modules here: a busy machine loads no more of them."""
    command = [sys.executable, "-X", "importtime", "-c", "import sse_fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    ours = {name for name in loaded if name.startswith("sse_fast.")}
    rooms = {name.split(".")[1] for name in ours}
    assert not rooms & {"edge", "embed", "node", "cli", "transports", "client", "testing", "access", "settings"}
    servers = {"granian", "uvicorn", "starlette", "uvloop", "httptools", "httpx", "pydantic", "click", "jwt", "redis"}
    assert not {name.partition(".")[0] for name in loaded} & servers
    assert len(ours) < 80
    assert len(loaded) < 400


def test_the_extras_of_development_bring_the_server_too() -> None:
    for extra in ("test", "bench"):
        assert any(each.startswith("sse-fast[edge") for each in PROJECT["optional-dependencies"][extra])
