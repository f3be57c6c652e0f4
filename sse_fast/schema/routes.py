"""The OpenAPI document of a FastAPI app, whose routes answer with typed streams."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_type_hints

from sse_fast.errors import InvalidSchema
from sse_fast.schema.definitions import Stream
from sse_fast.schema.document import document_of
from sse_fast.schema.openapi import STREAM, VERSIONS, Components, Json
from sse_fast.schema.shape import Document

EVENT_STREAM = "text/event-stream"


def openapi_for(app: Any, *streams: Stream[Any], version: str = "3.2") -> None:
    """Have the OpenAPI document of a FastAPI app describe the streams that its routes answer with, which say so by
    `responses=Comments.openapi()`: each event by its name, with the schema of its data. Routes that are annotated with
    one of our responses, `-> HubResponse`, have text/event-stream there, too. version: 3.2, or 3.1, which has no
    `itemSchema`. Raises ValueError for another version; InvalidSchema for streams that are none, and when somebody
    asks for the document of an app with a route of a stream that was not given."""
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    make = app.openapi
    if streams:
        document = document_of(streams)
        app.openapi = lambda: put_right(with_streams(app, make()), document, version)
    else:
        app.openapi = lambda: with_streams(app, make())


def with_streams(app: Any, described: Json) -> Json:
    """A document of this app in which routes that are annotated with a response of text/event-stream answer with that;
    FastAPI looks at `response_class` alone. Changed in place."""
    for route in _routes(app):
        returned = _returned(route.endpoint)
        if getattr(returned, "media_type", None) != EVENT_STREAM:
            continue
        for method in route.methods or ():
            operation = described.get("paths", {}).get(route.path_format, {}).get(method.lower())
            for status, response in (operation or {}).get("responses", {}).items():
                content = response.get("content", {})
                if status.startswith("2") and content == {"application/json": {"schema": {}}}:
                    response["content"] = {EVENT_STREAM: {"schema": {"type": "string"}}}
    return described


def _routes(app: Any) -> Iterator[Any]:
    """Of a FastAPI app, those of its routers too, under the paths that the document has."""
    routing = import_module("fastapi.routing")
    each_of = getattr(routing, "iter_route_contexts", iter)  # where there is none they are in one list
    for route in each_of(app.routes):
        if getattr(route, "endpoint", None) is not None and getattr(route, "path_format", None) is not None:
            yield route


def _returned(endpoint: Any) -> Any:
    """What it is annotated to return."""
    try:
        return get_type_hints(endpoint).get("return")
    except (NameError, TypeError):  # of a name that only type checkers know, or of what has no annotations
        return None


def put_right(described: Json, document: Document, version: str) -> Json:
    """A document in which routes are marked; changed in place. Raises InvalidSchema for a stream that is not in
    `document`."""
    marked = [
        response["content"]
        for path in described.get("paths", {}).values()
        for operation in path.values()
        if isinstance(operation, dict)
        for response in operation.get("responses", {}).values()
        if STREAM in response.get("content", {}).get(EVENT_STREAM, {})
    ]
    if not marked:
        return described
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    components = Components(document, version=version, there=schemas)
    streams = {stream["name"]: stream for stream in components.streams}
    for content in marked:
        name = content[EVENT_STREAM][STREAM]
        if name not in streams:
            raise InvalidSchema(f"a route answers with the stream {name}; give it to openapi_for, too")
        content[EVENT_STREAM] = components.of_stream(streams[name])
        if content.get("application/json") == {
            "schema": {}
        }:  # what FastAPI takes an answer for that it knows nothing of
            del content["application/json"]
    schemas |= components.schemas
    described["openapi"] = VERSIONS[version]
    return described
