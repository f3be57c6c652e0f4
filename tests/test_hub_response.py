"""The hub in somebody's app as laws, in process: its responses, filters, presence, threads, and how streams end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import litestar
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from support import no_garbage_of, until
from whatwg import Parser

from sse_fast import EndReason, Event, Hub, HubClosed, HubResponse, InvalidEvent, Settings, StreamInfo, create_app
from sse_fast.event_rules import MAX_ID_BYTES
from sse_fast.protocol.decision import STREAM_HEADERS
from sse_fast.testing import EventClient, EventStream

JSON = {"accept": "application/json"}


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(log_size=256 * 1024, retry=1000) as hub:
        yield hub


def app_of(hub: Hub, **options: Any) -> Starlette:
    """An app with one route, GET and POST /: the channels are those of ?on=a,b; the rest is the response's options."""

    async def stream(request: Request) -> Response:
        return hub.response(request, request.query_params.get("on", "a").split(","), **options)

    return Starlette(routes=[Route("/", stream, methods=["GET", "POST"])])


async def told(stream: EventStream, count: int) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in await stream.take(count)]


async def test_a_handler_of_litestar_that_says_what_it_returns_answers_with_a_stream(hub: Hub) -> None:
    @litestar.get("/")
    async def stream(request: litestar.Request[Any, Any, Any]) -> HubResponse:
        return hub.response(request, ["a"], history=1)

    await hub.publish("a", "x")
    async with EventClient(litestar.Litestar([stream])) as client, client.stream("/") as opened:
        assert [event.event for event in await opened.take(2)] == ["$connected", "message"]


CONNECTED = ("$connected", '{"resume":"live"}')


async def test_a_response_says_in_envelopes_where_and_when_events_were_published_if_the_app_asks_for_it(
    hub: Hub,
) -> None:
    """The client can't: what a stream has is the app's affair."""
    await hub.publish(["b", "other", "a"], {"n": 1}, event="e")
    async with EventClient(app_of(hub, envelope=True, history=1)) as client, client.stream("/?on=a,b") as opened:
        connected, event = await opened.take(2)
        assert connected.json() == {"resume": "live", "envelope": "json"}
        inside = event.json()
        time = datetime.fromisoformat(inside.pop("time"))
        assert inside == {"channel": "b", "channels": ["b", "a"], "event": "e", "data": '{"n":1}'}
        assert abs(datetime.now(UTC) - time) < timedelta(minutes=10)
    async with EventClient(app_of(hub, history=1)) as client, client.stream("/?on=a&envelope=json") as opened:
        assert (await told(opened, 2))[1] == ("e", '{"n":1}')


@pytest.mark.parametrize("name", ["filter", "transform"])
async def test_a_response_in_envelopes_takes_no_filter_which_would_see_something_else_than_the_event(
    hub: Hub, name: str
) -> None:
    given: dict[str, Any] = {name: lambda event: event}
    with pytest.raises(TypeError, match="envelope=True goes with neither filter nor transform"):
        hub.response({"type": "http", "headers": []}, ["a"], envelope=True, **given)


async def test_one_event_of_several_channels_reaches_a_stream_of_several_of_them_once(hub: Hub) -> None:
    async with EventClient(app_of(hub)) as client, client.stream("/?on=a,b") as opened:
        assert await told(opened, 1) == [CONNECTED]
        id = await hub.publish(["a", "b"], "both")
        await asyncio.wrap_future(await asyncio.to_thread(hub.publish_threadsafe, ("b", "a"), "again"))
        await hub.publish("a", "end")
        events = await opened.take(3)
        assert [event.data for event in events] == ["both", "again", "end"]
        assert events[0].id == str(id)


class Stubborn:
    """The server's end of a connection, held in the test: it says when the client goes, and what a send does."""

    def __init__(self, response: HubResponse, send: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._send = send
        self._left = asyncio.Event()
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "client": ("::1", 9)}
        self.task = asyncio.create_task(response(scope, self._receive, self.send))

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self._send is not None:
            await self._send(message)

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    async def leave(self) -> None:
        self._left.set()
        await self.task


async def nothing(message: Any) -> None:
    """A send that takes everything."""


def a_scope() -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}


# The response


async def test_what_is_published_is_what_clients_get(hub: Hub) -> None:
    async with EventClient(app_of(hub)) as client, client.stream("/?on=a,b") as stream:
        assert await told(stream, 1) == [CONNECTED]
        published = await hub.publish("b", {"paid": True}, event="order")
        event = await stream.next()
        assert (event.event, event.json(), event.id) == ("order", {"paid": True}, str(published))


async def test_the_head_is_the_edge_s_and_the_app_s_headers_stand_beside_it(hub: Hub) -> None:
    app = app_of(hub, headers={"X-Own": "1", "Cache-Control": "no-store"}, retry=7000)
    async with EventClient(app) as client, client.stream("/") as stream:
        given = dict(STREAM_HEADERS) | {b"cache-control": b"no-store", b"x-own": b"1"}
        assert {name: value for name, value in stream.headers.raw if name in given} == given
        await stream.next()
        assert 4900 <= int(stream.text.split("retry: ")[1].split("\n")[0]) <= 9100


async def test_a_cookie_may_be_set(hub: Hub) -> None:
    async def stream(request: Request) -> Response:
        response = hub.response(request, ["a"])
        response.set_cookie("seen", "yes")
        return response

    async with EventClient(Starlette(routes=[Route("/", stream)])) as client, client.stream("/") as opened:
        assert "seen=yes" in opened.headers["set-cookie"]


@pytest.mark.parametrize("how", ["header", "last_event_id", "lastEventID", "lastEventId"])
async def test_a_client_resumes_after_what_it_saw_last(hub: Hub, how: str) -> None:
    first, second = await hub.publish("a", "1"), await hub.publish("a", "2")
    asked: dict[str, Any] = {"last_event_id": str(first)} if how == "header" else {"params": {how: str(first)}}
    async with EventClient(app_of(hub)) as client, client.stream("/", **asked) as stream:
        assert await told(stream, 2) == [("$connected", '{"resume":"complete"}'), ("message", "2")]
        assert stream.events[-1].id == str(second)


async def test_the_app_may_say_where_a_stream_begins(hub: Hub) -> None:
    for number in range(5):
        await hub.publish("a", str(number))
    async with EventClient(app_of(hub, history=2)) as client, client.stream("/") as stream:
        assert await told(stream, 3) == [CONNECTED, ("message", "3"), ("message", "4")]
    async with EventClient(app_of(hub, last_event_id="earliest")) as client, client.stream("/") as stream:
        assert [event.data for event in await stream.take(6)][1:] == list("01234")


async def test_head_is_answered_without_a_stream(hub: Hub) -> None:
    async with EventClient(app_of(hub)) as client:
        answer = await client.http.head("/")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (
        200,
        STREAM_HEADERS[0][1].decode(),
        b"",
    )
    assert hub.fanout.connections == 0


async def test_a_client_that_posts_gets_a_stream_too(hub: Hub) -> None:
    """As fetch clients do, which send a body with their request."""
    async with EventClient(app_of(hub)) as client, client.stream("/", method="POST", json={"ask": 1}) as stream:
        await hub.publish("a", "1")
        assert await told(stream, 2) == [CONNECTED, ("message", "1")]


async def test_an_id_that_cannot_be_is_the_client_s_fault(hub: Hub) -> None:
    async with EventClient(app_of(hub)) as client:
        for wrong in (
            {"params": {"last_event_id": "x" * (MAX_ID_BYTES + 1)}},
            {"headers": {"last-event-id": "x" * (MAX_ID_BYTES + 1)}},
        ):
            answer = await client.http.get("/", **wrong)
            assert answer.status_code == 400
            assert f"at most {MAX_ID_BYTES} characters" in answer.json()["detail"]
    assert hub.admission.connections == 0


@pytest.mark.parametrize("query", ["q=%E9", "q=\xe9", "q=%E9&last_event_id=earliest", "last_event_id=earliest&%FF=%FF"])
async def test_what_else_an_app_is_asked_in_any_encoding_is_the_app_s_affair(hub: Hub, query: str) -> None:
    scope = a_scope() | {"method": "HEAD", "query_string": query.encode("latin-1")}
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    response = hub.response(scope, channels=["a"])
    await response(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert told[0]["status"] == 200
    assert response.wanted.last_event_id == ("earliest" if "earliest" in query else None)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"channels": []}, InvalidEvent),
        ({"channels": ["a b"]}, InvalidEvent),
        ({"channels": "orders"}, TypeError),
        ({"history": -1}, InvalidEvent),
        ({"history": True}, InvalidEvent),
        ({"retry": -1}, InvalidEvent),
        ({"filter": "paid"}, TypeError),
        ({"filter": asyncio.sleep}, TypeError),
        ({"transform": asyncio.sleep}, TypeError),
    ],
)
async def test_what_the_app_itself_gets_wrong_is_raised_in_its_handler(
    hub: Hub, wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        hub.response(a_scope(), **{"channels": ["a"]} | wrong)


async def test_background_runs_when_the_stream_has_ended(hub: Hub) -> None:
    ran: list[int] = []
    response = hub.response(a_scope(), ["a"])
    response.background = BackgroundTask(lambda: ran.append(hub.fanout.connections))
    connection = Stubborn(response)
    await until(lambda: connection.body)
    assert ran == []
    await connection.leave()
    assert ran == [0]


async def test_over_a_limit_nobody_enters() -> None:
    async with Hub(max_connections=1) as hub, EventClient(app_of(hub)) as client, client.stream("/") as stream:
        await stream.next()
        assert (await client.http.get("/", headers=JSON)).status_code == 503
        async with client.stream("/") as other:
            assert [event.json() for event in await other.rest()] == [{"reason": "overloaded"}]
        assert hub.fanout.connections == 1


async def test_streams_go_through_middleware_that_wraps_send_and_receive(hub: Hub) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response  # type: ignore[no-any-return]

    inner = app_of(hub)
    app = Starlette(routes=inner.routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
    async with EventClient(app) as client:
        async with client.stream("/") as stream:
            assert stream.headers["x-seen"] == "yes"
            for number in range(200):
                await hub.publish("a", str(number))
            assert [event.data for event in await stream.take(201)][1:] == [str(number) for number in range(200)]
        await until(lambda: not hub.fanout.connections)


# Filters


async def test_a_filter_says_which_events_a_client_gets(hub: Hub) -> None:
    seen: list[Event] = []

    def even(event: Event) -> bool:
        seen.append(event)
        return int(event.data) % 2 == 0

    async with EventClient(app_of(hub, filter=even)) as client, client.stream("/") as stream:
        ids = [str(await hub.publish("a", n, event="n", retry=9)) for n in range(6)]
        assert await told(stream, 4) == [CONNECTED, ("n", "0"), ("n", "2"), ("n", "4")]
        assert [event.id for event in stream.events[1:]] == ids[::2]
        assert stream.events[1].retry == 9
    assert seen == [Event(str(n), "n", id, 9) for n, id in enumerate(ids)]


async def test_a_transform_says_what_a_client_gets_instead(hub: Hub) -> None:
    def shout(event: Event) -> Event | None:
        if event.data == "drop":
            return None
        return event if event.data == "same" else Event({"text": event.data.upper()}, "loud", "not-this-id")

    async with EventClient(app_of(hub, transform=shout)) as client, client.stream("/") as stream:
        ids = [str(await hub.publish("a", text)) for text in ("two\nlines", "drop", "same", "")]
        wanted = [CONNECTED, ("loud", '{"text":"TWO\\nLINES"}'), ("message", "same"), ("loud", '{"text":""}')]
        assert await told(stream, 4) == wanted
        assert [event.id for event in stream.events[1:]] == [ids[0], ids[2], ids[3]]


async def test_a_filter_comes_before_the_transform_and_both_see_what_is_replayed(hub: Hub) -> None:
    for number in range(10):
        await hub.publish("a", number)
    app = app_of(
        hub, history=10, filter=lambda e: int(e.data) > 6, transform=lambda e: Event(int(e.data) * 10, id=e.id)
    )
    async with EventClient(app) as client, client.stream("/") as stream:
        assert [event.data for event in await stream.take(4)][1:] == ["70", "80", "90"]


async def test_filters_are_one_stream_s_own_and_the_others_still_share(hub: Hub) -> None:
    deaf, plain = (Stubborn(hub.response(a_scope(), ["a"], filter=f)) for f in (lambda event: False, None))
    others = [Stubborn(hub.response(a_scope(), ["a"])) for _ in range(3)]
    await until(lambda: hub.fanout.connections == 5 and all(one.body for one in [deaf, plain, *others]))
    await hub.publish("a", "x")
    await until(lambda: all(b"data: x" in one.body for one in [plain, *others]))
    assert b"data: x" not in deaf.body
    assert all(one.sent[-1] is plain.sent[-1] for one in others)  # one message, one piece of bytes
    for one in [deaf, plain, *others]:
        await one.leave()


@pytest.mark.parametrize(
    "filters",
    [
        {"filter": lambda event: 1 / int(event.data)},
        {"transform": lambda event: event if int(event.data) else 1 / 0},
        {"transform": lambda event: event if int(event.data) else "no event"},
        {"transform": lambda event: event if int(event.data) else Event("x", "$closing")},
        {"transform": lambda event: event if int(event.data) else Event("x", "two\nlines")},
        {"filter": lambda event: True if int(event.data) else asyncio.sleep(0)},
    ],
)
async def test_an_event_on_which_a_filter_fails_leaves_a_gap_and_the_stream_goes_on(
    hub: Hub, filters: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with EventClient(app_of(hub, **filters)) as client, client.stream("/") as stream:
        ids = [str(await hub.publish("a", n)) for n in (1, 0, 0, 2)]
        events = await stream.take(5)
        assert [(event.event, event.id) for event in events[1:]] == [
            ("message", ids[0]),
            ("$gap", ids[1]),
            ("$gap", ids[2]),
            ("message", ids[3]),
        ]
        assert events[2].json() == {"after": ids[0], "until": ids[1], "positions": 1}
    (logged,) = (record for record in caplog.records if record.name == "sse_fast.embed")
    assert logged.exc_info
    assert ids[1] in logged.getMessage()


async def test_the_server_s_own_events_pass_every_filter(hub: Hub) -> None:
    gone = "00000000-1"
    app = app_of(hub, filter=lambda event: False, transform=lambda event: None)
    async with EventClient(app) as client, client.stream("/", last_event_id=gone) as stream:
        assert [event.event for event in await stream.take(2)] == ["$connected", "$gap"]
        hub.stop_soon()
        assert [event.event for event in await stream.rest()] == ["$closing"]


async def test_a_stream_of_which_nothing_passes_still_gets_heartbeats() -> None:
    async with (
        Hub(keepalive=0.1) as hub,
        EventClient(app_of(hub, filter=lambda event: False)) as client,
        client.stream("/") as stream,
    ):
        await stream.next()
        reading = asyncio.create_task(stream.next())
        while len(stream.comments) < 4:
            await hub.publish("a", "x")  # so for the fan-out it is never silent
            await asyncio.sleep(0.01)
        reading.cancel()


async def test_filters_see_each_batch_anew(hub: Hub) -> None:
    async with EventClient(app_of(hub, filter=lambda event: event.data != "b")) as client, client.stream("/") as stream:
        await stream.next()
        for text in "abc":
            await hub.publish("a", text)
            await until(lambda: not hub.fanout.busy)
        assert [event.data for event in await stream.take(2)] == ["a", "c"]


# Presence


class Book:
    """Who joined and who left, and how many listened then."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.joined: list[StreamInfo] = []
        self.left: list[tuple[int, EndReason]] = []
        self.listeners: list[int] = []

    async def on_join(self, info: StreamInfo) -> None:
        await asyncio.sleep(0)
        self.joined.append(info)
        self.listeners.append(self.hub.listeners("a"))

    async def on_leave(self, info: StreamInfo, reason: EndReason) -> None:
        await asyncio.sleep(0.01)
        self.left.append((info.id, reason))
        self.listeners.append(self.hub.listeners("a"))

    @property
    def both(self) -> dict[str, Any]:
        return {"on_join": self.on_join, "on_leave": self.on_leave}


async def test_who_comes_and_goes_is_told_once_each(hub: Hub) -> None:
    book = Book(hub)
    async with EventClient(app_of(hub, **book.both)) as client:
        async with client.stream("/?on=a,b") as stream:
            await stream.next()
            await until(lambda: book.joined)
        (info,) = book.joined
        assert book.left == [(info.id, EndReason.CLIENT)]
        assert book.listeners == [1, 0]
        assert (info.channels, info.client, info.resumed) == (("a", "b"), "127.0.0.1", "live")
        assert info.scope["path"] == "/"


async def test_callbacks_may_be_plain_functions_and_the_hub_s_own_stand_around(hub: Hub) -> None:
    order: list[str] = []
    hub.on_join, hub.on_leave = lambda info: order.append("hub +"), lambda info, reason: order.append("hub -")
    app = app_of(
        hub, on_join=lambda info: order.append("stream +"), on_leave=lambda info, reason: order.append("stream -")
    )
    async with EventClient(app) as client:
        async with client.stream("/") as stream:
            await stream.next()
        assert order == ["hub +", "stream +", "stream -", "hub -"]


async def test_joining_comes_before_the_first_event(hub: Hub) -> None:
    await hub.publish("a", "kept")
    seen: list[bytes] = []

    async def on_join(info: StreamInfo) -> None:
        await hub.publish("a", "new")
        await asyncio.sleep(0.01)
        seen.append(connection.body)

    connection = Stubborn(hub.response(a_scope(), ["a"], history=1, on_join=on_join))
    await until(lambda: b"data: new" in connection.body)
    assert b"$connected" in seen[0]
    assert b"data: kept" not in seen[0]
    assert b"data: new" not in seen[0]
    await connection.leave()


async def test_he_who_joins_hears_of_it_himself(hub: Hub) -> None:
    async def on_join(info: StreamInfo) -> None:
        await hub.publish("a", f"{info.id} joined")

    async with EventClient(app_of(hub, on_join=on_join)) as client, client.stream("/") as stream:
        assert await told(stream, 2) == [CONNECTED, ("message", "1 joined")]


async def test_what_a_callback_raises_changes_nothing(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not today")

    async with EventClient(app_of(hub, on_join=fail, on_leave=fail)) as client, client.stream("/") as stream:
        await hub.publish("a", "x")
        assert await told(stream, 2) == [CONNECTED, ("message", "x")]
    assert [record.getMessage() for record in caplog.records] == ["a presence callback failed"] * 2


async def test_a_stream_that_the_server_cancels_is_told_of_as_a_shutdown(hub: Hub) -> None:
    book = Book(hub)
    connection = Stubborn(hub.response(a_scope(), ["a"], **book.both))
    await until(lambda: book.joined)
    connection.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert book.left == [(1, EndReason.SHUTDOWN)]


async def test_a_stream_that_is_cancelled_while_it_joins_leaves_too(hub: Hub) -> None:
    book, joining = Book(hub), asyncio.Event()

    async def never(info: StreamInfo) -> None:
        joining.set()
        await asyncio.Event().wait()

    connection = Stubborn(hub.response(a_scope(), ["a"], on_join=never, on_leave=book.on_leave))
    await joining.wait()
    connection.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert book.left == [(1, EndReason.SHUTDOWN)]
    assert hub.fanout.connections == hub.admission.connections == 0


async def test_a_cancel_scope_lets_him_leave_in_peace(hub: Hub) -> None:
    """As frameworks cancel: again and again, until the scope is left."""
    book = Book(hub)
    with anyio.CancelScope() as scope:
        connection = hub.response(a_scope(), ["a"], on_join=lambda info: scope.cancel(), on_leave=book.on_leave)
        await connection(a_scope(), asyncio.Event().wait, nothing)  # type: ignore[arg-type]
    assert book.left == [(1, EndReason.SHUTDOWN)]


async def test_a_stream_that_has_ended_is_not_ended_again(hub: Hub) -> None:
    async def on_leave(info: StreamInfo, reason: EndReason) -> None:
        await info.end()
        await book.on_leave(info, reason)

    book = Book(hub)
    connection = Stubborn(hub.response(a_scope(), ["a"], on_join=book.on_join, on_leave=on_leave))
    await until(lambda: book.joined)
    await connection.leave()
    assert book.left == [(1, EndReason.CLIENT)]


async def test_a_stream_that_never_opened_never_joined(hub: Hub) -> None:
    async def fail(message: dict[str, Any]) -> None:
        raise OSError("no such wire")

    book = Book(hub)
    connection = Stubborn(hub.response(a_scope(), ["a"], **book.both), fail)
    with pytest.raises(OSError, match="no such wire"):
        await connection.task
    assert (book.joined, book.left) == ([], [])


async def test_at_a_shutdown_everybody_leaves_once_and_may_not_publish(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book(hub)

    async def on_leave(info: StreamInfo, reason: EndReason) -> None:
        await book.on_leave(info, reason)
        await hub.publish("a", "left")

    streams = [Stubborn(hub.response(a_scope(), ["a"], on_join=book.on_join, on_leave=on_leave)) for _ in range(3)]
    await until(lambda: len(book.joined) == 3)
    hub.stop_soon()  # by a signal
    await hub.stop()  # and by an app that stops it itself
    await asyncio.gather(*(one.task for one in streams))
    assert sorted(book.left) == [(number, EndReason.SHUTDOWN) for number in (1, 2, 3)]
    for one in streams:
        assert one.body.count(b"$closing") == 1
        assert all(message["more_body"] for message in one.sent[1:])  # broken off, so that everybody comes back
    assert caplog.records == []


# The app ends a stream


async def test_a_stream_that_the_app_ends_gets_its_last_events_and_a_clean_end(hub: Hub) -> None:
    book = Book(hub)
    async with EventClient(app_of(hub, **book.both)) as client, client.stream("/") as stream:
        await stream.next()
        await until(lambda: book.joined)
        await hub.publish("a", "goodbye")
        await book.joined[0].end()
        assert [(event.event, event.data) for event in await stream.rest()] == [
            ("message", "goodbye"),
            ("$closing", '{"reason":"app"}'),
        ]
        assert stream.complete
        await until(lambda: book.left == [(1, EndReason.APP)])
        await book.joined[0].end()
    assert book.left == [(1, EndReason.APP)]


async def test_its_last_events_come_first_though_the_drain_takes_many_turns(hub: Hub) -> None:
    async def slow(message: dict[str, Any]) -> None:
        time.sleep(0.0005)  # noqa: ASYNC251 - together more than a drain takes before it gives the loop back

    book = Book(hub)
    for _ in range(200):
        hub.subscribe(["a"], slow, lambda *_: None).start()
    connection = Stubborn(hub.response(a_scope(), ["a"], **book.both))
    await until(lambda: book.joined)
    for _ in range(200):
        hub.subscribe(["a"], slow, lambda *_: None).start()
    await hub.publish("a", "goodbye")
    await book.joined[0].end()
    await connection.task
    assert [event.data for event in Parser().feed(connection.body)][1:] == ["goodbye", '{"reason":"app"}']


async def test_a_stream_that_takes_nothing_is_not_ended_cleanly(hub: Hub) -> None:
    async def never(message: dict[str, Any]) -> None:
        if b"data: x" in message.get("body", b""):
            await asyncio.Event().wait()

    book = Book(hub)
    connection = Stubborn(hub.response(a_scope(), ["a"], **book.both), never)
    await until(lambda: book.joined)
    await hub.publish("a", "x")
    await book.joined[0].end()
    await connection.task
    assert all(message["more_body"] for message in connection.sent[1:])
    assert book.left == [(1, EndReason.APP)]


async def test_a_stream_may_be_ended_by_its_own_on_join(hub: Hub) -> None:
    async def not_you(info: StreamInfo) -> None:
        await info.end()

    book = Book(hub)
    connection = Stubborn(hub.response(a_scope(), ["a"], on_join=not_you, on_leave=book.on_leave))
    await connection.task
    assert book.left == [(1, EndReason.APP)]
    assert [event.type for event in Parser().feed(connection.body)] == ["$connected", "$closing"]


async def test_an_ended_stream_leaves_nothing_to_the_garbage_collector(hub: Hub) -> None:
    book = Book(hub)

    async def come_and_go() -> None:
        connection = Stubborn(hub.response(a_scope(), ["a"], filter=lambda event: True, **book.both))
        await until(lambda: book.joined)
        await hub.publish("a", "x")
        await until(lambda: b"data: x" in connection.body)
        await connection.leave()
        book.joined.clear()

    with no_garbage_of("sse_fast"):
        await come_and_go()


# Threads, and the life of the hub


async def test_any_thread_publishes_and_its_events_stay_in_order(hub: Hub) -> None:
    def work(name: str) -> list[str]:
        futures = [hub.publish_threadsafe("a", f"{name}{number}", event="job") for number in range(100)]
        return [str(future.result(30)) for future in futures]

    async with EventClient(app_of(hub)) as client, client.stream("/") as stream:
        await stream.next()
        first, second = await asyncio.gather(asyncio.to_thread(work, "x"), asyncio.to_thread(work, "y"))
        events = await stream.take(200)
        for name, ids in (("x", first), ("y", second)):
            mine = [(event.data, event.id) for event in events if event.data.startswith(name)]
            assert mine == [(f"{name}{number}", id) for number, id in enumerate(ids)]


async def test_a_thread_is_told_what_is_wrong_with_its_event_at_once(hub: Hub) -> None:
    with pytest.raises(InvalidEvent):
        await asyncio.to_thread(hub.publish_threadsafe, "no spaces", "x")


def test_a_hub_without_a_loop_says_how_it_gets_one() -> None:
    with pytest.raises(RuntimeError, match="async with hub"):
        Hub().publish_threadsafe("a", "x")


async def test_a_closed_hub_tells_a_thread_by_its_future(hub: Hub) -> None:
    await hub.close()
    future = hub.publish_threadsafe("a", "x")
    with pytest.raises(HubClosed):
        await asyncio.wrap_future(future)


def test_a_hub_that_was_left_may_be_entered_again_on_another_loop() -> None:
    """As when the tests of an app enter its lifespan again and again, with the hub in its module."""
    hub = Hub()

    async def once() -> str:
        async with hub, EventClient(app_of(hub, last_event_id="earliest")) as client, client.stream("/") as stream:
            thread = threading.Thread(target=hub.publish_threadsafe, args=("a", "x"))
            thread.start()
            await stream.next()
            return str((await stream.next()).data)

    assert [asyncio.run(once()) for _ in range(2)] == ["x", "x"]


# The edge under a path


@pytest.mark.usefixtures("nothing_set")
async def test_the_edge_under_a_path_of_another_app_is_whole() -> None:
    edge = create_app(Settings(publish_key=None))
    app = Starlette(routes=[Mount("/edge", edge), Route("/own", lambda request: edge.hub.response(request, ["news"]))])
    try:
        async with EventClient(app) as client, client.stream("/edge/sse/news") as stream, client.stream("/own") as own:
            answer = await client.http.post("/edge/publish/news", content="hello")
            assert answer.status_code == 200, answer.text
            for one in (stream, own):
                assert await told(one, 2) == [CONNECTED, ("message", "hello")]
                assert one.events[-1].id == answer.json()["id"]
            assert (await client.http.get("/edge/stats", headers={"host": "localhost"})).json()["connections"] >= 1
            page = await client.http.get("/edge/")
            assert page.headers["content-type"].startswith("text/html")
            assert (await client.http.get("/edge")).headers["location"].endswith("/edge/")
            assert (await client.http.get("/edge/nothing")).status_code == 404
    finally:
        await edge.close()


async def test_an_event_that_a_filter_saw_is_not_to_be_changed(hub: Hub) -> None:
    def meddle(event: Event) -> bool:
        event.data = "mine"  # type: ignore[misc]
        return True

    async with EventClient(app_of(hub, filter=meddle)) as client, client.stream("/") as stream:
        await hub.publish("a", "x")
        assert [event.event for event in await stream.take(2)] == ["$connected", "$gap"]
