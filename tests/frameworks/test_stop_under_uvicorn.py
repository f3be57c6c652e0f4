"""uvicorn calls a response that its app leaves without an end an error; streams that end so are not told as errors."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from served import Served, served
from support import Listener, until

HERE = Path(__file__).parent
KINDS = ("/hub", "/edge/sse/news", "/yielded", "/written", "/mounted/")
OF_EACH = 5
PROTOCOLS = [("--http", "httptools", "--loop", "uvloop"), ("--http", "h11", "--loop", "asyncio")]


def errors(running: Served) -> list[str]:
    return [line for line in running.log.splitlines() if "ERROR" in line or "Traceback" in line]


async def opened(running: Served, kind: str) -> Listener:
    listener = await Listener.open(running.port, kind)
    await listener.read_until(lambda: bool(listener.events))
    return listener


@pytest.mark.parametrize("options", PROTOCOLS)
async def test_a_stop_breaks_every_stream_off_and_logs_no_error(options: tuple[str, ...]) -> None:
    async with served("uvicorn", HERE, "all_streams_app:app", *options) as running:
        streams = [await opened(running, kind) for kind in KINDS for _ in range(OF_EACH)]
        status = await running.stop()
        await asyncio.gather(*(stream.read_to_the_end() for stream in streams))
        # A clean end some clients take for the last word: fetch-event-source, Datastar.
        assert [stream.end for stream in streams] == ["aborted"] * len(KINDS) * OF_EACH
        for stream in streams[: 2 * OF_EACH]:
            assert stream.told("$closing") == [{"reason": "shutdown"}]
        assert errors(running) == []
        assert status in (0, -15)


@pytest.mark.parametrize("options", PROTOCOLS)
async def test_who_is_turned_away_or_reads_nothing_is_cut_and_logs_no_error(options: tuple[str, ...]) -> None:
    async with served("uvicorn", HERE, "all_streams_app:app", *options) as running, AsyncExitStack() as stack:
        for _ in range(5):
            stack.callback((await opened(running, "/edge/sse/news")).close)
        turned_away = await Listener.open(running.port, "/edge/sse/news")
        await turned_away.read_to_the_end()
        assert turned_away.end == "aborted"
        assert turned_away.told("$closing") == [{"reason": "overloaded"}]

        stuck = await Listener.open(running.port, "/flood", small_buffers=True)
        await until(lambda: "took nothing for 0.5 s" in running.log)
        await running.stop()
        await stuck.read_to_the_end()
        assert stuck.end == "aborted"
        assert errors(running) == []


async def test_a_reload_breaks_every_stream_off_and_clients_that_come_back_are_served(tmp_path: Path) -> None:
    source = HERE / "all_streams_app.py"
    app = tmp_path / "all_streams_app.py"
    app.write_text(source.read_text())
    reload = ("--reload", "--reload-dir", str(tmp_path), "--reload-delay", "0.1")
    async with served("uvicorn", tmp_path, "all_streams_app:app", *reload) as running:
        streams = [await opened(running, kind) for kind in KINDS for _ in range(OF_EACH)]
        app.write_text(source.read_text() + "\n# changed\n")
        await asyncio.gather(*(stream.read_to_the_end() for stream in streams))
        assert {stream.end for stream in streams} == {"aborted"}
        again = [await opened(running, kind) for kind in KINDS]
        assert all(stream.status == 200 for stream in again)
        assert errors(running) == []
