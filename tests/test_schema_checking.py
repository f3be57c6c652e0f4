"""What fits a stream, and what does not: laws that hold for an app's instances and for a stranger's JSON alike."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from enum import Enum
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from sse_fast import InvalidEvent, InvalidSchema, encode, stream
from sse_fast.schema import document_of
from sse_fast.schema.checking import Checker
from sse_fast.schema.shape import Document


def refusal(checker: Checker, channel: str, event: str | None, data: str | bytes) -> str | None:
    """Why the edge refuses this event; None: it takes it."""
    place = checker.channels.find(channel.encode())
    if place < 0:
        return None
    try:
        checker._refuse(place, channel.encode(), encode(data, event=event))
    except InvalidEvent as error:
        return str(error)
    return None


class Colour(Enum):
    RED = "red"
    DEEP = "deep"


@dataclass
class Inner:
    text: str
    ratio: float = 1.5


# A type of a field, what is of it, and what is not, as JSON.
FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "text": (str, st.text(), st.sampled_from([7, None, [], {}, True])),
    "whole": (int, st.integers(), st.sampled_from(["7", 7.5, None, [], True])),
    "number": (float, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["7", None, [], True])),
    "flag": (bool, st.booleans(), st.sampled_from(["true", 1, 0, None])),
    "exact": (Decimal, st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from([None, [], {}])),
    "moment": (
        datetime,
        st.datetimes(timezones=st.sampled_from([None, UTC])),
        st.sampled_from([7, None, "yesterday", "2020-13-01T00:00:00Z", ""]),
    ),
    "day": (date, st.dates(), st.sampled_from([7, None, "yesterday", "2020-13-01"])),
    "clock": (clock, st.times(), st.sampled_from([7, None, "noon"])),
    "span": (timedelta, st.timedeltas(timedelta(-900), timedelta(900)), st.sampled_from([None, []])),
    "id": (UUID, st.uuids(), st.sampled_from([7, None, "1234"])),
    "colour": (Colour, st.sampled_from(Colour), st.sampled_from(["blue", 8, None])),
    "one": (Literal["a", "b"], st.sampled_from(["a", "b"]), st.sampled_from(["c", 1, None])),
    "perhaps": (int | None, st.none() | st.integers(), st.sampled_from(["7", 7.5, []])),
    "some": (list[int], st.lists(st.integers(), max_size=3), st.sampled_from([7, None, {}, ["7"], [1, None]])),
    "named": (
        dict[str, int],
        st.dictionaries(st.text(), st.integers(), max_size=3),
        st.sampled_from([7, None, [], {"a": "7"}]),
    ),
    "inner": (
        Inner,
        st.builds(Inner, st.text()),
        st.sampled_from([7, None, [], {}, {"text": 7}, {"text": "", "ratio": ""}]),
    ),
    "anything": (Any, st.none() | st.integers() | st.lists(st.text(), max_size=2), st.nothing()),
}
KINDS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "pydantic": lambda name, fields: create_model(name, **{key: (kind, ...) for key, kind in fields.items()}),
    "dataclass": lambda name, fields: make_dataclass(name, list(fields.items())),
    "msgspec": lambda name, fields: msgspec.defstruct(name, list(fields.items())),
}
CLASSES = {kind: make(f"Of{kind}", {key: each[0] for key, each in FIELDS.items()}) for kind, make in KINDS.items()}
Everything = stream("all:{id}", *CLASSES.values(), name="Everything")
EVERYTHING = Checker(document_of([Everything]))
VALUES = st.fixed_dictionaries({key: each[1] for key, each in FIELDS.items()})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(values=VALUES)
def test_what_a_class_takes_its_channel_and_the_edge_take(kind: str, values: dict[str, Any]) -> None:
    name, data = Everything(id="1").encode_event(CLASSES[kind](**values))
    assert refusal(EVERYTHING, "all:1", name, data) is None


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(
    values=VALUES, chosen=st.sampled_from(sorted(FIELDS)).flatmap(lambda key: st.tuples(st.just(key), FIELDS[key][2]))
)
def test_a_field_of_another_type_is_refused_and_named(
    kind: str, values: dict[str, Any], chosen: tuple[str, Any]
) -> None:
    name, data = Everything(id="1").encode_event(CLASSES[kind](**values))
    key, wrong = chosen
    if kind == "msgspec" and key in ("moment", "clock") and isinstance(wrong, str):
        return  # msgspec says of a time that may be local no more than that it is text
    why = refusal(EVERYTHING, "all:1", name, orjson.dumps(orjson.loads(data) | {key: wrong}))
    assert why is not None
    assert why.startswith(f"{name}: data.{key}")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(values=VALUES, key=st.sampled_from(sorted(FIELDS)))
def test_a_field_that_is_missing_is_named(kind: str, values: dict[str, Any], key: str) -> None:
    name, data = Everything(id="1").encode_event(CLASSES[kind](**values))
    without = {each: value for each, value in orjson.loads(data).items() if each != key}
    assert refusal(EVERYTHING, "all:1", name, orjson.dumps(without)) == f"{name}: data.{key} is missing"


@settings(max_examples=60)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(), each),
        max_leaves=10,
    ),
    event=st.sampled_from([*(each.__name__ for each in CLASSES.values()), "Other", "ofpydantic", "message", None]),
)
def test_whatever_a_stranger_sends_is_answered_in_a_line(data: Any, event: str | None) -> None:
    why = refusal(EVERYTHING, "all:1", event, json.dumps(data))
    assert why is not None
    assert len(why) < 600
    assert "\n" not in why or isinstance(data, dict)


@pytest.mark.parametrize(
    ("event", "data", "why"),
    [
        ("Ofmsgspec", "", "Ofmsgspec: the data is not JSON"),
        ("Ofmsgspec", "{", "Ofmsgspec: the data is not JSON"),
        ("Ofmsgspec", "NaN", "Ofmsgspec: the data is not JSON"),
        ("Ofmsgspec", '{"a":1} {}', "Ofmsgspec: the data is not JSON"),
        ("Ofmsgspec", "[" * 3000, "Ofmsgspec: the data is not JSON"),
        ("Ofmsgspec", "[]", "Ofmsgspec: data is an array, not an object"),
        ("Other", "{}", "Everything carries Ofpydantic, Ofdataclass, Ofmsgspec, and not the event 'Other'"),
        ("ofmsgspec", "{}", "and not the event 'ofmsgspec'"),
        ("x" * 250, "{}", "and not the event 'xxx"),
        (None, "{}", "and not an event without a type"),
        ("message", "{}", "and not an event without a type"),
    ],
)
def test_what_is_no_event_of_the_stream_is_refused(event: str | None, data: str, why: str) -> None:
    told = refusal(EVERYTHING, "all:1", event, data)
    assert told is not None
    assert why in told


def test_a_parameter_that_is_no_whole_number_is_refused() -> None:
    checker = Checker(document_of([stream("order:{number}", Inner, name="Orders", number=int)]))
    good = '{"text":""}'
    assert refusal(checker, "order:7", "Inner", good) is None
    for wrong in ("x", "07", "7.0", "+7", "٧"):
        why = refusal(checker, f"order:{wrong}", "Inner", good)
        assert why is not None
        assert "Orders: number is a whole number, not" in why


def test_a_document_means_what_the_classes_mean() -> None:
    document: Document = orjson.loads(orjson.dumps(EVERYTHING.document))
    again = Checker(document)
    assert again.document == EVERYTHING.document
    assert refusal(again, "all:1", "Ofmsgspec", "{}") == refusal(EVERYTHING, "all:1", "Ofmsgspec", "{}")


def test_a_definition_that_is_no_json_schema_is_refused_with_its_event() -> None:
    document: Any = {
        "sse_fast": 1,
        "streams": [{"name": "A", "channel": "a", "parameters": {}, "events": {"B": {"type": "strin"}}}],
        "$defs": {},
    }
    with pytest.raises(InvalidSchema, match=r"A\.B: this is no JSON Schema"):
        Checker(document)


# ---- hostile data ----------------------------------------------------------------------------------------------------


class Add(msgspec.Struct, tag=True):
    left: "Node"
    right: "Node"


class Minus(msgspec.Struct, tag=True):
    left: "Node"
    right: "Node"


class Times(msgspec.Struct, tag=True):
    left: "Node"
    right: "Node"


Node = Add | Minus | Times | int


class Formula(msgspec.Struct):
    of: Node


def test_a_recursive_union_with_a_tag_is_checked_in_time_that_does_not_double_with_each_level() -> None:
    checker = Checker(document_of([stream("formulas", Formula, name="Formulas")]))
    data: Any = "wrong"
    for _ in range(60):
        data = {"left": data, "right": 1, "type": "Times"}
    began = time.process_time()
    why = refusal(checker, "formulas", "Formula", orjson.dumps({"of": data}))
    # Three branches at each of sixty levels would be 3 ** 60 looks.
    assert time.process_time() - began < 10
    assert why is not None
    assert why.startswith("Formula: data.of.left.left")
    for _ in range(10):
        data = {"left": data, "right": 1, "type": "Times"}
    assert refusal(checker, "formulas", "Formula", orjson.dumps({"of": data})) == (
        "Formula: arrays and objects nest at most 64 deep in it"
    )


def test_a_recursive_union_that_nothing_tells_apart_is_refused_with_what_would() -> None:
    document: Any = document_of([stream("formulas", Formula, name="Formulas")])
    for name in ("Add", "Minus", "Times"):
        document["$defs"][name]["required"].remove("type")
        del document["$defs"][name]["properties"]["type"]
    with pytest.raises(InvalidSchema, match=r"Formulas\.Formula: \w+ is recursive, .*tag=True"):
        Checker(document)


def test_recursion_that_one_way_leads_through_is_taken() -> None:
    class Leaf(BaseModel):
        value: "Leaf | list[Leaf] | str | None" = None

    checker = Checker(document_of([stream("leaves", Leaf, name="Leaves")]))
    assert refusal(checker, "leaves", "Leaf", '{"value":{"value":[{"value":"x"}]}}') is None
    why = refusal(checker, "leaves", "Leaf", '{"value":{"value":[{"value":7}]}}')
    assert why is not None

    class Either(BaseModel):
        value: "Either | dict[str, Either]"

    with pytest.raises(InvalidSchema, match="Either is recursive"):
        Checker(document_of([stream("either", Either, name="Either")]))


def test_a_definition_that_only_refers_to_itself_is_refused() -> None:
    document: Any = {
        "sse_fast": 1,
        "streams": [{"name": "A", "channel": "a", "parameters": {}, "events": {"B": {"$ref": "#/$defs/B"}}}],
        "$defs": {"B": {"anyOf": [{"$ref": "#/$defs/C"}, {"type": "null"}]}, "C": {"$ref": "#/$defs/B"}},
    }
    with pytest.raises(InvalidSchema, match="refers to itself, and says nothing in between"):
        Checker(document)


def test_of_a_union_the_types_that_it_may_be_are_said() -> None:
    class Loose(BaseModel):
        address: IPv6Address | None = None
        value: int | str | list[int] | None = None

    checker = Checker(document_of([stream("loose", Loose, name="Loose")]))
    assert refusal(checker, "loose", "Loose", '{"address":"fe80::1%eth0","value":[1]}') is None
    assert refusal(checker, "loose", "Loose", '{"address":"fe80::g"}') is not None
    assert refusal(checker, "loose", "Loose", '{"value":true}') == (
        "Loose: data.value is a boolean, not a whole number or a string or an array or null"
    )
    assert refusal(checker, "loose", "Loose", '{"value":[1,"x"]}') == (
        "Loose: data.value[1] is a string, not a whole number"
    )


class Either(BaseModel):
    """Of a union the library looks for what is wrong with every item in every branch."""

    some: list[int] | list[str]
    more: list[int] | None = None
    kind: str = ""


class Looked:
    """A validator, and how many items the values had in which it was to find what is wrong."""

    def __init__(self, theirs: Any) -> None:
        self._theirs, self.items = theirs, []

    def validate(self, value: Any) -> None:
        self.items.append(sum(len(each) for each in value.values() if isinstance(each, list)))
        self._theirs.validate(value)


@pytest.mark.parametrize(
    ("data", "told", "looked_at"),
    [
        ({"some": [{}] * 400}, "data.some[0] is an object, not a whole number", 400),
        ({"some": [None] * 21_000, "kind": "x"}, "data.some[0] is null, not a whole number", 100),
        ({"some": [[None] * 9] * 2000, "more": [1] * 60}, "data.some[0] is an array, not a whole number", 20),
        ({"some": [1] * 20_000 + ["a"]}, "it does not fit, and is too large to say where", None),
        ({"some": [], "more": [1] * 20_000 + ["a"]}, "it does not fit, and is too large to say where", None),
        ({"some": [{str(key): key for key in range(600)}]}, "it does not fit, and is too large to say where", None),
    ],
)
def test_what_is_wrong_with_each_branch_of_a_union_is_looked_for_in_so_many_values(
    data: Any, told: str, looked_at: int | None
) -> None:
    checker = Checker(document_of([stream("either", Either, name="Either")]))
    validator = checker._streams[0][2]._events["Either"]
    looked = validator._validator = Looked(validator._validator)
    assert refusal(checker, "either", "Either", orjson.dumps(data)) == f"Either: {told}"
    assert looked.items == ([] if looked_at is None else [looked_at])


class Ints(BaseModel):
    some: list[int]


class Named(BaseModel):
    named: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def made() -> Checker:
    return Checker(document_of([stream("made", Ints, Named, name="Made")]))


def test_of_what_does_not_fit_the_first_error_is_looked_for_and_no_other(made: Checker) -> None:
    asked: list[str] = []
    validator = made._streams[0][2]._events["Ints"]

    class Asked:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(theirs, name)

    theirs, validator._validator = validator._validator, Asked()
    try:
        why = refusal(made, "made", "Ints", orjson.dumps({"some": [{}] * 21_000}))
    finally:
        validator._validator = theirs
    assert why == "Ints: data.some[0] is an object, not a whole number"
    assert asked == ["validate"]


@pytest.mark.parametrize("key", ["7", "0", "07", "+7", "", "-7", "a b", "18446744073709551615"])
def test_a_key_of_an_object_is_a_key_whatever_it_looks_like(made: Checker, key: str) -> None:
    why = refusal(made, "made", "Named", orjson.dumps({"named": {"a": {}, key: {"1": 1, "2": "x"}}}))
    assert why is not None
    assert why.endswith(" is a string, not a whole number")
    if key in ("7", "0", "-7", "a b"):
        assert why.startswith(f"Named: data.named['{key}']['2']")


@pytest.mark.parametrize("depth", [64, 100, 300, 1000])
def test_what_does_not_fit_is_refused_however_deep_it_is(made: Checker, depth: int) -> None:
    for some in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        why = refusal(made, "made", "Ints", f'{{"some":[{some}]}}')
        assert why is not None
        assert why.startswith("Ints: data.some[0] is a") or "nest too deep in it to say where" in why


def test_without_the_library_that_checks_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    channel = stream("without", Inner, name="Without")()
    with pytest.raises(InvalidSchema, match=r"pip install 'sse-fast\[schema\]'"):
        channel.encode_event(Inner("a"))


def test_defining_streams_loads_none_of_the_libraries_that_they_may_need() -> None:
    code = "from sse_fast import stream; import sys; print({'pydantic', 'msgspec', 'jsonschema_rs'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_tags_with_a_default_are_tags() -> None:
    class Cat(BaseModel):
        kind: Literal["cat"] = "cat"
        lives: int = 9

    class Dog(BaseModel):
        kind: Literal["dog"] = "dog"
        barks: bool

    class Seen(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]
        others: list[Cat | Dog] = []  # nothing says what tells these apart

    checker = Checker(document_of([stream("pets", Seen, name="Pets")]))
    assert refusal(checker, "pets", "Seen", '{"pet":{"kind":"dog","barks":true}}') is None
    assert refusal(checker, "pets", "Seen", '{"pet":{"kind":"dog","barks":7}}') == (
        "Seen: data.pet.barks is a number, not a boolean"
    )
    assert refusal(checker, "pets", "Seen", '{"pet":{"kind":"cow"}}') is not None
    assert refusal(checker, "pets", "Seen", '{"pet":{"kind":"cat"},"others":[{"kind":"cat"}]}') is None
