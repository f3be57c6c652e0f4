"""`sse-fast relay --from`."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import EdgeProcess, Edges
from conftest import until as wait_until
from edge_client import EdgeClient
from scripted_source import ScriptedSource, said, scripted_source

from sse_fast import EventParser
from sse_fast.cli.failure import Failure
from sse_fast.cli.relay_from import relay_from
from sse_fast.transports.life import Transport

pytestmark = pytest.mark.usefixtures("nothing_set")


def started(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as opened:
        return subprocess.Popen([sys.executable, "-m", "sse_fast", "relay", *arguments], stdout=opened, stderr=opened)


def kept(edge: EdgeProcess, last: str) -> list[tuple[str, str]]:
    """(type, data) of all that the edge has of the channel, up to that."""
    found: list[tuple[str, str]] = []
    parser = EventParser()
    with httpx.stream("GET", f"{edge.url}/sse/news?last_event_id=earliest", timeout=30) as response:
        for piece in response.iter_bytes():
            for event in parser.feed(piece):
                if event.event != "$connected":
                    found.append((event.event, event.data))
                if event.data == last:
                    return found
    raise AssertionError(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "http://x"), "--to: name the channel that the events go to"),
        (("--from", "ftp://x", "--to", "news"), "--from: the URL of an event stream begins with http:// or https://"),
        (("--from", "http://x", "--to", "$news"), "--to: channels that begin with '$' belong to the server"),
        (("--from", "http://x", "--to", "a b"), "--to: a channel name is UTF-8 text without white space"),
        (("--from", "http://x", "--to", "news", "--name", "a b"), "--name: the name of a relay is 1 to 128"),
        (("--from", "http://x", "--to", "news", "--since", " a"), "--since: an id to begin behind is up to 1024"),
        (("--from", "http://x", "--to", "news", "--url", "ftp://x"), "--url: 'ftp://x' should look like"),
        (("--from", "http://x", "--to", "news", "--header", "secret"), "--header: write 'Name: value'"),
        (("--from", "http://x", "--to", "news", "--header", "A: \u2603secret"), "--header: write 'Name: value'"),
        (("--from", "http://x", "--to", "news", "--from-token", "a secret"), "--from-token: a token is visible ASCII"),
        (("--from", "http://x", "--to", "news", "--transform", "json"), "--transform json: write MODULE:FUNCTION"),
        (("--from", "http://x", "--to", "news", "--transform", "no_such:x"), "there is no module 'no_such'"),
        (("--from", "http://x", "--to", "news", "--transform", "json:nothing"), "json has no nothing"),
        (("--from", "http://x", "--to", "news", "--transform", "os:sep"), "--transform os:sep: this is no function"),
        (("--from", "http://x", "--to", "news", "--create"), "--create: that is of an outbox"),
        (("--from", "http://x", "--to", "news", "--outbox", "host=x"), "--outbox: that is of an outbox"),
        (("--outbox", "host=x", "--to", "news", "--event", "x"), "--event, --to: that is of a stream"),
        ((), "name the database: --outbox postgresql://user@host/name, or SSE_FAST_OUTBOX; or a stream: --from URL"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_without_secrets(run, arguments: tuple[str, ...], words: str) -> None:
    answer = run("relay", *arguments)
    assert answer.exit_code == 2, answer.output
    assert words in answer.stderr
    assert "secret" not in answer.stderr.replace("X-Api-Key: secret", "")


async def test_it_relays_until_it_is_told_to_end_and_goes_on_from_there(edge: Edges, tmp_path: Path) -> None:
    server = edge()
    (tmp_path / "shop.py").write_text(
        "def louder(event):\n    return event.data.upper() if event.data != 'no' else None\n"
    )
    (tmp_path / "token").write_text("first\n")
    log = tmp_path / "relay.log"
    async with scripted_source() as source:
        arguments = ("--from", source.url, "--to", "news", "--url", server.url, "--transform", "shop:louder")
        further = ("--header", "X-Api-Key: secret", "--from-token-file", str(tmp_path / "token"), "--verbose")
        for number in (1, 2):
            relay = started(*arguments, *further, "--event", "message", log=log)
            try:
                events = [said("a", "1"), said("no", "2"), said("b", "3", "other"), said("c", "4")]
                connection = await source.streamed(*events[4 * (number - 1) :], said(f"end {number}", str(3 + number)))
                assert connection.headers["x-api-key"] == "secret"
                assert connection.headers["authorization"] == ("Bearer first" if number == 1 else "Bearer next")
                assert connection.last_event_id == (None if number == 1 else "4")
                (tmp_path / "token").write_text("next\n")
                found = await asyncio.to_thread(kept, server, f"END {number}")
                relay.send_signal(signal.SIGTERM if number == 1 else signal.SIGINT)
                assert await asyncio.to_thread(relay.wait, 30) == 0, log.read_text()
            finally:
                relay.kill()
        assert found == [("message", data) for data in ("A", "C", "END 1", "END 2")]
        assert "published 3 events" in log.read_text() or "published 1 events" in log.read_text()
        assert "secret" not in log.read_text()


async def relayed(source: ScriptedSource, url: str, **options: Any) -> None:
    given = dict.fromkeys(("transform", "from_token", "from_token_file", "since", "state", "name"))
    given |= {
        "events": (),
        "headers": (),
        "on_error": "gap",
        "max_event_bytes": 2**20,
        "silence": 45.0,
        "cross_origin": False,
    }
    await relay_from(source.url, url, {}, to="news", **{**given, **options})


async def test_it_ends_when_the_source_says_so_and_with_a_word_where_it_refuses() -> None:
    async with EdgeClient.opened(Transport.NATIVE) as client, scripted_source() as source:
        assert client.edge.front is not None
        url = f"http://127.0.0.1:{client.edge.front.port}"
        ending = asyncio.create_task(relayed(source, url))
        await (await source.connection()).answer("204 No Content")
        await ending
        refused = asyncio.create_task(relayed(source, url))
        await (await source.connection()).answer("401 Unauthorized")
        with pytest.raises(Failure, match="here it is given by --from-token, --from-token-file or --header"):
            await refused
        nowhere = asyncio.create_task(relayed(source, url))
        await (await source.connection()).answer("404 Not Found")
        with pytest.raises(Failure, match=r"--from names the stream itself, with its path: of an edge ") as told:
            await nowhere
        assert "--url" not in str(told.value)
        elsewhere = asyncio.create_task(relayed(source, f"http://127.0.0.1:{source.port}"))
        posted = await source.connection()
        assert posted.target == "/publish"
        await posted.answer("404 Not Found")
        with pytest.raises(Failure, match=r"404.*; beside an app the edge is .*: --url \.\.\./edge") as told:
            await elsewhere
        assert "--from" not in str(told.value)
        with pytest.raises(Failure, match="no-such-file can't be read"):
            await relayed(source, url, from_token_file=Path("no-such-file"))
        stopped = asyncio.create_task(relayed(source, url, transform="json:loads", on_error="stop"))
        await source.streamed(said("x", "1"))
        with pytest.raises(Failure, match="stopped in front of the event message 1 of http"):
            await stopped


async def test_of_all_workers_one_relays_and_when_it_dies_another_goes_on(
    edge: Edges, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_source() as source:
        monkeypatch.setenv("RELAYED", source.url)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        server = edge("--workers", "2", "--app", "relaying_app:app", "--hung-worker-timeout", "30")

        def leader() -> int:
            with httpx.Client(base_url=server.url.removesuffix("/edge"), timeout=30) as client:
                told = client.get("/leads").json()
            return int(told["pid"]) if told["leads"] else 0

        await source.streamed(*[said(str(number), str(number)) for number in range(20)])
        assert len(await asyncio.to_thread(kept, server, "19")) == 20
        os.kill(await asyncio.to_thread(wait_until, leader, "a relay that publishes"), signal.SIGKILL)
        server.noise_expected = True
        again = await source.streamed(*[said(str(number), str(number)) for number in range(20, 40)])
        assert again.last_event_id == "19"
        expected = [("message", str(number)) for number in range(40)]
        assert await asyncio.to_thread(kept, server, "39") == expected
        assert len(source.connections) == 2
