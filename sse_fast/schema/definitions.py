"""Typed events, as an app defines them: a class is an event, a stream is a template of channels and the events that
they carry.

    class CommentAdded(BaseModel):
        comment_id: str
        text: str

    Comments = stream("item:{item_id}", CommentAdded, CommentUpdated)

    await hub.publish(Comments(item_id="7"), CommentAdded(comment_id="1", text="fine"))

An event is called by its class's name, or by `__event__ = "comment.added"` in its class, and `event:` says so; `data:`
is the JSON of the instance. A stream is called as the attribute of the module that it is assigned to.
"""

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Generic, TypeVar, overload

from sse_fast.errors import InvalidEvent, InvalidSchema
from sse_fast.event_rules import brief, channel_name
from sse_fast.schema.checking import Checked
from sse_fast.schema.forms import Form, form_of, schemas_of
from sse_fast.schema.shape import check_event_name, check_name
from sse_fast.schema.templates import Template, wrong_parameter

E = TypeVar("E", contravariant=True)  # a channel that takes more events is one that takes fewer
JSON_TYPES: dict[type, str] = {str: "string", int: "integer"}


class Stream(Generic[E]):
    """What `stream` returns. Called with its parameters it is a channel: `Comments(item_id="7")`.

    template: of its channels. events: their classes by the names on the wire. parameters: each one's JSON type.
    """

    def __init__(
        self,
        template: str,
        events: tuple[type, ...],
        *,
        name: str | None,
        description: str | None,
        parameters: Mapping[str, type],
        module: Mapping[str, Any] | None = None,
    ) -> None:
        self.template = Template(template)
        self.description = description
        self._name = name
        self._module = module
        self.spec = None if module is None else module.get("__spec__")
        if name is not None:
            check_name(name, f"the stream {template}")
        if unknown := sorted(parameters.keys() - set(self.template.parameters)):
            has = ", ".join(self.template.parameters) or "none"
            raise InvalidSchema(f"the channel template {brief(template)} has no parameter {unknown[0]!r}; it has {has}")
        for parameter, kind in parameters.items():
            if kind not in JSON_TYPES:
                raise InvalidSchema(
                    f"the parameter {parameter!r} of {brief(template)} is str or int, not {brief(kind)}"
                )
        self.parameters = {each: JSON_TYPES[parameters.get(each, str)] for each in self.template.parameters}
        if not events:
            raise InvalidSchema(f"the stream {template} carries no events; name their classes behind the channel")
        self.events: dict[str, type] = {}
        self.forms: dict[type, tuple[str, Form]] = {}
        for kind in events:
            form = form_of(kind)
            event = name_of(kind)
            if event in self.events:
                raise InvalidSchema(
                    f"two events of the stream {template} are called {event!r}; rename a class, or say "
                    f'`__event__ = "another"` in it'
                )
            self.events[event] = kind
            self.forms[kind] = event, form
        self._checked: Checked | None = None

    def __call__(self, /, **parameters: str | int) -> "Channel[E]":
        """The channel of these parameters. Raises InvalidEvent."""
        return Channel(self, parameters)

    @property
    def name(self) -> str:
        """As it was given, or as its module calls it. Raises InvalidSchema where nobody does."""
        if self._name is None and self._module is not None:
            self._name = next((name for name, value in self._module.items() if value is self), None)
        if self._name is None:
            raise InvalidSchema(
                f"the stream {self.template.text} has no name; assign it to an attribute of its module, or say name="
            )
        return self._name

    @property
    def called(self) -> str:
        """In a message."""
        try:
            return self.name
        except InvalidSchema:
            return self.template.text

    def channel(self, parameters: Mapping[str, object]) -> str:
        """The channel's name. Raises InvalidEvent."""
        texts: dict[str, str] = {}
        for name, kind in self.parameters.items():
            if name not in parameters:
                raise InvalidEvent(f"{self.called}: the parameter {name!r} is missing; its channels are {self}")
            value = parameters[name]
            if kind == "integer" and type(value) is int:
                value = str(value)
            elif type(value) is not str or kind == "integer":
                raise InvalidEvent(
                    f"{self.called}: {name} is {'a whole number' if kind == 'integer' else 'text'}, not {brief(value)}"
                )
            if (why := wrong_parameter(name, kind, value)) is not None:
                raise InvalidEvent(f"{self.called}: {why}")
            texts[name] = value
        if unknown := parameters.keys() - self.parameters.keys():
            raise InvalidEvent(f"{self.called}: there is no parameter {min(unknown)!r}; its channels are {self}")
        channel = self.template.fill(texts)
        try:
            channel_name(channel)
        except InvalidEvent as error:
            raise InvalidEvent(f"{self.called}: {error}") from None
        return channel

    def encode(self, event: object) -> tuple[str, bytes]:
        """Its name on the wire, and its JSON. Raises InvalidEvent."""
        found = self.forms.get(type(event))
        if found is None:
            kind = type(event).__qualname__
            raise InvalidEvent(f"{self.called} carries {', '.join(self.events)}, and this is of the class {kind}")
        if self._checked is None:
            self._checked = self._to_check()
        name, form = found
        try:
            data = form.write(event)
        except InvalidEvent as error:
            raise InvalidEvent(f"{name}: {error}") from None
        self._checked.refuse_unfit(name, data)
        return name, data

    def _to_check(self) -> Checked:
        schemas, defs = schemas_of(self.events.values(), {kind: form for kind, (_, form) in self.forms.items()})
        return Checked(self.called, {name: schemas[kind] for name, kind in self.events.items()}, defs)

    def openapi(self) -> dict[int | str, Any]:
        """For a route of FastAPI that answers with this stream, `responses=Comments.openapi()`; `openapi_for(app,
        Comments)` then describes it in the app's document."""
        from sse_fast.schema.openapi import responses_of  # what it loads is for who wants this alone

        return responses_of(self.name)

    def __str__(self) -> str:
        return self.template.text

    def __repr__(self) -> str:
        return f"<stream {self.called}: {self.template.text}, of {', '.join(self.events)}>"


class Channel(Generic[E]):
    """A channel of a stream. `channel`: its name, as `str()` has it."""

    __slots__ = ("channel", "stream")

    def __init__(self, stream: Stream[E], parameters: Mapping[str, object]) -> None:
        self.stream = stream
        self.channel = stream.channel(parameters)

    def encode_event(self, event: E) -> tuple[str, bytes]:
        """Its name on the wire, and its JSON. Raises InvalidEvent for what this channel does not carry."""
        return self.stream.encode(event)

    def __str__(self) -> str:
        return self.channel

    def __repr__(self) -> str:
        return f"<channel {self.channel} of {self.stream.called}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Channel):
            return NotImplemented
        return self.channel == other.channel and self.stream is other.stream

    def __hash__(self) -> int:
        return hash(self.channel)


def name_of(kind: type) -> str:
    """What an event of this class is called on the wire. Raises InvalidSchema."""
    name = kind.__dict__.get("__event__", kind.__name__)  # its own: an event made from another has another name
    if not isinstance(name, str):
        raise InvalidSchema(f"{kind.__qualname__}.__event__ is the name of an event, not {brief(name)}")
    return check_event_name(name, kind.__qualname__)


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
F = TypeVar("F")
G = TypeVar("G")


# A type checker sees which events a channel takes: of up to six. Of more it sees no more than that they are classes.
@overload
def stream(
    channel: str, a: type[A], /, *, name: str | None = ..., description: str | None = ..., **parameters: type
) -> Stream[A]: ...
@overload
def stream(
    channel: str,
    a: type[A],
    b: type[B],
    /,
    *,
    name: str | None = ...,
    description: str | None = ...,
    **parameters: type,
) -> Stream[A | B]: ...
@overload
def stream(
    channel: str,
    a: type[A],
    b: type[B],
    c: type[C],
    /,
    *,
    name: str | None = ...,
    description: str | None = ...,
    **parameters: type,
) -> Stream[A | B | C]: ...
@overload
def stream(
    channel: str,
    a: type[A],
    b: type[B],
    c: type[C],
    d: type[D],
    /,
    *,
    name: str | None = ...,
    description: str | None = ...,
    **parameters: type,
) -> Stream[A | B | C | D]: ...
@overload
def stream(
    channel: str,
    a: type[A],
    b: type[B],
    c: type[C],
    d: type[D],
    e: type[F],
    /,
    *,
    name: str | None = ...,
    description: str | None = ...,
    **parameters: type,
) -> Stream[A | B | C | D | F]: ...
@overload
def stream(
    channel: str,
    a: type[A],
    b: type[B],
    c: type[C],
    d: type[D],
    e: type[F],
    f: type[G],
    /,
    *,
    name: str | None = ...,
    description: str | None = ...,
    **parameters: type,
) -> Stream[A | B | C | D | F | G]: ...
@overload
def stream(
    channel: str, /, *events: type, name: str | None = ..., description: str | None = ..., **parameters: type
) -> Stream[Any]: ...


def stream(
    channel: str, /, *events: type, name: str | None = None, description: str | None = None, **parameters: type
) -> Stream[Any]:
    """A stream: channels such as "item:{item_id}", and the classes of the events that they carry.

    A parameter stands for one character at least and never for ":"; it is text, or a whole number where a keyword says
    so: `stream("item:{item_id}", CommentAdded, item_id=int)`. name: by default what its module calls it; description:
    for the documents that are made of it.

    Raises InvalidSchema, also where a channel could be of another stream of this module, too.
    """
    frame = sys._getframe(1)
    module = frame.f_globals if _is_of_module(frame) else None
    made: Stream[Any] = Stream(
        channel, events, name=name, description=description, parameters=parameters, module=module
    )
    # An interpreter's prompt, and a module that is loaded again, define what they have defined before.
    if module is not None and not hasattr(sys, "ps1"):
        for other in streams_of(module):
            if other._module is not module or other.spec is made.spec:
                refuse_overlap(other, made)
    return made


def _is_of_module(frame: FrameType) -> bool:
    return frame.f_code.co_name == "<module>"


def streams_of(module: Mapping[str, Any]) -> list[Stream[Any]]:
    """Those that a module has names for, each once, in the order of these."""
    return list(dict.fromkeys(value for value in module.values() if isinstance(value, Stream)))


def refuse_overlap(one: Stream[Any], other: Stream[Any]) -> None:
    """Raises InvalidSchema for two streams of which a channel could be."""
    if one.template.meets(other.template):
        names = one.called if one.called == str(one) else f"{one.called}, {one},"
        raise InvalidSchema(
            f"a channel could be of {names} and of {other}, and it belongs to one stream; give them other channels, or "
            "make them one stream"
        )
