"""The three kinds of classes that are events: pydantic models, dataclasses, msgspec structs.

Each kind has one library that writes an instance as JSON and says by a JSON Schema what it writes, so that the two
mean the same: pydantic for its models (by their aliases) and for dataclasses, msgspec for its structs. Both are loaded
when the first class is looked at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, Protocol

from sse_fast.errors import InvalidEvent, InvalidSchema
from sse_fast.event_rules import brief
from sse_fast.serialization import json_of, written

REF = "#/$defs/{model}"
Json = dict[str, Any]


class Form(Protocol):
    """What is known of a class."""

    def write(self, event: Any) -> bytes:
        """An instance as compact JSON. Raises InvalidEvent."""


class _OfPydantic:
    """A model, or a dataclass."""

    def __init__(self, kind: type) -> None:
        from pydantic import PydanticUserError, TypeAdapter

        try:
            self.adapter: Any = TypeAdapter(kind)
        except PydanticUserError as error:
            raise InvalidSchema(f"{kind.__qualname__} cannot be an event: {error.message}") from None
        self._dump = partial(self.adapter.dump_json, by_alias=True, warnings=False)
        # What it asks to be null, is.
        wants_null = getattr(kind, "model_config", {}).get("ser_json_inf_nan") == "null"
        plain = partial(self.adapter.dump_python, mode="json", by_alias=True, warnings=False)
        self._plain = None if wants_null else plain

    def write(self, event: Any) -> bytes:
        try:
            return written(self._dump, self._plain, event)
        except InvalidEvent:
            json_of(self._values(event))  # names the place, if it can
            raise

    def _values(self, event: Any) -> Any:
        return event if is_dataclass(event) else dict(event)


class _OfMsgspec:
    """A struct."""

    def __init__(self, kind: type) -> None:
        import msgspec

        self.kind = kind
        self._write = partial(written, msgspec.json.encode, msgspec.to_builtins)

    def write(self, event: Any) -> bytes:
        return self._write(event)


def form_of(kind: type) -> Form:
    """Raises InvalidSchema for a class that is none of the three."""
    if not isinstance(kind, type):
        raise InvalidSchema(
            f"{brief(kind)} is no class; an event is a pydantic model, a dataclass or a msgspec struct"
            + ("; an instance of it was given" if is_dataclass(kind) or hasattr(kind, "model_fields") else "")
        )
    if hasattr(kind, "__struct_fields__"):
        return _OfMsgspec(kind)
    if callable(getattr(kind, "model_dump_json", None)) or is_dataclass(kind):
        return _OfPydantic(kind)
    raise InvalidSchema(
        f"{kind.__module__}.{kind.__qualname__} is neither a pydantic model, a dataclass nor a msgspec struct, and "
        "nothing else can be an event"
    )


def schemas_of(kinds: Iterable[type], forms: Mapping[type, Form]) -> tuple[dict[type, Json], dict[str, Json]]:
    """The JSON Schema (2020-12) of each class, and the `$defs` that they refer to. Raises InvalidSchema."""
    by_pydantic = [kind for kind in kinds if isinstance(forms[kind], _OfPydantic)]
    by_msgspec = [kind for kind in kinds if isinstance(forms[kind], _OfMsgspec)]
    schemas: dict[type, Json] = {}
    defs: dict[str, Json] = {}
    if by_pydantic:
        found, defs = _named(by_pydantic, lambda: _by_pydantic(by_pydantic, forms))
        schemas |= found
    if by_msgspec:
        found, further = _named(by_msgspec, lambda: _by_msgspec(by_msgspec, "#/$defs/{name}"))
        if defs.keys() & further.keys():  # two classes of one name, one of each kind
            found, further = _by_msgspec(by_msgspec, "#/$defs/{name}Struct")
            further = {f"{name}Struct": each for name, each in further.items()}
            if taken := sorted(defs.keys() & further.keys()):
                raise InvalidSchema(f"two classes are called {taken[0]} in the schema; rename one")
        schemas |= found
        defs |= further
    return schemas, defs


Made = tuple[dict[type, Json], dict[str, Json]]


def _named(kinds: list[type], make: Callable[[], Made]) -> Made:
    """What `make` returns, or an error of the class that cannot be said as JSON Schema."""
    try:
        return make()
    except Exception as error:
        names = ", ".join(kind.__qualname__ for kind in kinds)
        message = getattr(error, "message", None) or str(error)
        raise InvalidSchema(f"there is no JSON Schema of {names}: {message}") from error


def _by_pydantic(kinds: list[type], forms: Mapping[type, Form]) -> Made:
    from pydantic import TypeAdapter

    adapters: list[Any] = [(kind, "serialization", getattr(forms[kind], "adapter")) for kind in kinds]  # noqa: B009
    found, rest = TypeAdapter.json_schemas(adapters, by_alias=True, ref_template=REF)
    return {kind: found[kind, "serialization"] for kind in kinds}, rest.get("$defs", {})


def _by_msgspec(kinds: list[type], ref: str) -> Made:
    import msgspec

    found, defs = msgspec.json.schema_components(kinds, ref_template=ref)
    return dict(zip(kinds, found, strict=True)), defs
