"""A relay among strangers: what a source, a publisher or a transform may do to it, and what it tells of that."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from scripted_source import ScriptedSource, said, scripted_source
from support import until
from test_relay_edge import edge_here, kept, messages, running, to

from sse_fast import Hub, ReceivedEvent
from sse_fast.access.namespaces import Namespace
from sse_fast.cli.failure import Failure, tell
from sse_fast.client.attempts import Seldom
from sse_fast.client.failures import Refused, Unavailable, explain_answer, read_of
from sse_fast.client.listener import check_stream
from sse_fast.client.relay import Relay
from sse_fast.client.relay_mark import MARK, Mark, channel_of
from sse_fast.client.relay_source import Source
from sse_fast.client.relay_state import StateFile
from sse_fast.embed.relay import HubRelay
from sse_fast.errors import ConnectionClosed, EngineUnavailable
from sse_fast.outbox.edge import EdgeTarget as OutboxTarget
from sse_fast.outbox.hub import HubTarget as OutboxHub
from sse_fast.outbox.mark import Mark as OutboxMark
from sse_fast.schema.runtime.stream import Stream, StreamError

POISON = ["a\r\nX: y", "a\0", " a", "i" * 1025]


@pytest.fixture
async def source() -> AsyncIterator[ScriptedSource]:
    async with scripted_source() as source:
        yield source


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEFAULT_RETRY", "SHORTEST_PAUSE", "LONGEST_BACKOFF"):
        monkeypatch.setattr(f"sse_fast.client.relay_source.{name}", 0.001)
    monkeypatch.setattr("sse_fast.client.attempts.LONGEST_PAUSE", 0.001)


async def refused(relay: Relay, answering: Any) -> str:
    """What it ends with."""
    task = asyncio.create_task(relay.run())
    await answering
    async with asyncio.timeout(30):
        with pytest.raises(Refused) as error:
            await task
    return str(error.value)


# ---- compressed answers ----------------------------------------------------------------------------------------------

SQUEEZED = gzip.compress(orjson.dumps({"detail": "squeezed"}))


async def test_of_a_source_s_error_what_is_compressed_is_not_read(source: ScriptedSource) -> None:
    async def answer() -> None:
        await (await source.connection()).answer("403 Forbidden", "Content-Encoding: gzip", body=SQUEEZED)

    async with edge_here() as url:
        said = await refused(Relay(Source(source.url), to(url), "a"), answer())
    assert said.endswith(": 403 Forbidden")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP, gzip", "identity, gzip", "br"])
async def test_whoever_answers_compressed_is_not_read(encoding: str) -> None:
    class Bomb(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Any:
            raise AssertionError("it was read")

        def __aiter__(self) -> Any:
            raise AssertionError("it was read")

    headers = {"Content-Encoding": encoding, "Content-Type": "text/event-stream"}
    request = httpx.Request("GET", "http://a.example/sse")
    answer = httpx.Response(500, headers=headers, stream=Bomb(), request=request)
    assert explain_answer(answer) == "500 Internal Server Error"
    assert (await read_of(answer)).content == b""
    with pytest.raises(Refused, match=r"http://a\.example/sse compresses"):
        check_stream(httpx.Response(200, headers=headers, stream=Bomb(), request=request))


async def test_an_error_that_is_not_compressed_is_told(source: ScriptedSource) -> None:
    async def answer() -> None:
        body = orjson.dumps({"detail": "not you"})
        await (await source.connection()).answer("403 Forbidden", "Content-Encoding: identity", body=body)

    async with edge_here() as url:
        said = await refused(Relay(Source(source.url), to(url), "a"), answer())
    assert said.endswith(": not you (403 Forbidden)")


@pytest.mark.parametrize(("status", "words"), [("200 OK", "compresses"), ("403 Forbidden", "^Forbidden \\(403\\)$")])
async def test_a_generated_client_reads_nothing_that_is_compressed(
    source: ScriptedSource, status: str, words: str
) -> None:
    def decode(*_: object) -> object:
        return None

    stream = Stream("x", decode, url=source.url, token=None, last_event_id=None, history=None, client=None)
    asking = asyncio.create_task(anext(stream))
    headers = ("Content-Type: text/event-stream", "Content-Encoding: gzip")
    await (await source.connection()).answer(status, *headers, body=SQUEEZED)
    with pytest.raises(StreamError, match=words):
        await asyncio.wait_for(asking, 30)
    await stream.aclose()


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_what_a_server_says_is_wrong_steers_no_terminal_and_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "\x1b[2Jgone\nsse-fast: all is well\x9b31m" + "x" * 60_000
    told = explain_answer(httpx.Response(403, json={"detail": detail}))
    assert told.startswith("\\x1b[2Jgone\\nsse-fast: all is well\\x9b31mx")
    assert told.endswith("(403 Forbidden)")
    assert told.isprintable()
    assert len(told) < 1100
    Failure(f"a\x1b[2Jb\x9b{told}").show()
    tell("a\x1b[2Jb\nc")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


async def test_a_type_and_an_id_of_whatever_length_are_told_in_a_short_line(
    source: ScriptedSource, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge_here() as url, running(Relay(Source(source.url), to(url), "a")) as relay:
        await source.streamed(said("x", id="i" * 5000, event="t" * 300_000), said("end"))
        await kept(url, "end")
        assert relay.stats.failed == 1
    left_out = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(left_out) == 1
    assert len(left_out[0]) < 1000


def test_of_what_goes_wrong_at_each_event_a_few_lines_a_second_are_told_and_how_many_were_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("sse_fast.client.attempts.monotonic", lambda: now)
    seldom = Seldom(logging.getLogger("sse_fast.relay"), most=3)
    for number in range(10):
        seldom.say(logging.ERROR, f"event {number}")
    now += 1.0
    seldom.say(logging.ERROR, "event 10")
    told = [record.getMessage() for record in caplog.records]
    assert told == ["event 0", "event 1", "event 2", "event 10 (7 lines like it were left out)"]


@pytest.mark.parametrize("token", ["sup3rsecret\n", "sup3r secret", "sup3rsecret\u2603", ""])
async def test_a_token_that_no_header_can_carry_is_not_told(source: ScriptedSource, token: str) -> None:
    async with edge_here() as url:
        with pytest.raises(Refused, match="is not visible ASCII characters alone") as error:
            await Relay(Source(source.url, token=lambda: token), to(url), "a").run()
    assert "sup3r" not in str(error.value)
    with pytest.raises(ValueError, match="is not visible ASCII characters alone") as wrong:
        Source(source.url, token=token)
    assert "sup3r" not in str(wrong.value)


@pytest.mark.parametrize("name", ["X-Key", "X Key", ""])
def test_a_header_that_no_request_can_carry_is_not_told(name: str) -> None:
    with pytest.raises(ValueError, match="no request can carry") as error:
        Source("http://a.example", headers={name: "sup3rsecret\n"})
    assert "sup3r" not in str(error.value)


# ---- redirects -------------------------------------------------------------------------------------------------------


async def test_no_source_leads_a_relay_to_another_origin_where_nobody_said_so(source: ScriptedSource) -> None:
    async with edge_here() as url, scripted_source() as inside:

        async def answer() -> None:
            await (await source.connection()).answer("302 Found", f"Location: {inside.url}?token=secret")

        said = await refused(Relay(Source(source.url), to(url), "a"), answer())
        assert not inside.connections
        assert f"redirects to another origin, {inside.url}, which" in said
        options: dict[str, Any] = {"cross_origin": True}
        async with Hub() as hub, HubRelay(hub, source.url, "news", **options):
            await answer()
            await inside.connection()


# ---- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_transform_that_is_cancelled_by_nobody_has_failed(source: ScriptedSource, is_async: bool) -> None:
    def cancels(event: ReceivedEvent) -> Any:
        if event.data != "2":
            return event.data
        if is_async:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            return future
        raise asyncio.CancelledError

    async with edge_here() as url, running(Relay(Source(source.url), to(url), "a", transform=cancels)) as relay:
        await source.streamed(said("1", "a"), said("2", "b"), said("3", "c"))
        found = await kept(url, "3")
        assert [type for type, _ in found] == ["message", "$gap", "message"]
        assert relay.stats.failed == 1


async def test_while_a_transform_takes_its_time_what_is_made_is_published_and_marks_are_written(
    source: ScriptedSource,
) -> None:
    """Else another one takes over, and so for ever."""
    go_on = asyncio.Event()

    async def slow(event: ReceivedEvent) -> str:
        if event.data == "2":
            await go_on.wait()
        return event.data

    async with edge_here() as url:
        relay = Relay(Source(source.url), to(url), "a", transform=slow, renew=0.02)
        async with running(relay):
            await source.streamed(said("1", "a"), said("2", "b"), said("3", "c"))
            assert await kept(url, "1") == messages("1")
            batches = relay.stats.batches
            await until(lambda: relay.stats.batches >= batches + 3)
            assert relay.stats.id == "a"
            go_on.set()
            assert await kept(url, "3") == messages("1", "2", "3")


async def test_a_relay_that_ends_while_a_transform_takes_its_time_ends_that(source: ScriptedSource) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(event: ReceivedEvent) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return event.data

    async with edge_here() as url:
        async with running(Relay(Source(source.url), to(url), "a", transform=slow)):
            await source.streamed(said("1", "a"))
            await begun.wait()
        assert ended.is_set()


# ---- marks -----------------------------------------------------------------------------------------------------------


async def published(url: str, channel: str, event: str, data: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.post("/publish", json={"channel": channel, "event": event, "data": data})
        assert answer.status_code < 300, answer.text


@pytest.mark.parametrize("id", POISON)
def test_a_mark_by_which_no_source_can_be_asked_is_none(id: str) -> None:
    assert Mark.read(Mark(id, "b").data) is None


async def test_a_mark_that_no_relay_has_written_ends_none(source: ScriptedSource) -> None:
    async with edge_here() as url:
        for round in (1, 2):
            async with running(Relay(Source(source.url), to(url), "a")):
                connection = await source.streamed(said(str(round), f"id {round}"))
                assert connection.last_event_id == (None if round == 1 else "id 1")
                await kept(url, str(round))
            connection.end()
            await published(url, channel_of("a"), MARK, Mark(POISON[0], "b").data)


@pytest.mark.parametrize("id", POISON)
def test_where_a_relay_begins_a_source_can_be_asked_for(id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an id to begin behind"):
        Relay(Source("http://a.example"), to("http://b.example"), "a", since=id)
    state = StateFile(tmp_path / "state", "a")
    state.write(id)
    with pytest.raises(Refused, match="has an id that no source can be asked by"):
        state.read()


async def goes_on_behind_its_mark(url: str, source: ScriptedSource) -> None:
    for round in (1, 2):
        async with running(Relay(Source(source.url), to(url), "a", since="0")) as relay:
            connection = await source.streamed(said(str(round), f"id {round}"))
            assert connection.last_event_id == ("0" if round == 1 else "id 1")
            await until(lambda relay=relay: relay.stats.published == 1)
        connection.end()


@pytest.mark.parametrize("most", [1, 10])
async def test_an_edge_that_shows_little_history_shows_the_marks(source: ScriptedSource, most: int) -> None:
    async with edge_here(max_history=most) as url:
        await goes_on_behind_its_mark(url, source)


@pytest.mark.parametrize("most", [1, 10, 1000])
async def test_it_shows_those_of_an_outbox_too(most: int) -> None:
    async with edge_here(max_history=most) as url:
        target = OutboxTarget(httpx.Client(base_url=url, timeout=30), "outbox:x")
        mark = OutboxMark((1, 2), "digest")
        assert await target.newest_mark() is None
        await target.publish([], mark)
        assert await target.newest_mark() == mark
        await target.close()


@pytest.mark.parametrize("namespace", [{"keep": 1}, {"max_age": 0.001}, {"conflate": True}])
async def test_what_a_relay_has_to_find_again_no_namespace_hides(
    source: ScriptedSource, namespace: dict[str, Any]
) -> None:
    async with edge_here(namespace=(Namespace("**", **namespace),)) as url:
        await goes_on_behind_its_mark(url, source)
        target = OutboxTarget(httpx.Client(base_url=url, timeout=30), "outbox:x")
        mark = OutboxMark((1, 2), "digest")
        await target.publish([], mark)
        assert await target.newest_mark() == mark
        await target.close()


@pytest.mark.parametrize("error", [EngineUnavailable("away", "unreachable"), ConnectionClosed("let go")])
async def test_of_an_outbox_in_an_app_whose_engine_is_away_the_mark_is_asked_for_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise error

    async with Hub() as hub:
        monkeypatch.setattr(hub, "publish", away)
        with pytest.raises(Unavailable):
            await OutboxHub(hub, "outbox:x").newest_mark()
        monkeypatch.setattr(hub, "append_once", away)
        if isinstance(error, EngineUnavailable):
            with pytest.raises(Unavailable):
                await OutboxHub(hub, "outbox:x").publish([], OutboxMark((1,), "digest"))
