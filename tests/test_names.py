"""Channel names that are IRIs: what may be one, how long it may be, and how a path says one with a slash."""

from urllib.parse import quote, unquote

import httpx
import pytest

from sse_fast import create_app
from sse_fast._native.log.ring import Log
from sse_fast.cluster.entries import pack, unpack
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import MAX_CHANNEL_BYTES, Keyed, channel_name
from sse_fast.protocol.request import Request, named
from sse_fast.settings import Settings

IRI = "https://example.com/books/1?draft=yes&lang=fr#top"
LONG = "https://example.com/" + "x" * (MAX_CHANNEL_BYTES - 20)


@pytest.mark.parametrize("name", [IRI, "/books/1", "urn:uuid:550e8400-e29b-41d4-a716-446655440000", LONG, "a//b", "/"])
def test_an_iri_is_a_channels_name(name: str) -> None:
    assert channel_name(name) == name.encode()


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\0b", "\x01a", "a\x7f", "a\x85b", "\ufffd", "", LONG + "x"])
def test_white_space_controls_and_what_is_too_long_are_no_names(name: str) -> None:
    with pytest.raises(InvalidEvent):
        channel_name(name)


def segments(target: str) -> list[str]:
    return Request.from_head("GET", target.encode(), (), "1.1").path.split("/")[2:]


def scoped(target: str) -> Request:
    path, _, query = target.partition("?")
    scope = {
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
    }
    return Request.from_scope(scope)


@pytest.mark.parametrize("name", [IRI, "/books/1", "a/b/c", "caf\u00e9/\U0001f600", "100%2F", "a:b/c"])
def test_a_slash_that_is_escaped_is_one_of_the_name(name: str) -> None:
    target = "/sse/" + quote(name, safe="")
    assert named(segments(target)) == name
    assert scoped(target).path == Request.from_head("GET", target.encode(), (), "1.1").path


def test_a_slash_that_is_not_escaped_goes_on_parting_stream_and_name() -> None:
    assert named(segments("/sse/orders/a%2Fb")) == "orders:a/b"
    assert named(segments("/sse/orders/17")) == "orders:17"


def test_a_path_that_somebody_rewrote_is_what_counts() -> None:
    scope = {"method": "GET", "path": "/sse/b", "raw_path": b"/x/a%2Fb", "query_string": b"", "headers": []}
    assert Request.from_scope(scope).path == "/sse/b"


@pytest.mark.parametrize(
    "channels",
    [b"a", b"x" * 256, b"x" * 257, LONG.encode(), (b"a", LONG.encode()), (b"a", b"b"), Keyed.of(LONG.encode(), b"k")],
)
def test_an_engine_has_long_names_as_they_are(channels: bytes | tuple[bytes, ...]) -> None:
    found, frame = unpack(pack((channels, b"data: x\n\n")))
    assert (found, frame) == (channels, b"data: x\n\n")
    assert type(found) is type(channels)
    assert getattr(found, "key", None) == getattr(channels, "key", None)


def test_a_log_keeps_events_of_long_names() -> None:
    log = Log.private(1 << 16)
    log.append(LONG.encode(), b"data: x\n\n")
    (record,) = log.records()
    assert record.channels == (LONG.encode(),)


async def test_the_edge_has_names_with_slashes_in_its_paths() -> None:
    edge = create_app(Settings(log_size=1 << 20))
    transport = httpx.ASGITransport(edge)  # a client on this machine, who may look
    async with edge.hub, httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        path = quote(IRI, safe="")
        id = (await client.post(f"/publish/{path}", content="x")).json()["id"]
        edge.hub.fanout.index.take_in()
        of_it = await client.get(f"/channels/{path}")
        assert of_it.status_code == 200, of_it.text
        assert of_it.json()["name"] == IRI
        listed = (await client.get("/channels")).json()["channels"]
        assert [(each["name"], each["last_id"]) for each in listed] == [(IRI, id)]
        assert (await client.get("/channels/")).status_code == 404
