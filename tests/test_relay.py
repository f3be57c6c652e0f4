"""The relay, between a real front and an app server that follows a script."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from front_port import edge_of
from relay_port import GET, OK, Peer, RelayPort, answering, length_of
from support import PATIENCE, no_garbage_of, until

from sse_fast.access.origins import Origins
from sse_fast.access.proxies import TrustedProxies
from sse_fast.protocol.policy import Policy
from sse_fast.transports import relay
from sse_fast.transports.forwarding import Header
from sse_fast.transports.relay import Relay
from sse_fast.transports.relayed import RelayedExchange

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /it HTTP/1.1\r\nHost: a.example\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SOON = 0.3  # seconds, for what takes as long as it is given
MiB = 2**20
PIECE = 64 * 1024 + 16  # bytes that may wait in each direction: what one read brings, with its framing


def saying(*answers: bytes, close: bool = False) -> Callable[[Peer], Any]:
    """Answers requests with these, one each; then, perhaps, it closes."""

    async def script(app: Peer) -> None:
        for answer in answers:
            await app.request()
            app.say(answer)
        if not close:
            await app.rest()

    return script


# ---- exchanges ----


async def test_requests_of_one_connection_go_by_one_connection_and_are_answered_in_order() -> None:
    async def counting(app: Peer) -> None:
        for number in range(10):
            await app.request()
            app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

    async with RelayPort.opened(counting) as port, port.client() as client:
        assert [await client.ask() for _ in range(3)] == [(200, b"0"), (200, b"1"), (200, b"2")]
        client.say(GET * 3)
        assert [await client.answer() for _ in range(3)] == [(200, b"3"), (200, b"4"), (200, b"5")]
        assert (port.accepted, port.relay.open, port.relay.exchanges) == (1, 1, 6)
        await port.settled()


async def test_a_stream_may_follow_a_relayed_exchange() -> None:
    async with RelayPort.opened() as port, port.client() as client:
        await client.ask()
        client.say(b"GET /sse/a HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert b"text/event-stream" in await client.head()
        await client.until(b"$connected")
        assert port.hub.fanout.connections == 1


async def test_a_request_reaches_the_app_as_it_came_but_for_who_sent_it() -> None:
    heads = []

    async def app(app: Peer) -> None:
        heads.append(await app.head())
        app.say(OK)

    said = b"X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nForwarded: for=x\r\nX-Own: b\r\n"
    request = GET[:-2] + said + b"\r\n"
    async with RelayPort.opened(app) as port:
        await port.ask(request, address="127.0.0.1")
    async with RelayPort.opened(app, policy=Policy(proxies=TrustedProxies(["127.0.0.0/8"]))) as port:
        await port.ask(request)
    lines = b"GET /it HTTP/1.1\r\nhost: a.example\r\n%bx-own: b\r\nx-forwarded-for: %b\r\n\r\n"
    assert heads == [lines % (b"", b"127.0.0.1"), lines % (b"forwarded: for=x\r\n", b"1.2.3.4")]


async def test_a_proxy_that_calls_its_client_local_is_the_client() -> None:
    heads = []

    async def app(app: Peer) -> None:
        heads.append(await app.head())
        app.say(OK)

    async with RelayPort.opened(app, policy=Policy(proxies=TrustedProxies(["127.0.0.0/8"]))) as port:
        await port.ask(GET[:-2] + b"X-Forwarded-For: local\r\n\r\n")
    assert heads[0].partition(b"x-forwarded-for: ")[2].startswith(b"127.1.")


async def test_a_request_that_comes_again_is_each_clients_own() -> None:
    heads = []

    async def app(app: Peer) -> None:
        while True:
            heads.append(await app.head())
            app.say(OK)

    request = GET[:-2] + b"Forwarded: for=x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    policy = Policy(proxies=TrustedProxies(["127.0.0.2/32"]))
    async with RelayPort.opened(app, policy=policy) as port:
        for _ in range(2):
            for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
                async with port.client(address=address) as client:
                    assert await client.ask(request) == (200, b"ok")
    lines = b"GET /it HTTP/1.1\r\nhost: a.example\r\n%bx-forwarded-for: %b\r\n\r\n"
    asked = [(b"", b"127.0.0.1"), (b"forwarded: for=x\r\n", b"1.2.3.4"), (b"", b"127.0.0.3")]
    assert heads == [lines % one for one in asked * 2]


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"content-length: 5\r\nx-forwarded-for: 127.0.0.1\r\n\r\nhello"),
        (b"Content-Length: 0\r\n\r\n", b"content-length: 0\r\nx-forwarded-for: 127.0.0.1\r\n\r\n"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n",
            b"transfer-encoding: chunked\r\nx-forwarded-for: 127.0.0.1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ],
)
async def test_a_body_reaches_the_app(sent: bytes, arrives: bytes) -> None:
    async def app(app: Peer) -> None:
        for _ in range(2):
            whole = b"POST /it HTTP/1.1\r\nhost: a.example\r\n" + arrives
            assert await app.exactly(len(whole)) == whole
            app.say(OK)

    async with RelayPort.opened(app) as port, port.client(address="127.0.0.1") as client:
        client.say((POST + sent) * 2)
        assert [await client.answer() for _ in range(2)] == [(200, b"ok")] * 2
        assert port.accepted == 1


async def test_what_a_response_without_a_body_announces_is_not_waited_for() -> None:
    many = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"
    async with RelayPort.opened(saying(*many, OK)) as port, port.client() as client:
        client.say(GET.replace(b"GET", b"HEAD") + GET + GET)
        assert b"Content-Length: 5" in await client.head()
        assert b"304 No" in await client.head()
        assert await client.answer() == (200, b"ok")
        assert port.accepted == 1


async def test_what_is_behind_a_response_reaches_nobody() -> None:
    async def app(app: Peer) -> None:
        request = await app.request()
        app.say(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" * (b"/first" in request))
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        assert await client.ask(GET.replace(b"/it", b"/first")) == (200, b"ok")
        assert await client.ask() == (200, b"ok")
        assert port.accepted == 2


async def test_what_an_idle_connection_says_reaches_nobody() -> None:
    async def app(app: Peer) -> None:
        request = await app.request()
        app.say(OK)
        if b"/first" in request:
            await asyncio.sleep(0.01)
            app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        assert await client.ask(GET.replace(b"/it", b"/first")) == (200, b"ok")
        await until(lambda: not port.relay.open)
        assert await client.ask() == (200, b"ok")


async def test_what_a_connection_says_before_it_is_asked_is_no_answer() -> None:
    apps = []

    async def app(app: Peer) -> None:
        apps.append(app)
        while True:
            await app.request()
            app.say(OK)

    async with RelayPort.opened(app) as port, port.client() as client:
        assert await client.ask() == (200, b"ok")
        client.say(GET)  # at once, so the relay hears of it first
        apps[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        assert await client.answer() == (200, b"ok")
        assert len(apps) == 2


async def test_a_client_of_http_1_0_gets_no_chunks_and_its_connection_closes() -> None:
    async with RelayPort.opened(saying(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")) as port, port.client() as client:
        client.say(b"GET / HTTP/1.0\r\n\r\n")
        assert await client.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
        await port.settled()
        assert port.relay.idle == 1


async def test_a_client_that_wants_its_connection_closed_gets_that() -> None:
    async with RelayPort.opened() as port, port.client() as client:
        client.say(GET[:-2] + b"Connection: close\r\n\r\n")
        assert await client.rest() == OK[:-4] + b"connection: close\r\n\r\nok"
        assert port.relay.idle == 1


async def test_a_response_that_ends_with_its_connection_does_so_here() -> None:
    async with RelayPort.opened(saying(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)) as port, port.client() as client:
        client.say(GET)
        assert await client.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
        assert port.relay.open == 0


async def test_interim_responses_are_passed_on() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    async def app(app: Peer) -> None:
        assert b"expect" not in await app.request()
        app.say(b"HTTP/1.1 100 Continue\r\n\r\n" + hints)
        app.say(OK)

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n", "of the front's own"
        client.say(b"hello")
        assert await client.head() == hints
        assert await client.answer() == (200, b"ok")


# ---- what goes wrong ----


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200", b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"x" * 70_000, SWITCH],
)
async def test_what_is_no_response_is_answered_502(answer: bytes) -> None:
    async with RelayPort.opened(saying(answer, close=True)) as port, port.client() as client:
        for _ in range(2):
            status, body = await client.ask()
            assert (status, b'"status":502' in body) == (502, True)
        await port.settled()
        assert port.relay.open == 0
        assert port.relay.failed == {502: 2}


async def test_what_is_answered_here_may_be_read_by_the_pages_that_may_read_the_apps() -> None:
    policy = Policy(origins=Origins(["http://page.example"]))
    async with RelayPort.opened(saying(b"", close=True), policy=policy) as port, port.client() as client:
        client.say(GET[:-2] + b"Origin: http://page.example\r\n\r\n")
        assert b"access-control-allow-origin: http://page.example\r\n" in await client.head()


async def test_an_app_server_that_is_not_there_is_answered_502() -> None:
    async with RelayPort.opened() as port, port.client() as client:
        port.relay._path = port.path + "-not"
        assert (await client.ask())[0] == 502
        assert (await client.ask())[0] == 502


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\nz\r\n",
    ],
)
async def test_a_response_that_breaks_off_does_so_for_the_client(begun: bytes) -> None:
    async def app(app: Peer) -> None:
        await app.request()
        await app.send(begun[:-3])
        await asyncio.sleep(0.02)
        app.say(begun[-3:])

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(GET)
        out = await client.rest()
        assert out.replace(b"1\r\no\r\n", b"").count(b"hell") == 1
        assert not out.endswith(b"0\r\n\r\n")
        await port.settled()


async def test_a_client_that_cannot_tell_a_break_from_an_end_sees_a_reset() -> None:
    async with RelayPort.opened(saying(CHUNKED + b"5\r\nhello\r\n", close=True)) as port, port.client() as client:
        client.say(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"PUT", 200), (b"POST", 502)])
async def test_what_may_be_repeated_is_where_a_kept_connection_had_closed(method: bytes, status: int) -> None:
    async def app(app: Peer) -> None:
        await app.request()
        app.say(OK)
        await app.request()  # it closes instead of an answer

    async with RelayPort.opened(app) as port, port.client() as client:
        assert await client.ask() == (200, b"ok")
        assert (await client.ask(GET.replace(b"GET", method)))[0] == status


@pytest.mark.parametrize("begun", [b"", b"H"])
async def test_nothing_is_repeated_that_the_app_may_have_done(begun: bytes) -> None:
    async def app(app: Peer) -> None:
        if begun:
            await app.request()
            app.say(OK)
        await app.request()
        app.say(begun)

    async with RelayPort.opened(app) as port, port.client() as client:
        if begun:
            assert await client.ask() == (200, b"ok")
        assert (await client.ask())[0] == 502
        assert port.accepted == 1


async def test_a_request_with_a_body_is_not_repeated() -> None:
    async def app(app: Peer) -> None:
        await app.request()
        app.say(OK)
        await app.request()

    async with RelayPort.opened(app) as port, port.client() as client:
        assert await client.ask() == (200, b"ok")
        assert (await client.ask(POST.replace(b"POST", b"PUT") + b"Content-Length: 1\r\n\r\nx"))[0] == 502


async def test_a_connection_that_was_closed_meanwhile_takes_no_request_that_cannot_be_repeated() -> None:
    apps = []

    async def app(app: Peer) -> None:
        apps.append(app)
        await app.request()
        app.say(OK)
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        for number in range(5):
            client.writer.write(POST + b"Content-Length: 1\r\n\r\nx")  # at once, so the relay hears of it first
            if apps:
                apps[-1].writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            assert await client.answer() == (200, b"ok")
            assert len(apps) == number + 1


# ---- time ----


async def test_an_app_that_does_not_answer_is_not_waited_for() -> None:
    async with RelayPort.opened(saying(), timeout=SOON) as port, port.client() as client:
        status, body = await client.ask()
        assert (status, b"0.3 s" in body) == (504, True)
        await port.settled()
        assert port.relay.open == 0


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_what_is_answered_in_the_app_s_place_is_in_the_log_once_a_second(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    script = saying(b"", close=True) if status == 502 else saying()
    async with RelayPort.opened(script, most=1, waiting=0 if status == 503 else 9, timeout=SOON) as port:
        asking = [asyncio.create_task(port.ask()) for _ in range(4)]
        statuses = [(await each)[0] for each in asking]
    assert status in statuses
    lines = [line.getMessage() for line in caplog.records if line.getMessage().startswith(f"{status} for GET /it: ")]
    assert 1 <= len(lines) <= 3
    assert ("--relay-timeout" in lines[0]) == (status == 504)


EVENTS = GET[:-2] + b"Accept: text/event-stream\r\n\r\n"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_browser_s_event_source_comes_back_to_an_app_that_does_not_answer(status: int) -> None:
    script = saying(b"", close=True) if status == 502 else saying()
    most = {"most": 1, "waiting": 0} if status == 503 else {}
    async with RelayPort.opened(script, timeout=SOON, **most) as port, port.client() as client:
        async with port.client() as first:
            if status == 503:
                first.say(GET)
                await until(lambda: port.relay.open)
            assert (await port.ask(EVENTS.replace(b"stream\r", b"stream, application/json\r")))[0] == status
            if status == 503:
                assert port.relay.open
            client.say(EVENTS)
            out = await client.rest()
        assert out.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
        assert b"retry: " in out
        assert not out.endswith(b"0\r\n\r\n"), "a clean end is final to some"
        assert port.relay.failed[status] >= 2


async def test_a_browser_s_event_source_comes_back_when_the_server_ends() -> None:
    async with RelayPort.opened(saying()) as port, port.client() as client:
        client.say(EVENTS)
        await until(lambda: port.relay.open)
        port.front.leave()
        await port.front.finish(0.05)
        out = await client.rest()
        assert out.startswith(b"HTTP/1.1 200 ")
        assert b"retry: " in out
        assert b"shutdown" in out


async def test_how_long_that_is_is_a_setting() -> None:
    async with edge_of(relay_timeout=7) as edge:
        assert edge.front is not None
        assert isinstance(edge.front.relay, Relay)
        assert edge.front.relay.timeout == 7


@pytest.mark.parametrize("asked", [GET, GET + b"\r\n"])
async def test_an_app_that_answers_slowly_is_waited_for_where_only_it_knows_when_there_is_more(asked: bytes) -> None:
    async def app(app: Peer) -> None:
        await app.request()
        app.say(CHUNKED)
        await asyncio.sleep(4 * SOON)
        app.say(b"1\r\nx\r\n0\r\n\r\n")

    async with RelayPort.opened(app, timeout=SOON, body_seconds=SOON) as port, port.client() as client:
        client.say(asked)
        assert (await client.until(b"0\r\n\r\n")).endswith(b"1\r\nx\r\n0\r\n\r\n")


COUNTED_HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"


async def test_an_app_that_falls_silent_in_the_midst_of_an_answer_with_a_length_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with RelayPort.opened(saying(COUNTED_HALF), timeout=SOON) as port, port.client() as client:
        client.say(GET)
        assert await client.rest() == COUNTED_HALF
        await port.settled()
        assert port.relay.open == 0
    (line,) = [record.getMessage() for record in caplog.records if "broken off" in record.getMessage()]
    assert "GET /it" in line
    assert "0.3 s (--relay-timeout)" in line


@pytest.mark.parametrize("begun", [COUNTED_HALF, CHUNKED + b"1\r\nx\r\n", b"HTTP/1.1 200 OK\r\n\r\nx"])
@pytest.mark.parametrize("ahead", [b"", GET, POST + b"Content-Length: 8000000\r\n\r\n" + bytes(8_000_000)])
async def test_who_leaves_an_app_that_says_nothing_holds_no_connection_to_it_whatever_he_asked_for_ahead(
    begun: bytes, ahead: bytes
) -> None:
    """The end of one who has sent more than the kernel takes for him stands behind it, and is not seen."""
    async with RelayPort.opened(saying(begun), timeout=SOON) as port:
        async with port.client() as client:
            client.say(GET)
            await client.until(begun[-3:])  # or its end would be a reset
            client.say(ahead)
            await asyncio.sleep(0)
            client.writer.transport.abort()
        await port.settled()
        assert port.relay.open == 0


async def test_who_asks_for_more_behind_an_answer_without_a_length_is_waited_for_no_longer_than_one_with_a_length() -> (
    None
):
    async with RelayPort.opened(saying(CHUNKED + b"1\r\nx\r\n"), timeout=SOON) as port, port.client() as client:
        client.say(GET + GET)
        assert (await client.rest()).endswith(b"1\r\nx\r\n")
        await port.settled()


async def test_a_client_that_shuts_its_side_while_the_app_is_asked_has_gone_and_the_app_is_told() -> None:
    told = asyncio.Event()

    async def app(app: Peer) -> None:
        await app.request()
        assert await app.rest() == b""
        told.set()

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(GET)
        await until(lambda: port.relay.open)
        client.writer.write_eof()
        assert await client.rest() == b""
        async with asyncio.timeout(PATIENCE):
            await told.wait()
        await port.settled()


async def test_a_body_that_stops_coming_is_answered_408() -> None:
    async with RelayPort.opened(saying(), body_seconds=SOON) as port, port.client() as client:
        client.say(POST + b"Content-Length: 5\r\n\r\nhe")
        out = await client.rest()
        assert out.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in out
        await port.settled()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 60000", b"Content-Length: 6000000", b"Transfer-Encoding: chunked"]
)
async def test_a_body_that_comes_byte_by_byte_is_answered_408(framing: bytes) -> None:
    async with RelayPort.opened(saying(), body_seconds=SOON) as port, port.client() as client:
        client.say(POST + framing + b"\r\n\r\n")
        answer = asyncio.create_task(client.head())
        while not answer.done():
            client.say(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        await port.settled()


async def test_a_short_body_is_there_before_the_app_is_asked() -> None:
    async with RelayPort.opened(most=1) as port, port.client() as slow:
        slow.say(POST + b"Content-Length: 5\r\n\r\nhell")
        await until(lambda: port.relay.busy)
        assert await port.ask() == (200, b"ok")
        assert await slow.ask(b"o") == (200, b"ok")


async def test_who_is_slow_with_a_body_leaves_half_of_the_connections_to_others() -> None:
    async def app(app: Peer) -> None:
        while b"chunked" not in await app.head():
            app.say(OK)
        await app.rest()  # before the body is there it does not answer

    async with (
        RelayPort.opened(app, most=2, gather_seconds=0, patience=20) as port,
        contextlib.AsyncExitStack() as stack,
    ):
        for half in (b"", b"5\r\nhe", b"5\r\nhello\r\n", b"") * 2:
            slow = await stack.enter_async_context(port.client())
            slow.say(POST + b"Transfer-Encoding: chunked\r\n\r\n" + half)
        await until(lambda: port.relay.busy == 8 and port.relay.open == 1)
        now = port.relay.now
        await until(lambda: port.relay.now > now + 0.5)
        assert [await port.ask() for _ in range(3)] == [(200, b"ok")] * 3
        assert port.relay.queued == 0


async def test_a_body_may_come_slowly_while_the_app_answers() -> None:
    async def app(app: Peer) -> None:
        await app.head()
        app.say(CHUNKED + b"1\r\nx\r\n")
        await app.until(b"0\r\n\r\n")
        app.say(b"0\r\n\r\n")

    async with RelayPort.opened(app, body_seconds=2 * SOON, gather_seconds=0) as port, port.client() as client:
        client.say(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.until(b"x\r\n")
        for _ in range(8):
            client.say(b"1\r\ny\r\n")
            await asyncio.sleep(SOON / 2)
        client.say(b"0\r\n\r\n")
        assert await client.rest() == b"0\r\n\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Content-Length: 6000000"])
async def test_who_waits_for_100_and_sends_no_body_takes_nobodys_connection(framing: bytes) -> None:
    async with RelayPort.opened(most=2, body_seconds=3 * SOON) as port, contextlib.AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(port.client()) for _ in range(4)]
        for client in waiting:
            client.say(POST + b"Expect: 100-continue\r\n" + framing + b"\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert port.relay.open == 0
        assert await port.ask() == (200, b"ok")
        for client in waiting:
            assert (await client.head()).startswith(b"HTTP/1.1 408 ")
        await port.settled()


async def test_who_begins_a_large_body_and_stops_leaves_half_of_the_connections_to_others() -> None:
    """And its body's end frees its place in the half."""

    async def app(app: Peer) -> None:
        size = length_of(await app.head()) or 0
        await app.exactly(size)
        app.say(OK)
        await answering(app)

    async with RelayPort.opened(app, most=4, patience=20) as port, contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(port.client()) for _ in range(6)]
        for number, client in enumerate(slow):
            client.say(POST + b"Content-Length: 70000\r\n\r\n" + bytes(69000))
            await until(lambda number=number: port.relay.open + port.relay.queued == number + 1)
        assert (port.relay.uploads, port.relay.queued) == (2, 4)
        assert [await port.ask() for _ in range(3)] == [(200, b"ok")] * 3
        for client in slow:
            assert await client.ask(bytes(1000)) == (200, b"ok")
        assert port.relay.uploads == 0
        await port.settled()


async def test_the_slow_wait_in_half_of_the_places_and_leave_as_they_came() -> None:
    async with RelayPort.opened(saying(), most=2, waiting=4, patience=20) as port, contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(port.client()) for _ in range(4)]
        for client in slow:
            client.say(POST + b"Content-Length: 70000\r\n\r\n" + bytes(69000))
        await until(lambda: port.relay.failed[503])
        assert (port.relay.uploads, port.relay.queued) == (1, 2)
        for client in slow:
            client.close()
        await port.settled()
        assert (port.relay.uploads, port.relay.held) == (0, 0)


async def test_an_idle_connection_to_the_app_goes_after_a_while() -> None:
    async with RelayPort.opened() as port:
        await port.ask()
        assert port.relay.idle == 1
        loop = asyncio.get_running_loop()
        port.relay.tick(loop.time() + 4)
        assert port.relay.idle == 1
        port.relay.tick(loop.time() + 6)
        assert port.relay.open == 0


# ---- how many ----


async def test_exchanges_wait_in_order_for_a_connection() -> None:
    asked: list[bytes] = []
    gate = asyncio.Semaphore(0)

    async def app(app: Peer) -> None:
        while True:
            asked.append((await app.request())[:8])
            await gate.acquire()
            app.say(OK)

    async with RelayPort.opened(app, most=2) as port:
        port.relay.tick = Mock()  # type: ignore[method-assign]
        asking = []
        for number in range(6):
            asking.append(asyncio.create_task(port.ask(GET.replace(b"it", b"%d" % number))))
            await until(lambda number=number: port.relay.busy == number + 1)
        assert (port.relay.open, port.relay.queued) == (2, 4)
        for _ in range(6):
            gate.release()
            await asyncio.sleep(0)
        assert await asyncio.gather(*asking) == [(200, b"ok")] * 6
        assert port.accepted == 2
        assert asked == sorted(asked)


async def test_a_few_connections_are_kept_for_our_own_paths_beside_an_app_s() -> None:
    async def app(app: Peer) -> None:
        while b"/edge/" in await app.request():
            app.say(OK)
        await app.rest()  # the app's own are never answered

    ours = GET.replace(b"it", b"edge/healthz")
    beside = Policy(path="/edge")
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(RelayPort.opened(app, policy=beside, most=10, patience=PATIENCE))
        for number in range(12):
            (await stack.enter_async_context(port.client())).say(GET)
            await until(lambda number=number: port.relay.busy == number + 1)
        assert port.relay.open == 8
        for _ in range(8):
            assert await port.ask(ours) == (200, b"ok")
        assert port.relay.open == 9, "and what one of ours leaves idle is no app's"
        assert port.relay.queued == 4


HELD_BACK = GET.replace(b"it", b"held/back")


async def held_back(app: Peer) -> None:
    while b"/held/back" not in await app.request():
        app.say(OK)
    await app.rest()


async def test_one_address_takes_half_of_the_connections() -> None:
    """And the others of its exchanges wait, in nobody's way, until one of the first is over."""
    beside = Policy(path="/edge")
    async with (
        RelayPort.opened(held_back, policy=beside, most=4, patience=PATIENCE) as port,
        contextlib.AsyncExitStack() as stack,
    ):
        half = port.relay.shared // 2
        greedy = [await stack.enter_async_context(port.client(address="127.0.0.9")) for _ in range(6)]
        for number, client in enumerate(greedy):
            client.say(HELD_BACK)
            await until(lambda number=number: port.relay.busy == number + 1)
        assert (port.relay.open, port.relay.queued) == (half, 6 - half)
        for _ in range(3):
            assert await port.ask() == (200, b"ok")
        assert port.relay.queued == 6 - half
        health = GET.replace(b"it", b"edge/healthz")
        assert await port.ask(health, address="127.0.0.9") == (200, b"ok"), "the server's own answers have a few more"
        for left in range(5, -1, -1):  # those that wait leave too, and take nobody's turn
            greedy.pop(left // 2).close()
            await until(lambda left=left: port.relay.busy == left)
            assert port.relay.open - port.relay.idle == min(half, left)
        assert port.relay._parts.waiting == 0
        await port.settled()
        assert await port.ask(address="127.0.0.9") == (200, b"ok")


async def test_an_upgrade_counts_for_its_address_as_long_as_its_tunnel() -> None:
    async def app(app: Peer) -> None:
        if b"upgrade" in await app.head():
            app.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            await app.rest()
        app.say(OK)
        await answering(app)

    ask = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with RelayPort.opened(app, most=3, patience=PATIENCE) as port, contextlib.AsyncExitStack() as stack:
        tunnel = await stack.enter_async_context(port.client(address="127.0.0.9"))
        tunnel.say(ask)
        assert b" 101 " in await tunnel.head()
        asking = asyncio.create_task(port.ask(address="127.0.0.9"))
        await until(lambda: port.relay.queued)
        assert await port.ask() == (200, b"ok")
        assert not asking.done()
        tunnel.close()
        assert await asking == (200, b"ok")
        await port.settled()


async def test_a_trusted_proxy_may_take_them_all() -> None:
    policy = Policy(proxies=TrustedProxies(["127.0.0.9"]))
    async with (
        RelayPort.opened(held_back, most=3, policy=policy) as port,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(3):
            client = await stack.enter_async_context(port.client(address="127.0.0.9"))
            client.say(HELD_BACK)
            await until(lambda number=number: port.relay.open == number + 1)
        assert port.relay.queued == 0


async def test_exchanges_wait_so_long_and_so_many_at_most() -> None:
    async with RelayPort.opened(saying(), most=1, waiting=1, patience=SOON) as port:
        asking = asyncio.create_task(port.ask())
        await until(lambda: port.relay.open)
        waiting = asyncio.create_task(port.ask())
        await until(lambda: port.relay.queued)
        async with port.client() as client:
            client.say(GET)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in head
        assert not waiting.done()
        assert (await waiting)[0] == 503
        assert port.relay.queued == 0
        asking.cancel()


HEALTH = b"GET /edge/healthz HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.mark.parametrize("held", [GET, UPGRADE])
async def test_whatever_the_app_s_clients_hold_the_server_s_own_answers_come(held: bytes) -> None:
    async def app(app: Peer) -> None:
        while (head := await app.head()).startswith(HEALTH[:18]):
            app.say(OK)
        app.say(SWITCH if b"upgrade:" in head else b"")
        await app.rest()

    beside = Policy(path="/edge")
    async with RelayPort.opened(app, policy=beside, most=16, waiting=2) as port, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(port.client()) for _ in range(14)]
        for client in clients:
            client.say(held)
        await until(lambda: port.relay.open == port.relay.shared == 12 and port.relay.queued == 2)
        head = (await (refused := await stack.enter_async_context(port.client())).ask(held))[1]
        assert b"the 12 connections that a worker has for it are taken" in head
        refused.close()
        for _ in range(3):
            assert await asyncio.gather(*(port.ask(HEALTH) for _ in range(6))) == [(200, b"ok")] * 6
        assert (port.relay.open - port.relay.idle, port.relay.queued) == (12, 2), "what waits still waits"
        clients[0].close()
        await until(lambda: port.relay.queued == 1)


async def test_who_asks_the_server_itself_takes_turns_with_who_asks_the_app() -> None:
    asked: list[bytes] = []
    gate = asyncio.Semaphore(0)

    async def app(app: Peer) -> None:
        while True:
            asked.append((await app.request())[:5])
            await gate.acquire()
            app.say(OK)

    async with RelayPort.opened(app, policy=Policy(path="/edge"), most=8) as port:
        asking = []
        for number, request in enumerate([HEALTH] * 8 + [HEALTH, GET] * 2):
            asking.append(asyncio.create_task(port.ask(request)))
            await until(lambda number=number: port.relay.busy == number + 1)
        assert (port.relay.open, port.relay.queued) == (8, 4), "nobody else asks: all are free to take"
        for _ in range(12):
            gate.release()
        assert await asyncio.gather(*asking) == [(200, b"ok")] * 12
        assert asked[8:] == [GET[:5]] * 2 + [HEALTH[:5]] * 2
        assert port.relay._own == 0


async def test_a_body_is_no_question_to_the_server_itself() -> None:
    """Who is slow with one would keep what is reserved."""
    upload = HEALTH.replace(b"GET", b"POST")[:-2] + b"Content-Length: 1\r\n\r\nx"
    async with RelayPort.opened(saying(), policy=Policy(path="/edge"), most=8) as port:
        asking = [asyncio.create_task(port.ask(upload)) for _ in range(8)]
        await until(lambda: port.relay.busy == 8)
        assert (port.relay.open, port.relay.queued) == (6, 2)
        for each in asking:
            each.cancel()


async def test_a_body_waits_with_its_exchange() -> None:
    gate = asyncio.Event()

    async def app(app: Peer) -> None:
        while True:
            request = await app.request()
            await gate.wait()
            app.say(OK[:-2] + request[-2:])

    async with RelayPort.opened(app, most=1) as port, port.client() as client:
        asking = asyncio.create_task(port.ask())
        await until(lambda: port.relay.open)
        client.say(POST + b"Content-Length: 12\r\n\r\nhello ")
        await until(lambda: port.relay.held)
        client.say(b"world!")
        await until(lambda: port.relay.queued)
        assert port.relay.held == 12
        gate.set()
        assert await client.answer() == (200, b"d!")
        assert port.relay.held == 0
        await asking


async def test_an_exchange_that_waits_is_forgotten_with_its_client() -> None:
    async with RelayPort.opened(saying(), most=1) as port, port.client() as client:
        client.say(GET)
        await until(lambda: port.relay.open)
        async with port.client() as other:
            other.say(GET)
            await until(lambda: port.relay.queued)
        await until(lambda: not port.relay.queued)
        assert port.relay.busy == 1


async def test_an_app_server_that_accepts_nobody_is_busy() -> None:
    async with RelayPort.opened(patience=SOON, timeout=10) as port:
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(port.path + "-full")
            full.listen(0)
            port.relay._path = port.path + "-full"
            asking = [asyncio.create_task(port.ask()) for _ in range(4)]
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result()[0] for task in done} == {503}
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def test_an_exchange_waits_for_a_descriptor_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RelayPort.opened(patience=5) as port:
        with monkeypatch.context() as patch:
            patch.setattr(relay, "connect", Mock(side_effect=OSError(errno.EMFILE, "no descriptor is left")))
            asking = asyncio.create_task(port.ask())
            await until(lambda: port.relay.queued)
        assert await asking == (200, b"ok")


# ---- clients that leave, and are slow ----


async def test_an_app_hears_at_once_of_a_client_that_leaves() -> None:
    left = asyncio.Event()

    async def app(app: Peer) -> None:
        await app.request()
        app.say(CHUNKED + b"1\r\nx\r\n")
        assert await app.rest() == b""
        left.set()

    async with RelayPort.opened(app) as port:
        async with port.client() as client:
            client.say(GET)
            await client.until(b"1\r\nx\r\n")
        async with asyncio.timeout(30):
            await left.wait()
        await port.settled()


async def test_a_client_that_takes_nothing_is_ended() -> None:
    left = asyncio.Event()

    async def app(app: Peer) -> None:
        await app.request()
        app.say(CHUNKED)
        try:
            while True:
                await app.send(b"10000\r\n%b\r\n" % bytes(65536))
        except ConnectionError:
            left.set()

    async with RelayPort.opened(app) as port, port.client(buffer=4096) as client:
        client.say(GET)
        await until(lambda: port.waiting()[0])
        listener, now = port.front.listener, asyncio.get_running_loop().time()
        assert listener is not None
        for _ in range(20):  # while it takes bytes it is none
            listener.tick(now := now + listener.stuck_seconds + 1)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await left.wait()
        await port.settled()


async def test_slow_readers_leave_half_of_the_connections_to_those_who_wait() -> None:
    """And nobody is slow while nobody waits."""

    async def app(app: Peer) -> None:
        if b"/large" in await app.request():
            app.say(CHUNKED)
            while True:
                await app.send(b"10000\r\n%b\r\n" % bytes(65536))
        app.say(OK)
        await answering(app)

    async with RelayPort.opened(app, most=4, patience=PATIENCE, slow_seconds=SOON) as port:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(4):
                (await stack.enter_async_context(port.client(buffer=4096))).say(GET.replace(b"it", b"large"))
                await until(lambda number=number: len(port.relay.blocked) == number + 1)
            now = port.relay.now
            await until(lambda: port.relay.now > now + 3 * SOON)
            assert len(port.relay.blocked) == 4
            assert await asyncio.gather(*(port.ask() for _ in range(8))) == [(200, b"ok")] * 8
            assert len(port.relay.blocked) == 2
        await port.settled()
        assert not port.relay.blocked


async def taken_of(app: Peer, piece: bytes, most: int) -> int:
    """How many bytes are taken before nothing more is, for a while."""
    taken = 0
    connection: socket.socket = app.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    app.writer.transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]
    while taken < most:
        app.say(piece)
        try:
            async with asyncio.timeout(SOON):
                await app.writer.drain()
        except TimeoutError:
            break
        taken += len(piece)
    return taken


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: %d" % (32 * MiB)])
async def test_a_slow_reader_is_waited_for(framing: bytes) -> None:
    piece = b"x" * 65536
    framed = b"10000\r\n%b\r\n" % piece if b"chunked" in framing else piece
    stopped = asyncio.get_running_loop().create_future()

    async def app(app: Peer) -> None:
        await app.request()
        app.say(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        taken = await taken_of(app, framed, 32 * MiB)
        stopped.set_result(taken)
        for _ in range(32 * MiB // 65536 - taken // len(framed) - 1):
            await app.send(framed)
        app.say(b"0\r\n\r\n" if b"chunked" in framing else b"")
        await app.rest()

    async with RelayPort.opened(app) as port, port.client(buffer=65536) as client:
        client.say(GET)
        assert await stopped < 32 * MiB  # what kernels keep, and no more
        assert 0 < port.waiting()[0] <= PIECE
        size = 0
        head = await client.head()
        if b"chunked" in head:
            while chunk := int((await client.until(b"\r\n"))[:-2], 16):
                assert chunk <= 65536
                size += len((await client.exactly(chunk + 2))[:-2])
        else:
            while size < 32 * MiB:
                size += len(await client.exactly(65536))
        assert size == 32 * MiB


async def test_a_slow_app_is_waited_for() -> None:
    go_on = asyncio.Event()

    async def app(app: Peer) -> None:
        await app.head()
        await go_on.wait()
        size = 0
        while size < 32 * MiB:
            size += len(await app.reader.read(MiB))
        app.say(OK)
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(POST + b"Content-Length: %d\r\n\r\n" % (32 * MiB))
        piece = b"x" * 65536
        taken = await taken_of(client, piece, 32 * MiB)
        assert taken < 32 * MiB
        assert 0 < port.waiting()[1] <= PIECE
        go_on.set()
        for _ in range(32 * MiB // 65536 - taken // 65536 - 1):
            await client.send(piece)
        assert await client.answer() == (200, b"ok")


async def test_an_early_answer_reaches_a_client_that_still_sends() -> None:
    async def app(app: Peer) -> None:
        await app.head()
        app.say(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig")

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(POST + b"Content-Length: %d\r\n\r\n" % (2 * MiB))
        client.say(b"x" * MiB)
        out = await client.rest()
        assert out == b"HTTP/1.1 413 No\r\nContent-Length: 3\r\nconnection: close\r\n\r\nbig"
        await port.settled()
        assert port.relay.open == 0


async def test_both_sides_may_speak_at_once() -> None:
    async def echo(app: Peer) -> None:
        await app.head()
        app.say(CHUNKED)
        while chunk := int((await app.until(b"\r\n"))[:-2], 16):
            app.say(b"%x\r\n%b" % (chunk, await app.exactly(chunk + 2)))
        app.say(b"0\r\n\r\n")

    async with RelayPort.opened(echo, gather_seconds=0) as port, port.client() as client:
        client.say(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert b"connection: close" in await client.head()
        for word in (b"hello", b"again"):
            client.say(b"5\r\n%b\r\n" % word)
            assert await client.until(word) == b"5\r\n" + word
            await client.exactly(2)
        client.say(b"0\r\n\r\n")
        assert await client.rest() == b"0\r\n\r\n"


# ---- tunnels ----


async def test_an_upgrade_becomes_a_tunnel() -> None:
    async def app(app: Peer) -> None:
        head = await app.head()
        assert b"connection: upgrade\r\nupgrade: websocket\r\n" in head
        app.say(SWITCH + b"behind the head")
        assert await app.exactly(9) == b"early\r\n\r\n"
        app.say(b"HTTP/1.1 what you like")
        assert await app.rest() == b"late"  # it was shut, and still may say something
        app.say(b"bye")

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(UPGRADE + b"early\r\n\r\n")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"connection: upgrade\r\nupgrade: websocket\r\n" in head
        assert await client.exactly(15 + 22) == b"behind the headHTTP/1.1 what you like"
        assert (port.relay.tunnels, port.relay.busy) == (1, 0)
        client.say(b"late")
        client.writer.write_eof()
        assert await client.rest() == b"bye"
        await port.settled()
        assert port.relay.open == 0


async def test_an_app_that_goes_on_in_a_protocol_nobody_asked_for_gets_nothing_of_it() -> None:
    async def app(app: Peer) -> None:
        await app.head()
        app.say(SWITCH.replace(b"websocket", b"echo"))
        assert await app.rest() == b""

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(UPGRADE + b"early")
        assert (await client.answer())[0] == 502
        await port.settled()
        assert port.relay.open == 0


async def test_an_app_may_end_its_side_of_a_tunnel_first() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def app(app: Peer) -> None:
        await app.head()
        app.say(SWITCH + b"bye")
        app.writer.write_eof()
        heard.set_result(await app.rest())

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(UPGRADE)
        await client.head()
        assert await client.rest() == b"bye"
        client.say(b"late")
        client.writer.write_eof()
        assert await heard == b"late"
        await port.settled()


async def test_much_goes_through_a_tunnel() -> None:
    async def echo(app: Peer) -> None:
        await app.head()
        app.say(SWITCH)
        while data := await app.reader.read(65536):
            await app.send(data)

    async with RelayPort.opened(echo) as port, port.client() as client:
        client.say(UPGRADE)
        await client.head()
        sending = asyncio.create_task(client.send(bytes(range(256)) * 4096 * 16))
        assert await client.exactly(16 * MiB) == bytes(range(256)) * 4096 * 16
        await sending


async def test_an_idle_tunnel_ends() -> None:
    async with RelayPort.opened(saying(SWITCH), tunnel_seconds=SOON) as port, port.client() as client:
        client.say(UPGRADE)
        await client.head()
        assert await client.rest() == b""
        await port.settled()


async def test_an_app_may_refuse_an_upgrade() -> None:
    async with RelayPort.opened() as port, port.client() as client:
        assert await client.ask(UPGRADE) == (200, b"ok")
        assert await client.ask() == (200, b"ok")
        assert port.accepted == 1


# ---- the end of a server ----


async def test_what_is_under_way_is_finished_when_the_server_ends() -> None:
    gate = asyncio.Event()

    async def app(app: Peer) -> None:
        await app.request()
        await gate.wait()
        app.say(OK)
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        client.say(GET)
        await until(lambda: port.relay.open)
        port.front.leave()
        finishing = asyncio.create_task(port.front.finish(30))
        await asyncio.sleep(0)
        assert not finishing.done()
        gate.set()
        assert await client.rest() == OK[:-4] + b"connection: close\r\n\r\nok"
        await finishing
        assert port.relay.open == 0


async def test_what_has_no_answer_when_the_server_ends_is_answered_503() -> None:
    async with RelayPort.opened(saying()) as port, port.client() as client:
        client.say(GET)
        await until(lambda: port.relay.open)
        port.front.leave()
        await port.front.finish(0.05)
        out = await client.rest()
        assert out.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in out


async def test_who_asks_once_more_while_the_server_ends_is_answered_and_then_nobody() -> None:
    async with RelayPort.opened() as port, port.client() as kept, port.client() as late:
        for client in (kept, late):
            client.say(GET)
            await client.answer()
        port.front.leave()
        kept.say(GET)
        assert await kept.rest() == OK[:-4] + b"connection: close\r\n\r\nok"
        await port.front.finish(30)
        late.say(GET)
        assert (await late.rest()).startswith(b"HTTP/1.1 503 ")


async def test_a_tunnel_is_not_waited_for() -> None:
    async with RelayPort.opened(saying(SWITCH)) as port, port.client() as client:
        client.say(UPGRADE)
        await client.head()
        port.front.leave()
        await port.front.finish(30)
        assert port.relay.tunnels == 1
        port.relay.close()
        assert await client.rest() == b""


# ---- held ----


class Holding:
    """Takes what the app gives it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, list[Header]]] = []
        self.left = 0

    def mark(self, exchange: RelayedExchange) -> bytes:
        exchange.context = "cursor"
        return b"grip-sig: mine\r\n"

    def claim(self, exchange: RelayedExchange, status: int, headers: list[Header]) -> bool:
        self.headers = headers
        return status == 200 and (b"Grip-Hold", b"stream") in headers

    def take(self, exchange: RelayedExchange) -> None:
        self.taken.append((exchange.context, self.headers))
        exchange.connection.answer(b"HTTP/1.1 200 Held\r\nContent-Length: 0\r\n\r\n", False)

    def leave(self, exchange: RelayedExchange) -> None:
        self.left += 1


async def test_an_answer_may_be_held() -> None:
    async def app(app: Peer) -> None:
        assert b"grip-sig: mine\r\n" in await app.request()
        app.say(OK.replace(b"Content-L", b"Grip-Hold: stream\r\nContent-L")[:-1])
        await asyncio.sleep(0.01)
        app.say(b"k")
        await app.request()
        app.say(OK)

    async with RelayPort.opened(app) as port, port.client() as client:
        port.relay.hold = holding = Holding()
        client.say(GET[:-2] + b"Grip-Sig: forged\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200 Held\r\n")
        assert holding.taken == [("cursor", [(b"Grip-Hold", b"stream"), (b"Content-Length", b"2")])]
        assert holding.left == 1
        assert await client.ask() == (200, b"ok")
        assert port.accepted == 1
        assert (len(holding.taken), holding.left) == (1, 2)


async def test_an_answer_that_was_to_be_held_and_whose_client_goes_is_left() -> None:
    async def app(app: Peer) -> None:
        await app.request()
        app.say(OK.replace(b"Content-L", b"Grip-Hold: stream\r\nContent-L")[:-1])
        await asyncio.Event().wait()

    async with RelayPort.opened(app) as port:
        port.relay.hold = holding = Holding()
        async with port.client() as client:
            client.say(GET)
            await until(lambda: hasattr(holding, "headers"))
        await until(lambda: holding.left)
        assert (holding.taken, holding.left, port.relay.busy) == ([], 1, 0)


async def test_an_answer_that_is_held_before_its_request_is_there_is_a_502(caplog: pytest.LogCaptureFixture) -> None:
    async def app(app: Peer) -> None:
        await app.head()
        app.say(OK.replace(b"Content-L", b"Grip-Hold: stream\r\nContent-L"))
        await app.rest()

    async with RelayPort.opened(app) as port, port.client() as client:
        port.relay.hold = holding = Holding()
        client.say(GET[:-2] + b"Content-Length: 70000\r\n\r\n" + bytes(69000))
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        await port.settled()
        assert (holding.taken, holding.left) == ([], 1)
        assert "before it had all of the request's body" in caplog.text


@pytest.mark.parametrize("length", [10, MiB])
async def test_what_is_behind_a_held_answer_is_not_waited_for_without_end(length: int) -> None:
    answer = OK.replace(b"Content-Length: 2", b"Grip-Hold: stream\r\nContent-Length: %d" % length)
    async with RelayPort.opened(saying(answer + bytes(min(length // 2, 128 * 1024))), timeout=SOON) as port:
        port.relay.hold = Holding()
        async with port.client() as client:
            client.say(GET)
            assert (await client.head()).startswith(b"HTTP/1.1 200 Held\r\n")
            await port.settled()
            assert port.relay.open == 0


# ---- nothing is left ----


async def test_an_exchange_leaves_no_garbage() -> None:
    async with RelayPort.opened() as port, port.client() as client:
        await client.ask()
        with no_garbage_of("sse_fast"):
            for _ in range(3):
                await client.ask()
                await client.ask(
                    POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".replace(b"1\r\nx\r\n", b"")
                )
