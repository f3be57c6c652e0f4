"""What does not need Linux is built and works without it; what needs it is left out there, and says so in one sentence.

`make test-portable` runs this and the other tests that scripts/portable names on a build without the Linux parts; on
the normal one this looks at what both have in common."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from sse_fast import Hub, NeedsLinux, Settings, create_app
from sse_fast._native.base import LINUX
from sse_fast.testing import EventClient

ROOT = Path(__file__).parent.parent
PORTABLE = os.environ.get("SSE_FAST_TESTED") == "portable"
on_a_portable_build = pytest.mark.skipif(not PORTABLE, reason="make test-portable runs it on a build without Linux")

# What is promised to work everywhere, and where that is tested.
WORKS = {
    "the encoder": "frame",
    "EventSourceResponse": "responses",
    "SSEWriter": "writer",
    "the hub with a log of its own": "hub",
    "its streams in an app": "hub_response",
    "the ASGI edge in one process": "portable",
    "listen and publish": "client",
    "testing": "testing",
}
# What needs Linux, and how it is asked for.
LEFT_OUT = {
    "the native front": "import sse_fast.transports.front",
    "the load client": "import sse_fast.bench",
    "`sse-fast serve`": "import sse_fast.node.serve",
    "a log that is shared": "import sse_fast.node.segment",
    "several workers": "import sse_fast.node.workers",
}
OF_UNIX = {"fcntl", "grp", "pwd", "resource", "termios", "syslog"}
OF_LINUX = {"memfd_create", "eventfd", "sched_getaffinity", "posix_fallocate", "pidfd_open", "epoll"}


def named() -> set[str]:
    names = re.findall(r"^TESTS\+?=\((.*?)\)", (ROOT / "scripts" / "portable").read_text(), re.MULTILINE)
    return {name for line in names for name in line.split()}


def test_every_promise_has_its_tests_among_those_of_the_portable_build() -> None:
    assert set(WORKS.values()) <= named()
    for name in named():
        assert (ROOT / "tests" / f"test_{name}.py").exists()
    assert re.search(r"^make test-portable$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_build_is_the_one_that_is_meant() -> None:
    assert LINUX is not PORTABLE
    there = importlib.util.find_spec("sse_fast._native.base.tcp") is not None
    assert there is LINUX
    assert sse_fast.__file__ is not None
    assert ("build/portable" in sse_fast.__file__) is PORTABLE


@on_a_portable_build
@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_needs_linux_says_so_in_one_sentence(what: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_OUT[what]], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sse_fast.errors.NeedsLinux: ")
    assert "needs Linux, and is not in this build of sse_fast" in last


@on_a_portable_build
@pytest.mark.parametrize("command", ["serve", "bench hold http://127.0.0.1:1/"])
def test_a_command_that_needs_linux_says_so_in_one_line(command: str) -> None:
    asked = [sys.executable, "-m", "sse_fast", *command.split()]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("sse-fast: ")
    assert "needs Linux" in line


@on_a_portable_build
def test_a_log_that_processes_would_share_cannot_be_written_to() -> None:
    from sse_fast._native.log.ring import Log, segment_size

    assert Log.private(4096).append(b"news", b"data: x\n\n") is not None
    with pytest.raises(OSError, match="needs Linux"):
        Log(bytearray(segment_size(4096))).append(b"news", b"data: x\n\n")


async def test_the_edge_in_one_process_publishes_streams_and_resumes() -> None:
    async with EventClient(create_app(Settings.load({}))) as client:
        async with client.stream("/sse/news") as stream:
            assert (await stream.next()).event == "$connected"
            assert (await client.http.post("/publish/news", content="hello")).is_success
            first = await stream.next()
            assert first.data == "hello"
        await client.http.post("/publish/news", content="again")
        async with client.stream("/sse/news", headers={"Last-Event-ID": first.id}) as stream:
            assert [(await stream.next()).data for _ in range(2)][1] == "again"


async def test_events_reach_all_streams_of_a_hub() -> None:
    async with Hub() as hub:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await hub.response(scope, ["news"])(scope, receive, send)

        async with EventClient(app, lifespan=False) as client, client.stream("/") as one, client.stream("/") as other:
            assert [(await stream.next()).event for stream in (one, other)] == ["$connected"] * 2
            await hub.publish("news", {"a": 1})
            assert [(await stream.next()).data for stream in (one, other)] == ['{"a":1}'] * 2


def test_what_is_loaded_everywhere_asks_nothing_of_unix() -> None:
    """But for what asks first whether it is there."""
    program = (
        "import sys, sse_fast, sse_fast.embed.hub, sse_fast.embed.responses, sse_fast.embed.writer, sse_fast.edge.app\n"
        "import sse_fast.client.blocking, sse_fast.client.on_loop, sse_fast.testing, sse_fast.cli.main\n"
        "ours = [module.__file__ for name, module in sys.modules.items() if name.startswith('sse_fast')]\n"
        "print(*(file for file in ours if file.endswith('.py')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for file in map(Path, done.stdout.split()):
        tree = ast.parse(file.read_text())
        plain = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        plain |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not plain & OF_UNIX, file
        assert not plain & {"granian", "uvloop", "httptools"}, file
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & OF_LINUX, file


def test_nobody_needs_linux_who_has_it() -> None:
    if LINUX:
        import sse_fast.transports.front
    else:
        with pytest.raises(NeedsLinux):
            import sse_fast.transports.front  # noqa: F401
