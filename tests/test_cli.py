"""The command line: what it says, what it refuses, how Granian is started, and the form of the logs."""

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
import trustme
from granian.constants import HTTPModes
from granian.server.mp import MPServer
from support import free_port

from sse_fast.base.descriptors import (
    LEAST_DESCRIPTORS,
    budget,
    descriptors_for,
)
from sse_fast.cli.groups import GROUPS
from sse_fast.cli.main import main
from sse_fast.logs import JsonFormatter, TextFormatter, log_config
from sse_fast.node import serve
from sse_fast.node.serve import CannotServe
from sse_fast.settings import Settings

pytestmark = pytest.mark.usefixtures("nothing_set")


# ---- help ------------------------------------------------------------------------------------------------------------


def commands(group=main, *names):
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize("command", [*commands()], ids=" ".join)
def test_every_help_has_examples(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"sse-fast {' '.join(command)}" in result.output.partition("Examples:")[2]


@pytest.mark.parametrize("command", [*commands()], ids=" ".join)
def test_every_option_has_a_help(run, command):
    context = click.Context(main)
    found = main
    for name in command:
        found = found.get_command(context, name)
    assert [
        each.name for each in found.params if isinstance(each, click.Option) and not (each.help or each.hidden)
    ] == []


def test_every_setting_is_a_flag_that_help_explains(run):
    words = " ".join(run("serve", "--help").output.split())
    sentences = words.replace("- ", "-")  # lines may end behind a hyphen
    for name, field in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in words
        assert f"SSE_FAST_{name.upper()}" in words
        assert field.description.replace("- ", "-") in sentences


def test_every_setting_has_its_place_in_the_help_of_serve_once(run):
    grouped = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(grouped) == sorted(Settings.model_fields)
    said = run("serve", "--help").output
    places = [said.index(f"{title}:") for title in GROUPS]
    assert places == sorted(places)


def test_a_default_is_shown_as_it_is_written(run):
    words = " ".join(run("serve", "--help").output.split())
    assert "default cookie,authorization]" in words
    assert "['" not in words


# ---- serve -----------------------------------------------------------------------------------------------------------


def test_flags_reach_the_server_and_beat_the_rest(run, monkeypatch):
    started = []
    monkeypatch.setattr(serve, "serve", lambda settings: started.append(settings) or 0)
    monkeypatch.setenv("SSE_FAST_PORT", "1000")
    monkeypatch.setenv("SSE_FAST_OPEN", "true")
    args = "--port 1001 --no-open --log-size 1MiB --cors-origins https://a,https://b --cors-origins https://c"
    assert run("serve", *args.split()).exit_code == 0
    (settings,) = started
    assert (settings.port, settings.open, settings.log_size) == (1001, False, 2**20)
    assert settings.cors_origins == ["https://a", "https://b", "https://c"]


def assert_one_line(result, status, *parts):
    assert result.exit_code == status
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    for part in ("sse-fast: ", *parts):
        assert part in result.stderr


def test_a_bad_value_is_one_line_and_status_2(run, monkeypatch):
    assert_one_line(run("serve", "--port", "x"), 2, "--port", "integer")
    monkeypatch.setenv("SSE_FAST_LOG_SIZE", "64QB")
    assert_one_line(run("serve"), 2, "SSE_FAST_LOG_SIZE", "64QB", "e.g. 64MiB")


@pytest.mark.parametrize("flags", ["--stream-port 8001", "--stream-redirect", "--stream-redirect --port 8001"])
def test_a_flag_that_is_none_any_more_is_one_line_that_says_what_is_right(run, flags):
    assert_one_line(run("serve", *flags.split()), 2, flags.split()[0], "the one port has everything")
    assert "--stream" not in run("serve", "--help").output


def test_an_unsafe_start_is_refused(run):
    assert_one_line(run("serve", "--host", "0.0.0.0"), 2, "0.0.0.0", "--publish-key", "--open")


def test_a_port_in_use_is_one_line_and_status_1_even_where_the_owner_shares_it(run, monkeypatch):
    monkeypatch.setattr(serve, "Supervisor", None)  # nothing is to start here, come what may
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        assert_one_line(run("serve", "--port", str(port)), 1, str(port), "in use")


@pytest.mark.parametrize(("host", "why"), [("192.0.2.1", "not an address of this machine"), ("no.invalid", "resolves")])
def test_an_address_that_is_not_ours_is_refused(host, why):
    with pytest.raises(CannotServe, match=why):
        serve.claim_address(host, 18099)


def test_a_socket_left_behind_is_removed_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "edge.sock"
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(path))
        owner.listen()
        with pytest.raises(CannotServe, match="another server"), serve.claim_path(path):
            pass
        assert path.is_socket()
    with serve.claim_path(path):
        assert not path.exists()


def test_a_file_is_never_taken_for_a_socket(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(CannotServe, match="not a socket"), serve.claim_path(path):
        pass
    assert path.read_text() == "data"


@pytest.mark.parametrize("path", ["/nonexistent/edge.sock", "/tmp/" + "x" * 200])
def test_a_socket_that_cannot_be_made_is_refused(path):
    with pytest.raises(CannotServe, match="cannot make the socket"), serve.claim_path(Path(path)):
        pass


def test_a_certificate_with_the_wrong_key_is_refused(tmp_path):
    ca = trustme.CA()
    files = []
    for name in ("one", "two"):
        cert = ca.issue_cert("localhost")
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        files.append((tmp_path / f"{name}.pem", tmp_path / f"{name}.key"))
    (one, one_key), (_, two_key) = files
    serve.check_certificate(Settings(ssl_certificate=one, ssl_keyfile=one_key))
    with pytest.raises(CannotServe, match=str(two_key)):
        serve.check_certificate(Settings(ssl_certificate=one, ssl_keyfile=two_key))
    with pytest.raises(CannotServe, match="cannot read"):
        serve.check_certificate(Settings(ssl_certificate=one, ssl_keyfile=tmp_path / "none"))


def test_an_encrypted_key_is_refused_and_not_asked_for(tmp_path):
    cert = trustme.CA().issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    plain = tmp_path / "plain.key"
    cert.private_key_pem.write_to_path(plain)
    locked = tmp_path / "locked.key"
    openssl = ["openssl", "pkey", "-in", str(plain), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(openssl, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(CannotServe, match="unencrypted"):
        serve.check_certificate(Settings(ssl_certificate=tmp_path / "c.pem", ssl_keyfile=locked))


def test_a_descriptor_limit_with_which_nobody_could_be_served_is_refused_and_what_is_needed_is_said(run, monkeypatch):
    monkeypatch.setattr(serve, "Supervisor", None)  # nothing is to start here, come what may
    monkeypatch.setattr(serve, "raise_descriptor_limit", lambda: LEAST_DESCRIPTORS - 1)
    port = str(free_port())
    assert_one_line(run("serve", "--port", port), 1, "255 descriptors", "256 at least", "ulimit -Hn", "LimitNOFILE")


def test_the_start_line_says_what_holds_and_not_what_was_asked_for(run, monkeypatch, caplog):
    class Started:
        def __init__(self, *_, **arguments):
            self.interrupt_signal, self.hooks = False, []

        def on_startup(self, hook):
            self.hooks.append(hook)

        def serve(self, **_):
            for hook in self.hooks:
                hook()

    monkeypatch.setattr(serve, "Supervisor", Started)
    monkeypatch.setattr(serve, "raise_descriptor_limit", lambda: 2000)
    monkeypatch.setattr(serve.logging.config, "dictConfig", lambda config: None)
    monkeypatch.setattr(serve, "unknown_variables", list)
    monkeypatch.setattr(serve.os, "environ", {})
    asked = Settings(port=free_port(), log_size=3_000_000, max_connections=1_000_000)
    with caplog.at_level(logging.INFO, logger=serve.log.name):
        assert serve.serve(asked) == 0
    warning, announced = caplog.records
    assert "max_connections=1000000 cannot be reached, and 1582 holds" in warning.message
    assert announced.max_connections == 1582
    assert announced.log_size == "4 MiB"
    assert announced.listen == "open to anybody"


MERCURE = {"mercure": True, "mercure_subscriber_key": "s" * 32, "mercure_publisher_key": "p" * 32}
BY_MERCURE = "open to anybody by Mercure: what is not private"


@pytest.mark.parametrize(
    ("settings", "listen", "publish"),
    [
        ({}, "open to anybody", "open to anybody"),
        ({"publish_key": "k"}, "open to anybody", "needs a key"),
        ({"publish_key": "k", "grant_publish": "chat"}, "open to anybody", "needs a key; open to anybody: chat"),
        ({"grant_subscribe": "a,b:*", "grant_publish": "c"}, "open to anybody: a, b:*", "open to anybody: c"),
        ({"token_secret": "s" * 32, "publish_key": "k"}, "needs a token", "needs a key or a token"),
        ({"token_secret": "s" * 32, "grant_subscribe": "a"}, "needs a token; open to anybody: a", "needs a token"),
        ({"token_secret": "s" * 32, "open": True}, "needs a token", "open to anybody"),
        ({"authorize_url": "http://app.example/"}, "needs the webhook's word", "open to nobody"),
        ({**MERCURE}, "needs a token", "needs a token"),
        ({**MERCURE, "mercure_anonymous": True}, f"needs a token; {BY_MERCURE}", "needs a token"),
        (
            {"mercure": True, "mercure_publisher_key": "s" * 32, "grant_subscribe": "a"},
            f"needs a token; open to anybody: a; {BY_MERCURE}",
            "needs a token",
        ),
        ({**MERCURE, "mercure_anonymous": True, "token_secret": "s" * 32}, "needs a token", "needs a token"),
    ],
)
def test_the_start_line_says_who_may_listen_and_who_may_publish(settings, listen, publish):
    said = Settings(**settings)
    assert (serve.listening(said), serve.publishing(said)) == (listen, publish)


def test_the_soft_descriptor_limit_is_raised_to_the_hard_one(monkeypatch):
    limits = [1024, 50_000]
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda what, wanted: limits.__setitem__(slice(None), wanted))
    assert serve.raise_descriptor_limit() == 50_000
    assert limits == [50_000, 50_000]


def test_an_unlimited_descriptor_limit_is_not_taken_at_its_word(monkeypatch):
    limits = [1024, resource.RLIM_INFINITY]
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda what, wanted: limits.__setitem__(slice(None), wanted))
    assert serve.raise_descriptor_limit() == 1 << 20
    assert limits == [1 << 20, resource.RLIM_INFINITY]


def arguments(descriptors=20_000, **settings):
    return serve.granian_arguments(Settings(**{"max_connections": 1000} | settings), descriptors)


def test_granian_knows_every_argument():
    server = MPServer(**arguments())
    assert (server.interface, server.loop, server.workers, server.websockets) == ("asgi", "uvloop", 1, False)
    assert server.backlog == 4096


def test_http2_comes_with_tls_only():
    assert arguments()["http"] is HTTPModes.http1
    assert arguments(ssl_certificate="c", ssl_keyfile="k")["http"] is HTTPModes.auto
    assert arguments()["http2_settings"].max_concurrent_streams >= 1000


TLS = {"ssl_certificate": "c", "ssl_keyfile": "k"}


@pytest.mark.parametrize("streams", [1000, 18_095, 50_000])
def test_granian_accepts_whatever_there_is_a_descriptor_for_and_behind_a_front_what_is_relayed(streams):
    has = budget(20_000, streams)
    assert arguments(max_connections=streams)["backpressure"] == has.relayed
    assert arguments(max_connections=streams, **TLS)["backpressure"] == has.without_relay
    beside = {"app": "shop:app"}
    assert arguments(max_connections=streams, **beside)["backpressure"] == budget(20_000, streams, app=True).relayed
    assert arguments(max_connections=streams, **beside, **TLS)["backpressure"] == has.without_relay


@pytest.mark.parametrize("app", [False, True])
@pytest.mark.parametrize("streams", [1, 112, 5000, 1_000_000])
def test_the_descriptors_that_the_warning_asks_for_are_enough_and_hardly_one_too_many(streams, app):
    needed = descriptors_for(streams, app=app)
    assert budget(needed, app=app).streams >= streams
    assert needed == LEAST_DESCRIPTORS or budget(needed - 8, app=app).streams < streams


def test_a_worker_outlives_its_drain_but_not_by_much():
    assert arguments(drain_timeout=10)["workers_kill_timeout"] == 15
    assert arguments(drain_timeout=0)["workers_kill_timeout"] == 5


def test_a_name_becomes_the_address_that_granian_wants():
    assert arguments(host="localhost")["address"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8000/"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8000/"),
        ({"host": "::"}, "http://[::1]:8000/"),
        ({"host": "::1", "ssl_certificate": "c", "ssl_keyfile": "k"}, "https://[::1]:8000/"),
        ({"uds": "/run/s"}, "unix:/run/s"),
    ],
)
def test_the_url_is_one_to_open(settings, url):
    assert serve.url_of(Settings(**settings)) == url


# ---- logs ------------------------------------------------------------------------------------------------------------


def record(message, *args, exc_info=None, **fields):
    made = logging.makeLogRecord({"name": "sse_fast.x", "levelno": 20, "levelname": "INFO", "msg": message, **fields})
    made.args, made.exc_info = args, exc_info
    return made


def test_a_json_entry_is_one_object_on_one_line():
    try:
        raise ValueError("why")
    except ValueError:
        line = JsonFormatter().format(record("a\nb %s", 1, exc_info=sys.exc_info(), reason="slow", path=Path("/x")))
    assert "\n" not in line
    entry = json.loads(line)
    assert list(entry)[:4] == ["time", "level", "logger", "message"]
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "sse_fast.x", "a\nb 1")
    assert (entry["reason"], entry["path"]) == ("slow", "/x")
    assert "ValueError: why" in entry["exception"]


@pytest.mark.parametrize("odd", ["\ud800", 2**80])
def test_no_value_keeps_a_json_entry_from_being_written(odd):
    assert json.loads(JsonFormatter().format(record("m", odd=odd)))["message"].strip("'") == "m"


def test_a_text_entry_cannot_be_forged_nor_steer_a_terminal():
    line = TextFormatter().format(record("a\n2026 INFO forged\x1b[2J", name="sse_fast.x", who="x y\nz"))
    assert "\x1b" not in line
    assert [part[:4] for part in line.split("\n")[1:]] == ["    "]
    assert 'who="x y\\nz"' in line


@pytest.mark.parametrize("logger", ["sse_fast.edge", "_granian", "granian.access"])
def test_granian_logs_in_our_form(logger):
    script = (
        "import logging, granian.log as g; from sse_fast.logs import log_config;"
        "g.configure_logging(g.LogLevels.info, log_config('info', 'json'));"
        f"logging.getLogger({logger!r}).info('hello')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["logger"] == logger
    assert done.stdout == ""


def test_levels_are_those_asked_for():
    loggers = log_config("error", "text")["loggers"]
    assert loggers.pop("sse_fast.access")["level"] == "INFO", "it has lines only where they are asked for"
    assert {logger["level"] for logger in loggers.values()} == {"ERROR"}


@pytest.mark.parametrize(("level", "heard"), [("debug", "DEBUG"), ("info", "WARNING"), ("error", "ERROR")])
def test_of_each_piece_for_a_client_that_has_left_only_who_looks_for_it_is_told(level, heard):
    assert log_config(level, "text")["loggers"]["_granian.asgi.io"] == {"level": heard}


def test_a_traceback_cannot_be_taken_for_entries_of_its_own():
    try:
        raise ValueError("why\n2026 INFO forged\x1b[2J")
    except ValueError:
        line = TextFormatter().format(record("m", exc_info=sys.exc_info()))
    assert "\x1b" not in line
    assert "\n    Traceback" in line
    assert {part[:4] for part in line.split("\n")[1:]} == {"    "}


@pytest.mark.parametrize(("app", "told"), [(True, ["shop"]), (False, [])], ids=["beside an app", "alone"])
def test_an_app_s_own_entries_are_in_our_form_at_the_level_asked_for(app, told):
    script = (
        "import logging, granian.log as g; from sse_fast.logs import log_config;"
        f"g.configure_logging(g.LogLevels.info, log_config('info', 'json', app={app}));"
        "logging.basicConfig(level=logging.DEBUG);"
        "logging.getLogger('shop').info('hello'); logging.getLogger('shop').debug('no')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [json.loads(line)["logger"] for line in done.stderr.splitlines()] == told


def test_beside_an_app_the_server_logs_what_the_app_s_loggers_say():
    for app, level in ((None, "WARNING"), ("main:app", "DEBUG")):
        assert serve.logging_of(Settings(app=app, log_level="debug"))["root"]["level"] == level


# ---- clients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "step"), [(401, "--token or SSE_FAST_TOKEN"), (404, "--url .../edge"), (403, "")])
@pytest.mark.parametrize("command", ["publish", "listen"])
def test_who_is_refused_is_told_what_to_do_here(run, command, status, step):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            said.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    said = []
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        data = ["x"] if command == "publish" else []
        result = run(command, "a", *data, "--url", url, env={"SSE_FAST_TOKEN": "t0ken"})
        thread.join()
    assert result.exit_code == 1
    assert step in result.stderr
    assert (";" in result.stderr) == bool(step)
    assert said == ["Bearer t0ken"]


# ---- without a stdin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("publish", "news", "hello"), 1, "cannot reach"),
        (("publish", "news"), 2, "no stdin"),
        (("token", "inspect", "-"), 2, "no stdin"),
    ],
)
def test_a_process_that_was_started_without_a_stdin_misses_it_only_where_it_would_read_it(
    arguments: tuple[str, ...], status: int, said: str
) -> None:
    closed = ["sh", "-c", 'exec "$0" -m sse_fast "$@" <&-', sys.executable, *arguments]
    url = {"SSE_FAST_URL": f"http://127.0.0.1:{free_port()}"}
    done = subprocess.run(closed, env=os.environ | url, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert said in done.stderr
