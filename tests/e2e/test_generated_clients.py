"""Generated clients against a real edge: the TypeScript one in Chromium, as tsc makes it, and the Python one. Each gets
typed events, comes back by itself without loss or doubles, is told of gaps, and says when it is refused."""

import asyncio
import importlib.util
import json
import re
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from compilers import elm as compile_elm
from compilers import tsc
from conftest import EdgeProcess, Edges
from playwright.async_api import Browser, Page
from schemas import COMMENT, HOSTILE, ORDER, SHOP, UPDATED

from sse_fast import js
from sse_fast.schema import model
from sse_fast.schema.elm import elm, ports
from sse_fast.schema.python import python
from sse_fast.schema.shape import check
from sse_fast.schema.typescript import runtime, typescript

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret for these tests, thirty-two bytes at least"
# What compiles only if the types are what they are said to be: what must not compile is marked as such.
USES = """
import { comments, subscribeToComments, subscribeToNews, commentsChannel, notifications } from "./shop";
import type { CommentsEvent, NotificationsEvent, StreamState } from "./shop";

function said(event: CommentsEvent): string {
  switch (event.type) {
    case "CommentAdded":
      return event.data.author.name + event.data.tags.join() + (event.data.reply_to ?? "") + event.id;
    case "CommentUpdated":
      return event.data.by.name;
    case "SystemAlert":
      return "";
    default: {
      const never: never = event;
      return never;
    }
  }
}

function paid(event: NotificationsEvent): string {
  if (event.type === "SystemAlert") return "";
  const payment = event.data.payment;
  return payment.kind === "card" ? payment.last_four : String(payment.level ?? 1);
}

function states(state: StreamState): number {
  return state.name === "waiting" ? (state.until ?? 0) : 0;
}

export async function use(): Promise<void> {
  const subscription = subscribeToComments(
    { itemId: "7" },
    { onEvent: said, onState: states, onGap: (gap, id) => gap.after ?? id, onError: (error) => error.final },
  );
  subscription.close();
  subscribeToNews({
    getToken: async ({ again }) => (again ? null : "t"),
    onEvent: (event) => (event.type === "ticker" ? event.data.map((price) => price * 2) : event.data.length),
  });
  for await (const event of comments({ itemId: "7" }, { signal: new AbortController().signal })) {
    if (event.type === "$gap") console.log(event.data.positions ?? 0);
    else said(event);
  }
  for await (const event of notifications({ shop: commentsChannel({ itemId: "x" }), userId: 3 })) {
    if (event.type !== "$gap") paid(event);
  }
  // @ts-expect-error: a parameter is missing
  comments({});
  // @ts-expect-error: a number is no text
  comments({ itemId: 7 });
  // @ts-expect-error: an event has to be handled
  subscribeToComments({ itemId: "7" }, {});
  // @ts-expect-error: no event of this name is in the stream
  subscribeToNews({ onEvent: (event) => event.type === "CommentAdded" });
}
"""
LISTEN = """([itemId, options]) => {
    const told = { events: [], gaps: [], states: [], reconnects: [], errors: [], unknown: [], own: 0 };
    const throws = () => { throw new Error("a handler's own"); };
    const subscription = window.client.subscribeToComments({ itemId }, {
        ...options,
        getToken: window.getToken,
        onEvent: (event) => { told.events.push(event); throws(); },
        onGap: (gap, id) => told.gaps.push({ ...gap, id }),
        onReconnect: ({ resume }) => told.reconnects.push(resume),
        onState: ({ name }) => { told.states.push(name); throws(); },
        onError: ({ message, final, status, cause }) => cause?.message === "a handler's own" ? told.own++
            : told.errors.push({ message, final, status: status ?? 0 }),
        onUnknown: ({ type }) => told.unknown.push(type),
    });
    Object.assign(window, { told, subscription });
}"""


def document(schema: dict[str, Any]) -> model.Document:
    return model.read(check(json.loads(json.dumps(schema)), "schema"))


def words() -> dict[str, Any]:
    """A schema whose types and streams are called by all words that the client itself is written with."""
    code = re.sub(r"//.*|/\*[^]*?\*/".replace("[^]", r"[\s\S]"), "", runtime() + js.source())
    found = sorted(set(re.findall(r"[A-Za-z]\w*", code)))
    events = {word: {"$ref": f"#/$defs/{word}"} for word in found}
    named = {"parameters": {}, "events": {"happened": {"type": "null"}}}
    streams = [{"name": word, "channel": f"one-{word}"} | named for word in found if word[0].islower()]
    streams.append({"name": "Words", "channel": "words", "parameters": {}, "events": events})
    types = {word: {"type": "object", "properties": {word: {"type": "string"}}} for word in found}
    return {"sse_fast": 1, "streams": streams, "$defs": types}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The client of the shop as JavaScript; the types held."""
    directory = tmp_path_factory.mktemp("typescript")
    (directory / "shop.ts").write_text(typescript(document(SHOP), "shop.events"))
    (directory / "hostile.ts").write_text(typescript(document(HOSTILE), "hostile"))
    (directory / "words.ts").write_text(typescript(document(words()), "words"))
    (directory / "uses.ts").write_text(USES)
    tsc(directory, "shop.ts", "hostile.ts", "words.ts", "uses.ts", output=directory / "made")
    return (directory / "made" / "shop.js").read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    page = await browser.new_page()
    yield page
    await page.close()


async def load(page: Page, server: EdgeProcess, compiled: str) -> None:
    """A page of the edge's own origin that has the client."""
    await page.goto(f"{server.url}/livez")
    module = b64encode(compiled.encode()).decode()
    await page.evaluate(f"async () => {{ window.client = await import('data:text/javascript;base64,{module}'); }}")


async def listening(page: Page, item: str = "7", **options: Any) -> None:
    await page.evaluate(LISTEN, [item, options])
    await page.wait_for_function("told.states.includes('open') || told.errors.length")


async def told(page: Page, until: str) -> dict[str, Any]:
    """What the page was told, once this is true."""
    await page.wait_for_function(until)
    said: dict[str, Any] = await page.evaluate("told")
    return said


def publish(server: EdgeProcess, event: str, data: Any, channel: str = "item:7") -> str:
    return server.publish(channel, data if isinstance(data, str) else json.dumps(data), event)


async def iterates(page: Page, server: EdgeProcess) -> None:
    """Events come by `for await`, and it ends with its signal."""
    first = publish(server, "order.paid", ORDER, "shop-s:user:3")
    second = publish(server, "SystemAlert", {}, "shop-s:user:3")
    found = await page.evaluate(
        """async () => {
            const found = [], ending = new AbortController();
            const options = { lastEventId: "earliest", signal: ending.signal };
            for await (const event of client.notifications({ shop: "s", userId: 3 }, options)) {
                found.push(event);
                if (found.length === 2) setTimeout(() => ending.abort());
            }
            let refused = "";
            try { client.comments({ itemId: "a:b" }); } catch (error) { refused = String(error); }
            return { found, refused };
        }"""
    )
    assert found["found"] == [
        {"type": "order.paid", "data": ORDER, "id": first},
        {"type": "SystemAlert", "data": {}, "id": second},
    ]
    assert found["refused"].startswith("TypeError: itemId is a part of a channel's name")


async def test_a_typescript_client_gets_typed_events_through_the_death_of_a_worker_and_of_the_server(
    edge: Edges, page: Page, compiled: str
) -> None:
    server = edge("--retry", "100")
    await load(page, server, compiled)
    await iterates(page, server)
    await listening(page)
    ids = [
        publish(server, "CommentAdded", COMMENT),
        publish(server, "of a newer schema", {}),
        publish(server, "CommentUpdated", UPDATED),
    ]
    said = await told(page, "told.events.length === 2")
    assert said["events"] == [
        {"type": "CommentAdded", "data": COMMENT, "id": ids[0]},
        {"type": "CommentUpdated", "data": UPDATED, "id": ids[2]},
    ]
    assert said["unknown"] == ["of a newer schema"]
    await asyncio.to_thread(server.kill_worker)
    ids += [publish(server, "CommentUpdated", {**UPDATED, "new_text": str(number)}) for number in range(20)]
    said = await told(page, "told.events.length >= 22")
    assert [event["id"] for event in said["events"]] == [ids[0], *ids[2:]]
    assert (said["gaps"], said["reconnects"]) == ([], ["complete"])
    publish(server, "CommentAdded", "no JSON")
    said = await told(page, "told.errors.some(({ message }) => message.endsWith('is not JSON'))")
    assert not any(error["final"] for error in said["errors"])
    assert said["own"] == len(said["events"]) + len(said["states"])
    server.kill()
    await asyncio.to_thread(server.start)
    after = publish(server, "SystemAlert", {})
    said = await told(page, "told.events.length >= 23")
    assert said["events"][-1]["id"] == after
    [gap] = said["gaps"]
    assert gap["after"].split("-")[0] == ids[0].split("-")[0] != gap["id"].split("-")[0]
    assert said["states"][-1] == "open"
    await page.evaluate("subscription.close()")
    await page.evaluate("subscription.closed")
    assert (await told(page, "true"))["states"][-1] == "closed"


async def test_a_typescript_client_asks_for_another_token_once_and_says_when_it_is_refused(
    edge: Edges, page: Page, compiled: str
) -> None:
    server = edge("--token-secret", SECRET, "--retry", "100")
    good = jwt.encode({"exp": time.time() + 600, "sse": {"subscribe": ["item:*"]}}, SECRET, "HS256")
    await load(page, server, compiled)
    await page.evaluate("(good) => { window.getToken = ({ again }) => again ? good : 'bad'; }", good)
    await listening(page)
    assert (await told(page, "true"))["states"] == ["connecting", "connecting", "open"]
    await page.evaluate("() => { subscription.close(); window.getToken = () => 'bad'; }")
    await listening(page)
    said = await told(page, "told.errors.length === 1 && told.states.at(-1) === 'closed'")
    assert (said["errors"][0]["final"], said["errors"][0]["status"]) == (True, 401)
    assert said["states"].count("connecting") == 2


async def test_tabs_with_a_typescript_client_share_a_stream_that_outlives_who_held_it_and_renews_its_token_in_silence(
    edge: Edges, browser: Browser, compiled: str
) -> None:
    def token(seconds: float) -> str:
        claims = {"sub": "ann", "exp": time.time() + seconds, "sse": {"subscribe": ["item:*"]}}
        return jwt.encode(claims, SECRET, "HS256")

    server = edge("--token-secret", SECRET, "--token-leeway", "0", "--grant-publish", "**", "--retry", "100")
    context = await browser.new_context()
    try:
        tabs = [await context.new_page() for _ in range(2)]
        for tab, tokens in zip(tabs, ([token(4), token(4), token(3600)], [token(3600)]), strict=True):
            await load(tab, server, compiled)
            await tab.evaluate(
                "(tokens) => { window.getToken = () => tokens.length > 1 ? tokens.shift() : tokens[0]; }", tokens
            )
            await listening(tab, shareAcrossTabs=True)
        server.wait_connections(1)
        ids = [publish(server, "CommentUpdated", UPDATED)]
        said = await told(tabs[0], "told.reconnects.length && told.events.length")
        assert (said["states"], said["reconnects"], said["errors"]) == (["connecting", "open"], ["complete"], [])
        await tabs[0].close()
        ids += [publish(server, "CommentUpdated", UPDATED) for _ in range(5)]
        said = await told(tabs[1], "told.events.length === 6")
        assert ([event["id"] for event in said["events"]], said["gaps"]) == (ids, [])
        server.wait_connections(1)
    finally:
        await context.close()


# ---- Elm -------------------------------------------------------------------------------------------------------------

ELM_PAGE = """port module Main exposing (main)

import Events
import Platform

port told : String -> Cmd msg

type Msg
    = Comments Events.CommentsParameters (Events.StreamUpdate Events.CommentsEvent)

main : Program () () Msg
main =
    Platform.worker
        { init = \\_ -> ( (), Events.openCommentsAfter "earliest" { itemId = "7" } )
        , update = \\(Comments { itemId } update) _ -> ( (), told (said itemId update) )
        , subscriptions = \\_ -> Events.subscribeToComments Comments
        }

said : String -> Events.StreamUpdate Events.CommentsEvent -> String
said item update =
    case update of
        Events.Received { id, event } ->
            case event of
                Events.CommentAdded comment -> item ++ " " ++ id ++ " added " ++ comment.author.name
                Events.CommentUpdated { newText } -> item ++ " " ++ id ++ " updated " ++ newText
                Events.CommentsSystemAlert _ -> "alert"
        Events.Lost _ -> "lost"
        Events.Reconnected -> "reconnected"
        Events.StateChanged Events.Open -> "open"
        Events.StateChanged _ -> "state"
        Events.Failed { message } -> message
        Events.Unknown { name } -> "unknown " ++ name
"""


async def test_an_elm_app_is_told_what_comes_by_the_browser_client_of_an_edge_with_the_schema(
    edge: Edges, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Events.elm").write_text(elm(document(SHOP), "shop.json"))
    (tmp_path / "src" / "Main.elm").write_text(ELM_PAGE)
    compile_elm(tmp_path, "Main.elm", tmp_path / "main.js")
    server = edge("--schema", str(tmp_path / "shop.json"))
    described = json.loads(server.request("GET", "/openapi.json")[1])
    assert {"/sse/item:{item_id}", "/publish/shop-{shop}:user:{user_id}", "/schema.json"} <= set(described["paths"])
    first = publish(server, "CommentAdded", COMMENT)
    await page.goto(f"{server.url}/livez")
    await page.add_script_tag(path=tmp_path / "main.js")
    await page.evaluate(
        """async (script) => {
            const { connect } = await import("/client.js");
            const { carryStreams } = await import(`data:text/javascript;base64,${script}`);
            const app = Elm.Main.init();
            window.said = [];
            app.ports.told.subscribe((text) => said.push(text));
            window.end = carryStreams(app, connect, { url: "/sse" });
        }""",
        b64encode(ports().encode()).decode(),
    )
    await page.wait_for_function("said.length && said.includes('open')")
    second = publish(server, "CommentUpdated", UPDATED)
    await page.wait_for_function("said.some((text) => text.includes('updated'))")
    said = [text for text in await page.evaluate("said") if text not in ("state", "open")]
    assert said == [f"7 {first} added Ada", f"7 {second} updated better"]
    await page.evaluate("end()")


# ---- Python ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("python") / "generated_shop.py"
    file.write_text(python(document(SHOP), "shop.events"))
    spec = importlib.util.spec_from_file_location("generated_shop", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["generated_shop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["generated_shop"]
    return module


async def next_of(stream: Any) -> Any:
    async with asyncio.timeout(20):
        return await anext(stream)


async def test_a_python_client_gets_typed_events_through_the_death_of_a_worker_and_of_the_server(
    edge: Edges, shop: Any
) -> None:
    server = edge("--retry", "100")
    first = publish(server, "CommentAdded", COMMENT)
    async with shop.comments(item_id="7", url=server.url, last_event_id="earliest") as stream:
        added = await next_of(stream)
        assert (added.type, added.id, added.data.author.name) == ("CommentAdded", first, "Ada")
        assert stream.last_event_id == first
        publish(server, "of a newer schema", {})
        publish(server, "CommentAdded", {**COMMENT, "tags": ["a", 7]})
        publish(server, "CommentAdded", "no JSON")
        with pytest.raises(
            shop.DecodeError, match=r"the event CommentAdded .*: data\.tags\[1\]: a string is expected, not 7"
        ):
            await next_of(stream)
        with pytest.raises(shop.DecodeError, match="is not JSON"):
            await next_of(stream)
        await asyncio.to_thread(server.kill_worker)
        ids = [publish(server, "CommentUpdated", {**UPDATED, "new_text": str(number)}) for number in range(20)]
        assert [(await next_of(stream)).id for _ in ids] == ids
        server.kill()
        await asyncio.to_thread(server.start)
        after = publish(server, "SystemAlert", {})
        gap, alert = await next_of(stream), await next_of(stream)
        assert isinstance(gap, shop.Gap)
        assert gap.after == ids[-1]
        assert (alert.type, alert.id) == ("SystemAlert", after)


async def test_a_python_client_asks_for_another_token_once_and_says_when_it_is_refused(edge: Edges, shop: Any) -> None:
    server = edge("--token-secret", SECRET, "--grant-publish", "**", "--retry", "100")
    good = jwt.encode({"exp": time.time() + 600, "sse": {"subscribe": ["news"]}}, SECRET, "HS256")
    tokens = ["bad", good]
    publish(server, "headline", '"hello"', "news")
    async with shop.news(url=server.url, token=lambda: tokens.pop(0), last_event_id="earliest") as stream:
        assert (await next_of(stream)).data == "hello"
    for token in ("bad", None):
        async with shop.news(url=server.url, token=token) as stream:
            with pytest.raises(shop.StreamError, match=r"\(401\)") as refused:
                await next_of(stream)
            assert refused.value.status == 401
            with pytest.raises(StopAsyncIteration):
                await next_of(stream)
