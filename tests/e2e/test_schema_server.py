"""`sse-fast serve --schema`: typed events in real processes, beside an app that defines them."""

import json
from pathlib import Path

import pytest
from conftest import Edges

SHOP = """
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sse_fast import Hub, stream


@dataclass
class CommentAdded:
    comment_id: str


Comments = stream("item:{item_id}", CommentAdded)
hub = Hub()  # the server's own, and it would be another one if this were imported before the server says so


async def comment(request):
    await hub.publish(Comments(item_id="7"), CommentAdded("1"))
    return PlainTextResponse(str(hub.of_the_server))


app = Starlette(routes=[Route("/comment", comment, methods=["POST"])])
"""


def test_beside_an_app_strangers_publish_what_fits_and_the_app_goes_on_the_same_hub(
    edge: Edges, tmp_path: Path
) -> None:
    (tmp_path / "typed_shop.py").write_text(SHOP)
    server = edge("--schema", "typed_shop", "--app", "typed_shop:app")
    server.edge_path = ""
    assert server.request("POST", "/comment") == (200, b"True")
    assert server.request("POST", "/edge/publish/item/7?event=CommentAdded", b'{"comment_id":"2"}')[0] == 200
    status, body = server.request("POST", "/edge/publish/item/7?event=CommentAdded", b'{"comment_id":2}')
    assert status == 400
    assert json.loads(body)["detail"] == "CommentAdded: data.comment_id is a number, not a string"
    assert server.request("POST", "/edge/publish/news", b"anything")[0] == 200
    status, body = server.request("GET", "/edge/schema.json")
    assert status == 200
    assert json.loads(body)["streams"][0]["name"] == "Comments"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("typed_shop,typed_nothing", "--schema: there is no module 'typed_nothing', neither in"),
        ("shop.json", "--schema: shop.json: streams[0].events.A: $ref names one of the document's $defs"),
    ],
)
def test_a_server_without_a_schema_that_holds_does_not_start(
    edge_that_starts: Edges, tmp_path: Path, schema: str, why: str
) -> None:
    (tmp_path / "typed_shop.py").write_text(SHOP)
    streams = [{"name": "A", "channel": "a", "events": {"A": {"$ref": "#/$defs/A"}}}]
    (tmp_path / "shop.json").write_text(json.dumps({"sse_fast": 1, "streams": streams}))
    server = edge_that_starts("--schema", schema)
    assert server.wait() == 1
    assert why in server.log()
