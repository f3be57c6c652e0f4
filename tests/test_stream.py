"""GET /sse as ASGI, without a server: the head and the preamble, a connection's life."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from support import no_garbage_of, until
from whatwg import Parser

from sse_fast.access.limits import Admission
from sse_fast.errors import EndReason
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request
from sse_fast.transports.asgi import Stream
from sse_fast.transports.life import Life, Lives, Transport
from sse_fast.transports.streams import Streams, jittered

# The streams, served; and callers who hold the server's end of their connection


class Served:
    """A hub with its admission, and requests to it."""

    def __init__(self, *, max_subscriptions: int | None = None, max_patterns: int | None = None, **limits: Any) -> None:
        self.hub = Hub(log_size=64 * 1024, max_history=20)
        self.admission = Admission(**limits)
        self.streams = Streams(
            self.hub, self.admission, retry=1000, max_subscriptions=max_subscriptions, max_patterns=max_patterns
        )

    def call(self, path: str = "a", **request: Any) -> "Call":
        return Call(self.streams, path, **request)

    @property
    def empty(self) -> bool:
        return self.admission.connections == 0 and self.hub.fanout.connections == 0


class Call:
    """One request to the front, seen from the server's side."""

    def __init__(
        self,
        streams: Streams,
        path: str,
        *,
        method: str = "GET",
        query: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        send: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self._send = send
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self._news = asyncio.Event()
        scope = {
            "type": "http",
            "method": method,
            "path": f"/sse/{path}",
            "query_string": query,
            "headers": list(headers),
            "client": ("10.0.0.1", 1234),
        }
        decision = decide(Request.from_scope(scope), Policy(max_channels=4))
        assert isinstance(decision, Subscribe | Answer)
        stream = Stream(streams, scope, self._messages.get, self.send)  # type: ignore[arg-type]
        answering = stream.answer(decision) if isinstance(decision, Subscribe) else stream.refuse(decision)
        self.task = asyncio.create_task(answering)

    async def send(self, message: dict[str, Any]) -> None:
        if self._send is not None:
            await self._send(message)
        self.sent.append(message)
        self._news.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.data) for event in Parser().feed(self.body)]

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(30):
            while text not in self.body:
                self._news.clear()
                await self._news.wait()

    async def opened(self) -> "Call":
        await self.until(b"$connected")
        return self

    async def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})
        await self.task

    async def answered(self) -> "Call":
        await asyncio.wait_for(self.task, 30)
        return self


@pytest.fixture
async def served():
    opened = Served()
    yield opened
    await opened.hub.close()


async def test_the_head_says_that_nothing_may_buffer_or_keep_it(served: Served) -> None:
    call = await served.call().opened()
    assert call.status == 200
    assert call.headers[b"content-type"].startswith(b"text/event-stream")
    assert call.headers[b"cache-control"] == b"no-cache, no-transform"
    assert call.headers[b"x-accel-buffering"] == b"no"
    await call.leave()


async def test_the_preamble_has_no_block_of_its_own_before_connected(served: Served) -> None:
    call = await served.call().opened()
    comment, retry, *block, end, after_it = call.body.split(b"\n")
    assert comment == b":"
    assert retry.startswith(b"retry: ")
    assert 700 <= int(retry[7:]) <= 1300
    identity = f"id: {served.hub.event_id(0)}".encode()
    assert sorted(block) == [b'data: {"resume":"live"}', b"event: $connected", identity]
    assert (end, after_it) == (b"", b"")
    await call.leave()


def test_jitter_is_within_thirty_percent_and_spread() -> None:
    drawn = [jittered(1000) for _ in range(2000)]
    assert 700 <= min(drawn) < 730
    assert 1270 < max(drawn) <= 1300
    assert jittered(0) == 0


async def test_what_is_published_between_subscribing_and_the_start_is_not_lost(served: Served) -> None:
    async def publish_first(message: dict[str, Any]) -> None:
        if len(call.sent) < 2:
            await served.hub.publish("a", f"before {message['type']}")

    call = served.call(send=publish_first)
    await call.until(b"before http.response.body")
    assert [data for kind, data in call.events if kind == "message"] == [
        "before http.response.start",
        "before http.response.body",
    ]
    await call.leave()


async def test_a_header_in_any_case_resumes_and_wins_over_the_query(served: Served) -> None:
    ids = [str(await served.hub.publish("a", str(number))) for number in range(4)]
    # ASGI servers hand header names on in lower case, whatever the client wrote.
    call = served.call(headers=[(b"last-event-id", ids[1].encode())], query=b"last_event_id=" + ids[0].encode())
    await call.until(b"data: 3")
    assert call.events == [("$connected", '{"resume":"complete"}'), ("message", "2"), ("message", "3")]
    await call.leave()


async def test_a_foreign_id_is_told_of_a_gap_before_anything_else(served: Served) -> None:
    await served.hub.publish("a", "kept")
    call = served.call(headers=[(b"last-event-id", b"zzzzzzzz-5")])
    await call.until(b"kept")
    assert [kind for kind, _ in call.events] == ["$connected", "$gap", "message"]
    assert json.loads(call.events[1][1])["after"] == "zzzzzzzz-5"
    await call.leave()


async def test_history_begins_with_the_newest_kept(served: Served) -> None:
    for number in range(5):
        await served.hub.publish("a", str(number))
    call = served.call(query=b"history=2")
    await call.until(b"data: 4")
    assert [data for kind, data in call.events if kind == "message"] == ["3", "4"]
    await call.leave()


# Answers that are not streams


async def test_head_has_the_head_of_a_stream_and_no_body(served: Served) -> None:
    call = await served.call(method="HEAD").answered()
    assert (call.status, call.body) == (200, b"")
    assert call.headers[b"content-type"].startswith(b"text/event-stream")
    assert served.empty


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
async def test_other_methods_are_told_which_are_right(served: Served, method: str) -> None:
    call = await served.call(method=method).answered()
    assert (call.status, call.headers[b"allow"]) == (405, b"GET, HEAD, OPTIONS")


async def test_a_plain_options_is_told_them_too(served: Served) -> None:
    call = await served.call(method="OPTIONS").answered()
    assert (call.status, call.headers[b"allow"], call.body) == (204, b"GET, HEAD, OPTIONS", b"")


async def test_a_request_that_cannot_be_read_is_a_problem(served: Served) -> None:
    call = await served.call(query=b"history=many").answered()
    assert (call.status, call.headers[b"content-type"]) == (400, b"application/problem+json")
    assert "history" in json.loads(call.body)["detail"]
    assert served.empty


JSON = [(b"accept", b"application/json")]


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
async def test_over_a_limit_a_browser_is_told_when_to_come_back_and_others_get_503(limit: str) -> None:
    served = Served(**{limit: 1})
    inside = await served.call().opened()
    browser = await served.call(headers=[(b"accept", b"text/event-stream")]).answered()
    assert browser.status == 200
    parser = Parser()
    assert [event.type for event in parser.feed(browser.body)] == ["$closing"]
    assert parser.reconnection_time is not None
    assert 7_000 <= parser.reconnection_time <= 13_000
    assert browser.sent[-1]["more_body"] is True  # broken off: some clients take a clean end for the last word
    program = await served.call(headers=JSON).answered()
    assert program.status == 503
    assert 7 <= int(program.headers[b"retry-after"]) <= 13
    assert served.admission.refused[limit] == 2
    await inside.leave()
    again = await served.call().opened()
    await again.leave()
    assert served.empty
    await served.hub.close()


async def test_channels_that_are_listened_to_are_bounded_over_all_streams_and_a_set_that_many_share_counts_once() -> (
    None
):
    served = Served(max_subscriptions=8)
    inside = [await served.call("", query=b"channel=a&channel=b&channel=c").opened() for _ in range(3)]
    inside.append(await served.call("d").opened())
    assert served.hub.fanout.listened == 4
    program = await served.call("", query=b"channel=a&channel=b&channel=c&channel=d", headers=JSON).opened()
    refused = await served.call("e", headers=JSON).answered()
    assert refused.status == 503
    assert "all 8 channels" in json.loads(refused.body)["detail"]
    browser = await served.call("e").answered()
    assert browser.events == [("$closing", '{"reason":"overloaded"}')]
    assert served.admission.refused["max_subscriptions"] == 2
    await program.leave()
    inside.append(await served.call("e").opened())
    for call in inside:
        await call.leave()
    assert served.empty
    assert served.hub.fanout.listened == 0
    await served.hub.close()


async def test_after_the_gap_of_a_foreign_id_come_the_newest_and_the_gap_says_from_where(served: Served) -> None:
    for number in range(50):
        await served.hub.publish("a", str(number))
    call = await served.call(headers=[(b"last-event-id", b"zzzzzzzz-7")]).opened()
    await call.until(b"data: 49\n")
    connected, gap, *events = call.events
    assert connected == ("$connected", '{"resume":"gap"}')
    assert json.loads(gap[1]) == {"after": "zzzzzzzz-7", "until": served.hub.event_id(30)}
    assert events == [("message", str(number)) for number in range(30, 50)]
    await call.leave()


async def test_a_draining_server_turns_streams_away(served: Served) -> None:
    await served.hub.drain(0)
    assert (await served.call().answered()).events == [("$closing", '{"reason":"shutdown"}')]
    assert (await served.call(headers=JSON).answered()).status == 503
    assert served.empty


# The life


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[list[Life]]:
    """The states that each stream went through, one after another."""
    seen: list[list[Life]] = []
    move = Lives.move

    def watched(self: Lives, life: Life, happening: str) -> Life:
        then = move(self, life, happening)
        if life is Life.ARRIVED:
            seen.append([life])
        seen[-1].append(then)
        return then

    monkeypatch.setattr(Lives, "move", watched)
    return seen


async def test_each_kind_of_request_moves_along_the_table(served: Served, lives: list[list[Life]]) -> None:
    await (await served.call().opened()).leave()
    await served.call(method="HEAD").answered()
    await served.call(method="POST").answered()
    await served.call(query=b"history=x").answered()
    failing = served.call(send=fail)
    with pytest.raises(OSError, match="no such wire"):
        await failing.task
    await served.hub.drain(0)
    await served.call().answered()
    refused = [Life.ARRIVED, Life.REFUSED]
    assert lives == [
        [Life.ARRIVED, Life.OPENING, Life.STREAMING, Life.ENDED],
        refused,
        refused,
        refused,
        [Life.ARRIVED, Life.OPENING, Life.ENDED],
        refused,
    ]


async def fail(message: dict[str, Any]) -> None:
    raise OSError("no such wire")


# Whatever ends a stream, nothing of it stays


async def test_a_client_that_leaves_is_counted_out(served: Served) -> None:
    call = await served.call().opened()
    assert (served.admission.connections, served.hub.fanout.connections) == (1, 1)
    await call.leave()
    assert served.empty
    assert served.streams.transports[Transport.ASGI].ended == {EndReason.CLIENT: 1}


async def test_a_head_that_cannot_be_sent_leaves_no_subscriber(served: Served) -> None:
    with pytest.raises(OSError, match="no such wire"):
        await served.call(send=fail).task
    assert served.empty


async def test_a_send_that_fails_ends_the_stream_as_an_error(served: Served) -> None:
    async def fail_on_events(message: dict[str, Any]) -> None:
        if b"data: x" in message.get("body", b""):
            raise OSError("no such wire")

    call = await served.call(send=fail_on_events).opened()
    await served.hub.publish("a", "x")
    await call.answered()
    assert served.empty
    assert served.streams.transports[Transport.ASGI].ended == {EndReason.ERROR: 1}


async def test_a_server_that_cancels_gets_its_cancellation(served: Served) -> None:
    call = await served.call().opened()
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert served.empty


async def test_a_hub_that_closes_ends_streams_without_a_last_chunk_and_without_an_exception(served: Served) -> None:
    call = await served.call().opened()
    await served.hub.close()
    await call.answered()
    assert call.task.cancelling() == 0
    assert all(message["more_body"] for message in call.sent[1:])
    assert served.empty
    assert served.streams.transports[Transport.ASGI].ended == {EndReason.SHUTDOWN: 1}


async def test_a_stream_that_is_too_slow_is_let_go_while_its_send_is_suspended(served: Served) -> None:
    async def never(message: dict[str, Any]) -> None:
        if b"data: x" in message.get("body", b""):
            await asyncio.Event().wait()

    call = await served.call(send=never).opened()
    await served.hub.publish("a", "x")
    await until(lambda: served.hub.fanout.blocked)
    served.hub.fanout.expire(asyncio.get_running_loop().time(), 0)
    await call.answered()
    assert served.empty
    assert served.streams.transports[Transport.ASGI].ended == {EndReason.SLOW: 1}


async def test_two_reasons_to_end_in_one_turn_of_the_loop_are_one_end(served: Served) -> None:
    suspended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def fail_later(message: dict[str, Any]) -> None:
        if b"data: x" in message.get("body", b""):
            await suspended

    call = await served.call(send=fail_later).opened()
    await served.hub.publish("a", "x")
    await until(lambda: served.hub.fanout.blocked)
    suspended.set_exception(OSError("no such wire"))
    suspended.add_done_callback(lambda _: served.hub.fanout.end_all(EndReason.SLOW))
    await call.answered()
    assert served.empty
    assert served.streams.transports[Transport.ASGI].ended == {EndReason.ERROR: 1}


async def test_an_ended_stream_leaves_nothing_to_the_garbage_collector(served: Served) -> None:
    """Its `send` is the server's connection: some servers hold it open until the last reference is gone."""
    with no_garbage_of("sse_fast"):
        await (await served.call().opened()).leave()
