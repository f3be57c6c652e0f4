"""Publishing to typed channels: from an app, and from strangers by HTTP, however they send it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
from documentation import TEXT, run
from edge_client import EdgeClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route
from test_posts import Port, post

from sse_fast import EventParser, Hub, InvalidEvent, InvalidSchema, stream
from sse_fast.embed.hub import every_hub_is
from sse_fast.outbox.hub import HubTarget
from sse_fast.outbox.queue import Row
from sse_fast.outbox.target import Rejected
from sse_fast.schema import document_of
from sse_fast.testing import EventClient
from sse_fast.transports.life import Transport


class CommentAdded(BaseModel):
    comment_id: str
    text: str = ""


@dataclass
class CommentHidden:
    comment_id: str


class StockTaken(msgspec.Struct):
    left: int


Comments = stream("item:{item_id}", CommentAdded, CommentHidden)
Stock = stream("stock:{number}", StockTaken, number=int)
Audit = stream("audit", CommentHidden, StockTaken)
DOCUMENT = document_of([Comments, Stock, Audit])
SCHEMA = json.dumps(DOCUMENT)
GOOD = {"comment_id": "1", "text": "fine"}
TRANSPORTS = pytest.mark.parametrize("transport", Transport)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


@pytest.fixture
async def strict() -> AsyncIterator[Hub]:
    async with Hub(schema=[Comments, Stock, Audit]) as hub:
        yield hub


def kept(hub: Hub) -> list[tuple[tuple[bytes, ...], str, str]]:
    """Channels, type and data of what the log has."""
    found = []
    for record in hub.log.records():
        (event,) = EventParser().feed(record.frame)
        found.append((record.channels, event.event, event.data))
    return found


# ---- in an app -------------------------------------------------------------------------------------------------------


async def test_an_event_is_published_with_its_name_and_its_json(hub: Hub) -> None:
    await hub.publish(Comments(item_id="7"), CommentAdded(comment_id="1", text="fine"))
    await hub.publish(Stock(number=7), StockTaken(3), retry=500, key="k")
    await asyncio.to_thread(lambda: hub.publish_threadsafe(Comments(item_id="8"), CommentHidden("1")))
    await hub.publish(Comments(item_id="7"), CommentHidden("ü"))
    assert kept(hub) == [
        ((b"item:7",), "CommentAdded", '{"comment_id":"1","text":"fine"}'),
        ((b"stock:7",), "StockTaken", '{"left":3}'),
        ((b"item:8",), "CommentHidden", '{"comment_id":"1"}'),
        ((b"item:7",), "CommentHidden", '{"comment_id":"ü"}'),
    ]


async def test_an_event_of_several_typed_channels_is_one_event(hub: Hub) -> None:
    await hub.publish([Comments(item_id="7"), Audit()], CommentHidden("1"))
    channels: Any = [Comments(item_id="7"), "all"]
    await hub.publish(channels, CommentHidden("2"))
    assert kept(hub) == [
        ((b"item:7", b"audit"), "CommentHidden", '{"comment_id":"1"}'),
        ((b"item:7", b"all"), "CommentHidden", '{"comment_id":"2"}'),
    ]
    with pytest.raises(InvalidEvent, match="Audit carries CommentHidden, StockTaken, and this is of the class Comm"):
        await hub.publish([Comments(item_id="7"), Audit()], CommentAdded(comment_id="1"))


async def test_what_a_channel_does_not_carry_is_not_published(hub: Hub) -> None:
    channel: Any = Comments(item_id="7")
    with pytest.raises(InvalidEvent, match="this is of the class StockTaken"):
        await hub.publish(channel, StockTaken(1))
    with pytest.raises(InvalidEvent, match=r"CommentHidden: data\.comment_id is a number, not a string"):
        await hub.publish(channel, CommentHidden(7))  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="leave 'event' out"):
        await hub.publish(channel, CommentHidden("7"), event="CommentHidden")
    with pytest.raises(InvalidEvent, match=r"data\.comment_id"):
        hub.publish_threadsafe(channel, CommentHidden(7))  # type: ignore[arg-type]
    assert kept(hub) == []


async def test_a_stream_of_typed_channels_is_answered() -> None:
    hub = Hub()

    async def alone(request: Any) -> Any:
        return hub.response(request, Comments(item_id=request.path_params["id"]), history=5)

    async def listed(request: Any) -> Any:
        return hub.response(request, [Comments(item_id=request.path_params["id"]), "news"], history=5)

    app = Starlette(routes=[Route("/alone/{id}", alone), Route("/listed/{id}", listed)])
    await hub.publish(Comments(item_id="7"), CommentHidden("1"))
    await hub.publish("news", "hello")
    assert hub.listeners(Comments(item_id="7")) == 0
    async with EventClient(app) as client:
        async with client.stream("/alone/7") as stream:
            assert (await stream.next()).event == "$connected"
            assert (await stream.next()).json() == {"comment_id": "1"}
        async with client.stream("/listed/7") as stream:
            events = [(await stream.next()).event for _ in range(3)]
            assert events == ["$connected", "CommentHidden", "message"]
            assert hub.listeners(Comments(item_id="7")) == 1
            await hub.forget(Comments(item_id="7"))
            assert (await stream.next()).event == "$forgotten"
    await hub.close()


async def test_a_hub_with_a_schema_takes_on_its_channels_nothing_else(strict: Hub) -> None:
    await strict.publish("item:7", GOOD, event="CommentAdded")
    await strict.publish("item:7", CommentHidden("1"), event="CommentHidden")
    await strict.publish("item:7", '{ "comment_id":\n"1" }', event="CommentHidden")
    await strict.publish(Comments(item_id="7"), CommentHidden("1"))
    await strict.publish(["news", "item"], "anything")
    await strict.publish("item:7:more", b"anything")
    before = kept(strict)
    assert len(before) == 6
    with pytest.raises(InvalidEvent, match="Comments carries CommentAdded, CommentHidden, and not an event without"):
        await strict.publish("item:7", GOOD)
    with pytest.raises(InvalidEvent, match=r"CommentAdded: data\.comment_id is missing"):
        await strict.publish("item:7", {}, event="CommentAdded")
    with pytest.raises(InvalidEvent, match="Audit carries"):
        await strict.publish(["news", "item:7", "audit"], GOOD, event="CommentAdded")
    with pytest.raises(InvalidEvent, match="Stock: number is a whole number, not 'x'"):
        strict.publish_threadsafe("stock:x", {"left": 1}, event="StockTaken")
    assert kept(strict) == before


async def test_a_hub_is_given_streams_a_document_or_its_text() -> None:
    for given in ([Comments, Stock], DOCUMENT, SCHEMA):
        async with Hub(schema=given) as hub:
            with pytest.raises(InvalidEvent):
                await hub.publish("item:7", "text")
    with pytest.raises(InvalidSchema, match="there is no module 'nothing_of_this_name'"):
        Hub(schema="nothing_of_this_name")


async def test_under_a_server_the_schema_of_the_app_holds_where_the_server_has_none() -> None:
    async with Hub() as server:
        every_hub_is(server)
        try:
            hub = Hub(schema=[Comments])
            with pytest.raises(InvalidEvent):
                await hub.publish("item:7", "text")
            with pytest.raises(InvalidEvent):
                await server.publish("item:7", "text")
            Hub(schema=[Stock])  # the server has one by now
            await hub.publish("stock:1", "text")
        finally:
            every_hub_is(None)


async def test_an_outbox_publishes_to_a_hub_with_a_schema_what_fits(strict: Hub) -> None:
    target = HubTarget(strict, "marks")
    fits = Row(1, 1, "item:7", [], "CommentHidden", "k1", 18, '{"comment_id":"1"}', 0.0)
    await target.publish([fits], None)
    with pytest.raises(Rejected, match=r"data\.comment_id is missing"):
        await target.publish([fits._replace(data="{}", key="k2")], None)
    assert len(kept(strict)) == 1


def test_the_readme_defines_a_stream_as_it_says() -> None:
    names = run("Comments = stream(")
    assert names["Comments"](item_id="7").encode_event(names["CommentRemoved"](comment_id=1)) == (
        "CommentRemoved",
        b'{"comment_id":1}',
    )


# ---- by HTTP ---------------------------------------------------------------------------------------------------------


async def test_what_the_readme_sends_is_refused_as_it_says() -> None:
    sending = re.search(r"^curl -d '(.*)' 'localhost:8000(/publish/item/.*)'\n# (.*)$", TEXT, re.MULTILINE)
    assert sending is not None
    body, path, answer = sending.groups()
    document = json.dumps(document_of([run("Comments = stream(", hub=None)["Comments"]]))
    async with EdgeClient.opened(Transport.ASGI, schema=document) as client:
        refused = await sent(client, body, "application/x-www-form-urlencoded", path)
        assert refused.json() == json.loads(answer)


async def sent(client: EdgeClient, body: str, kind: str = "application/json", path: str = "/publish") -> httpx.Response:
    return await client.http.post(path, content=body, headers={"content-type": kind})


def one(**fields: Any) -> str:
    return json.dumps({"channel": "item:7", "event": "CommentAdded", "data": GOOD} | fields)


@TRANSPORTS
async def test_what_fits_is_published_however_it_comes(transport: Transport) -> None:
    async with EdgeClient.opened(transport, schema=SCHEMA) as client:
        answers = [
            await sent(client, one()),
            await sent(client, one(data=json.dumps(GOOD))),
            await sent(client, f"[{one()}, {one(channels=['item:8', 'news'], channel=None)}]"),
            await sent(client, f"{one()}\n{one()}\n", "application/x-ndjson"),
            await sent(client, json.dumps(GOOD), path="/publish/item/7?event=CommentAdded"),
            await sent(client, "anything", path="/publish/news"),
            await sent(client, "anything", path="/publish/item"),
            await sent(client, json.dumps({"channel": "item:7:8", "data": "anything"})),
        ]
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        assert client.edge.hub.published == 10


@TRANSPORTS
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (one(event="CommentGone"), "Comments carries CommentAdded, CommentHidden, and not the event 'CommentGone'"),
        (one(event=None), "Comments carries CommentAdded, CommentHidden, and not an event without a type"),
        (one(data={"comment_id": 7}), "CommentAdded: data.comment_id is a number, not a string"),
        (one(data={"text": ""}), "CommentAdded: data.comment_id is missing"),
        (one(data="text"), "CommentAdded: the data is not JSON"),
        (one(channel=None, channels=["news", "item:7"], data={}), "CommentAdded: data.comment_id is missing"),
        (f"[{one()},{one(data={})}]", "event 1 of the array: CommentAdded: data.comment_id is missing"),
        (f"{one()}\n\n{one(data={})}\n", "line 3: CommentAdded: data.comment_id is missing"),
        (one(channel="stock:x", event="StockTaken", data={"left": 1}), "Stock: number is a whole number, not 'x'"),
    ],
)
async def test_what_does_not_fit_is_400_and_its_event_and_field_are_named(
    transport: Transport, body: str, why: str
) -> None:
    kind = "application/x-ndjson" if "\n" in body else "application/json"
    async with EdgeClient.opened(transport, schema=SCHEMA) as client:
        answer = await sent(client, body, kind)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert why in answer.json()["detail"]
        assert client.edge.hub.published == 0  # of a batch nothing


async def test_a_large_batch_is_refused_for_its_last_event() -> None:
    lines = [one()] * 3000
    async with EdgeClient.opened(Transport.ASGI, schema=SCHEMA) as client:
        answer = await sent(client, "\n".join([*lines, one(data={})]), "application/x-ndjson")
        assert answer.json()["detail"].startswith("line 3001: CommentAdded: data.comment_id is missing")
        answer = await sent(client, f"[{','.join([*lines, one(data={})])}]")
        assert answer.json()["detail"].startswith("event 3000 of the array: CommentAdded")
        assert client.edge.hub.published == 0
        answer = await sent(client, "\n".join(lines), "application/x-ndjson")
        assert len(answer.json()["ids"]) == client.edge.hub.published == 3000


@TRANSPORTS
async def test_the_document_is_at_schema_json(transport: Transport) -> None:
    async with EdgeClient.opened(transport, schema=SCHEMA) as client:
        edge: Any = client.edge
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://localhost") as http:
            assert (await http.get("/schema.json")).json() == DOCUMENT
    async with EdgeClient.opened(transport) as client:
        edge = client.edge
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://localhost") as http:
            missing = await http.get("/schema.json")
            assert missing.status_code == 404
            assert "--schema" in missing.json()["detail"]


async def test_a_known_publisher_is_checked_on_typed_channels_and_goes_native_on_others() -> None:
    port = Port(schema=json.dumps(document_of([Comments, stream("{any}-x", CommentHidden, name="Any")])))
    try:
        heads = b"".join(post(name) for name in ("news", "news", "news", "item:7", "item/7", "a-x", "news"))
        answers = (await port.say(heads)).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"200"] * 3 + [b"400"] * 3 + [b"200"]
        assert all(b"and not an event without a type" in answer for answer in answers[3:6])
        assert port.posts.taken >= 2
        assert [channels for _, channels, _ in port.events] == [(b"news",)] * 4
    finally:
        await port.close()
