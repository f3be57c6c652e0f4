"""What two parsers could read differently is refused, or has the one meaning that the app behind is handed.

Every case of `ambiguous_heads` is sent to a front with an app behind, whole and byte by byte. What the app got is read
by another parser (see `recorder`), and is exactly the requests that the case means; what came back is the answers to
them, in order, and behind a refusal nothing.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import h11
import pytest
from ambiguity import Case, Meant
from ambiguous_heads import CASES
from front_port import FrontPort
from recorder import Recorded, Recorder, tag

PATIENCE = 30.0
LAST = b"GET /app?last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LAST_MEANT = Meant("GET", b"/app?last")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def port(recorder: Recorder) -> AsyncIterator[FrontPort]:
    async with FrontPort.opened(recorder.serve, log_size=1 << 20) as opened:
        yield opened
        opened.check()


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


def answers(raw: bytes, methods: list[str]) -> list[Answer]:
    """All that came on a connection up to its end, as answers to requests by these methods, and then to GET."""
    read: list[Answer] = []
    while raw:
        http = h11.Connection(h11.CLIENT)
        method = methods[len(read)] if len(read) < len(methods) else "GET"
        http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        http.send(h11.EndOfMessage())
        http.receive_data(raw)
        http.receive_data(b"")
        body = b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.InformationalResponse), (event, raw)
        read.append(Answer(status, headers, body))
        raw = http.trailing_data[0]
    return read


async def all_that_comes(port: int, sent: bytes, at_once: int) -> bytes:
    """Up to the server's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        async with asyncio.timeout(PATIENCE):
            reading = asyncio.create_task(reader.read())
            try:
                for at in range(0, len(sent), at_once):
                    writer.write(sent[at : at + at_once])
                    await writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                pass  # it was told so, and that is being read
            got = await reading
    finally:
        writer.close()
    return got


async def has_its_meaning(case: Case, port: FrontPort, recorder: Recorder, at_once: int) -> None:
    """In everything that is seen on both sides, and nothing else is."""
    sent, meant = as_it_ends(case)
    recorder.requests.clear()
    port.published.clear()
    raw = await all_that_comes(port.number, sent, at_once)
    assert recorder.faults == []
    relayed = [each for each in meant if not each.published]
    seen = recorder.requests
    assert [(r.method, r.target, r.body) for r in seen] == [(m.method, m.target, m.body) for m in relayed]
    for request, wanted in zip(seen, relayed, strict=True):
        fields_are_right(request, wanted)
    assert port.published == [m.body for m in meant if m.published]
    read = answers(raw, [m.method for m in meant])
    assert len(read) == len(meant) + (case.refused is not None), read
    for answer, wanted in zip(read, meant, strict=False):
        assert answer.status == 200
        if wanted.published:
            assert json.loads(answer.body)["id"]
        elif wanted.method != "HEAD":
            assert answer.body == tag(*wanted[:3]), "the answer to another request"
    if case.refused is not None:
        assert (read[-1].status, read[-1].headers[b"connection"]) == (case.refused, b"close")
        assert read[-1].headers[b"content-type"] == b"application/problem+json"
        assert json.loads(read[-1].body)["status"] == case.refused


def fields_are_right(request: Recorded, wanted: Meant) -> None:
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    for name, value in wanted.fields:
        given = request.values(name)
        assert given == [] if value is None else given[0] == value, (name, given)


def as_it_ends(case: Case) -> tuple[bytes, tuple[Meant, ...]]:
    """Where the connection stays open a last request ends it: all that would come has come then."""
    if case.refused is not None or case.closed:
        return case.sent, case.means
    return case.sent + LAST, (*case.means, LAST_MEANT)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_it_is_refused_or_has_one_meaning(port: FrontPort, recorder: Recorder, case: Case) -> None:
    await has_its_meaning(case, port, recorder, 1 << 20)


async def test_it_means_the_same_however_it_is_cut(port: FrontPort, recorder: Recorder) -> None:
    for case in CASES:
        for at_once in (1, 7) if len(case.sent) < 2000 else (1500,):
            await has_its_meaning(case, port, recorder, at_once)


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES) > 400
    assert sum(case.refused is not None for case in CASES) > 200
    assert sum(case.refused is None for case in CASES) > 100
