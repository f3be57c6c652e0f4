"""Clients generated from a schema of typed events: each passes its language's own compiler, at its strictest, whatever
the names in the schema are; and decodes what the schema says, or tells the field that is wrong."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result
from compilers import elm as compile_elm
from compilers import mypy
from conftest import program
from schemas import COMMENT, HOSTILE, ORDER, SHOP, UPDATED

from sse_fast import js
from sse_fast.errors import InvalidSchema
from sse_fast.schema import model
from sse_fast.schema.elm import elm, ports
from sse_fast.schema.naming import Names, camel, pascal, snake
from sse_fast.schema.python import python
from sse_fast.schema.shape import check
from sse_fast.schema.typescript import typescript

Run = Callable[..., Result]
ELM_APP = """port module Main exposing (main)

import Events
import Platform

port told : String -> Cmd msg

type Msg
    = Comments Events.CommentsParameters (Events.StreamUpdate Events.CommentsEvent)
    | Notifications Events.NotificationsParameters (Events.StreamUpdate Events.NotificationsEvent)
    | News (Events.StreamUpdate Events.NewsEvent)

exhaustive : Events.CommentsEvent -> String
exhaustive event =
    case event of
        Events.CommentAdded comment -> comment.author.name ++ String.concat comment.tags
        Events.CommentUpdated updated -> updated.newText
        Events.CommentsSystemAlert _ -> ""

main : Program () () Msg
main =
    Platform.worker
        { init = \\_ ->
            ( ()
            , Cmd.batch
                [ Events.openComments { itemId = "7" }
                , Events.openComments { itemId = "a:b" }
                , Events.openNotificationsAfter "x-1" { shop = "s", userId = 3 }
                , Events.openNews
                ]
            )
        , update = \\msg _ -> ( (), told (Debug.toString msg) )
        , subscriptions = \\_ ->
            Sub.batch
                [ Events.subscribeToComments Comments
                , Events.subscribeToNotifications Notifications
                , Events.subscribeToNews News
                ]
        }
"""
# Runs it under Node, with what a stream would bring: lines of [channel, what of the options is called, with what].
ELM_RUNNER = """
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { carryStreams } from "./ports.mjs";
const { Elm } = createRequire(import.meta.url)("./main.js");
const app = Elm.Main.init();
const brought = JSON.parse(readFileSync(0, "utf8"));
const said = [];
app.ports.told.subscribe((text) => said.push(text));
const connect = (source, options) => {
  for (const [channel, handler, told] of brought) {
    if (source.channels[0] === channel) options[handler](told);
  }
  said.push(JSON.stringify({ source, lastEventId: options.lastEventId, url: source.url }));
  return { close() {} };
};
carryStreams(app, connect, { url: "/sse" });
setTimeout(() => console.log(JSON.stringify(said)), 50);
"""


def document(schema: dict[str, Any]) -> model.Document:
    return model.read(check(json.loads(json.dumps(schema)), "schema"))


def of(schema: Any, **defs: Any) -> model.Document:
    """A document of one event with this schema."""
    stream = {"name": "One", "channel": "one", "parameters": {}, "events": {"Happened": schema}}
    return document({"sse_fast": 1, "streams": [stream], "$defs": defs})


def imported(text: str, directory: Path, name: str) -> ModuleType:
    file = directory / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look there for what a name means
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The generated Python client of the shop."""
    return imported(python(document(SHOP), "shop.events"), tmp_path_factory.mktemp("python"), "shop_events")


def test_the_python_client_is_strictly_typed_whatever_the_schema_names(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(python(document(SHOP), "shop.events"))
    (tmp_path / "hostile.py").write_text(python(document(HOSTILE), "hostile"))
    nothing = {"type": "null", "description": "A\0001 and \\ too"}
    tuples = {"prefixItems": [{"type": "null"}, {"enum": [1, True]}, {"enum": [True, 1]}], "type": "array"}
    (tmp_path / "nothing.py").write_text(
        python(of({"type": "null"}, Nothing=nothing, Pair=tuples, Both={"enum": [1, True, "x"]}), "no\0thing")
    )
    (tmp_path / "uses.py").write_text(
        """
from typing import assert_never
from shop import Card, Cash, Gap, comments, notifications

async def listen() -> str:
    async with comments(item_id="7", url="http://localhost", token=lambda: "t") as stream:
        async for event in stream:
            if isinstance(event, Gap):
                return event.after or ""
            if event.type == "CommentAdded":
                return event.data.author.name + event.data.tags[0] + event.id
            if event.type == "CommentUpdated":
                return event.data.by.name
            if event.type != "SystemAlert":
                assert_never(event)
    async for told in notifications(shop="s", user_id=3, url="http://localhost"):
        if not isinstance(told, Gap) and told.type == "order.paid":
            match told.data.payment:
                case Card(last_four=digits):
                    return digits
                case Cash():
                    return "cash"
    return ""

async def wrongly() -> None:
    notifications(shop="s", user_id="3", url="")  # type: ignore[arg-type]
    async for event in comments(item_id="7", url=""):
        event.type  # type: ignore[union-attr]
"""
    )
    assert "no issues found in 4 source files" in mypy(tmp_path, "shop.py", "hostile.py", "nothing.py", "uses.py")
    made = imported((tmp_path / "nothing.py").read_text(), tmp_path, "nothing_made")
    assert made._one_event("Happened", None, "e-1") == made.Event("Happened", None, "e-1")
    assert [made.decode_both(value) for value in (1, True, "x")] == [1, True, "x"]
    assert made.decode_pair([None, True, True]) == (None, True, True)


def test_the_elm_module_compiles_whatever_the_schema_names_and_tells_what_comes(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Events.elm").write_text(elm(document(SHOP), "shop.events"))
    (tmp_path / "src" / "Hostile.elm").write_text(elm(document(HOSTILE), "hostile", "Hostile"))
    main = ELM_APP.replace("import Events\n", "import Events\nimport Hostile\n")
    (tmp_path / "src" / "Main.elm").write_text(main)
    compile_elm(tmp_path, "Main.elm", tmp_path / "main.js")
    (tmp_path / "ports.mjs").write_text(ports())
    (tmp_path / "run.mjs").write_text(ELM_RUNNER)
    event = {"type": "CommentAdded", "id": "e-1", "data": json.dumps(COMMENT)}
    wrong = {
        "type": "CommentAdded",
        "id": "e-2",
        "data": json.dumps({**COMMENT, "author": {"name": 1, "verified": True}}),
    }
    brought = [
        ("item:7", "onState", {"name": "open"}),
        ("item:7", "onEvent", event),
        ("item:7", "onEvent", wrong),
        ("item:7", "onEvent", {"type": "CommentUpdated", "id": "e-3", "data": json.dumps(UPDATED)}),
        ("item:7", "onEvent", {"type": "of a newer schema", "id": "e-4", "data": "{}"}),
        ("item:7", "onGap", {"after": "e-4", "until": None}),
        ("item:7", "onReconnect", {"resume": "complete"}),
        ("item:7", "onState", {"name": "waiting", "until": 1795381200000, "attempt": 2, "why": "gone"}),
        ("item:7", "onError", {"message": "refused", "final": True}),
        ("shop-s:user:3", "onEvent", {"type": "order.sent", "id": "e-5", "data": json.dumps(ORDER)}),
        ("news", "onEvent", {"type": "ticker", "id": "e-6", "data": "[1, 2.5]"}),
        ("news", "onState", {"name": "closed", "why": "it is over"}),
    ]
    done = subprocess.run(
        [program("node"), "run.mjs"],
        cwd=tmp_path,
        input=json.dumps(brought),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    seven = 'Comments { itemId = "7" } '
    told = [text for text in said if text.startswith(seven)]
    assert told[0] == f"{seven}(StateChanged Open)"
    assert told[1].startswith(f'{seven}(Received {{ event = CommentAdded {{ at = Just "2026-11-22T13:35:09Z", author =')
    for part in (
        *('author = { name = "Ada", verified = True }', 'class = Just "first"', "mood = MoodSoSo", "replyTo = Nothing"),
        *(
            'place = Just (1.5,"here")',
            "theEdit = Just (CommentAddedTheEditInt 3)",
            'votes = Just (Dict.fromList [("up",2)])',
        ),
        'thread = Just (Thread { answers = [Thread { answers = [], title = "u" }], title = "t" })',
    ):
        assert part in told[1]
    assert told[2].startswith(
        f'{seven}(Failed {{ final = False, message = "the event CommentAdded e-2: Problem with the value at json.author'
    )
    assert (
        'CommentUpdated { anything = Just <internals>, by = { name = "Bob", role = Just CommentUpdatedByRoleAdmin }'
        in told[3]
    )
    assert told[4] == f'{seven}(Unknown {{ id = "e-4", name = "of a newer schema" }})'
    assert told[5] == f'{seven}(Lost {{ after = Just "e-4", positions = Nothing, until = Nothing }})'
    assert told[6] == f"{seven}Reconnected"
    assert told[7] == f'{seven}(StateChanged (Waiting {{ attempt = 2, until = Just 1795381200000, why = "gone" }}))'
    assert told[8] == f'{seven}(Failed {{ final = True, message = "refused" }})'
    [refused] = [text for text in said if text.startswith('Comments { itemId = "a:b" }')]
    assert """(Failed { final = True, message = "a part of a channel's name is some text without""" in refused
    [order] = [text for text in said if text.startswith("Notifications")]
    assert 'OrderSent { lines = [{ price = Just 1.5, type_ = Just "x" }], number = 5' in order
    assert 'payment = OrderPaymentCash { kind = "cash", level = Just 2 }' in order
    news = [text for text in said if text.startswith("News")]
    assert news == [
        'News (Received { event = Ticker [1,2.5], id = "e-6" })',
        'News (StateChanged (Closed { why = "it is over" }))',
    ]
    assert {"source": {"channels": ["shop-s:user:3"], "url": "/sse"}, "lastEventId": "x-1", "url": "/sse"} in [
        json.loads(text) for text in said if text.startswith("{")
    ]


def test_a_python_client_decodes_what_the_schema_says(shop: Any) -> None:
    comment = shop.CommentAdded.decode(COMMENT)
    assert comment.author == shop.Author(name="Ada", verified=True)
    assert (comment.class_, comment.the_edit, comment.place, comment.reply_to) == ("first", 3, (1.5, "here"), None)
    assert comment.thread.answers[0].title == "u"
    assert shop.CommentUpdated.decode(UPDATED).by == shop.CommentUpdatedBy(name="Bob", role="admin")
    assert shop.Order.decode(ORDER).payment == shop.Cash(kind="cash", level=2)
    assert shop.decode_json(tree := {"a": ["b", None, {"c": []}]}) == tree
    assert shop.CommentAdded.decode({**COMMENT, "of a newer schema": 1}) == comment


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": 1}, "data.text: a string is expected, not 1"),
        ({"timestamp": True}, "data.timestamp: an integer is expected, not true"),
        ({"timestamp": 1.5}, "data.timestamp: an integer is expected, not 1.5"),
        ({"author": {"name": "Ada"}}, "data.author.verified is missing"),
        ({"tags": ["a", None]}, "data.tags[1]: a string is expected, not null"),
        ({"mood": "angry"}, 'data.mood: one of "glad", "sad", "so-so" is expected, not "angry"'),
        ({"votes": {"up": "x"}}, 'data.votes["up"]: an integer is expected, not "x"'),
        ({"place": [1]}, "data.place: an array of 2 is expected, not [1]"),
        ({"place": [1, 2]}, "data.place[1]: a string is expected, not 2"),
        ({"thread": {"title": "", "answers": [{}]}}, "data.thread.answers[0].title is missing"),
        ({"the-edit": []}, "data.the-edit is none of what it may be"),
    ],
)
def test_what_is_wrong_with_an_event_is_told_by_its_field(shop: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(shop.DecodeError) as refused:
        shop.CommentAdded.decode({**COMMENT, **changed})
    assert said in str(refused.value)


def test_a_part_of_a_channel_is_text_without_a_colon(shop: Any) -> None:
    assert shop.notifications_channel(shop="s", user_id=3) == "shop-s:user:3"
    for wrong in ("", "a:b"):
        with pytest.raises(ValueError, match="item_id is a part of a channel's name"):
            shop.comments_channel(item_id=wrong)


# ---- names and shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of_type", "of_value", "of_field"),
    [
        ("CommentAdded", "CommentAdded", "commentAdded", "comment_added"),
        ("item_id", "ItemId", "itemId", "item_id"),
        ("order.paid", "OrderPaid", "orderPaid", "order_paid"),
        ("HTTPError", "HTTPError", "httpError", "http_error"),
        ("2fa", "Type2Fa", "value2Fa", "value_2_fa"),
        ("größe", "GroE", "groE", "gro_e"),
        ("日本", "Type", "value", "value"),
    ],
)
def test_a_name_is_put_in_the_case_of_a_language(name: str, of_type: str, of_value: str, of_field: str) -> None:
    assert (pascal(name), camel(name), snake(name)) == (of_type, of_value, of_field)


def test_no_name_is_taken_twice_nor_a_reserved_one() -> None:
    names = Names(["class", "a3"])
    assert [names.take(name) for name in ("a", "a", "a", "class", "class")] == ["a", "a2", "a4", "class_", "class2"]


def test_what_may_be_null_and_what_may_be_missing_are_told_apart_in_typescript() -> None:
    text = typescript(
        of(
            {
                "type": "object",
                "properties": {
                    "both": {"type": ["string", "null"]},
                    "null": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "missing": {"type": "boolean"},
                },
                "required": ["null"],
            }
        ),
        "test",
    )
    assert (
        "export interface Happened {\n  both?: string | null;\n  null: number | null;\n  missing?: boolean;\n}" in text
    )


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        (True, "unknown"),
        ({}, "unknown"),
        ({"not": {"type": "string"}}, "unknown"),
        ({"type": "string", "format": "date-time"}, "string"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": True}, "true"),
        ({"enum": [1, True, 0, False, "x", 1.0]}, '1 | true | 0 | false | "x"'),
        ({"anyOf": [{"const": 1}, {"const": True}]}, "1 | true"),
        ({"type": "array"}, "Array<unknown>"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'Array<"a" | "b">'),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}]}, "[string, null]"),
        ({"type": "object"}, "{ [name: string]: unknown }"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "{ [name: string]: number }"),
        ({"anyOf": [{"type": "string"}, {"oneOf": [{"type": "integer"}, {"type": "string"}]}]}, "string | number"),
        ({"allOf": [{"type": "string"}]}, "string"),
        ({"enum": [{"a": 1}]}, "unknown"),
    ],
)
def test_a_schema_becomes_a_type(schema: Any, written: str) -> None:
    assert f'{{ type: "Happened"; data: {written}; id: string }}' in typescript(of(schema), "test")


def test_a_schema_that_is_made_of_itself_is_refused() -> None:
    both = [{"$ref": "#/$defs/A"}, {"type": "object", "properties": {"x": True}}]
    with pytest.raises(InvalidSchema, match="made of itself"):
        of({"$ref": "#/$defs/A"}, A={"allOf": both})


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_client_and_says_whether_one_is_of_today(
    run: Run, nothing_set: None, tmp_path: Path
) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    client = tmp_path / "shop.ts"
    assert run("generate", "typescript", "shop.json").output.startswith("// Typed streams of shop.json")
    assert run("generate", "typescript", "shop.json", "-o", str(client)).exit_code == 0
    assert client.read_text() == typescript(document(SHOP), "shop.json")
    assert run("generate", "typescript", "shop.json", "-o", str(client), "--check").exit_code == 0
    client.write_text("")
    old = run("generate", "typescript", "shop.json", "-o", str(client), "--check")
    assert old.exit_code == 1
    assert "is not what the schema makes now" in old.output
    assert client.read_text() == ""


def test_a_typescript_client_has_the_browser_client_in_it_or_imports_it(
    run: Run, nothing_set: None, tmp_path: Path
) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    whole = run("generate", "typescript", "shop.json").output
    beside = run("generate", "typescript", "shop.json", "--client", "./client.js").output
    assert js.source().replace(js.OWN_ADDRESS, "undefined") in whole
    assert 'import { connect, StreamError } from "./client.js";' in beside
    assert "class TabGroup" not in beside


def test_an_elm_module_is_called_by_where_it_is(run: Run, nothing_set: None, tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    (tmp_path / "src" / "Shop").mkdir(parents=True)
    made = run("generate", "elm", "shop.json", "-o", "src/Shop/Events.elm", "--ports", "ports.js")
    assert made.exit_code == 0
    assert (tmp_path / "src" / "Shop" / "Events.elm").read_text().startswith("port module Shop.Events exposing (..)\n")
    assert (tmp_path / "ports.js").read_text() == ports()
    assert run("generate", "elm", "shop.json", "--module", "A.B").output.startswith("port module A.B exposing")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("python", "no_such.module"), "there is no module 'no_such'"),
        (("python", "missing.json"), "cannot be read"),
        (("python", "shop.json", "--module", "A"), "--module and --ports are for elm"),
        (("python", "shop.json", "--client", "./client.js"), "--client is for typescript"),
        (("elm", "shop.json", "--module", "a b"), "'a b' is no name of an Elm module"),
        (("elm", "shop.json", "--check"), "--check compares with a file"),
        (("python", "shop.json", "-o", "no/such/folder.py"), "cannot be written"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    run: Run, nothing_set: None, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    refused = run("generate", *words)
    assert refused.exit_code in (1, 2)
    assert said in refused.output
