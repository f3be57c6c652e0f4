"""The app that `--app` names, in a worker beside the edge: how it is found, and how it lives.

What the app keeps of a server of its own: its lifespan runs, startup before the worker listens and shutdown once
nothing of it is under way any more; the tasks that its answers leave behind are waited for; whoever holds a websocket
is told that the server restarts. What is under the edge's path is never the app's.
"""

import asyncio
import contextlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from sse_fast.asgi import Receive, Scope, Send
from sse_fast.base import shutdown
from sse_fast.base.modules import CannotImport, module_named, words_of
from sse_fast.edge.app import Edge, every_app_has
from sse_fast.edge.requests import Requests
from sse_fast.errors import SSEFastError
from sse_fast.protocol import mercure
from sse_fast.protocol.request import below
from sse_fast.transports.hold import EXCHANGE, MARK

logger = logging.getLogger("sse_fast.node")

App = Callable[[Scope, Receive, Send], Any]
ASGI = {"version": "3.0", "spec_version": "2.3"}
SERVICE_RESTART = 1012  # RFC 6455, section 7.4.2, as registered: come back
SHUTDOWN_SECONDS = 3.0  # that the app's shutdown gets at least, whatever the drain has used up


class UnusableApp(SSEFastError):
    """The app cannot be had, or not beside the edge; the message names it and says what to do. Its cause, if it has
    one, was raised by the app's own code."""


# ---- finding it ------------------------------------------------------------------------------------------------------


def load_app(name: str, *, factory: bool = False) -> App:
    """The app that `name`, MODULE:ATTRIBUTE, names; modules of the working directory come first. `factory`: it names a
    function that makes the app. Raises UnusableApp."""
    module_name, _, attribute = name.partition(":")
    found: Any = _imported(name, module_name)
    reached = module_name
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UnusableApp(
                f"--app {name}: {reached} has no attribute {part!r}; name the one that is the app, as in "
                f"{module_name}:app"
            ) from None
        reached += f".{part}"
    if factory:
        found = _made(name, reached, found)
    if not callable(found):
        raise UnusableApp(f"--app {name}: {reached} is no ASGI app but of type {type(found).__name__}; name the app")
    if not _takes(found, 3):
        if not factory and _takes(found, 0):
            raise UnusableApp(f"--app {name}: {reached} takes no arguments; if it makes the app, add --factory")
        raise UnusableApp(
            f"--app {name}: {reached} cannot be called with scope, receive and send, so it is no ASGI 3 app; "
            "wrap one of WSGI, as with a2wsgi.WSGIMiddleware"
        )
    app: App = found
    return app


def _imported(name: str, module: str) -> Any:
    if module.endswith(".py") and ("/" in module or os.path.isfile(module)):
        path = os.path.relpath(module).removesuffix(".py")
        wanted = ":".join((path.replace("/", "."), *name.split(":")[1:])) if path[0] != "." else "its module's name"
        raise UnusableApp(f"--app {name}: {module} is a file, and modules go by their names; write {wanted}")
    try:
        return module_named(module)
    except CannotImport as error:
        raise UnusableApp(f"--app {name}: {error}") from error.__cause__


def _made(name: str, reached: str, factory: Any) -> Any:
    if not callable(factory):
        raise UnusableApp(
            f"--app {name}: {reached} is no function that makes the app but of type {type(factory).__name__}; leave "
            "out --factory"
        )
    if not _takes(factory, 0):
        raise UnusableApp(
            f"--app {name}: {reached} takes arguments, and a factory is called without; leave out --factory if it is "
            "the app"
        )
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise UnusableApp(f"--app {name}: {reached}() raised {words_of(error)}") from error
    if inspect.iscoroutine(made):
        made.close()
        raise UnusableApp(
            f"--app {name}: {reached} is a coroutine function, and a factory is called before there is a loop; make it "
            "a plain function, and do what has to be awaited in the app's lifespan"
        )
    if made is None:
        raise UnusableApp(f"--app {name}: {reached}() returned None; have it return the app")
    return made


def _takes(found: Any, count: int) -> bool:
    try:
        inspect.signature(found).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # nothing is known of it, as of some that are not written in Python
        return True
    return True


def refuse_collision(app: Any, edge_path: str) -> None:
    """Raise UnusableApp where the app, as far as it shows its routes, has one under the edge's path: nobody would ever
    get there."""
    for path in _paths(app):
        if below(path, edge_path) is not None:
            raise UnusableApp(
                f"the app has a route {path}, and {edge_path} is where the edge is; set --edge-path to another path, "
                "or move the route"
            )


def _paths(router: Any, before: str = "") -> Iterator[str]:
    """Of the routes of what shows some, of what is mounted or included there, too."""
    routes = getattr(router, "routes", None)
    for route in routes if isinstance(routes, (list, tuple)) else ():
        included = getattr(route, "include_context", None)  # FastAPI's, of a router that was included
        if included is not None:
            yield from _paths(getattr(route, "original_router", None), before + getattr(included, "prefix", ""))
            continue
        path = getattr(route, "path", "")
        if isinstance(path, str):
            yield before + path
            yield from _paths(route, before + path)


# ---- its lifespan ----------------------------------------------------------------------------------------------------


class Lifespan:
    """The lifespan of an app (ASGI, "Lifespan protocol"). An app that raises at it has none, and is served all the
    same."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._answers: dict[str, asyncio.Event] = {"startup": asyncio.Event(), "shutdown": asyncio.Event()}
        self._failed: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self, state: MutableMapping[str, Any]) -> None:
        """Until the app has started. Raises UnusableApp where it says that it cannot."""
        self._task = asyncio.get_running_loop().create_task(self._run(state))
        self._told.put_nowait({"type": "lifespan.startup"})
        await self._answers["startup"].wait()
        if (failure := self._failed.get("startup")) is not None:
            raise UnusableApp(f"the app's startup failed: {failure}")

    async def stop(self, seconds: float) -> None:
        """Tell it to shut down, and wait for so long until it has. One that is still starting is
        cancelled."""
        if self._task is None or self._task.done():
            return
        if self._answers["startup"].is_set():
            self._told.put_nowait({"type": "lifespan.shutdown"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._answers["shutdown"].wait()
            if (failure := self._failed.get("shutdown")) is not None:
                logger.error(f"the app's shutdown failed: {failure}")
            elif not self._answers["shutdown"].is_set():
                logger.warning(f"the app's shutdown took more than {seconds:g} s, and was cancelled")
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=1.0)

    async def _run(self, state: MutableMapping[str, Any]) -> None:
        try:
            await self._app({"type": "lifespan", "asgi": ASGI, "state": state}, self._told.get, self._send)
        except asyncio.CancelledError:
            self._failed.setdefault("startup", "the server ends")
            raise
        except Exception as error:
            if not self._failed:
                if self._answers["startup"].is_set():
                    logger.exception("the app's lifespan failed")
                else:
                    logger.info(f"the app takes no part in a lifespan: it raised {words_of(error)}")
        finally:
            for answered in self._answers.values():
                answered.set()

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        _, phase, outcome = message["type"].split(".")
        if outcome == "failed":
            self._failed[phase] = message.get("message") or "it did not say why"
        self._answers[phase].set()


class _WebSocket:
    """A websocket whose app is told that the server restarts, and its client with it, while it waits for a message. A
    server can close none whose app is waiting, so the waiting is given up first."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._waiting: asyncio.Task[MutableMapping[str, Any]] | None = None
        self._left = False
        self._closing: asyncio.Task[None] | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        if not self._left:
            waiting = self._waiting = asyncio.ensure_future(self._message())
            try:
                return await waiting
            except asyncio.CancelledError:
                if not self._left or not waiting.cancelled():
                    waiting.cancel()
                    raise
            finally:
                self._waiting = None
        await self._close()
        return {"type": "websocket.disconnect", "code": SERVICE_RESTART}

    def leave(self) -> None:
        self._left = True
        if self._waiting is not None:
            self._waiting.cancel()
        else:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _message(self) -> MutableMapping[str, Any]:
        return await self._receive()

    async def _close(self) -> None:
        if self._closing is None or self._closing is asyncio.current_task():
            with contextlib.suppress(Exception):  # it has gone, or was never accepted
                await self._send({"type": "websocket.close", "code": SERVICE_RESTART})


# ---- beside the edge -------------------------------------------------------------------------------------------------


def app_beside(edge: Edge) -> "Beside":
    """The app of the edge's settings. Every hub that it makes is the edge's. Raises UnusableApp."""
    settings = edge.settings
    assert settings.app is not None
    every_app_has(edge)
    app = load_app(settings.app, factory=settings.factory)
    refuse_collision(app, settings.edge_path)
    return Beside(edge, app, settings.edge_path)


class Beside:
    """The ASGI app of a worker: what is under `path` is the edge's, all else the app's."""

    def __init__(self, edge: Edge, app: App, path: str) -> None:
        self._edge, self._app, self._path = edge, app, path
        self._lifespan = Lifespan(app)
        self._requests = Requests()
        self._websockets: set[_WebSocket] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif below(scope["path"], self._path) is not None:
            await self._answer_edge(scope, receive, send)
        elif scope["type"] == "http" and self._edge.policy.mercure is not None and mercure.is_ours(scope["path"]):
            await self._edge(scope, receive, send)
        else:
            await self._requests.answered(self._answer(scope, receive, send))

    async def _answer_edge(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: 403
        elif scope["path"] == self._path:  # the page's links go out from below
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            location = (b"location", scope.get("root_path", "").encode() + self._path.encode() + b"/" + query)
            headers = [location, (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            below = dict(scope, root_path=scope.get("root_path", "") + self._path)
            await self._edge(below, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._unmask(scope)
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        websocket = _WebSocket(receive, send)
        self._websockets.add(websocket)
        try:
            await self._app(scope, websocket.receive, send)
        finally:
            self._websockets.discard(websocket)

    def _unmask(self, scope: Scope) -> None:
        """What marks a request of the relay's becomes its mark; the app sees nothing of it."""
        holds = self._edge.holds
        if holds is None:
            return
        for name, value in scope["headers"]:
            if name == EXCHANGE:
                scope[MARK] = holds.find(value)
                scope["headers"] = [header for header in scope["headers"] if header[0] != EXCHANGE]
                return

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app starts before the edge does, with which the worker listens, and over a hub that is there already."""
        startup = await receive()
        try:
            await self._edge.prepare()
            await self._lifespan.start(scope.get("state", {}))
        except Exception as error:
            logger.debug("the start failed", exc_info=True)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        messages = iter((startup,))

        async def receive_all() -> MutableMapping[str, Any]:
            for message in messages:
                return message
            message = await receive()
            await self.finish(0)
            return message

        await self._edge(scope, receive_all, send)

    def leave(self) -> None:
        """The worker is to end: have the app's own streams end, and tell who holds a websocket."""
        shutdown.tell()
        for websocket in self._websockets:
            websocket.leave()

    async def finish(self, deadline: float) -> None:
        """Until `deadline`, of the loop's clock, wait for what is under way, background tasks included; then shut the
        app down. Its streams have ended."""
        loop = asyncio.get_running_loop()
        await self._requests.finish(deadline - loop.time())
        if cut := self._requests.under_way:
            logger.warning(f"{cut} requests of the app were not finished within the drain's time, and are cut")
        if self._edge.holds is not None:
            await self._edge.holds.finish(deadline - loop.time())
        await self._lifespan.stop(max(SHUTDOWN_SECONDS, deadline - loop.time()))
