"""Any Python value -> JSON: the one serializer of every entrance.

The law of this file: a value becomes JSON that says all of it, or InvalidEvent names its type and its place; nothing is
rounded, dropped or sent as null in its stead. `_native/frame` hands over what orjson alone does not do so.

Taken are, at any depth: None, bool, int of any size, finite float, str, Enum (its value), finite Decimal (a string of
its digits, as pydantic writes it), datetime, date, time, UUID (as orjson writes them); mappings, whose keys become
strings; lists, tuples, sets, deques; dataclasses; what numpy counts with; orjson.Fragment; and, as their own rules
write them, pydantic models and msgspec Structs. Of those too a float that is not finite is refused where it would
become null; but not where a pydantic model asks for null, nor in its fields of type Any, which pydantic hides.
"""

import math
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from sse_fast.errors import InvalidEvent

DEEPEST = 254  # what orjson writes
NO_LEAF: Any = object()
PERHAPS_LOST = re.compile(b"null|NaN|Infinity")  # what others write for a float that is not finite

Place = tuple["Place", Any] | None
"""Where a value stands: what holds it, and the key, the name or the index there."""


def json_of(data: Any) -> bytes:
    """Compact JSON. Raises InvalidEvent."""
    return orjson.dumps(_plain(data, None, 0))


def _plain(value: Any, place: Place, depth: int) -> Any:
    """The same for orjson: str, int, float, bool, None, list, dict with str keys, and Fragment."""
    leaf = _leaf(value, place)
    if leaf is not NO_LEAF:
        return leaf
    if depth == DEEPEST:
        raise InvalidEvent(f"data nests more than {DEEPEST} deep, or holds itself")
    match value:
        case Mapping():
            return _object(value.items(), place, depth)
        case list() | tuple() | Set() | deque():
            return [_plain(item, (place, index), depth + 1) for index, item in enumerate(value)]
        case Enum():
            return _plain(value.value, place, depth + 1)
    kind = type(value)
    if is_dataclass(kind):
        return _object(attributes(value, place), place, depth)
    if callable(write := getattr(kind, "model_dump_json", None)):
        wants_null = getattr(kind, "model_config", {}).get("ser_json_inf_nan") == "null"
        return _written(write, None if wants_null else partial(kind.model_dump, mode="json"), value, place)
    if hasattr(kind, "__struct_fields__"):
        msgspec = sys.modules["msgspec"]
        return _written(msgspec.json.encode, msgspec.to_builtins, value, place)
    if kind.__module__ == "numpy" and (counted := getattr(value, "dtype", None)) is not None and _is_exact(counted):
        return _plain(value.tolist(), place, depth + 1)
    raise InvalidEvent(f"{_path(place)}: {_named(kind)} cannot be sent as JSON{_hint(value)}")


def _leaf(value: Any, place: Place) -> Any:
    """What holds nothing else; else NO_LEAF."""
    match value:
        case None | bool() | orjson.Fragment():
            return value
        case Enum():  # before str and int, which it may be as well
            return _leaf(value.value, place)
        case str():
            return _text(value, place)
        case int():
            return value if -(2**63) <= value < 2**64 else orjson.Fragment(_digits(value, place))
        case float():
            return _finite(value, place)
        case Decimal():
            if not value.is_finite():
                raise InvalidEvent(f"{_path(place)}: {value!r} has no digits; send null or a string in its place")
            return str(value)
        case datetime() | date() | time() | UUID():
            try:
                return orjson.Fragment(orjson.dumps(value))
            except TypeError as error:
                raise InvalidEvent(f"{_path(place)}: {error}") from error
    return NO_LEAF


def _object(items: Iterable[tuple[Any, Any]], place: Place, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in items:
        here = (place, key)
        name = _key(key, here)
        if name in made:
            raise InvalidEvent(f"{_path(here)}: two keys become {name!r}; a client would get one of them")
        made[name] = _plain(item, here, depth + 1)
    return made


def _key(key: Any, place: Place) -> str:
    leaf = NO_LEAF if isinstance(key, orjson.Fragment) else _leaf(key, place)
    if leaf is NO_LEAF:
        raise InvalidEvent(f"{_path(place)}: a key becomes a string, and {_named(type(key))} has no form for that")
    return leaf if type(leaf) is str else orjson.dumps(leaf).decode().strip('"')


def attributes(instance: Any, place: Place = None) -> list[tuple[str, Any]]:
    """Of a dataclass, as orjson has it. Raises InvalidEvent for a slot without a value, of which orjson dies."""
    if not hasattr(type(instance), "__slots__"):
        return [(name, value) for name, value in vars(instance).items() if not name.startswith("_")]
    names = [field.name for field in fields(instance) if not field.name.startswith("_")]
    try:
        return [(name, getattr(instance, name)) for name in names]
    except AttributeError as error:
        raise InvalidEvent(f"{_path(place)}: {_named(type(instance))} is not whole: {error}") from error


def _written(
    write: Callable[[Any], str | bytes], dump: Callable[[Any], Any] | None, value: Any, place: Place
) -> orjson.Fragment:
    return orjson.Fragment(written(write, dump, value, place))


def written(
    write: Callable[[Any], str | bytes], dump: Callable[[Any], Any] | None, value: Any, place: Place = None
) -> bytes:
    """As `write` has it. `dump`: the same as plain values, which are looked at only where a number may be lost. Raises
    InvalidEvent."""
    try:
        text = write(value)
        json = text.encode() if isinstance(text, str) else text
        said, meant = (orjson.loads(json), dump(value)) if dump and PERHAPS_LOST.search(json) else (None, None)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"{_path(place)}: {_named(type(value))} did not become JSON: {error}") from error
    _refuse_lost(meant, said, place)
    return json


def _refuse_lost(meant: Any, said: Any, place: Place) -> None:
    """Raise InvalidEvent for a float that is not finite, and is said to be null."""
    if isinstance(meant, float) and said is None:
        _finite(meant, place)
    elif isinstance(meant, dict) and isinstance(said, dict):
        for key in meant.keys() & said.keys():
            _refuse_lost(meant[key], said[key], (place, key))
    elif isinstance(meant, list) and isinstance(said, list):
        for index, (item, of_said) in enumerate(zip(meant, said, strict=False)):
            _refuse_lost(item, of_said, (place, index))


def _finite(value: float, place: Place) -> float:
    if not math.isfinite(value):
        raise InvalidEvent(f"{_path(place)}: {value} is no JSON number; send null or a string in its place")
    return float(value)


def _text(value: str, place: Place) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"{_path(place)} has a lone surrogate, U+{ord(value[error.start]):04X}, at index {error.start}; "
            "UTF-8 cannot carry it, so it must be replaced before"
        ) from None
    return value if type(value) is str else str.__str__(value)


def _digits(value: int, place: Place) -> str:
    try:
        return str(value)
    except ValueError as error:  # sys.set_int_max_str_digits
        raise InvalidEvent(f"{_path(place)}: the int is too large: {error}") from None


def _is_exact(counted: Any) -> bool:
    """Whether numpy's type has its very values in Python."""
    return counted.kind in "biuU" or (counted.kind == "f" and counted.itemsize <= 8)


def _named(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _hint(value: Any) -> str:
    match value:
        case bytes() | bytearray() | memoryview():
            return "; decode it to str first"
        case Coroutine():
            return "; it was not awaited"
        case Iterator() | AsyncIterator():
            return "; make a list of it"
        case type():
            return "; an instance of it was meant?"
    return ""


def _path(place: Place) -> str:
    """`data.items[3].price`"""
    if place is None:
        return "data"
    within, key = place
    if isinstance(key, str) and key.isidentifier():
        return f"{_path(within)}.{key}"
    shown = repr(key)
    return f"{_path(within)}[{shown if len(shown) <= 80 else shown[:77] + '...'}]"
