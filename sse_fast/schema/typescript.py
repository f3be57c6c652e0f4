"""A TypeScript client of typed streams: one file, which depends on nothing, with the browser client in it.

Fields are called as on the wire, since nothing is renamed in what `JSON.parse` gives; the parameters of a channel and
the functions have names in TypeScript's case.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files

from sse_fast import js
from sse_fast.schema.model import (
    Anything,
    Definition,
    Document,
    Listed,
    Literals,
    Mapped,
    Named,
    Plain,
    Record,
    Shape,
    StreamEvent,
    StreamShape,
    Tupled,
    Union,
)
from sse_fast.schema.naming import Names, camel, listed, pascal

IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
DECLARED = re.compile(r"^(?:export )?(?:async )?(?:interface|type|class|const|function\*?) ([A-Za-z]\w*)", re.M)
KINDS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
WORDS = listed(
    "any as async await bigint boolean break case catch class const continue debugger declare default delete do else "
    "enum export extends false finally for from function get if implements import in infer instanceof interface is "
    "keyof let module namespace never new null number object of package private protected public readonly require "
    "return set static string super switch symbol this throw true try type typeof undefined unique unknown var void "
    "while with yield eval arguments"
)
# What the runtime means by these names must not become a type or function of the schema's.
GLOBALS = listed(
    "AbortController AbortSignal Array AsyncGenerator AsyncIterable AsyncIterableIterator BroadcastChannel "
    "ConstructorParameters DOMException Date Error Headers Infinity IteratorResult JSON Map Math NaN Number Object "
    "Omit Pick Promise ReturnType Response Set String Symbol TextDecoder TextEncoder TypeError URL Uint8Array atob "
    "clearInterval clearTimeout console fetch globalThis setInterval setTimeout undefined"
)
# Of the browser client: what is used below and what is handed on.
VALUES = ("connect", "StreamError")
SHAPES = ("Connection", "Gap", "StreamEvent", "StreamOptions", "StreamState", "Token")


@cache
def runtime() -> str:
    """The part that is the same in every file."""
    return files(__package__).joinpath("runtime/stream.ts").read_text()


def carried(client: str | None) -> str:
    """The browser client: as it stands, or imported from there."""
    values, shapes = ", ".join(VALUES), ", ".join(SHAPES)
    exported = f"export {{ {values} }};\nexport type {{ {shapes} }};\n"
    if client is not None:
        script = json.dumps(client)
        return f"import {{ {values} }} from {script};\nimport type {{ {shapes} }} from {script};\n{exported}"
    # A bundler would not know where this file was served, nor is there such a place in CommonJS.
    text = js.source().replace(js.OWN_ADDRESS, "undefined")
    return f"// ---- the browser client {'-' * 96}\n\n{text}\n{exported}"


def typescript(document: Document, source: str, client: str | None = None) -> str:
    """The text of the file. `source`: where the document is from, for its head. `client`: from where to import the
    browser client, which else is part of the file."""
    return _TypeScript(document).file(source, client)


class _TypeScript:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._names = Names(WORDS | GLOBALS | set(DECLARED.findall(runtime() + js.source())))
        self._types = {name: self._names.take(pascal(name)) for name in document.definitions}

    def file(self, source: str, client: str | None) -> str:
        client_part = carried(client)
        parts = [
            f"// Typed streams of {source}, made by `sse-fast generate typescript`: change the schema, not this.\n"
            "/* eslint-disable */\n",
            *([client_part] if client is not None else []),
            *(self._definition(definition) for definition in self._document.definitions.values()),
            *(self._stream(stream) for stream in self._document.streams),
            runtime(),
            *([client_part] if client is None else []),
        ]
        return "\n".join(parts)

    def _definition(self, definition: Definition) -> str:
        name = self._types[definition.name]
        head = comment(definition.description)
        if isinstance(definition.shape, Record):
            return f"{head}export interface {name} {self._record(definition.shape)}\n"
        return f"{head}export type {name} = {self.type_of(definition.shape)};\n"

    def _record(self, record: Record) -> str:
        if not record.fields:
            return "{}"
        lines = []
        for field in record.fields:
            optional = "" if field.required else "?"
            lines.append(comment(field.description, "  "))
            lines.append(f"  {key(field.name)}{optional}: {self.type_of(field.shape)};\n")
        return "{\n" + "".join(lines) + "}"

    def type_of(self, shape: Shape) -> str:
        match shape:
            case Plain(kind):
                return KINDS[kind]
            case Literals(values):
                return " | ".join(json.dumps(value) for value in values)
            case Named(name):
                return self._types[name]
            case Listed(item):
                return f"Array<{self.type_of(item)}>"
            case Tupled(items):
                return f"[{', '.join(self.type_of(item) for item in items)}]"
            case Mapped(value):
                return f"{{ [name: string]: {self.type_of(value)} }}"
            case Union(members):
                return " | ".join(self.type_of(member) for member in members)
            case Record():
                return self._record(shape)
            case Anything():
                return "unknown"

    def _stream(self, stream: StreamShape) -> str:
        base = pascal(stream.name)
        event, types = self._names.take(f"{base}Event"), self._names.take(f"{camel(stream.name)}EventTypes")
        channel = self._names.take(f"{camel(stream.name)}Channel")
        subscribe_to, iterator = self._names.take(f"subscribeTo{base}"), self._names.take(camel(stream.name))
        given, before, passed, parameters = "", "", "", ""
        if stream.parameters:
            name = self._names.take(f"{base}Parameters")
            members = parameter_names(stream.parameters)
            fields = "".join(
                f"  {members[each]}: {self.type_of(shape)};\n" for each, shape in stream.parameters.items()
            )
            parameters = f"export interface {name} {{\n{fields}}}\n\n"
            given, before, passed = f"parameters: {name}", f"parameters: {name}, ", "parameters"
        text = f"the stream {stream.name}, of the channel {stream.channel}"
        described = f"{stream.description}\n\n" if stream.description else ""
        union = "".join(self._event(each) for each in stream.events)
        listed = ", ".join(json.dumps(each.name) for each in stream.events)
        return (
            f"// ---- {text} {'-' * max(3, 116 - len(text))}\n\n{parameters}"
            f"{comment(stream.description)}export type {event} ={union};\n\n"
            f"const {types}: readonly string[] = [{listed}];\n\n"
            f"export function {channel}({given}): string {{\n  return {self._channel(stream)};\n}}\n\n"
            f"{comment(f'{described}Calls `onEvent` for each event, in their order, and comes back by itself.')}"
            f"export function {subscribe_to}({before}handlers: Handlers<{event}>): Subscription {{\n"
            f"  return subscribe({channel}({passed}), {types}, handlers);\n}}\n\n"
            f"{comment(f'{described}The events in their order; `$gap` stands where some are gone.')}"
            f"export function {iterator}({before}options: ListenOptions = {{}}): "
            f"AsyncGenerator<{event} | GapEvent, void, undefined> {{\n"
            f"  return iterate<{event}>({channel}({passed}), {types}, options);\n}}\n"
        )

    def _event(self, event: StreamEvent) -> str:
        return f"\n  | {{ type: {json.dumps(event.name)}; data: {self.type_of(event.shape)}; id: string }}"

    def _channel(self, stream: StreamShape) -> str:
        if not stream.parameters:
            return json.dumps(stream.channel)
        members = parameter_names(stream.parameters)
        return " + ".join(
            f"channelPart({json.dumps(members[text])}, {access('parameters', members[text])})"
            if is_parameter
            else json.dumps(text)
            for text, is_parameter in stream.parts
        )


def parameter_names(parameters: Iterable[str]) -> Mapping[str, str]:
    """What the parameters of a channel are called."""
    names = Names()
    return {parameter: names.take(camel(parameter)) for parameter in parameters}


def access(value: str, name: str) -> str:
    return f"{value}.{name}"


def key(name: str) -> str:
    """In an interface: any but an identifier is quoted."""
    return name if IDENTIFIER.fullmatch(name) else json.dumps(name)


def comment(text: str, indent: str = "") -> str:
    """A doc comment, or nothing."""
    lines = list(_lines(text))
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


def _lines(text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        yield line.rstrip().replace("*/", "*\u200b/")
