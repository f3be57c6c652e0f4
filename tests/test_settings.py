"""Settings: four sources, one precedence, one readable line for each mistake, and an exact hand-over to workers."""

import json
import multiprocessing
import re
import tomllib
from pathlib import Path

import pytest

from sse_fast import create_app
from sse_fast.settings import HANDED_DOWN, BadSettings, Settings, refuse_unsafe, unknown_variables

EXAMPLE = Path(__file__).parent.parent / "examples" / "sse-fast.toml"
EVERYTHING = {
    "host": "::1",
    "port": 9000,
    "uds": "/tmp/edge.sock",
    "log_size": "1GiB",
    "keepalive": 0.25,
    "publish_key": "k3y",
    "cors_origins": ["https://a.example", "http://b.example:81"],
    "max_connections": 7,
    "slow_policy": "skip",
}


pytestmark = pytest.mark.usefixtures("nothing_set")


def assert_refused(flags, *parts):
    with pytest.raises(BadSettings) as caught:
        Settings.load(flags)
    assert len(caught.value.problems) == 1
    for part in parts:
        assert part in caught.value.problems[0]
    assert "\n" not in caught.value.problems[0]


def test_flag_beats_variable_beats_file_beats_default(monkeypatch):
    assert Settings.load().port == 8000
    Path("sse-fast.toml").write_text("port = 8001\n")
    assert Settings.load().port == 8001
    monkeypatch.setenv("SSE_FAST_PORT", "8002")
    assert Settings.load().port == 8002
    assert Settings.load({"port": "8003"}).port == 8003


def test_sizes_are_written_with_units():
    assert Settings.load({"log_size": "512KiB"}).log_size == 2**19
    assert Settings.load({"log_size": "1.5GiB"}).log_size == 3 * 2**29


@pytest.mark.parametrize("flags", [{"cors_origins": ["https://a, https://b", "https://c"]}, {}])
def test_lists_are_repeated_or_comma_separated(monkeypatch, flags):
    monkeypatch.setenv("SSE_FAST_CORS_ORIGINS", "https://a,https://b , https://c,")
    assert Settings.load(flags).cors_origins == ["https://a", "https://b", "https://c"]


def test_a_mistake_is_named_by_where_it_was_made(monkeypatch):
    assert_refused({"port": "70000"}, "--port:", "65535", "'70000'")
    monkeypatch.setenv("SSE_FAST_PORT", "no")
    assert_refused({}, "SSE_FAST_PORT:", "integer", "'no'")
    monkeypatch.delenv("SSE_FAST_PORT")
    Path("sse-fast.toml").write_text("port = 0\n")
    assert_refused({}, "port in sse-fast.toml:", "greater than or equal to 1")


def test_every_mistake_is_told_at_once():
    with pytest.raises(BadSettings) as caught:
        Settings.load({"port": "x", "retry": "-1"})
    assert len(caught.value.problems) == 2


def test_an_unknown_key_in_the_file_is_refused_with_the_nearest_name():
    Path("sse-fast.toml").write_text("max_conections = 5\n")
    assert_refused({}, "max_conections in sse-fast.toml", "did you mean max_connections?")


@pytest.mark.parametrize("name", ["stream_port", "stream_redirect"])
def test_what_is_no_setting_any_more_is_refused_wherever_it_stands_and_says_why(name, monkeypatch):
    Path("sse-fast.toml").write_text(f"{name} = 8001\n")
    assert_refused({}, f"{name} in sse-fast.toml is no setting any more", "the one port")
    Path("sse-fast.toml").unlink()
    monkeypatch.setenv(f"SSE_FAST_{name.upper()}", "8001")
    assert_refused({}, f"SSE_FAST_{name.upper()} is no setting any more", "the one port")
    monkeypatch.delenv(f"SSE_FAST_{name.upper()}")
    assert_refused({name: "8001"}, f"--{name.replace('_', '-')} is no setting any more", "the one port")


def test_a_file_that_is_not_toml_is_refused():
    Path("sse-fast.toml").write_text("port = = 1\n")
    assert_refused({}, "sse-fast.toml is not valid TOML", "line 1")


def test_an_unknown_variable_is_told_with_the_nearest_name():
    lines = unknown_variables({"SSE_FAST_PRT": "1", "SSE_FAST_URL": "x", "SSE_FAST_PORT": "1", "PATH": ""})
    assert lines == ["SSE_FAST_PRT is not a setting and was ignored; did you mean SSE_FAST_PORT?"]


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key):
    with pytest.raises(BadSettings, match="visible ASCII") as caught:
        Settings.load({"publish_key": key})
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "origin",
    ["example.org", "https://a.example/path", "ftp://a", "https://", "https://*.a", "http://a:b", "http://a:*:80"],
)
def test_what_is_no_origin_is_refused(origin):
    assert_refused({"cors_origins": [origin]}, "--cors-origins", "scheme://host")


@pytest.mark.parametrize(
    "app", ["shop.main", "shop/main.py:app", "shop.main:", ":app", "shop main:app", "shop.main:app()"]
)
def test_what_names_no_app_is_refused(app):
    assert_refused({"app": app}, "--app", "MODULE:ATTRIBUTE, as in shop.main:app")


@pytest.mark.parametrize("app", ["main:app", "shop.main:sites.public", "größe:app_1"])
def test_an_app_is_a_module_and_an_attribute_each_of_one_name_or_several(app):
    assert Settings.load({"app": app}).app == app


@pytest.mark.parametrize(
    "path", ["/", "", "edge", "/edge/", "/a//b", "/a/../b", "/.", "/e?x", "/ed ge", "/%65dge", "/ä"]
)
def test_what_is_no_path_for_the_edge_is_refused(path):
    assert_refused({"app": "main:app", "edge_path": path}, "--edge-path", "as in /edge or /live/events")


def test_what_says_more_of_an_app_needs_one():
    assert_refused({"factory": True}, "factory", "set app too")
    assert_refused({"edge_path": "/live"}, "edge_path", "set app too")
    Settings.load({"app": "main:app", "factory": True, "edge_path": "/live/events-1"})


def test_certificate_and_key_go_together():
    assert_refused({"ssl_keyfile": "key.pem"}, "ssl_certificate and ssl_keyfile go together")


def test_an_event_fits_four_times_into_the_log():
    assert_refused({"log_size": "64KiB", "max_event_size": "16385"}, "max_event_size", "quarter")
    Settings.load({"log_size": "64KiB", "max_event_size": "16384"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_publishing_is_open_on_loopback(host):
    refuse_unsafe(Settings.load({"host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_elsewhere_it_takes_a_key_or_the_word_open(host):
    with pytest.raises(ValueError, match="--publish-key"):
        refuse_unsafe(Settings.load({"host": host}))
    refuse_unsafe(Settings.load({"host": host, "publish_key": "k" * 16}))
    refuse_unsafe(Settings.load({"host": host, "open": True}))
    with pytest.raises(ValueError, match="of 15 characters, which can be guessed: it has at least 16") as refusal:
        refuse_unsafe(Settings.load({"host": host, "publish_key": "k" * 15, "open": True}))
    assert "kkk" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "name", "cure"),
    [
        ({"token_issuer": "https://id.example"}, "token_issuer", "set token_secret, token_keys or jwks_url"),
        ({"token_audience": "edge"}, "token_audience", "token_secret"),
        ({"token_algorithms": ["RS256"]}, "token_algorithms", "token_secret"),
        ({"token_leeway": 0}, "token_leeway", "token_secret"),
        ({"token_endless": True}, "token_endless", "token_secret"),
        ({"token_cookie": "tok"}, "token_cookie", "token_secret"),
        ({"token_cookie": "tok", "authorize_url": "http://app.example/"}, "token_cookie", "token_secret"),
        ({"token_in_query": True}, "token_in_query", "token_secret"),
        ({"authorize_headers": ["cookie"]}, "authorize_headers", "set authorize_url"),
        ({"authorize_headers": ["cookie"], "token_secret": "s" * 32}, "authorize_headers", "set authorize_url"),
    ],
)
def test_what_says_how_credentials_are_taken_needs_something_that_closes_the_server(settings, name, cure):
    for use in (create_app, refuse_unsafe):
        with pytest.raises(ValueError, match=f"{name} does nothing without .*{cure}.*or leave {name} out"):
            use(Settings.load(settings))


def test_what_is_too_short_to_be_compressed_is_said_of_a_server_that_compresses():
    for use in (create_app, refuse_unsafe):
        with pytest.raises(ValueError, match=r"compress_min does nothing without .*set compress too, or leave"):
            use(Settings.load({"compress_min": "1KiB"}))
    for said in (True, False):
        refuse_unsafe(Settings.load({"compress_min": "1KiB", "compress": said}))


def test_who_is_there_is_told_where_somebody_says_who_they_are():
    said = {"presence_channels": ["room:*"]}
    with pytest.raises(ValueError, match="presence_channels does nothing without a source of users"):
        refuse_unsafe(Settings.load(said))
    for source in ({"token_secret": "s" * 32}, {"authorize_url": "http://app.example/"}, {"app": "shop:app"}):
        refuse_unsafe(Settings.load(said | source))


def test_workers_get_exactly_what_the_parent_had(monkeypatch):
    settings = Settings.load(EVERYTHING)
    handed_down = settings.to_environment()
    # Neither may matter any more: the file may have been edited since the start.
    monkeypatch.setenv("SSE_FAST_PORT", "1")
    Path("sse-fast.toml").write_text("not toml")
    assert Settings.from_environment(handed_down) == settings
    assert Settings.from_environment(handed_down).publish_key.get_secret_value() == "k3y"
    assert set(json.loads(handed_down[HANDED_DOWN])) == set(Settings.model_fields)


def _port_and_key(pipe):
    settings = Settings.from_environment()
    pipe.send((settings.port, settings.publish_key.get_secret_value()))


def test_a_spawned_worker_gets_them_too(monkeypatch):
    for name, value in Settings.load(EVERYTHING).to_environment().items():
        monkeypatch.setenv(name, value)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    worker = spawn.Process(target=_port_and_key, args=(there,))
    worker.start()
    try:
        assert here.poll(30)
        assert here.recv() == (9000, "k3y")
    finally:
        worker.join(30)


def test_without_a_parent_the_usual_sources_count(monkeypatch):
    monkeypatch.setenv("SSE_FAST_PORT", "8111")
    assert Settings.from_environment().port == 8111


def test_the_key_does_not_show_itself():
    assert "k3y" not in repr(Settings.load(EVERYTHING))


def test_the_example_names_every_setting_with_its_default():
    text = EXAMPLE.read_text()
    assert tomllib.loads(text) == {}, "the example sets something"
    example = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE))
    assert set(example) == set(Settings.model_fields)
    defaults = Settings.load()
    for name, field in Settings.model_fields.items():
        if field.default not in (None, []):
            assert Settings.load({name: example[name]}) == defaults, name


def test_the_example_is_valid_as_a_whole():
    example = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    with pytest.raises(BadSettings, match="the secret of the example"):
        Settings.load(example)
    Settings.load(example | {"token_secret": "s" * 32})


def test_what_a_server_has_of_a_backplane_goes_with_one_and_with_no_log_of_its_own():
    with pytest.raises(ValueError, match="backplane_replicas does nothing without a backplane"):
        refuse_unsafe(Settings.load({"backplane_replicas": "1"}))
    url = "redis://user:xyzzy@host:6379/0"
    with pytest.raises(ValueError, match="leave log_file out"):
        refuse_unsafe(Settings.load({"backplane": url, "log_file": "log"}))
    presence = {"presence_channels": "room:*", "token_secret": "s" * 32}
    with pytest.raises(ValueError, match="an edge in front of another one does not know who is there"):
        refuse_unsafe(Settings.load({"backplane": "https://inner.example", **presence}))
    refuse_unsafe(Settings.load({"backplane": url, **presence}))
    settings = Settings.load({"backplane": url, "backplane_replicas": "1", "backplane_max_age": "7d"})
    refuse_unsafe(settings)
    assert "xyzzy" not in repr(settings)
    assert Settings.from_environment(settings.to_environment()) == settings


@pytest.mark.parametrize(("given", "seconds"), [("1h", 3600), ("1.5m", 90), ("30min", 1800), ("7d", 604_800)])
def test_seconds_may_be_written_with_a_unit(given, seconds):
    assert Settings.load({"max_stream_age": given}).max_stream_age == seconds
    assert Settings.load({"max_stream_age": str(seconds)}).max_stream_age == seconds
    assert_refused({"max_stream_age": "soon"}, "--max-stream-age")
