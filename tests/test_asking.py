"""What has to be found out before it can be decided: by both transports the client waits, misses nothing meanwhile, and
is let in by no answer but a good one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from edge_client import EdgeClient
from support import until

from sse_fast.access.access import Access
from sse_fast.access.asking import NOTHING_FOUND, Found, HookAsked, HookSaid, KeyAsked, MustAsk
from sse_fast.access.grants import OPEN, Grants
from sse_fast.edge.app import Edge
from sse_fast.edge.asked import AskFailed
from sse_fast.edge.asking import Asking
from sse_fast.errors import Unauthorized, Undecided
from sse_fast.protocol.decision import Ask
from sse_fast.transports.life import Transport

pytestmark = pytest.mark.usefixtures("nothing_set")
BOTH = pytest.mark.parametrize("transport", Transport)
TICKET = {"authorization": "Bearer ticket"}


class AskingAccess(Access):
    """Whoever has a credential is asked about; a forged one is known by then."""

    def _asked(self, headers: Mapping[bytes, bytes], found: Found) -> Grants:
        if b"authorization" in headers and not found.keys:
            raise MustAsk(KeyAsked("new"))
        if headers.get(b"authorization") == b"Bearer forged":
            raise Unauthorized("there is no such key", "invalid_token")
        return OPEN

    def grants_of(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        found: Found = NOTHING_FOUND,
        *,
        hooked: bool = False,
    ) -> Grants:
        return self._asked(headers, found)

    def publishing(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        found: Found = NOTHING_FOUND,
        *,
        scheme: str = "http",
    ) -> Grants:
        return self._asked(headers, found)


class Finder:
    """Finds out what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ask, str]] = []
        self.answered = asyncio.Event()
        self.failing = False

    async def __call__(self, ask: Ask, client: str) -> Found:
        self.asked.append((ask, client))
        await self.answered.wait()
        if self.failing:
            raise Undecided("the keys are not to be had")
        return ask.found._replace(keys=True)


class Served(EdgeClient):
    find_out: Finder


@asynccontextmanager
async def opened(transport: Transport, **settings: Any) -> AsyncIterator[Served]:
    finder = Finder()

    def prepare(edge: Edge) -> None:
        edge.deciding.policy = replace(edge.policy, access=AskingAccess())
        edge.sources.find_out = finder  # type: ignore[assignment]

    async with Served.opened(transport, prepare=prepare, **settings) as served:
        served.find_out = finder
        yield served


async def was_asked(served: Served, times: int = 1) -> None:
    await until(lambda: len(served.find_out.asked) >= times)


@BOTH
async def test_a_stream_misses_nothing_that_is_published_while_it_is_found_out_whether_it_may(
    transport: Transport,
) -> None:
    async with opened(transport) as served:
        await served.edge.hub.publish("a", "before")
        stream = served.stream("/sse/a", headers=TICKET)
        opening = asyncio.create_task(stream.__aenter__())
        await was_asked(served)
        await served.edge.hub.publish("a", "meanwhile")
        assert not opening.done()
        served.find_out.answered.set()
        listening = await opening
        await served.edge.hub.publish("a", "behind")
        connected, *events = await listening.take(3)
        assert connected.event == "$connected"
        assert [event.data for event in events] == ["meanwhile", "behind"]
        await stream.__aexit__(None, None, None)
        (ask, client) = served.find_out.asked[0]
        assert (ask.what, ask.stream, client) == (KeyAsked("new"), True, "127.0.0.1")


@BOTH
async def test_who_asks_for_history_or_resumes_has_that_and_what_came_meanwhile(transport: Transport) -> None:
    async with opened(transport) as served:
        first = await served.edge.hub.publish("a", "1")
        await served.edge.hub.publish("a", "2")
        resumed = asyncio.create_task(read(served, 2, last_event_id=str(first)))
        recent = asyncio.create_task(read(served, 2, target="/sse/a?history=1"))
        await was_asked(served, 2)
        await served.edge.hub.publish("a", "3")
        served.find_out.answered.set()
        assert await resumed == ["2", "3"]
        assert (await recent)[-1] == "3"


async def read(served: Served, count: int, *, target: str = "/sse/a", last_event_id: str | None = None) -> list[str]:
    async with served.stream(target, headers=TICKET, last_event_id=last_event_id) as stream:
        return [event.data for event in (await stream.take(count + 1))[1:]]


@BOTH
async def test_an_event_source_of_which_nobody_knows_whether_it_may_comes_back_later(transport: Transport) -> None:
    async with opened(transport) as served:
        served.find_out.failing = True
        served.find_out.answered.set()
        async with served.stream("/sse/a", headers=TICKET) as stream:
            assert stream.status_code == 200
            assert [event.event for event in await stream.rest()] == ["$closing"]
            assert int(stream.text.partition("retry: ")[2].split("\n")[0]) >= 7_000
        assert served.edge.hub.fanout.connections == 0


@BOTH
@pytest.mark.parametrize(("method", "target"), [("GET", "/sse/a"), ("POST", "/publish/a"), ("POST", "/publish")])
async def test_a_program_of_which_nobody_knows_whether_it_may_is_told_503_and_when_to_try_again(
    transport: Transport, method: str, target: str
) -> None:
    async with opened(transport) as served:
        served.find_out.failing = True
        served.find_out.answered.set()
        headers = TICKET | {"accept": "application/json"}
        answer = await served.http.request(method, target, headers=headers, content=b"x" if method == "POST" else b"")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
        assert "ticket" not in answer.text
        assert served.edge.hub.published == 0


@BOTH
@pytest.mark.parametrize(("method", "target"), [("GET", "/sse/a"), ("HEAD", "/sse/a"), ("POST", "/publish/a")])
async def test_what_was_found_out_is_decided_by_and_a_bad_credential_stays_one(
    transport: Transport, method: str, target: str
) -> None:
    async with opened(transport) as served:
        served.find_out.answered.set()
        answer = await served.http.request(method, target, headers={"authorization": "Bearer forged"})
        assert answer.status_code == 401
        assert (len(served.find_out.asked), served.edge.hub.published) == (1, 0)


@BOTH
async def test_whoever_has_no_such_credential_waits_for_nobody(transport: Transport) -> None:
    async with opened(transport) as served:
        assert (await served.http.post("/publish/a", content=b"x")).status_code == 200
        async with served.stream("/sse/a") as stream:
            await stream.next()
        assert served.find_out.asked == []


@BOTH
async def test_a_publisher_waits_too_and_its_event_is_published_once(transport: Transport) -> None:
    async with opened(transport) as served:
        publishing = asyncio.create_task(served.http.post("/publish/a", content=b"x" * 30_000, headers=TICKET))
        await was_asked(served)
        assert served.edge.hub.published == 0
        served.find_out.answered.set()
        assert (await publishing).status_code == 200
        assert served.edge.hub.published == 1


# ---- the connection, meanwhile ---------------------------------------------------------------------------------------

HEAD = b"POST /publish/%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ticket\r\n"


async def connected(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert served.edge.front is not None
    return await asyncio.open_connection("127.0.0.1", served.edge.front.port)


async def test_requests_that_come_behind_it_on_the_connection_are_answered_in_their_order() -> None:
    async with opened(Transport.NATIVE) as served:
        reader, writer = await connected(served)
        writer.write(HEAD % b"first" + b"Content-Length: 4\r\n\r\none.")
        writer.write(b"POST /publish/second HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntwo.")
        await was_asked(served)
        assert served.edge.hub.published == 0
        served.find_out.answered.set()
        for _ in range(2):
            assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200 OK")
        assert served.edge.hub.published == 2
        writer.close()


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
async def test_a_body_may_come_when_it_has_been_found_out(expects: bytes) -> None:
    async with opened(Transport.NATIVE) as served:
        reader, writer = await connected(served)
        writer.write(HEAD % b"a" + b"Content-Length: 8\r\n" + expects + b"\r\n")
        await was_asked(served)
        served.find_out.answered.set()
        if expects:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"1234")
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(b"5678")
        assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_of_a_client_that_has_left_meanwhile_nothing_stays() -> None:
    async with opened(Transport.NATIVE) as served:
        for request in (
            b"GET /sse/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ticket\r\n\r\n",
            HEAD % b"a" + b"\r\n",
        ):
            _, writer = await connected(served)
            writer.write(request)
            await was_asked(served)
            writer.close()
            served.find_out.asked.clear()
        front = served.edge.front
        assert front is not None
        assert front.listener is not None
        await until(lambda: front.listener.open == 0)  # type: ignore[union-attr]
        served.find_out.answered.set()
        await until(lambda: front.busy == 0)
        assert (served.edge.hub.published, served.edge.hub.fanout.connections) == (0, 0)


@BOTH
async def test_a_server_that_drains_meanwhile_lets_nobody_in(transport: Transport) -> None:
    async with opened(transport) as served:
        opening = asyncio.create_task(read_to_its_end(served))
        await was_asked(served)
        served.edge.leave()
        await served.edge.hub.drain(0)
        served.find_out.answered.set()
        assert await opening == ["$closing"]


async def read_to_its_end(served: Served) -> list[str]:
    async with served.stream("/sse/a", headers=TICKET) as stream:
        return [event.event for event in await stream.rest()]


# ---- how often -------------------------------------------------------------------------------------------------------


@BOTH
async def test_who_asks_too_often_is_told_to_come_back_and_nobody_is_asked_about_it(transport: Transport) -> None:
    async with opened(transport, rate_open="3/h") as served:
        served.find_out.answered.set()
        forged = {"authorization": "Bearer forged", "accept": "application/json"}
        answers = [(await served.http.get("/sse/a", headers=forged)).status_code for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        assert len(served.find_out.asked) == 3


@BOTH
async def test_a_stream_that_was_asked_about_counts_once(transport: Transport) -> None:
    async with opened(transport, rate_open="2/h") as served:
        served.find_out.answered.set()
        for _ in range(2):
            async with served.stream("/sse/a", headers=TICKET) as stream:
                assert (await stream.take(1))[0].event == "$connected"
        async with served.stream("/sse/a", headers=TICKET) as stream:
            assert [event.data for event in await stream.rest()] == ['{"reason":"rate_limited"}']
        assert len(served.find_out.asked) == 2


@BOTH
async def test_of_what_could_not_be_found_out_nothing_is_counted(transport: Transport) -> None:
    async with opened(transport, rate_open="1/h") as served:
        served.find_out.failing = True
        served.find_out.answered.set()
        headers = TICKET | {"accept": "application/json"}
        assert [(await served.http.get("/sse/a", headers=headers)).status_code for _ in range(3)] == [503] * 3


# ---- who is asked ----------------------------------------------------------------------------------------------------


class Source:
    """Keys, and a webhook: both answer when they are told to."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answered = asyncio.Event()
        self.failing = False

    async def ask(self, asked: Any, client: str = "") -> Any:
        self.asked.append((asked, client))
        await self.answered.wait()
        if self.failing:
            raise AskFailed("it is down")
        return HookSaid(200, user="42")


KEYS, HOOK = Ask(KeyAsked("new")), Ask(HookAsked(None, ("a",)), Found(keys=True))


async def test_what_was_found_out_stands_beside_what_was_before() -> None:
    source = Source()
    source.answered.set()
    asking = Asking(source, source)
    assert await asking(KEYS, "client") == Found(keys=True)
    assert await asking(HOOK, "client") == Found(keys=True, hook=HookSaid(200, ("a",), (), user="42"))
    assert source.asked == [("new", ""), (HOOK.what, "client")]


@pytest.mark.parametrize("ask", [KEYS, HOOK])
async def test_without_an_answer_nobody_knows(ask: Ask) -> None:
    source = Source()
    source.failing = True
    source.answered.set()
    asking = Asking(source, source)
    with pytest.raises(Undecided):
        await asking(ask, "client")
    assert asking.waiting.total() == 0


async def test_where_there_is_no_webhook_nothing_is_granted_by_one() -> None:
    with pytest.raises(Undecided):
        await Asking()(HOOK, "client")


async def test_one_address_takes_no_more_than_its_part_of_the_places() -> None:
    source = Source()
    asking = Asking(source, source, most=4, each=2)
    waiting = [asyncio.create_task(asking(HOOK, f"2001:db8::{n}")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Undecided, match="too many"):
        await asking(HOOK, "2001:db8::9")
    waiting.append(asyncio.create_task(asking(HOOK, "192.0.2.1")))
    source.answered.set()
    await asyncio.gather(*waiting)
    await asking(HOOK, "2001:db8::9")


async def test_who_waits_is_bounded_and_those_for_keys_take_no_place_of_those_for_the_webhook() -> None:
    source = Source()
    asking = Asking(source, source, most=2)
    waiting = [asyncio.create_task(asking(KEYS, "client")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Undecided, match="too many"):
        await asking(KEYS, "client")
    waiting.append(asyncio.create_task(asking(HOOK, "client")))
    await asyncio.sleep(0)
    assert asking.waiting == {"keys": 2, "hook": 1}
    source.answered.set()
    await asyncio.gather(*waiting)
    assert asking.waiting.total() == 0
