"""The JSON form of typed events, and what a document of it must keep to.

    {"sse_fast": 1,
     "streams": [{"name": "Comments", "channel": "item:{item_id}", "parameters": {"item_id": {"type": "string"}},
                  "events": {"CommentAdded": {"$ref": "#/$defs/CommentAdded"}}, "description": "…"}],
     "$defs": {"CommentAdded": {…}}}

`events` are JSON Schemas (2020-12) of the data by the names on the wire; they refer to `$defs` of the document alone,
so that nothing is ever fetched for them. Whoever reads a document, the edge or a generator, has had it checked here.
"""

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from sse_fast.errors import InvalidSchema
from sse_fast.event_rules import JSON_KINDS, MAX_EVENT_TYPE, brief, kind_of
from sse_fast.schema.templates import Template

VERSION = 1
MOST_STREAMS = 1000
MOST_EVENTS = 1000  # of one stream
DEEPEST = 100  # arrays and objects within each other
REF = "#/$defs/"
PARAMETER_TYPES = ("string", "integer")
# Keywords by what their values hold, as far as that is schemas (JSON Schema 2020-12).
OF_ONE = frozenset(
    (
        *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"),
        *("unevaluatedItems", "unevaluatedProperties"),
    )
)
OF_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
OF_NAMES = frozenset(("dependentSchemas", "patternProperties", "properties"))
# What would refer to another document, or give a place in this one a name of its own.
NOT_HERE = ("$anchor", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef", "$schema", "$vocabulary")

Json = dict[str, Any]
Schema = Json | bool


class StreamForm(TypedDict):
    """One stream."""

    name: str
    channel: str
    parameters: dict[str, Json]
    events: dict[str, Schema]
    description: NotRequired[str]


Document = TypedDict("Document", {"sse_fast": int, "streams": list[StreamForm], "$defs": dict[str, Schema]})
"""A whole one."""


def check(document: Any, where: str) -> Document:
    """The document, if it is one. `where`: what it is called in a message. Raises InvalidSchema, which names the
    place."""
    _known(document, where, ("sse_fast", "streams", "$defs"), required=("sse_fast", "streams"))
    if type(document["sse_fast"]) is not int or document["sse_fast"] != VERSION:
        raise InvalidSchema(
            f"{where}: 'sse_fast' is the form's version, {VERSION}, not {brief(document['sse_fast'])}; write the "
            "document anew with `sse-fast schema`"
        )
    _bounded(document, where)
    document.setdefault("$defs", {})
    _kind(document["$defs"], dict, f"{where}: $defs")
    for name, schema in document["$defs"].items():
        _check_schema(schema, document["$defs"], f"{where}: $defs.{name}")
    _kind(document["streams"], list, f"{where}: streams")
    if not 0 < len(document["streams"]) <= MOST_STREAMS:
        raise InvalidSchema(f"{where}: streams has 1 to {MOST_STREAMS} of them, not {len(document['streams'])}")
    for place, stream in enumerate(document["streams"]):
        _check_stream(stream, document["$defs"], f"{where}: streams[{place}]")
    refuse_shared(document["streams"], where)
    result: Document = document
    return result


def _check_stream(stream: Any, defs: Json, where: str) -> None:
    _known(stream, where, ("name", "channel", "parameters", "events", "description"), required=("name", "channel"))
    check_name(stream["name"], where)
    try:
        template = Template(stream["channel"])
    except InvalidSchema as error:
        raise InvalidSchema(f"{where}: {error}") from None
    parameters = stream.setdefault("parameters", {name: {"type": "string"} for name in template.parameters})
    _kind(parameters, dict, f"{where}.parameters")
    if parameters.keys() != set(template.parameters):
        wrong = min(parameters.keys() ^ set(template.parameters))
        has = "has none" if wrong in parameters else "has one"
        raise InvalidSchema(f"{where}.parameters.{wrong}: the channel {brief(template.text)} {has} of this name")
    for name, schema in parameters.items():
        if not isinstance(schema, dict) or schema.get("type") not in PARAMETER_TYPES:
            raise InvalidSchema(f'{where}.parameters.{name} is {{"type": "string"}} or {{"type": "integer"}}')
    _kind(stream.get("events"), dict, f"{where}.events")
    if not 0 < len(stream["events"]) <= MOST_EVENTS:
        raise InvalidSchema(f"{where}.events has 1 to {MOST_EVENTS} of them, not {len(stream['events'])}")
    for name, schema in stream["events"].items():
        check_event_name(name, f"{where}.events")
        _check_schema(schema, defs, f"{where}.events.{name}")
    if "description" in stream:
        _kind(stream["description"], str, f"{where}.description")


def refuse_shared(streams: list[StreamForm], where: str) -> None:
    """Raise InvalidSchema where two streams have one name, or could have one channel."""
    templates: list[tuple[str, Template]] = []
    names: dict[str, str] = {}
    for stream in streams:
        name, template = stream["name"], Template(stream["channel"])
        if name in names:
            raise InvalidSchema(f"{where}: two streams are called {name}, of {names[name]} and of {template.text}")
        names[name] = template.text
        for other, of_other in templates:
            if template.meets(of_other):
                raise InvalidSchema(
                    f"{where}: a channel could be of {other}, {of_other.text}, and of {name}, {template.text}, and it "
                    "belongs to one stream; give them other channels, or make them one stream"
                )
        templates.append((name, template))


def check_event_name(name: str, where: str) -> str:
    """The name, if an event of an app may have it. Raises InvalidSchema."""
    if not name or len(name) > MAX_EVENT_TYPE or name.startswith("$") or set(name) & set("\r\n\0"):
        raise InvalidSchema(
            f"{where}: an event's name has 1 to {MAX_EVENT_TYPE} characters, no line end, and does not begin with '$', "
            f"as the server's own do; {brief(name)} is none"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidSchema(f"{where}: an event's name is UTF-8 text; {brief(name)} has a lone surrogate") from None
    return name


def check_name(name: object, where: str) -> str:
    """The name of a stream. Raises InvalidSchema."""
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidSchema(f"{where}: the name of a stream is one that a Python variable may have, not {brief(name)}")
    return name


def _check_schema(schema: Any, defs: Json, where: str) -> None:
    for place, inner in within(schema, where):
        if isinstance(inner, bool):
            continue
        _kind(inner, dict, place)
        for keyword in NOT_HERE:
            if keyword in inner:
                raise InvalidSchema(f"{place}: {keyword} is not for here; definitions stand in the document's $defs")
        ref = inner.get("$ref")
        if ref is not None and not (isinstance(ref, str) and ref.startswith(REF) and ref[len(REF) :] in defs):
            raise InvalidSchema(f"{place}: $ref names one of the document's $defs, as {REF}NAME; {brief(ref)} does not")


def within(schema: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """A schema and all that stand in it, and where; what it refers to is not in it."""
    yield place, schema
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        here = f"{place}.{keyword}"
        if keyword in OF_ONE:
            yield from within(value, here)
        elif keyword in OF_LISTS and isinstance(value, list):
            for index, each in enumerate(value):
                yield from within(each, f"{here}[{index}]")
        elif keyword in OF_NAMES and isinstance(value, dict):
            for name, each in value.items():
                yield from within(each, f"{here}.{name}")


def _bounded(value: Any, where: str) -> None:
    """Raise InvalidSchema for one that nests too deep to be looked through."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidSchema(f"{where}: arrays and objects nest at most {DEEPEST} deep in a document")


def _kind(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        wanted = JSON_KINDS[kind]
        raise InvalidSchema(f"{where} is {wanted}, not {'missing' if value is None else kind_of(value)}")


def _known(value: Any, where: str, fields: tuple[str, ...], *, required: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise InvalidSchema(f"{where} is a JSON object of {', '.join(fields)}, not {kind_of(value)}")
    if missing := [name for name in required if name not in value]:
        raise InvalidSchema(f"{where}: {missing[0]!r} is missing")
    if unknown := [name for name in value if name not in fields]:
        raise InvalidSchema(f"{where}: unknown field {brief(unknown[0])}; the fields are {', '.join(fields)}")
