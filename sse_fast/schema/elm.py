"""An Elm module of typed streams: types, decoders, and ports that the page's script serves (`runtime/ports.js`).

An Elm subscription cannot open a connection, and hears all that comes by its port. So streams are opened by a command,
and what comes of any is told with the parameters of its channel.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from sse_fast.schema.model import (
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
    referred,
    without_null,
)
from sse_fast.schema.naming import Names, camel, listed, pascal

WORDS = listed("if then else case of let in type module where import exposing as port infix alias effect")
DECLARED = re.compile(r"^(?:port )?([a-z]\w*) :|^type (?:alias )?([A-Z]\w*)|^    [=|] ([A-Z]\w*)", re.M)
# What Elm has in each module, and what this one imports.
TYPES = listed("Int Float Bool String List Maybe Result Order Char Never Cmd Sub Program Dict Decoder Decode Encode")
CONSTRUCTORS = listed("True False Nothing Just Ok Err LT EQ GT")
KINDS = {"string": "String", "integer": "Int", "number": "Float", "boolean": "Bool", "null": "()"}
DECODERS = {"string": "string", "integer": "int", "number": "float", "boolean": "bool", "null": "null ()"}
INTEGER = Plain("integer")
OPENS, OPENS_AFTER = "Open the stream. What comes is told by the subscription.", "Open it behind the event of this id."
MODULE = re.compile(r"[A-Z]\w*(?:\.[A-Z]\w*)*", re.ASCII)


@cache
def runtime() -> str:
    """The part that is the same in every module."""
    return files(__package__).joinpath("runtime/stream.elm").read_text()


def ports() -> str:
    """The script that carries the streams, the same for every module."""
    return files(__package__).joinpath("runtime/ports.js").read_text()


def elm(document: Document, source: str, module: str = "Events") -> str:
    """The text of the module. `source`: where the document is from, for its head."""
    return _Elm(document).file(source, module)


class _Elm:
    def __init__(self, document: Document) -> None:
        declared = DECLARED.findall(runtime())
        self._document = document
        self._types = Names(TYPES | {kind for _, kind, _ in declared})
        self._constructors = Names(CONSTRUCTORS | {name for _, _, name in declared} | {"Gap", "StreamError"})
        self._values = Names(WORDS | {name for name, _, _ in declared})
        self._constructed: dict[tuple[str, str], str] = {}
        names = [event.name for stream in document.streams for event in stream.events]
        for stream in document.streams:
            for event in stream.events:
                # As in the union of its stream; of an event in several, with the stream's name in front.
                alone = names.count(event.name) == 1
                wanted = pascal(event.name) if alone else pascal(stream.name) + pascal(event.name)
                self._constructed[stream.name, event.name] = self._constructors.take(wanted)
        self._recursive = {name for name in document.definitions if self._reaches(name, name)}
        self._named: dict[str, str] = {}
        self._decoders: dict[str, str] = {}
        for name, definition in document.definitions.items():
            self._named[name] = self._take_type(pascal(name), constructs=self._constructs(definition))
            self._decoders[name] = self._values.take(camel(name) + "Decoder")
        self._further: list[str] = []  # types that have no name in the document
        self._further_named: dict[Shape, tuple[str, str]] = {}

    def _reaches(self, start: str, end: str) -> bool:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in referred(self._document.definitions[todo.pop()].shape):
                if name == end:
                    return True
                if name not in seen:
                    seen.add(name)
                    todo.append(name)
        return False

    def _constructs(self, definition: Definition) -> bool:
        """Whether its type makes a constructor of its own name."""
        return isinstance(definition.shape, Record) or definition.name in self._recursive

    def _take_type(self, wanted: str, *, constructs: bool = False) -> str:
        if not constructs:
            return self._types.take(wanted)
        for name in (wanted, f"{wanted}Data", *(f"{wanted}Data{number}" for number in range(2, 1000))):
            if self._types.is_free(name) and self._constructors.is_free(name):
                self._constructors.take(name)
                return self._types.take(name)
        raise AssertionError("a thousand types of one name")

    def file(self, source: str, module: str) -> str:
        streams = [self._stream(stream) for stream in self._document.streams]
        definitions = [self._definition(definition) for definition in self._document.definitions.values()]
        head = (
            f"port module {module} exposing (..)\n\n"
            + said(f"Typed streams of {source}, made by `sse-fast generate elm`: change the schema, not this.")
            + "\nimport Dict exposing (Dict)\nimport Json.Decode as Decode exposing (Decoder)\n"
            "import Json.Encode as Encode\n"
        )
        return (
            "\n\n\n".join(part.strip("\n") for part in (head, *streams, *definitions, *self._further, runtime())) + "\n"
        )

    # ---- streams -----------------------------------------------------------------------------------------------------

    def _stream(self, stream: StreamShape) -> str:
        base, lower = pascal(stream.name), camel(stream.name)
        union, decoder = self._types.take(f"{base}Event"), self._values.take(f"{lower}EventDecoder")
        updates = self._values.take(f"{lower}Updates")
        constructed = [(event, self._constructed[stream.name, event.name]) for event in stream.events]
        members = "\n    | ".join(f"{name} {self._within(event.shape, event.name)}" for event, name in constructed)
        decoders = "\n\n".join(
            f"        {text(event.name)} ->\n"
            f"            Just (Decode.map {name} {self._decoder_within(event.shape, event.name)})"
            for event, name in constructed
        )
        parts = [
            f"-- THE STREAM {stream.name} OF THE CHANNEL {stream.channel}",
            f"{said(stream.description)}type {union}\n    = {members}",
            f"{decoder} : String -> Maybe (Decoder {union})\n{decoder} name =\n    case name of\n{decoders}\n\n"
            "        _ ->\n            Nothing",
            f"port {updates} : (Decode.Value -> msg) -> Sub msg",
        ]
        if stream.parameters:
            parts += self._with_parameters(stream, union, decoder, updates)
        else:
            parts += self._without_parameters(stream, union, decoder, updates)
        return "\n\n\n".join(parts)

    def _with_parameters(self, stream: StreamShape, union: str, decoder: str, updates: str) -> list[str]:
        base, lower = pascal(stream.name), camel(stream.name)
        kind = self._take_type(f"{base}Parameters", constructs=True)
        encode, read = self._values.take(f"{lower}Command"), self._values.take(f"{lower}ParametersDecoder")
        names = Names(WORDS)
        fields = {name: names.take(camel(name)) for name in stream.parameters}
        listed = "\n    , ".join(
            f"{fields[name]} : {self._kind_of(shape)}" for name, shape in stream.parameters.items()
        )
        texts = {name: self._text_of(fields[name], shape) for name, shape in stream.parameters.items()}
        channel = " ++ ".join(texts[part] if is_parameter else text(part) for part, is_parameter in stream.parts)
        codes = {name: "int" if shape == INTEGER else "string" for name, shape in stream.parameters.items()}
        pairs = ", ".join(
            f"( {text(field)}, Encode.{codes[name]} parameters.{field} )" for name, field in fields.items()
        )
        required = "".join(
            f"\n        |> required {text(field)} Decode.{codes[name]}" for name, field in fields.items()
        )
        opening = (
            self._values.take(f"open{base}"),
            self._values.take(f"open{base}After"),
            self._values.take(f"close{base}"),
        )
        subscribe = self._values.take(f"subscribeTo{base}")
        return [
            f"type alias {kind} =\n    {{ {listed}\n    }}",
            f"{read} : Decoder {kind}\n{read} =\n    Decode.succeed {kind}{required}",
            f"{encode} : String -> Maybe String -> {kind} -> Cmd msg\n{encode} verb after parameters =\n"
            f"    command verb {text(updates)} ({channel}) [ {', '.join(texts.values())} ]"
            f" (Encode.object [ {pairs} ]) after",
            f'{said(OPENS)}{opening[0]} : {kind} -> Cmd msg\n{opening[0]} =\n    {encode} "open" Nothing',
            f"{said(OPENS_AFTER)}{opening[1]} : String -> {kind} -> Cmd msg\n"
            f'{opening[1]} id =\n    {encode} "open" (Just id)',
            f'{opening[2]} : {kind} -> Cmd msg\n{opening[2]} =\n    {encode} "close" Nothing',
            f"{said('What comes of all streams of this kind that are open.')}"
            f"{subscribe} : ({kind} -> StreamUpdate {union} -> msg) -> Sub msg\n{subscribe} toMsg =\n"
            f"    {updates}\n        (\\told ->\n"
            f'            case Decode.decodeValue (Decode.field "parameters" {read}) told of\n'
            f"                Ok parameters ->\n                    toMsg parameters (updateOf {decoder} told)\n\n"
            f"                Err wrong ->\n                    toMsg {self._blank(stream, kind)}"
            " (Failed { message = Decode.errorToString wrong, final = False })\n        )",
        ]

    def _without_parameters(self, stream: StreamShape, union: str, decoder: str, updates: str) -> list[str]:
        base = pascal(stream.name)
        opening = (
            self._values.take(f"open{base}"),
            self._values.take(f"open{base}After"),
            self._values.take(f"close{base}"),
        )
        subscribe = self._values.take(f"subscribeTo{base}")

        def command(verb: str, after: str) -> str:
            return f"command {text(verb)} {text(updates)} {text(stream.channel)} [] (Encode.object []) {after}"

        return [
            f"{said(OPENS)}{opening[0]} : Cmd msg\n{opening[0]} =\n    {command('open', 'Nothing')}",
            f"{said(OPENS_AFTER)}{opening[1]} : String -> Cmd msg\n{opening[1]} id =\n"
            f"    {command('open', '(Just id)')}",
            f"{opening[2]} : Cmd msg\n{opening[2]} =\n    {command('close', 'Nothing')}",
            f"{subscribe} : (StreamUpdate {union} -> msg) -> Sub msg\n{subscribe} toMsg =\n"
            f"    {updates} (updateOf {decoder} >> toMsg)",
        ]

    def _kind_of(self, parameter: Shape) -> str:
        return "Int" if parameter == INTEGER else "String"

    def _text_of(self, field: str, parameter: Shape) -> str:
        return f"String.fromInt parameters.{field}" if parameter == INTEGER else f"parameters.{field}"

    def _blank(self, stream: StreamShape, kind: str) -> str:
        """The script says the parameters back as they were given; a value all the same for what never comes."""
        values = ("0" if shape == INTEGER else '""' for shape in stream.parameters.values())
        return f"({kind} {' '.join(values)})"

    # ---- types -------------------------------------------------------------------------------------------------------

    def _definition(self, definition: Definition) -> str:
        name, decoder = self._named[definition.name], self._decoders[definition.name]
        shape, described, base = definition.shape, said(definition.description), pascal(definition.name)
        recursive = definition.name in self._recursive
        if isinstance(shape, Record):
            alias = self._take_type(f"{name}Fields", constructs=True) if recursive else name
            kind = f"{'' if recursive else described}type alias {alias} =\n{self._record(shape, base)}"
            if recursive:
                kind = f"{described}type {name}\n    = {name} {alias}\n\n\n{kind}"
            read = self._record_decoder(shape, alias, base)
            read = f"    Decode.map {name}\n        ({read.strip()})" if recursive else read
        elif self._is_custom(shape):
            kind, read = self._custom(shape, name)
            kind = described + kind
        elif recursive:
            kind = f"{described}type {name}\n    = {name} {self._within(shape, base)}"
            read = f"    Decode.map {name} {self._decoder_within(shape, base)}"
        else:
            kind = f"{described}type alias {name} =\n    {self.type_of(shape, base)}"
            read = f"    {self.decoder_of(shape, base)}"
        return f"{kind}\n\n\n{decoder} : Decoder {name}\n{decoder} =\n{read}"

    def _record(self, record: Record, name: str) -> str:
        if not record.fields:
            return "    {}"
        lines = []
        for at, (field, member) in enumerate(members(record)):
            shape = field.shape if field.required else without_null(field.shape)
            kind = self.type_of(shape, name + pascal(field.name))
            kind = kind if field.required else f"Maybe {self._bracketed(kind)}"
            comment = "".join(f"-- {line}\n      " for line in field.description.splitlines())
            lines.append(f"    {',' if at else '{'} {comment}{member} : {kind}")
        return "\n".join([*lines, "    }"])

    def _record_decoder(self, record: Record, alias: str, name: str) -> str:
        if not record.fields:
            return "    object (Decode.succeed {})"
        lines = [f"    Decode.succeed {alias}"]
        for field, _ in members(record):
            shape = field.shape if field.required else without_null(field.shape)
            taken = "required" if field.required else "optional"
            decoder = self._decoder_within(shape, name + pascal(field.name))
            lines.append(f"        |> {taken} {text(field.name)} {decoder}")
        read = "\n".join(lines)
        if any(field.required for field in record.fields):
            return read
        return f"    object\n        ({read.strip()})"

    def _is_custom(self, shape: Shape) -> bool:
        match shape:
            case Literals(values):
                return len(values) > 1 and all(isinstance(value, str) for value in values)
            case Union():
                return not is_nullable(shape)
        return False

    def _custom(self, shape: Shape, name: str) -> tuple[str, str]:
        """Its declaration, and its decoder's text."""
        if isinstance(shape, Literals):
            values = {str(value): self._constructors.take(name + pascal(str(value))) for value in shape.values}
            cases = "\n\n".join(
                f"                    {text(value)} ->\n                        Decode.succeed {each}"
                for value, each in values.items()
            )
            return (
                f"type {name}\n    = " + "\n    | ".join(values.values()),
                "    Decode.string\n        |> Decode.andThen\n            (\\value ->\n                case value of\n"
                f"{cases}\n\n                    _ ->\n"
                f"                        Decode.fail ({text('this is no ' + name + ': ')} ++ value)\n            )",
            )
        assert isinstance(shape, Union)
        taken = [(each, self._constructors.take(name + self._word(each))) for each in shape.members]
        kinds = "\n    | ".join(f"{each} {self._within(member, each)}" for member, each in taken)
        decoders = "\n        , ".join(
            f"Decode.map {each} {self._decoder_within(member, each)}" for member, each in taken
        )
        return f"type {name}\n    = {kinds}", f"    Decode.oneOf\n        [ {decoders}\n        ]"

    def _word(self, shape: Shape) -> str:
        match shape:
            case Named(name):
                return self._named[name]
            case Plain(kind):
                return {"()": "Null"}.get(KINDS[kind], KINDS[kind])
            case Listed():
                return "List"
            case Mapped():
                return "Dict"
            case Literals():
                return "Literal"
        return "Value"

    def _hoisted(self, shape: Shape, name: str) -> tuple[str, str]:
        """The names of the type and the decoder of what has no name in the document."""
        if shape not in self._further_named:
            kind = self._take_type(pascal(name))
            decoder = self._values.take(kind[:1].lower() + kind[1:] + "Decoder")
            self._further_named[shape] = kind, decoder
            declared, read = self._custom(shape, kind)
            self._further.append(f"{declared}\n\n\n{decoder} : Decoder {kind}\n{decoder} =\n{read}")
        return self._further_named[shape]

    def type_of(self, shape: Shape, name: str) -> str:
        """`name`: what it is called if it needs a type of its own."""
        if self._is_custom(shape):
            return self._hoisted(shape, name)[0]
        match shape:
            case Plain(kind):
                return KINDS[kind]
            case Literals(values):
                return kind_of(values)
            case Named(defined):
                return self._named[defined]
            case Listed(item):
                return f"List {self._within(item, name)}"
            case Tupled(items) if len(items) in (2, 3):
                return f"( {', '.join(self.type_of(item, name + str(at)) for at, item in enumerate(items, 1))} )"
            case Tupled():
                return "List Decode.Value"
            case Mapped(value):
                return f"Dict String {self._within(value, name)}"
            case Union():
                return f"Maybe {self._within(without_null(shape), name)}"
            case _:
                return "Decode.Value"

    def decoder_of(self, shape: Shape, name: str) -> str:
        if self._is_custom(shape):
            return self._hoisted(shape, name)[1]

        def within(inner: Shape) -> str:
            return self._decoder_within(inner, name)

        match shape:
            case Plain(kind):
                return f"Decode.{DECODERS[kind]}"
            case Literals(values):
                return exactly(values)
            case Named(defined):
                decoder = self._decoders[defined]
                return f"Decode.lazy (\\_ -> {decoder})" if defined in self._recursive else decoder
            case Listed(item):
                return f"Decode.list {within(item)}"
            case Tupled(items) if len(items) in (2, 3):
                each = (f"(Decode.index {at} {within(item)})" for at, item in enumerate(items))
                make = "Tuple.pair" if len(items) == 2 else "(\\a b c -> ( a, b, c ))"
                return f"Decode.map{len(items)} {make} {' '.join(each)}"
            case Tupled():
                return "Decode.list Decode.value"
            case Mapped(value):
                return f"Decode.dict {within(value)}"
            case Union():
                return f"Decode.nullable {within(without_null(shape))}"
            case _:
                return "Decode.value"

    def _within(self, shape: Shape, name: str) -> str:
        return self._bracketed(self.type_of(shape, name))

    def _decoder_within(self, shape: Shape, name: str) -> str:
        return self._bracketed(self.decoder_of(shape, name))

    def _bracketed(self, code: str) -> str:
        return f"({code})" if " " in code and not code.startswith("( ") else code


def members(record: Record) -> Iterable[tuple[Field, str]]:
    """The fields, and what they are called."""
    names = Names(WORDS)
    return [(field, names.take(camel(field.name))) for field in record.fields]


def kind_of(values: tuple[str | int | float | bool, ...]) -> str:
    """Of some literals that are no type of their own."""
    for kind, name in ((bool, "Bool"), (str, "String"), (int, "Int"), (float, "Float")):
        if all(type(value) is kind for value in values):
            return name
    return "Decode.Value"


def exactly(values: tuple[str | int | float | bool, ...]) -> str:
    kind = kind_of(values)
    if kind == "Decode.Value":
        return "Decode.value"
    shown = ", ".join(text(value) if isinstance(value, str) else str(value) for value in values)
    return f"oneOfThese [ {shown} ] Decode.{kind.lower()}"


def text(value: str) -> str:
    """A string of Elm."""
    plain = "".join(
        f"\\{letter}" if letter in '\\"' else letter if letter.isprintable() else f"\\u{{{ord(letter):04X}}}"
        for letter in value
    )
    return f'"{plain}"'


def said(description: str) -> str:
    """A doc comment, or nothing."""
    safe = description.strip().replace("-}", "- }").replace("{-", "{ -")
    lines = [line.rstrip() for line in safe.splitlines()]
    return "{-| " + "\n".join(lines) + "\n-}\n" if lines else ""
