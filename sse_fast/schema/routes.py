"""The OpenAPI document of a FastAPI app, whose routes answer with typed streams."""

from typing import Any

from sse_fast.errors import InvalidSchema
from sse_fast.schema.definitions import Stream
from sse_fast.schema.document import document_of
from sse_fast.schema.openapi import STREAM, VERSIONS, Components, Json
from sse_fast.schema.shape import Document


def openapi_for(app: Any, *streams: Stream[Any], version: str = "3.2") -> None:
    """Have the OpenAPI document of a FastAPI app describe the streams that its routes answer with, which say so by
    `responses=Comments.openapi()`: each event by its name, with the schema of its data. version: 3.2, or 3.1, which has
    no `itemSchema`. Raises ValueError for another version; InvalidSchema for streams that are none, and when somebody
    asks for the document of an app with a route of a stream that was not given."""
    if version not in VERSIONS:
        raise ValueError(f"version is one of {', '.join(VERSIONS)}, not {version!r}")
    make, document = app.openapi, document_of(streams)
    app.openapi = lambda: put_right(make(), document, version)


def put_right(described: Json, document: Document, version: str) -> Json:
    """A document in which routes are marked; changed in place. Raises InvalidSchema for a stream that is not in
    `document`."""
    marked = [
        response["content"]
        for path in described.get("paths", {}).values()
        for operation in path.values()
        if isinstance(operation, dict)
        for response in operation.get("responses", {}).values()
        if STREAM in response.get("content", {}).get("text/event-stream", {})
    ]
    if not marked:
        return described
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    components = Components(document, version=version, there=schemas)
    streams = {stream["name"]: stream for stream in components.streams}
    for content in marked:
        name = content["text/event-stream"][STREAM]
        if name not in streams:
            raise InvalidSchema(f"a route answers with the stream {name}; give it to openapi_for, too")
        content["text/event-stream"] = components.of_stream(streams[name])
        if content.get("application/json") == {
            "schema": {}
        }:  # what FastAPI takes an answer for that it knows nothing of
            del content["application/json"]
    schemas |= components.schemas
    described["openapi"] = VERSIONS[version]
    return described
