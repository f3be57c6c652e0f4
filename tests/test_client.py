"""`listen` and `publish` against scripted servers: resume, backoff, refusals, and what is printed where."""

import contextlib
import datetime
import functools
import io
import itertools
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
import trustme

from sse_fast.cli import listen, publish
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.listener import LONGEST_BACKOFF, Listener

URL = "http://edge.test"


pytestmark = pytest.mark.usefixtures("nothing_set")


def assert_one_line(result, status, *parts):
    assert result.exit_code == status
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    for part in ("sse-fast: ", *parts):
        assert part in result.stderr


# ---- a scripted server -----------------------------------------------------------------------------------------------


class Script:
    """A server whose answers are given beforehand: bytes are a stream, an exception inside a list breaks it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Pieces(answer))

    def client(self, headers=None):
        return httpx.Client(base_url=URL, transport=httpx.MockTransport(self), headers=headers)


class Pieces(httpx.SyncByteStream):
    def __init__(self, pieces):
        self.pieces = pieces if isinstance(pieces, list) else [pieces]

    def __iter__(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def preamble(position, retry=3000):
    return b":\nretry: %d\nevent: $connected\nid: e-%d\ndata: {}\n\n" % (retry, position)


def event(position, data=b"x"):
    return b"id: e-%d\ndata: %b\n\n" % (position, data)


def problem(status, detail, **headers):
    media_type = {"Content-Type": "application/problem+json"}
    return httpx.Response(
        status, json={"title": "No", "detail": detail, "status": status}, headers=media_type | headers
    )


STOP = httpx.Response(204)
BROKEN = httpx.RemoteProtocolError("peer closed connection")


@pytest.fixture
def waits():
    return []


@pytest.fixture
def listener(waits):
    def make(script, **options):
        return Listener(script.client(), ["a"], sleep=waits.append, jitter=lambda: 1.0, **options)

    return make


# ---- listen ----------------------------------------------------------------------------------------------------------


def ids(events):
    return [event.id for event in events if not event.event.startswith("$")]


def last_event_ids(script):
    return [request.headers.get("Last-Event-ID") for request in script.requests]


def test_a_broken_stream_is_resumed_after_the_last_whole_event(listener):
    script = Script(
        [preamble(3), event(4), b"id: e-5\ndata: torn", BROKEN], [preamble(4), event(5), event(6)], [preamble(6)], STOP
    )
    assert ids(listener(script)) == ["e-4", "e-5", "e-6"]
    assert last_event_ids(script) == [None, "e-4", "e-6", "e-6"]


def test_a_drop_before_the_first_event_resumes_from_the_connect(listener):
    script = Script([preamble(3), BROKEN], STOP)
    assert ids(listener(script)) == []
    assert last_event_ids(script) == [None, "e-3"]


def test_history_is_asked_for_once_and_only_until_there_is_a_cursor(listener):
    script = Script(httpx.ConnectError("refused"), [preamble(3)], STOP)
    list(listener(script, history=5))
    assert [request.url.params.get("history") for request in script.requests] == ["5", "5", None]


def test_since_is_the_first_cursor(listener):
    script = Script(STOP)
    list(listener(script, since="earliest"))
    assert last_event_ids(script) == ["earliest"]


def test_the_server_says_how_long_to_wait(listener, waits):
    list(listener(Script([preamble(1, retry=700)], [preamble(1, retry=900), BROKEN], STOP)))
    assert waits == [0.7, 0.9]


def test_a_server_that_wants_no_delay_is_not_stormed(waits):
    script = Script(*[[preamble(1, retry=0)]] * 3, BROKEN, BROKEN, STOP)
    list(Listener(script.client(), ["a"], sleep=waits.append, jitter=lambda: 0.7))
    assert waits == pytest.approx([0.1, 0.1, 0.1, 0.14, 0.28])


@pytest.mark.parametrize("retry", [b"-5", b"x", b""])
def test_a_delay_that_is_no_number_is_ignored(listener, waits, retry):
    list(listener(Script([b"retry: %b\ndata: x\n\n" % retry], STOP)))
    assert waits == [1.0]


def test_failures_in_a_row_wait_twice_as_long_each_up_to_a_limit(listener, waits):
    list(listener(Script(*[httpx.ConnectError("refused")] * 8, STOP)))
    assert waits == [1, 2, 4, 8, 16, LONGEST_BACKOFF, LONGEST_BACKOFF, LONGEST_BACKOFF]


def test_an_event_forgives_the_failures_before_it(listener, waits):
    refused = httpx.ConnectError("refused")
    list(listener(Script(refused, refused, [preamble(1, retry=1000)], refused, STOP)))
    assert waits == [1, 2, 1, 2]


def test_delays_are_jittered():
    listener = Listener(Script().client(), ["a"])
    delays = {listener.backoff(1) for _ in range(50)}
    assert len(delays) > 10
    assert all(0.7 <= delay <= 1.3 for delay in delays)


@pytest.mark.parametrize(
    "trouble",
    [problem(status, "later") for status in (408, 425, 429, 500, 502, 503)] + [httpx.ReadTimeout("")],
    ids=["408", "425", "429", "500", "502", "503", "silence"],
)
def test_what_may_pass_is_tried_again(listener, trouble):
    assert ids(listener(Script(trouble, [preamble(0), event(1)], STOP))) == ["e-1"]


def test_a_server_that_asks_for_time_gets_it(listener, waits):
    list(listener(Script(problem(503, "full", **{"Retry-After": "17"}), STOP)))
    assert waits == [17]


@pytest.mark.parametrize(
    ("asked_for", "waited"), [("99999999999", 86_400.0), ("9" * 400, 86_400.0), ("١٧", 1.0), ("-1", 1.0)]
)
def test_a_time_that_makes_no_sense_ends_no_listener(listener, waits, asked_for, waited):
    later = httpx.Response(503, headers=[(b"Retry-After", asked_for.encode())])
    assert ids(listener(Script(later, [preamble(0), event(1)], STOP))) == ["e-1"]
    assert waits[0] == waited


@pytest.mark.parametrize("status", [205, 400, 401, 403, 404, 405, 406, 410, 421, 451])
def test_a_refusal_is_final_and_says_why(listener, status, waits):
    with pytest.raises(Refused, match="the reason"):
        list(listener(Script(problem(status, "the reason"))))
    assert waits == []


class Endless(httpx.SyncByteStream):
    """A body that never ends, and counts what of it was taken."""

    def __init__(self, piece, then=lambda: None):
        self.piece, self.then = piece, then
        self.taken = 0

    def __iter__(self):
        while self.taken < 10**7:
            self.taken += len(self.piece)
            self.then()
            yield self.piece


@pytest.mark.parametrize("status", [403, 503])
def test_of_an_endless_error_so_much_is_read_and_no_more(listener, status):
    body = Endless(b"x" * 4096)
    with pytest.raises((Refused, Unavailable), match=str(status)):
        list(listener(Script(httpx.Response(status, stream=body)), retries=0))
    assert body.taken == 64 * 1024


def test_an_error_that_drips_is_read_for_a_few_seconds(listener, monkeypatch):
    clock = itertools.count()  # a second each time that somebody looks
    monkeypatch.setattr("sse_fast.client.failures.time", SimpleNamespace(monotonic=lambda: next(clock)))
    body = Endless(b"x")
    with pytest.raises(Refused, match="403 Forbidden"):
        list(listener(Script(httpx.Response(403, stream=body))))
    assert body.taken == 6


def test_an_error_that_breaks_off_is_one_by_its_status(listener, waits):
    with pytest.raises(Refused, match="403 Forbidden"):
        list(listener(Script(httpx.Response(403, stream=Pieces([b'{"detail": "no', BROKEN])))))
    assert waits == []


def test_another_media_type_is_final(listener):
    with pytest.raises(Refused, match="text/html"):
        list(listener(Script(httpx.Response(200, html="<p>"))))


def test_retries_are_counted_in_a_row(listener):
    script = Script([preamble(0)], BROKEN, BROKEN, BROKEN)
    with pytest.raises(Unavailable, match="gave up"):
        list(listener(script, retries=2))
    assert len(script.requests) == 3


def test_being_turned_away_by_a_full_server_is_a_retry_in_vain(listener):
    full = b':\nretry: 30000\nevent: $closing\ndata: {"reason":"overloaded"}\n\n'
    script = Script(full, full, full, STOP)
    with pytest.raises(Unavailable, match="the server is full; gave up after 2 attempts"):
        list(listener(script, retries=1))


def test_a_block_without_data_is_no_event_but_an_empty_event_is(listener):
    script = Script([preamble(0), b"retry: 50\n\n", b"id: e-1\ndata:\n\n", b"retry: 60\n\n", event(2)], STOP)
    assert ids(listener(script)) == ["e-1", "e-2"]


def test_an_empty_id_takes_the_cursor_back_and_history_is_not_asked_for_again(listener):
    script = Script([preamble(3), b"id\ndata: x\n\n"], [b"data: y\n\n"], STOP)
    assert ids(listener(script, history=5)) == ["", ""]
    assert last_event_ids(script) == [None, None, None]
    assert [request.url.params.get("history") for request in script.requests] == ["5", None, None]


@pytest.mark.parametrize("id", [b"a\x0bb", b"\x01", b"a\x7f", b" a", b"a ", b"a\t"])
def test_an_id_that_fits_no_header_is_told_and_resumed_is_after_the_last_one_that_does(listener, id):
    told = []
    script = Script([event(4), b"id: %b\ndata: x\n\n" % id, b"data: y\n\n"], [event(5)], STOP)
    assert [event.id for event in listener(script, tell=told.append)] == ["e-4", id.decode(), id.decode(), "e-5"]
    assert last_event_ids(script) == [None, "e-4", "e-5"]
    assert [line for line in told if "fits no header" in line] == [
        f"the server's id {id.decode()!r} fits no header; events may come again"
    ]


def test_where_no_id_fits_a_header_a_listener_begins_again_as_it_did_at_first(listener):
    script = Script([b"id: \x01\ndata: x\n\n"], STOP)
    list(listener(script, history=5))
    assert last_event_ids(script) == [None, None]
    assert [request.url.params.get("history") for request in script.requests] == ["5", "5"]


@pytest.mark.parametrize("id", ["a b", "a\tb", "\u20ac\U0001f600", "\x85"])
def test_any_other_id_is_sent_back(id):
    """Over a real connection: what may stand in a header is the library's word."""
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with httpx.Client(base_url=url, trust_env=False) as client:
            listening = pool.submit(list, Listener(client, ["a"], sleep=lambda _: None))
            for answer in (stream + b"id: %b\ndata: x\n\n" % id.encode(), b"HTTP/1.1 204 No Content\r\n\r\n"):
                connection, _ = server.accept()
                with connection:
                    asked = connection.recv(65536)
                    connection.sendall(answer)
            assert [event.id for event in listening.result(30)] == [id]
    assert b"last-event-id: %b\r\n" % id.encode() in asked.lower()


def test_a_stream_that_names_no_ids_keeps_the_cursor_of_the_one_before(listener):
    script = Script([preamble(3)], [b"data: x\n\n"], STOP)
    assert ids(listener(script)) == ["e-3"]
    assert last_event_ids(script) == [None, "e-3", "e-3"]


def test_an_event_too_large_is_final_and_says_what_to_raise(listener, waits):
    script = Script([preamble(0), event(1), b"data: " + b"x" * 2000])
    events = iter(listener(script, max_event_size=1000))
    assert [next(events).id for _ in range(2)] == ["e-0", "e-1"]
    with pytest.raises(Refused, match=r"larger than max_event_size, 1,000 bytes.*--max-event-size"):
        next(events)
    assert waits == []


def test_what_the_server_says_twice_is_handed_out_twice(listener):
    assert ids(listener(Script([preamble(0), event(1), event(1)], STOP))) == ["e-1", "e-1"]


# ---- certificates ----------------------------------------------------------------------------------------------------


class Encrypted:
    """A server on loopback that speaks TLS, or plain HTTP where it has no certificate, and counts who came."""

    def __init__(self, certificate):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate is not None:
            certificate.configure_cert(self.context)
        self.plain = certificate is None
        self.came = 0

    def __enter__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.server.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.server.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                self.came += 1
                with connection, contextlib.suppress(OSError):
                    self.answer(connection)

    def answer(self, connection):
        if self.plain:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        if connection.recv(1, socket.MSG_PEEK) != TLS_HANDSHAKE:
            connection.recv(4096)
            connection.sendall(TLS_ALERT)
            return
        with self.context.wrap_socket(connection, server_side=True) as opened:
            opened.recv(4096)
            opened.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + preamble(1) + event(2))
            opened.recv(1)  # until the client leaves


TLS_HANDSHAKE = b"\x16"
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x32"  # what Granian answers to a request in clear
AUTHORITY = trustme.CA()
LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
CERTIFICATES = {
    "of an unknown authority": (trustme.CA().issue_cert("127.0.0.1"), ["certificate", "SSL_CERT_FILE="]),
    "for another name": (AUTHORITY.issue_cert("edge.example"), ["certificate", "127.0.0.1", "by the name"]),
    "that has expired": (AUTHORITY.issue_cert("127.0.0.1", not_after=LONG_AGO), ["certificate has expired", "new one"]),
    "that is none": (None, ["speaks no TLS", "http://"]),
}


@pytest.fixture
def trusting(monkeypatch, tmp_path):
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_certificate_that_is_not_to_be_trusted_ends_listen_at_once_and_says_what_to_do(run, kind):
    certificate, words = CERTIFICATES[kind]
    with Encrypted(certificate) as server:
        result = run("listen", "a", "--url", server.url, "--retries", "1")
        assert_one_line(result, 1, server.url, *words)
        assert "running" not in result.stderr
        assert server.came == 1


@pytest.mark.usefixtures("trusting")
def test_publish_says_the_same_of_a_certificate(run):
    certificate, words = CERTIFICATES["of an unknown authority"]
    with Encrypted(certificate) as server:
        assert_one_line(run("publish", "a", "x", "--url", server.url), 1, server.url, *words)


@pytest.mark.usefixtures("trusting")
def test_with_its_authority_named_the_server_is_trusted(run):
    with Encrypted(AUTHORITY.issue_cert("127.0.0.1")) as server:
        result = run("listen", "a", "--url", server.url, "--count", "1")
        assert result.exit_code == 0
        assert result.stdout.startswith("e-2 ")


@pytest.mark.parametrize("command", [("listen", "a", "--retries", "1"), ("publish", "a", "x")])
def test_a_server_that_speaks_tls_and_is_asked_in_clear_is_asked_once_and_https_is_named(run, command):
    with Encrypted(AUTHORITY.issue_cert("127.0.0.1")) as server:
        in_clear = server.url.replace("https:", "http:")
        assert_one_line(run(*command, "--url", in_clear), 1, f"{in_clear} ", "speak TLS?", "https://")
        assert server.came == 1


def test_certificates_that_cannot_be_read_are_named(run, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "nowhere.pem")
    assert_one_line(run("listen", "a"), 2, "SSL_CERT_FILE=nowhere.pem")


# ---- the two clients on the command line -----------------------------------------------------------------------------


@pytest.fixture
def against(run, monkeypatch):
    def invoke(script, *args, **options):
        for command in (listen, publish):
            monkeypatch.setattr(command, "http_client", lambda url, timeout, headers=None: script.client(headers))
        monkeypatch.setattr(listen, "Listener", functools.partial(Listener, sleep=lambda seconds: None))
        return run(*args, **options)

    return invoke


def test_listen_asks_for_all_its_channels(against):
    script = Script(STOP)
    assert against(script, "listen", "a", "room:42", "ü&b").exit_code == 0
    assert script.requests[0].url.params.get_list("channel") == ["a", "room:42", "ü&b"]


def test_listen_asks_for_patterns_beside_channels_or_alone(against):
    script = Script(STOP, STOP)
    assert against(script, "listen", "a", "--pattern", "orders:*", "--pattern", "b:**").exit_code == 0
    assert against(script, "listen", "--pattern", "orders:*").exit_code == 0
    assert [request.url.params.get_list("channel") for request in script.requests] == [["a"], []]
    assert [request.url.params.get_list("pattern") for request in script.requests] == [
        ["orders:*", "b:**"],
        ["orders:*"],
    ]


@pytest.mark.parametrize("name", ["orders:*", "orders:**", "*", "*:7"])
def test_listen_to_a_pattern_as_if_it_were_a_channel_is_told_what_is_right(run, name):
    assert_one_line(run("listen", "a", name), 2, f"--pattern {name!r}")


def test_listen_to_nothing_is_asked_for_wrongly(run):
    assert_one_line(run("listen"), 2, "name a CHANNEL, or a --pattern")


def test_a_token_may_be_made_anew_for_each_connection(listener):
    script = Script([preamble(3), event(4)], [preamble(4), event(5)], STOP)
    tokens = iter(["one", "two", "three"])
    assert ids(listener(script, token=lambda: next(tokens))) == ["e-4", "e-5"]
    assert [request.headers["authorization"] for request in script.requests] == [
        "Bearer one",
        "Bearer two",
        "Bearer three",
    ]
    assert last_event_ids(script) == [None, "e-4", "e-5"]


def test_a_token_in_a_file_is_read_for_each_connection(against, tmp_path):
    file = tmp_path / "token"
    file.write_text("one\n")

    class Renewing(Script):
        def __call__(self, request):
            file.write_text("two")
            return super().__call__(request)

    script = Renewing([preamble(3), event(4)], STOP)
    assert against(script, "listen", "a", "--token-file", str(file)).exit_code == 0
    assert [request.headers["authorization"] for request in script.requests] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("text", [None, "", "a b", "s3cr\u00e9t"])
def test_a_file_that_has_no_token_is_named_and_not_shown(run, tmp_path, text):
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    result = run("listen", "a", "--token-file", str(file))
    assert_one_line(result, 2, "--token-file", str(file))
    assert not text or text not in result.stderr


def test_listen_as_json_gives_an_object_a_line_and_stops_at_the_count(against):
    script = Script([preamble(0), event(1, b"one"), b"event: t\nid: e-2\ndata: a\ndata: b\n\n", event(3)])
    result = against(script, "listen", "a", "--json", "--count", "2")
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": "e-1", "event": "message", "data": "one"},
        {"id": "e-2", "event": "t", "data": "a\nb"},
    ]


ENVELOPED = b':\nretry: 3000\nevent: $connected\nid: e-%d\ndata: {"resume":"live","envelope":"json"}\n\n'


def enveloped(position, data, channels, time, kind="message"):
    """As the server makes it."""
    several = {"channels": channels} if len(channels) > 1 else {}
    inside = {"channel": channels[0], **several, "event": kind, "time": time, "data": data}
    return f"event: {kind}\ndata: {json.dumps(inside)}\nid: e-{position}\n\n".encode()


def test_listen_asks_for_envelopes_and_tells_where_and_when_an_event_was_published(against):
    stream = [
        ENVELOPED % 0,
        enveloped(1, "one\ntwo", ["a"], "2026-01-02T03:04:05.678Z"),
        enveloped(2, '{"n":1.0}', ["b", "a"], "2026-01-02T03:04:06.000Z", "price"),
    ]
    script = Script(stream, STOP)
    result = against(script, "listen", "a", "b", "--json")
    assert script.requests[0].url.params["envelope"] == "json"
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": "e-1", "channel": "a", "event": "message", "time": "2026-01-02T03:04:05.678Z", "data": "one\ntwo"},
        {
            "id": "e-2",
            "channel": "b",
            "channels": ["b", "a"],
            "event": "price",
            "time": "2026-01-02T03:04:06.000Z",
            "data": '{"n":1.0}',
        },
    ]
    assert "envelope" not in result.stderr


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_listen_shows_when_an_event_was_published_and_of_several_channels_in_which(against, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        here = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).astimezone()
        stream = [ENVELOPED % 0, enveloped(1, "one", ["a"], "2026-01-02T03:04:05.678Z", "price")]
        one = against(Script(stream, STOP), "listen", "a").stdout
        assert one == f"e-1 {here:%Y-%m-%d %H:%M:%S} price one\n"
        several = against(Script(stream, STOP), "listen", "a", "b").stdout
        assert several == f"e-1 {here:%Y-%m-%d %H:%M:%S} a price one\n"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_listen_shows_of_today_the_time_alone(against):
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    stream = [ENVELOPED % 0, enveloped(1, "one", ["a"], f"{now:%Y-%m-%dT%H:%M:%S}.000Z")]
    assert against(Script(stream, STOP), "listen", "a").stdout == f"e-1 {now.astimezone():%H:%M:%S} message one\n"


def test_listen_says_that_what_a_channel_had_is_forgotten_and_not_in_what_envelope(against):
    stream = [ENVELOPED % 0, enveloped(1, '{"channel":"a"}', ["a"], "2026-01-02T03:04:05.678Z", "$forgotten")]
    result = against(Script(stream, STOP), "listen", "a")
    assert result.stdout == ""
    assert 'what the channel had is forgotten: {"channel":"a"}' in result.stderr.splitlines()


LOOKS_ENVELOPED = '{"channel":"a","event":"message","time":"2026-01-02T03:04:05.678Z","data":"x"}'


def test_what_only_looks_like_an_envelope_is_shown_as_it_is(against):
    script = Script([preamble(0), event(1, LOOKS_ENVELOPED.encode())], STOP)
    result = against(script, "listen", "a", "--json")
    assert json.loads(result.stdout) == {"id": "e-1", "event": "message", "data": LOOKS_ENVELOPED}


def test_each_connection_says_for_itself_whether_it_has_envelopes(listener):
    script = Script(
        [ENVELOPED % 0, enveloped(1, "one", ["a"], "2026-01-02T03:04:05.678Z"), BROKEN],
        [preamble(1), event(2, LOOKS_ENVELOPED.encode())],
        STOP,
    )
    found = [event.data for event in listener(script) if not event.event.startswith("$")]
    assert found == ["one", LOOKS_ENVELOPED]


@pytest.mark.parametrize(
    "data",
    [
        *(b"no JSON", b"[]", b"{}", b'{"channel":"a","time":"2026-01-02T03:04:05Z","data":1}'),
        *(b'{"channel":1,"time":"2026-01-02T03:04:05Z","data":"x"}', b'{"channel":"a","time":"noon","data":"x"}'),
        *(
            b'{"channel":"a","time":5,"data":"x"}',
            b'{"channel":"a","channels":7,"time":"2026-01-02T03:04Z","data":"x"}',
        ),
    ],
)
def test_what_a_server_puts_in_no_envelope_though_it_said_so_is_shown_as_it_is(against, data):
    result = against(Script([ENVELOPED % 0, event(1, data)], STOP), "listen", "a", "--json")
    assert json.loads(result.stdout) == {"id": "e-1", "event": "message", "data": data.decode()}


def test_listen_keeps_data_from_steering_the_terminal(against):
    script = Script([preamble(0), event(1, b"\x1b[2Jx"), b"data: a\ndata: b\n\n"], STOP)
    lines = against(script, "listen", "a").stdout.splitlines()
    assert lines[0].startswith("e-1 ")
    assert lines[0].endswith(" message \\x1b[2Jx")
    assert lines[1].endswith(" message a")
    assert lines[2] == "    b"


def test_a_gap_is_shown_on_stderr_and_told_to_programs_too(against):
    gap = b'event: $gap\nid: e-9\ndata: {"from":"e-1"}\n\n'
    text = against(Script([preamble(0), gap, event(10)], STOP), "listen", "a")
    assert "gap" in text.stderr
    assert "gap" not in text.stdout
    both = against(Script([preamble(0), gap, event(10)], STOP), "listen", "a", "--json")
    assert [json.loads(line)["event"] for line in both.stdout.splitlines()] == ["$gap", "message"]


def test_a_gap_is_told_with_how_many_events_it_may_be_where_the_server_says(against):
    told = b'{"after":"e-1","until":"e-9","positions":8}'
    gaps = [preamble(0), b"event: $gap\nid: e-9\ndata: %b\n\n" % told, event(10)]
    assert "gap: at most 8 events were lost before e-9" in against(Script(gaps, STOP), "listen", "a").stderr
    lines = against(Script(gaps, STOP), "listen", "a", "--json").stdout.splitlines()
    assert json.loads(json.loads(lines[0])["data"])["positions"] == 8


def test_closing_is_noted_and_connected_only_when_asked(against):
    stream = [preamble(0), b'event: $closing\nid: e-0\ndata: {"reason":"shutdown"}\n\n', BROKEN]
    quiet = against(Script(stream, STOP), "listen", "a")
    assert "shutdown" in quiet.stderr
    assert "the server closed the stream; trying again" in quiet.stderr  # announced, so no broken connection
    assert "broke" not in quiet.stderr
    assert "$connected" not in quiet.stderr
    assert quiet.stdout == ""
    assert "$connected" in against(Script(stream, STOP), "listen", "a", "--verbose").stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--since", "e-1", "--history", "1"),
        ("--since", "a\nb"),
        ("--since", ""),
        ("--since", "e-1 "),
        ("--url", "edge.test"),
        ("--url", "http://edge:port"),
        ("--max-event-size", "large"),
        ("--max-event-size", "-1"),
        ("--max-event-size", "0"),
    ],
)
def test_listen_refuses_what_makes_no_sense(run, args):
    assert_one_line(run("listen", "a", *args), 2)


@pytest.mark.parametrize("id", ["e-1", "orders:7/42", "1 of 3", "日"])
def test_listen_goes_on_after_any_id_that_a_header_carries_as_its_own_cursor_does(against, id):
    script = Script([b"id: %b\ndata: x\n\n" % id.encode()], STOP)
    assert against(script, "listen", "a", "--since", id).exit_code == 0
    assert last_event_ids(script) == [id, id]


@pytest.mark.parametrize("path", ["/sse", "/sse/", "/sse/news/", "/edge/sse", "/edge/sse/news"])
def test_a_url_with_a_channel_in_its_path_would_mix_that_one_in_and_is_refused(run, path):
    result = run("listen", "a", "--url", f"http://127.0.0.1:1{path}", "--retries", "0")
    assert_one_line(result, 2, "--url", "without /sse")


def test_an_edge_under_a_path_is_asked_there(run):
    assert_one_line(run("listen", "a", "--url", "http://127.0.0.1:1/edge/ssed/", "--retries", "0"), 1, "cannot reach")


def test_listen_tells_a_refusal_in_one_line(against):
    result = against(Script(problem(404, "no such thing")), "listen", "a")
    assert_one_line(result, 1, "no such thing", "404")


def published(*ids):
    return httpx.Response(200, json={"ids": list(ids)} if len(ids) > 1 else {"id": ids[0]})


def test_publish_sends_the_text_as_it_stands_and_prints_the_id(against):
    script = Script(published("e-1"))
    result = against(script, "publish", "a:b ü", "--event", "x&y", "--retry", "5", " héllo\n")
    assert (result.exit_code, result.stdout) == (0, "e-1\n")
    (request,) = script.requests
    assert request.url.raw_path.startswith(b"/publish/a%3Ab%20%C3%BC?")
    assert dict(request.url.params) == {"event": "x&y", "retry": "5"}
    assert request.content == " héllo\n".encode()


def test_publish_names_further_channels_of_the_same_event(against):
    script = Script(published("e-1"), published("e-2"), published("e-3", "e-4"))
    against(script, "publish", "a", "--also", "b", "--also", "c", "hé\nllo")
    against(script, "publish", "a", "--also", "b", "--json", '{"n": 1.0}')
    against(script, "publish", "a", "--also", "b", "--lines", input="one\ntwo\n")
    assert [request.url.path for request in script.requests] == ["/publish"] * 3
    bodies = [json.loads(line) for request in script.requests for line in request.content.splitlines()]
    assert bodies == [
        {"channels": ["a", "b", "c"], "data": "hé\nllo"},
        {"channels": ["a", "b"], "data": {"n": 1.0}},
        {"channels": ["a", "b"], "data": "one"},
        {"channels": ["a", "b"], "data": "two"},
    ]


def test_publish_takes_stdin_less_its_last_line_end(against):
    script = Script(published("e-1"))
    against(script, "publish", "a", input="one\ntwo\n\n")
    assert script.requests[0].content == b"one\ntwo\n"


def test_publish_json_is_checked_and_sent_as_a_value(against):
    script = Script(published("e-1"))
    against(script, "publish", "a", "--event", "t", "--json", ' {"n": 1} ')
    assert json.loads(script.requests[0].content) == {"channel": "a", "data": {"n": 1}, "event": "t"}
    assert script.requests[0].headers["Content-Type"] == "application/json"
    assert_one_line(against(Script(), "publish", "a", "--json", "{"), 2, "not valid JSON")


def test_publish_json_sends_numbers_digit_for_digit(against):
    script = Script(published("e-1"), published("e-2"))
    against(script, "publish", "a", "--json", "[12345678901234567890123, 1.10]")
    against(script, "publish", "a", "--json", "--lines", input=b"12345678901234567890123\n")
    assert [request.content for request in script.requests] == [
        b'{"channel":"a","data":[12345678901234567890123, 1.10]}',
        b'{"channel":"a","data":12345678901234567890123}',
    ]


def test_publish_lines_makes_an_event_of_every_line(against):
    script = Script(published("e-1", "e-2"), httpx.Response(200, json={"ids": ["e-3"]}))
    result = against(script, "publish", "a", "--lines", input="one\r\n\nthree")
    assert result.stdout == "e-3\n"
    assert result.stderr == "published 3 events\n"
    assert script.requests[0].headers["Content-Type"] == "application/x-ndjson"
    sent = [json.loads(line) for request in script.requests for line in request.content.splitlines()]
    assert sent == [{"channel": "a", "data": data} for data in ("one", "", "three")]


def test_lines_are_sent_as_they_come_and_never_cut():
    pieces = [b"on", b"e\ntwo\nth", b"ree", b"\n", b"", b"never read"]

    class SlowPipe(io.BytesIO):
        def read1(self, size=-1):
            return pieces.pop(0)

    assert list(publish.line_batches(SlowPipe())) == [[b"one", b"two"], [b"three"]]


@pytest.mark.parametrize(("args", "data"), [((), b"7\n\xff\n8\n"), (("--json",), b"7\n{\n8\n")])
def test_a_bad_line_is_named_by_its_number_and_those_before_it_are_published(against, args, data):
    script = Script(httpx.Response(200, json={"ids": ["e-1"]}))
    result = against(script, "publish", "a", "--lines", *args, input=data)
    assert result.exit_code == 2
    assert [json.loads(request.content) for request in script.requests] == [
        {"channel": "a", "data": 7 if args else "7"}
    ]
    published, wrong = result.stderr.splitlines()
    assert published == "published 1 event"
    assert "line 2 is not" in wrong
    assert "line 1" not in wrong


@pytest.mark.parametrize(("args", "data"), [((), b"\xff\n"), (("--json",), b"{\n")])
def test_a_bad_first_line_publishes_nothing(against, args, data):
    assert "line 1 is not" in against(Script(), "publish", "a", "--lines", *args, input=data).stderr


def test_publish_says_how_far_it_came(against, monkeypatch):
    monkeypatch.setattr(publish, "line_batches", lambda stdin: iter([[b"1", b"2"], [b"3"]]))
    result = against(Script(published("e-1", "e-2"), problem(413, "too large")), "publish", "a", "--lines", input="")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "published 2 events",
        "sse-fast: too large (413 Request Entity Too Large)",
    ]


@pytest.mark.parametrize("key", ["sec\nret", "secr\u00e9t", "sec ret"])
def test_a_key_that_fits_no_header_is_one_line_that_does_not_show_it(run, key):
    result = run("publish", "news", "x", "--key", key)
    assert_one_line(result, 2, "--publish-key")
    assert "sec" not in result.stderr


@pytest.mark.parametrize("channel", [".", "a/b"])
def test_data_that_is_no_text_is_one_line_whatever_the_channel(against, channel):
    assert_one_line(against(Script(), "publish", channel, input=b"a\xff"), 1, "not UTF-8", "byte 1")


@pytest.mark.parametrize(
    ("also", "words"),
    [
        (["room:42"], "--also room:42: this is CHANNEL again"),
        (["a", "b", "a"], "--also a: given twice"),
        (["a b"], "--also a b: a channel name"),
        ([str(n) for n in range(32)], "CHANNEL and --also name 33"),
    ],
)
def test_channels_that_no_event_has_together_are_told_in_the_words_of_the_command(run, also, words):
    result = run("publish", "room:42", *(word for name in also for word in ("--also", name)), "x")
    assert_one_line(result, 2, words)
    assert "'channels'" not in result.stderr


def test_publish_says_that_an_event_was_published_before_under_its_key(against):
    first, again = published("e-1"), published("e-1")
    again.headers["Idempotent-Replayed"] = "true"
    script = Script(first, again)
    assert "nothing was published" not in against(script, "publish", "a", "x", "--idempotency-key", "k").stderr
    result = against(script, "publish", "a", "x", "--idempotency-key", "k")
    assert (result.exit_code, result.stdout) == (0, "e-1\n")
    assert "nothing was published: it was before" in result.stderr


def test_the_key_comes_from_flag_or_variable(against, monkeypatch):
    script = Script(*(published(f"e-{n}") for n in range(3)))
    monkeypatch.setenv("SSE_FAST_PUBLISH_KEY", "from-variable")
    against(script, "publish", "a", "x")
    against(script, "publish", "a", "x", "--publish-key", "from-flag")
    against(script, "publish", "a", "x", "--key", "by-its-short-name")
    sent = [request.headers["Authorization"] for request in script.requests]
    assert sent == ["Bearer from-variable", "Bearer from-flag", "Bearer by-its-short-name"]
    assert not any("Idempotency-Key" in request.headers for request in script.requests)


def test_publish_tells_a_problem_and_the_lack_of_a_server_in_one_line(against):
    assert_one_line(against(Script(problem(401, "wrong key")), "publish", "a", "x"), 1, "wrong key")
    refused = httpx.ConnectError("[Errno 111] Connection refused")
    assert_one_line(against(Script(refused), "publish", "a", "x"), 1, URL, "(Connection refused)", "sse-fast serve")


def test_of_an_endless_refusal_publish_reads_so_much_and_no_more(against):
    body = Endless(b"x" * 4096)
    assert_one_line(against(Script(httpx.Response(403, stream=body)), "publish", "a", "x"), 1, "403 Forbidden")
    assert body.taken == 64 * 1024


def test_an_answer_without_a_problem_is_still_told(against):
    assert_one_line(against(Script(httpx.Response(502, html="<p>")), "publish", "a", "x"), 1, "502 Bad Gateway")


def press_ctrl_c(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Until it ends: Python looks for signals between its own steps, so one just before a system call waits for it."""
    for _ in range(6):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)
    raise AssertionError("Ctrl-C does not end it")


def test_ctrl_c_ends_listen_quietly_with_status_0():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "sse_fast", "listen", "a", "--url", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listening:
            connection, _ = server.accept()
            with connection:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + preamble(1) + event(2)
                )
                assert listening.stdout.readline().startswith(b"e-2 ")
                out, err = press_ctrl_c(listening)
        assert (listening.returncode, out) == (0, b"")
        assert b"Traceback" not in err


def test_a_reader_that_leaves_ends_listen_quietly():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "sse_fast", "listen", "a", "--url", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listening:
            connection, _ = server.accept()
            with connection:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + preamble(1) + event(2)
                )
                listening.stdout.readline()
                listening.stdout.close()
                connection.sendall(event(3))
                err = listening.stderr.read()
                assert listening.wait(30) == 0
        assert b"Traceback" not in err
        assert b"Broken" not in err
