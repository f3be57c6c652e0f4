"""An edge in front of an edge: the same events under the same ids, whichever of the two a client comes back to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
from conftest import EdgeProcess, Edges
from edge_client import EdgeClient
from support import until

from sse_fast import EventParser, ReceivedEvent
from sse_fast.transports.life import Transport


@asynccontextmanager
async def edge_at(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with EdgeClient.opened(Transport.NATIVE, **settings) as client:
        assert client.edge.front is not None
        url = f"http://127.0.0.1:{client.edge.front.port}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as asked:
            yield asked


@asynccontextmanager
async def before(inner: httpx.AsyncClient | EdgeProcess, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    url = inner.url if isinstance(inner, EdgeProcess) else str(inner.base_url)
    async with edge_at(backplane=url, **settings) as outer:
        yield outer


async def publish(client: httpx.AsyncClient, channel: str, data: Any, **fields: Any) -> str:
    answer = await client.post("/publish", json={"channel": channel, "data": data, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def listened(client: httpx.AsyncClient, query: str, last: str, cursor: str | None = None) -> list[ReceivedEvent]:
    """All that comes behind the cursor, up to the event with that data; without `$connected`."""
    headers = {"Last-Event-ID": cursor} if cursor is not None else {}
    found: list[ReceivedEvent] = []
    parser = EventParser()
    async with client.stream("GET", f"/sse?{query}", headers=headers) as response:
        async for piece in response.aiter_bytes():
            for event in parser.feed(piece):
                if event.event != "$connected":
                    found.append(event)
                if event.data == last:
                    return found
    raise AssertionError(found)


async def test_who_comes_back_to_either_of_the_two_with_the_same_id_gets_the_same() -> None:
    async with edge_at() as inner:
        ids = [await publish(inner, "news", f"{number}\nline") for number in range(3)]
        async with before(inner) as outer:
            ids.append(await publish(outer, "news", "named", event="price", retry=70))
            several = {"channels": ["news", "others"], "data": {"n": 1.50}}
            ids.append((await inner.post("/publish", json=several)).json()["id"])
            ids.append(await publish(outer, "news", "the end"))
            assert ids == sorted(ids, key=lambda id: int(id.partition("-")[2]))
            for cursor in ("earliest", *ids[:-1]):
                for query in ("channel=news", "pattern=**", "channel=news&channel=others"):
                    here, there = [await listened(each, query, "the end", cursor) for each in (outer, inner)]
                    assert here == there
                    assert [event.id for event in here] == ids[0 if cursor == "earliest" else ids.index(cursor) + 1 :]


async def test_positions_that_the_inner_one_has_for_itself_are_no_gap() -> None:
    async with EdgeClient.opened(Transport.NATIVE) as client:
        assert client.edge.front is not None
        url, hub = f"http://127.0.0.1:{client.edge.front.port}", client.edge.hub
        async with httpx.AsyncClient(base_url=url) as inner, before(inner) as outer:
            await publish(inner, "news", "1")
            listening = asyncio.create_task(listened(outer, "channel=news", "the end", "earliest"))
            for data in ("2", "the end"):
                await hub.append([(b"$own", b"data: nobody's\n\n")])
                await publish(outer, "news", data)
            assert [event.data for event in await listening] == ["1", "2", "the end"]


async def test_a_publisher_that_comes_again_with_its_key_has_published_once_through_both() -> None:
    async with edge_at() as inner, before(inner) as outer:
        first = await outer.post("/publish/news", content="1", headers={"Idempotency-Key": "a"})
        again = await inner.post("/publish/news", content="1", headers={"Idempotency-Key": "a"})
        assert first.json() == again.json()
        assert (await outer.post("/publish/news", content="2", headers={"Idempotency-Key": "a"})).status_code == 422
        lines = b'{"channel":"news","data":"3","key":"c"}\n{"channel":"news","data":"4","key":"d"}'
        for repeated in (0, 2):
            answer = await outer.post("/publish", content=lines, headers={"Content-Type": "application/x-ndjson"})
            assert answer.json().get("repeated", 0) == repeated
        await publish(outer, "news", "the end")
        assert [event.data for event in await listened(outer, "channel=news", "the end", "earliest")] == [
            "1", "3", "4", "the end"
        ]  # fmt: skip


async def test_a_gap_that_is_published_to_a_channel_at_either_of_the_two_is_told_to_its_listeners_alone() -> None:
    async with edge_at() as inner, before(inner) as outer:
        first = await publish(inner, "news", "1")
        for each in (inner, outer):
            await publish(each, "relayed", {"after": f"{first[:-1]}1", "until": first}, event="$gap")
            await publish(each, "relayed", {}, event="$gap")
        for channel in ("news", "relayed"):
            await publish(inner, channel, "the end")
        for query in ("channel=news", "channel=relayed", "pattern=**"):
            for cursor in ("earliest", first):
                here, there = [await listened(each, query, "the end", cursor) for each in (outer, inner)]
                assert here == there
                assert len([event for event in here if event.event == "$gap"]) == (0 if query == "channel=news" else 4)


async def test_a_limit_of_the_inner_one_is_told_to_whom_it_is_for_and_is_no_trouble_of_all() -> None:
    async with edge_at(rate_publish_channel="1/h,burst=1") as inner, before(inner) as outer:
        assert [(await outer.post("/publish/noisy", content="x")).status_code for _ in range(2)] == [200, 429]
        limited = await outer.post("/publish/noisy", content="x")
        assert int(limited.headers["retry-after"]) > 1
        await publish(outer, "others", "x")


async def test_what_the_inner_one_refuses_is_refused_in_its_words() -> None:
    async with edge_at(max_event_size=1024) as inner, before(inner) as outer:
        answer = await outer.post("/publish/news", content="x" * 2000)
        assert answer.status_code == 413
        assert "at most 1024 are allowed" in answer.json()["detail"]
    key = "0123456789abcdef"
    async with edge_at(publish_key=key) as inner, before(inner) as outer:
        answer = await outer.post("/publish/news", content="x")
        assert answer.status_code == 503
        async with edge_at(backplane=str(inner.base_url).replace("//", f"//{key}@")) as trusted:
            await publish(trusted, "news", "x")


async def test_what_a_channel_forgets_at_either_of_the_two_is_forgotten_at_both(edge: Edges) -> None:
    secret = "a secret for these tests, thirty-two bytes at least"
    grants = {"subscribe": ["**"], "publish": ["**"], "operations": True}
    key = jwt.encode({"exp": 2**32, "sse": grants}, secret, algorithm="HS256")
    inner = edge("--token-secret", secret)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=inner.url, headers=headers) as direct,
        EdgeClient.opened(Transport.NATIVE, backplane=inner.url.replace("//", f"//{key}@")) as client,
    ):
        hub = client.edge.hub
        assert client.edge.front is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{client.edge.front.port}") as outer:
            for forget in (lambda: direct.delete("/channels/news"), lambda: hub.forget("news")):
                await publish(direct, "news", "secret")
                assert (await listened(outer, "channel=news", "secret", "earliest"))[-1].data == "secret"
                await forget()
                await publish(direct, "news", "the end")
                await listened(outer, "channel=news", "the end", "earliest")  # so it has come
                for each in (outer, direct):
                    events = await listened(each, "channel=news", "the end", "earliest")
                    assert [(event.event, event.data) for event in events] == [
                        ("$forgotten", '{"channel":"news"}'),
                        ("message", "the end"),
                    ]


async def test_an_inner_edge_that_is_killed_and_goes_on_over_its_file_costs_the_outer_ones_clients_nothing(
    edge: Edges, tmp_path: Path
) -> None:
    inner = edge("--log-file", str(tmp_path / "log"))
    inner.publish("news", "1")
    async with before(inner) as outer:
        listening = asyncio.create_task(listened(outer, "channel=news", "the end", "earliest"))
        await publish(outer, "news", "2")
        await asyncio.to_thread(inner.kill)
        assert (await outer.post("/publish/news", content="lost")).status_code == 503
        await asyncio.to_thread(inner.start)
        await asyncio.to_thread(inner.publish, "news", "3")
        await until(lambda: _publishes(outer, "the end"))
        events = await listening
        assert [event.data for event in events] == ["1", "2", "3", "the end"]
        async with httpx.AsyncClient(base_url=inner.url) as direct:
            for cursor in [event.id for event in events[:-1]]:
                here, there = [await listened(each, "channel=news", "the end", cursor) for each in (outer, direct)]
                assert here == there


async def _publishes(client: httpx.AsyncClient, data: str) -> bool:
    return (await client.post("/publish/news", content=data)).status_code == 200


async def test_a_new_log_of_the_inner_one_is_told_as_a_gap(edge: Edges) -> None:
    inner = edge()
    inner.publish("news", "1")
    async with before(inner) as outer:
        listening = asyncio.create_task(listened(outer, "channel=news", "the end", "earliest"))
        await publish(outer, "news", "2")
        await asyncio.to_thread(inner.kill)
        inner.noise_expected = True
        await asyncio.to_thread(inner.start)
        await until(lambda: _publishes(outer, "the end"))
        events = await listening
        assert [event.data for event in events if event.event != "$gap"] == ["1", "2", "the end"]
        assert [event.event for event in events][2] == "$gap"
