"""Hold, as laws: what an app behind the front answers becomes a native stream, whatever its middlewares do to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from hold_port import HoldPort
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from support import PATIENCE, no_garbage_of, until
from taking import Taking

from sse_fast import EndReason, Hub, StreamInfo
from sse_fast.embed.held import HeldStream
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import Answer, Subscribe
from sse_fast.transports.head import Head
from sse_fast.transports.hold import BODY, EXCHANGE, MARK, Holds, Mark
from sse_fast.transports.life import Transport

# ---- between the front and the app, without either -------------------------------------------------------------------


class Exchange:
    """A relayed exchange; its connection is nothing."""

    def __init__(self, method: str = "GET") -> None:
        self.head = Head()
        self.head.method = method
        self.head.target = b"/events"
        self.client = "192.0.2.7"
        self.connection: Any = object()
        self.context: Any = None


class Taken:
    """A front that writes down what it is told."""

    def __init__(self, *, room: bool = True) -> None:
        self.room = room
        self.opened: list[tuple[Subscribe, dict[str, Any]]] = []
        self.answers: list[Answer] = []

    def respond(self, connection: Any, head: Any, answer: Answer) -> None:
        self.answers.append(answer)

    def hold(self, connection: Any, head: Any, wanted: Subscribe, address: str, **rest: Any) -> bool:
        self.opened.append((wanted, rest))
        return self.room


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(log_size=256 * 1024) as hub:
        yield hub


class Asked:
    """One request of a marked exchange, its answer as the app wrote it, and what the front made of it."""

    def __init__(self, app: Any, *, method: str = "GET", room: bool = True, headers: dict[bytes, bytes] | None = None):
        self.app, self.front = app, Taken(room=room)
        self.holds = Holds(self.front, lambda: 7)
        self.exchange = Exchange(method)
        self.headers = headers or {}
        self.status = 0
        self.answered: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def run(self) -> "Asked":
        mark = self.holds.mark(self.exchange)
        scope = {
            "type": "http",
            "method": self.exchange.head.method,
            "path": "/events",
            "query_string": b"",
            "headers": list(self.headers.items()),
            "http_version": "1.1",
        }
        if mark:
            name, _, value = mark.removesuffix(b"\r\n").partition(b": ")
            assert name == EXCHANGE
            scope[MARK] = self.holds.find(value)

        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # the client stays
            return {}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status, self.answered = message["status"], list(message["headers"])
            else:
                self.body += message.get("body", b"")

        async with asyncio.timeout(30):
            await self.app(scope, receive, send)
        return self

    def claimed(self) -> bool:
        """Give the front the answer's head."""
        return self.holds.claim(self.exchange, self.status, self.answered)

    async def relayed(self) -> "Asked":
        await self.run()
        if self.claimed():
            self.holds.take(self.exchange)
        self.holds.leave(self.exchange)
        return self


def app_of(hub: Hub, *middleware: Middleware, background: BackgroundTask | None = None, **options: Any) -> Starlette:
    async def events(request: Request) -> Response:
        response = hub.response(request, options.pop("channels", ["a"]), **options)
        response.background = background
        return response

    return Starlette(routes=[Route("/events", events, methods=["GET", "POST"])], middleware=list(middleware))


async def test_an_answer_to_a_marked_request_ends_at_once_and_says_what_becomes_of_its_connection(hub: Hub) -> None:
    app = app_of(hub, channels=["a", "room:4 2".replace(" ", "é")], history=3, headers={"X-Own": "1"}, retry=50)
    asked = await Asked(app).run()
    said = dict(asked.answered)
    assert (asked.status, asked.body) == (200, BODY)
    assert said[b"grip-hold"] == b"stream"
    assert [value for name, value in asked.answered if name == b"grip-channel"] == [b"a", b"room:4%C3%A92"]
    assert asked.claimed()
    asked.holds.take(asked.exchange)
    [(wanted, rest)] = asked.front.opened
    assert wanted[:4] == (("a", "room:4é2"), None, 3, False)
    assert rest == {"retry": 50, "since": 7, "presence": None}
    assert dict(wanted.headers) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache, no-transform",
        b"x-accel-buffering": b"no",
        b"x-own": b"1",
    }
    assert wanted.readable == ((b"x-own", b"1"),)
    assert len(asked.holds) == 0


@pytest.mark.parametrize(
    ("method", "options"),
    [("POST", {}), ("GET", {"filter": lambda event: True}), ("GET", {"transform": lambda event: event})],
    ids=["POST", "filter", "transform"],
)
async def test_what_cannot_be_held_is_streamed_by_asgi(hub: Hub, method: str, options: dict[str, Any]) -> None:
    asked = Asked(app_of(hub, **options), method=method)
    running = asyncio.ensure_future(asked.run())
    await until(lambda: asked.body)
    assert b"$connected" in asked.body
    assert not asked.claimed()
    running.cancel()


async def test_an_unmarked_request_is_streamed_by_asgi_and_never_says_how_to_hold_it(hub: Hub) -> None:
    asked = Asked(app_of(hub))
    asked.holds.mark = lambda exchange: b""  # type: ignore[method-assign]
    running = asyncio.ensure_future(asked.run())
    await until(lambda: asked.body)
    assert not any(name.startswith(b"grip-") for name, _ in asked.answered)
    running.cancel()


async def test_what_a_client_says_wrong_is_answered_and_head_gets_the_stream_s_head(hub: Hub) -> None:
    wrong = await Asked(app_of(hub), headers={b"last-event-id": b"x" * 600}).relayed()
    assert (wrong.status, wrong.front.opened, wrong.front.answers) == (400, [], [])
    head = await Asked(app_of(hub), method="HEAD").relayed()
    assert (head.status, head.body, head.front.opened) == (200, b"", [])


class Adds(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.set_cookie("session", "s3cret")
        response.set_cookie("theme", "dark")
        return response


async def test_what_middlewares_add_stays_in_the_stream_s_head_and_what_is_of_the_answer_s_body_does_not(
    hub: Hub,
) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_credentials=True)
    gzip = Middleware(GZipMiddleware, minimum_size=1)
    app = app_of(hub, Middleware(Adds), cors, gzip, Middleware(Adds))
    asked = await Asked(app, headers={b"origin": b"https://a.example", b"accept-encoding": b"gzip"}).relayed()
    [(wanted, _)] = asked.front.opened
    names = [name for name, _ in wanted.headers]
    assert names[0] == b"content-type"
    assert all(name.startswith(b"access-control-") for name in names[1:3])
    assert names.count(b"set-cookie") == 4
    assert not {b"content-length", b"content-encoding", EXCHANGE, b"grip-hold", b"grip-channel"} & set(names)
    assert (b"access-control-allow-origin", b"https://a.example") in wanted.readable
    assert b"content-type" not in dict(wanted.readable)


def changes(what: Callable[[Any], None]) -> Middleware:
    """A middleware that changes the head of each answer."""

    class Changes:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def changed(message: Any) -> None:
                if message["type"] == "http.response.start":
                    what(message)
                await send(message)

            await self.app(scope, receive, changed)

    return Middleware(Changes)


def without(*names: bytes) -> Callable[[Any], None]:
    def what(message: Any) -> None:
        message["headers"] = [header for header in message["headers"] if header[0] not in names]

    return what


def saying(name: bytes, value: bytes) -> Callable[[Any], None]:
    def what(message: Any) -> None:
        message["headers"] = [*(header for header in message["headers"] if header[0] != name), (name, value)]

    return what


def status(number: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        message["status"] = number

    return change


ALTERATIONS = {
    "all is taken out": without(b"grip-hold", b"grip-channel", EXCHANGE),
    "hold": without(b"grip-hold"),
    "channel": without(b"grip-channel"),
    "offer": without(EXCHANGE),
    "another hold": saying(b"grip-hold", b"response"),
    "another channel": saying(b"grip-channel", b"secret"),
    "another's offer": saying(EXCHANGE, b"0-1.1"),
    "another type": saying(b"content-type", b"text/html"),
    "another status": status(201),
    "an error's status": status(403),
}


@pytest.mark.parametrize("altered", ALTERATIONS.values(), ids=ALTERATIONS)
async def test_an_answer_that_has_lost_what_it_says_is_an_error_and_no_empty_stream(
    hub: Hub, altered: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    left: list[Any] = []
    app = app_of(hub, changes(altered), on_leave=lambda *told: left.append(told))
    asked = await Asked(app).relayed()
    [answer] = asked.front.answers
    assert (answer.status, asked.front.opened) == (502, [])
    assert "middleware" in caplog.text
    assert "/events" in caplog.text
    await asked.holds.finish(10)
    assert (left, len(asked.holds)) == ([], 0)


@pytest.mark.parametrize("status", [200, 403])
async def test_an_app_that_thinks_better_of_it_is_relayed_as_it_is(hub: Hub, status: int) -> None:
    class Instead(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            await call_next(request)
            return JSONResponse({"no": "stream"}, status)

    ran: list[str] = []
    app = app_of(hub, Middleware(Instead), background=BackgroundTask(ran.append, "background"))
    asked = await Asked(app).relayed()
    assert (asked.front.opened, asked.front.answers) == ([], [])
    assert asked.status == status
    await asked.holds.finish(10)
    assert (ran, len(asked.holds)) == (["background"], 0)


async def test_a_client_that_goes_while_the_app_is_asked_leaves_nothing(hub: Hub) -> None:
    asked = await Asked(app_of(hub)).run()
    asked.holds.leave(asked.exchange)
    assert len(asked.holds) == 0
    assert not asked.claimed()


@pytest.mark.parametrize("over", ["left", "taken"])
async def test_what_is_offered_when_its_exchange_is_over_is_over_at_once(hub: Hub, over: str) -> None:
    """As where the client has gone while the handler ran, or the app answers, and then asks itself."""
    told: list[str] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        if over == "taken":
            await hub.response(scope, ["a"])(scope, receive, send)
            assert asked.claimed()
            asked.holds.take(asked.exchange)
        asked.holds.leave(asked.exchange)
        response = hub.response(scope, ["late"], on_join=lambda info: told.append("joined"))
        response.background = BackgroundTask(told.append, "background")
        await response(scope, receive, send)

    asked = Asked(late)
    await asked.run()
    await asked.holds.finish(10)
    assert told == ["background"]
    assert [wanted.channels for wanted, _ in asked.front.opened] == ([("a",)] if over == "taken" else [])


async def test_of_several_offers_in_one_exchange_the_last_counts_and_the_others_are_over(hub: Hub) -> None:
    """As where an app asks itself, with the headers and the scope that it was asked with."""
    ran: list[str] = []

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        async def nowhere(message: Any) -> None: ...

        if scope["type"] == "http":
            for number, way in ((1, nowhere), (2, send)):
                response = hub.response(scope, [f"c{number}"])
                response.background = BackgroundTask(ran.append, f"background {number}")
                await response(scope, receive, way)

    asked = await Asked(twice).relayed()
    [(wanted, _)] = asked.front.opened
    assert wanted.channels == ("c2",)
    await asked.holds.finish(10)
    assert ran == ["background 1"]


async def test_names_that_are_too_many_for_headers_are_left_out_and_held_all_the_same(hub: Hub) -> None:
    channels = [f"channel:{'x' * 100}:{number}" for number in range(200)]
    asked = await Asked(app_of(hub, channels=channels)).relayed()
    assert b"grip-channel" not in dict(asked.answered)
    assert asked.front.opened[0][0].channels == tuple(channels)


# ---- who is told -----------------------------------------------------------------------------------------------------


class Connected:
    """A connection that has become a stream."""

    def __init__(self) -> None:
        self.started = False
        self.ended: list[EndReason] = []

    def start(self) -> None:
        self.started = True

    def end(self, reason: EndReason) -> None:
        self.ended.append(reason)


async def test_the_app_is_told_who_joins_before_its_first_event_and_who_leaves_once_and_in_that_order(hub: Hub) -> None:
    told: list[str] = []
    infos: list[StreamInfo] = []
    may_join = asyncio.Event()

    async def joined(info: StreamInfo) -> None:
        await may_join.wait()
        infos.append(info)
        told.append(f"joined {info.resumed} {','.join(info.channels)} {info.client}")

    def fails(info: StreamInfo, reason: EndReason) -> None:
        told.append(f"left {reason}")
        raise KeyError

    hub.on_join, hub.on_leave = lambda info: told.append("hub joined"), lambda info, reason: told.append("hub left")
    app = app_of(hub, on_join=joined, on_leave=fails, background=BackgroundTask(told.append, "background"))
    asked = await Asked(app).relayed()
    [(_, rest)] = asked.front.opened
    presence, connection = rest["presence"], Connected()
    subscriber = hub.fanout.subscribe([b"a"], Taking())
    presence.opened(connection, Subscription(hub, subscriber, Taking(), None))
    await asyncio.sleep(0)
    assert not connection.started
    presence.left(EndReason.SLOW)  # while it joins
    assert told == ["hub joined"]
    may_join.set()
    await asked.holds.finish(10)
    assert told == ["hub joined", "joined live a None", "left slow", "hub left", "background"]
    await infos[0].end()
    assert connection.ended == []


async def test_of_the_scope_stays_what_tells_of_the_request_and_nothing_that_its_exchange_needed(hub: Hub) -> None:
    class Logs:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope |= {"session": {"user": "ada"}, "asgi": {}, "extensions": {}, "mine": 7}
            await self.app(scope, receive, send)

    infos: list[StreamInfo] = []
    app = FastAPI(middleware=[Middleware(Logs)])

    @app.get("/{page}")
    async def events(page: str, request: Request) -> Response:
        request.state.number = 3
        return hub.response(request, ["a"], on_join=infos.append)

    [(_, rest)] = (await Asked(app).relayed()).front.opened
    subscriber = hub.fanout.subscribe([b"a"], Taking(), patterns=[b"o:*"])
    rest["presence"].opened(Connected(), Subscription(hub, subscriber, Taking(), None))
    await until(lambda: infos)
    [info] = infos
    assert (info.channels, info.patterns) == (("a",), ("o:*",))
    request = Request(info.scope)
    assert (request.url.path, request.path_params, request.state.number) == ("/events", {"page": "events"}, 3)
    assert (request.session, request.app, info.scope["mine"]) == ({"user": "ada"}, app, 7)
    assert not [
        name for name in info.scope if name in ("asgi", "extensions") or name.startswith(("fastapi", "sse_fast"))
    ]
    assert repr(info) == f"StreamInfo(id={info.id}, channels=('a',), client=None, resumed='live')"


async def test_a_stream_that_nobody_wants_to_know_of_keeps_nothing(hub: Hub) -> None:
    asked = await Asked(app_of(hub)).relayed()
    assert asked.front.opened[0][1]["presence"] is None


async def test_who_finds_no_room_neither_joins_nor_leaves(hub: Hub) -> None:
    told: list[Any] = []
    app = app_of(hub, on_join=told.append, on_leave=lambda *what: told.append(what))
    asked = await Asked(app, room=False).relayed()
    await asked.holds.finish(10)
    assert told == []


# ---- over a front, a relay and Granian -------------------------------------------------------------------------------


def routes(**handlers: Any) -> Callable[[], Starlette]:
    return lambda: Starlette(routes=[Route(f"/{name}", handler) for name, handler in handlers.items()])


async def test_a_response_behind_the_front_is_a_native_stream_and_the_app_is_done_with_it() -> None:
    ended: list[str] = []

    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a", "b"], history=1, headers={"X-Own": "1"}, retry=77)

        async def publish(request: Request) -> Response:
            return JSONResponse(str(await hub.publish("b", "from a handler")))

        class Ends(BaseHTTPMiddleware):
            async def dispatch(self, request: Request, call_next: Any) -> Response:
                response: Response = await call_next(request)
                ended.append(request.url.path)
                return response

        return Starlette(routes=[Route("/events", events), Route("/publish", publish)], middleware=[Middleware(Ends)])

    async with HoldPort.opened(make) as port:
        await port.hub.publish("a", "before")
        async with await port.open() as stream:
            assert (stream.status, stream.headers[b"x-own"]) == (200, b"1")
            assert not any(name.startswith(b"grip-") for name in stream.headers)
            assert b"content-length" not in stream.headers
            await stream.read_count(1)
            await port.settled()
            await until(lambda: not port.beside._requests.under_way)
            assert (port.native, port.by_asgi, ended) == (1, 0, ["/events"])
            assert (await port.http.get("/publish")).is_success
            assert (await port.http.post("/edge/publish/a", content="from outside")).is_success
            await stream.read_count(3)
            assert stream.data == ["before", "from a handler", "from outside"]
            assert stream.told("$connected") == [{"resume": "live"}]
            last = stream.events[-1].last_event_id
            await port.hub.publish("a", "missed")
        await until(lambda: port.native == 0)
        async with await port.open(last_event_id=last) as again:
            await again.read_count(1)
            assert (again.told("$connected"), again.data) == ([{"resume": "complete"}], ["missed"])


@pytest.mark.parametrize("history", [0, 2])
async def test_nothing_that_is_published_while_the_app_is_asked_is_missed_and_the_history_is_that_of_before(
    history: int,
) -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            for number in range(3):
                await hub.publish("a", f"in the handler {number}")
                await hub.publish("other", "x")
            return hub.response(request, ["a"], history=history)

        return routes(events=events)()

    async with HoldPort.opened(make) as port:
        for number in range(3):
            await port.hub.publish("a", f"before {number}")
        async with await port.open() as stream:
            await port.hub.publish("a", "behind")
            await stream.read_count(history + 4)
            before = [f"before {number}" for number in range(3)][-history:] if history else []
            assert stream.data == [*before, *(f"in the handler {number}" for number in range(3)), "behind"]


async def test_who_joins_is_told_of_before_its_first_event_and_may_be_ended_and_every_end_is_told_once() -> None:
    told: list[str] = []
    infos: dict[int, StreamInfo] = {}
    may_join = asyncio.Event()

    def make() -> Starlette:
        hub = Hub(on_join=lambda info: told.append("hub"), on_leave=lambda info, reason: told.append(f"hub {reason}"))

        async def joined(info: StreamInfo) -> None:
            infos[info.id] = info
            await may_join.wait()
            await hub.publish("a", "who joins")

        async def left(info: StreamInfo, reason: EndReason) -> None:
            told.append(f"{info.id} left {reason}")

        async def events(request: Request) -> Response:
            response = hub.response(request, ["a"], on_join=joined, on_leave=left)
            response.background = BackgroundTask(told.append, "background")
            return response

        return routes(events=events)()

    async with HoldPort.opened(make) as port:
        async with await port.open() as stream:
            await until(lambda: infos)
            async with await port.open("/edge/sse/a") as other:
                await other.read_until(lambda: other.told("$connected"))
                await port.hub.publish("a", "while it joins")
                await other.read_count(1)
            await stream.read_until(lambda: stream.told("$connected"))
            assert port.hub.fanout.deliveries == 1
            may_join.set()
            await stream.read_count(2)
            assert stream.data == ["while it joins", "who joins"]
            [info] = infos.values()
            assert (info.client, info.channels, info.resumed) == ("127.0.0.1", ("a",), "live")
            assert info.scope["path"] == "/events"
            await port.hub.publish("a", "the last")
            await info.end()
            await stream.read_to_the_end()
            assert (stream.end, stream.data[-1], stream.told("$closing")) == ("clean", "the last", [{"reason": "app"}])
            await until(lambda: len(told) == 4)
            await info.end()
        async with await port.open() as stream:
            await stream.read_count(1)
        await until(lambda: len(told) == 8)
        async with await port.open() as stream:
            await stream.read_count(1)
            port.hub.fanout.end_all(EndReason.SHUTDOWN)
            await until(lambda: len(told) == 12)
        assert told == [
            word
            for number, reason in zip(infos, ("app", "client", "shutdown"), strict=True)
            for word in ("hub", f"{number} left {reason}", f"hub {reason}", "background")
        ]
        assert not port.holds._tasks


async def test_limits_and_refusals_are_those_of_the_edge_s_own_streams() -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"])

        cors = Middleware(CORSMiddleware, allow_origins=["https://a.example"])
        return Starlette(routes=[Route("/events", events)], middleware=[cors])

    async with HoldPort.opened(make, max_connections=1) as port, await port.open("/edge/sse/a") as own:
        await own.read_until(lambda: own.told("$connected"))
        async with await port.open() as away:
            await away.read_to_the_end()
            assert (away.status, away.told("$closing")) == (200, [{"reason": "overloaded"}])
        headers = {"accept": "application/json", "origin": "https://a.example"}
        for path, allowed in (("/events", "https://a.example"), ("/edge/sse/a", None)):
            answer = await port.http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers.get("access-control-allow-origin") == allowed
        await port.settled()
        assert port.native == 1


async def test_an_answer_whose_headers_are_lost_is_a_502_and_its_connection_goes_on() -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"])

        async def other(request: Request) -> Response:
            return JSONResponse("here")

        app = Starlette(routes=[Route("/events", events), Route("/other", other)])
        app.user_middleware.append(changes(without(b"grip-hold", b"grip-channel", EXCHANGE)))
        return app

    async with HoldPort.opened(make) as port:
        answer = await port.http.get("/events")
        assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
        assert (await port.http.get("/other")).json() == "here"
        await port.settled()
        assert port.native == 0


async def test_strangers_neither_mark_a_request_nor_learn_the_mark_of_theirs() -> None:
    seen: list[Any] = []

    def make() -> Starlette:
        async def echo(request: Request) -> Response:
            seen.append((dict(request.headers), type(request.scope.get(MARK))))
            return JSONResponse({}, headers={"Grip-Hold": "stream", "Grip-Channel": "secret", "Grip-Exchange": "x"})

        return Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"])])

    async with HoldPort.opened(make) as port:
        forged = {"Grip-Exchange": "1", "grip_exchange": "2", "GRIP-HOLD": "stream", "Grip_Channel": "a"}
        for method in ("GET", "POST"):
            answer = await port.http.request(method, "/echo", headers=forged)
            assert answer.status_code == 200
            assert not [name for name in answer.headers if "grip" in name.lower()]
        (marked, mark), (posted, none) = seen
        assert not [name for name in (*marked, *posted) if "grip" in name]
        assert (mark, none) == (Mark, type(None))
        await port.settled()


async def test_streams_with_filters_are_relayed_and_end_with_the_others() -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"], filter=lambda event: event.data != "no")

        return routes(events=events)()

    async with HoldPort.opened(make) as port, await port.open() as stream:
        await stream.read_until(lambda: stream.told("$connected"))
        await port.hub.publish("a", "no")
        await port.hub.publish("a", "yes")
        await stream.read_count(1)
        assert stream.data == ["yes"]
        assert (port.native, port.by_asgi) == (0, 1)


async def test_a_held_stream_in_http_1_0_has_no_chunks_and_its_head_may_be_asked_for_alone() -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"])

        return Starlette(routes=[Route("/events", events)])

    async with HoldPort.opened(make) as port:
        head = await port.http.head("/events")
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(b"GET /events HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"event: $connected\n")
        assert b"transfer-encoding" not in answer.lower()
        assert b"\r\n\r\n:\nretry: " in answer or b"\r\n\r\nretry: " in answer
        writer.close()


async def test_a_held_stream_that_cannot_be_told_of_is_ended_and_counted_out_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(self: HeldStream, *what: Any) -> None:
        raise MemoryError

    def make() -> Starlette:
        hub = Hub(on_join=print)

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"])

        return routes(events=events)()

    async with HoldPort.opened(make) as port:
        async with await port.open():
            with monkeypatch.context() as patched:
                patched.setattr(HeldStream, "opened", no_memory)
                failed = await port.open()
                await failed.read_to_the_end()
                failed.close()
            assert (failed.end, failed.told("$closing")) == ("aborted", [])
            assert port.native == port.edge._admission.connections == port.hub.fanout.connections == 1
            assert port.edge._streams.transports[Transport.NATIVE].ended == {EndReason.ERROR: 1}
        await until(lambda: port.native == 0)
        assert port.edge._admission.connections == 0
        assert "nobody could be told of a stream" in caplog.text


async def test_a_held_stream_that_has_ended_leaves_no_garbage() -> None:
    def make() -> Starlette:
        hub = Hub()

        async def events(request: Request) -> Response:
            return hub.response(request, ["a"], on_join=lambda info: None, on_leave=lambda info, reason: None)

        return routes(events=events)()

    async with HoldPort.opened(make) as port:

        async def come_and_go() -> None:
            async with await port.open() as stream:
                await stream.read_until(lambda: stream.told("$connected"))
            await until(lambda: port.native == 0 and not port.holds._tasks)

        await come_and_go()
        with no_garbage_of("sse_fast"):
            for _ in range(3):
                await come_and_go()
