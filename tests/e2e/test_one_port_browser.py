"""A page in real browsers, its fetches and its EventSource: one kept-alive connection has them all, in turn."""

from pathlib import Path
from typing import Any

import h11
import pytest
from conftest import Edges
from tee import Heard, Tee

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP = """
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sse_fast import Hub

hub = Hub()


async def page(request):
    # Without an icon of its own it has the browser ask for one, beside the fetches.
    return HTMLResponse('<!doctype html><title>page</title><link rel="icon" href="data:,">')


async def stock(request):
    return JSONResponse({"stock": 7})


async def echo(request):
    return Response(await request.body())


async def counted(request):
    async def numbers():
        for number in range(1000):
            yield f"{number} "

    return StreamingResponse(numbers())


async def order(request):
    await hub.publish("orders", await request.json())
    return Response(status_code=204)


async def orders(request):
    return hub.response(request, ["orders"], history=10)


paths = {"/": page, "/stock": stock, "/echo": echo, "/counted": counted, "/order": order, "/orders": orders}
app = Starlette(routes=[Route(path, what, methods=["GET", "POST"]) for path, what in paths.items()])
"""
SCRIPT = """async (stream) => {
    const text = async (path, options) => await (await fetch(path, options)).text();
    const post = (path, body) => text(path, { method: "POST", body });
    const told = [await text("/stock"), (await post("/echo", "x".repeat(300000))).length];
    told.push((await text("/counted")).length, (await text("/nothing")).length);
    for (const number of [1, 2]) await post("/order", JSON.stringify(number));
    await post("/edge/publish/orders", "3");
    const source = new EventSource(stream);
    await new Promise((done) => {
        source.onmessage = ({ data }) => { told.push(data); if (data === "3") done(); };
    });
    window.source = source;
    return told;
}"""
BEFORE = b"/stock /echo /counted /nothing /order /order /edge/publish/orders".split()
STREAMS = {"the edge's": "/edge/sse/orders?history=10", "held": "/orders"}


def asked_on(heard: Heard) -> list[bytes]:
    """The targets of a connection's requests, in order."""
    targets: list[bytes] = []
    left = heard.up
    while left:
        http = h11.Connection(h11.SERVER)
        http.receive_data(left)
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, "a request is not whole"
            if isinstance(event, h11.Request):
                targets.append(event.target)
        left = http.trailing_data[0]
    return targets


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_one_connection_has_a_pages_fetches_and_then_its_stream(
    edge: Edges, tmp_path: Path, any_browser: Any, stream: str
) -> None:
    (tmp_path / "shop_page.py").write_text(APP)
    server = edge("--app", "shop_page:app")
    async with Tee(server.port) as tee:
        page = await any_browser.new_page()
        await page.goto(f"http://127.0.0.1:{tee.port}/")
        told = await page.evaluate(SCRIPT, stream)
        assert told == ['{"stock":7}', 300_000, 3890, len("Not Found"), "1", "2", "3"]
        asked = [each for heard in tee.heard if BEFORE[0] in (each := asked_on(heard))]
        (targets,) = asked
        assert targets[-len(BEFORE) - 1 :] == [*BEFORE, stream.encode()]
        transports = server.stats()["transports"]
        assert (transports["native"]["connections"], transports["asgi"]["connections"]) == (1, 0)
        await page.close()
