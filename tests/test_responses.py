"""EventSourceResponse: what is yielded arrives, whatever the content, the client and the server do meanwhile."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import fastapi.sse
import httpx_sse
import litestar.response.sse
import pytest
from pydantic import BaseModel
from starlette.background import BackgroundTask
from whatwg import Parser

from sse_fast import Event, EventSourceResponse, encode
from sse_fast.embed import responses
from sse_fast.embed.items import frame
from sse_fast.errors import EndReason, InvalidEvent
from sse_fast.testing import EventClient, NoEvent

PATIENCE = 30.0


class Wire:
    """A server's side of one request: `sent` is what the app sent; `gate` closed, its sends wait."""

    def __init__(self, method: str = "GET") -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": method, "path": "/stream", "headers": []}
        self.sent: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.gone = asyncio.Event()
        self.in_flight = 0
        self._changed = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.in_flight += 1
        assert self.in_flight == 1, "sends must not interleave"
        try:
            if not self.gate.is_set():
                self.waiting.set()
                await self.gate.wait()
            self.sent.append(message)
            self._changed.set()
        finally:
            self.in_flight -= 1

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.data) for event in Parser().feed(self.body)]

    @property
    def complete(self) -> bool:
        return self.sent[-1].get("more_body") is False

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def serve(self, response: EventSourceResponse) -> "asyncio.Task[None]":
        return asyncio.ensure_future(response(self.scope, self.receive, self.send))


async def served(content: Any, **options: Any) -> Wire:
    wire = Wire()
    async with asyncio.timeout(PATIENCE):
        await EventSourceResponse(content, **options)(wire.scope, wire.receive, wire.send)
    return wire


async def forever() -> AsyncIterator[str]:
    yield "first"
    await asyncio.Event().wait()


@dataclass
class Point:
    x: int


class Model(BaseModel):
    name: str


# ---- what may be yielded ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "sent"),
    [
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        (b"data: encoded\n\n", b"data: encoded\n\n"),
        (memoryview(b"data: view\n\n"), b"data: view\n\n"),
        (
            {"data": "x", "event": "e", "id": "7", "retry": 9, "comment": "c"},
            encode("x", event="e", id="7", retry=9, comment="c"),
        ),
        ({"data": {"nested": [1]}}, b'data: {"nested":[1]}\n\n'),
        ({"data": Model(name="m")}, b'data: {"name":"m"}\n\n'),
        ({"data": {1: "int keys"}}, b'data: {"1":"int keys"}\n\n'),
        ({"data": None, "comment": "only"}, b": only\n"),
        (Event("x", id="1"), b"data: x\nid: 1\n\n"),
        (Event(None), b"data: null\n\n"),
        (5, b"data: 5\n\n"),
        (None, b"data: null\n\n"),
        ([1, "a"], b'data: [1,"a"]\n\n'),
        ([Model(name="m")], b'data: [{"name":"m"}]\n\n'),
        (Point(3), b'data: {"x":3}\n\n'),
        (Model(name="m"), b'data: {"name":"m"}\n\n'),
        (fastapi.sse.ServerSentEvent(data="q", event="e"), b'event: e\ndata: "q"\n\n'),
        (fastapi.sse.ServerSentEvent(raw_data="q", id="1"), b"data: q\nid: 1\n\n"),
        (litestar.response.sse.ServerSentEventMessage(data="x", event="e"), b"event: e\ndata: x\n\n"),
        (httpx_sse.ServerSentEvent(event="e", data="x"), b"event: e\ndata: x\nid\n\n"),
    ],
    ids=repr,
)
async def test_each_kind_of_item_is_sent_as_the_readme_says(item: Any, sent: bytes) -> None:
    wire = await served([item])
    assert wire.body == sent.replace(b"id\n", b"id:\n")


BAD_ITEMS = [
    ({"data": 1, "user": "x"}, "'user' is none"),
    ({"a": 1}, "'a' is none"),
    ({}, "at least one"),
    ({"event": "two\nlines"}, "one line"),
    (object(), "JSON"),
    ({"data": "x", "id": 5}, "id must be str"),
    ({"data": "x", "retry": "5"}, "retry must be int"),
]


@pytest.mark.parametrize(("item", "words"), BAD_ITEMS, ids=repr)
def test_a_bad_item_is_an_invalid_event(item: Any, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        frame(item)


@pytest.mark.parametrize(("item", "words"), BAD_ITEMS, ids=repr)
async def test_a_bad_item_ends_the_stream_and_the_log_says_why(
    item: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def content() -> AsyncIterator[Any]:
        try:
            yield "good"
            yield item
        finally:
            closed.set()

    wire = await served(content())
    assert wire.events == [("message", "good"), ("error", '{"error":"internal"}')]
    assert closed.is_set()
    assert words in caplog.text


@pytest.mark.parametrize("content", ["text", b"bytes", {"a": 1}, 5, None, forever, object()], ids=repr)
def test_what_is_no_iterable_of_events_is_refused_at_once(content: Any) -> None:
    with pytest.raises(TypeError, match="iterable of events"):
        EventSourceResponse(content)


@pytest.mark.parametrize(
    "options",
    [
        {"ping": -1},
        {"ping": "15"},
        {"sep": "\r\n"},
        {"send_timeout": 0},
        {"shutdown_grace_period": -1},
        {"shutdown_event": 1},
    ],
    ids=repr,
)
def test_impossible_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        EventSourceResponse([], **options)


# ---- order, gathering, back-pressure ---------------------------------------------------------------------------------


async def test_everything_arrives_in_order_however_the_content_waits() -> None:
    async def content() -> AsyncIterator[int]:
        for number in range(5_000):
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 1_000 == 0:
                await asyncio.sleep(0.002)
            yield number

    wire = await served(content())
    assert [int(data) for _, data in wire.events] == list(range(5_000))
    assert wire.complete


async def test_events_that_are_ready_go_together_and_no_body_grows_beyond_bounds() -> None:
    wire = await served(AsyncList(["x" * 100] * 10_000))
    bodies = [message["body"] for message in wire.sent[1:]]
    assert len(wire.events) == 10_000
    assert len(bodies) < 500
    assert max(map(len, bodies)) < responses.FULL + 200


class AsyncList:
    """An async iterator that never waits, and has no aclose."""

    def __init__(self, items: list[Any]) -> None:
        self._items = iter(items)

    def __aiter__(self) -> "AsyncList":
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


async def test_a_content_that_never_waits_leaves_the_loop_to_others() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.ensure_future(others())
    await served(AsyncList(["x" * 100] * 10_000))
    running.cancel()
    assert turns > 20


async def test_an_event_is_out_before_the_content_waits_for_the_next() -> None:
    go_on = asyncio.Event()

    async def content() -> AsyncIterator[str]:
        for name in ("a", "b", "c"):
            yield name
        await go_on.wait()

    wire = Wire()
    running = wire.serve(EventSourceResponse(content()))
    await wire.until(lambda: [data for _, data in wire.events] == ["a", "b", "c"])
    go_on.set()
    await running


async def test_an_event_is_out_before_a_content_that_blocks_is_stepped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "QUICK", -1.0)  # every step counts as a long one
    wire = Wire()
    seen: list[int] = []

    async def content() -> AsyncIterator[str]:
        for name in ("a", "b", "c"):
            yield name
            seen.append(len(wire.events))

    await wire.serve(EventSourceResponse(content()))
    assert seen == [1, 2, 3]


async def test_a_client_that_takes_nothing_holds_the_content_up() -> None:
    yielded = 0

    async def content() -> AsyncIterator[str]:
        nonlocal yielded
        while yielded < 100_000:
            yielded += 1
            yield "x" * 100

    wire = Wire()
    wire.gate.clear()
    running = wire.serve(EventSourceResponse(content()))
    await wire.waiting.wait()
    wire.gate.set()
    await wire.until(lambda: len(wire.sent) > 3)
    wire.gate.clear()
    wire.waiting.clear()
    await wire.waiting.wait()
    before = yielded
    for _ in range(10):
        await asyncio.sleep(0)
    assert yielded == before < 100_000
    wire.gone.set()
    await running


async def burst_into(wire: Wire, waits: Callable[[], Any], timed_out: asyncio.Event) -> AsyncIterator[str]:
    """Yields, closes the gate, and waits: its events are sent while it waits, and that send waits too."""
    yield "0"
    wire.gate.clear()
    yield "1"
    yield "2"
    try:
        await waits()
    except TimeoutError:
        timed_out.set()
    yield "3"


async def test_a_timeout_inside_the_content_is_the_content_s_also_while_a_send_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses, "QUICK", 10.0)  # the burst is gathered, however slow the machine
    monkeypatch.setattr(responses, "LONGEST", 10.0)

    async def waits() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async def scoped() -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep_forever()

    for kind in (waits, scoped):
        wire, timed_out = Wire(), asyncio.Event()

        async def content(
            wire: Wire = wire, timed_out: asyncio.Event = timed_out, kind: Any = kind
        ) -> AsyncIterator[str]:
            yield "first"
            await asyncio.sleep(0)
            async for item in burst_into(wire, kind, timed_out):
                yield item

        running = wire.serve(EventSourceResponse(content()))
        await wire.waiting.wait()
        async with asyncio.timeout(PATIENCE):
            await timed_out.wait()
        assert [data for _, data in wire.events] == ["first"]
        wire.gate.set()
        await running
        assert [data for _, data in wire.events] == ["first", "0", "1", "2", "3"]
        assert wire.complete


async def test_a_disconnect_while_both_the_content_and_a_send_wait_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "QUICK", 10.0)
    wire, told = Wire(), list[str]()

    async def content() -> AsyncIterator[str]:
        try:
            async for item in burst_into(wire, asyncio.Event().wait, asyncio.Event()):
                yield item
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            told.append("closed")

    running = wire.serve(EventSourceResponse(content()))
    await wire.waiting.wait()
    wire.gone.set()
    await running
    assert told == ["cancelled", "closed"]
    assert wire.in_flight == 0


# ---- the end ---------------------------------------------------------------------------------------------------------


async def test_when_the_client_leaves_the_content_is_closed_in_its_own_task_and_the_background_runs() -> None:
    told: list[Any] = []
    waiting = asyncio.Event()  # a task group that is left where it yielded cannot be closed by anybody: anyio's rule
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def content() -> AsyncIterator[str]:
        token = variable.set("inside")
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(60), anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield "first"
                waiting.set()
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # an await in there works
            variable.reset(token)  # fails in any other context
            told.append(asyncio.current_task() is task)

    async def handler(message: Any) -> None:
        told.append(message["type"])

    wire = Wire()
    response = EventSourceResponse(
        content(), background=BackgroundTask(told.append, "background"), client_close_handler_callable=handler
    )
    running = wire.serve(response)
    await waiting.wait()
    await wire.until(lambda: bool(wire.events))
    wire.gone.set()
    await running
    assert told == ["http.disconnect", True, "background"]
    assert not running.cancelling()
    assert not wire.complete


async def test_a_send_that_raises_oserror_is_the_client_s_leaving() -> None:
    told: list[str] = []

    async def content() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            told.append("closed")

    async def handler(message: Any) -> None:
        told.append(message["type"])

    wire = Wire()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError
        wire.sent.append(message)

    response = EventSourceResponse(
        content(), background=BackgroundTask(told.append, "background"), client_close_handler_callable=handler
    )
    async with asyncio.timeout(PATIENCE):
        await response(wire.scope, wire.receive, send)
    assert sorted(told) == ["background", "closed", "http.disconnect"]
    assert told[-1] == "background"


async def test_a_failure_of_the_server_s_send_is_passed_on() -> None:
    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise RuntimeError("the server is broken")

    for content in (forever(), AsyncList(["x"])):
        wire = Wire()
        with pytest.raises(RuntimeError, match="the server is broken"):
            async with asyncio.timeout(PATIENCE):
                await EventSourceResponse(content)(wire.scope, wire.receive, send)


async def test_an_exception_of_the_content_leaks_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def content() -> AsyncIterator[str]:
        yield "good"
        raise ValueError("password=hunter2")

    ran: list[str] = []
    wire = await served(content(), background=BackgroundTask(ran.append, "background"))
    assert wire.events == [("message", "good"), ("error", '{"error":"internal"}')]
    assert b"hunter2" not in wire.body
    assert wire.complete
    assert ran == ["background"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


async def test_a_cancellation_from_outside_is_honoured() -> None:
    closed: list[str] = []

    async def content() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    wire = Wire()
    running = wire.serve(EventSourceResponse(content()))
    await wire.until(lambda: bool(wire.events))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed == ["closed"]
    assert not wire.complete


async def test_a_content_that_swallows_its_cancellation_is_still_ended() -> None:
    async def content() -> AsyncIterator[str]:
        while True:
            try:
                yield "x"
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    wire = Wire()
    running = wire.serve(EventSourceResponse(content()))
    await wire.until(lambda: bool(wire.events))
    wire.gone.set()
    async with asyncio.timeout(PATIENCE):
        await running


class Resource:
    """An async iterator that counts how often it was stepped and closed."""

    def __init__(self) -> None:
        self.steps = self.closes = 0

    def __aiter__(self) -> "Resource":
        return self

    async def __anext__(self) -> str:
        self.steps += 1
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def aclose(self) -> None:
        self.closes += 1


async def test_head_gets_the_head_and_the_content_is_closed_unstarted() -> None:
    resource, ran = Resource(), list[str]()
    wire = Wire("HEAD")
    async with asyncio.timeout(PATIENCE):
        await wire.serve(EventSourceResponse(resource, background=BackgroundTask(ran.append, "background")))
    assert (resource.steps, resource.closes) == (0, 1)
    assert wire.sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in wire.sent[0]["headers"]
    assert wire.body == b""
    assert wire.complete
    assert ran == ["background"]


async def test_a_content_is_closed_also_when_the_head_could_not_be_sent() -> None:
    async def send(message: Any) -> None:
        raise OSError

    resource, wire = Resource(), Wire()
    await EventSourceResponse(resource)(wire.scope, wire.receive, send)
    assert (resource.steps, resource.closes) == (0, 1)


async def test_closing_takes_no_longer_than_cleanup_timeout(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Resource):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    wire = Wire("HEAD")
    async with asyncio.timeout(PATIENCE):
        await wire.serve(EventSourceResponse(Stuck(), cleanup_timeout=0.01))
    assert "0.01 s" in caplog.text


async def test_who_takes_nothing_for_send_timeout_is_let_go_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    async def content() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.append("closed")

    wire = Wire()
    running = wire.serve(EventSourceResponse(content(), send_timeout=0.05))
    await wire.until(lambda: bool(wire.events))
    wire.gate.clear()
    async with asyncio.timeout(PATIENCE):
        await running
    assert closed == ["closed"]
    (record,) = caplog.records
    assert record.reason == EndReason.SLOW.value  # type: ignore[attr-defined]


async def test_who_is_slow_but_takes_something_stays() -> None:
    wire = Wire()
    running = wire.serve(EventSourceResponse(AsyncList(["x" * 1000] * 50), send_timeout=0.5))
    while not running.done():
        wire.gate.clear()
        wire.waiting.clear()
        await asyncio.wait((running, asyncio.ensure_future(wire.waiting.wait())), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.02)
        wire.gate.set()
    await running
    assert len(wire.events) == 50


# ---- heartbeats ------------------------------------------------------------------------------------------------------


async def test_a_silent_stream_gets_heartbeats() -> None:
    app = EventSourceResponse(forever(), ping=0.01)
    async with EventClient(app, lifespan=False) as client, client.stream("/") as stream:
        await stream.next()
        async with asyncio.timeout(PATIENCE):
            while len(stream.comments) < 2:
                with pytest.raises(NoEvent):
                    await stream.next(timeout=0.05)


async def test_a_heartbeat_is_what_its_factory_makes_and_ping_0_makes_none() -> None:
    sent = asyncio.Event()

    def beat() -> Event:
        sent.set()
        return Event("beat", event="ping")

    wire = Wire()
    running = wire.serve(EventSourceResponse(forever(), ping=0.01, ping_message_factory=beat))
    await wire.until(lambda: ("ping", "beat") in wire.events)
    wire.gone.set()
    await running

    sent.clear()
    wire = Wire()
    running = wire.serve(EventSourceResponse(forever(), ping=0, ping_message_factory=beat))
    await asyncio.sleep(0.05)
    wire.gone.set()
    await running
    assert not sent.is_set()


async def test_heartbeats_never_come_between_a_send_that_waits_and_its_end() -> None:
    wire = Wire()  # asserts that sends do not interleave

    async def content() -> AsyncIterator[str]:
        for number in range(30):
            yield str(number)
            await asyncio.sleep(0.002)

    running = wire.serve(EventSourceResponse(content(), ping=0.001))
    while not running.done():
        wire.gate.clear()
        await asyncio.sleep(0.003)
        wire.gate.set()
        await asyncio.sleep(0.001)
    await running
    assert [data for _, data in wire.events] == [str(number) for number in range(30)]


# ---- sync contents ---------------------------------------------------------------------------------------------------


async def test_a_sync_content_runs_in_threads_in_one_context_and_is_closed() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("request")
    seen: list[Any] = []

    def content() -> Iterator[str]:
        seen.append(threading.current_thread() is threading.main_thread())
        seen.append(variable.get())
        variable.set("content")
        try:
            yield "a"
            seen.append(variable.get())
            yield "b"
        finally:
            seen.append("closed")

    wire = await served(content())
    assert [data for _, data in wire.events] == ["a", "b"]
    assert seen == [False, "request", "content", "closed"]
    assert variable.get() == "request"


async def test_a_sync_content_that_blocks_is_closed_when_its_step_returns() -> None:
    blocks, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def content() -> Iterator[str]:
        try:
            yield "a"
            blocks.set()
            go_on.wait(PATIENCE)
            yield "b"
        finally:
            closed.set()

    wire = Wire()
    running = wire.serve(EventSourceResponse(content()))
    assert await asyncio.to_thread(blocks.wait, PATIENCE)
    wire.gone.set()
    async with asyncio.timeout(PATIENCE / 2):
        await running  # without waiting for the thread
    assert not closed.is_set()
    go_on.set()
    assert await asyncio.to_thread(closed.wait, PATIENCE)


# ---- beside the stream -----------------------------------------------------------------------------------------------


async def test_data_sender_callable_feeds_the_content_and_goes_with_it() -> None:
    writing, reading = anyio.create_memory_object_stream[Any](1)
    ended: list[str] = []

    async def feed() -> None:
        try:
            for number in range(3):
                await writing.send({"data": number})
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    wire = Wire()
    running = wire.serve(EventSourceResponse(reading, data_sender_callable=feed))
    await wire.until(lambda: [data for _, data in wire.events] == ["0", "1", "2"])
    wire.gone.set()
    await running
    assert ended == ["ended"]
    writing.close()


async def test_a_data_sender_callable_that_fails_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def feed() -> None:
        raise ValueError("secret")

    wire = await served(forever(), data_sender_callable=feed)
    assert wire.events[-1] == ("error", '{"error":"internal"}')
    assert "secret" in caplog.text


async def test_headers_can_be_set_and_have_defaults_against_buffering() -> None:
    response = EventSourceResponse([], headers={"Cache-Control": "no-store", "X-Mine": "1"}, status_code=201)
    response.set_cookie("a", "b")
    wire = Wire()
    await wire.serve(response)
    assert wire.sent[0]["status"] == 201
    headers = dict(wire.sent[0]["headers"])
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-mine"] == b"1"
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"set-cookie"].startswith(b"a=b")
    assert b"content-length" not in headers
