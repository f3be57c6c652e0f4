"""What each example promises, in process and without a browser."""

import asyncio
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from support import until

from sse_fast.testing import EventClient, NoEvent

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest) -> ModuleType:
    """The module of the example that the test names: a new one for each test, with a state of its own."""
    name: str = request.param
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [name], indirect=True)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/app.py")))
def test_every_example_says_how_to_run_it_and_is_tested(name: str) -> None:
    said = (EXAMPLES / name / "app.py").read_text().split('"""')[1]
    assert f"uvicorn --app-dir examples/{name} app:app" in said
    assert f"granian --interface asgi --working-dir examples/{name} app:app" in said
    assert f'@of("{name}")' in Path(__file__).read_text()
    assert f'opened(browser, "{name}"' in Path(__file__).with_name("test_example_pages.py").read_text()


# progress


@of("progress")
async def test_a_task_tells_every_step_also_to_those_who_come_late(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "PAUSE", 0)
    async with EventClient(example.app) as client:
        task = (await client.http.post("/tasks")).json()["task"]
        for _ in range(2):  # while it runs, and once more from the beginning
            async with client.stream(f"/tasks/{task}/events") as stream:
                events = [event for event in await stream.take(102) if event.event != "$connected"]
            assert [event.json()["done"] for event in events[:-1]] == list(range(1, 101))
            assert events[-1].event == "done"
        async with client.stream(f"/tasks/{task}/events", last_event_id=events[89].id) as stream:
            assert [event.json()["done"] for event in (await stream.take(11))[1:]] == list(range(91, 101))
        assert (await client.http.get("/tasks/other/events")).status_code == 404


# llm


@of("llm")
async def test_tokens_come_one_by_one_and_done_is_the_last(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "PAUSE", 0)
    async with EventClient(example.app) as client:
        async with client.stream("/chat", method="POST", json={"prompt": "why?"}) as stream:
            *tokens, done = await stream.rest()
        assert {event.event for event in tokens} == {"token"}
        assert "".join(event.json()["text"] for event in tokens) == example.ANSWER.format(prompt="why?")
        assert (done.event, done.json()) == ("done", {"tokens": len(tokens)})
        assert (await client.http.post("/chat", json={"prompt": ""})).status_code == 422


@of("llm")
async def test_the_model_stops_when_its_reader_leaves(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        async with client.stream("/chat", method="POST", json={"prompt": "why?"}) as stream:
            await stream.take(2)
        assert example.outcomes == {"cancelled": 1}


@of("llm")
async def test_a_model_that_fails_says_nothing_of_its_insides(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "PAUSE", 0)
    async with EventClient(example.app) as client, client.stream("/chat", method="POST", json={"prompt": "fail"}) as s:
        *tokens, error = await s.rest()
        assert ([event.event for event in tokens], error.event) == (["token"] * 5, "error")
        assert "gpu" not in s.text


# chat


@of("chat")
async def test_who_enters_gets_what_was_said_before_and_everybody_hears_who_comes_and_goes(example: ModuleType) -> None:
    async with EventClient(example.app) as client, client.stream("/events", params={"name": "Ada"}) as ada:
        await client.http.post("/messages", json={"name": "Ada", "text": "hello"})
        assert [event.event for event in await ada.take(3)] == ["$connected", "joined", "message"]
        async with client.stream("/events", params={"name": "Bob"}) as bob:
            assert [event.event for event in await bob.take(4)] == ["$connected", "joined", "message", "joined"]
            assert bob.events[2].json() == {"name": "Ada", "text": "hello"}
            assert (await ada.next()).json() == {"name": "Bob", "here": ["Ada", "Bob"]}
        left = await ada.next()
        assert (left.event, left.json()) == ("left", {"name": "Bob", "here": ["Ada"]})


@of("chat")
async def test_a_message_without_a_name_or_a_text_is_refused(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        for wrong in ({"name": "", "text": "x"}, {"name": "x"}, {"name": "x", "text": 5}):
            assert (await client.http.post("/messages", json=wrong)).status_code == 400
        assert (await client.http.get("/events")).status_code == 400


# inbox


async def log_in(client: EventClient, user: str) -> None:
    answer = await client.http.post("/login", json={"user": user, "password": user[::-1]})
    assert answer.status_code == 200


@of("inbox")
async def test_a_stream_is_for_its_own_user_only(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        assert (await client.http.get("/events/ada")).status_code == 401
        for wrong in ({"user": "ada", "password": "x"}, {"user": "eve", "password": ""}):
            assert (await client.http.post("/login", json=wrong)).status_code == 403
        await log_in(client, "ada")
        assert (await client.http.get("/events/grace")).status_code == 403
        async with client.stream("/events/ada") as stream:
            await client.http.post("/notes/grace", json={"text": "not for you"})
            await client.http.post("/notes/ada", json={"text": "for you"})
            assert (await stream.take(2))[1].json() == {"from": "ada", "text": "for you"}
            with pytest.raises(NoEvent):
                await stream.next(timeout=0.1)


@of("inbox")
async def test_logging_out_ends_the_streams_of_that_session_and_of_no_other(example: ModuleType) -> None:
    async with EventClient(example.app) as here, EventClient(example.app, lifespan=False) as there:
        await log_in(here, "ada")
        await log_in(there, "ada")
        async with here.stream("/events/ada") as ended, there.stream("/events/ada") as stays:
            await until(lambda: len(example.streams) == 2)
            cookie = {"cookie": f"session={here.http.cookies['session']}"}
            assert (await here.http.post("/logout")).status_code == 200
            assert (await ended.rest())[-1].json() == {"reason": "app"}
            assert ended.complete
            assert (await here.http.get("/events/ada", headers=cookie)).status_code == 401
            await there.http.post("/notes/ada", json={"text": "still here"})
            assert (await stays.take(2))[1].json()["text"] == "still here"
        await until(lambda: not example.streams)


# tokens


@of("tokens")
async def test_a_token_is_for_whoever_is_logged_in_and_for_what_is_theirs(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        assert (await client.http.get("/edge/sse/user:ada:orders")).status_code == 401
        assert (await client.http.post("/token")).status_code == 401
        for wrong in ({"user": "ada", "password": "x"}, {"user": "eve", "password": ""}):
            assert (await client.http.post("/login", json=wrong)).status_code == 403
        await log_in(client, "ada")
        assert (await client.http.get("/edge/sse/user:grace:orders")).status_code == 403
        async with client.stream("/edge/sse/user:ada:orders") as stream:
            await client.http.post("/orders", json={"text": "tea"})
            assert (await stream.take(2))[1].json() == {"text": "tea"}
        assert (await client.http.post("/edge/publish/user:ada:orders", content=b"x")).status_code == 403
        await client.http.post("/logout")
        assert (await client.http.get("/edge/sse/user:ada:orders")).status_code == 401
        await example.edge.close()


@of("tokens")
async def test_a_token_that_has_ended_is_renewed_and_the_stream_goes_on_where_it_was(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EventClient(example.app) as client:
        await log_in(client, "ada")
        first = (await client.http.post("/orders", json={"text": "tea"})).json()["id"]
        await client.http.post("/orders", json={"text": "milk"})
        with monkeypatch.context() as ended:
            ended.setattr(example, "SECONDS", -60)
            stale = {"authorization": f"Bearer {example.token_of('ada')}"}
        assert (await client.http.get("/edge/sse/user:ada:orders", headers=stale)).status_code == 401
        assert (await client.http.post("/token")).json() == {"user": "ada"}
        async with client.stream("/edge/sse/user:ada:orders", last_event_id=first) as stream:
            assert (await stream.take(2))[1].json() == {"text": "milk"}
        await example.edge.close()


# datastar


@of("datastar")
async def test_counters_are_patched_in_datastar_s_own_form(example: ModuleType) -> None:
    async with EventClient(example.app) as client, client.stream("/counters") as stream:
        await stream.take(2)
        assert (await client.http.post("/orders")).status_code == 204
        event = await stream.next()
        assert event.event == "datastar-patch-signals"
        word, _, signals = event.data.partition(" ")
        assert word == "signals"
        assert "\n" not in signals
        assert {"orders": 1, "revenue": "12.50", "watching": 1}.items() <= json.loads(signals).items()
        assert f"event: datastar-patch-signals\ndata: signals {signals}\n" in stream.text


@of("datastar")
async def test_the_newest_ten_activities_are_patched_as_escaped_elements(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        for _ in range(11):
            assert (await client.http.post("/orders")).status_code == 204
        await example.note("<b>&")
        async with client.stream("/activities") as stream:  # who comes late has them by one event
            event = (await stream.take(2))[1]
        assert event.event == "datastar-patch-elements"
        assert event.data.startswith('elements <ul id="activities"><li ')
        shown = re.findall(r"</time> (.*?)</li>", event.data)
        assert shown == ["&lt;b&gt;&amp;", *(f"Coffee no. {number} was ordered" for number in range(11, 2, -1))]


# sensors


@of("sensors")
async def test_readings_are_json_for_alpine_and_escaped_rows_for_htmx(example: ModuleType) -> None:
    async with EventClient(example.app) as client, client.stream("/feed") as feed, client.stream("/rows") as rows:
        await asyncio.gather(feed.next(), rows.next())
        reading = {"sensor": "<b>&", "celsius": 1.5, "at": "12:00:00"}
        await client.http.post("/readings", json=reading)
        while (event := await feed.next()).json() != reading:
            assert event.event == "reading"
        while (row := await rows.next()).data.find("&lt;") < 0:
            assert row.data.startswith("<tr><td>")
        assert row.data == "<tr><td>12:00:00</td><td>&lt;b&gt;&amp;</td><td>1.5</td></tr>"


@of("sensors")
async def test_the_end_of_the_feed_is_told_to_those_who_listen_and_is_not_kept(example: ModuleType) -> None:
    async with EventClient(example.app) as client:
        async with client.stream("/feed") as feed, client.stream("/rows") as rows:
            await asyncio.gather(feed.next(), rows.next())
            await client.http.post("/close")
            for stream in (feed, rows):
                while (await stream.next()).event != "closed":
                    pass
        async with client.stream("/feed") as late:
            assert "closed" not in {event.event for event in await late.take(2)}
