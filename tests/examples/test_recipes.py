"""The recipes for servers that are no ASGI framework of ours: aiohttp, Django, Flask."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp.test_utils import TestClient, TestServer
from support import Listener, until
from whatwg import Parser

from sse_fast.testing import EventClient

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Django imports its URLs by name
    spec.loader.exec_module(module)
    return module


class Running:
    def __init__(self, module: ModuleType, client: "TestClient[object, object]") -> None:
        self.hub, self.client = module.hub, client
        assert client.port is not None
        self.port = client.port

    async def publish(self, text: str) -> str:
        async with self.client.post("/publish/news", data=text) as answer:
            assert answer.status == 200
            return await answer.text()


@pytest.fixture
async def aiohttp() -> AsyncIterator[Running]:
    module = recipe("aiohttp_app")
    # The test server cancels handlers as the recipe asks for.
    async with TestClient(TestServer(module.make_app())) as client:
        yield Running(module, client)


async def test_aiohttp_streams_resume_and_their_clients_are_noticed(aiohttp: Running) -> None:
    async with await Listener.open(aiohttp.port, "/events/news") as stream:
        assert stream.headers[b"content-type"].startswith(b"text/event-stream")
        id = await aiohttp.publish("one")
        await aiohttp.publish("two")
        await stream.read_count(2)
        assert stream.data == ["one", "two"]
    await until(lambda: not aiohttp.hub.fanout.connections)
    async with await Listener.open(aiohttp.port, "/events/news", last_event_id=id) as stream:
        await stream.read_count(1)
        assert stream.data == ["two"]


async def test_aiohttp_streams_are_broken_off_when_the_hub_stops(aiohttp: Running) -> None:
    async with await Listener.open(aiohttp.port, "/events/news") as stream:
        await aiohttp.hub.stop()
        await stream.read_to_the_end()
        assert stream.told("$closing") == [{"reason": "shutdown"}]
        assert stream.end == "aborted"


async def test_aiohttp_clients_that_take_nothing_hold_up_nobody(aiohttp: Running) -> None:
    stuck = await Listener.open(aiohttp.port, "/events/news", small_buffers=True)
    async with await Listener.open(aiohttp.port, "/events/news") as stream:
        await until(lambda: aiohttp.hub.fanout.connections == 2)
        for _ in range(100):
            await aiohttp.publish("x" * 60_000)
        await stream.read_count(100)
        await until(lambda: aiohttp.hub.fanout.blocked == 1)
    stuck.close()
    await until(lambda: not aiohttp.hub.fanout.connections)


async def test_django_publishes_and_the_hub_streams_in_front_of_it() -> None:
    django = recipe("django_app")
    async with EventClient(django.application) as client:
        async with client.stream("/events/news") as stream:
            first = await client.http.post("/publish/news", content="from the loop")
            second = await client.http.post("/sync/news", content="from a thread")
            assert [(event.data, event.id) for event in (await stream.take(3))[1:]] == [
                ("from the loop", first.text),
                ("from a thread", second.text),
            ]
        async with client.stream("/countdown") as stream:
            assert stream.headers["x-accel-buffering"] == "no"
            assert [event.event for event in await stream.rest()] == ["tick", "tick", "tick", "done"]
        assert (await client.http.get("/nothing")).status_code == 404


def test_flask_streams_what_the_encoder_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    flask = recipe("flask_app")
    monkeypatch.setattr(flask, "PAUSE", 0)
    answer = flask.app.test_client().get("/countdown", buffered=False)
    assert answer.content_type.startswith("text/event-stream")
    chunks = list(answer.iter_encoded())
    assert len(chunks) == 4  # each event as soon as it is there
    events = Parser().feed(b"".join(chunks))
    assert [(event.type, event.last_event_id) for event in events] == [
        ("tick", "3"),
        ("tick", "2"),
        ("tick", "1"),
        ("done", "1"),
    ]
