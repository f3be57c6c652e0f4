"""An app beside the edge, as laws, in process: how it is found, which requests are its own, how it starts and ends, and
that every hub that it makes is the edge's."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from support import until

from sse_fast import Hub, HubClosed, Settings
from sse_fast.edge.app import Edge, every_app_has
from sse_fast.embed.hub import every_hub_is
from sse_fast.node.app import Beside, UnusableApp, app_beside, load_app, refuse_collision
from sse_fast.testing import EventClient

pytestmark = pytest.mark.usefixtures("nothing_set")

Writes = Callable[[str], None]
HERE = "http://localhost"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    """Write the module `shop_app` into the working directory."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)

    def write(source: str) -> None:
        (tmp_path / "shop_app.py").write_text(source)

    yield write
    sys.path[:] = before
    sys.modules.pop("shop_app", None)


@pytest.fixture(autouse=True)
def no_hub_of_a_server() -> Iterator[None]:
    yield
    every_app_has(None)


def edge_of(**settings: Any) -> Edge:
    return Edge(Settings(log_size=256 * 1024, **settings))


# ---- finding it ------------------------------------------------------------------------------------------------------


def test_an_app_is_found_in_the_working_directory_by_a_name_that_may_have_dots(module: Writes) -> None:
    module("class site:\n  async def app(scope, receive, send): ...\n")
    assert load_app("shop_app:site.app").__name__ == "app"


def test_a_factory_makes_the_app(module: Writes) -> None:
    module("from starlette.applications import Starlette\ndef make(debug=True): return Starlette(debug=debug)\n")
    assert isinstance(load_app("shop_app:make", factory=True), Starlette)


ASGI = "async def app(scope, receive, send): ...\n"
UNUSABLE = {
    "no module": ("", "no_such:app", False, "there is no module 'no_such', neither in"),
    "no package": ("", "shop_app.main:app", False, "there is no module 'shop_app.main'"),
    "a module of its own is missing": (
        "import no_such\n",
        "shop_app:app",
        False,
        "needs the module 'no_such'",
    ),
    "it raises": ("1 / 0\n", "shop_app:app", False, "shop_app cannot be imported: ZeroDivisionError: division by zero"),
    "no Python": ("def\n", "shop_app:app", False, "cannot be imported: SyntaxError: "),
    "it exits": ("raise SystemExit(3)\n", "shop_app:app", False, "cannot be imported: SystemExit: 3"),
    "no attribute": (ASGI, "shop_app:application", False, "shop_app has no attribute 'application'"),
    "no attribute of one": (ASGI, "shop_app:app.inner", False, "shop_app.app has no attribute 'inner'"),
    "no app": ("app = 3\n", "shop_app:app", False, "shop_app.app is no ASGI app but of type int"),
    "WSGI": ("def app(environ, start_response): ...\n", "shop_app:app", False, "a2wsgi.WSGIMiddleware"),
    "a factory unsaid": ("def make(): ...\n", "shop_app:make", False, "add --factory"),
    "no factory": (ASGI, "shop_app:app", True, "leave out --factory"),
    "nothing to call": ("app = 3\n", "shop_app:app", True, "leave out --factory"),
    "a factory that fails": (
        "def make(): raise KeyError('DB')\n",
        "shop_app:make",
        True,
        "make() raised KeyError: 'DB'",
    ),
    "a factory to await": ("async def make(): ...\n", "shop_app:make", True, "in the app's lifespan"),
    "what it makes is none": ("def make(): ...\n", "shop_app:make", True, "shop_app.make() returned None; "),
    "what it makes is no app": ("def make(): return 3\n", "shop_app:make", True, "is no ASGI app but of type int"),
    "a file": (ASGI, "shop_app.py:app", False, "write shop_app:app"),
    "a file by a path": (ASGI, "./site/shop_app.py:app", False, "write site.shop_app:app"),
    "a file elsewhere": (ASGI, "../shop_app.py:app", False, "write its module's name"),
}


@pytest.mark.parametrize(("source", "name", "factory", "told"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_served_is_told_in_one_sentence_that_names_it(
    module: Writes, source: str, name: str, factory: bool, told: str
) -> None:
    module(source)
    with pytest.raises(UnusableApp) as caught:
        load_app(name, factory=factory)
    sentence = str(caught.value)
    assert sentence.startswith(f"--app {name}: ")
    assert told in sentence
    assert "\n" not in sentence


def test_a_route_of_the_app_under_the_path_of_the_edge_is_a_collision() -> None:
    async def nothing(request: Request) -> Response:
        return Response()

    refuse_collision(Starlette(routes=[Route("/edges", nothing), Route("/a/edge", nothing)]), "/edge")
    refuse_collision(object(), "/edge")
    for colliding in (
        Route("/edge", nothing),
        Route("/edge/{name}", nothing),
        Mount("/edge", Starlette()),
        Mount("/", Starlette(routes=[Route("/edge/a", nothing)])),
    ):
        with pytest.raises(UnusableApp, match="set --edge-path to another path"):
            refuse_collision(Starlette(routes=[colliding]), "/edge")


def test_a_router_that_fastapi_includes_under_the_path_of_the_edge_is_a_collision() -> None:
    inner, outer = APIRouter(), APIRouter()
    inner.add_api_route("/things", lambda: None)
    outer.include_router(inner, prefix="/b")
    for prefix, edge_path in (("/edge", "/edge"), ("/a", "/a/b")):
        app = FastAPI()
        app.include_router(outer, prefix=prefix)
        refuse_collision(app, "/elsewhere")
        with pytest.raises(UnusableApp, match=f"the app has a route {prefix}/b/things"):
            refuse_collision(app, edge_path)


# ---- whose a request is ----------------------------------------------------------------------------------------------


async def says_its_path(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        body = f"app {scope['path']} {scope.get('root_path', '')}"
        await PlainTextResponse(body)(scope, receive, send)


async def test_what_is_under_the_edge_s_path_is_the_edge_s_and_all_else_the_app_s() -> None:
    beside = Beside(edge_of(), says_its_path, "/live/edge")
    async with EventClient(beside, base_url=HERE) as client:
        http = client.http
        for path in ("/", "/edge/sse/a", "/live", "/live/edges", "/live/edge1/stats", "/sse/a", "/publish/a"):
            assert (await http.get(path)).text == f"app {path} "
        assert (await http.get("/live/edge/stats")).json()["channels"] == 0
        assert (await http.post("/live/edge/publish/a", content="x")).json().keys() == {"id"}
        assert (await http.get("/live/edge/nothing")).status_code == 404
        page = await http.get("/live/edge?x=1")
        assert (page.status_code, page.headers["location"]) == (307, "/live/edge/?x=1")
        assert "text/html" in (await http.get("/live/edge/")).headers["content-type"]
        async with client.stream("/live/edge/sse/a?history=1") as stream:
            assert [event.data for event in await stream.take(2)][1] == "x"


ROOTED = {
    "/nope": ("GET", "nothing at {root}/nope; streams are under {root}/sse, publishing is POST {root}/publish/CHANNEL"),
    "/sse": ("GET", "name a channel: {root}/sse/CHANNEL or {root}/sse?channel=A&channel=B"),
    "/sse/a/b/c": ("GET", "a stream's path is {root}/sse/CHANNEL or {root}/sse/STREAM/NAME, "),
    "/publish/news": ("GET", "GET is not for {root}/publish/news; it takes POST"),
    "/publish/news?x=1": ("POST", "unknown parameter 'x'; {root}/publish/news takes"),
    "/channels?x=1": ("GET", "unknown parameter 'x'; {root}/channels takes"),
    "/stats": ("POST", "POST is not for {root}/stats; it takes"),
}


@pytest.mark.parametrize(("path", "asked"), ROOTED.items(), ids=ROOTED)
async def test_an_error_names_paths_as_clients_write_them(path: str, asked: tuple[str, str]) -> None:
    method, told = asked
    edges = [edge_of() for _ in range(3)]
    beside, mounted = Beside(edges[0], says_its_path, "/a/edge"), Starlette(routes=[Mount("/my/live", edges[1])])
    for app, root in ((beside, "/a/edge"), (mounted, "/my/live"), (edges[2], "")):
        async with EventClient(app, base_url=HERE) as client:
            problem = (await client.http.request(method, root + path)).json()
            assert told.format(root=root) in problem["detail"]
    await edges[1].close()  # which is told of no end


async def test_nobody_gets_a_websocket_of_the_edge() -> None:
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        told.append(message["type"])

    await Beside(edge_of(), says_its_path, "/edge")({"type": "websocket", "path": "/edge/ws"}, receive, send)
    assert told == ["websocket.close"]


# ---- its hubs --------------------------------------------------------------------------------------------------------


async def test_every_hub_of_the_app_is_the_edge_s(module: Writes, caplog: pytest.LogCaptureFixture) -> None:
    """Also one of a class of its own, and each keeps whom it tells."""
    caplog.set_level(logging.INFO, "sse_fast")
    module(
        "from sse_fast import Hub\n"
        "class Ours(Hub):\n"
        "  def double(self): return 2\n"
        "one, two = Hub(log_size=1 << 20, max_connections=5, retry=7, drain_timeout=1), Ours(on_join=print)\n"
        "async def app(scope, receive, send): ...\n"
    )
    edge = edge_of(app="shop_app:app")
    app_beside(edge)
    import shop_app  # type: ignore[import-not-found]

    one, two = shop_app.one, shop_app.two
    assert one.log is two.log is edge.hub.log
    assert one.admission is edge.hub.admission
    assert (one.on_join, two.on_join, edge.hub.on_join) == (None, print, None)
    assert (type(two).__name__, two.double()) == ("Ours", 2)
    assert "Hub(drain_timeout=…, log_size=…, max_connections=…, retry=…)" in caplog.text
    assert caplog.text.count("the app makes several hubs") == 1

    async with EventClient(edge) as client, client.stream("/sse/a") as stream:
        await stream.take(1)
        async with one:
            await one.publish("a", "x")
        await two.close()  # both leave the server's hub as it is
        await one.stop()
        await two.publish("a", "y")
        assert [event.data for event in await stream.take(2)] == ["x", "y"]
    with pytest.raises(HubClosed):
        await one.publish("a", "z")


async def test_an_edge_that_the_app_mounts_is_under_the_server_s_settings_where_it_has_none_of_its_own(
    module: Writes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sse_fast")
    module(
        "from sse_fast import Hub, Settings, create_app\n"
        "from starlette.applications import Starlette\n"
        "from starlette.routing import Mount\n"
        "hub = Hub()\n"
        "own = Settings(publish_key='own', max_channels_per_stream=2)\n"
        "app = Starlette(routes=[Mount('/live', create_app()), Mount('/own', create_app(own))])\n"
    )
    page = "https://a.example"
    edge = edge_of(app="shop_app:app", publish_key="s3cret", cors_origins=[page], max_connections=1)
    async with EventClient(app_beside(edge), base_url=HERE) as client:

        async def published(path: str, key: str = "") -> int:
            headers = {"authorization": f"Bearer {key}", "origin": page} if key else {"origin": page}
            answer = await client.http.post(f"{path}/publish/a", content="x", headers=headers)
            assert answer.headers["access-control-allow-origin"] == page
            return answer.status_code

        for path, key in (("/edge", "s3cret"), ("/live", "s3cret"), ("/own", "own")):
            assert [await published(path), await published(path, "wrong"), await published(path, key)] == [
                401,
                401,
                200,
            ]
        assert await published("/own", "s3cret") == 401
        assert "at most 2 channels" in (await client.http.get("/own/sse?channel=a&channel=b&channel=c")).text
        async with client.stream("/live/sse/a?history=3") as stream:
            assert len(await stream.take(4)) == 4
            for path in ("/edge", "/live", "/own"):
                turned_away = await client.http.get(f"{path}/sse/a", headers={"accept": "application/json"})
                assert turned_away.status_code == 503
                assert (await client.http.get(f"{path}/stats")).json()["connections"] == 1
    assert "Hub(" not in caplog.text
    assert "several hubs" not in caplog.text


async def test_the_hub_is_there_while_the_app_starts_up() -> None:
    edge = edge_of()
    every_hub_is(edge.hub)
    hub = Hub()
    ids: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with hub:
            ids.append(await asyncio.to_thread(lambda: hub.publish_threadsafe("a", "x").result(30)))
            yield

    async with EventClient(Beside(edge, Starlette(lifespan=lifespan), "/edge"), base_url=HERE) as client:
        answer = (await client.http.get("/edge/channels")).json()
        assert [channel["last_id"] for channel in answer["channels"]] == [str(ids[0])]


# ---- how it starts and ends ------------------------------------------------------------------------------------------


class Life:
    """The lifespan of a whole worker, message by message."""

    def __init__(self, app: Any) -> None:
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.state: MutableMapping[str, Any] = scope["state"]  # type: ignore[assignment]
        self._task = asyncio.ensure_future(app(scope, self._told.get, self.said.put))

    async def tell(self, what: str) -> Any:
        self._told.put_nowait({"type": f"lifespan.{what}"})
        async with asyncio.timeout(30):
            return await self.said.get()


async def test_the_app_starts_before_the_edge_and_ends_before_it_and_its_state_reaches_requests() -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, int]]:
        lived.append("startup" if edge._stats is None else "too late")
        yield {"pool": 7}
        lived.append("shutdown" if edge._stats is not None and not edge._stats.done() else "too late")

    edge = edge_of()
    life = Life(Beside(edge, Starlette(lifespan=lifespan), "/edge"))
    assert (await life.tell("startup"))["type"] == "lifespan.startup.complete"
    assert life.state == {"pool": 7}
    assert (await life.tell("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert lived == ["startup", "shutdown"]


async def test_an_app_that_cannot_start_keeps_the_worker_from_it_and_says_why() -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    edge = edge_of()
    failed = await Life(Beside(edge, Starlette(lifespan=lifespan), "/edge")).tell("startup")
    assert failed["type"] == "lifespan.startup.failed"
    assert "the app's startup failed" in failed["message"]
    assert "no database" in failed["message"]
    await edge.close()


async def test_an_app_without_a_lifespan_is_served_all_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await PlainTextResponse("here")(scope, receive, send)

    async with EventClient(Beside(edge_of(), app, "/edge")) as client:
        assert (await client.http.get("/")).text == "here"


async def test_the_shutdown_waits_for_what_an_answer_leaves_behind_and_no_longer_than_it_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []
    release = asyncio.Event()

    async def task() -> None:
        await release.wait()
        done.append("task")

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        done.append("shutdown")

    async def later(request: Request) -> Response:
        return PlainTextResponse("soon", background=BackgroundTask(task))

    app = Starlette(routes=[Route("/", later)], lifespan=lifespan)
    for seconds, expected in ((10.0, ["task", "shutdown"]), (0.0, ["shutdown"])):
        done.clear()
        release.clear()
        beside = Beside(edge := edge_of(), app, "/edge")
        async with EventClient(beside, lifespan=False) as client:
            life = Life(beside)
            await life.tell("startup")
            asked = asyncio.ensure_future(client.http.get("/"))
            await until(lambda beside=beside: beside._requests.under_way)
            loop = asyncio.get_running_loop()
            finishing = asyncio.ensure_future(beside.finish(loop.time() + seconds))
            await asyncio.sleep(0)
            if seconds:
                release.set()
            await finishing
            assert done == expected
            release.set()
            await asked
            await edge.close()
    assert caplog.text.count("1 requests of the app were not finished") == 1


async def test_a_shutdown_that_hangs_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sse_fast.node.app.SHUTDOWN_SECONDS", 0.05)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    edge = edge_of()
    beside = Beside(edge, Starlette(lifespan=lifespan), "/edge")
    await Life(beside).tell("startup")
    await beside.finish(0)
    assert "shutdown took more than 0.05 s" in caplog.text
    await edge.close()


async def test_who_holds_a_websocket_is_told_that_the_server_restarts() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(WebSocketDisconnect):
            await websocket.receive_text()

    beside = Beside(edge_of(), Starlette(routes=[WebSocketRoute("/ws", endpoint)]), "/edge")
    received: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "root_path": ""}
    conversation = asyncio.ensure_future(beside(scope, received.get, sent.put))
    async with asyncio.timeout(30):
        assert (await sent.get())["type"] == "websocket.accept"
        beside.leave()
        assert await sent.get() == {"type": "websocket.close", "code": 1012}
        received.put_nowait({"type": "websocket.disconnect", "code": 1012})
        await conversation
    beside.leave()  # nobody is left to be told
    assert sent.empty()
