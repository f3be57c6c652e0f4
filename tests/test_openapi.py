"""What the edge says of itself, as OpenAPI and AsyncAPI: it passes the specifications' own validators and generators of
clients, and says what is so: routes, credentials, bounds, the events of typed streams."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import missing, program
from fastapi import FastAPI, Request, Response
from openapi_spec_validator import validate
from pydantic import BaseModel
from schemas import HOSTILE, SHOP

from sse_fast import Hub, create_app, openapi_for, stream
from sse_fast.edge.app import Edge
from sse_fast.edge.description import Description
from sse_fast.errors import InvalidSchema
from sse_fast.schema import document_of
from sse_fast.schema.shape import Document, check
from sse_fast.settings import Settings

pytestmark = pytest.mark.usefixtures("nothing_set")

TOOLS = Path(__file__).parent / "node" / "openapi"
SECRET = "a secret for these tests, thirty-two bytes at least"
CLOSED: Mapping[str, Any] = {
    "token_secret": SECRET,
    "token_cookie": "events",
    "token_in_query": True,
    "grant_subscribe": ["news"],
    "presence_channels": ["room:*"],
    "rate_open": "10/s",
    "allowed_hosts": ["events.example"],
}


class CommentAdded(BaseModel):
    """Somebody said something."""

    comment_id: str
    text: str


@dataclass
class Moved:
    by: int


Comments = stream("item:{item_id}", CommentAdded)
Moves = stream("board:{board}", Moved, CommentAdded)


def document(schema: Mapping[str, Any]) -> Document:
    return check(json.loads(json.dumps(schema)), "schema")


def described(schema: Mapping[str, Any] | None = None, **settings: Any) -> Description:
    edge = create_app(Settings(**settings))
    return Description(edge.settings, lambda: edge.policy, lambda: None if schema is None else document(schema))


def tools() -> None:
    """End a test without those of npm."""
    if not (TOOLS / "node_modules").is_dir():
        missing("tests/node/openapi/node_modules (scripts/test-setup)")


def refused_by_the_validators(directory: Path, **documents: Any) -> dict[str, Any]:
    """What is wrong with each, by those of npm; of OpenAPI raises what that of PyPI raises."""
    if not (TOOLS / "node_modules").is_dir():
        missing(
            "tests/node/openapi/node_modules (npm install --no-package-lock --legacy-peer-deps in tests/node/openapi)"
        )
    for name, each in documents.items():
        (directory / f"{name}.json").write_text(json.dumps(each))
        if "openapi" in each:
            validate(each)
    names = [str(directory / f"{name}.json") for name in documents]
    done = subprocess.run(
        [program("node"), TOOLS / "validate.mjs", *names], capture_output=True, text=True, timeout=60, check=True
    )
    return {Path(name).stem: wrong for name, wrong in json.loads(done.stdout).items()}


# ---- tools ----------------------------------------------------------------------------------------------------------


def test_the_specifications_validators_find_nothing_wrong(tmp_path: Path) -> None:
    typed, plain, app = described(SHOP, **CLOSED), described(), shop()
    openapi_for(app, Comments, Moves)
    documents = {
        "typed_32": typed.openapi("3.2"),
        "typed_31": typed.openapi("3.1", "/edge"),
        "private_32": described(SHOP, **CLOSED, private_schema=True).openapi("3.2"),
        "plain_32": plain.openapi("3.2"),
        "plain_31": plain.openapi("3.1"),
        "app_32": app.openapi(),
        "typed_async": typed.asyncapi("/edge"),
        "plain_async": plain.asyncapi(),
    }
    assert refused_by_the_validators(tmp_path, **documents) == {name: [] for name in documents}


def test_what_a_schema_calls_its_types_breaks_no_document() -> None:
    made = described({**HOSTILE, "streams": HOSTILE["streams"][:1]}).openapi("3.1")
    validate(made)
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in made["components"]["schemas"])


def test_generators_of_clients_know_the_events_of_a_typed_stream(tmp_path: Path) -> None:
    tools()
    for version in ("3.2", "3.1"):
        (tmp_path / f"{version}.json").write_text(json.dumps(described(SHOP).openapi(version)))

    def run(*command: str) -> subprocess.Popen[str]:
        command = (str(TOOLS / "node_modules" / ".bin" / command[0]), *command[1:])
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )

    started = [
        run("openapi-typescript", "3.2.json", "-o", "3.2.ts"),
        run("openapi-typescript", "3.1.json", "-o", "3.1.ts"),
        run("openapi-ts", "-i", "3.2.json", "-o", "hey", "--no-log-file"),
    ]
    for each in started:
        said, _ = each.communicate(timeout=60)
        assert each.returncode == 0, said
    for version in ("3.2", "3.1"):
        paths = (tmp_path / f"{version}.ts").read_text()
        listening = paths[paths.index("listenToComments: {") :]
        assert '"text/event-stream": components["schemas"]["CommentsData"];' in listening[: listening.index("400:")]
        assert re.search(r"path: \{\s+item_id: string;", listening)
    types = (tmp_path / "hey" / "types.gen.ts").read_text()
    own = "StreamConnected | StreamGap | StreamForgotten | StreamExpiring | StreamClosing"
    assert f"export type CommentsData = CommentAdded | CommentUpdated | SystemAlert | {own};" in types
    assert re.search(r"export type ListenToCommentsResponses = \{[^}]*200: CommentsData;", types)
    assert "sse.get<ListenToCommentsResponses" in (tmp_path / "hey" / "sdk.gen.ts").read_text()


# ---- what is so -----------------------------------------------------------------------------------------------------


def test_each_event_of_a_stream_is_there_by_its_name_with_the_schema_of_its_data() -> None:
    made = described(SHOP).openapi()
    media = made["paths"]["/sse/item:{item_id}"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    schemas = made["components"]["schemas"]
    items = schemas[media["itemSchema"]["$ref"].rpartition("/")[2]]["anyOf"]
    events = {item["properties"]["event"]["const"]: item["properties"]["data"] for item in items}
    assert list(events)[:3] == ["CommentAdded", "CommentUpdated", "SystemAlert"]
    assert set(events) >= {"$connected", "$gap", "$forgotten", "$expiring", "$closing"}
    assert events["CommentAdded"] == {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/CommentAdded"},
    }
    data = schemas[media["schema"]["$ref"].rpartition("/")[2]]["anyOf"]
    assert data == [item["contentSchema"] for item in events.values()]
    older = described(SHOP).openapi("3.1")
    assert older["openapi"].startswith("3.1.")
    assert "itemSchema" not in json.dumps(older)


@pytest.mark.parametrize("version", ["3.2", "3.1"])
def test_each_operation_has_an_id_of_its_own_whatever_streams_are_called(version: str) -> None:
    names = ("Channel", "ChannelOf", "Comments", "comments", "Übung", "Ёлка")
    streams = [stream(f"{place}:{{id}}", Moved, name=name) for place, name in enumerate(names)]
    paths = described(document_of(streams)).openapi(version)["paths"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert paths["/sse/{channel}"]["get"]["operationId"] == "listenToChannel"


async def test_the_document_has_the_routes_of_the_edge_and_no_others() -> None:
    edge = create_app(Settings(presence_channels=["room:*"], token_secret=SECRET))
    paths = described(presence_channels=["room:*"], token_secret=SECRET).openapi()["paths"]
    routes = {route.path.replace(":path}", "}") for route in edge._operations.app.routes}  # type: ignore[attr-defined]
    served = {path for path in routes if not re.search(r"\.[0-9a-f]{8,}\.js$", path)} - {"/schema.json"}
    streams = {path for path in paths if path.startswith(("/sse", "/publish"))}
    assert streams == {f"{at}{name}" for at in ("/sse", "/publish") for name in ("", "/{channel}", "/{stream}/{name}")}
    assert set(paths) - streams == served
    async with client_of(edge) as client:
        for path, operations in paths.items():
            for method in operations:
                answer = await client.request(method, re.sub(r"\{\w+\}", "x", path))
                assert "there is nothing at" not in answer.text
                assert answer.status_code != 405
    await edge.close()


@pytest.mark.parametrize(
    ("settings", "listening", "publishing", "schemes"),
    [
        ({}, None, None, None),
        ({"publish_key": "a-key-of-sixteen-letters"}, None, [{"bearer": []}], {"bearer"}),
        ({"token_secret": SECRET}, [{"bearer": []}], [{"bearer": []}], {"bearer"}),
        (
            CLOSED,
            [{"bearer": []}, {"cookie": []}, {"query": []}, {}],
            [{"bearer": []}, {"cookie": []}, {"query": []}],
            {"bearer", "cookie", "query"},
        ),
    ],
)
def test_the_credentials_that_a_route_takes_are_those_of_the_settings(
    settings: Any, listening: Any, publishing: Any, schemes: Any
) -> None:
    made = described(**settings).openapi()
    assert "security" not in made["paths"]["/openapi.json"]["get"]
    private = described(private_schema=True, **settings).openapi()["paths"]["/openapi.json"]["get"]
    assert (private.get("security", [{}])[-1], "403" in private["responses"]) == ({}, True)
    listen, publish = made["paths"]["/sse"]["get"], made["paths"]["/publish"]["post"]
    assert (listen.get("security"), publish.get("security")) == (listening, publishing)
    assert set(made["components"].get("securitySchemes", ())) == (schemes or set())
    assert ("401" in listen["responses"], "401" in publish["responses"]) == (
        listening is not None,
        publishing is not None,
    )


def test_bounds_and_what_is_elsewhere_are_those_of_the_settings() -> None:
    made = described(max_channels_per_stream=7, max_history=5, idempotency_window=0, rate_publish="1/s").openapi()
    listen, publish = made["paths"]["/sse"]["get"], made["paths"]["/publish"]["post"]
    bounds = {each["name"]: each["schema"] for each in listen["parameters"]}
    assert bounds["channel"]["maxItems"] == 7
    assert bounds["history"]["maximum"] == 5
    assert not [each for each in publish["parameters"] if each["name"] == "Idempotency-Key"]
    assert "422" not in publish["responses"]
    assert "429" in publish["responses"]
    assert "/presence/{channel}" not in made["paths"]


def test_a_channel_says_in_asyncapi_where_it_is_listened_and_published_to() -> None:
    made = described(SHOP).asyncapi()
    assert made["channels"]["comments"]["address"] == "/sse/item:{item_id}"
    assert made["channels"]["commentsPublishing"]["address"] == "/publish/item:{item_id}"
    assert made["operations"]["listenToComments"]["action"] == "send"
    assert made["operations"]["publishToComments"]["action"] == "receive"
    message = made["components"]["messages"]["CommentsCommentAdded"]
    assert (message["name"], message["payload"]) == ("CommentAdded", {"$ref": "#/components/schemas/CommentAdded"})


# ---- at the edge ----------------------------------------------------------------------------------------------------


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.fixture
def edge() -> Edge:
    return create_app(Settings())


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/openapi.json", ("openapi", "3.2.")),
        ("/openapi-3.1.json", ("openapi", "3.1.")),
        ("/asyncapi.json", ("asyncapi", "3.")),
    ],
)
async def test_the_edge_serves_what_it_is(edge: Edge, path: str, version: tuple[str, str]) -> None:
    async with client_of(edge) as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()[version[0]].startswith(version[1])
        assert (await client.get(f"{path}?x=1")).status_code == 400
    await edge.close()


async def test_an_edge_in_an_app_says_under_which_path_it_is(edge: Edge) -> None:
    app = FastAPI()
    app.mount("/edge", edge)
    async with client_of(app) as client:
        assert (await client.get("/edge/openapi.json")).json()["servers"] == [{"url": "/edge"}]
        assert (await client.get("/edge/asyncapi.json")).json()["servers"]["edge"]["pathname"] == "/edge"
    await edge.close()


# ---- of a FastAPI app -----------------------------------------------------------------------------------------------


def shop() -> FastAPI:
    app, hub = FastAPI(), Hub()

    @app.get("/items/{item_id}/comments", responses=Comments.openapi())
    async def comments(item_id: str, request: Request) -> Response:
        return hub.response(request, Comments(item_id=item_id))

    @app.get("/newest", response_model=CommentAdded)
    async def newest() -> CommentAdded:
        return CommentAdded(comment_id="1", text="fine")

    return app


@pytest.mark.parametrize("version", ["3.2", "3.1"])
async def test_the_document_of_an_app_describes_the_streams_that_its_routes_answer_with(version: str) -> None:
    app = shop()
    openapi_for(app, Comments, version=version)
    async with client_of(app) as client:
        made, again = [(await client.get("/openapi.json")).json() for _ in range(2)]
    assert made == again
    validate(made)
    assert made["openapi"].startswith(version)
    content = made["paths"]["/items/{item_id}/comments"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream"]
    media, schemas = content["text/event-stream"], made["components"]["schemas"]
    assert ("itemSchema" in media) == (version == "3.2")
    assert {"$ref": "#/components/schemas/CommentAdded"} in schemas["CommentsData"]["anyOf"]
    assert "CommentAdded2" not in schemas  # the route beside has the same
    assert made["paths"]["/newest"]["get"]["responses"]["200"]["content"]["application/json"]


def test_a_document_of_an_app_is_sound_before_it_is_put_right() -> None:
    validate(shop().openapi())


def test_a_stream_that_was_not_given_is_told() -> None:
    app = shop()
    openapi_for(app, Moves)
    with pytest.raises(InvalidSchema, match="a route answers with the stream Comments; give it to openapi_for, too"):
        app.openapi()
    with pytest.raises(ValueError, match=r"version is one of 3\.2, 3\.1, not '3\.0'"):
        openapi_for(app, Moves, version="3.0")
