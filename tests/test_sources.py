"""Keys and webhooks that a server asks for while it runs, by both transports: what changes there holds from then on,
without a restart; and where nobody answers nobody is let in, and an EventSource comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from edge_client import EdgeClient
from jwt.algorithms import RSAAlgorithm
from origin_server import OriginServer, answer, json
from signing import ec_key, key_set, public, rsa_key, token
from support import until

from sse_fast.edge import files
from sse_fast.edge.key_sets import FetchedKeys
from sse_fast.edge.sources import check_files
from sse_fast.settings import Settings, refuse_unsafe
from sse_fast.testing import EventStream
from sse_fast.transports.life import Transport

pytestmark = pytest.mark.usefixtures("nothing_set")
BOTH = pytest.mark.parametrize("transport", Transport)
READS_JSON = {"accept": "application/json"}


def jwk(kid: str) -> dict[str, Any]:
    return public(ec_key(kid), kid=kid)


def bearer(kid: str, *channels: str) -> dict[str, str]:
    signed = token({"subscribe": list(channels)}, key=ec_key(kid), algorithm="ES256", kid=kid)
    return {"authorization": f"Bearer {signed}"}


@pytest.fixture(autouse=True)
def nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY", 0.02)
    monkeypatch.setitem(FetchedKeys.__init__.__kwdefaults__, "cool", 0.02)
    monkeypatch.setitem(FetchedKeys.__init__.__kwdefaults__, "retry", 0.02)


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[OriginServer]:
    async with OriginServer.opened() as origin:
        yield origin


async def begins(client: EdgeClient, target: str, headers: dict[str, str]) -> EventStream:
    """A stream's head, and its first event."""
    async with client.stream(target, headers=headers) as stream:
        if stream.status_code == 200:
            await stream.next()
        return stream


async def is_told_to_come_back(client: EdgeClient, target: str, headers: dict[str, str]) -> None:
    stream = await begins(client, target, headers)
    assert (stream.status_code, stream.events[0].event) == (200, "$closing")
    assert "retry: " in stream.text
    program = await client.http.get(target, headers=headers | READS_JSON)
    assert program.status_code == 503
    assert int(program.headers["retry-after"]) > 0
    assert client.edge.hub.fanout.connections == 0


# ---- a key set at a URL ----------------------------------------------------------------------------------------------


@BOTH
async def test_a_key_that_a_set_has_only_now_is_taken_without_a_restart(
    transport: Transport, origin: OriginServer
) -> None:
    origin.answer = lambda asked: json({"keys": [jwk("old")]})
    async with EdgeClient.opened(transport, jwks_url=origin.url) as client:
        assert (await begins(client, "/sse/a", bearer("old", "a"))).events[0].event == "$connected"
        origin.answer = lambda asked: json({"keys": [jwk("new")]})
        assert (await begins(client, "/sse/a", bearer("new", "a"))).events[0].event == "$connected"
        assert (await begins(client, "/sse/a", bearer("old", "a"))).status_code == 401, "what is gone is gone"
        assert (await begins(client, "/sse/a", {})).status_code == 401


@BOTH
async def test_without_a_first_key_set_nobody_is_let_in_and_an_event_source_comes_back(
    transport: Transport, origin: OriginServer
) -> None:
    origin.stop()
    async with EdgeClient.opened(transport, jwks_url=origin.url) as client:
        await is_told_to_come_back(client, "/sse/a", bearer("old", "a"))
        assert (await client.http.post("/publish/a", content=b"x", headers=bearer("old"))).status_code == 503
        origin.answer = lambda asked: json({"keys": [jwk("old")]})
        await origin.start()

        async def is_let_in() -> bool:
            return (await begins(client, "/sse/a", bearer("old", "a"))).events[0].event == "$connected"

        await until(is_let_in)


@BOTH
async def test_while_the_key_set_is_away_the_old_keys_hold(transport: Transport, origin: OriginServer) -> None:
    origin.answer = lambda asked: json({"keys": [jwk("old")]})
    async with EdgeClient.opened(transport, jwks_url=origin.url) as client:
        await begins(client, "/sse/a", bearer("old", "a"))
        origin.answer = lambda asked: answer(500)
        await is_told_to_come_back(client, "/sse/a", bearer("new", "a"))
        assert (await begins(client, "/sse/a", bearer("old", "a"))).events[0].event == "$connected"


@BOTH
async def test_a_secret_in_a_set_that_others_may_read_signs_nothing(transport: Transport, origin: OriginServer) -> None:
    secret = "everybody knows this secret of 32 bytes"
    known = {"kty": "oct", "k": "ZXZlcnlib2R5IGtub3dzIHRoaXMgc2VjcmV0IG9mIDMyIGJ5dGVz", "kid": "known"}
    origin.answer = lambda asked: json({"keys": [jwk("old"), known]})
    async with EdgeClient.opened(transport, jwks_url=origin.url) as client:
        forged = {"authorization": f"Bearer {token({'subscribe': ['a']}, key=secret, kid='known')}"}
        assert (await begins(client, "/sse/a", forged)).status_code == 401


# ---- files -----------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_file_of_keys_is_read_again_when_it_changes(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk("old")))
    async with EdgeClient.opened(transport, token_keys=path) as client:
        assert (await begins(client, "/sse/a", bearer("old", "a"))).status_code == 200
        assert (await begins(client, "/sse/a", bearer("new", "a"))).status_code == 401
        path.write_bytes(key_set(jwk("new"), jwk("third")))

        async def is_let_in() -> bool:
            return (await begins(client, "/sse/a", bearer("new", "a"))).status_code == 200

        await until(is_let_in)
        assert (await begins(client, "/sse/a", bearer("old", "a"))).status_code == 401


SHOP = '[shop]\nkey = "{}-0123456789abcdef"\npublish = ["orders:**"]\n'


@BOTH
async def test_publish_keys_are_for_their_channels_and_change_without_a_restart(
    transport: Transport, tmp_path: Path
) -> None:
    path = tmp_path / "publish-keys.toml"
    path.write_text(SHOP.format("old"))

    async with EdgeClient.opened(transport, publish_keys=path) as client:

        async def publishes(key: str | None, target: str, **body: Any) -> int:
            headers = {"authorization": f"Bearer {key}-0123456789abcdef"} if key is not None else {}
            return (await client.http.post(target, content=b"x", headers=headers, **body)).status_code

        assert await publishes("old", "/publish/orders/7") == 200
        assert await publishes("old", "/publish/users/7") == 403
        assert await publishes("new", "/publish/orders/7") == 401
        assert await publishes(None, "/publish/orders/7") == 401
        path.write_text(SHOP.format("new"))

        async def is_let_in() -> bool:
            return await publishes("new", "/publish/orders/7") == 200

        await until(is_let_in)
        assert await publishes("old", "/publish/orders/7") == 401


async def test_a_publisher_whose_header_is_known_is_looked_at_again_when_the_keys_change(tmp_path: Path) -> None:
    path = tmp_path / "publish-keys.toml"
    path.write_text(SHOP.format("old").replace("orders:**", "**"))
    async with EdgeClient.opened(Transport.NATIVE, publish_keys=path) as client:
        assert client.edge.front is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", client.edge.front.port)

        async def publish() -> bytes:
            writer.write(
                b"POST /publish/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer old-0123456789abcdef\r\n"
                b"Content-Length: 1\r\n\r\nx"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            return head.split(b" ")[1]

        assert {await publish() for _ in range(3)} == {b"200"}
        path.write_text(SHOP.format("new"))

        async def is_refused() -> bool:
            return await publish() == b"401"

        await until(is_refused)
        writer.close()


@pytest.mark.parametrize("setting", ["token_keys", "publish_keys"])
def test_a_server_does_not_start_with_a_file_of_keys_that_is_none(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "keys"
    settings = Settings(**{setting: path})
    flag = "--" + setting.replace("_", "-")
    with pytest.raises(ValueError, match=f"{flag}: .*: cannot be read: No such file"):
        check_files(settings)
    path.write_text("nothing of the kind")
    with pytest.raises(ValueError, match=f"{flag}: "):
        check_files(settings)


@pytest.mark.parametrize("setting", ["token_keys", "publish_keys"])
async def test_a_worker_that_comes_when_the_file_is_bad_lets_nobody_in(
    tmp_path: Path, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text("nothing of the kind")
    async with EdgeClient.opened(Transport.NATIVE, **{setting: path}) as client:
        assert (await client.http.post("/publish/a", content=b"x")).status_code == 401
    assert "nobody has its keys" in caplog.text


# ---- the webhook -----------------------------------------------------------------------------------------------------

ADA = {"cookie": "session=ada"}


def by_session(asked: Any) -> bytes:
    """As an app answers that knows its sessions."""
    question = asked.json
    user = question["headers"].get("cookie", "").removeprefix("session=")
    if not user:
        return json({"detail": "log in first"}, 401)
    mine = [name for name in question["channels"] if name.startswith(f"user:{user}:")]
    return json({"channels": mine, "user": user}) if mine else json({"detail": f"not {user}'s"}, 403)


@BOTH
async def test_the_webhook_decides_who_listens(transport: Transport, origin: OriginServer) -> None:
    origin.answer = by_session
    async with EdgeClient.opened(transport, authorize_url=origin.url, grant_subscribe=["public"]) as client:
        stream = await begins(client, "/sse?channel=user:ada:a&channel=user:eve:b&channel=public", ADA)
        assert stream.events[0].event == "$connected"
        assert origin.asked[0].json == {
            "channels": ["user:ada:a", "user:eve:b"],
            "patterns": [],
            "user": None,
            "client": "127.0.0.1",
            "headers": {"cookie": "session=ada"},
        }
        for headers, status, why in ((ADA, 403, "not ada's"), ({}, 401, "log in first")):
            refused = await client.http.get("/sse/user:eve:b", headers=headers)
            assert (refused.status_code, refused.json()["detail"]) == (status, why)
        assert (await begins(client, "/sse/public", {})).status_code == 200
        assert len(origin.asked) == 3


async def down(origin: OriginServer) -> None:
    origin.stop()


async def redirecting(origin: OriginServer) -> None:
    origin.answer = lambda asked: answer(302, location=origin.url)


async def silent(origin: OriginServer) -> None:
    origin.answer = lambda asked: None


async def failing(origin: OriginServer) -> None:
    origin.answer = lambda asked: answer(500)


@BOTH
@pytest.mark.parametrize("outage", [down, redirecting, silent, failing])
async def test_without_the_webhook_s_word_nobody_is_let_in_and_an_event_source_comes_back(
    transport: Transport, origin: OriginServer, outage: Callable[[OriginServer], Any]
) -> None:
    await outage(origin)
    async with asyncio.timeout(30):
        async with EdgeClient.opened(transport, authorize_url=origin.url) as client:
            await is_told_to_come_back(client, "/sse/user:ada:a", ADA)


@BOTH
async def test_what_is_published_while_the_webhook_thinks_comes_when_it_has(
    transport: Transport, origin: OriginServer
) -> None:
    origin.answer = lambda asked: None
    async with EdgeClient.opened(transport, authorize_url=origin.url) as client:

        async def reads() -> str:
            async with client.stream("/sse/a", headers=ADA) as stream:
                return (await stream.take(2))[1].data

        reading = asyncio.create_task(reads())
        await origin.asked_times(1)
        await client.edge.hub.publish("a", "meanwhile")
        origin.answer = lambda asked: json({})
        origin.released.set()
        assert await reading == "meanwhile"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"authorize_url": "app.example/hook"}, "write a URL"),
        ({"authorize_url": "ftp://app.example/hook"}, "write a URL"),
        ({"authorize_url": "http://user:secret@app.example/hook"}, "without a name and password"),
        ({"jwks_url": "https://app.example/jwks#1"}, "write a URL"),
        ({"authorize_headers": "cookie, bad header"}, "no name of a header"),
    ],
)
def test_settings_say_what_is_wrong(given: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Settings(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"authorize_url": "http://app/hook"}, {"jwks_url": "https://idp/jwks"}])
def test_with_somebody_to_ask_it_is_safe_to_listen_everywhere(given: dict[str, str]) -> None:
    refuse_unsafe(Settings(host="0.0.0.0", **given))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="refusing to listen"):
        refuse_unsafe(Settings(host="0.0.0.0"))


def test_keys_that_let_listen_where_everybody_may_are_told_of_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('[reader]\nkey = "0123456789abcdef"\nsubscribe = ["orders:*"]\n')
    (line,) = check_files(Settings(publish_keys=path))
    assert "so may everybody, to everything: --grant-subscribe" in line
    assert check_files(Settings(publish_keys=path, grant_subscribe="news")) == []  # type: ignore[arg-type]
    path.write_text('[writer]\nkey = "0123456789abcdef"\npublish = ["orders:*"]\n')
    assert check_files(Settings(publish_keys=path)) == []


def test_the_private_half_of_keys_is_told_of_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    half = public(rsa_key())
    path.write_bytes(key_set(half))
    assert check_files(Settings(token_keys=path)) == []
    path.write_bytes(key_set(RSAAlgorithm.to_jwk(rsa_key(), as_dict=True) | {"use": "sig", "key_ops": ["sign"]}))
    (line,) = check_files(Settings(token_keys=path))
    assert "has private keys" in line
    assert "--public" in line
