"""Who comes from sse-starlette changes an import: its names are here, and what they make is byte for byte the same."""

from typing import Any

import pytest
import sse_starlette
from fastapi import APIRouter, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from sse_starlette.event import JSONServerSentEvent as TheirJSON
from sse_starlette.event import ServerSentEvent as Theirs

import sse_fast
from sse_fast import EventSourceResponse, Hub, HubResponse, JSONServerSentEvent, ServerSentEvent, WriterResponse
from sse_fast.schema.routes import openapi_for
from sse_fast.testing import EventClient

WORDS = st.text(alphabet="ab \r\n:\u20ac\0", max_size=8)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.none() | WORDS,
        "id": st.none() | WORDS,
        "retry": st.none() | st.integers(0, 10**6),
        "comment": st.none() | WORDS,
        "sep": st.sampled_from([None, "\n", "\r", "\r\n"]),
    },
)
LEAVES = st.none() | st.booleans() | st.integers() | WORDS
JSON = st.recursive(LEAVES, lambda some: st.lists(some) | st.dictionaries(WORDS, some), max_leaves=8)


@given(st.none() | WORDS | st.integers() | st.lists(st.integers()), FIELDS)
def test_an_event_is_the_same_bytes_as_theirs(data: Any, fields: dict[str, Any]) -> None:
    assert ServerSentEvent(data, **fields).encode() == Theirs(data, **fields).encode()


@given(JSON, FIELDS)
def test_an_event_of_json_is_the_same_bytes_as_theirs(data: Any, fields: dict[str, Any]) -> None:
    assert JSONServerSentEvent(data, **fields).encode() == TheirJSON(data, **fields).encode()


def test_what_they_refuse_is_refused_in_their_words() -> None:
    for refused in (ServerSentEvent, JSONServerSentEvent, Theirs):
        with pytest.raises(TypeError, match=r"^retry argument must be int$"):
            refused(0, retry="ten").encode()  # type: ignore[arg-type]
    for refused in (JSONServerSentEvent, TheirJSON):
        with pytest.raises(ValueError, match="JSON"):
            refused(float("nan"))
        with pytest.raises(TypeError, match="JSON"):
            refused(object())


def test_every_name_that_they_export_for_responses_is_here() -> None:
    assert {name for name in sse_starlette.__all__ if hasattr(sse_fast, name)} == {
        "EventSourceResponse",
        "JSONServerSentEvent",
        "ServerSentEvent",
    }


async def test_a_response_sends_them_as_they_stand() -> None:
    first, second = ServerSentEvent({"a": 1}, id="7\n8", event="e"), JSONServerSentEvent({"a": 1})
    app = EventSourceResponse([first, second, ServerSentEvent(comment="c")], ping=0)
    async with EventClient(app) as client, client.stream("/") as stream:
        received = [event async for event in stream]
    assert [(event.event, event.data, event.id) for event in received] == [
        ("e", "{'a': 1}", "78"),
        ("message", '{"a":1}', "78"),
    ]


def described(app: FastAPI) -> dict[str, set[str]]:
    """By path, the media types that a success has."""
    paths = app.openapi()["paths"].items()
    return {path: set(there["get"]["responses"]["200"].get("content", {})) for path, there in paths}


def test_the_document_of_a_fastapi_app_shows_which_routes_stream() -> None:
    app, router, hub = FastAPI(), APIRouter(prefix="/more"), Hub()

    @app.get("/class", response_class=EventSourceResponse)
    async def by_class() -> Any: ...

    @app.get("/annotated")
    async def annotated(request: Request) -> HubResponse:
        return hub.response(request, ["news"])

    @router.get("/writer")
    async def of_a_router() -> WriterResponse: ...

    @app.get("/plain")
    async def plain() -> Any: ...

    @app.get("/hidden", response_model=None)
    async def hidden() -> "OfTypeCheckers": ...  # type: ignore[name-defined]  # noqa: F821

    app.include_router(router)
    assert described(app)["/class"] == {"text/event-stream"}  # FastAPI sees that by itself
    app.openapi_schema = None
    openapi_for(app)
    assert described(app) == {
        "/class": {"text/event-stream"},
        "/annotated": {"text/event-stream"},
        "/more/writer": {"text/event-stream"},
        "/plain": {"application/json"},
        "/hidden": {"application/json"},
    }
