"""Templates of channels: `item:{item_id}`, `tenant:{tenant}:user-{user}`.

A template is segments between colons, as a channel's name. A segment is literal, or has one `{parameter}`, which stands
for one character at least and never for a colon; so a name of a template has one reading, and whether two templates
share a name can be said exactly.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sse_fast.errors import InvalidEvent, InvalidSchema
from sse_fast.event_rules import brief, channel_name

PARAMETER = re.compile(r"\{([^{}]*)\}")
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)


class Segment(NamedTuple):
    """Between two colons: `before`, and where it has a parameter the parameter and `behind`."""

    before: str
    parameter: str | None = None
    behind: str = ""

    def meets(self, other: "Segment") -> bool:
        """Whether one text is of both."""
        if self.parameter is None and other.parameter is None:
            return self.before == other.before
        if self.parameter is None:
            return other.read(self.before) is not None
        if other.parameter is None:
            return self.read(other.before) is not None
        # What stands between can be as long as it takes.
        return _begin_alike(self.before, other.before) and _begin_alike(self.behind[::-1], other.behind[::-1])

    def read(self, text: str) -> str | None:
        """What stands for the parameter; None: this text is not of this segment."""
        if not (text.startswith(self.before) and text.endswith(self.behind)):
            return None
        return text[len(self.before) : len(text) - len(self.behind)] or None


def _begin_alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


class Template:
    """Template("item:{item_id}"). Raises InvalidSchema."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidSchema(f"the channel of a stream is text such as 'item:{{item_id}}', not {brief(text)}")
        self.text = text
        self.segments = tuple(self._segment(each) for each in text.split(":"))
        self.parameters = tuple(each.parameter for each in self.segments if each.parameter is not None)
        if len(set(self.parameters)) < len(self.parameters):
            raise self._wrong("names a parameter twice")
        try:
            channel_name(text.format_map(dict.fromkeys(self.parameters, "x")))
        except InvalidEvent as error:
            raise self._wrong(f"has no names that a channel may have: {error}") from None
        if text.startswith("$"):
            raise self._wrong("begins with '$', as the server's own channels do")

    def _segment(self, text: str) -> Segment:
        found = list(PARAMETER.finditer(text))
        if len(found) > 1:
            raise self._wrong(f"has two parameters in one segment, {brief(text)}; put a colon between them")
        if not found:
            if "{" in text or "}" in text:
                raise self._wrong(f"has a single brace in {brief(text)}; a parameter is written {{name}}")
            return Segment(text)
        (one,) = found
        before, name, behind = text[: one.start()], one[1], text[one.end() :]
        if not name.isidentifier():
            raise self._wrong(f"has a parameter {brief(name)}; its name is one that a Python variable may have")
        if set("{}") & set(before + behind):
            raise self._wrong(f"has a single brace in {brief(text)}; a parameter is written {{name}}")
        return Segment(before, name, behind)

    def _wrong(self, why: str) -> InvalidSchema:
        return InvalidSchema(f"the channel template {brief(self.text)} {why}")

    def fill(self, parameters: Mapping[str, str]) -> str:
        """The channel's name. There is a text for each parameter, and for no other."""
        return self.text.format_map(parameters)

    def read(self, channel: str) -> dict[str, str] | None:
        """The parameters of a channel's name; None: it is not of this template."""
        parts = channel.split(":")
        if len(parts) != len(self.segments):
            return None
        found: dict[str, str] = {}
        for segment, part in zip(self.segments, parts, strict=True):
            if segment.parameter is None:
                if part != segment.before:
                    return None
                continue
            value = segment.read(part)
            if value is None:
                return None
            found[segment.parameter] = value
        return found

    @property
    def encoded(self) -> list[tuple[bytes, bytes | None]]:
        """Its segments, as `_native.wire.templates` has them."""
        return [
            (each.before.encode(), None if each.parameter is None else each.behind.encode()) for each in self.segments
        ]

    def meets(self, other: "Template") -> bool:
        """Whether a channel could be of both."""
        return len(self.segments) == len(other.segments) and all(
            mine.meets(its) for mine, its in zip(self.segments, other.segments, strict=True)
        )

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def wrong_parameter(name: str, type: str, text: str) -> str | None:
    """Why `text` cannot stand for a parameter of this JSON type, "string" or "integer", in a channel; None: it can."""
    if type == "integer":
        return None if WHOLE_NUMBER.fullmatch(text) else f"{name} is a whole number, not {brief(text)}"
    if not text:
        return f"{name} has at least one character"
    if ":" in text:
        return f"{name} has no ':', which parts the segments of a channel; {brief(text)} has one"
    return None
