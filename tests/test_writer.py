"""SSEWriter: what is pushed arrives in order, and the pusher learns that nobody listens any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders

from sse_fast import ConnectionClosed, InvalidEvent, ResponseAlreadySent, SSEWriter, WriterResponse
from sse_fast.testing import EventClient

Block = Callable[[SSEWriter], Awaitable[None]]


def app(block: Block, **options: Any) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async with SSEWriter(scope, receive, send, **options) as sse:
            await block(sse)

    return answer


def reading(block: Block, **options: Any) -> Any:
    return EventClient(app(block, **options), lifespan=False)


async def test_what_is_sent_arrives_and_the_stream_ends_with_the_block() -> None:
    async def block(sse: SSEWriter) -> None:
        await sse.send("text", event="e", id="1", retry=50)
        await sse.comment("skipped")
        await sse.send({"n": 1})

    async with reading(block, status_code=203, headers={"x-mine": "1"}) as client, client.stream("/") as stream:
        assert stream.status_code == 203
        assert stream.headers["x-mine"] == "1"
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        first, second = await stream.rest()
        assert (first.event, first.data, first.id, first.retry) == ("e", "text", "1", 50)
        assert second.json() == {"n": 1}
        assert stream.comments == ["skipped"]
        assert stream.complete


async def test_the_stream_is_open_before_anything_is_sent() -> None:
    async def block(sse: SSEWriter) -> None:
        await asyncio.Event().wait()

    async with reading(block) as client, client.stream("/") as stream:
        assert stream.status_code == 200


async def test_when_the_client_leaves_the_waiting_block_is_cancelled_and_ends_quietly() -> None:
    told: list[str] = []

    async def block(sse: SSEWriter) -> None:
        try:
            await sse.send("first")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            with pytest.raises(ConnectionClosed):
                await sse.send("too late")
            assert sse.closed
            raise

    async with reading(block) as client:
        async with client.stream("/") as stream:
            await stream.next()
        assert told == ["cancelled"]


async def test_a_task_beside_that_sends_gets_connection_closed() -> None:
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def block(sse: SSEWriter) -> None:
        async def beside() -> None:
            try:
                while True:
                    await sse.send("x" * 100)
                    await asyncio.sleep(0)
            except ConnectionClosed as error:
                ended.set_result(error)

        pushing = asyncio.ensure_future(beside())
        await asyncio.wait((pushing,))

    async with reading(block) as client:
        async with client.stream("/") as stream:
            await stream.take(3)
        async with asyncio.timeout(30):
            assert isinstance(await ended, ConnectionClosed)


async def test_a_send_that_raises_oserror_is_connection_closed_and_the_block_ends_quietly() -> None:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/"}
    async with SSEWriter(scope, receive, send) as sse:
        with pytest.raises(ConnectionClosed):
            await sse.send("x")
        await sse.send("y")
        raise AssertionError("not reached")
    assert len(messages) == 2


async def test_the_head_is_sent_once_and_too_late_is_said() -> None:
    async def block(sse: SSEWriter) -> None:
        with pytest.raises(ResponseAlreadySent, match="status"):
            sse.status_code = 404
        with pytest.raises(ResponseAlreadySent, match="header"):
            sse.set_header("x-late", "1")
        with pytest.raises(ResponseAlreadySent, match="once"):
            async with sse:
                pass
        await sse.send("done")

    async with reading(block) as client, client.stream("/") as stream:
        assert (await stream.next()).data == "done"


async def test_before_the_head_is_sent_it_can_be_changed() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        sse = SSEWriter(scope, receive, send)
        sse.status_code = 202
        sse.set_header("cache-control", "no-store")
        with pytest.raises(RuntimeError, match="async with"):
            await sse.send("too early")
        async with sse:
            pass
        with pytest.raises(ConnectionClosed):
            await sse.send("too late")

    async with EventClient(answer, lifespan=False) as client, client.stream("/") as stream:
        assert stream.status_code == 202
        assert stream.headers["cache-control"] == "no-store"
        assert await stream.rest() == []


async def test_an_invalid_event_is_refused_and_the_stream_goes_on() -> None:
    async def block(sse: SSEWriter) -> None:
        with pytest.raises(InvalidEvent):
            await sse.send("x", event="two\nlines")
        await sse.send("good")

    async with reading(block) as client, client.stream("/") as stream:
        assert [event.data for event in await stream.rest()] == ["good"]


async def test_an_exception_of_the_block_is_passed_on_and_leaks_nothing() -> None:
    async def block(sse: SSEWriter) -> None:
        await sse.send("good")
        raise ValueError("secret")

    async with reading(block) as client:
        with pytest.raises(ValueError, match="secret"):
            async with client.stream("/") as stream:
                assert [(event.event, event.data) for event in await stream.take(2)] == [
                    ("message", "good"),
                    ("error", '{"error":"internal"}'),
                ]
        assert "secret" not in stream.text


async def test_a_slow_client_holds_the_sender_up_and_is_let_go_after_send_timeout() -> None:
    sent = 0
    held_up = asyncio.Event()

    async def block(sse: SSEWriter) -> None:
        nonlocal sent
        try:
            while True:
                await sse.send("x" * 1000)
                sent += 1
        finally:
            held_up.set()

    async with reading(block, send_timeout=0.05) as client, client.stream("/") as stream:
        async with asyncio.timeout(30):
            await held_up.wait()
        assert 50 < sent < 100
        assert len(await stream.rest()) >= sent
        assert not stream.complete


async def test_many_tasks_send_whole_events_in_the_order_of_their_calls() -> None:
    async def block(sse: SSEWriter) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(sse.send(number))

    async with reading(block) as client, client.stream("/") as stream:
        assert [event.json() for event in await stream.rest()] == list(range(50))


async def test_a_silent_writer_sends_heartbeats() -> None:
    async def block(sse: SSEWriter) -> None:
        await asyncio.sleep(0.1)
        await sse.send("after")

    async with reading(block, ping=0.01) as client, client.stream("/") as stream:
        await stream.next()
        assert stream.comments


async def test_head_gets_the_head_and_no_events() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async with SSEWriter({"type": "http", "method": "HEAD", "path": "/"}, receive, send) as sse:
        await sse.send("nobody")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b""


async def test_a_cancellation_from_outside_is_honoured() -> None:
    async def block(sse: SSEWriter) -> None:
        await sse.send("first")
        await asyncio.Event().wait()

    started = asyncio.Event()

    async def send(message: Any) -> None:
        started.set()

    async def receive() -> Any:
        await asyncio.Event().wait()

    running = asyncio.ensure_future(app(block)({"type": "http", "method": "GET", "path": "/"}, receive, send))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# As a handler's answer


async def test_a_response_s_body_is_called_with_the_open_writer_and_background_runs_after_it() -> None:
    steps: list[str] = []

    async def body(sse: SSEWriter) -> None:
        with pytest.raises(ResponseAlreadySent):
            sse.status_code = 404
        await sse.send({"n": 1})
        steps.append("body")

    headers = MutableHeaders({"Cache-Control": "no-store"})
    headers.append("set-cookie", "a=1")
    headers.append("set-cookie", "b=2")
    response = WriterResponse(body, 203, headers, BackgroundTask(steps.append, "background"))
    async with EventClient(response, lifespan=False) as client, client.stream("/") as stream:
        assert stream.status_code == 203
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert [event.json() for event in await stream.rest()] == [{"n": 1}]
        assert stream.complete
    assert steps == ["body", "background"]


async def test_a_response_s_body_that_raises_is_logged_and_the_stream_ends(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def body(sse: SSEWriter) -> None:
        raise ValueError("secret")

    response = WriterResponse(body, background=BackgroundTask(done.append, "background"))
    async with EventClient(response, lifespan=False) as client, client.stream("/") as stream:
        assert [(event.event, event.data) for event in await stream.rest()] == [("error", '{"error":"internal"}')]
        assert stream.complete
    assert "ValueError: secret" in caplog.text
    assert done == ["background"]


async def test_a_response_s_body_is_cancelled_when_the_client_leaves() -> None:
    done: list[str] = []

    async def body(sse: SSEWriter) -> None:
        try:
            await sse.send("first")
            await asyncio.Event().wait()
        finally:
            done.append("cancelled")

    response = WriterResponse(body, background=BackgroundTask(done.append, "background"))
    async with EventClient(response, lifespan=False) as client, client.stream("/") as stream:
        await stream.next()
    assert done == ["cancelled", "background"]


async def test_head_is_answered_without_calling_the_body() -> None:
    sent: list[Any] = []

    async def body(sse: SSEWriter) -> None:
        raise AssertionError("not reached")

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    await WriterResponse(body, 203)({"type": "http", "method": "HEAD", "path": "/"}, receive, send)
    assert [(message["type"], message.get("status")) for message in sent] == [
        ("http.response.start", 203),
        ("http.response.body", None),
    ]


async def test_what_fails_in_the_server_s_own_send_is_the_server_s() -> None:
    async def body(sse: SSEWriter) -> None:
        await sse.send("x")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise RuntimeError("of the server")

    async def receive() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="of the server"):
        await WriterResponse(body)({"type": "http", "method": "GET", "path": "/"}, receive, send)


async def test_what_is_no_body_is_said_before_the_response_begins() -> None:
    async def generator(sse: SSEWriter) -> Any:
        yield "x"

    async def body(sse: SSEWriter) -> None:
        pass

    for wrong in (generator, body(None), ["x"]):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="body is an async function that is given an SSEWriter"):
            WriterResponse(wrong)  # type: ignore[arg-type]
    for options in ({"ping": -1}, {"send_timeout": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            WriterResponse(body, **options)  # type: ignore[arg-type]
