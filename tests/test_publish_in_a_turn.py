"""A request to publish is answered in one turn of the loop where that can be, and over several with the same words."""

from collections.abc import AsyncIterator, Sequence

import pytest

from sse_fast.edge.app import Edge, create_app
from sse_fast.edge.publish import IN_A_TURN, Publishing
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
