"""Clients of Mercure as they come from their registries, unchanged: each publishes and subscribes at `sse-fast serve
--mercure`, and at Mercure's own hub where it was built."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, missing, program
from httpx_sse import EventSource, aconnect_sse
from mercure_hubs import KEY, NAMES, serving, token

HERE = Path(__file__).parent.parent
NODE, SDKS = HERE / "node", HERE / "mercure_sdks"
PHP = Path("/usr/share/php/Symfony/Component/Mercure/autoload.php")
BOOK, ANY_BOOK = "https://example.com/books/1", "https://example.com/books/{id}"
UPDATE = {
    "topics": [BOOK],
    "data": '{"@id": "/books/1",\n "état": "épuisé"}',
    "private": False,
    "id": "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb",
    "type": "épuisé",
    "retry": 1500,
}


@dataclass(frozen=True)
class SDK:
    """`command` and the work it is to do, before the hub, a token or key, and an update or its topics as JSON."""

    command: tuple[str, ...]
    needs: Path | None = None
    key: bool = False  # it makes its tokens itself
    private: bool = True  # it can mark an update so
    alternate: bool = True  # it can publish several topics
    retry: bool = True

    def words(self, hub: str, given: Any, **claims: list[str]) -> list[str]:
        if self.needs is not None and not self.needs.exists():
            missing(f"{self.needs} (scripts/test-setup)")
        interpreter, *rest = self.command
        found = sys.executable if interpreter == "python" else program(interpreter)
        return [found, *rest, hub, KEY if self.key else token(**claims), json.dumps(given)]


def node(client: str, package: str, **what: bool) -> SDK:
    return SDK(("node", str(NODE / "mercure-sdks.mjs"), client), NODE / "node_modules" / package, **what)


def script(name: str, work: str, **what: bool) -> SDK:
    return SDK(("python", str(SDKS / name), work), **what)


PUBLISHERS = {
    "symfony/mercure": SDK(("php", str(SDKS / "symfony.php"), "publish"), PHP),
    "npm mercure": node("mercure", "mercure", private=False),
    "pymercure": script("pymercure_sdk.py", "publish", private=False, retry=False),
    "mercure-publisher": script("mercure_publisher_sdk.py", "publish", key=True),
    "mercure-publisher, async": script("mercure_publisher_sdk.py", "publish-async", key=True),
    "flask-mercure-sse": script("flask_mercure_sdk.py", "publish", key=True, alternate=False),
}
SUBSCRIBERS = {
    "symfony/http-client": SDK(("php", str(SDKS / "symfony.php"), "subscribe"), PHP),
    "npm eventsource": node("eventsource", "eventsource"),
    "npm event-source-polyfill": node("event-source-polyfill", "event-source-polyfill"),
    "npm @microsoft/fetch-event-source": node("fetch-event-source", "@microsoft/fetch-event-source"),
    "pymercure": script("pymercure_sdk.py", "subscribe", private=False),
}


@pytest.fixture(scope="module", params=NAMES)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(request.param, tmp_path_factory.mktemp("hub")) as url:
        yield url


@asynccontextmanager
async def listening(hub: str, *topics: str, **claims: list[str]) -> AsyncIterator[EventSource]:
    headers = {"Authorization": f"Bearer {token(**claims)}"} if claims else {}
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as client,
        aconnect_sse(client, "GET", hub, params=[("topic", topic) for topic in topics], headers=headers) as source,
    ):
        source.response.raise_for_status()
        yield source


async def said(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    assert line, f"it ended with {await process.wait()}"
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.mark.parametrize("name", PUBLISHERS)
async def test_what_a_client_publishes_arrives_whole_by_its_own_id_or_the_hubs(name: str, hub: str) -> None:
    sdk = PUBLISHERS[name]
    update = UPDATE | {"private": sdk.private, "retry": UPDATE["retry"] if sdk.retry else None}
    if sdk.alternate:
        update["topics"] = ["https://example.com/users/kevin?of=books/1", BOOK]
    plain = {"topics": [BOOK], "data": "hi", "private": False, "id": None, "type": None, "retry": None}
    async with listening(hub, ANY_BOOK, subscribe=[ANY_BOOK]) as source:
        process = await asyncio.create_subprocess_exec(
            *sdk.words(hub, [update, plain], publish=["*"]), stdout=subprocess.PIPE, cwd=NODE
        )
        answers = [(await said(process))["id"] for _ in range(2)]
        events = source.aiter_sse()
        whole, simple = [await asyncio.wait_for(anext(events), PATIENCE) for _ in range(2)]
        assert await process.wait() == 0
    assert answers[0] == UPDATE["id"]
    assert (whole.id, whole.event, whole.data) == (UPDATE["id"], UPDATE["type"], UPDATE["data"])
    assert whole.retry == update["retry"] or not sdk.retry
    assert answers[1]
    assert (simple.id, simple.event, simple.data) == (answers[1], "message", "hi")


@pytest.mark.parametrize("name", SUBSCRIBERS)
async def test_a_client_is_handed_what_it_subscribes_to_and_may_see(name: str, hub: str) -> None:
    await is_handed_what_it_may_see(SUBSCRIBERS[name], hub)


async def test_so_is_the_client_of_go(hub: str, tmp_path: Path) -> None:
    if not os.environ.get("SSE_FAST_MERCURE_GO"):
        pytest.skip("SSE_FAST_MERCURE_GO is not set: where nothing of Go's library is built, this takes a minute")
    client = tmp_path / "mercure-go"
    build = [program("go"), "build", "-o", str(client), "."]
    await asyncio.to_thread(subprocess.run, build, cwd=SDKS / "go", check=True)
    await is_handed_what_it_may_see(SDK((str(client), "subscribe")), hub)


async def is_handed_what_it_may_see(sdk: SDK, hub: str) -> None:
    wanted = {"topics": [BOOK, ANY_BOOK] if sdk.private else [BOOK], "type": UPDATE["type"]}
    process = await asyncio.create_subprocess_exec(
        *sdk.words(hub, wanted, subscribe=[ANY_BOOK]), stdout=subprocess.PIPE, cwd=NODE
    )
    try:
        assert await said(process) == {"open": True}
        headers = {"Authorization": f"Bearer {token(publish=['*'])}"}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE) as client:
            for topic, private in (("https://example.com/authors/1", False), (BOOK, sdk.private), (BOOK, False)):
                form = {"topic": topic, "data": UPDATE["data"], "id": f"urn:{topic}:{private}", "type": UPDATE["type"]}
                form |= {"private": "on"} if private else {}
                (await client.post(hub, data=form)).raise_for_status()
        got = [await said(process) for _ in range(2)]
    finally:
        process.kill()
        await process.wait()
    whole = {"type": UPDATE["type"], "data": UPDATE["data"]}
    assert got == [whole | {"id": f"urn:{BOOK}:{sdk.private}"}, whole | {"id": f"urn:{BOOK}:False"}]


async def test_a_client_of_the_subscriptions_api_is_told_who_is_there(hub: str) -> None:
    topic = "rooms-1"
    async with listening(hub, topic):
        sdk = script("flask_mercure_sdk.py", "subscriptions", key=True)
        done = await asyncio.to_thread(
            subprocess.run, sdk.words(hub, {"topics": [topic]}), capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(one["type"], one["topic"], one["active"]) for one in answer["subscriptions"]] == [
        ("Subscription", topic, True)
    ]
    assert answer["lastEventID"]
