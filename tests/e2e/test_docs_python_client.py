"""The examples of "In Python" in docs/ do what it says."""

import asyncio
from typing import Any

import httpx
import pytest
from conftest import Edges
from documentation import run

from sse_fast.client import AsyncClient, Client


def test_the_blocking_client(edge: Edges, capsys: pytest.CaptureFixture[str]) -> None:
    server = edge()
    names = run("def follow(edge: Client")
    with Client(server.url) as client:
        names["pay"](client, 7)

        def stop(*said: Any) -> None:
            print(*said)
            if said[-1] == "b":
                raise EOFError

        names["print"] = stop
        with pytest.raises(EOFError):
            names["follow"](client, "earliest")
        gone = server.publish("news", "gone with the log")
        server.kill()
        server.start()
        server.publish("news", "b")
        with pytest.raises(EOFError):
            names["follow"](client, gone)
    paid, a, b, missed, again = capsys.readouterr().out.splitlines()
    assert paid.endswith("{'state': 'paid'}")
    assert [line.split(" ", 1)[1] for line in (a, b, again)] == ["news a", "news b", "news b"]
    assert missed.startswith(f"missed {gone} ")


async def test_the_client_on_a_loop(edge: Edges) -> None:
    server = edge()
    names = run("async def next_order")
    async with AsyncClient(server.url, token=names["fresh_token"]) as client:
        names["edge"] = client
        waiting = asyncio.create_task(names["next_order"](7))
        await asyncio.to_thread(server.wait_connections, 1)
        app = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as user:
            ids = [(await user.post("/orders/7/paid")).json() for _ in range(2)]
        assert ids[0] == ids[1], "the key stands for one event"
        assert await waiting == {"state": "paid"}
