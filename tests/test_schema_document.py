"""The JSON form of typed events: made of modules, read from files, and checked either way."""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel

from sse_fast import InvalidSchema, stream
from sse_fast.cli.main import main
from sse_fast.schema import document_of, read_schema

SHOP = '''
from dataclasses import dataclass
import msgspec
from pydantic import BaseModel
from sse_fast import stream

print("this module talks")

class Author(BaseModel):
    name: str

class CommentAdded(BaseModel):
    """Somebody has commented."""
    comment_id: str
    author: Author

@dataclass
class CommentHidden:
    comment_id: str

class StockTaken(msgspec.Struct):
    left: int

Comments = stream("item:{item_id}", CommentAdded, CommentHidden, description="What is said of an item.")
Stock = stream("stock:{number}", StockTaken, number=int)
'''
GOOD: dict[str, Any] = {
    "sse_fast": 1,
    "streams": [
        {
            "name": "Comments",
            "channel": "item:{item_id}",
            "parameters": {"item_id": {"type": "string"}},
            "events": {"CommentAdded": {"$ref": "#/$defs/CommentAdded"}},
        }
    ],
    "$defs": {"CommentAdded": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a package `shopping` that has events."""
    (tmp_path / "shopping").mkdir()
    (tmp_path / "shopping" / "__init__.py").write_text("")
    (tmp_path / "shopping" / "events.py").write_text(SHOP)
    (tmp_path / "shopping" / "empty.py").write_text("")
    (tmp_path / "shopping" / "broken.py").write_text("1 / 0\n")
    (tmp_path / "shopping" / "needy.py").write_text("import something_that_is_not_there\n")
    (tmp_path / "shopping" / "rival.py").write_text(SHOP.replace("Comments =", "Rivals ="))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "shopping"]:
        del sys.modules[name]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["schema", *arguments])


def test_a_document_has_the_streams_of_a_module_and_their_events_as_json_schema(shop: Path) -> None:
    document = read_schema("shopping.events")
    assert document["sse_fast"] == 1
    comments, stock = document["streams"]
    assert comments == {
        "name": "Comments",
        "channel": "item:{item_id}",
        "parameters": {"item_id": {"type": "string"}},
        "events": {
            "CommentAdded": {"$ref": "#/$defs/CommentAdded"},
            "CommentHidden": {"$ref": "#/$defs/CommentHidden"},
        },
        "description": "What is said of an item.",
    }
    assert stock["parameters"] == {"number": {"type": "integer"}}
    assert document["$defs"].keys() == {"Author", "CommentAdded", "CommentHidden", "StockTaken"}
    added: Any = document["$defs"]["CommentAdded"]
    assert added["description"] == "Somebody has commented."
    assert added["properties"]["author"] == {"$ref": "#/$defs/Author"}
    assert added["required"] == ["comment_id", "author"]


def test_the_command_writes_what_it_reads_and_the_output_is_the_document_alone(shop: Path) -> None:
    printed = run("shopping.events")
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == read_schema("shopping.events")
    written = run("shopping.events", "-o", "shop.json")
    assert (written.exit_code, written.stdout) == (0, "")
    assert "shop.json: 2 streams" in written.stderr
    assert read_schema("shop.json") == read_schema("shopping.events")
    assert json.loads(run("shop.json").stdout) == read_schema("shop.json")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["shopping.nothing"], "there is no module 'shopping.nothing', neither in"),
        (["shoping"], "there is no module 'shoping'"),
        (["shopping.empty"], "shopping.empty has no streams; it defines one as `Comments = stream("),
        (["shopping.broken"], "shopping.broken cannot be imported: ZeroDivisionError: division by zero"),
        (["shopping.needy"], "shopping.needy needs the module 'something_that_is_not_there', which is not installed"),
        (["shopping/events.py"], "its module is shopping.events"),
        (["shop events"], "'shop events' is neither a module, as shop.events, nor a file, as shop.json"),
        (["missing.json"], "missing.json cannot be read: No such file or directory"),
        (
            ["shopping.events", "shopping.rival"],
            "a channel could be of Comments, item:{item_id}, and of Rivals, item:{item_id}",
        ),
        (["shopping.events", "a.json"], "a.json is a whole document, and goes alone"),
        (["shopping.events", "-o", "nowhere/shop.json"], "nowhere/shop.json cannot be written"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_what_to_do(shop: Path, arguments: list[str], why: str) -> None:
    failed = run(*arguments)
    assert failed.exit_code == 1
    assert why in failed.stderr
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    edit(document)
    return document


def nested(deep: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(deep):
        inner = {"items": inner}
    return inner


def of_stream(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["streams"][0].update(fields)


def of_event(schema: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["$defs"].update(CommentAdded=schema)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda it: it.pop("streams"), "'streams' is missing"),
        (lambda it: it.update(sse_fast=2), "'sse_fast' is the form's version, 1, not 2"),
        (lambda it: it.update(sse_fast=True), "'sse_fast' is the form's version, 1, not True"),
        (lambda it: it.update(extra=1), "unknown field 'extra'"),
        (lambda it: it.update(streams=[]), "streams has 1 to 1000 of them, not 0"),
        (lambda it: it.update(streams={}), "streams is an array, not an object"),
        (lambda it: it.update(streams=[7]), "streams[0] is a JSON object"),
        (of_stream(name="a b"), "streams[0]: the name of a stream"),
        (of_stream(name=7), "streams[0]: the name of a stream"),
        (of_stream(channel="item:{a"), "streams[0]: the channel template 'item:{a' has a single brace"),
        (of_stream(channel=7), "streams[0]: the channel of a stream is text"),
        (of_stream(channel="item"), "streams[0].parameters.item_id: the channel 'item' has none of this name"),
        (of_stream(parameters={}), "streams[0].parameters.item_id: the channel 'item:{item_id}' has one of this name"),
        (of_stream(parameters={"item_id": {"type": "number"}}), "streams[0].parameters.item_id is"),
        (of_stream(events={}), "streams[0].events has 1 to 1000 of them, not 0"),
        (of_stream(events=None), "streams[0].events is an object, not missing"),
        (of_stream(events={"$gap": {}}), "streams[0].events: an event's name"),
        (of_stream(events={"A": 7}), "streams[0].events.A is an object, not a number"),
        (of_stream(events={"A": {"$ref": "#/$defs/B"}}), "streams[0].events.A: $ref names one of the document's $defs"),
        (of_stream(description=7), "streams[0].description is a string"),
        (of_event({"$ref": "http://example.com/schema"}), "$defs.CommentAdded: $ref names one of"),
        (of_event({"items": {"$ref": "file:///etc/passwd"}}), "$defs.CommentAdded.items: $ref names one of"),
        (of_event({"$id": "http://example.com/"}), "$defs.CommentAdded: $id is not for here"),
        (of_event({"anyOf": [{}, {"$dynamicRef": "#a"}]}), "$defs.CommentAdded.anyOf[1]: $dynamicRef is not for here"),
        (of_event(nested(200)), "nest at most 100 deep"),
        (
            lambda it: it["streams"].append(
                it["streams"][0] | {"name": "Other", "channel": "item:{x}", "parameters": {}}
            ),
            "parameters.x",
        ),
        (
            lambda it: it["streams"].append({"name": "Other", "channel": "item:{x}", "events": {"A": {}}}),
            "a channel could be of Comments, item:{item_id}, and of Other, item:{x}",
        ),
        (
            lambda it: it["streams"].append({"name": "Comments", "channel": "x", "events": {"A": {}}}),
            "two streams are called Comments",
        ),
    ],
)
def test_a_document_that_is_none_is_refused_with_the_place(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], why: str
) -> None:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(edited(edit)))
    with pytest.raises(InvalidSchema) as refused:
        read_schema(str(path))
    assert why in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("text", ["", "[", "[]", "7", "null", '"text"', "[" * 5000, "{" * 5000, b"\xff"])
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "shop.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidSchema, match=r"shop\.json"):
        read_schema(str(path))


def test_a_file_of_any_size_is_read_no_further_than_a_document_is_long(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InvalidSchema, match="is larger than 4194304 bytes"):
        read_schema(str(path))


def test_data_may_say_ref_where_it_is_no_keyword(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"$ref": {"const": {"$ref": "x"}}}, "default": {"$ref": "x", "$id": 7}}
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(edited(of_event(schema))))
    assert read_schema(str(path))["$defs"]["CommentAdded"] == schema


def test_two_classes_of_one_name_are_two_definitions() -> None:
    class Same(BaseModel):
        a: int

    def another() -> type:
        class Same(msgspec.Struct):
            b: str

        return Same

    def third() -> type:
        @dataclass
        class Same:
            c: float

        return Same

    streams = [
        stream("a", Same, name="A"),
        stream("b", another(), name="B"),
        stream("c", third(), name="C"),
    ]
    document = document_of(streams)
    fields = set()
    for each in document["streams"]:
        schema: Any = each["events"]["Same"]
        definition: Any = document["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        fields |= definition["properties"].keys()
    assert fields == {"a", "b", "c"}


def test_a_class_that_has_no_schema_is_named() -> None:
    class Odd:
        pass

    class Struct(msgspec.Struct):
        odd: Odd

    @dataclass
    class Data:
        odd: Odd

    with pytest.raises(InvalidSchema, match="Struct"):
        document_of([stream("x", Struct, name="X")])
    with pytest.raises(InvalidSchema, match="Data"):
        stream("x", Data, name="X")
