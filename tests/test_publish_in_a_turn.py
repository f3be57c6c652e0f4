"""A request to publish is answered in one turn of the loop where that can be, and over several with the same words."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from support import Turns, turns_of_others

from sse_fast._native.log.measure import BATCH_NAMES
from sse_fast.access.grants import Grants
from sse_fast.access.namespaces import Namespace, Namespaces
from sse_fast.access.patterns import Patterns
from sse_fast.access.rates import Rates
from sse_fast.edge.app import Edge, create_app
from sse_fast.edge.publish import ALLOWED_AT_ONCE, COUNTED_AT_ONCE, IN_A_TURN, Publishing
from sse_fast.protocol.decision import Answer, Form, Publish
from sse_fast.settings import Settings

READABLE = ((b"access-control-allow-origin", b"*"),)
NAMED = Publish(Form.DATA, 1000, "news", headers=READABLE)
JSON = Publish(Form.JSON, 100_000, headers=READABLE)
LINES = Publish(Form.LINES, 1_000_000, headers=READABLE)

REQUESTS: dict[str, tuple[Publish, bytes]] = {
    "raw": (NAMED, b"hello"),
    "raw, with a type": (NAMED._replace(event="e", retry=5), b"hello\nworld"),
    "raw, with a key": (NAMED._replace(key="k"), b"hello"),
    "raw, nothing": (NAMED, b""),
    "raw, no UTF-8": (NAMED, b"\xff"),
    "raw, as large as it may be": (NAMED, b"x" * 1000),
    "raw, too large": (NAMED, b"x" * 1001),
    "raw, too large when encoded": (NAMED._replace(most=70_000), b"x" * 65536),
    "a reserved channel": (NAMED._replace(channel="$stats"), b"x"),
    "an object": (JSON, b'{"channel":"a","data":1}'),
    "an object, with a key": (JSON, b'{"channel":"a","data":1,"key":"k"}'),
    "two keys": (JSON._replace(key="k"), b'{"channel":"a","data":1,"key":"k"}'),
    "an array": (JSON, b'\xef\xbb\xbf [{"channel":"a","data":1},{"channels":["a","b"],"data":2}]'),
    "an array, with a key": (JSON._replace(key="k"), b'[{"channel":"a","data":1},{"channels":["a","b"],"data":2}]'),
    "no events": (JSON, b"[]"),
    "a wrong event": (JSON, b'[{"channel":"a","data":1},{"channel":1}]'),
    "no JSON": (JSON, b'{"channel"'),
    "lines": (LINES, b'{"channel":"a","data":1}\n\n{"channel":"b","data":2}\n'),
    "a key twice": (LINES, b'{"channel":"a","data":1,"key":"k"}\n\n{"channel":"a","data":2,"key":"k"}'),
    "a wrong line": (LINES, b'{"channel":"a","data":1}\n\n{"chanel":"b","data":2}\n'),
    "many lines": (LINES, b'{"channel":"a","data":1}\n' * (IN_A_TURN // 25)),
}


@pytest.fixture
async def edges() -> AsyncIterator[Sequence[Edge]]:
    edges = [create_app(Settings()) for _ in range(2)]
    yield edges
    for edge in edges:
        await edge.close()


def publishing(edge: Edge) -> Publishing:
    return edge._publishing


def without_epoch(edge: Edge, answer: Answer | None) -> Answer:
    assert answer is not None
    return answer._replace(body=answer.body.replace(edge.hub.log.epoch.encode(), b"EPOCH"))


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_one_turn_answers_and_publishes_what_several_do(
    edges: Sequence[Edge], request_: tuple[Publish, bytes]
) -> None:
    now, later = edges
    for _ in range(2):  # again, for the sake of those with a key
        one = without_epoch(now, publishing(now).answer_now(*request_))
        other = without_epoch(later, await publishing(later).answer(*request_))
        assert one == other
    logs = [[(event.position, event.channels) for event in edge.hub.log.records()] for edge in edges]
    assert logs[0] == logs[1]
    assert now.hub.published == later.hub.published == len(logs[0])


async def test_a_large_document_is_not_parsed_in_one_turn(edges: Sequence[Edge]) -> None:
    edge, _ = edges
    document = b'[{"channel":"a","data":"%b"}]' % (b"x" * IN_A_TURN)
    assert publishing(edge).answer_now(JSON, document) is None
    assert edge.hub.log.position == 0
    assert (await publishing(edge).answer(JSON, document)).status == 200


@pytest.mark.parametrize(
    "request_", [(NAMED, b"last"), (LINES, b'{"channel":"a","data":"last"}\n' * 2), (NAMED._replace(key="k"), b"last")]
)
async def test_what_waits_for_those_who_read_is_published_once_and_not_before(
    request_: tuple[Publish, bytes],
) -> None:
    edge = create_app(Settings(log_size=1 << 20))
    for data in (b"x" * 1000, b""):  # to the last byte that may be unread
        while edge.hub.append_now([(b"news", b"data: %b\n\n" % data)]) is not None:
            pass
    kept = edge.hub.log.position
    assert publishing(edge).answer_now(*request_) is None
    assert edge.hub.log.position == kept
    assert (await publishing(edge).answer(*request_)).status == 200
    assert b"last" in list(edge.hub.log.records())[-1].frame
    await edge.close()


async def test_what_should_not_happen_is_raised_to_the_transport(
    edges: Sequence[Edge], monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, _ = edges

    async def fails(events: object) -> list[int]:
        raise TypeError("secret of the house")

    monkeypatch.setattr(edge.hub, "append", fails)
    with pytest.raises(TypeError):
        publishing(edge).answer_now(NAMED, b"x")
    failed = publishing(edge).failed(NAMED)
    assert failed.status == 500
    assert b"secret" not in failed.body
    assert READABLE[0] in failed.headers


@pytest.mark.parametrize("where", ["in a turn", "in several"])
async def test_where_no_server_logs_what_should_not_happen_it_is_logged_here(
    edges: Sequence[Edge], where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edge, _ = edges
    document = b'[{"channel":"a","data":"%b"}]' % (b"x" * (IN_A_TURN if where == "in several" else 1))

    async def fails(events: object) -> list[int]:
        raise TypeError("secret of the house")

    monkeypatch.setattr(edge.hub, "append", fails)
    given = publishing(edge).publish(JSON, document)
    answer = given if isinstance(given, Answer) else await given
    assert isinstance(given, Answer) == (where == "in a turn")
    assert answer == publishing(edge).failed(JSON)
    assert "secret of the house" in caplog.text


# ---- many names ------------------------------------------------------------------------------------------------------

SOME = Grants(publish=Patterns.of(["c:*"]), credential="somebody")
BY_SOMEBODY = LINES._replace(most=16 * 1024 * 1024, grants=SOME)


def lines(names: Sequence[str], each: int = 32) -> bytes:
    """Events that name these channels, so many each."""
    return b"\n".join(
        json.dumps({"channels": names[at : at + each], "data": ""}).encode() for at in range(0, len(names), each)
    )


class Asked:
    """Which names were looked at, and how many in one turn of the loop at most."""

    def __init__(self, turns: Turns) -> None:
        self.names: list[Any] = []
        self.most = 0
        self._turns, self._turn, self._in_it = turns, -1, 0

    def look(self, *names: Any) -> None:
        if self._turns.count != self._turn:
            self._turn, self._in_it = self._turns.count, 0
        self.names += names
        self._in_it += len(names)
        self.most = max(self.most, self._in_it)

    def before(self, function: Callable[..., Any], names: Callable[..., Sequence[Any]]) -> Callable[..., Any]:
        def looked(*given: Any) -> Any:
            self.look(*names(*given))
            return function(*given)

        return looked


@pytest.fixture
async def asked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    """For whether they are granted."""
    async with turns_of_others() as turns:
        asked = Asked(turns)
        monkeypatch.setattr(Patterns, "matches", asked.before(Patterns.matches, lambda _, name: [name]))
        yield asked


async def test_each_name_of_a_batch_is_looked_at_once_and_so_many_in_a_turn(
    edges: Sequence[Edge], asked: Asked
) -> None:
    names = [f"c:{number}" for number in range(5000)]
    answer = await publishing(edges[0]).answer(BY_SOMEBODY, lines(names) + b"\n" + lines(names))
    assert answer.status == 200, answer.body
    assert asked.names == names
    assert asked.most <= ALLOWED_AT_ONCE


async def test_so_many_in_a_turn_too_where_a_namespace_asks_for_more(edges: Sequence[Edge], asked: Asked) -> None:
    edge, _ = edges
    publishing(edge)._namespaces = Namespaces([Namespace("c:4000", publish="keys")])
    names = [f"c:{number}" for number in range(5000)]
    answer = await publishing(edge).answer(BY_SOMEBODY, lines(names))
    assert (answer.status, edge.hub.log.position) == (403, 0)
    assert b"c:4000" in answer.body
    assert len(asked.names) == 4001
    assert asked.most <= ALLOWED_AT_ONCE


async def test_the_first_name_that_is_refused_is_the_last_one_that_is_looked_at(
    edges: Sequence[Edge], asked: Asked
) -> None:
    answer = await publishing(edges[0]).answer(BY_SOMEBODY, lines(["c:1", "d:2", "a:3"]))
    assert (answer.status, asked.names) == (403, ["c:1", "d:2"])
    assert b"d:2" in answer.body


async def test_no_name_is_looked_at_of_a_batch_that_is_too_large_or_over_the_rate(asked: Asked) -> None:
    edge = create_app(Settings(log_size="1mb", rate_publish="10/s"))
    try:
        large = b"\n".join(b'{"channel":"c:%d","data":"%b"}' % (number, b"x" * 60_000) for number in range(6))
        answer = await publishing(edge).answer(BY_SOMEBODY, large)
        assert (answer.status, asked.names) == (413, [])
        refused = await publishing(edge).answer(BY_SOMEBODY, lines(["d"] * 100, 1))
        taken = await publishing(edge).answer(BY_SOMEBODY, lines(["c:1"] * 100, 1))
        assert (refused.status, taken.status) == (403, 200)  # what is refused counts for nothing
        asked.names.clear()
        answer = await publishing(edge).answer(BY_SOMEBODY, lines(["d"] * 100, 1))
        assert (answer.status, asked.names) == (429, [])
    finally:
        await edge.close()


@pytest.mark.parametrize("grants", [SOME, LINES.grants])
async def test_the_events_of_a_batch_name_so_many_channels_together(
    edges: Sequence[Edge], asked: Asked, grants: Grants
) -> None:
    edge, _ = edges
    body = lines([f"c:{number % 32}" for number in range(BATCH_NAMES + 1)])
    answer = await publishing(edge).answer(BY_SOMEBODY._replace(grants=grants), body)
    assert (answer.status, edge.hub.log.position, asked.names) == (413, 0, [])
    assert b"more than 100000 channels" in answer.body


async def test_names_are_counted_within_their_rate_so_many_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = create_app(Settings(rate_publish_channel="10/s"))
    try:
        async with turns_of_others() as turns:
            counted, spent = Asked(turns), Asked(turns)
            update = counted.before(Counter.update, lambda _, names: names or ())
            monkeypatch.setattr("sse_fast.edge.publish.Counter", type("Counted", (Counter,), {"update": update}))
            monkeypatch.setattr(Rates, "publishing_to", spent.before(Rates.publishing_to, lambda _, uses: uses))
            answer = await publishing(edge).answer(BY_SOMEBODY, lines([f"c:{number}" for number in range(20_000)]))
        assert answer.status == 200, answer.body
        assert len(counted.names) == len(spent.names) == 20_000
        assert max(counted.most, spent.most) <= COUNTED_AT_ONCE
    finally:
        await edge.close()
