"""What holds for the channels of a pattern, and not for all."""

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import documentation
import httpx
import pytest
from edge_client import EdgeClient
from front_port import by_asgi, edge_of
from hypothesis import given
from hypothesis import strategies as st
from signing import SECRET, token

from sse_fast import Overloaded
from sse_fast.access.grants import Grants
from sse_fast.access.limits import Admission, Counted
from sse_fast.access.namespaces import Namespace, Namespaces
from sse_fast.access.patterns import Patterns, Ranked
from sse_fast.settings import BadSettings, Settings, refuse_unsafe
from sse_fast.transports.life import Transport

KEY = "a-publish-key-of-this-test"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_the_first_namespace_that_has_a_channel_rules_it_alone() -> None:
    namespaces = Namespaces(
        [
            Namespace("room:staff", publish="keys"),
            Namespace("room:*", max_connections=3),
            Namespace("**", presence=True),
        ]
    )
    for _ in range(2):  # found, and remembered
        assert [
            each.pattern for name in ("room:staff", "room:1", "room:1:a", "news") if (each := namespaces.of(name))
        ] == [*("room:staff", "room:*", "**", "**")]
        assert namespaces.of("$stats") is None
    assert namespaces.most_streams("room:staff") is None
    assert not namespaces.keeps_presence("room:1")
    assert namespaces.keeps_presence("news")


def test_presence_is_kept_where_the_namespace_says_so_and_else_as_for_all() -> None:
    namespaces = Namespaces([Namespace("room:quiet", presence=False), Namespace("team:*", presence=True)])
    of_all = Patterns.of(["room:*"])
    kept = [name for name in ("room:1", "room:quiet", "team:1", "news") if namespaces.keeps_presence(name, of_all)]
    assert kept == ["room:1", "team:1"]


def test_names_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_fast.access.namespaces.REMEMBERED", 10)
    namespaces = Namespaces([Namespace("a:*", max_connections=1)])
    for number in range(100):
        assert namespaces.most_streams(f"a:{number}") == 1
        assert namespaces.most_streams(f"b:{number}") is None
    assert len(namespaces._remembered) == 10


PIECE = st.sampled_from(["a", "b", "*"])
PATTERN = st.tuples(st.lists(PIECE, min_size=1, max_size=4), st.sampled_from([[], ["**"]])).map(
    lambda both: ":".join([*both[0], *both[1]])
)


@given(
    st.lists(PATTERN | st.just("**"), max_size=12, unique=True),
    st.lists(st.sampled_from(["a", "b", "c", "$"]), min_size=1, max_size=5),
)
def test_the_first_of_all_patterns_is_found_as_by_comparing_each(patterns: list[str], segments: list[str]) -> None:
    name = ":".join(segments)
    first = next((place for place, pattern in enumerate(patterns) if Patterns.of([pattern]).matches(name)), None)
    assert Ranked(patterns).first(name) == first


def test_a_name_costs_as_much_whatever_many_namespaces_there_are() -> None:
    calls = []
    for namespaces in (Namespaces([Namespace("a0:*")]), Namespaces([Namespace(f"a{each}:*") for each in range(128)])):
        called = Counter[str]()
        sys.setprofile(lambda frame, event, _, called=called: called.update([event]))  # type: ignore[misc]
        try:
            namespaces.of("a0:b")
        finally:
            sys.setprofile(None)
        calls.append(called["call"])
    assert calls[0] == calls[1] > 0


TABLES = [
    {"pattern": "room:*", "max_connections": 500, "presence": True, "publish": "credentials"},
    {"pattern": "log:**"},
]
READ = [Namespace("room:*", max_connections=500, presence=True, publish="credentials"), Namespace("log:**")]


def test_namespaces_are_tables_of_the_file_or_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings.load({"namespace": (json.dumps(TABLES[0]), json.dumps(TABLES[1]))}).namespace == READ
    monkeypatch.setenv("SSE_FAST_NAMESPACE", json.dumps(TABLES))
    assert Settings.load().namespace == READ
    handed_down = Settings.load().to_environment()
    assert Settings.from_environment(handed_down).namespace == READ
    monkeypatch.delenv("SSE_FAST_NAMESPACE")
    Path("sse-fast.toml").write_text(
        '[[namespace]]\npattern = "room:*"\nmax_connections = 500\npresence = true\npublish = "credentials"\n'
        '[[namespace]]\npattern = "log:**"\n'
    )
    assert Settings.load().namespace == READ


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"pattern": "a:*b"}', "within a segment"),
        ('{"pattern": "$presence:a"}', "the server's own"),
        ('{"keep": 3}', "names its channels by a pattern|has no 'keep'"),
        ('{"pattern": "a", "max": 3}', "a namespace has no 'max'; it has pattern, "),
        ('{"pattern": "a", "max_connections": 0}', "max_connections is a whole number from 1 on, not 0"),
        ('{"pattern": "a", "max_connections": true}', "max_connections is a whole number"),
        ('{"pattern": "a", "presence": "yes"}', "presence is true or false, not 'yes'"),
        ('{"pattern": "a", "publish": "me"}', "publish is one of granted, credentials, keys, nobody; not 'me'"),
        ('[{"pattern": "a"}, {"pattern": "a"}]', "two namespaces have the pattern 'a'"),
        ("pattern=a", "is not JSON"),
        ("3", "a namespace is a table, as in"),
        (json.dumps([{"pattern": f"a:{number}"} for number in range(129)]), "129 namespaces; 128 is the most"),
    ],
)
def test_what_is_no_namespace_is_refused_in_words(given: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said) as refused:
        Settings.load({"namespace": (given,)})
    assert str(refused.value).startswith("--namespace: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"namespace": [{"pattern": "a", "presence": True}]}, "presence of the namespace 'a' does nothing without"),
        ({"namespace": [{"pattern": "a", "publish": "keys"}]}, "nobody has a key for the namespace 'a'"),
        ({"namespace": [{"pattern": "a", "publish": "credentials"}]}, "nobody has a credential for the namespace 'a'"),
    ],
)
def test_a_namespace_that_can_mean_nothing_is_refused_at_the_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        refuse_unsafe(Settings.load(settings))
    refuse_unsafe(Settings.load(settings | {"token_secret": "s" * 32, "publish_key": KEY}))


# ---- streams of one channel ------------------------------------------------------------------------------------------


def test_a_channel_has_as_many_streams_as_its_namespace_says_and_others_as_all() -> None:
    namespaces = Namespaces([Namespace("room:*", max_connections=2), Namespace("open:*")])
    admission = Admission(max_connections_per_channel=3, namespaces=namespaces)
    for channel, most in (("room:1", 2), ("room:2", 2), ("open:1", 3), ("news", 3)):
        for _ in range(most):
            admission.enter(Counted("192.0.2.1", (channel,)))
        with pytest.raises(Overloaded, match=f"channel {channel} has all {most} streams"):
            admission.enter(Counted("192.0.2.1", ("other", channel)))
    admission.leave(Counted("192.0.2.1", ("room:1",)))
    admission.enter(Counted("192.0.2.1", ("room:1",)))
    assert admission.refused == {"max_connections_per_channel": 4}


@pytest.mark.parametrize("transport", list(Transport))
async def test_who_is_one_too_many_in_a_channel_of_a_namespace_is_turned_away(transport: Transport) -> None:
    namespace = [{"pattern": "room:*", "max_connections": 1}]
    async with (
        EdgeClient.opened(transport, namespace=namespace) as client,
        client.stream("/sse/room:1") as stream,
        client.stream("/sse/news") as other,
        client.stream("/sse/news"),
    ):
        assert (await stream.next()).event == "$connected"
        assert (await other.next()).event == "$connected"
        async with client.stream("/sse/room:1") as turned_away:
            assert (await turned_away.next()).event == "$closing"


# ---- who publishes ---------------------------------------------------------------------------------------------------

PUBLISHERS = [
    {"pattern": "by:nobody", "publish": "nobody"},
    {"pattern": "by:keys", "publish": "keys"},
    {"pattern": "by:credentials", "publish": "credentials"},
]
MAY = {  # by what is shown: to which channels
    "": {"by:grants"},
    "token": {"by:grants", "by:credentials"},
    "key": {"by:grants", "by:credentials", "by:keys"},
}


async def statuses(client: httpx.AsyncClient, channel: str, headers: dict[str, str]) -> set[int]:
    """Of all the ways to publish there."""
    path = channel.replace(":", "/")
    event = json.dumps({"channel": channel, "data": "x"})
    both = json.dumps({"channels": ["by:grants", channel], "data": "x"}) if channel != "by:grants" else event
    lines = {"content-type": "application/x-ndjson"}
    answers = [
        await client.post(f"/publish/{path}", content=b"x", headers=headers),
        await client.post(f"/publish/{path}", content=b"x", headers=headers),  # known by now
        await client.post("/publish", content=event, headers=headers),
        await client.post("/publish", content=both, headers=headers),
        await client.post("/publish", content=f"[{event}]", headers=headers),
        await client.post("/publish", content=event, headers=headers | lines),
    ]
    return {answer.status_code for answer in answers}


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_namespace_asks_for_more_of_who_publishes_than_grants(transport: Transport) -> None:
    shown = {"": {}, "key": {"authorization": f"Bearer {KEY}"}}
    shown["token"] = {"authorization": f"Bearer {token({'publish': ['**']})}"}
    settings: dict[str, Any] = {
        "namespace": PUBLISHERS,
        "grant_publish": ["**"],
        "publish_key": KEY,
        "token_secret": SECRET,
    }
    async with edge_of(**settings) as edge:
        assert edge.front is not None
        here = httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.front.port}")
        async with here if transport is Transport.NATIVE else by_asgi(edge) as client:
            for what, headers in shown.items():
                for channel in ("by:grants", "by:credentials", "by:keys", "by:nobody"):
                    refused = {401} if not headers and channel != "by:nobody" else {403}
                    expected = {200} if channel in MAY[what] else refused
                    assert await statuses(client, channel, headers) == expected, (what, channel)
        position = edge.hub.log.position
        await edge.hub.publish("by:nobody", "the program itself may")
        assert edge.hub.log.position == position + 1


def test_a_namespace_grants_nothing() -> None:
    namespaces = Namespaces([Namespace("a", publish="credentials")])
    nothing = Grants(credential="token")
    assert namespaces.lets_publish(nothing, "a")
    assert not nothing.publish.matches("a")


# ---- the documentation -----------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_is_taken() -> None:
    text = documentation.PAGES["docs/edge/namespaces.md"]
    example = next(block for block in text.split("```toml\n")[1:] if "[[namespace]]" in block).partition("```")[0]
    tables = tomllib.loads(example)["namespace"]
    Path("sse-fast.toml").write_text(example)
    assert [each.pattern for each in Settings.load().namespace] == [table["pattern"] for table in tables]
