"""Events made by the real datastar-py arrive as what they are, by every way out, and end no event early."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from datastar_py import ServerSentEventGenerator as Sse
from datastar_py.consts import ElementPatchMode, ElementPatchNamespace
from whatwg import Parser

from sse_fast import Event, EventSourceResponse, Hub, InvalidEvent, SSEWriter, encode
from sse_fast.testing import EventClient

ELEMENTS, SIGNALS = "datastar-patch-elements", "datastar-patch-signals"


class Golden(NamedTuple):
    """What datastar-py was told to say, and what a client reads."""

    made: str
    event: str
    data: str
    id: str = ""
    retry: int | None = None


SCRIPT = 'elements <script data-effect="el.remove()">go()</script>'
GOLDEN = [
    Golden(Sse.patch_elements("<p>1</p>"), ELEMENTS, "elements <p>1</p>"),
    Golden(Sse.patch_elements("<p>\n  1\r\n</p>"), ELEMENTS, "elements <p>\nelements   1\nelements </p>"),
    Golden(Sse.patch_elements("<p>é – \u2028ö</p>"), ELEMENTS, "elements <p>é – \nelements ö</p>"),
    Golden(Sse.patch_elements("<p/>", selector="#a"), ELEMENTS, "selector #a\nelements <p/>"),
    Golden(Sse.patch_elements("<p/>", mode=ElementPatchMode.INNER), ELEMENTS, "mode inner\nelements <p/>"),
    Golden(Sse.patch_elements("<p/>", mode=ElementPatchMode.OUTER), ELEMENTS, "elements <p/>"),
    Golden(Sse.patch_elements("<p/>", use_view_transition=True), ELEMENTS, "useViewTransition true\nelements <p/>"),
    Golden(Sse.patch_elements("<p/>", event_id="7"), ELEMENTS, "elements <p/>", "7"),
    Golden(Sse.patch_elements("<p/>", retry_duration=2000), ELEMENTS, "elements <p/>", "", 2000),
    Golden(
        Sse.patch_elements(
            "<g/>",
            selector="svg",
            mode=ElementPatchMode.APPEND,
            use_view_transition=True,
            namespace=ElementPatchNamespace.SVG,
            event_id="a: b",
            retry_duration=5,
        ),
        ELEMENTS,
        "mode append\nselector svg\nuseViewTransition true\nnamespace svg\nelements <g/>",
        "a: b",
        5,
    ),
    Golden(Sse.remove_elements("#a"), ELEMENTS, "mode remove\nselector #a"),
    Golden(Sse.remove_elements("#a", event_id="1", retry_duration=9), ELEMENTS, "mode remove\nselector #a", "1", 9),
    Golden(Sse.patch_signals({"a": 1, "b": None}), SIGNALS, 'signals {"a":1,"b":null}'),
    Golden(Sse.patch_signals('{"a":\n1}'), SIGNALS, 'signals {"a":\nsignals 1}'),
    Golden(Sse.patch_signals("{a: 1}", only_if_missing=True), SIGNALS, "onlyIfMissing true\nsignals {a: 1}"),
    Golden(Sse.patch_signals({}, event_id="s", retry_duration=1), SIGNALS, "signals {}", "s", 1),
    Golden(Sse.execute_script("go()"), ELEMENTS, f"mode append\nselector body\n{SCRIPT}"),
    Golden(
        Sse.execute_script("go()", auto_remove=False, attributes={"type": "module"}),
        ELEMENTS,
        'mode append\nselector body\nelements <script type="module">go()</script>',
    ),
    Golden(
        Sse.execute_script("a\nb", auto_remove=False, event_id="x", retry_duration=3),
        ELEMENTS,
        "mode append\nselector body\nelements <script>a\nelements b</script>",
        "x",
        3,
    ),
    Golden(
        Sse.redirect("/there"),
        ELEMENTS,
        "mode append\nselector body\n" + SCRIPT.replace("go()", "setTimeout(() => window.location = '/there')"),
    ),
]


def read(frame: bytes) -> tuple[str, str, str, int | None]:
    parser = Parser()
    [event] = parser.feed(frame)
    return event.type, event.data, event.last_event_id, parser.reconnection_time


@pytest.mark.parametrize("golden", GOLDEN)
def test_an_event_of_datastar_is_encoded_as_the_event_it_is(golden: Golden) -> None:
    assert read(encode(golden.made)) == golden[1:]
    assert read(Event(golden.made).encode()) == golden[1:]


async def test_they_arrive_from_a_response_that_yields_them_and_from_a_writer() -> None:
    async def write(scope: Any, receive: Any, send: Any) -> None:
        async with SSEWriter(scope, receive, send) as sse:
            for golden in GOLDEN:
                await sse.send(golden.made)

    for app in (EventSourceResponse([golden.made for golden in GOLDEN]), write):
        async with EventClient(app, lifespan=False) as client, client.stream("/") as stream:
            arrived = [(event.event, event.data) for event in await stream.rest()]
        assert arrived == [(golden.event, golden.data) for golden in GOLDEN]


async def test_a_hub_publishes_them_under_its_own_ids() -> None:
    async with Hub(log_size=65536) as hub:
        for golden in GOLDEN:
            if golden.id:
                with pytest.raises(InvalidEvent, match="without event_id"):
                    await hub.publish("c", golden.made)
            else:
                await hub.publish("c", golden.made)
                await asyncio.wrap_future(hub.publish_threadsafe("c", golden.made))
        records = list(hub.log.records())
    ours = [golden for golden in GOLDEN if not golden.id for _ in range(2)]
    assert [read(record.frame) for record in records] == [
        (golden.event, golden.data, hub.event_id(record.position), golden.retry)
        for golden, record in zip(ours, records, strict=True)
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sse.patch_elements("<p/>", event_id="1\n\nevent: $closing\ndata: {}"),
        lambda: Sse.patch_elements("<p/>", selector="a\n\ndata: x"),
        lambda: Sse.patch_elements("<p/>", selector="a\rid: 5"),
        lambda: Sse.patch_elements("<p/>", selector="a\nid: 5"),
        lambda: Sse.patch_elements("<p/>", event_id="1\nevent: other"),
        lambda: Sse.patch_elements("<p/>", event_id="1\nid: 2"),
        lambda: Sse.patch_elements("<p/>", event_id="1\0"),
        lambda: Sse.patch_elements("<p/>", event_id="1\n: comment"),
        lambda: Sse.patch_elements("<p/>", retry_duration="5\nretry: 6"),  # type: ignore[call-overload]
        lambda: Sse.patch_elements("<p/>", retry_duration=-1),
        lambda: type(Sse.remove_elements("a"))("data: no end\n"),
        lambda: type(Sse.remove_elements("a"))("\n\n\n"),
        lambda: type(Sse.remove_elements("a"))(""),
        lambda: Sse.patch_elements("<p>\ud800</p>"),
    ],
)
def test_what_is_not_one_event_is_refused(make: Callable[[], str]) -> None:
    with pytest.raises(InvalidEvent):
        encode(make())


async def test_the_server_s_own_names_cannot_be_published_that_way() -> None:
    forged = type(Sse.remove_elements("a"))("event: $closing\ndata: {}\n\n")
    async with Hub(log_size=65536) as hub:
        with pytest.raises(InvalidEvent, match="belong to the server"):
            await hub.publish("c", forged)


def test_what_is_said_twice_is_refused_and_what_is_missing_may_be_said_beside() -> None:
    assert read(encode(Sse.patch_signals({}), id="9", retry=4)) == (SIGNALS, "signals {}", "9", 4)
    for beside in ({"event": "x"}, {"id": "x"}, {"retry": 1}):
        with pytest.raises(InvalidEvent, match=f"has its own {next(iter(beside))}"):
            encode(Sse.patch_signals({}, event_id="1", retry_duration=2), **beside)  # type: ignore[arg-type]


def test_any_other_str_is_text() -> None:
    class DatastarEvent(str):
        __slots__ = ()

    assert read(encode(DatastarEvent("event: x\n\n")))[:2] == ("message", "event: x\n\n")
