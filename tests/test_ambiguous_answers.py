"""What an app's server answers has one meaning for the client, or is a 502, or is seen to break off.

Every answer of `ambiguous_answers` is relayed, whole, byte by byte, and cut off behind each of its bytes; behind each
of them other requests, on the same connection and on another one, are answered with what is their own.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

import h11
import pytest
from ambiguous_answers import ANSWERS, Said
from front_port import FrontPort
from recorder import tag

PATIENCE = 30.0


class Liar:
    """An app that says to `/app?N` what the N-th of ANSWERS says, in pieces of `at_once`, or the first `most` bytes and
    then nothing, for good; to everything else which request it was."""

    def __init__(self) -> None:
        self.at_once = 1 << 20
        self.most: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = head.split(b" ")[:2]
                if (found := re.fullmatch(rb"/app\?(\d+)", target)) is None:
                    body = tag(method.decode(), target)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    continue
                answer = ANSWERS[int(found[1])]
                said = answer.said[: self.most]
                for at in range(0, len(said), self.at_once):
                    last = self.most is None and at + self.at_once >= len(said)
                    writer.write(said[at : at + self.at_once] + (answer.extra if last else b""))
                    await writer.drain()
                    await asyncio.sleep(0)
                if answer.closes or self.most is not None:
                    break
        writer.close()


class Told(NamedTuple):
    """What a client is told. whole: it can see that this is all."""

    status: int
    body: bytes
    whole: bool
    interim: list[int]


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str
) -> tuple[Told | None, bool]:
    """The answer, None if there is none; and whether the connection may have another."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    for event in (h11.Request(method=method, target=target, headers=[("host", "x")]), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")
    body, status, interim = b"", None, list[int]()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                match event := http.next_event():
                    case h11.NEED_DATA:
                        http.receive_data(await reader.read(65536))
                    case h11.InformationalResponse():
                        interim.append(event.status_code)
                    case h11.Response():
                        status = event.status_code
                    case h11.Data():
                        body += event.data
                    case h11.EndOfMessage():
                        assert status is not None
                        assert not http.trailing_data[0], "something behind an answer"
                        return Told(status, body, True, interim), http.their_state is h11.DONE
                    case _:
                        break
    except (ConnectionError, h11.RemoteProtocolError):
        pass
    return (Told(status, body, False, interim) if status is not None else None), False


async def told(port: FrontPort, number: int) -> Told:
    """Of this answer. Behind it, on the same connection if it stays and on another one, others get theirs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
    answer, kept = await ask(reader, writer, ANSWERS[number].asked, f"/app?{number}")
    assert answer is not None, "the connection ended without a word"
    for target in ("/app/next", "/app/others", "/app/others"):
        if not kept or target == "/app/others":
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
        got, kept = await ask(reader, writer, "GET", target)
        assert got is not None
        assert (got.status, got.body, kept) == (200, tag("GET", target.encode()), True)
    writer.close()
    return answer


def is_right(said: Said, got: Told) -> None:
    assert 100 not in got.interim, "nobody asked for it"
    if (got.status, got.whole) == (502, True):
        assert said.means[0] == 502 or said.breaks
    elif said.breaks:
        assert (got.status, got.whole) == (said.means[0], False)
    else:
        assert (got.status, got.body, got.whole) == (*said.means, True)


def is_right_when_cut(said: Said, got: Told, at: int) -> None:
    """Half an answer may be broken off, or no answer; where its end is the end, nobody can tell."""
    if (got.status, got.whole) == (502, True):
        return
    assert got.status == said.means[0] != 502
    if got.whole and at < len(said.said):
        head_alone = said.means[1] == b"" and not said.breaks
        assert head_alone or got.body == said.means[1] or (said.closes and said.means[1].startswith(got.body))
    assert b"evil" not in got.body


@pytest.fixture
async def liar() -> Liar:
    return Liar()


@pytest.fixture
async def port(liar: Liar) -> AsyncIterator[FrontPort]:
    async with FrontPort.opened(liar.serve, log_size=1 << 20) as opened:
        yield opened
        opened.check()


@pytest.mark.parametrize("at_once", [1 << 20, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=[said.name for said in ANSWERS])
async def test_an_answer_has_one_meaning(port: FrontPort, liar: Liar, number: int, at_once: int) -> None:
    said = ANSWERS[number]
    liar.at_once = at_once if len(said.said) < 2000 else 1500
    is_right(said, await told(port, number))


async def test_an_answer_that_is_cut_off_anywhere_is_never_taken_for_another_one(port: FrontPort, liar: Liar) -> None:
    for number, said in enumerate(ANSWERS):
        if said.means[0] == 502:
            continue
        for liar.most in range(len(said.said)):
            is_right_when_cut(said, await told(port, number), liar.most)


def test_each_has_a_name() -> None:
    assert len({said.name for said in ANSWERS}) == len(ANSWERS) > 75
