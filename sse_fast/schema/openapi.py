"""Typed streams in OpenAPI: the media type `text/event-stream` of a response, and the schemas it refers to.

OpenAPI 3.2 describes each event of a stream by `itemSchema` (section "Special Considerations for Server-Sent Events"):
an object of the fields `event`, `data`, `id`, whose data is text that holds JSON. The generators of clients that there
are read `schema` beside it, and take it for what they hand out for each event: its data. So both are there, of the same
schemas; 3.1 has no `itemSchema`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sse_fast.schema.naming import Names, camel, pascal
from sse_fast.schema.shape import OF_LISTS, OF_NAMES, OF_ONE, REF, Document, StreamForm

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
STREAM = "x-sse-fast-stream"
VERSIONS = {"3.2": "3.2.0", "3.1": "3.1.1"}

EVENT_ID: Json = {"type": "string", "description": "To resume behind it, as `Last-Event-ID`."}
# What a stream says of itself, by its names on the wire.
CONTROL: dict[str, tuple[str, Json]] = {
    "$connected": (
        "StreamConnected",
        {
            "type": "object",
            "description": "The first event of a stream. resume: whether all that was missed follows, or a gap.",
            "properties": {
                "resume": {"enum": ["live", "complete", "gap"]},
                "envelope": {"const": "json"},
                "left_out": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["resume"],
        },
    ),
    "$gap": (
        "StreamGap",
        {
            "type": "object",
            "description": "Events between these ids are gone; positions: how many of all channels that is. One "
            "that was published to channels says so on a stream with envelopes.",
            "properties": {
                "after": {"type": ["string", "null"]},
                "until": {"type": ["string", "null"]},
                "positions": {"type": "integer"},
                "channel": {"type": "string"},
                "channels": {"type": "array", "items": {"type": "string"}},
                "time": {"type": "string", "format": "date-time"},
            },
            "required": ["after", "until"],
        },
    ),
    "$forgotten": (
        "StreamForgotten",
        {
            "type": "object",
            "description": "Nothing of this channel from before is kept any more.",
            "properties": {"channel": {"type": "string"}},
            "required": ["channel"],
        },
    ),
    "$expiring": (
        "StreamExpiring",
        {
            "type": "object",
            "description": "So many seconds from now the stream ends, as its credential does.",
            "properties": {"seconds": {"type": "integer"}},
            "required": ["seconds"],
        },
    ),
    "$closing": (
        "StreamClosing",
        {
            "type": "object",
            "description": "The last event of a stream that the server ends.",
            "properties": {"reason": {"type": "string"}},
            "required": ["reason"],
        },
    ),
}


class Components:
    """The schemas of a document's typed events and of what streams say of themselves, as `components.schemas` of an
    OpenAPI document. there: those that it has already; one that is the same is not put there again."""

    def __init__(
        self, document: Document | None = None, *, version: str = "3.2", there: Mapping[str, Json] | None = None
    ) -> None:
        there = there or {}
        self.version = version
        self.schemas: Json = {}
        self.streams: list[StreamForm] = document["streams"] if document is not None else []
        self._names = Names(there)
        self._control: dict[str, str] = {}
        defs = document["$defs"] if document is not None else {}
        self._defs = {name: name for name in defs}
        same = {name for name, schema in defs.items() if there.get(name) == self.moved(schema)}
        self._defs = {
            name: name if name in same else self._names.take(NOT_IN_A_NAME.sub("_", name) or "_") for name in defs
        }
        self.schemas.update({self._defs[name]: self.moved(schema) for name, schema in defs.items()})
        self._items: dict[str, Json] = {}

    def add(self, wanted: str, schema: Json) -> Json:
        """A reference to it, where it stands now."""
        name = self._names.take(wanted)
        self.schemas[name] = schema
        return {"$ref": SCHEMAS + name}

    def moved(self, schema: Any) -> Any:
        """The same, of which every reference is to where the definitions are here."""
        return rewritten(schema, self._moved)

    def _moved(self, schema: Json) -> Json:
        if isinstance(schema.get("$ref"), str):
            schema["$ref"] = self._where(schema["$ref"])
        chosen = schema.get("discriminator")
        if isinstance(chosen, dict) and isinstance(chosen.get("mapping"), dict):
            mapping = {value: self._where(reference) for value, reference in chosen["mapping"].items()}
            schema["discriminator"] = {**chosen, "mapping": mapping}
        return schema

    def _where(self, reference: str) -> str:
        name = reference.removeprefix(REF)
        return SCHEMAS + self._defs[name] if name in self._defs else reference

    def of_stream(self, stream: StreamForm) -> Json:
        """The media type of one typed stream."""
        if stream["name"] not in self._items:
            events = {name: self.moved(schema) for name, schema in stream["events"].items()}
            self._items[stream["name"]] = self.media_type(pascal(stream["name"]), events)
        return self._items[stream["name"]]

    def media_type(self, name: str, events: Mapping[str, Any] | None) -> Json:
        """Of a stream of these events, by their names; None: of any. The server's own are among them."""
        all_data = {**(events or {}), **self._own()}
        media: Json = {"schema": {}}
        if events is not None:
            described = f"The data of an event of {name}, or of one of the server's own."
            media["schema"] = self.add(f"{name}Data", {"description": described, "anyOf": unique(all_data.values())})
        if self.version != "3.1":
            items = [item(each, content_of(schema)) for each, schema in all_data.items()]
            if events is None:
                items.append(item(None, {"type": "string"}))
            media["itemSchema"] = self.add(f"{name}Item", {"description": f"An event of {name}.", "anyOf": items})
        return media

    def _own(self) -> Json:
        for event, (name, schema) in CONTROL.items():
            if event not in self._control:
                self._control[event] = self.add(name, schema)["$ref"]
        return {event: {"$ref": reference} for event, reference in self._control.items()}


def rewritten(schema: Any, change: Callable[[Json], Json]) -> Any:
    """A schema as `change` makes it of a copy, and so each schema in it: `within` has the same keywords."""
    if not isinstance(schema, dict):
        return schema
    copy: Json = {}
    for keyword, value in schema.items():
        if keyword in OF_ONE:
            copy[keyword] = rewritten(value, change)
        elif keyword in OF_LISTS and isinstance(value, list):
            copy[keyword] = [rewritten(each, change) for each in value]
        elif keyword in OF_NAMES and isinstance(value, dict):
            copy[keyword] = {name: rewritten(each, change) for name, each in value.items()}
        else:
            copy[keyword] = value
    return change(copy)


def content_of(schema: Any) -> Json:
    """Text that holds JSON."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


def item(event: str | None, data: Json) -> Json:
    """One event, by the fields of its block."""
    named: Json = (
        {"event": {"const": event}} if event is not None else {"event": {"type": "string", "pattern": "^[^$]"}}
    )
    return {
        "type": "object",
        "properties": {**named, "data": data, "id": EVENT_ID, "retry": {"type": "integer", "minimum": 0}},
        "required": ["event", "data"] if event is not None else ["data"],
    }


def unique(schemas: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for schema in schemas:
        if schema not in found:
            found.append(schema)
    return found


def operation_id(name: str) -> str:
    return camel(name)


def parameters_of(stream: StreamForm) -> list[Json]:
    """Of the path in which a channel of the stream is."""
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in stream["parameters"].items()
    ]


def responses_of(name: str) -> dict[int | str, Json]:
    """For `responses=` of a route that answers with the stream of this name: `schema.routes` finds it there."""
    content = {"text/event-stream": {"schema": {}, STREAM: name}}
    return {200: {"description": f"The stream {name}.", "content": content}}
