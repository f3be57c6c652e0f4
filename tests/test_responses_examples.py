"""The patterns of sse-starlette's own examples, each run with its EventSourceResponse and with ours: only the import
differs, and the clients see the same events.

Where the two differ on purpose, docs/coming-from/sse-starlette.md says so, and the last tests here hold us to it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sse_starlette
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask

import sse_fast
from sse_fast.testing import EventClient, EventStream

RESPONSES = [
    pytest.param(sse_starlette.EventSourceResponse, id="sse_starlette"),
    pytest.param(sse_fast.EventSourceResponse, id="sse_fast"),
]
both = pytest.mark.parametrize("response_class", RESPONSES)
ResponseClass = Callable[..., Any]


def app(answer: Callable[[Request], Any]) -> EventClient:
    app = FastAPI()

    async def endpoint(request: Request) -> Any:
        return answer(request)

    app.add_api_route("/events", endpoint, methods=["GET", "HEAD"], response_model=None)
    return EventClient(app)


def seen(stream: EventStream) -> list[tuple[str, str, str]]:
    return [(event.event, event.data, event.id) for event in stream.events]


@both
async def test_numbers_to_the_end(response_class: ResponseClass) -> None:
    async def numbers() -> AsyncIterator[Any]:
        for number in range(1, 6):
            await asyncio.sleep(0.001)
            yield {"data": f"Number: {number}"}
        yield "text"
        yield 7
        yield {"data": "several\nlines\r\nof text", "event": "multi", "id": "9", "retry": 1000, "comment": "c"}

    async with app(lambda request: response_class(numbers())) as client, client.stream("/events") as stream:
        await stream.rest()
        assert seen(stream) == [("message", f"Number: {number}", "") for number in range(1, 6)] + [
            ("message", "text", ""),
            ("message", "7", ""),
            ("multi", "several\nlines\nof text", "9"),
        ]
        assert stream.events[-1].retry == 1000
        assert stream.complete


@both
async def test_an_endless_stream_is_cancelled_when_the_client_leaves(response_class: ResponseClass) -> None:
    told: list[str] = []

    async def endless() -> AsyncIterator[Any]:
        count = 0
        try:
            while True:
                count += 1
                yield {"data": f"Event #{count}", "id": str(count)}
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def gone(message: Any) -> None:
        told.append(message["type"])

    def answer(request: Request) -> Any:
        return response_class(
            endless(), client_close_handler_callable=gone, background=BackgroundTask(told.append, "background")
        )

    async with app(answer) as client:
        async with client.stream("/events") as stream:
            assert [event.id for event in await stream.take(3)] == ["1", "2", "3"]
        assert told == ["http.disconnect", "cancelled", "background"]


class Broadcast:
    """An async iterator without aclose, over a queue of its own, which asks whether its client is still there."""

    def __init__(self, request: Request, queue: asyncio.Queue[Any]) -> None:
        self.request, self.queue = request, queue

    def __aiter__(self) -> "Broadcast":
        return self

    async def __anext__(self) -> Any:
        if await self.request.is_disconnected():
            raise StopAsyncIteration
        return await self.queue.get()


@both
async def test_a_queue_for_each_client_with_their_own_events(response_class: ResponseClass) -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        app(lambda request: response_class(Broadcast(request, queue))) as client,
        client.stream("/events") as stream,
    ):
        queue.put_nowait(sse_starlette.ServerSentEvent(data="hello", event="greeting", id="1"))
        queue.put_nowait(sse_starlette.JSONServerSentEvent({"n": 1}))
        queue.put_nowait(sse_starlette.ServerSentEvent(comment="nothing"))
        queue.put_nowait({"data": "last"})
        await stream.take(3)
        assert seen(stream) == [("greeting", "hello", "1"), ("message", '{"n":1}', "1"), ("message", "last", "1")]
        assert stream.comments == ["nothing"]


@both
async def test_a_ping_of_one_s_own(response_class: ResponseClass) -> None:
    async def silent() -> AsyncIterator[Any]:
        yield "first"
        await asyncio.sleep(0.1)
        yield "second"

    def ping() -> Any:
        return sse_starlette.ServerSentEvent(comment="invisible ping")

    async with (
        app(lambda request: response_class(silent(), ping=0.01, ping_message_factory=ping)) as client,
        client.stream("/events") as stream,
    ):
        await stream.rest()
        assert [event.data for event in stream.events] == ["first", "second"]
        assert set(stream.comments) == {"invisible ping"}


@both
async def test_errors_that_the_content_handles_itself(response_class: ResponseClass) -> None:
    async def content() -> AsyncIterator[Any]:
        for number in range(4):
            try:
                if number == 1:
                    raise ValueError("simulated")
                yield {"data": f"item {number}", "event": "success"}
            except ValueError as error:
                yield {"data": f"Error: {error}. Continuing", "event": "error"}

    async with app(lambda request: response_class(content(), ping=5)) as client, client.stream("/events") as stream:
        await stream.rest()
        assert [event.event for event in stream.events] == ["success", "error", "success", "success"]


@both
async def test_memory_channels_and_their_senders(response_class: ResponseClass) -> None:
    async def produce(channel: Any, name: str) -> None:
        async with channel:
            for number in range(5):
                await channel.send({"data": number, "id": f"{name}-{number}", "event": "produced"})

    def answer(request: Request) -> Any:
        sending, receiving = anyio.create_memory_object_stream[Any](2)
        return response_class(receiving, data_sender_callable=partial(produce, sending, "p"), ping=5)

    async with app(answer) as client, client.stream("/events") as stream:
        await stream.rest()
        assert seen(stream) == [("produced", str(number), f"p-{number}") for number in range(5)]


@both
async def test_a_frozen_client_is_let_go_after_send_timeout(response_class: ResponseClass) -> None:
    closed = asyncio.Event()

    async def content() -> AsyncIterator[Any]:
        try:
            while True:
                yield {"data": " " * 4096}
                await anyio.lowlevel.checkpoint()
        finally:
            closed.set()

    async with app(lambda request: response_class(content(), send_timeout=0.05)) as client:
        stream: Any = None
        try:
            async with client.stream("/events") as stream, asyncio.timeout(30):
                await closed.wait()
        except sse_starlette.sse.SendTimeoutError:
            assert response_class is sse_starlette.EventSourceResponse  # theirs raises it into the server
        assert not stream.complete


@both
async def test_head_is_answered_without_a_stream(response_class: ResponseClass) -> None:
    async def content() -> AsyncIterator[Any]:
        raise AssertionError("never started")
        yield

    async with app(lambda request: response_class(content(), headers={"X-Own": "1"})) as client:
        head = await client.http.head("/events")
        assert (head.status_code, head.headers["x-own"], head.content) == (200, "1", b"")
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_a_farewell_at_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    tell: list[Callable[[], None]] = []
    monkeypatch.setattr("sse_fast.base.shutdown.watch", tell.append)

    def answer(request: Request) -> Any:
        stopping = anyio.Event()

        async def content() -> AsyncIterator[Any]:
            count = 0
            while not stopping.is_set():
                count += 1
                yield {"data": f"tick {count}"}
                with anyio.move_on_after(60):
                    await stopping.wait()
            yield {"event": "shutdown", "data": "goodbye"}

        return sse_fast.EventSourceResponse(content(), shutdown_event=stopping, shutdown_grace_period=5.0)

    async with app(answer) as client, client.stream("/events") as stream:
        assert (await stream.next()).data == "tick 1"
        tell[0]()
        assert [event.event for event in await stream.rest()] == ["shutdown"]
        assert stream.complete


async def test_at_shutdown_a_stream_that_does_not_end_by_itself_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    tell: list[Callable[[], None]] = []
    monkeypatch.setattr("sse_fast.base.shutdown.watch", tell.append)
    closed = asyncio.Event()

    async def content() -> AsyncIterator[Any]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with (
        app(lambda request: sse_fast.EventSourceResponse(content(), shutdown_grace_period=0.01)) as client,
        client.stream("/events") as stream,
    ):
        await stream.next()
        tell[0]()
        assert await stream.rest() == []
        assert closed.is_set()
        assert not stream.complete


async def test_where_we_differ_data_that_is_no_text_is_json() -> None:
    content = [{"data": {"a": True}}, {"data": [1]}, True, None]
    async with (
        app(lambda request: sse_fast.EventSourceResponse(content)) as client,
        client.stream("/events") as stream,
    ):
        assert [event.data for event in await stream.rest()] == ['{"a":true}', "[1]", "true", "null"]


def test_where_we_differ_another_line_end_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out sep"):
        sse_fast.EventSourceResponse([], sep="\r\n")
    assert sse_fast.EventSourceResponse([], sep="\n").status_code == 200
