"""The grammar of a subscribe request: channels, cursor, history; slips, and what others add."""

from urllib.parse import quote

import pytest

from sse_fast.errors import InvalidEvent
from sse_fast.protocol import native
from sse_fast.protocol.decision import Subscribe
from sse_fast.protocol.native import Asked, asked_id, subscription
from sse_fast.protocol.request import Request


def read(path: str = "", query: str = "", header: str | None = None, max_channels: int = 4) -> Subscribe:
    return Subscribe(*subscription(path, query.encode(), header, max_channels)[:4])


@pytest.mark.parametrize(
    ("path", "query", "channels"),
    [
        ("a", "", ("a",)),
        ("room/1", "", ("room:1",)),
        ("", "channel=a", ("a",)),
        ("", "channel=a&channel=b", ("a", "b")),
        ("a", "channel=b", ("a", "b")),
        ("", "channel=a&channel=b&channel=a", ("a", "b")),
        ("a", "channel=a", ("a",)),
        ("room:1", "", ("room:1",)),
        ("", "channel=room%3A1", ("room:1",)),
        ("", "channel=%C3%A9", ("é",)),
        ("é", "", ("é",)),
        ("$stats", "", ("$stats",)),
        ("a", "unknown=1", ("a",)),
    ],
)
def test_a_stream_names_its_channels_by_path_or_query_each_once(
    path: str, query: str, channels: tuple[str, ...]
) -> None:
    assert read(path, query) == Subscribe(channels, None, 0)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("", ""),
        ("", "channel="),
        ("a/", ""),
        ("/a", ""),
        ("a/b/c", ""),
        ("", "channel=a%20b"),
        ("", "channel=a%0Ab"),
        ("", "channel=%FF"),
        ("", "channel=" + "x" * 2049),
        ("", "channel=a&channel=b&channel=c&channel=d&channel=e"),
        ("$nothing", ""),
        ("", "channel=é"),
        ("a", "history=-1"),
        ("a", "history=x"),
        ("a", "history="),
        ("a", "history=1000001"),
        ("a", "history=" + "9" * 5000),
        ("a", "history=" + "0" * 20 + "9" * 20),
        ("a", "history=" + "0" * 5000),
        ("a", "history=%C2%B2"),
        ("a", "history=1&history=2"),
        ("a", "last_event_id=" + "x" * 513),
        ("a", "envelope="),
        ("a", "envelope=xml"),
        ("a", "envelope=json&envelope=json"),
    ],
)
def test_what_the_grammar_does_not_know_is_refused(path: str, query: str) -> None:
    with pytest.raises(InvalidEvent):
        read(path, query)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [(slip, "history") for slip in ("histroy", "hist", "histories", "History", "history[]")]
    + [(slip, "channel") for slip in ("chanel", "channels", "chan", "CHANNEL", "channel[]", "chnanel")]
    + [(slip, "last_event_id") for slip in ("last_event", "lastEvent", "last_id", "lastevent_di", "lastEventIds")]
    + [(slip, "last_event_id") for slip in ("since", "Since")]
    + [(slip, "envelope") for slip in ("enveloppe", "envelop", "Envelope", "envelopes")],
)
def test_a_parameter_that_must_be_a_slip_is_refused_with_what_was_meant(slip: str, meant: str) -> None:
    for query in (f"{slip}=10", f"_=1&{slip}=a", f"channel=b&{slip}"):
        with pytest.raises(InvalidEvent, match=f"unknown parameter '.*'; did you mean '{meant}'"):
            read("a", query)


def test_a_form_that_there_is_not_is_refused_with_the_one_that_there_is() -> None:
    assert not read("a").envelope
    assert read("a", "envelope=json").envelope
    with pytest.raises(InvalidEvent, match="'envelope' must be 'json', the one that there is; this is 'xml'"):
        read("a", "envelope=xml")


@pytest.mark.parametrize(
    "foreign",
    # What clients and those between add: cache busters of jQuery and htmx, event-source-polyfill's older ones, amvtek's
    # polyfill, credentials for a proxy, trackers.
    [
        *("_=1700000000000", "org.htmx.cache-buster=7", "r=0.123", "nocache", "evs_preamble=2056"),
        *("evs_buffer_size_limit=262144", "token=x", "access_token=x", "authorization=x", "utm_source=x", "lang=de"),
        # And apps: words that look like ours.
        *("cancel=1", "changed=1", "story=7", "last_seen=1", "channelId=1", "channel_token=x", "channelName=x"),
        *("historyId=1", "historical=1", "event_id=1", "eventId=1", "lastEventTime=1", "latestId=1"),
    ],
)
def test_parameters_that_others_add_change_nothing(foreign: str) -> None:
    assert read("a", f"{foreign}&history=3") == Subscribe(("a",), None, 3)


def test_only_so_many_parameters_are_compared_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(native, "_edits", lambda name, known: compared.append(name) or 9)
    read("a", "&".join(f"{number:07}" for number in range(1000)))
    assert 0 < len(set(compared)) <= 8
    compared.clear()
    read("a", "&".join("x" * length for length in range(14, 1000)))
    assert not compared


@pytest.mark.parametrize(
    "name", ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "last-event-id", "evs_last_event_id"]
)
def test_the_id_comes_by_any_of_its_parameters_and_the_header_wins(name: str) -> None:
    assert read("a", f"{name}=abcdefgh-7").last_event_id == "abcdefgh-7"
    assert read("a", f"{name}=abcdefgh-7", header="abcdefgh-9").last_event_id == "abcdefgh-9"
    assert read("a", f"{name}={quote('earliest')}").last_event_id == "earliest"


def test_an_empty_id_is_none_at_all() -> None:
    assert read("a", "last_event_id=").last_event_id is None
    assert read("a", header="").last_event_id is None


@pytest.mark.parametrize(
    "query",
    [
        "last_event_id=e-1&lastEventId=e-2",  # the URL of the page, and what event-source-polyfill appends to it
        "lastEventId=e-1&last_event_id=e-2",
        "last_event_id=e-1&last_event_id=e-2",
        "last_event_id=&lastEventId=e-2",
        "last_event_id=e-2&lastEventId=",
        "evs_last_event_id=e-1&_=1&Last-Event-ID=e-2&last_event_id=",
    ],
)
def test_of_several_ids_in_the_query_the_last_that_is_not_empty_wins(query: str) -> None:
    assert read("a", query).last_event_id == "e-2"
    assert asked_id(Request("GET", "/", query.encode())) == "e-2"


def test_a_history_longer_than_the_server_grants_is_refused_and_told_the_limit() -> None:
    assert subscription("a", b"history=50", None, 4, max_history=50) == Asked(("a",), None, 50, False)
    with pytest.raises(InvalidEvent, match="from 0 to 50, not '51'"):
        subscription("a", b"history=51", None, 4, max_history=50)


def test_history_is_read_up_to_its_limit() -> None:
    assert read("a", "history=1000000").history == 1_000_000
    assert read("a", "history=00").history == 0


def test_as_many_channels_as_the_limit_allows() -> None:
    assert len(read("", "&".join(f"channel={name}" for name in "abcd")).channels) == 4
    most = 4096  # as max_channels_per_stream can be
    assert len(read("", "&".join(f"channel={n}" for n in range(most)), max_channels=most).channels) == most
