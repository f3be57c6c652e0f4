"""sse_fast.testing: a test reads a stream as a client would, and is told what came when the wait was in vain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sse_fast import EventSourceResponse, create_app
from sse_fast.testing import AppStillRunning, EventClient, NoEvent, SyncEventClient

closed: list[str] = []


async def two_then_silence() -> AsyncIterator[Any]:
    try:
        yield {"data": "one", "id": "1"}
        yield {"data": {"n": 2}, "event": "second"}
        await asyncio.Event().wait()
    finally:
        closed.append("closed")


async def stream(request: Request) -> Response:
    return EventSourceResponse(two_then_silence(), ping=0)


async def echo(request: Request) -> Response:
    seen = {
        "method": request.method,
        "query": request.query_params["q"],
        "body": (await request.body()).decode(),
        "last": request.headers.get("last-event-id"),
        "cookie": request.cookies.get("session"),
        "state": request.state.ready,
    }
    return EventSourceResponse([{"data": seen}])


async def login(request: Request) -> Response:
    response = JSONResponse({"ok": True})
    response.set_cookie("session", "s3")
    return response


async def fails(request: Request) -> Response:
    raise ValueError("the app is broken")


async def plain(request: Request) -> Response:
    return PlainTextResponse("not a stream")


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    closed.append("started")
    yield {"ready": "yes"}
    closed.append("stopped")


def make() -> Starlette:
    closed.clear()
    return Starlette(
        routes=[
            Route("/stream", stream),
            Route("/echo", echo, methods=["GET", "POST"]),
            Route("/login", login, methods=["POST"]),
            Route("/fails", fails),
            Route("/plain", plain),
        ],
        lifespan=lifespan,
    )


async def test_events_are_read_while_the_stream_is_open_and_leaving_the_block_disconnects() -> None:
    async with EventClient(make()) as client:
        async with client.stream("/stream") as stream:
            assert stream.status_code == 200
            first, second = await stream.take(2)
            assert (first.data, first.id, first.event) == ("one", "1", "message")
            assert (second.json(), second.event, second.id) == ({"n": 2}, "second", "1")
            assert closed == ["started"]
        assert closed == ["started", "closed"]
        assert not stream.complete
    assert closed == ["started", "closed", "stopped"]


async def test_a_wait_in_vain_says_what_was_received_and_the_stream_goes_on() -> None:
    async with EventClient(make()) as client, client.stream("/stream") as stream:
        await stream.next()
        await stream.next()
        with pytest.raises(NoEvent, match=r"within 0.01 s.*200, text/event-stream.*2 events.*data: one"):
            await stream.next(timeout=0.01)


async def test_a_stream_that_ended_and_a_response_that_is_none_say_so() -> None:
    async with EventClient(make()) as client:
        async with client.stream("/echo?q=1") as stream:
            await stream.next()
            with pytest.raises(NoEvent, match="ended"):
                await stream.next()
            assert stream.complete
        async with client.stream("/plain") as stream:
            with pytest.raises(NoEvent, match=r"text/plain.*not a stream"):
                await stream.next()


async def test_a_request_is_as_httpx_builds_it_and_cookies_go_along() -> None:
    async with EventClient(make()) as client:
        assert (await client.http.post("/login")).json() == {"ok": True}
        async with client.stream(
            "/echo", method="POST", params={"q": "ü"}, content="body", last_event_id="7"
        ) as stream:
            assert (await stream.next()).json() == {
                "method": "POST",
                "query": "ü",
                "body": "body",
                "last": "7",
                "cookie": "s3",
                "state": "yes",
            }


async def test_what_the_app_raises_the_test_gets() -> None:
    async with EventClient(make()) as client:
        with pytest.raises(ValueError, match="the app is broken"):
            async with client.stream("/fails") as stream:
                await stream.rest()


async def test_a_failing_test_is_not_hidden_by_the_app() -> None:
    async with EventClient(make()) as client:
        with pytest.raises(AssertionError, match="mine"):
            async with client.stream("/stream"):
                raise AssertionError("mine")
    assert "closed" in closed


async def test_an_app_that_does_not_end_when_its_client_has_left_is_found_out() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async with EventClient(app, lifespan=False, timeout=0.05) as client:
        with pytest.raises(AppStillRunning):
            async with client.stream("/"):
                pass


async def test_an_app_that_knows_no_lifespan_and_one_that_never_starts_its_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await asyncio.Event().wait()

    async with EventClient(app, timeout=0.05) as client:
        with pytest.raises(NoEvent, match="did not start"):
            async with client.stream("/"):
                pass


async def test_the_whole_edge_can_be_read(nothing_set: None) -> None:
    async with EventClient(create_app()) as client, client.stream("/sse/orders") as stream:
        assert (await stream.next()).event == "$connected"
        await client.http.post("/publish/orders", content="paid")
        assert (await stream.next()).data == "paid"


def test_plain_test_functions_can_read_too() -> None:
    with SyncEventClient(make()) as client:
        assert client.request("POST", "/login").json() == {"ok": True}
        with client.stream("/stream") as stream:
            assert stream.status_code == 200
            assert [event.data for event in stream.take(2)] == ["one", '{"n":2}']
            with pytest.raises(NoEvent):
                stream.next(timeout=0.01)
        assert "closed" in closed
        with client.stream("/echo", params={"q": "1"}) as stream:
            assert len(stream.rest()) == 1
    assert closed[-1] == "stopped"
