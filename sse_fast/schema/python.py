"""A Python client of typed streams: one file, which needs httpx and nothing else."""

import builtins
import keyword
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from sse_fast.schema.model import (
    NULL,
    Definition,
    Document,
    Field,
    Listed,
    Literals,
    Mapped,
    Named,
    Plain,
    Record,
    Shape,
    StreamShape,
    Tupled,
    Union,
    is_nullable,
    without_null,
)
from sse_fast.schema.naming import Names, listed, pascal, snake

KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
DECLARED = re.compile(r"^(?:async def|def|class|import) (\w+)|^(\w+)\b.* = |^from \S+ import (.*)", re.M)
# What a class of the file means by these, its fields may not.
OF_A_RECORD = listed("decode str int float bool list dict tuple object classmethod Any Literal dataclass")
OF_A_FUNCTION = listed("url token last_event_id history client")


@cache
def runtime() -> str:
    """The part that is the same in every file, its imports first."""
    text = files(__package__).joinpath("runtime/stream.py").read_text()
    return text.partition('"""\n\n')[2]


@cache
def reserved() -> frozenset[str]:
    """Names that mean something else at the top of the file."""
    declared = {
        name.strip() for found in DECLARED.findall(runtime()) for group in found if group for name in group.split(",")
    }
    return frozenset({*declared, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)})


def python(document: Document, source: str) -> str:
    """The text of the file. `source`: where the document is from, for its head."""
    return _Python(document).file(source)


class _Python:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._names = Names(reserved())
        self._types = {name: self._names.take(pascal(name)) for name in document.definitions}
        self._decoders = {
            name: f"{self._types[name]}.decode"
            if isinstance(definition.shape, Record)
            else self._names.take(f"decode_{snake(name)}")
            for name, definition in document.definitions.items()
        }
        self._further: dict[str, str] = {}  # functions for what has no name in the document
        self._further_named: dict[Shape, str] = {}

    def file(self, source: str) -> str:
        head = quoted(
            f"Typed streams of {source}, made by `sse-fast generate python`: change the schema, not this.", ""
        )
        definitions = "\n\n".join(self._definition(each) for each in self._document.definitions.values())
        streams = "\n\n".join(self._stream(each) for each in self._document.streams)
        parts = (runtime(), definitions, *self._further.values(), streams)
        return f"{head}\nfrom __future__ import annotations\n\n" + "\n\n".join(part for part in parts if part)

    def _helper(self, shape: Shape) -> str:
        """The function that decodes this. Of a union mypy knows what it is where that is written; of a tuple its items
        are of several kinds."""
        name = self._further_named.setdefault(shape, f"_shape_{len(self._further_named) + 1}")
        if name not in self._further:
            kind = self.type_of(shape)
            self._further[name] = ""  # it may be within itself
            if isinstance(shape, Tupled):
                each = "".join(
                    f'        _decoded({self.decoder_of(item)}, items[{at}], f"{{at}}[{at}]"),\n'
                    for at, item in enumerate(shape.items)
                )
                body = f"    items = _items(value, at, {len(shape.items)})\n    return (\n{each}    )\n"
            else:
                assert isinstance(shape, Union)
                members = ", ".join(self.decoder_of(member) for member in shape.members)
                body = f"    decode: Decoder[{kind}] = _one_of({members})\n    return decode(value, at)\n"
            self._further[name] = f"def {name}(value: object, at: str) -> {kind}:\n{body}"
        return name

    def _definition(self, definition: Definition) -> str:
        name, decoder = self._types[definition.name], self._decoders[definition.name]
        if isinstance(definition.shape, Record):
            return self._class(name, definition.shape, definition.description)
        said = f"{quoted(definition.description, '')}" if definition.description else ""
        return (
            f"{name}: TypeAlias = {text_of(self.type_of(definition.shape))}\n{said}\n\n"
            f'def {decoder}(value: object, at: str = "data") -> {name}:\n'
            f"    decode: Decoder[{name}] = {self.decoder_of(definition.shape)}\n"
            "    return _decoded(decode, value, at)\n"
        )

    def _class(self, name: str, record: Record, description: str) -> str:
        names = Names({*keyword.kwlist, *OF_A_RECORD, *self._types.values()})
        members = [(names.take(attribute(field.name)), field) for field in record.fields]
        lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {name}:"]
        if description:
            lines.append(quoted(description, "    ").rstrip() + "\n")
        for member, field in members:
            lines.append(f"    {member}: {self._field_type(field)}" + ("" if field.required else " = None"))
            if field.description:
                lines.append(quoted(field.description, "    ").rstrip())
        lines += ["", "    @classmethod", f'    def decode(cls, value: object, at: str = "data") -> {name}:']
        lines.append(f"        {'fields = ' if members else ''}_object(value, at)")
        lines.append("        return cls(" if members else "        return cls()")
        for member, field in members:
            taken = "_field" if field.required else "_optional"
            lines.append(
                f"            {member}={taken}(fields, {text_of(field.name)}, at, {self.decoder_of(field.shape)}),"
            )
        if members:
            lines.append("        )")
        return "\n".join(lines) + "\n"

    def _field_type(self, field: Field) -> str:
        shape = self.type_of(field.shape)
        return shape if field.required or is_nullable(field.shape) or shape in ("Any", "None") else f"{shape} | None"

    def type_of(self, shape: Shape) -> str:
        match shape:
            case Plain(kind):
                return KINDS[kind]
            case Literals(values):
                if any(isinstance(value, float) for value in values):
                    return "float"  # no Literal takes one
                return f"Literal[{', '.join(text_of(value) for value in values)}]"
            case Named(name):
                return self._types[name]
            case Listed(item):
                return f"list[{self.type_of(item)}]"
            case Tupled(items):
                return f"tuple[{', '.join(self.type_of(item) for item in items)}]"
            case Mapped(value):
                return f"dict[str, {self.type_of(value)}]"
            case Union(members):
                return " | ".join(dict.fromkeys(self.type_of(member) for member in in_order(members)))
            case _:
                return "Any"

    def decoder_of(self, shape: Shape) -> str:
        match shape:
            case Plain(kind):
                return f"_{kind}"
            case Literals(values):
                if any(isinstance(value, float) for value in values):
                    return "_number"
                return f"_literal({', '.join(text_of(value) for value in values)})"
            case Named(name):
                return self._decoders[name]
            case Listed(item):
                return f"_array({self.decoder_of(item)})"
            case Tupled():
                return self._helper(shape)
            case Mapped(value):
                return f"_mapping({self.decoder_of(value)})"
            case Union():
                if is_nullable(shape):
                    return f"_nullable({self.decoder_of(without_null(shape))})"
                return self._helper(shape)
            case _:
                return "_anything"

    def _stream(self, stream: StreamShape) -> str:
        base = pascal(stream.name)
        union, function = self._names.take(f"{base}Event"), self._names.take(snake(stream.name))
        channel = self._names.take(f"{snake(stream.name)}_channel")
        decode = f"_{function}_event"
        events = [(each, self._names.take(f"{base}{pascal(each.name)}")) for each in stream.events]
        names = Names({*keyword.kwlist, *OF_A_FUNCTION, *dir(builtins)})
        parameters = {each: names.take(attribute(snake(each))) for each in stream.parameters}
        given = "".join(f"{parameters[each]}: {self.type_of(shape)}, " for each, shape in stream.parameters.items())
        passed = ", ".join(f"{name}={name}" for name in parameters.values())
        lines = []
        for event, alias in events:
            data = self.type_of(event.shape)
            lines.append(f"{alias}: TypeAlias = {text_of(f'Event[Literal[{text_of(event.name)}], {data}]')}")
        lines.append(f"{union}: TypeAlias = {text_of(' | '.join(alias for _, alias in events))}")
        lines += ["", "", f"def {channel}({'*, ' if given else ''}{given.removesuffix(', ')}) -> str:"]
        lines.append(f"    return {self._channel(stream, parameters)}")
        lines += ["", "", f"def {decode}(type: str, value: object, id: str) -> {union} | None:", "    match type:"]
        for number, (event, alias) in enumerate(events):
            lines.append(f"        case {text_of(event.name)}:")
            lines.append(
                f"            decode{number}: Decoder[{self.type_of(event.shape)}] = {self.decoder_of(event.shape)}"
            )
            lines.append(
                f"            event{number}: {alias} = "
                f"Event({text_of(event.name)}, _decoded(decode{number}, value, 'data'), id)"
            )
            lines.append(f"            return event{number}")
        lines += ["        case _:", "            return None", "", ""]
        described = f"{stream.description}\n\n" if stream.description else ""
        described += (
            f"Events of {stream.channel} in their order, for `async for`. It comes back by itself, and resumes.\n\n"
            "url: where the server's /sse is. token: a bearer token, or what is asked for one before each attempt.\n"
            "last_event_id: begin behind it; history: without one, begin with so many kept events. client: with\n"
            "settings of your own, such as certificates."
        )
        lines += [
            f"def {function}(",
            "    *,",
            *(f"    {parameters[each]}: {self.type_of(shape)}," for each, shape in stream.parameters.items()),
            "    url: str,",
            "    token: Token | None = None,",
            "    last_event_id: str | None = None,",
            "    history: int | None = None,",
            "    client: httpx.AsyncClient | None = None,",
            f") -> Stream[{union}]:",
            quoted(described, "    ").rstrip(),
            "    return Stream(",
            f"        {channel}({passed}), {decode}, url=url, token=token, last_event_id=last_event_id,",
            "        history=history, client=client,",
            "    )",
        ]
        return "\n".join(lines) + "\n"

    def _channel(self, stream: StreamShape, parameters: dict[str, str]) -> str:
        return " + ".join(
            f"channel_part({text_of(parameters[part])}, {parameters[part]})" if is_parameter else text_of(part)
            for part, is_parameter in stream.parts
        )


def in_order(members: Iterable[Shape]) -> list[Shape]:
    """None last, as it is written."""
    return sorted(members, key=lambda member: member == NULL)


def attribute(name: str) -> str:
    """What a field is called: its name, if that can be one that is not private."""
    return name if name.isascii() and name.isidentifier() and not name.startswith("_") else snake(name)


def text_of(value: object) -> str:
    """As Python writes it, in double quotes where it is a string without any."""
    if isinstance(value, str) and value.isprintable() and not set(value) & {'"', "\\"}:
        return f'"{value}"'
    return repr(value)


def quoted(text: str, indent: str) -> str:
    """A docstring."""
    safe = text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"').replace("\0", "\\x00")
    if safe.endswith('"'):
        safe += " "
    lines = [line.rstrip() for line in safe.splitlines()]
    inside = "\n".join(f"{indent}{line}" if line and at else line for at, line in enumerate(lines))
    end = f"\n{indent}" if len(lines) > 1 else ""
    return f'{indent}"""{inside}{end}"""\n'
