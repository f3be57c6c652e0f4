"""The decision as a function: a request's head and a policy in, what is to be done out."""

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from sse_fast.access.access import Access
from sse_fast.access.grants import OPEN as OPEN_TO_ALL
from sse_fast.access.grants import Grants
from sse_fast.access.origins import ALLOWED_HEADERS, ALLOWED_METHODS, EXPOSED_HEADERS, Origins
from sse_fast.access.patterns import Patterns
from sse_fast.access.proxies import TrustedProxies
from sse_fast.access.publishers import WITH_THE_KEY, Publishers
from sse_fast.access.tokens import Tokens
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import STREAM_HEADERS, Answer, Decision, Elsewhere, Form, Publish, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import READ, Request

KEY = Access(publishers=Publishers("s3cret"))
HERE = "http://page.example"
PLAIN = Policy(max_channels=4, max_history=100, max_event_size=10, max_json_size=20, max_body_size=30)
OPEN = Policy(origins=Origins([HERE]))
KEYED = Policy(access=KEY)
POLICIES = [
    PLAIN,
    OPEN,
    KEYED,
    Policy(origins=Origins(["*"])),
    Policy(origins=Origins([HERE]), access=KEY),
    Policy(access=Access(tokens=Tokens(everybody=Grants(Patterns.of(["a"]))), cookie="c", in_query=True)),
]


def test_under_a_path_errors_name_it() -> None:
    policy = Policy(path="/edge")
    for head, told in (
        ("GET /edge/sse", "name a channel: /edge/sse/"),
        ("GET /edge/publish/a", "for /edge/publish/a;"),
    ):
        answer = asked(head, policy)
        assert isinstance(answer, Answer)
        assert told in json.loads(answer.body)["detail"]


def asked(head: str, policy: Policy = PLAIN, /, **headers: str) -> Decision:
    """What is decided about `METHOD TARGET`; in names of headers `_` is `-`."""
    method, target = head.split(" ")
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return decide(Request.from_head(method, target.encode(), given, "1.1"), policy)


def assert_problem(decision: Decision | None, status: int, *words: str) -> Mapping[bytes, bytes]:
    """A problem with these words; its headers."""
    assert isinstance(decision, Answer)
    assert decision.whole
    said = json.loads(decision.body)
    assert (decision.status, said["status"], said["type"]) == (status, status, "about:blank")
    assert all(word in said["detail"] for word in words), said["detail"]
    headers = dict(decision.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == b"%d" % len(decision.body)
    return headers


@pytest.mark.parametrize(
    ("head", "headers", "decision"),
    [
        ("GET /sse/a", {}, Subscribe(("a",))),
        ("GET /sse/room/1?channel=b", {}, Subscribe(("room:1", "b"))),
        ("GET /sse/%C3%A9", {}, Subscribe(("é",))),
        ("GET /sse/a?history=3", {}, Subscribe(("a",), None, 3)),
        ("GET /sse/a?envelope=json", {}, Subscribe(("a",), envelope=True)),
        ("GET /sse/a", {"last_event_id": "e-7"}, Subscribe(("a",), "e-7")),
        ("GET /sse/a?last_event_id=e-6", {"last_event_id": "e-7"}, Subscribe(("a",), "e-7")),
        ("GET /sse/a", {"accept": "application/json"}, Subscribe(("a",), reads_json=True)),
        ("GET http://host.example/sse/a", {}, Subscribe(("a",))),
        ("GET /sse/a#b", {}, Subscribe(("a",))),
        ("HEAD /sse/a", {}, Answer(200, STREAM_HEADERS)),
        ("OPTIONS /sse/a", {}, Answer(204, ((b"allow", b"GET, HEAD, OPTIONS"),))),
        ("OPTIONS /sse/a/b/c", {}, Answer(204, ((b"allow", b"GET, HEAD, OPTIONS"),))),
        ("POST /publish", {}, Publish(Form.JSON, 20)),
        ("POST /publish", {"content_type": "application/x-ndjson; charset=utf-8"}, Publish(Form.LINES, 30)),
        ("POST /publish/a", {"content_type": "application/x-ndjson"}, Publish(Form.DATA, 10, "a")),
        ("POST /publish/a/b?event=e&retry=7", {}, Publish(Form.DATA, 10, "a:b", "e", 7)),
        ("POST /publish/a", {"content_length": "10", "content_encoding": "Identity"}, Publish(Form.DATA, 10, "a")),
        ("OPTIONS /publish/a", {}, Answer(204, ((b"allow", b"POST"),))),
        *((f"GET {path}", {}, Elsewhere()) for path in ("/", "/statss", "/sses", "//sse/a", "/publisher", "/publish/")),
        *((f"POST {path}", {}, Elsewhere()) for path in ("/publish//b", "/publish/a/", "/publish/a/b/c")),
    ],
)
def test_a_head_means_the_same_every_time(head: str, headers: dict[str, str], decision: Decision) -> None:
    for _ in range(2):
        assert asked(head, PLAIN, **headers) == decision


@pytest.mark.parametrize("path", ["/stats", "/metrics", "/streams/1-7"])
def test_what_looks_into_the_server_is_decided_as_far_as_the_head_says(path: str) -> None:
    decision = asked(f"GET {path}")
    assert isinstance(decision, Elsewhere)
    assert decision == Elsewhere(operations=True, from_outside=decision.from_outside)
    assert_problem(decision.from_outside, 403, "who operates this server")


@pytest.mark.parametrize(
    ("head", "headers", "status", "words"),
    [
        ("GET /sse", {}, 400, "name a channel"),
        ("GET /sse/a?histroy=1", {}, 400, "did you mean 'history'"),
        ("GET /sse/a?history=101", {}, 400, "from 0 to 100"),
        ("GET /sse/a", {"last_event_id": "x" * 513}, 400, "513"),
        ("HEAD /sse/$nothing", {}, 400, "$stats"),
        ("DELETE /sse/a", {}, 405, "not DELETE"),
        ("GET /publish/a", {}, 405, "it takes POST"),
        ("POST /publish?event=a", {}, 400, "'event'"),
        ("POST /publish/a?evnt=a", {}, 400, "'event' and 'retry'"),
        ("POST /publish/a?event=a&event=b", {}, 400, "twice"),
        ("POST /publish/a?retry=-1", {}, 400, "milliseconds"),
        ("POST /publish/a", {"content_length": "11"}, 413, "an event has at most 10"),
        ("POST /publish", {"content_length": "21"}, 413, "JSON has at most 20"),
        ("POST /publish/a", {"content_encoding": "gzip"}, 415, "gzip"),
        ("POST /publish/a", {"origin": "http://evil.example", "host": "127.0.0.1"}, 403, "cors_origins"),
    ],
)
def test_what_may_not_be_is_a_problem_that_says_why(
    head: str, headers: dict[str, str], status: int, words: str
) -> None:
    assert_problem(asked(head, PLAIN, **headers), status, words)


def test_who_may_not_publish_is_told_so_before_anything_of_his_request_is_looked_at() -> None:
    for head in ("POST /publish", "POST /publish/a?nonsense=1"):
        headers = assert_problem(asked(head, KEYED, authorization="Bearer wrong"), 401, "not the publish key")
        assert headers[b"www-authenticate"].startswith(b'Bearer error="invalid_token", error_description="')
        assert assert_problem(asked(head, KEYED), 401, "needs a key")[b"www-authenticate"] == b"Bearer"
    published = asked("POST /publish/a", KEYED, authorization="Bearer s3cret")
    assert published == Publish(Form.DATA, 65536, "a", grants=WITH_THE_KEY.beside(OPEN_TO_ALL))
    assert "s3cret" not in repr(KEYED)


ORIGINS = [None, HERE, "http://elsewhere.example", "null", ""]


@pytest.mark.parametrize("allowed", [[HERE], ["*"]])
@pytest.mark.parametrize("origin", ORIGINS)
def test_who_may_read_is_said_as_starlette_s_middleware_says_it(allowed: list[str], origin: str | None) -> None:
    async def answered(method: str, headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        async def nothing() -> dict[str, Any]:
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        sent: list[Any] = []
        middleware = CORSMiddleware(
            PlainTextResponse("x", headers={"x": "y"}),
            allow_origins=allowed,
            allow_methods=ALLOWED_METHODS,
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            allow_credentials=allowed != ["*"],
        )
        await middleware({"type": "http", "method": method, "headers": headers}, nothing, send)  # type: ignore[arg-type]
        return {name: value for name, value in sent[0]["headers"] if name.startswith((b"access-control-", b"vary"))}

    given = {} if origin is None else {"origin": origin}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    policy = Policy(origins=Origins(allowed), access=KEY)
    theirs = asyncio.run(answered("GET", raw))
    for head in ("GET /sse/a", "HEAD /sse/a", "GET /sse/$no", "POST /publish/a", "OPTIONS /sse/a", "GET /stats"):
        decision = asked(head, policy, **given)
        said = {name: value for name, value in decision.headers if name.startswith((b"access-control-", b"vary"))}
        assert said == theirs, head
        if dict(decision.headers).get(b"content-type") and b"access-control-allow-origin" in said:
            names = [name for name, _ in decision.headers]
            assert names[0] == b"content-type"
            assert names[1].startswith(b"access-control-")
    if origin is not None:
        asks = {**given, "access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
        preflight = asked("OPTIONS /sse/a", policy, **asks)
        raw += [(b"access-control-request-method", b"GET"), (b"access-control-request-headers", b"last-event-id")]
        theirs = asyncio.run(answered("OPTIONS", raw))
        assert {name: dict(preflight.headers).get(name) for name in theirs} == theirs  # type: ignore[union-attr]


# ---- any bytes at all, by both ways ----

METHODS = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"]
WORDS = [
    b"/sse",
    b"/publish",
    b"/a",
    b"%",
    b"%FF",
    b"%2F",
    b"?",
    b"&",
    b"=",
    b"channel",
    b"history",
    b"lastEventId",
    b"access_token=",
]
targets = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=12).map(
    lambda parts: b"/" + b"".join(parts)
)
VALUES = [HERE.encode(), b"Bearer x.y.z", b"c=x.y.z"]
heads = st.lists(st.tuples(st.sampled_from(sorted(READ)), st.binary(max_size=30) | st.sampled_from(VALUES)), max_size=6)


@given(st.sampled_from(METHODS), targets | st.binary(max_size=40), heads, st.sampled_from(POLICIES))
def test_whatever_is_asked_something_is_decided(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], policy: Policy
) -> None:
    decision = decide(Request.from_head(method, target, headers, "1.1"), policy)
    assert isinstance(decision, Subscribe | Publish | Answer | Elsewhere)
    said = b"".join(value for _, value in decision.headers)
    assert b"\r" not in said
    assert b"\n" not in said


@given(st.sampled_from(METHODS), targets, heads, st.sampled_from(POLICIES))
def test_a_head_is_the_same_request_by_both_ways(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], policy: Policy
) -> None:
    path, _, query = target.partition(b"#")[0].partition(b"?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
    }
    by_asgi = Request.from_scope(scope)
    by_bytes = Request.from_head(method, target, headers, "1.1")
    assert by_asgi == by_bytes
    assert decide(by_asgi, policy) == decide(by_bytes, policy)


def test_a_path_below_where_the_edge_is_mounted_is_the_path() -> None:
    scope = {"method": "GET", "path": "/edge/sse/a", "root_path": "/edge", "query_string": b"", "headers": []}
    assert decide(Request.from_scope(scope), PLAIN) == Subscribe(("a",))


# ---- who asks ----


def client_by(trusted: list[str], peer: str, *headers: str) -> str:
    named = [(b"x-forwarded-for", each.encode()) for each in headers]
    return Policy(proxies=TrustedProxies(trusted)).client_of(Request.from_head("GET", b"/sse/a", named, "1.1"), peer)


hosts = st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.7", "2001:db8::1", "203.0.113.9"])


@st.composite
def spelled(draw: st.DrawFn, host: str) -> str:
    """As one proxy or another writes it."""
    space = st.sampled_from(["", " ", "\t"])
    port = draw(st.sampled_from(["", ":80", ":50123"]))
    spelling = host
    if ":" in host:
        spelling = draw(st.sampled_from([host, host.upper(), "2001:0db8:0:0::0001"]))
        spelling = f"[{spelling}]{port}" if port else spelling
    else:
        spelling = draw(st.sampled_from([host, f"[::ffff:{host}]{port}" if port else f"::FFFF:{host}", host + port]))
    return f"{draw(space)}{spelling}{draw(space)}"


@given(
    hosts,
    st.lists(hosts, max_size=5),
    st.sampled_from([["10.0.0.0/24"], ["10.0.0.1"], ["*"], ["*", "10.0.0.2"]]),
    st.data(),
)
def test_the_client_is_the_last_one_named_that_is_no_proxy_however_it_is_spelled(
    peer: str, named: list[str], trusted: list[str], data: st.DataObject
) -> None:
    networks = [ipaddress.ip_network(each) for each in trusted if each != "*"]

    def is_proxy(host: str) -> bool:
        return any(ipaddress.ip_address(host) in network for network in networks)

    expected = peer
    if is_proxy(peer) or "*" in trusted:
        for host in reversed(named):
            expected = host
            if not is_proxy(host):
                break
    entries = [data.draw(spelled(host)) for host in named]
    split = data.draw(st.integers(0, len(entries)))
    headers = [",".join(part) for part in (entries[:split], entries[split:]) if part]
    assert client_by(trusted, peer, *headers) == expected
    assert client_by([], peer, *headers) == peer


@pytest.mark.parametrize("named", ["unknown", "_hidden", "", "10.0.0.300", "[::1", "x" * 9000, "1" * 60000])
def test_a_proxy_that_does_not_name_its_client_is_the_client_itself(named: str) -> None:
    assert client_by(["10.0.0.1"], "10.0.0.1", named) == "10.0.0.1"
    assert client_by(["10.0.0.0/24"], "10.0.0.1", f"192.0.2.7, {named or 'nobody'}, 10.0.0.2") == "10.0.0.2"
    assert client_by(["*"], "10.0.0.1", f"192.0.2.7, {named or 'nobody'}") == "10.0.0.1"


def test_commas_that_were_left_in_a_list_name_nobody() -> None:
    assert client_by(["10.0.0.0/24"], "10.0.0.1", ", 192.0.2.7, ,10.0.0.2,") == "192.0.2.7"


def test_of_a_list_without_end_so_much_is_read() -> None:
    assert client_by(["10.0.0.0/24"], "10.0.0.1", "192.0.2.7," + "10.0.0.2," * 7000 + "10.0.0.3") == "10.0.0.2"


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:7f00:0/104"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::ffff:127.0.0.1", "::FFFF:7f00:1"])
def test_ipv4_within_ipv6_is_that_ipv4_wherever_it_stands(trusted: str, peer: str) -> None:
    policy = Policy(proxies=TrustedProxies([trusted]))
    for named, client in (
        (b"6.6.6.6, ::ffff:127.0.0.1", "6.6.6.6"),
        (b"6.6.6.6,::FFFF:7f00:1 , 127.0.0.1", "6.6.6.6"),
        (b"::ffff:6.6.6.6", "6.6.6.6"),
        (b"6.6.6.6, 2001:db8::1", "2001:db8::1"),
        (b"[::1]:80", "::1"),
    ):
        headers = [(b"x-forwarded-for", named)]
        assert policy.client_of(Request.from_head("GET", b"/sse/a", headers, "1.1"), peer) == client
    assert policy.trusts(peer)
    assert not policy.trusts("::ffff:10.0.0.1")


@pytest.mark.parametrize(
    ("trusted", "peers"), [(["10.0.0.0/24"], "10.0.0.1 10.0.0.9"), (["*"], "10.0.0.1 10.0.0.9 192.0.2.7 local")]
)
def test_who_is_a_trusted_proxy(trusted: list[str], peers: str) -> None:
    policy = Policy(proxies=TrustedProxies(trusted))
    assert [peer for peer in ("10.0.0.1", "10.0.0.9", "192.0.2.7", "local") if policy.trusts(peer)] == peers.split()
    assert not Policy().trusts("10.0.0.1")


@pytest.mark.parametrize("under", ["/edge", "/live/edge"])
def test_where_the_edge_has_a_path_what_is_under_it_is_decided_as_at_the_root_and_the_rest_is_elsewhere(
    under: str,
) -> None:
    origins = Origins(["https://a.example"])
    headers = {b"origin": b"https://a.example"}
    root, beside = Policy(origins=origins), Policy(origins=origins, path=under)
    for method, path in (
        ("GET", "/sse/a"),
        ("POST", "/publish/a"),
        ("GET", "/stats"),
        ("OPTIONS", "/sse"),
        ("GET", "/"),
    ):
        here = decide(Request(method, path, headers=headers), root)
        assert decide(Request(method, under + path, headers=headers), beside) == here
    assert decide(Request("GET", under, headers=headers), beside).headers  # the page's, which moves to its slash
    for path in ("/", "/sse/a", "/publish/a", under + "s/sse/a", under[:-1], "/x" + under + "/sse/a"):
        assert decide(Request("POST", path, headers=headers), beside) == Elsewhere(ours=False)
