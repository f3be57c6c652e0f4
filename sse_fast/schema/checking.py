"""Whether data fits what a stream carries: JSON, against the JSON Schemas of the document.

An app that publishes an instance and an edge that is sent JSON check the same bytes by the same schemas, so both mean
the same. What is asserted beside the schemas' own keywords: the formats of FORMATS; the others say nothing here.

The time it takes is bounded by the size of the data, for schemas that `tagged` and `refuse_slow` have been through.
Patterns are trusted: they are the app's own.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, time
from ipaddress import IPv6Address
from typing import Any

import orjson

from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.templates import TypedChannels
from sse_fast.errors import InvalidEvent, InvalidSchema
from sse_fast.event_rules import brief, kind_of
from sse_fast.schema.shape import OF_LISTS, OF_NAMES, OF_ONE, REF, Document, Schema, within
from sse_fast.schema.templates import Template, wrong_parameter
from sse_fast.schema.unions import References, refuse_slow, tags_of

DEEPEST = 64  # arrays and objects within each other, of data whose schema is recursive
UNNAMED = "message"  # what clients call an event without a type
SHOWN = 200  # characters of a path, or of what is wrong there
MOST_COMPARED = 500  # values in data of which is said what is wrong with each branch of a union
SIMPLE = frozenset(("boolean", "integer", "null", "number", "string"))
# What is wrong with the first items of a list, and not with the whole.
OF_FEWER = frozenset(("contains", "minContains", "minItems"))


def _is_moment(text: str) -> bool:
    """RFC 3339, or a local time, which has no offset: a class that takes one writes one."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "-" in text[:5]


def _is_time(text: str) -> bool:
    try:
        time.fromisoformat(text)
    except ValueError:
        return False
    return ":" in text[:3]


def _is_ipv6(text: str) -> bool:
    """With a zone, too (RFC 4007, section 11), as Python's own class has it."""
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


TOO_LARGE = "it does not fit, and is too large to say where"

FORMATS = {"date-time": _is_moment, "time": _is_time, "date": None, "ipv4": None, "ipv6": _is_ipv6, "uuid": None}
"""The formats that are asserted, and by what; None: as JSON Schema has them."""


class Checker:
    """All of a document. `channels`: what publishing is given, so that what does not fit is refused. Raises
    InvalidSchema."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._streams = [
            (
                Template(stream["channel"]),
                [name for name, schema in stream["parameters"].items() if schema["type"] == "integer"],
                Checked(stream["name"], stream["events"], document["$defs"]),
            )
            for stream in document["streams"]
        ]
        self.channels = TypedChannels([template.encoded for template, _, _ in self._streams], self._refuse)

    def _refuse(self, place: int, channel: bytes, frame: bytes) -> None:
        """Raise InvalidEvent where this event is not of the stream at this place, to which its channel belongs."""
        template, numbers, checked = self._streams[place]
        if numbers:
            parameters = template.read(channel.decode()) or {}
            for name in numbers:
                if (why := wrong_parameter(name, "integer", parameters[name])) is not None:
                    raise InvalidEvent(f"{checked.stream}: {why}")
        received = next(EventParser(max_event_size=len(frame) + 1).feed(frame))
        checked.refuse_unfit(received.event, received.data)


class Checked:
    """What a stream carries, by the names on the wire; their schemas refer to `defs`. Raises InvalidSchema."""

    def __init__(self, stream: str, events: Mapping[str, Schema], defs: Mapping[str, Schema]) -> None:
        self.stream = stream
        self._names = ", ".join(events)
        self._events = {name: _Validator(f"{stream}.{name}", schema, defs) for name, schema in events.items()}

    def refuse_unfit(self, event: str, data: bytes | str) -> None:
        """Raise InvalidEvent, which names the field, for data that is not of this event."""
        validator = self._events.get(event)
        if validator is None:
            called = "an event without a type" if event == UNNAMED else f"the event {brief(event)}"
            raise InvalidEvent(f"{self.stream} carries {self._names}, and not {called}")
        if (why := validator.why_not(data)) is not None:
            raise InvalidEvent(f"{event}: {why}")


class _Validator:
    """Of one event."""

    def __init__(self, where: str, schema: Schema, defs: Mapping[str, Schema]) -> None:
        rs = _library()
        references = References({name: defs[name] for name in References(defs).of(schema)})
        used = references.defs
        refuse_slow(where, references)
        self._recursive = bool(references.recursive)
        self._compares = any(_compares(each) for each in (schema, *used.values()))
        compiled = {
            "$defs": {name: _prepared(each, used) for name, each in used.items()},
            "allOf": [_prepared(schema, used)],
        }
        try:
            self._validator = rs.Draft202012Validator(
                compiled,
                formats={name: check for name, check in FORMATS.items() if check is not None},
                validate_formats=True,
                offline=True,
                mask="it",
            )
        except ValueError as error:
            message = getattr(error, "message", None) or str(error)
            raise InvalidSchema(f"{where}: this is no JSON Schema: {message[:SHOWN]}") from None
        self._is_valid, self._error = self._validator.is_valid, rs.ValidationError

    def why_not(self, data: bytes | str) -> str | None:
        """Why this JSON does not fit; None: it does."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return f"the data is not JSON: {error}"
        if self._recursive and _nests_over(value, DEEPEST):
            return f"arrays and objects nest at most {DEEPEST} deep in it"
        if self._is_valid(value):
            return None
        whole = value
        if self._compares:
            value = _fewer(value)
            if value is not whole and (value is None or self._is_valid(value)):
                return TOO_LARGE
        try:
            self._validator.validate(value)  # up to the first error: there may be as many as there are bytes
        except self._error as error:
            return TOO_LARGE if value is not whole and error.kind.name in OF_FEWER else _told(error, value)
        except ValueError:  # the library's own bound, on what it would show
            pass
        return "it does not fit, and arrays and objects nest too deep in it to say where"


def _library() -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        raise InvalidSchema(
            "typed events are checked by jsonschema-rs, which is not installed; pip install 'sse-fast[schema]'"
        ) from None
    return jsonschema_rs


def _prepared(schema: Any, defs: Mapping[str, Schema]) -> Any:
    """A copy that says the same as far as it is asserted, with unions whose branches a tag tells apart as choices."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in OF_ONE:
            made[keyword] = _prepared(value, defs)
        elif keyword in OF_LISTS:
            made[keyword] = [_prepared(each, defs) for each in value]
        elif keyword in OF_NAMES:
            made[keyword] = {name: _prepared(each, defs) for name, each in value.items()}
        elif keyword != "format" or value in FORMATS:
            made[keyword] = value
    for keyword in ("anyOf", "oneOf"):
        union = tags_of(schema, keyword, defs)
        if union is not None:
            del made[keyword]
            made.setdefault("allOf", []).append(_choice(union.tag, union.branches, union.null))
    return made


def _choice(tag: str, branches: Iterable[tuple[str, list[Any]]], null: bool) -> dict[str, Any]:
    values = [value for _, its in branches for value in its]
    choice = {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"enum": values}},
        "allOf": [
            {"if": {"properties": {tag: {"enum": its}}, "required": [tag]}, "then": {"$ref": REF + name}}
            for name, its in branches
        ],
    }
    return {"if": {"not": {"type": "null"}}, "then": choice} if null else choice


def _compares(schema: Schema) -> bool:
    """Whether it has a union of which the library would look for every error in each branch."""
    branches = (branch for _, each in within(schema) if isinstance(each, dict) for branch in _branches(each))
    return any(not isinstance(branch, dict) or branch.get("type") not in SIMPLE for branch in branches)


def _branches(schema: Schema) -> list[Any]:
    return [] if isinstance(schema, bool) else [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _fewer(value: Any) -> Any:
    """It, or with the first items of its lists only, so that MOST_COMPARED values are in it; None: its objects alone
    have more."""
    for items in (MOST_COMPARED, 100, 10, 1):
        left = [MOST_COMPARED]
        cut = _first_of(value, items, left)
        if left[0] >= 0:
            return value if items == MOST_COMPARED else cut
    return None


def _first_of(value: Any, items: int, left: list[int]) -> Any:
    """The value with so many items of each list. Below 0 there are more values `left`, and it is worth nothing."""
    left[0] -= 1
    if left[0] < 0 or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_first_of(each, items, left) for each in value[:items]]
    cut = {}
    for name, each in value.items():
        cut[name] = _first_of(each, items, left)
        if left[0] < 0:
            break
    return cut


def _nests_over(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


# ---- in words --------------------------------------------------------------------------------------------------------


def _told(error: Any, value: Any) -> str:
    """What is wrong, and where."""
    error = _nearest(error)
    kind, path = error.kind.name, _keys(error.instance_path, value)
    if kind == "required":
        return f"{_path([*path, error.kind.value])} is missing"
    if kind == "additionalProperties":
        return f"{_path([*path, sorted(error.kind.value)[0]])} is no field of it"
    if kind == "type":
        return f"{_path(path)} is {kind_of(error.instance)}, not {_types(error.kind.value)}"
    if kind in ("anyOf", "oneOf"):
        types = _types_of(error)
        rest = f"not {_types(types)}" if types else "and that is none of those it may be"
        return f"{_path(path)} is {kind_of(error.instance)}, {rest}"
    return f"{_path(path)}: {error.message[:SHOWN]}"


def _nearest(error: Any) -> Any:
    """Of a union, what is wrong with the branch that comes nearest; the union's own error where none does."""
    while error.kind.name in ("anyOf", "oneOf"):
        depth = len(error.instance_path)
        branches = [each for each in getattr(error.kind, "context", ()) if each]
        # A branch that is of another type altogether is not what was meant.
        deeper = [each[0] for each in branches if len(each[0].instance_path) > depth or each[0].kind.name != "type"]
        if not deeper:
            return branches[0][0] if len(branches) == 1 else error
        error = max(deeper, key=lambda each: len(each.instance_path))
    return error


def _types_of(union: Any) -> list[str]:
    """Those that its branches take, where nothing but the type is wrong with each; else none."""
    types: list[str] = []
    for branch in getattr(union.kind, "context", ()):
        if not branch or branch[0].kind.name != "type" or len(branch[0].instance_path) > len(union.instance_path):
            return []
        said = branch[0].kind.value
        types += [said] if isinstance(said, str) else said
    return list(dict.fromkeys(types))


def _types(types: Any) -> str:
    words = {"array": "an array", "integer": "a whole number", "null": "null", "object": "an object"}
    listed = [types] if isinstance(types, str) else types
    return " or ".join(words.get(each, f"a {each}") for each in listed)


def _keys(path: Iterable[str | int], value: Any) -> list[str | int]:
    """The keys on the way into this value. The library has a key of digits for a number, as if it were a place."""
    keys: list[str | int] = []
    for key in path:
        if isinstance(value, dict):
            key = str(key)
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:  # it leaves out a key that is empty
            value = None
        keys.append(key)
    return keys


def _path(path: list[Any]) -> str:
    text = "data"
    for key in path:
        text += f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{brief(key)}]"
        if len(text) > SHOWN:
            return text[:SHOWN] + "…"
    return text
