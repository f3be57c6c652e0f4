"""The hub's examples in README.md and docs/ do what they say."""

import pytest
from documentation import run
from starlette.applications import Starlette
from starlette.routing import Route

from sse_fast.testing import EventClient


async def test_the_hub() -> None:
    app = run("def packed(number")["app"]
    async with EventClient(app) as client:
        assert (await client.http.post("/orders/7/paid")).is_success
        async with client.stream("/orders/7/events") as stream:
            assert (await client.http.post("/orders/7/packed")).is_success
            assert [event.json() for event in (await stream.take(3))[1:]] == [{"state": "paid"}, {"state": "packed"}]


async def test_the_hub_of_the_readme() -> None:
    app = run("async def news(request")["app"]
    async with EventClient(app) as client, client.stream("/news") as stream:
        id = (await client.http.post("/news?text=hello")).json()
        event = (await stream.take(2))[1]
        assert (event.json(), event.id) == ({"text": "hello"}, id)


async def test_the_filters() -> None:
    hub = run("def packed(number")["hub"]
    app = Starlette(routes=[Route("/", run("def as_row", hub=hub)["rows"])])
    async with hub, EventClient(app) as client, client.stream("/") as stream:
        await hub.publish("orders", "x", event="internal")
        id = await hub.publish("orders", "7")
        event = (await stream.take(2))[1]
        assert (event.data, event.id) == ("<tr><td>7</td></tr>", str(id))


@pytest.mark.usefixtures("nothing_set")
async def test_the_whole_edge() -> None:
    names = run("edge = create_app()")
    async with EventClient(names["app"]) as client:
        async with client.stream("/edge/sse/orders:7") as stream:
            assert (await client.http.post("/orders/7/paid")).is_success
            assert (await stream.take(2))[1].json() == {"state": "paid"}
        await names["edge"].close()
