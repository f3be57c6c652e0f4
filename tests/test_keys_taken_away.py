"""What a publish key has opened ends when the key is taken away, at each transport, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from front_port import edge_of
from support import until

from sse_fast.access.publish_keys import PublishKeys
from sse_fast.edge.app import Edge
from sse_fast.transports.life import Transport

SHOP, OPS = "0123456789abcdef-shop", "0123456789abcdef-ops"
OPS_ENTRY = f'[ops]\nkey = "{OPS}"\nsubscribe = ["**"]\n'


def entry(key: str = f'"{SHOP}"', more: str = "", subscribe: str = '["**"]') -> str:
    return f"[shop]\nkey = {key}\nsubscribe = {subscribe}\n{more}"


def digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def keys(text: str) -> PublishKeys:
    return PublishKeys.parse(text.encode())


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        (entry(), set()),
        (entry(more='publish = ["a"]'), set()),
        (entry(f'["{SHOP}", "0123456789abcdef-next"]'), set()),
        ("", {SHOP}),
        (entry('"0123456789abcdef-next"'), {SHOP}),
        (entry(subscribe='["orders:*"]'), {SHOP}),
        (entry(more="until = 2031-01-01T00:00:00Z"), {SHOP}),
        (OPS_ENTRY, {SHOP}),
        (entry().replace("[shop]", "[renamed]"), set()),
    ],
)
def test_a_key_is_lost_where_it_is_gone_or_opens_something_else(after: str, lost: set[str]) -> None:
    assert keys(entry()).lost_to(keys(after)) == set(map(digest, lost))


def test_a_key_that_lets_nobody_listen_has_no_streams_to_lose() -> None:
    assert keys(f'[shop]\nkey = "{SHOP}"\npublish = ["**"]').lost_to(keys("")) == set()


def scope_of(headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "root_path": "",
        "path": "/sse/news",
        "raw_path": b"/sse/news",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 7),
        "server": ("localhost", 80),
    }


@asynccontextmanager
async def stream(edge: Edge, transport: Transport, credential: str | None, **headers: str) -> AsyncIterator[bytearray]:
    """What a stream of the channel `news` is sent."""
    sent, open_before = bytearray(), edge.hub.fanout.connections
    given = {"host": "localhost", **headers} | ({"authorization": f"Bearer {credential}"} if credential else {})
    if transport is Transport.NATIVE:
        assert edge.front is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
        lines = [f"{name}: {value}\r\n" for name, value in given.items()]
        writer.write(f"GET /sse/news HTTP/1.1\r\n{''.join(lines)}\r\n".encode())

        async def read() -> None:
            while piece := await reader.read(65536):
                sent.extend(piece)

        running = asyncio.ensure_future(read())
    else:
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.extend(message.get("body", b""))

        running = asyncio.ensure_future(edge(scope_of(given), receive, send))
    try:
        await until(lambda: edge.hub.fanout.connections == open_before + 1)
        yield sent
    finally:
        if transport is Transport.NATIVE:
            writer.close()
        else:
            gone.set()
        await asyncio.wait([running], timeout=1)


@pytest.mark.parametrize("transport", Transport)
async def test_the_streams_of_a_key_that_is_taken_away_end_and_no_others(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(entry() + OPS_ENTRY)
    async with (
        edge_of(publish_keys=file, grant_subscribe=["news"]) as edge,
        stream(edge, transport, SHOP) as of_shop,
        stream(edge, transport, OPS) as of_ops,
        stream(edge, transport, None) as of_anybody,
    ):
        (watched,) = edge.sources._files
        file.write_text("this is no file of keys")
        await watched.look()
        file.write_text(OPS_ENTRY)
        await watched.look()
        await until(lambda: b"$closing" in of_shop)
        assert b'"reason":"expired"' in of_shop
        assert (edge.hub.fanout.connections, edge._admission.connections) == (2, 2)
        assert b"$closing" not in of_ops + of_anybody
        assert edge.metrics.snapshot()["ended"]["expired"] == 1
        assert list(edge._streams.keyed._of) == [digest(OPS)]
    assert edge._streams.keyed._of == {}


async def test_a_stream_ends_with_its_key_whatever_that_is_called_by_then_and_not_with_another_of_its_name(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(entry(f'["{SHOP}", "{OPS}"]'))
    async with (
        edge_of(publish_keys=file) as edge,
        stream(edge, Transport.NATIVE, SHOP) as of_one,
        stream(edge, Transport.NATIVE, OPS) as of_another,
    ):
        (watched,) = edge.sources._files
        file.write_text(entry(f'["{SHOP}", "{OPS}"]').replace("[shop]", "[renamed]"))
        await watched.look()
        assert edge._ending == set()
        file.write_text(entry(f'"{OPS}"').replace("[shop]", "[renamed]"))
        await watched.look()
        await until(lambda: b"$closing" in of_one)
        assert b'"reason":"expired"' in of_one
        assert (edge.hub.fanout.connections, list(edge._streams.keyed._of)) == (1, [digest(OPS)])
        assert b"$closing" not in of_another


class Waiting:
    """A request by ASGI, with a key, whose server takes nothing before it is let."""

    def __init__(self, edge: Edge) -> None:
        self.messages: list[Any] = []
        self.goes_on = asyncio.Event()
        scope = scope_of({"host": "localhost", "authorization": f"Bearer {SHOP}"})
        self.task = asyncio.ensure_future(edge(scope, asyncio.Event().wait, self._send))  # the client stays

    async def _send(self, message: Any) -> None:
        await self.goes_on.wait()
        self.messages.append(message)


async def test_a_stream_that_is_being_opened_while_its_key_is_taken_away_ends_too(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(entry() + OPS_ENTRY)
    async with edge_of(publish_keys=file, grant_subscribe=["other"]) as edge:
        opening = Waiting(edge)
        await until(lambda: edge.hub.fanout.connections == 1)
        file.write_text(OPS_ENTRY)
        (watched,) = edge.sources._files
        await watched.look()
        await asyncio.wait_for(opening.task, 30)
        assert (edge.hub.fanout.connections, edge._admission.connections, opening.messages) == (0, 0, [])
        assert edge.metrics.snapshot()["ended"]["expired"] == 1
        assert edge._streams.keyed._of == {}


async def test_who_waits_for_the_log_to_be_taken_in_is_turned_away_where_his_key_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(entry() + OPS_ENTRY)
    async with edge_of(publish_keys=file, grant_subscribe=["other"]) as edge:
        asked, taken_in = asyncio.Event(), asyncio.Event()

        async def take_in() -> None:
            asked.set()
            await taken_in.wait()
            edge.hub.ready = True

        monkeypatch.setattr(edge.hub, "take_in", take_in)
        monkeypatch.setattr(edge.hub, "_look_whether_ready", lambda: None)
        edge.hub.ready = False
        opening = Waiting(edge)
        opening.goes_on.set()
        await asyncio.wait_for(asked.wait(), 10)
        file.write_text(OPS_ENTRY)
        (watched,) = edge.sources._files
        await watched.look()
        taken_in.set()
        await asyncio.wait_for(opening.task, 30)
        assert opening.messages[0]["status"] == 401
