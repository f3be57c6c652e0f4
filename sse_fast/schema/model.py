"""What a document of typed events says, in the few shapes that a generator of clients has to know.

Read is the JSON form, which was checked (`schema.shape`). Its types are JSON Schema 2020-12. What this does not know to
describe (`not`, `if`, patterns of names) is wider here, never narrower: `Anything` at the worst.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sse_fast.errors import InvalidSchema

DEFINITION = "#/$defs/"
PARAMETER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON."""


@dataclass(frozen=True, slots=True)
class Plain:
    """kind: string, integer, number, boolean or null."""

    kind: str


@dataclass(frozen=True, slots=True)
class Literals:
    """One of these values: strings, numbers, booleans."""

    values: tuple[str | int | float | bool, ...]
    booleans: tuple[bool, ...] = field(init=False, repr=False)  # which are: to Python True is 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "booleans", tuple(isinstance(value, bool) for value in self.values))


@dataclass(frozen=True, slots=True)
class Listed:
    item: "Shape"


@dataclass(frozen=True, slots=True)
class Tupled:
    """An array of so many items, each of a shape of its own."""

    items: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """An object with any names."""

    value: "Shape"


@dataclass(frozen=True, slots=True)
class Union:
    """One of these, never a union itself; two at least."""

    members: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Named:
    """What is defined under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    shape: "Shape"
    required: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """An object with these names; others may be there. Only a definition is one, so each has a name."""

    fields: tuple[Field, ...]


Shape = Anything | Plain | Literals | Listed | Tupled | Mapped | Union | Named | Record

STRING: Final = Plain("string")
NULL: Final = Plain("null")


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    shape: Shape
    description: str = ""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """name: what its line `event:` says."""

    name: str
    shape: Shape
    description: str = ""


@dataclass(frozen=True, slots=True)
class StreamShape:
    """channel: the template. parameters: of it, by their names, in its order."""

    name: str
    channel: str
    parameters: Mapping[str, Shape]
    events: tuple[StreamEvent, ...]
    description: str = ""

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """Of the channel: text, and whether it is a parameter's name."""
        return [(text, bool(at % 2)) for at, text in enumerate(PARAMETER.split(self.channel)) if text]


@dataclass(frozen=True, slots=True)
class Document:
    streams: tuple[StreamShape, ...]
    definitions: Mapping[str, Definition]

    def resolved(self, shape: Shape) -> Shape:
        """What it is, whatever it is called."""
        seen = set()
        while isinstance(shape, Named) and shape.name not in seen:
            seen.add(shape.name)
            shape = self.definitions[shape.name].shape
        return shape


def read(document: Mapping[str, Any]) -> Document:
    """Of a checked one. Raises InvalidSchema for a schema in it that none can be."""
    return _Reader(document).read()


def is_nullable(shape: Shape) -> bool:
    return isinstance(shape, Union) and NULL in shape.members


def without_null(shape: Shape) -> Shape:
    """A union that may be null, if it were not; anything else as it is."""
    if not isinstance(shape, Union):
        return shape
    return union(member for member in shape.members if member != NULL)


def union(members: Iterable[Shape]) -> Shape:
    """Of these: flat, each once."""
    flat: dict[Shape, None] = {}
    for member in members:
        flat.update(dict.fromkeys(member.members if isinstance(member, Union) else (member,)))
    if any(isinstance(member, Anything) for member in flat):
        return Anything()
    literals = [member for member in flat if isinstance(member, Literals)]
    if len(literals) > 1:  # they are one list of values
        values = distinct(value for each in literals for value in each.values)
        flat = {Literals(values): None} | {member: None for member in flat if member not in literals}
    return next(iter(flat)) if len(flat) == 1 else Union(tuple(flat))


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each once, as JSON has them: 1 is 1.0, and not true."""
    return tuple(value for _, value in dict.fromkeys((isinstance(value, bool), value) for value in values))


def referred(shape: Shape) -> Iterable[str]:
    """The definitions that it names."""
    match shape:
        case Named(name):
            yield name
        case Listed(inner) | Mapped(inner):
            yield from referred(inner)
        case Union(several) | Tupled(several):
            for each in several:
                yield from referred(each)
        case Record(fields):
            for field in fields:
                yield from referred(field.shape)
        case _:
            pass


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._streams, self._schemas = document["streams"], document["$defs"]
        self._definitions: dict[str, Definition] = {}

    def read(self) -> Document:
        for name, schema in self._schemas.items():
            self._define(name, schema, f"$defs.{name}")
        return Document(tuple(self._stream(stream) for stream in self._streams), self._definitions)

    def _define(self, name: str, schema: Any, at: str) -> None:
        described = _description(schema)
        self._definitions[name] = Definition(name, Anything(), described)  # its place among the others
        shape = self._record(schema, name, at) if _is_record(schema) else self._shape(schema, name, at)
        self._definitions[name] = Definition(name, shape, described)

    def _stream(self, stream: Mapping[str, Any]) -> StreamShape:
        name, channel = stream["name"], stream["channel"]
        schemas = stream["parameters"]
        parameters = {
            each: self._shape(schemas[each], f"{name}_{each}", f"{name}.{each}") for each in PARAMETER.findall(channel)
        }
        events = tuple(self._event(event, schema, name) for event, schema in stream["events"].items())
        return StreamShape(name, channel, parameters, events, _description(stream))

    def _event(self, name: str, schema: Any, at: str) -> StreamEvent:
        described = _description(schema)
        shape = self._shape(schema, name, f"{at}.{name}")
        if not described and isinstance(shape, Named):
            described = self._definitions[shape.name].description
        return StreamEvent(name, shape, described)

    def _shape(self, schema: Any, name: str, at: str) -> Shape:
        """`name`: what it is called if it needs a definition."""
        if isinstance(schema, bool):
            return Anything()
        if "$ref" in schema:
            return Named(schema["$ref"].removeprefix(DEFINITION))
        if "const" in schema or "enum" in schema:
            return _literals(schema["enum"] if "enum" in schema else [schema["const"]], at)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                members = self._schemas_of(schema, several, at)
                return union(
                    self._shape(each, f"{name}_{_word(each) or number}", f"{at}.{several}[{number - 1}]")
                    for number, each in enumerate(members, 1)
                )
        if "allOf" in schema:
            members = self._schemas_of(schema, "allOf", at)
            if len(members) == 1 and "properties" not in schema:
                return self._shape(members[0], name, at)
        if _is_record(schema) or "allOf" in schema:
            return self._hoisted(schema, name, at)
        return self._of_type(schema, name, at)

    def _of_type(self, schema: dict[str, Any], name: str, at: str) -> Shape:
        match schema.get("type"):
            case list(kinds):
                rest = {key: value for key, value in schema.items() if key != "type"}
                return union(self._shape({**rest, "type": kind}, name, at) for kind in kinds)
            case "array":
                if isinstance(first := schema.get("prefixItems"), list) and first:
                    return Tupled(
                        tuple(
                            self._shape(each, f"{name}_{number}", f"{at}[{number - 1}]")
                            for number, each in enumerate(first, 1)
                        )
                    )
                return Listed(self._shape(schema.get("items", True), f"{name}_item", f"{at}[]"))
            case "object":
                return Mapped(self._shape(schema.get("additionalProperties", True), f"{name}_value", f"{at}.*"))
            case "string" | "integer" | "number" | "boolean" | "null" as kind:
                return Plain(kind)
            case _:
                return Anything()

    def _hoisted(self, schema: dict[str, Any], name: str, at: str) -> Named:
        """An object within another schema, as a definition of its own."""
        free, number = name, 2
        while free in self._definitions or free in self._schemas:
            free, number = f"{name}_{number}", number + 1
        self._definitions[free] = Definition(free, Anything(), _description(schema))
        self._definitions[free] = Definition(free, self._record(schema, free, at), _description(schema))
        return Named(free)

    def _record(self, schema: dict[str, Any], name: str, at: str) -> Record:
        fields = {field.name: field for field in self._fields(schema, name, at, frozenset())}
        return Record(tuple(fields.values()))

    def _fields(self, schema: Any, name: str, at: str, within: frozenset[str]) -> Iterable[Field]:
        """Its own, and those of all that it is besides."""
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            named = schema["$ref"].removeprefix(DEFINITION)
            if named in within:
                raise InvalidSchema(f"{at} is made of itself")
            yield from self._fields(self._schemas[named], name, at, within | {named})
        for number, each in enumerate(self._schemas_of(schema, "allOf", at) if "allOf" in schema else ()):
            yield from self._fields(each, name, f"{at}.allOf[{number}]", within)
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise InvalidSchema(f'the "properties" of {at} are an object, and "required" an array')
        for key, inner in properties.items():
            shape = self._shape(inner, f"{name}_{key}", f"{at}.{key}")
            yield Field(key, shape, key in required, _description(inner))

    def _schemas_of(self, schema: dict[str, Any], key: str, at: str) -> list[Any]:
        found = schema[key]
        if not isinstance(found, list) or not found:
            raise InvalidSchema(f'"{key}" of {at} is an array of schemas')
        return found


def _is_record(schema: Any) -> bool:
    if not isinstance(schema, dict) or "$ref" in schema or schema.get("type", "object") != "object":
        return False
    if "allOf" in schema:
        return len(schema["allOf"]) > 1 or "properties" in schema
    if "anyOf" in schema or "oneOf" in schema or "enum" in schema or "const" in schema:
        return False
    # An object of no names, and none beside them, is one as well: an event that says nothing but that it was.
    return bool(schema.get("properties")) or (
        schema.get("type") == "object" and ("properties" in schema or schema.get("additionalProperties") is False)
    )


def _literals(values: Any, at: str) -> Shape:
    if not isinstance(values, list) or not values:
        raise InvalidSchema(f'the "enum" of {at} is an array of values')
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        return Anything()
    rest = distinct(value for value in values if value is not None)
    nothing = [NULL] if None in values else []
    return union([*([Literals(rest)] if rest else []), *nothing])


def _word(schema: Any) -> str:
    """What one of several is called beside the others, where it says so."""
    title = schema.get("title") if isinstance(schema, dict) else None
    return title if isinstance(title, str) else ""


def _description(schema: Any) -> str:
    found = schema.get("description") if isinstance(schema, dict) else None
    return found.strip() if isinstance(found, str) else ""
