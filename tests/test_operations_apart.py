"""Who may look into the server, and change what is there: whose grants say so, and who is on this machine itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from front_port import edge_of
from support import PATIENCE, free_port
from test_refusals import client_of

from sse_fast import Settings, create_app
from sse_fast.access.access import Access
from sse_fast.access.grants import OPEN
from sse_fast.access.local import is_local
from sse_fast.access.patterns import Patterns
from sse_fast.access.proxies import TrustedProxies
from sse_fast.edge.app import Edge
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Elsewhere, Subscribe
from sse_fast.protocol.operations import DESCRIBING
from sse_fast.protocol.policy import Operations, Policy
from sse_fast.protocol.request import Request
from sse_fast.transports.kernel import bound_socket
from sse_fast.transports.life import Transport

ROUTES = ("/stats", "/metrics", "/channels", "/channels/news", "/streams", "/streams/0-1", "/presence/news")
ANYBODYS = ("/", "/livez", "/readyz", "/healthz")


# ---- whether a request comes from this machine -----------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "local"])
@pytest.mark.parametrize("host", [b"localhost", b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"a.localhost"])
def test_a_program_of_this_machine_that_calls_it_so_is_local(peer: str, host: bytes) -> None:
    assert is_local(peer, {b"host": host}, "1.1", trusted=False)
    assert is_local(peer, {b"host": host}, "2", trusted=False)


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "unknown", "", "test"])
def test_who_comes_from_elsewhere_is_not(peer: str) -> None:
    for trusted in (False, True):
        assert not is_local(peer, {b"host": b"localhost"}, "1.1", trusted=trusted)
        assert not is_local(peer, {b"host": b"localhost", b"x-forwarded-for": b"127.0.0.1"}, "1.1", trusted=trusted)


@pytest.mark.parametrize("host", [b"evil.test", b"evil.test:8000", b"localhost.evil.test", b"", b"[", b"192.0.2.1"])
def test_a_page_whose_name_somebody_has_made_to_mean_this_machine_is_not(host: bytes) -> None:
    assert not is_local("127.0.0.1", {b"host": host}, "1.1", trusted=False)
    assert not is_local("127.0.0.1", {}, "1.1", trusted=False)


@pytest.mark.parametrize(
    "header", [b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip", b"x-forwarded-host", b"x-forwarded-proto"]
)
@pytest.mark.parametrize("value", [b"192.0.2.1", b"127.0.0.1", b""])
def test_what_a_proxy_on_this_machine_forwards_is_not(header: bytes, value: bytes) -> None:
    assert not is_local("127.0.0.1", {b"host": b"localhost", header: value}, "1.1", trusted=False)


def test_nor_what_nginx_forwards_where_nobody_told_it_to_say_for_whom() -> None:
    for version in ("1.0", "1"):  # Granian's word for it is the second
        assert not is_local("127.0.0.1", {b"host": b"127.0.0.1:8000"}, version, trusted=False)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_page_of_another_origin_in_a_browser_of_this_machine_is_not(trusted: bool) -> None:
    headers = {b"host": b"localhost:8000"} | ({b"x-forwarded-for": b"127.0.0.1"} if trusted else {})
    for origin in (b"http://localhost:8000", b"https://localhost:8000"):
        assert is_local("127.0.0.1", headers | {b"origin": origin}, "1.1", trusted=trusted)
    for origin in (b"http://evil.test", b"http://evil.test:8000", b"http://localhost:3000", b"null", b""):
        assert not is_local("127.0.0.1", headers | {b"origin": origin}, "1.1", trusted=trusted)


@pytest.mark.parametrize(
    ("named", "local"),
    [
        (b"127.0.0.1", True),
        (b"::1, 127.0.0.1", True),
        (b"192.0.2.1", False),
        (b"127.0.0.1, 192.0.2.1", False),  # a client wrote the first, the proxy the last
        (b"192.0.2.1, 127.0.0.1", False),
        (b"unknown", False),
        (b"", False),
    ],
)
def test_of_a_trusted_proxy_on_this_machine_everybody_whom_it_names_has_to_be(named: bytes, local: bool) -> None:
    headers = {b"host": b"localhost", b"x-forwarded-for": named, b"x-forwarded-proto": b"https"}
    assert is_local("127.0.0.1", headers, "1.1", trusted=True) is local


def test_a_trusted_proxy_that_names_its_client_in_other_words_has_not_named_it() -> None:
    assert not is_local("127.0.0.1", {b"host": b"localhost", b"x-real-ip": b"192.0.2.1"}, "1.1", trusted=True)


# ---- what is decided -------------------------------------------------------------------------------------------------


def granting(**grants: Any) -> Policy:
    return Policy(access=Access(everybody=replace(OPEN, **grants)))


@pytest.mark.parametrize("path", ROUTES)
def test_a_route_of_operations_is_for_this_machine_or_for_grants_of_it(path: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        decision = decide(Request(method, path), Policy())
        assert isinstance(decision, Elsewhere)
        assert decision.operations
        assert decision.from_outside is not None
        assert decision.from_outside.status == 403
        assert b"operates this server" in decision.from_outside.body
        granted = decide(Request(method, path), granting(operations=True))
        assert isinstance(granted, Elsewhere)
        assert granted.from_outside is None


@pytest.mark.parametrize("path", DESCRIBING)
def test_what_describes_the_server_is_for_everybody_or_for_who_operates_it(path: str) -> None:
    public = decide(Request("GET", path), Policy())
    assert isinstance(public, Elsewhere)
    assert public.from_outside is None
    private = Policy(private_schema=True)
    closed = decide(Request("GET", path), private)
    assert isinstance(closed, Elsewhere)
    assert closed.from_outside is not None
    assert closed.from_outside.status == 403
    granted = decide(Request("GET", path), replace(granting(operations=True), private_schema=True))
    assert isinstance(granted, Elsewhere)
    assert granted.from_outside is None
    apart = decide(Request("GET", path), replace(private, operations=Operations.APART))
    assert isinstance(apart, Answer)
    assert apart.status == 404
    assert isinstance(decide(Request("GET", path), replace(private, operations=Operations.ALONE)), Elsewhere)


@pytest.mark.parametrize("path", ["/channels/news", "/streams", "/streams/0-1"])
def test_what_changes_something_takes_grants_or_a_port_of_their_own(path: str) -> None:
    """On this machine may be a proxy of everybody's that says nothing of its clients."""
    wanted = Request("DELETE", path, headers={b"host": b"localhost"})
    refused = decide(wanted, Policy())
    assert isinstance(refused, Answer)
    assert (refused.status, refused.refused) == (403, "forbidden")
    assert b"to be on this machine is not enough" in refused.body
    granted = decide(wanted, granting(operations=True))
    assert isinstance(granted, Elsewhere)
    assert granted.from_outside is None
    alone = decide(wanted, Policy(operations=Operations.ALONE))
    assert isinstance(alone, Elsewhere)
    assert alone.from_outside is not None, "at that port by who is on this machine, where it is for those"


@pytest.mark.parametrize("path", [*ANYBODYS, "/nope", "/stats/", "/channelsx", "/streamsx", "/statsx", "/metrics\n"])
def test_no_other_route_is(path: str) -> None:
    decision = decide(Request("GET", path), Policy())
    assert isinstance(decision, Elsewhere)
    assert not decision.operations
    assert decision.from_outside is None


@pytest.mark.parametrize("query", [b"channel=$stats", b"channel=news&channel=$stats", b"channel=%24stats"])
def test_so_is_the_channel_of_the_figures(query: bytes) -> None:
    decision = decide(Request("GET", "/sse", query), Policy())
    assert isinstance(decision, Subscribe)
    assert decision.from_outside is not None
    assert decision.from_outside.status == 403
    assert b"$stats" in decision.from_outside.body
    granted = decide(Request("GET", "/sse", query), granting(operations=True))
    assert isinstance(granted, Subscribe)
    assert granted.from_outside is None


@pytest.mark.parametrize("transport", Transport)
async def test_whether_it_is_there_is_asked_by_head_as_by_get(transport: Transport) -> None:
    async with edge_of(trusted_proxies=["127.0.0.1"]) as edge, client_of(edge, transport) as client:
        assert (await client.head("/sse/$stats")).status_code == 200
        far = {"x-forwarded-for": "192.0.2.1"}
        for path in ("/sse/$stats", "/sse?channel=news&channel=$stats"):
            assert (await client.head(path, headers=far)).status_code == 403
        assert (await client.head("/sse?channel=news&channel=$stats&allowed=only", headers=far)).status_code == 200


@pytest.mark.parametrize("query", [b"channel=$stats&pattern=**", b"pattern=**", b"channel=$stats&channel=news"])
def test_the_port_of_operations_has_that_channel_and_no_others(query: bytes) -> None:
    refused = decide(Request("GET", "/sse", query), Policy(operations=Operations.ALONE, anybody_operates=True))
    assert isinstance(refused, Answer)
    assert refused.status == 400
    assert b"no others" in refused.body


def test_who_may_operate_is_told_where_where_it_is_not_here() -> None:
    apart = {"operations": Operations.APART}
    told = decide(Request("GET", "/stats"), replace(granting(operations=True), **apart))  # type: ignore[arg-type]
    assert isinstance(told, Answer)
    assert (told.status, b"at the port of operations" in told.body) == (404, True)
    stranger = decide(Request("GET", "/stats"), replace(Policy(), **apart))  # type: ignore[arg-type]
    assert isinstance(stranger, Answer)
    assert (stranger.status, b"operations" in stranger.body) == (404, False)


def test_grants_that_name_it_have_it_and_those_of_every_channel_do_not() -> None:
    wanted = Request("GET", "/sse/$stats")
    named = decide(wanted, granting(subscribe=Patterns.of(["$stats"])))
    assert isinstance(named, Subscribe)
    assert named.from_outside is None
    everything = decide(wanted, Policy())
    assert isinstance(everything, Subscribe)
    assert everything.from_outside is not None


@pytest.mark.parametrize("path", [*ROUTES, "/sse/$stats", "/sse"])
def test_with_a_port_of_their_own_they_are_gone_from_the_public_one_for_everybody(path: str) -> None:
    query = b"channel=$stats" if path == "/sse" else b""
    for policy in (Policy(), granting(operations=True)):
        decision = decide(Request("GET", path, query), replace(policy, operations=Operations.APART))
        assert isinstance(decision, Answer)
        assert decision.status == (400 if "sse" in path else 404)


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/sse/news", b""),
        ("GET", "/sse", b"channel=news&channel=$stats"),
        ("POST", "/publish/news", b""),
        ("POST", "/publish", b""),
        ("GET", "/nope", b""),
    ],
)
def test_that_port_has_nothing_else(method: str, path: str, query: bytes) -> None:
    alone = replace(granting(operations=True), operations=Operations.ALONE)
    decision = decide(Request(method, path, query), alone)
    assert isinstance(decision, Answer)
    assert decision.status in (400, 404)
    assert b"port of operations" in decision.body


@pytest.mark.parametrize("path", [*ROUTES, *ANYBODYS, "/sse/$stats"])
def test_it_has_them_and_the_page_and_health(path: str) -> None:
    alone = replace(granting(operations=True), operations=Operations.ALONE)
    assert isinstance(decide(Request("GET", path), alone), Elsewhere | Subscribe)


# ---- what is answered, in process ------------------------------------------------------------------------------------


@asynccontextmanager
async def asking(
    edge: Edge, *, peer: str = "127.0.0.1", host: str = "localhost", **headers: str
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(edge, client=(peer, 1234))  # type: ignore[arg-type]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=named) as client:
        yield client


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Edge]]:
    made: list[Edge] = []

    def make(**settings: Any) -> Edge:
        made.append(create_app(Settings(**settings)))
        return made[-1]

    yield make
    for edge in made:
        await edge.close()


STRANGERS: list[dict[str, str]] = [
    {"peer": "192.0.2.1"},
    {"host": "evil.test"},
    {"x_forwarded_for": "192.0.2.1"},
    {"x_forwarded_for": "127.0.0.1"},
    {"forwarded": "for=192.0.2.1"},
]


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_strangers_learn_nothing_and_change_nothing(make: Callable[..., Edge], stranger: dict[str, str]) -> None:
    edge = make()
    await edge.hub.publish("news", "kept")
    edge.hub.fanout.index.take_in()
    async with asking(edge, **stranger) as client:
        for path in ("/stats", "/metrics", "/channels", "/channels/news", "/streams", "/streams?user=u", "/sse/$stats"):
            for method in ("GET", "HEAD", "DELETE"):
                if "sse" not in path or method != "DELETE":
                    answer = await client.request(method, path)
                    assert answer.status_code == 403, path
                    assert answer.headers["content-type"] == "application/problem+json"
        health = await client.get("/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        for path in ("/livez", "/readyz", "/"):
            assert (await client.get(path)).status_code == 200
    kept = edge.hub.fanout.index.get(b"news")
    assert kept is not None
    assert kept.kept == 1


async def test_this_machine_does(make: Callable[..., Edge]) -> None:
    edge = make()
    await edge.hub.publish("news", "kept")
    edge.hub.fanout.index.take_in()
    async with asking(edge) as client:
        for path in ("/stats", "/metrics", "/channels", "/channels/news", "/streams"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/channels/news", "/streams?channel=news", "/streams/0-1"):
            assert (await client.delete(path)).status_code == 403, path
        assert edge.hub.fanout.index.get(b"news").kept == 1  # type: ignore[union-attr]
        assert (await client.get("/healthz")).json().keys() > {"status", "version", "connections"}


async def test_a_trusted_proxy_s_clients_are_where_it_says(make: Callable[..., Edge]) -> None:
    edge = make(trusted_proxies=["127.0.0.1"])
    async with asking(edge, x_forwarded_for="192.0.2.1") as client:
        assert (await client.get("/stats")).status_code == 403
    async with asking(edge, x_forwarded_for="127.0.0.1") as client:
        assert (await client.get("/stats")).status_code == 200


# ---- at a port of their own ------------------------------------------------------------------------------------------


@asynccontextmanager
async def at_its_port(**settings: Any) -> AsyncIterator[tuple[Edge, int]]:
    port = free_port()
    chosen = Settings(operations_port=port, **settings)
    edge = Edge(chosen, operations=bound_socket(chosen.operations_host, port, None))
    await edge.prepare()
    edge._start_up()
    try:
        yield edge, port
    finally:
        await edge.close()


async def test_a_port_of_their_own_answers_by_itself() -> None:
    async with at_its_port() as (edge, port), httpx.AsyncClient(base_url=f"http://localhost:{port}") as client:
        await edge.hub.publish("news", "kept")
        edge.hub.fanout.index.take_in()
        for path in ("/stats", "/metrics", "/channels", "/", "/livez", "/readyz"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/channels/news")).json()["kept"] == 1
        assert (await client.delete("/channels/news")).status_code == 200
        assert (await client.head("/stats")).content == b""
        assert (await client.get("/healthz")).json()["connections"] == 0
        assert (await client.post("/stats", content=b"x" * 100_000)).status_code == 405
        assert (await client.get("/nope")).status_code == 404
        assert (await client.post("/publish/news", content=b"no")).status_code == 404
        assert (await client.get("/sse/news")).status_code == 400
        async with client.stream("GET", "/sse/$stats", timeout=PATIENCE) as stream:
            async with asyncio.timeout(PATIENCE):
                async for line in stream.aiter_lines():
                    if line.startswith("data: {") and "uptime" in line:
                        assert json.loads(line.removeprefix("data: "))["published"] == 1
                        break
        # The public one has none of them.
        async with asking(edge) as public:
            for path in ("/stats", "/metrics", "/channels", "/channels/news", "/streams"):
                assert (await public.get(path)).status_code == 404, path
            assert (await public.get("/sse/$stats")).status_code == 400
            assert (await public.get("/")).status_code == 200


async def test_bound_to_loopback_it_is_for_this_machine() -> None:
    async with at_its_port() as (_, port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for headers in ({"host": "evil.test"}, {"x-forwarded-for": "192.0.2.1"}):
            for path in ("/stats", "/sse/$stats"):
                assert (await client.get(path, headers=headers)).status_code == 403


async def test_bound_elsewhere_it_is_for_who_reaches_it_by_an_address_and_for_no_page_by_a_name() -> None:
    reached = at_its_port(operations_host="0.0.0.0")
    async with reached as (_, port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/stats", headers={"host": f"192.0.2.1:{port}"})).status_code == 200
        assert (await client.get("/stats", headers={"x-forwarded-for": "192.0.2.1"})).status_code == 200
        assert (await client.get("/stats", headers={"host": "evil.test"})).status_code == 403
        assert (await client.get("/stats", headers={"origin": "http://evil.test"})).status_code == 403


async def test_where_any_page_may_read_answers_the_figures_are_for_none(make: Callable[..., Edge]) -> None:
    async with asking(make(cors_origins=["*"])) as client:
        assert (await client.get("/streams")).status_code == 200
        for origin in ("http://evil.test", "null"):
            answer = await client.get("/streams", headers={"origin": origin})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (403, "*")


async def test_a_lone_app_has_no_port_of_its_own_and_keeps_its_routes(make: Callable[..., Edge]) -> None:
    edge = make(operations_port=free_port())
    async with asking(edge) as client:
        assert (await client.get("/stats")).status_code == 200


def test_proxies_that_are_trusted_are_asked_for() -> None:
    policy = Policy(proxies=TrustedProxies(["127.0.0.1"]))
    request = Request("GET", "/stats", headers={b"host": b"localhost", b"x-forwarded-for": b"127.0.0.1"})
    assert policy.is_local(request, "127.0.0.1")
    assert not policy.is_local(request, "192.0.2.1")
    assert not Policy().is_local(request, "127.0.0.1")


async def test_the_rate_of_a_channel_that_has_forgotten_its_events_is_over_the_whole_minute() -> None:
    async with at_its_port() as (edge, port), httpx.AsyncClient(base_url=f"http://localhost:{port}") as client:
        for number in range(6):
            await edge.hub.publish("news", str(number))
        edge.hub.fanout.index.take_in()
        assert (await client.get("/channels/news")).json()["rate"] == 0.1
        await edge.hub.forget("news")
        edge.hub.fanout.index.take_in()
        forgotten = (await client.get("/channels/news")).json()
        assert (forgotten["kept"], forgotten["rate"]) == (1, 0.017), "the event that says it"
        await edge.hub.publish("news", "after")
        edge.hub.fanout.index.take_in()
        assert (await client.get("/channels/news")).json()["rate"] == 0.033


async def test_the_rate_of_a_channel_whose_events_were_evicted_is_over_the_time_that_the_log_has_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_its_port(log_size="64KiB", max_event_size="16KiB") as (edge, port):
        await edge.hub.publish("news", "first")
        while not edge.hub.log.tail:
            await edge.hub.publish("others", "x" * 1000)
            edge.hub.fanout.index.take_in()
        await edge.hub.publish("news", "last")
        edge.hub.fanout.index.take_in()
        oldest = next(edge.hub.log.records()).milliseconds / 1000
        monkeypatch.setattr("sse_fast.edge.operations.time", SimpleNamespace(time=lambda: oldest + 2))
        async with httpx.AsyncClient(base_url=f"http://localhost:{port}") as client:
            assert (await client.get("/channels/news")).json()["rate"] == 0.5
