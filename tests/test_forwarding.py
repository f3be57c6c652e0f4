"""What a relay changes in requests and responses, without any I/O."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast.asgi import Receive, Scope, Send
from sse_fast.transports.behind import BehindRelay
from sse_fast.transports.forwarding import asked_by, request_lines, upgrade_of
from sse_fast.transports.response import HEAD_BYTES, REMEMBERED_HEADS, BadResponse, Response, remembered

OK = b"HTTP/1.1 200 OK\r\n"


def request_head(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], *, client: str, marks: bytes = b"", **how: Any
) -> bytes:
    return asked_by(request_lines(method, target, headers, **how), client, marks)


def forwarded(*headers: tuple[bytes, bytes], **changed: Any) -> list[bytes]:
    """The lines of a request's head as the app server gets it."""
    how: dict[str, Any] = {"client": "192.0.2.1", "trusted": False, "authority": b"here:8000"} | changed
    head = request_head("GET", b"/a?b=c", [(b"host", b"a.example"), *headers], **how)
    *lines, end, behind = head.split(b"\r\n")
    assert (end, behind) == (b"", b"")
    return lines


def relayed(response: Response, *pieces: bytes) -> bytes:
    return b"".join(map(response.feed, pieces))


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_request_goes_on_as_it_came() -> None:
    assert forwarded((b"accept", b"*/*"), (b"cookie", b"a=1"), (b"x-own", b""), (b"cookie", b"b=2")) == [
        b"GET /a?b=c HTTP/1.1",
        b"host: a.example",
        b"accept: */*",
        b"cookie: a=1",
        b"x-own: ",
        b"cookie: b=2",
        b"x-forwarded-for: 192.0.2.1",
    ]


def test_headers_of_one_connection_are_not_forwarded() -> None:
    lines = forwarded(
        (b"connection", b"keep-alive, X-Mine ,Upgrade"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"te", b"trailers"),
        (b"trailer", b"x-sum"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"x-mine", b"1"),
        (b"x-yours", b"1"),
        chunked=True,
    )
    assert lines[2:] == [b"x-yours: 1", b"transfer-encoding: chunked", b"x-forwarded-for: 192.0.2.1"]


def test_connection_cannot_take_the_host_or_the_length_out_of_a_request() -> None:
    lines = forwarded((b"connection", b"close, host, content-length, x-forwarded-for"), (b"content-length", b"5"))
    assert lines[1:] == [b"host: a.example", b"content-length: 5", b"x-forwarded-for: 192.0.2.1"]


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Whatever",
        "X-Real-IP",
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "X_Real_IP",
        "Grip-Sig",
        "Grip_Hold",
        "Content_Length",
        "Transfer_Encoding",
    ],
)
def test_nobody_says_who_he_is_or_what_only_the_relay_says(name: str) -> None:
    assert forwarded((name.lower().encode(), b"203.0.113.9")) == [
        b"GET /a?b=c HTTP/1.1",
        b"host: a.example",
        b"x-forwarded-for: 192.0.2.1",
    ]


def test_a_trusted_proxy_says_by_which_way_the_client_came() -> None:
    said = [(b"forwarded", b"for=x"), (b"x-forwarded-proto", b"https"), (b"x-real-ip", b"192.0.2.1")]
    strange = [(b"x-forwarded-for", b"1.1.1.1, 192.0.2.1"), (b"x_forwarded_proto", b"http"), (b"grip-hold", b"stream")]
    lines = forwarded(*said, *strange, trusted=True)
    assert lines[2:] == [
        b"forwarded: for=x",
        b"x-forwarded-proto: https",
        b"x-real-ip: 192.0.2.1",
        b"x-forwarded-for: 192.0.2.1",
    ]


def test_a_client_without_an_address_is_said_to_be_unknown() -> None:
    assert forwarded(client="")[-1] == b"x-forwarded-for: unknown"


def test_a_request_without_host_is_given_one() -> None:
    head = request_head("GET", b"/", [], client="::1", trusted=False, authority=b"here:8000")
    assert head == b"GET / HTTP/1.1\r\nhost: here:8000\r\nx-forwarded-for: ::1\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "origin"),
    [
        ("GET", b"/a?b://c/d", b"/a?b://c/d"),
        ("GET", b"http://a.example/b/c?d", b"/b/c?d"),
        ("GET", b"http://a.example?d=/e", b"/?d=/e"),
        ("GET", b"http://a.example", b"/"),
        ("OPTIONS", b"http://a.example", b"*"),
        ("OPTIONS", b"*", b"*"),
    ],
)
def test_a_target_goes_on_in_origin_form(method: str, target: bytes, origin: bytes) -> None:
    head = request_head(method, target, [(b"host", b"a.example")], client="", trusted=False, authority=b"")
    assert head.startswith(b"%b %b HTTP/1.1\r\n" % (method.encode(), origin))


def test_expect_is_not_forwarded() -> None:
    assert b"expect: 100-continue" not in forwarded((b"expect", b"100-continue"))


def test_marks_are_added_to_the_head() -> None:
    assert forwarded(marks=b"grip-sig: mine\r\n")[-1] == b"grip-sig: mine"


@pytest.mark.parametrize(
    ("connection", "protocol", "asked"),
    [
        (b"Upgrade", b"websocket", b"websocket"),
        (b"keep-alive, upgrade", b"WebSocket", b"WebSocket"),
        (b"keep-alive", b"websocket", None),
        (b"upgrade, http2-settings", b"h2c", None),
        (b"upgrade", b"websocket, h2c", None),
        (b"upgrade", b"HTTP/2.0", None),
        (b"upgrade", b"TLS/1.0", None),
    ],
)
def test_what_may_be_upgraded_to(connection: bytes, protocol: bytes, asked: bytes | None) -> None:
    headers = [(b"connection", connection), (b"upgrade", protocol)]
    assert upgrade_of("GET", "1.1", headers) == asked
    assert upgrade_of("GET", "1.0", headers) is None
    assert upgrade_of("POST", "1.1", headers) is None
    assert upgrade_of("GET", "1.1", [*headers, (b"upgrade", protocol)]) is None


def test_an_upgrade_is_asked_for() -> None:
    lines = forwarded((b"connection", b"upgrade"), (b"upgrade", b"websocket"), upgrade=b"websocket")
    assert lines[2:4] == [b"connection: upgrade", b"upgrade: websocket"]


# ---- responses -------------------------------------------------------------------------------------------------------


def test_a_response_comes_as_the_app_wrote_it_but_for_what_is_for_one_connection() -> None:
    response = Response("GET")
    said = b"Content-Type: a/b\r\nX-MiXed:  c \r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 5\r\n"
    own = b"Keep-Alive: 5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nGrip-Hold: stream\r\nProxy-Connection: x\r\n"
    out = relayed(response, OK + own + said + b"\r\nhello")
    assert out == OK + said.replace(b"  c ", b" c") + b"\r\nhello"
    assert (response.status, response.complete, response.keep, response.keeps_upstream) == (200, True, True, True)


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Vary: *"])
def test_a_head_that_comes_again_is_read_for_each_request_as_for_the_first(framing: bytes) -> None:
    answer = OK + b"Server: a\r\n" + framing + b"\r\nConnection: Server, keep-alive\r\n\r\n"
    requests = [("GET", "1.1", True), ("GET", "1.0", True), ("HEAD", "1.1", True), ("GET", "1.1", False)]

    def read(method: str, minor: str, keep: bool) -> tuple[Any, ...]:
        response = Response(method, minor, keep=keep)
        out = relayed(response, answer)
        return out, response.body, response.complete, response.keep, response.keeps_upstream, response.status

    first = []
    for request in requests:
        remembered.clear()
        first.append(read(*request))
    for _ in range(2):
        assert [read(*request) for request in requests] == first
    assert bool(remembered) == (b"chunked" not in framing), "of chunks the parser has to know"


def test_only_heads_without_a_secret_are_remembered_and_not_many() -> None:
    remembered.clear()
    for header in (b"Set-Cookie: a=b", b"X-Request-Id: 1", b"Location: /a?token=b", b"ETag: 1", b"Grip-Hold: stream"):
        relayed(Response("GET"), OK + header + b"\r\nContent-Length: 0\r\n\r\n")
    assert not remembered
    for number in range(2 * REMEMBERED_HEADS + 1):
        relayed(Response("GET"), OK + b"Content-Length: %d\r\n\r\n" % number)
        assert 0 < len(remembered) <= REMEMBERED_HEADS
    remembered.clear()
    relayed(Response("GET"), OK + b"Server: %b\r\nContent-Length: 0\r\n\r\n" % (b"a" * 2000))
    assert not remembered


def test_a_reason_stays_what_it_was() -> None:
    assert relayed(Response("GET"), b"HTTP/1.1 299 So so\r\n\r\n").startswith(b"HTTP/1.1 299 So so\r\n")
    assert relayed(Response("GET"), b"HTTP/1.1 299\r\n\r\n").startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404), ("OPTIONS", 204)]
)
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"])
def test_a_response_without_a_body_ends_with_its_head(method: str, status: int, framing: bytes) -> None:
    response = Response(method)
    out = relayed(response, b"HTTP/1.1 %d Z\r\n%b\r\n\r\n" % (status, framing))
    assert response.complete
    assert response.keep
    assert response.keeps_upstream
    assert out.endswith(b"\r\n\r\n")
    assert (b"Content-Length: 5" in out) == (framing.startswith(b"Content") and status != 204)


def test_what_is_behind_a_response_is_nobodys_and_its_connection_is_not_used_again() -> None:
    evil = OK + b"Content-Length: 4\r\n\r\nevil"
    for head in (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        at_once, later = Response("GET"), Response("GET")
        together = relayed(at_once, OK + head + evil)
        apart = relayed(later, OK + head)
        assert later.keeps_upstream
        assert later.feed(evil) == b""
        assert together == apart
        assert together.count(b"HTTP") == 1
        assert at_once.excess
        assert not at_once.keeps_upstream
        assert later.excess
        assert not later.keeps_upstream
    bodiless = Response("HEAD")
    assert relayed(bodiless, OK + b"Content-Length: 5\r\n\r\n" + b"hello").endswith(b"Content-Length: 5\r\n\r\n")
    assert bodiless.excess
    assert not bodiless.keeps_upstream


def test_chunks_are_framed_anew() -> None:
    response = Response("GET")
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    out = response.feed(head + b"3;a=b\r\nabc\r\n2\r\nde\r\n")
    assert out == OK + b"transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    assert not response.complete
    assert response.feed(b"1\r") == b""
    assert response.feed(b"\nf") == b"1\r\nf\r\n"
    assert response.feed(b"\r\n0\r\nX-Trailer: 1\r\n") == b""
    assert response.feed(b"\r\n") == b"0\r\n\r\n"
    assert response.complete
    assert response.keeps_upstream


def test_a_client_of_http_1_0_is_sent_no_chunks() -> None:
    response = Response("GET", "1.0")
    out = relayed(response, OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    assert out == OK + b"connection: close\r\n\r\nabcde"
    assert response.complete
    assert not response.keep
    assert response.keeps_upstream


def test_a_client_of_http_1_0_is_told_that_its_connection_is_kept() -> None:
    response = Response("GET", "1.0")
    out = relayed(response, OK + b"Content-Length: 0\r\n\r\n")
    assert b"connection: keep-alive\r\n" in out
    assert response.keep


def test_a_response_that_ends_with_its_connection_does_so_for_the_client_too() -> None:
    response = Response("GET")
    assert relayed(response, OK + b"\r\nabc", b"def") == OK + b"connection: close\r\n\r\nabcdef"
    assert not response.complete
    assert response.ended()
    assert not response.keep
    assert not response.keeps_upstream


@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nhell", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"X: y\r\n"]
)
def test_a_response_that_breaks_off_has_no_end(body: bytes) -> None:
    response = Response("GET")
    out = relayed(response, OK + body)
    assert not response.ended()
    assert not response.keeps_upstream
    assert b"0\r\n\r\n" not in out


def test_a_last_answer_says_so() -> None:
    response = Response("GET", keep=False)
    assert b"connection: close\r\n" in relayed(response, OK + b"Content-Length: 0\r\n\r\n")
    assert response.keeps_upstream


@pytest.mark.parametrize(
    "last", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK\r\nConnection: keep-alive"]
)
def test_an_app_servers_last_response_is_not_the_clients(last: bytes) -> None:
    response = Response("GET")
    out = relayed(response, last + b"\r\nContent-Length: 2\r\n\r\nok")
    assert out == OK + b"Content-Length: 2\r\n\r\nok"
    assert response.complete
    assert response.keep
    assert not response.keeps_upstream


def test_interim_responses_are_passed_on_to_who_understands_them() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    rest = OK + b"Content-Length: 0\r\n\r\n"
    said = go_on + hints + hints + rest
    assert relayed(Response("GET"), said) == hints + hints + rest
    assert relayed(Response("GET", "1.0"), said).startswith(OK)


def test_after_101_both_sides_say_what_they_like() -> None:
    response = Response("GET", upgrade=b"websocket")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\n"
    out = relayed(response, switch + b"\x81\x00HTTP", b"\r\n\r\n\x00")
    head, tunnelled = out[:-10], out[-10:]
    assert tunnelled == b"\x81\x00HTTP\r\n\r\n\x00"[-10:]
    assert b"connection: upgrade\r\nupgrade: websocket\r\n" in head
    assert b"X: y\r\n" in head
    assert response.tunnel
    assert response.status == 101
    assert not response.complete
    assert not response.keeps_upstream


@pytest.mark.parametrize(
    "bad",
    [
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"<html>\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 O\x1b[2JK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 204 OK\n\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\n",
    ],
)
def test_what_is_no_response_is_refused(bad: bytes) -> None:
    with pytest.raises(BadResponse):
        relayed(Response("GET"), bad)


SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n%b\r\n"


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"Upgrade:\r\n",
        b"Upgrade: ,\r\n",
        b"Upgrade: echo\r\n",
        b"Upgrade: websocket, echo\r\n",
        b"Upgrade: websocket\r\nUpgrade: websocket\r\n",
        b"Upgrade: irc\r\n",
        b"Upgrade: IRC/6.8\r\n",
    ],
)
def test_a_switch_to_what_nobody_asked_for_is_refused(bad: bytes) -> None:
    with pytest.raises(BadResponse):
        Response("GET", upgrade=b"websocket, IRC/6.9").feed(SWITCH % bad)


@pytest.mark.parametrize("agreed", [b"websocket", b"WebSocket", b"irc/6.9", b"IRC/6.9, websocket"])
def test_a_switch_is_to_one_or_more_of_the_protocols_that_were_asked_for(agreed: bytes) -> None:
    response = Response("GET", upgrade=b"websocket, IRC/6.9")
    assert b"\r\nupgrade: %b\r\n" % agreed in response.feed(SWITCH % (b"Upgrade: %b\r\n" % agreed))
    assert response.tunnel


def test_a_head_has_a_bound() -> None:
    at_most = OK + b"A: " + b"x" * (HEAD_BYTES - len(OK) - 7)
    assert relayed(Response("GET"), at_most, b"\r\n\r\n").startswith(OK)
    with pytest.raises(BadResponse):
        relayed(Response("GET"), at_most, b"x\r\n\r\n")
    with pytest.raises(BadResponse):
        Response("GET").feed(at_most + b"\r\nxxx")


def test_a_claimed_response_is_not_the_clients() -> None:
    response = Response("GET")
    seen = []
    response.claim = lambda status, headers: seen.append((status, dict(headers))) or True
    assert response.feed(OK + b"Grip-Hold: stream\r\nContent-Length: 5\r\n\r\nhel") == b""
    assert response.feed(b"lo") == b""
    assert seen == [(200, {b"Grip-Hold": b"stream", b"Content-Length": b"5"})]
    assert response.claimed
    assert response.complete
    assert response.keeps_upstream


MESSAGES = (
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"A: b\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n10\r\n0123456789\r\n\r\nef\r\n0\r\nT: x\r\n\r\n",
    OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
    OK + b"\r\nuntil the end\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
)


@given(st.sampled_from(MESSAGES), st.sets(st.integers(1, 120)), st.sampled_from(("1.0", "1.1")))
def test_where_the_bytes_are_split_means_nothing(message: bytes, cuts: set[int], minor: str) -> None:
    at = [0, *sorted(cut for cut in cuts if cut < len(message)), len(message)]
    whole, split = Response("GET", minor), Response("GET", minor)
    assert body_of(whole, message) == body_of(split, *(message[a:b] for a, b in itertools.pairwise(at)))
    assert (whole.status, whole.complete, whole.keep, whole.keeps_upstream, whole.excess) == (
        split.status,
        split.complete,
        split.keep,
        split.keeps_upstream,
        split.excess,
    )


def body_of(response: Response, *pieces: bytes) -> bytes:
    """What the client reads, without its chunks."""
    out = relayed(response, *pieces)
    if b"transfer-encoding: chunked" not in out:
        return out
    head, _, rest = out.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return head + body


# ---- the app's side --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "headers", "client", "scheme"),
    [
        ("http", [(b"x-forwarded-for", b"192.0.2.1")], ("192.0.2.1", 0), "http"),
        ("http", [(b"x-forwarded-for", b"::1"), (b"x-forwarded-proto", b"https")], ("::1", 0), "https"),
        ("websocket", [(b"x-forwarded-for", b"::1"), (b"x-forwarded-proto", b"https")], ("::1", 0), "wss"),
        ("http", [(b"x-forwarded-for", b"::1"), (b"x-forwarded-proto", b"gopher")], ("::1", 0), "http"),
        (
            "http",
            [(b"x-forwarded-for", b"::1"), *((b"x-forwarded-proto", b) for b in (b"https", b"http"))],
            ("::1", 0),
            "https",
        ),
        (
            "http",
            [(b"x-forwarded-for", b"::1"), *((b"x-forwarded-proto", b) for b in (b"", b"https"))],
            ("::1", 0),
            "https",
        ),
        (
            "http",
            [(b"x-forwarded-for", b"::1"), *((b"x-forwarded-proto", b) for b in (b"x", b"https"))],
            ("::1", 0),
            "http",
        ),
        ("http", [(b"x-forwarded-for", b"unknown")], None, "http"),
    ],
)
async def test_an_app_hears_of_the_client_and_not_of_the_relay(
    kind: str, headers: list[tuple[bytes, bytes]], client: Any, scheme: str
) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = {"type": kind, "headers": headers, "client": None, "server": ("x.sock", None), "scheme": "http"}
    if kind == "websocket":
        scope["scheme"] = "ws"
    await BehindRelay(app, ("a.example", 80))(scope, None, None)  # type: ignore[arg-type]
    assert (seen[0]["client"], seen[0]["scheme"], seen[0]["server"]) == (client, scheme, ("a.example", 80))


async def test_an_app_that_never_stops_answering_keeps_the_loop_from_nobody() -> None:
    sent, turns = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not turns:
            assert len(sent) < 100
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message)  # and returns at once

    asyncio.get_running_loop().call_soon(turns.append, True)
    await BehindRelay(app, ("a.example", 80))({"type": "http", "headers": []}, None, send)  # type: ignore[arg-type]
    assert turns
