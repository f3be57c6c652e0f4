"""Rates: what one client may ask for in a time, by whichever transport and worker, and what one is told that asks too
often."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from front_port import by_asgi, edge_of
from hypothesis import given
from hypothesis import strategies as st
from support import until
from whatwg import Parser

from sse_fast._native.node.buckets import Buckets, Limit
from sse_fast.access.grants import Grants
from sse_fast.access.limits import Admission
from sse_fast.access.patterns import EVERYTHING
from sse_fast.access.rates import RATES, Rate, Rates
from sse_fast.edge.app import Edge
from sse_fast.errors import EndReason, Overloaded, RateLimited
from sse_fast.event import EventId
from sse_fast.hub.hub import Hub
from sse_fast.hub.recall import Event, Recalled
from sse_fast.node.segment import create_shared, segment_size
from sse_fast.node.workers import Node, WorkerSlot
from sse_fast.protocol.decision import Subscribe
from sse_fast.settings import BadSettings, Settings
from sse_fast.transports.life import Transport
from sse_fast.transports.posts import Publisher, limited
from sse_fast.transports.streams import LONGEST_WAIT, Streams

pytestmark = pytest.mark.usefixtures("nothing_set")

PROXY = ["127.0.0.1"]


def rates_of(**given: str) -> Rates:
    buckets = Buckets.private(64)
    read = {name: Rate.read(rate, of_bytes=name == "rate_replay") for name, rate in given.items()}
    return Rates(read, lambda name, rate: Limit(buckets, RATES.index(name), *rate))


@asynccontextmanager
async def client_of(edge: Edge, transport: Transport, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """One connection."""
    if transport is Transport.ASGI:
        async with by_asgi(edge) as client:
            client.headers.update(headers)
            yield client
    else:
        assert edge.front is not None
        limits = httpx.Limits(max_connections=1)
        url = f"http://127.0.0.1:{edge.front.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits) as client:
            yield client


# ---- how a rate is written ----


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1, 100)),
        ("600/min", Rate(600, 60, 600)),
        ("5/h", Rate(5, 3600, 5)),
        ("600/min,burst=50", Rate(600, 60, 50)),
        (" 600 / min , burst = 50 ", Rate(600, 60, 50)),
    ],
)
def test_a_rate_is_read_as_it_is_written(text: str, rate: Rate) -> None:
    assert Rate.read(text) == rate
    assert Settings(rate_open=text).rates == {"rate_open": rate}


def test_a_rate_of_bytes_has_their_units() -> None:
    assert Rate.read("64MiB/min", of_bytes=True) == Rate(2**26, 60, 2**26)
    assert Rate.read("1MB/s,burst=2GiB", of_bytes=True) == Rate(10**6, 1, 2**31)
    assert Rate.read("1000/s", of_bytes=True) == Rate(1000, 1, 1000)


WRONG = ["", "100", "/s", "0/s", "-1/s", "1.5/s", "100/d", "100/sec", "100/s,50", "100/s,burst=0", "1MiB/s", "1XB/s"]


@pytest.mark.parametrize("text", [*WRONG, f"{10**13}/s"])
def test_what_is_no_rate_is_refused_and_told_how_one_is_written(text: str) -> None:
    with pytest.raises(BadSettings, match=r"rate-open.*is no rate; (write 100/s|both numbers)"):
        Settings.load({"rate_open": text})


# ---- who is counted ----


def test_who_may_not_by_its_credential_has_used_nothing_of_its_address() -> None:
    rates = rates_of(rate_open="2/h", rate_replay="10B/h")
    rates.opening("192.0.2.1", "one")
    rates.opening("192.0.2.2", "one")
    with pytest.raises(RateLimited):
        rates.opening("192.0.2.3", "one")
    rates.opening("192.0.2.3", "other", replayed=10)
    with pytest.raises(RateLimited, match="kept events"):
        rates.opening("192.0.2.3", "other", replayed=1)
    rates.opening("192.0.2.3", "other")
    with pytest.raises(RateLimited, match="streams were opened"):
        rates.opening("192.0.2.3")
    assert rates.refused == {"rate_open": 2, "rate_replay": 1}


def test_what_was_not_published_was_not_used() -> None:
    rates = rates_of(rate_publish="3/h", rate_publish_channel="2/h")
    rates.publishing("192.0.2.1", None, 3)
    rates.publishing_to([(b"a", 1), (b"b", 2)])
    rates.published_nothing("192.0.2.1", None, 3, [(b"a", 1), (b"b", 2)])
    with pytest.raises(RateLimited, match="to one channel"):
        rates.publishing_to([(b"a", 2), (b"b", 2), (b"c", 1), (b"a", 1)])
    rates.publishing_to([(b"a", 2), (b"b", 2), (b"c", 2)])
    assert [rates.publishes_one("192.0.2.1", None, channel) for channel in (b"a", b"d", b"d", b"d", b"e")] == [
        *(False, True, True, False, True)
    ], "neither has who was refused for a channel"
    assert not rates.publishes_one("192.0.2.1", None, b"f")
    assert rates.refused == {"rate_publish_channel": 1}


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_publisher_past_its_rate_is_answered_429_and_told_when_to_come_back(transport: Transport) -> None:
    async with edge_of(rate_publish="3/h") as edge, client_of(edge, transport) as client:
        answers = [await client.post("/publish/a", content="x") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"].startswith("more events were published than this server lets one client")
        assert 1190 <= int(refused.headers["retry-after"]) <= 1200
        assert edge.hub.published == 3
        stats = edge.metrics.snapshot()
        assert (stats["refused_by"]["rate_publish"], stats["refused_by"]["rate_publish_channel"]) == (1, 0)
        assert b'sse_fast_refused_total{reason="rate_publish"} 1.0' in edge.metrics.exposition()[0]


async def test_a_publisher_whose_requests_are_known_is_counted_as_any_other() -> None:
    async with edge_of(rate_publish="5/h", rate_publish_channel="4/h") as edge:
        assert edge.front is not None
        async with client_of(edge, Transport.NATIVE) as client:
            names = ["a", "a", "a", "b", "a", "b"]
            answers = [(await client.post(f"/publish/{name}", content="x")).status_code for name in names]
        assert answers == [200] * 5 + [429]
        assert edge.front.listener is not None
        assert edge.front.listener.posts is not None
        assert edge.front.listener.posts.taken == 4
        assert edge.hub.published == 5


async def test_a_channel_past_its_rate_takes_no_more_whoever_publishes() -> None:
    async with edge_of(rate_publish_channel="3/h", trusted_proxies=PROXY) as edge:
        for number in range(5):
            async with client_of(edge, Transport.NATIVE, **{"X-Forwarded-For": f"192.0.2.{number}"}) as client:
                answers = [
                    (await client.post(f"/publish/{name}", content="x")).status_code for name in ("a", f"{number}")
                ]
                assert answers == [200 if number < 3 else 429, 200]


@pytest.mark.parametrize("transport", list(Transport))
async def test_behind_a_proxy_each_client_has_its_own_rate_by_whichever_spelling_of_its_address(
    transport: Transport,
) -> None:
    async with edge_of(rate_publish="2/h", trusted_proxies=PROXY) as edge:
        for spelled, status in (
            ("192.0.2.1:1000", 200),
            ("192.0.2.2", 200),
            ("[::ffff:192.0.2.1]:1001", 200),
            ("192.0.2.1:1002", 429),
            ("::FFFF:192.0.2.1", 429),
            ("6.6.6.6, 192.0.2.1", 429),
            ("192.0.2.2:7", 200),
            ("2001:db8::1", 200),
            ("2001:DB8::2", 200),
            ("[2001:db8:0:0:9::1]:80", 429),
            ("2001:db8:0:1::1", 200),
        ):
            async with client_of(edge, transport, **{"X-Forwarded-For": spelled}) as client:
                for _ in range(2 if status == 429 else 1):  # the second of a connection may be known
                    assert (await client.post("/publish/a", content="x")).status_code == status, spelled


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_the_events_of_a_batch_count_each_and_in_each_of_their_channels(kind: str) -> None:
    events = [json.dumps({"channels": ["a", "b"], "data": 1})] + [json.dumps({"channel": "a", "data": 1})] * 2
    body = "\n".join(events) if "nd" in kind else f"[{','.join(events)}]"

    async def published(**rates: str) -> list[int]:
        async with edge_of(**rates) as edge, client_of(edge, Transport.NATIVE) as client:
            headers = {"content-type": kind}
            return [(await client.post("/publish", content=body, headers=headers)).status_code for _ in range(3)]

    assert await published(rate_publish="6/h") == [200, 200, 429]
    assert await published(rate_publish="8/h") == [200, 200, 429]
    assert await published(rate_publish_channel="6/h") == [200, 200, 429]
    assert await published(rate_publish_channel="9/h") == [200, 200, 200]
    assert await published(rate_publish="2/h") == [200, 429, 429], "a batch larger than all is taken once, and is owed"


async def test_a_large_batch_over_many_channels_counts_as_a_small_one() -> None:
    lines = "\n".join(f'{{"channel":"c:{number % 5000}","data":{number}}}' for number in range(10_000))
    rates = {"rate_publish_channel": "3/h", "rate_publish": "1000000/h"}
    async with edge_of(**rates) as edge, client_of(edge, Transport.ASGI) as client:  # to which a front relays it
        headers = {"content-type": "application/x-ndjson"}
        answers = [(await client.post("/publish", content=lines, headers=headers)).status_code for _ in range(2)]
        assert answers == [200, 429]
        for number in (0, 4999):
            assert (await client.post(f"/publish/c/{number}", content="x")).status_code == 200, "nothing was used"
            assert (await client.post(f"/publish/c/{number}", content="x")).status_code == 429


async def test_a_batch_that_is_refused_for_another_reason_has_used_nothing() -> None:
    rates = {"rate_publish_channel": "2/h", "rate_publish": "2/h"}
    async with edge_of(**rates) as edge, client_of(edge, Transport.NATIVE) as client:

        async def published(data: str) -> int:
            return (await client.post("/publish/a", content=data, headers={"idempotency-key": '"k"'})).status_code

        assert await published("x") == 200
        for _ in range(5):
            assert await published("y") == 422
        assert await published("x") == 200
        assert await published("x") == 429


def test_a_known_request_that_was_not_published_after_all_has_used_nothing() -> None:
    edge = Edge(Settings(rate_publish="1/h", rate_publish_channel="1/h", trusted_proxies=PROXY))
    assert edge._streams.rates is not None
    admits, undo = limited(edge.policy, edge._streams.rates)
    for _ in range(3):
        for named in (b"192.0.2.1", b"192.0.2.2"):
            assert admits("127.0.0.1", Publisher(named, "key"), b"a")
            undo("127.0.0.1", Publisher(named, "key"), b"a")
    assert admits("127.0.0.1", Publisher(b"192.0.2.1", "key"), b"a")
    assert not admits("127.0.0.1", Publisher(b"192.0.2.2", "key"), b"b")
    assert not admits("127.0.0.9", Publisher(b"192.0.2.2", None), b"a")


# ---- streams ----


async def first_events(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """Until the first frame, or the end."""
    got = b""
    async with client.stream("GET", path, headers={"accept": "text/event-stream"} | headers) as response:
        try:
            async for piece in response.aiter_raw():
                got += piece
                if b"$connected" in got:
                    break
        except httpx.RemoteProtocolError:
            pass  # it was broken off
    return response, got


async def test_who_opens_streams_too_often_is_told_when_to_come_back_in_a_form_that_it_understands() -> None:
    async with edge_of(rate_open="2/min", retry=1000) as edge:
        for _ in range(2):
            async with client_of(edge, Transport.NATIVE) as client:
                assert b"$connected" in (await first_events(client, "/sse/a"))[1]
        async with client_of(edge, Transport.NATIVE) as client:
            response, body = await first_events(client, "/sse/a")
            assert response.status_code == 200
            events = Parser().feed(body)
            assert [(event.type, json.loads(event.data)) for event in events] == [
                ("$closing", {"reason": "rate_limited"})
            ]
            wait = re.search(rb"retry: (\d+)\n", body)
            assert wait is not None
            assert 29_000 <= int(wait[1]) <= 47_000, "not before it may, and not all at once"
        async with client_of(edge, Transport.NATIVE) as client:
            answer = await client.get("/sse/a", headers={"accept": "application/json"})
            assert answer.status_code == 429
            assert 28 <= int(answer.headers["retry-after"]) <= 30
            assert "more streams were opened" in answer.json()["detail"]
        assert edge.metrics.snapshot()["refused_by"]["rate_open"] == 2


def test_a_stream_for_which_there_is_no_room_has_used_nothing_of_the_rates() -> None:
    hub = Hub(log_size=1 << 20)
    hub.log.append_many([(b"full", b"data: x\n\n"), (b"other", b"data: x\n\n")])
    hub.fanout.index.take_in(1000)
    rates = rates_of(rate_open="2/h", rate_replay="100B/h")
    streams = Streams(hub, Admission(max_connections_per_channel=1), retry=1000, rates=rates)

    def enter(channel: str, **asked: Any) -> None:
        wanted = Subscribe((channel,), grants=Grants(EVERYTHING, credential="one"), **asked)
        streams.enter(streams.counted("192.0.2.1", wanted), Transport.NATIVE, wanted)

    enter("full")
    for _ in range(20):
        with pytest.raises(Overloaded, match="channel full has"):
            enter("full", history=1)
    enter("other", history=1)
    assert rates.refused == {}
    with pytest.raises(RateLimited):
        enter("another")


@pytest.mark.parametrize("transport", list(Transport))
async def test_who_is_refused_streams_counts_as_who_opens_them(transport: Transport) -> None:
    async with edge_of(rate_open="3/h", token_secret="s" * 32) as edge, client_of(edge, transport) as client:
        headers = {"accept": "application/json"}
        for _ in range(4):
            assert (await client.post("/publish/a", content="x")).status_code == 401, "is no stream"
        bad = {"authorization": "Bearer a.b.c"}
        given = [{}, bad, {}, {}, bad]
        answers = [(await client.get("/sse/a", headers=headers | more)).status_code for more in given]
        assert answers == [401, 401, 401, 429, 429]
        assert edge.metrics.snapshot()["refused_by"]["rate_open"] == 2
        if transport is Transport.NATIVE:  # what is broken off this client does not take by the other
            _, told = await first_events(client, "/sse/a")
            assert b"rate_limited" in told


@pytest.mark.parametrize("transport", list(Transport))
async def test_who_asks_for_the_head_of_a_stream_counts_as_who_opens_it(transport: Transport) -> None:
    async with edge_of(rate_open="3/h") as edge, client_of(edge, transport) as client:
        for _ in range(4):
            assert (await client.head("/publish/a")).status_code == 405, "is no stream"
        answers = [await client.head("/sse/a") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) > 60
        assert edge.metrics.snapshot()["refused_by"]["rate_open"] == 1


async def test_the_replays_of_patterns_count_too() -> None:
    async with edge_of(rate_replay="150KB/h") as edge:
        for number in range(100):
            await edge.hub.publish(f"a:{number % 3}", "x" * 1000)
        await until(lambda: edge.hub.fanout.index.position == edge.hub.log.position)
        answers = []
        for path in ("/sse?pattern=a:*&history=100", "/sse?pattern=a:*", "/sse?pattern=a:*&last_event_id=earliest"):
            async with client_of(edge, Transport.NATIVE) as client:
                answers.append(b"$connected" in (await first_events(client, path))[1])
        assert answers == [True, True, False]


async def test_what_was_read_of_a_backplane_for_a_stream_counts_as_its_replay() -> None:
    async with edge_of(rate_replay="150KB/h") as edge:
        id = await edge.hub.publish("a", "x")
        read = [Event(1, (b"a",), b"data: " + b"x" * 100_000 + b"\n\n", 0)]
        recalled = Recalled(read, EventId.parse(str(id)), lambda name: True, EventId.parse(str(id)))  # type: ignore[arg-type]
        wanted = Subscribe(channels=("a",), last_event_id="unknown-1")
        edge._streams.enter("127.0.0.1", Transport.NATIVE, wanted, unread=True)
        edge._streams.was_read("127.0.0.1", wanted, recalled)
        with pytest.raises(RateLimited):
            edge._streams.was_read("127.0.0.1", wanted, recalled)


async def test_who_opens_streams_too_often_by_asgi_is_told_as_well() -> None:
    async with edge_of(rate_open="1/h") as edge, by_asgi(edge) as client:
        assert edge._streams.rates is not None
        edge._streams.rates.opening("127.0.0.1")
        answer = await client.get("/sse/a", headers={"accept": "application/json"})
        assert answer.status_code == 429
        assert 3500 < int(answer.headers["retry-after"]) <= 3600


def test_an_eventsource_is_not_sent_away_for_longer_than_it_would_be_remembered() -> None:
    streams = Streams(Hub(log_size=1 << 16), Admission(), retry=1000)
    assert streams.come_back_in(RateLimited("too often", 1e6)) == LONGEST_WAIT


def node_of(**rates: str) -> tuple[Node, list[WorkerSlot]]:
    node = Node.create(create_shared(segment_size(1 << 20)), workers=1, addresses=64, rated=64)
    slots = [WorkerSlot.claim(node.environment()) for _ in range(2)]
    return node, [slot for slot in slots if slot is not None]


async def test_a_rate_is_the_node_s_whichever_worker_is_asked() -> None:
    node, slots = node_of()
    async with edge_of(slot=slots[0], rate_publish="5/h") as one, edge_of(slot=slots[1], rate_publish="5/h") as other:
        answers = []
        async with client_of(one, Transport.NATIVE) as client, client_of(other, Transport.NATIVE) as second:
            for _ in range(4):
                answers += [(await each.post("/publish/a", content="x")).status_code for each in (client, second)]
        assert answers == [200] * 5 + [429] * 3
    node.close()


# ---- what is replayed ----

sizes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300)), max_size=60)


@given(sizes, st.integers(0, 70), st.none() | st.integers(0, 70))
def test_what_a_stream_would_begin_with_is_known_before_it_is_opened(
    events: list[tuple[str, int]], history: int, after: int | None
) -> None:
    hub = Hub(log_size=1 << 20)
    if events:
        hub.log.append_many([(name.encode(), b"data: " + b"x" * size + b"\n\n") for name, size in events])
    hub.fanout.index.take_in(1000)
    newest = hub.log.position
    first = newest - len(events) + 1
    kept = [(first + at, name, size) for at, (name, size) in enumerate(events)]
    id = None if after is None else hub.event_id(min(first - 1 + after, newest))
    cursor = None if after is None else min(first - 1 + after, newest)
    for channels in (("a",), ("a", "b")):
        mine = [(position, size) for position, name, size in kept if name in channels]
        if cursor is not None:
            mine = [(position, size) for position, size in mine if position > cursor]
        else:
            mine = mine[len(mine) - min(history, len(mine)) :]
        told = hub.to_replay(channels, id, history)
        least = sum(8 + size for _, size in mine)
        assert least <= told <= least + 50 * len(mine), "its frames, with their ids"


async def test_replayed_bytes_count_and_live_streams_do_not() -> None:
    async with edge_of(rate_replay="150KB/h") as edge:
        for _ in range(100):
            await edge.hub.publish("a", "x" * 1000)
        await until(lambda: edge.hub.fanout.index.position == edge.hub.log.position)
        answers = []
        for path in ("/sse/a?history=100", "/sse/a", "/sse/a?history=100", "/sse/a", "/sse/a?last_event_id=earliest"):
            async with client_of(edge, Transport.NATIVE) as client:
                answers.append(b"$connected" in (await first_events(client, path))[1])
        assert answers == [True, True, False, True, False]
        async with client_of(edge, Transport.NATIVE) as client:
            newest = edge.hub.event_id(edge.hub.log.position)
            assert b"$connected" in (await first_events(client, "/sse/a", **{"last-event-id": newest}))[1]
        assert edge.metrics.snapshot()["refused_by"]["rate_replay"] == 2


# ---- streams at once ----


def subscribe(*channels: str, credential: str | None = None) -> Subscribe:
    return Subscribe(channels, grants=Grants(EVERYTHING, EVERYTHING, credential=credential))


def test_a_channel_and_a_credential_have_so_many_streams_on_the_node() -> None:
    node, slots = node_of()
    hub = Hub(log_size=1 << 16)
    workers = [
        Streams(hub, Admission(max_connections_per_channel=2, max_connections_per_token=3, tally=slot), retry=1000)
        for slot in slots
    ]
    one, other = workers

    def enter(worker: Streams, address: str, wanted: Subscribe) -> Any:
        counted = worker.counted(address, wanted)
        worker.enter(counted, Transport.NATIVE, wanted)
        return counted

    first = enter(one, "192.0.2.1", subscribe("a", "b"))
    enter(other, "192.0.2.1", subscribe("c", "a"))
    for worker in workers:
        with pytest.raises(Overloaded, match="channel a has all 2 streams that one channel may have"):
            enter(worker, "192.0.2.2", subscribe("d", "a"))
        enter(worker, "192.0.2.2", subscribe("d"))
    with pytest.raises(Overloaded, match="channel d has"):
        enter(one, "192.0.2.2", subscribe("d"))
    assert one._admission.refused == {"max_connections_per_channel": 2}
    one._admission.leave(first)
    enter(other, "192.0.2.2", subscribe("a"))
    by_pattern = [subscribe()._replace(patterns=patterns) for patterns in (("a:*",), ("a:*", "a:**"))]
    entered = [enter(workers[number], "192.0.2.2", wanted) for number, wanted in enumerate(by_pattern)]
    for worker in workers:
        with pytest.raises(Overloaded, match=r"channel a:\* has all 2"):
            enter(worker, "192.0.2.2", by_pattern[0])
    for worker, counted in zip(workers, entered, strict=True):
        worker._admission.leave(counted)
    for number in range(3):
        enter(workers[number % 2], f"192.0.2.{number}", subscribe(f"of:{number}", credential="one"))
    for worker in workers:
        with pytest.raises(Overloaded, match="this credential has all 3 streams open that one may have"):
            enter(worker, "192.0.2.9", subscribe("e", credential="one"))
        enter(worker, "192.0.2.9", subscribe("f", credential="other"))
    assert one._admission.connections + other._admission.connections == 9
    node.close()


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_stream_that_ends_gives_its_channels_back(transport: Transport) -> None:
    async with edge_of(max_connections_per_channel=1) as edge:
        for _ in range(3):
            if transport is Transport.NATIVE:
                async with client_of(edge, transport) as client:
                    assert b"$connected" in (await first_events(client, "/sse?channel=a&channel=b"))[1]
            else:
                wanted = subscribe("a", "b")
                counted = edge._streams.counted("192.0.2.1", wanted)
                life = edge._streams.enter(counted, transport, wanted)
                edge._streams.left(counted, EndReason.CLIENT, transport, life)
            await until(lambda: edge._admission.connections == 0)
            assert edge._admission._tally.by_address == {}  # type: ignore[attr-defined]
