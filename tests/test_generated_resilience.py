"""Generated clients against servers that say anything: what is promised is raised, and what is behind it comes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from compilers import run, tsc, tsc_for_node
from conftest import program
from schemas import SHOP
from test_generate import document, imported

from sse_fast import js
from sse_fast.schema.python import python
from sse_fast.schema.typescript import typescript

STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
SECOND = 'id: e-2\nevent: headline\ndata: "two"\n\n'
Answer = Callable[[str], tuple[str, bool]]  # of a request's head: what is sent, and whether it stays open


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return imported(python(document(SHOP), "shop.events"), tmp_path_factory.mktemp("python"), "resilient_shop")


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of a server that answers so, and the heads of what it was asked."""
    asked: list[str] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        said, stays = answer(asked[-1])
        writer.write(said.encode("latin-1"))
        if stays:
            await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        ended.set()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("HTTP/1.1 302 Found\r\nLocation: /sse\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "TooManyRedirects"),
        (STREAM.replace("Connection", "Content-Encoding: gzip\r\nConnection") + "no gzip", "compresses \\(gzip\\)"),
    ],
)
async def test_what_the_next_attempt_would_meet_too_is_a_stream_error(shop: Any, said: str, named: str) -> None:
    async with answering(lambda head: (said, False)) as (url, _), shop.news(url=url) as stream:
        with pytest.raises(shop.StreamError, match=named):
            await anext(stream)


async def test_where_there_is_no_stream_it_is_said_where_an_edge_may_be(shop: Any) -> None:
    said = "HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\nConnection: close\r\n\r\n" + '{"detail":"Not Found"}'
    async with answering(lambda head: (said, False)) as (url, _), shop.news(url=url) as stream:
        with pytest.raises(
            shop.StreamError, match=r"Not Found \(404\); beside an app .* url ends with /edge"
        ) as refused:
            await anext(stream)
        assert refused.value.status == 404


@pytest.mark.parametrize("data", ["5", "null", "{"])
async def test_a_gap_that_says_nothing_is_a_gap(shop: Any, data: str) -> None:
    said = f"{STREAM}id: e-1\nevent: $gap\ndata: {data}\n\n{SECOND}"
    async with answering(lambda head: (said, True)) as (url, _), shop.news(url=url) as stream:
        assert await anext(stream) == shop.Gap(None, None, None, "e-1")
        assert (await anext(stream)).data == "two"


async def test_a_token_that_cannot_be_had_once_is_asked_for_again(shop: Any) -> None:
    def token() -> str:
        nonlocal tokens
        tokens += 1
        if tokens == 1:
            raise OSError("the login is down")
        return "t"

    tokens = 0
    async with answering(lambda head: (STREAM + SECOND, True)) as (url, asked):
        async with shop.news(url=url, token=token) as stream:
            stream._retry = 0.1
            assert (await anext(stream)).data == "two"
        assert "authorization: bearer t\r\n" in asked[0].lower()


async def test_a_wait_that_is_cancelled_loses_nothing_and_the_next_goes_on_behind_the_last_event(shop: Any) -> None:
    def answer(head: str) -> tuple[str, bool]:
        if "last-event-id: e-1" in head.lower():
            return STREAM + SECOND, True
        return f'{STREAM}id: e-1\nevent: headline\ndata: "one"\n\n', True

    async with answering(answer) as (url, asked), shop.news(url=url) as stream:
        assert (await anext(stream)).data == "one"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        assert (await anext(stream)).data == "two"
        assert len(asked) == 2


async def test_no_pause_that_a_server_asked_for_ends_with_who_waits(shop: Any) -> None:
    said = "HTTP/1.1 503 Away\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with answering(lambda head: (said, False)) as (url, asked), shop.news(url=url) as stream:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.3)
        assert len(asked) == 1


def test_retry_after_is_seconds_or_a_date_and_never_more_than_a_day(shop: Any) -> None:
    assert shop._retry_after("70") == 70
    assert abs(shop._retry_after(formatdate(time.time() + 3600, usegmt=True)) - 3600) < 60
    assert shop._retry_after("9" * 400) == shop._retry_after("Fri, 31 Dec 9999 23:59:59 GMT") == 86_400
    for nothing in ("", "soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", f"Fri, 31 Dec {'9' * 30} 23:59:59 GMT"):
        assert shop._retry_after(nothing) == 0


LAWS = """
import assert from "node:assert/strict";
import http from "node:http";
import { news, StreamError, subscribeToNews } from "./shop.js";

async function answers(...said) {
  let asked = 0;
  const server = http.createServer((request, response) => said[Math.min(asked++, said.length - 1)](response));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${server.address().port}`;
}
const streams = (...events) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(events.map(([id, type, data]) => `id: ${id}\\nevent: ${type}\\ndata: ${data}\\n\\n`).join(""));
};
const away = (after) => (response) => response.writeHead(503, { "Retry-After": after }).end();

setTimeout(() => { throw new Error("it took too long"); }, 30_000);
{
  const errors = [];
  const wrong = [["e-1", "headline", "no JSON"], ["e-2", "other", "x"], ["e-3", "$gap", "null"]];
  const url = await answers(streams(...wrong, ["e-4", "headline", '"good"']));
  const onError = (error) => errors.push([error.message, error.final, error instanceof StreamError]);
  const iterator = news({ url, onError, onUnknown() { throw new Error("mine"); } });
  assert.deepEqual((await iterator.next()).value, { type: "$gap", data: { after: "e-2", until: null }, id: "e-3" });
  assert.deepEqual((await iterator.next()).value, { type: "headline", data: "good", id: "e-4" });
  assert.deepEqual(errors, [["the data of the event headline e-1 is not JSON", false, true], ["mine", false, true]]);
  await iterator.return();
}
{
  const url = await answers((response) => response.writeHead(403).end());
  const errors = [];
  const iterator = news({ url, onError: (error) => errors.push(error) });
  await assert.rejects(iterator.next(), { name: "StreamError", final: true, status: 403 });
  assert.deepEqual(errors, []); // it is thrown
  const refused = await new Promise((onError) => subscribeToNews({ url, onEvent() {}, onError }));
  assert.deepEqual([refused.status, refused.final], [403, true]);
}
{
  const paths = [];
  const good = streams(["e-1", "headline", '"good"']);
  const url = await answers((response) => (paths.push(response.req.url), good(response)));
  for (const where of [{ url: `${url}/edge/` }, { route: `${url}/own/stream?of=me` }]) {
    const iterator = news(where);
    assert.equal((await iterator.next()).value.data, "good");
    await iterator.return();
  }
  assert.deepEqual(paths, ["/edge/sse?channel=news", "/own/stream?of=me"]);
}
assert.throws(() => subscribeToNews({ onEvent() {} }), /url: .sse is no address that a stream can be asked for at/);
assert.equal((await import("./beside.js")).StreamError, (await import("./client.js")).StreamError);
{
  let asked = 0;
  const url = await answers(streams(["e-1", "headline", '"good"']));
  const subscription = subscribeToNews({ url, getToken: () => (asked++, new Promise(() => {})), onEvent() {} });
  while (!asked) await new Promise((done) => setTimeout(done));
  subscription.close();
  await subscription.closed;
}
for (const [after, seconds] of [[new Date(Date.now() + 3600e3).toUTCString(), 3600], ["9".repeat(30), 86400]]) {
  const url = await answers(away(after));
  const waits = await new Promise((done) => {
    const subscription = subscribeToNews({ url, onEvent() {}, onState: (state) => {
      if (state.name === "waiting") done((state.until - Date.now()) / 1000), subscription.close();
    } });
  });
  assert.ok(Math.abs(waits - seconds) < 60, `${waits}`);
}
process.exit();
"""


def test_a_typescript_client_goes_on_behind_what_is_wrong_and_can_be_closed(tmp_path: Path) -> None:
    (tmp_path / "shop.ts").write_text(typescript(document(SHOP), "shop.events"))
    (tmp_path / "beside.ts").write_text(typescript(document(SHOP), "shop.events", "./client.js"))
    (tmp_path / "client.js").write_bytes(js.CLIENT)
    (tmp_path / "client.d.ts").write_bytes(js.TYPES)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    tsc(tmp_path, "shop.ts", "beside.ts", output=tmp_path)
    tsc_for_node(tmp_path, "shop.ts")
    (tmp_path / "laws.js").write_text(LAWS)
    run(program("node"), tmp_path / "laws.js", cwd=tmp_path)
