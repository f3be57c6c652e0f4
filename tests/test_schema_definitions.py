"""Typed events as an app defines them: classes, streams, channels."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from sse_fast import InvalidEvent, InvalidSchema, stream
from sse_fast.event_rules import CHANNEL_FORBIDS
from sse_fast.schema.templates import Template


class Model(BaseModel):
    text: str
    stars: int = Field(default=0, alias="numberOfStars", ge=0, le=5)


@dataclass
class Data:
    text: str
    stars: int = 0


class Struct(msgspec.Struct, rename="camel"):
    text: str
    number_of_stars: int = 0


Comments = stream("item:{item_id}", Model, Data, Struct)
Numbered = stream("order:{number}:{what}", Data, number=int)

PIECES = st.sampled_from(["", "a", "b", "ab", "ba"])
SEGMENTS = st.tuples(PIECES, st.sampled_from(["", "{%}"]), PIECES).map("".join).filter(bool)
TEMPLATES = st.lists(SEGMENTS, min_size=1, max_size=3).map(
    lambda given: ":".join(each.replace("%", f"p{place}") for place, each in enumerate(given))
)
NAMES = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3).map(":".join)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a module of this source, below `from sse_fast import stream` and two classes, and imports it."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, source: str) -> ModuleType:
        head = (
            "from dataclasses import dataclass\nfrom sse_fast import stream\n\n@dataclass\nclass A:\n    text: str\n\n"
            "@dataclass\nclass B:\n    text: str\n\n"
        )
        (tmp_path / f"{name}.py").write_text(head + source)
        made.append(name)
        return __import__(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


# ---- templates -------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["p0", "p1", "p2"]), st.text("ab", min_size=1)), TEMPLATES)
def test_a_channel_says_the_parameters_that_it_was_made_of(given: dict[str, str], text: str) -> None:
    template = Template(text)
    parameters = {name: given.get(name, "x") for name in template.parameters}
    assert template.read(template.fill(parameters)) == parameters


@given(TEMPLATES, NAMES)
def test_a_template_has_a_name_if_a_regular_expression_says_so(text: str, name: str) -> None:
    pattern = re.sub(r"\\{\w+\\}", "[^:]+", re.escape(text))
    assert (Template(text).read(name) is not None) == (re.fullmatch(pattern, name) is not None)


@given(TEMPLATES, TEMPLATES, NAMES)
def test_templates_that_share_a_name_meet(one: str, other: str, name: str) -> None:
    if Template(one).read(name) is not None and Template(other).read(name) is not None:
        assert Template(one).meets(Template(other))


@given(TEMPLATES, TEMPLATES)
def test_templates_that_meet_share_a_name(one: str, other: str) -> None:
    left, right = Template(one), Template(other)
    assert left.meets(right) == right.meets(left)
    if left.meets(right):
        # One that both have: what stands before the parameters of either, then what stands behind them.
        shared = []
        for mine, its in zip(left.segments, right.segments, strict=True):
            literal = next((each.before for each in (mine, its) if each.parameter is None), None)
            longest = max(mine.before, its.before, key=len), max(mine.behind, its.behind, key=len)
            shared.append(literal if literal is not None else "-".join(longest))
        assert left.read(":".join(shared)) is not None
        assert right.read(":".join(shared)) is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("item:{a}{b}", "two parameters in one segment"),
        ("item:{a}-{b}", "two parameters in one segment"),
        ("item:{a}:{a}", "names a parameter twice"),
        ("item:{0}", "one that a Python variable may have"),
        ("item:{}", "one that a Python variable may have"),
        ("item:{a!r}", "one that a Python variable may have"),
        ("item:{a", "single brace"),
        ("item:a}", "single brace"),
        ("item:{{a}", "single brace"),
        ("$item:{a}", "begins with '[$]'"),
        ("item {a}", "has no names that a channel may have"),
        ("", "at least one character"),
    ],
)
def test_a_template_that_is_none_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidSchema, match=why):
        stream(text, Data)


# ---- channels --------------------------------------------------------------------------------------------------------


def test_a_stream_with_its_parameters_is_a_channel() -> None:
    channel = Comments(item_id="7")
    assert channel.channel == str(channel) == "item:7"
    assert channel == Comments(item_id="7") != Comments(item_id="8")
    assert len({channel, Comments(item_id="7")}) == 1
    assert Numbered(number=7, what="state").channel == "order:7:state"
    assert stream("Größen:{größe}", Data)(größe="ü").channel == "Größen:ü"


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({}, "Comments: the parameter 'item_id' is missing; its channels are item:{item_id}"),
        ({"item_id": "7", "id": "7"}, "Comments: there is no parameter 'id'"),
        ({"item_id": 7}, "Comments: item_id is text, not 7"),
        ({"item_id": None}, "Comments: item_id is text, not None"),
        ({"item_id": ""}, "Comments: item_id has at least one character"),
        ({"item_id": "7:admin"}, "Comments: item_id has no ':'"),
        ({"item_id": "a b"}, "Comments: a channel name is UTF-8 text without white space"),
        ({"item_id": "\ud800"}, "Comments: a channel name is UTF-8 text"),
        ({"item_id": "x" * 2100}, "Comments: a channel name has at most 2048 bytes"),
    ],
)
def test_parameters_that_make_no_channel_of_the_stream_are_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        Comments(**parameters)
    assert why in str(refused.value)


@pytest.mark.parametrize("number", ["7", 7.0, True, None])
def test_a_parameter_that_is_a_whole_number_takes_no_other(number: Any) -> None:
    with pytest.raises(InvalidEvent, match="Numbered: number is a whole number"):
        Numbered(number=number, what="state")


@given(st.text())
def test_a_parameter_stays_within_its_segment(text: str) -> None:
    try:
        channel = Comments(item_id=text).channel
    except InvalidEvent:
        assert not text or ":" in text or CHANNEL_FORBIDS.search(text) or len(text) > 200 or not text.isprintable()
    else:
        assert channel == f"item:{text}"
        assert channel.count(":") == 1


# ---- events ----------------------------------------------------------------------------------------------------------


def test_an_event_is_called_as_its_class_and_its_data_is_its_json() -> None:
    channel = Comments(item_id="7")
    assert channel.encode_event(Model(text="ü", numberOfStars=3)) == (
        "Model",
        '{"text":"ü","numberOfStars":3}'.encode(),
    )
    assert channel.encode_event(Data("a")) == ("Data", b'{"text":"a","stars":0}')
    assert channel.encode_event(Struct("a")) == ("Struct", b'{"text":"a","numberOfStars":0}')


def test_an_event_may_have_a_name_of_its_own_and_does_not_hand_it_down() -> None:
    class Renamed(BaseModel):
        __event__ = "comment.renamed"
        a: int

    class Further(Renamed):
        pass

    class Tagged(msgspec.Struct):
        __event__ = "größe"
        a: int

    made = stream("x", Renamed, Further, Tagged)
    assert list(made.events) == ["comment.renamed", "Further", "größe"]
    assert made().encode_event(Tagged(1)) == ("größe", b'{"a":1}')


@pytest.mark.parametrize("name", ["$gap", "", "a\nb", "a\0", "x" * 257, "\ud800", 7])
def test_a_name_that_no_event_may_have_is_refused(name: Any) -> None:
    kind = dataclass(type("Named", (), {"__event__": name, "__annotations__": {"a": int}}))
    with pytest.raises(InvalidSchema, match="Named"):
        stream("x", kind)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Data(7), "Data: data.text is a number, not a string"),  # type: ignore[arg-type]
        (Struct("a", "b"), "Struct: data.numberOfStars is a string, not a whole number"),  # type: ignore[arg-type]
        (Model.model_construct(text=None), "Model: data.text is null, not a string"),
        (Model.model_construct(stars=1), "Model: data.text is missing"),
        (Model.model_construct(text="a", stars=9), "Model: data.numberOfStars: it is greater than the maximum of 5"),
        (Data("a", float("nan")), "Data: data.stars is null, not a whole number"),  # type: ignore[arg-type]
        (Data(object()), "Data: data.text: an object cannot be sent as JSON"),  # type: ignore[arg-type]
        (Data("\ud800"), "Data: data.text has a lone surrogate"),
        ("text", "Comments carries Model, Data, Struct, and this is of the class str"),
        ({"text": "a"}, "Comments carries Model, Data, Struct, and this is of the class dict"),
        (Data, "Comments carries Model, Data, Struct, and this is of the class type"),
    ],
)
def test_what_a_channel_does_not_carry_is_refused_with_the_field(event: object, why: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        Comments(item_id="7").encode_event(event)
    assert why in str(refused.value)


def test_of_a_tagged_union_the_field_of_its_branch_is_named() -> None:
    @dataclass
    class Circle:
        radius: float
        kind: Literal["circle"] = "circle"

    @dataclass
    class Square:
        side: float
        kind: Literal["square"] = "square"

    class Drawn(BaseModel):
        shapes: list[Circle | Square | None] = Field()
        one: Circle | Square = Field(discriminator="kind")

    drawn = stream("drawings", Drawn)()
    good = Drawn(shapes=[Circle(1), None], one=Square(1))
    assert drawn.encode_event(good)[0] == "Drawn"
    with pytest.raises(InvalidEvent, match=r"Drawn: data.one.side is null, not a number"):
        drawn.encode_event(good.model_copy(update={"one": Square(None)}))  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match=r"Drawn: data.one.kind"):
        drawn.encode_event(good.model_copy(update={"one": Square(1, "triangle")}))  # type: ignore[arg-type]


# ---- definitions -----------------------------------------------------------------------------------------------------


def test_a_stream_is_called_as_its_module_calls_it_or_as_it_says() -> None:
    assert Comments.name == "Comments"
    assert stream("x", Data, name="Größen").name == "Größen"
    nameless = stream("x:{a}", Data)
    assert "x:{a}" in repr(nameless)
    with pytest.raises(InvalidSchema, match=r"the stream x:\{a\} has no name"):
        _ = nameless.name
    with pytest.raises(InvalidSchema, match="the name of a stream"):
        stream("x", Data, name="$comments")


def test_what_defines_no_stream_is_refused_with_what_would() -> None:
    with pytest.raises(InvalidSchema, match="carries no events"):
        stream("x")
    with pytest.raises(InvalidSchema, match="has no parameter 'id'; it has item_id"):
        stream("item:{item_id}", Data, id=int)
    with pytest.raises(InvalidSchema, match=r"'item_id' of .* is str or int"):
        stream("item:{item_id}", Data, item_id=float)
    with pytest.raises(InvalidSchema, match=r"two events .* are called 'Data'"):
        stream("x", Data, Data)
    with pytest.raises(InvalidSchema, match=r"builtins\.dict is neither a pydantic model"):
        stream("x", dict)
    with pytest.raises(InvalidSchema, match="an instance of it was given"):
        stream("x", Data("a"))  # type: ignore[arg-type]


def test_two_streams_of_a_module_that_could_share_a_channel_are_refused_and_both_named(module: Any) -> None:
    with pytest.raises(InvalidSchema, match=r"One, item:\{item_id\}, and of item:latest"):
        module("overlapping", 'One = stream("item:{item_id}", A)\nTwo = stream("item:latest", B)\n')
    with pytest.raises(InvalidSchema, match=r"One, item:\{a\}, and of item:\{b\}"):
        module("twice", 'One = stream("item:{a}", A)\nTwo = stream("item:{b}", B)\n')
    apart = module(
        "apart", 'One = stream("item:{a}", A)\nTwo = stream("item:{a}:{b}", A)\nThree = stream("x-{a}", B)\n'
    )
    assert [apart.One.name, apart.Two.name, apart.Three.name] == ["One", "Two", "Three"]


def test_a_module_that_is_loaded_again_defines_its_streams_again(module: Any) -> None:
    from importlib import reload

    first = module("reloaded", 'One = stream("item:{a}", A)\n')
    before = first.One
    assert reload(first).One is not before
