"""`sse-fast bench`: options to a plan, a plan to tables and JSON. Exit status 1: a wrong stream; 2: a wrong plan."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import orjson
from rich.console import Console

from sse_fast.bench.facts import InvalidResult, load
from sse_fast.bench.modes import run
from sse_fast.bench.plan import Broadcast, Channels, Churn, Hold, InvalidPlan, Mode, Plan, Slow, Storm, Target
from sse_fast.bench.report import render
from sse_fast.bench.server import CannotStart
from sse_fast.bench.terminal import progress_bar, results_console, show
from sse_fast.settings import PUBLISH_KEY

Command = Callable[..., None]


def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    return click.option(*names, show_default=settings.pop("show_default", True), **settings)


class Output(click.Path):
    """A file to be written when a run is done, tried before the run begins: created, or opened as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        there = path.exists()
        try:
            path.open("ab").close()
            if not there:
                path.unlink()
        except OSError as error:
            self.fail(f"{path} cannot be written: {error.strerror}", param, ctx)
        return path


OUTPUT = Output(dir_okay=False)

COMMON = (
    click.argument("url", required=False),
    option("--publish", "publish_url", metavar="URL", help="Where events are published; may contain {channel}."),
    option("--method", default="POST", help="The method of publishing."),
    option("--body", default="{data}", help="What is published: {data} as it stands, {json} as a JSON string."),
    option("--content-type", default="text/plain", help="The type of that body."),
    option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every stream request."),
    option("--publish-header", multiple=True, metavar="'NAME: VALUE'", help="Sent with every publish request."),
    option(
        "--key",
        envvar="SSE_FAST_PUBLISH_KEY",
        show_envvar=True,
        help="The publish key of an edge named by its address alone. Other URLs are sent none: see --publish-header.",
    ),
    option("--size", type=int, default=64, help="Bytes of a payload, at least 59."),
    option("--publishers", type=int, default=16, help="Connections to publish over; one event at a time on each."),
    option("--connect-rate", type=float, default=0.0, metavar="PER_SECOND", help="Streams to open; 0: as fast as may."),
    option("--connecting", type=int, default=256, help="Streams that may wait for their response head at once."),
    option("--patience", type=float, default=30.0, metavar="SECONDS", help="For a response head."),
    option("--settle", type=float, default=0.2, metavar="SECONDS", help="Between the last head and the first event."),
    option(
        "--drain", type=float, default=10.0, metavar="SECONDS", help="Without a delivery at the end, then it is lost."
    ),
    option(
        "--reconnect",
        type=float,
        default=-1.0,
        metavar="SECONDS",
        help="Come back when the server ends a stream; -1: no.",
    ),
    option("--processes", type=int, default=0, help="Of the load client; 0: as many as the descriptors need."),
    option("--server-pid", type=int, help="Whose CPU and memory to measure; else who listens on the URL's port."),
    option("--label", default="", help="What to call the run in its report."),
    option("--json", "json_path", type=OUTPUT, help="Write the result there."),
    option("--html", "html_path", type=OUTPUT, help="Write a report there."),
)
SUBSCRIBERS = option("--subscribers", "-n", type=int, default=1000, help="Streams to hold.")
SECONDS = option("--seconds", type=float, default=10.0, help="How long to measure.")
RATE = option("--rate", type=float, default=20.0, help="Events per second, on schedule.")
CHANNELS = option("--channels", type=int, default=1, help="Channels; their number goes where {channel} stands.")


def common(command: Command) -> Command:
    for decorate in reversed(COMMON):
        command = decorate(command)
    return command


@click.group(
    short_help="Load-test an SSE server: this one, or any other.",
    epilog="""\b
Examples:
  sse-fast bench broadcast
      starts an edge of its own, 1,000 subscribers, 16 events in flight, 10 s
  sse-fast bench broadcast --subscribers 1000 --in-flight 16 http://127.0.0.1:8000
      an edge that runs already
  sse-fast bench broadcast --rate 100 --json result.json --html result.html
      on schedule: 100 events a second, latency from when each was due
  sse-fast bench report ours.json theirs.json --html both.html
      results side by side
  sse-fast bench storm -n 10000
      cut 10,000 streams at once; they resume by Last-Event-ID, and none may miss an event
  sse-fast bench hold -n 18000
      what an open stream costs in memory
  sse-fast bench broadcast http://127.0.0.1:8080/sub/{channel} --publish http://127.0.0.1:8080/pub/{channel}
      another server (here Nchan), with its own ways to subscribe and publish
  sse-fast bench churn http://127.0.0.1:9000/events --publish http://127.0.0.1:9000/api/publish \\
      -H 'Authorization: Bearer abc' --publish-header 'X-API-Key: k' \\
      --content-type application/json --body '{"channel": "news", "data": {json}}'
      one that wants headers, and JSON to publish; the payload is found inside whatever it wraps it in

A URL without a path means `sse-fast serve` there.

Exit status 1 means that a stream was wrong: lost, doubled, torn, out of order, cut or refused; the report says which.
Every mode has its own --help.
""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def bench() -> None:
    """Hold thousands of SSE streams, send events through the server, and hold every stream to what it must receive:
    each event whole, once, in order, none missing."""


@bench.command(short_help="What open streams cost in memory and CPU.")
@common
@SUBSCRIBERS
@SECONDS
def hold(**given: Any) -> None:
    """Open streams and stay: memory per stream, CPU per connect; at the end one event must reach them all."""
    start(given, Hold)


@bench.command()
@common
@SUBSCRIBERS
@option("--in-flight", "-w", type=int, default=16, help="Closed loop: events on their way at once.")
@option(
    "--rate", type=float, default=None, help="Open loop instead: events per second, on schedule.", show_default=False
)
@SECONDS
@option("--events", type=int, default=0, help="Stop after so many events; 0: only after --seconds.")
@option("--warm-up", type=float, default=1.0, metavar="SECONDS", help="Before the measured window.")
def broadcast(**given: Any) -> None:
    """One channel, every event to everybody.

    In the closed loop an event is published when every subscriber has the one before: how much goes through. In the
    open loop (--rate) events are due on schedule, and latency counts from then, also for those published late.
    """
    start(given, Broadcast)


@bench.command(short_help="Many channels, few subscribers each.")
@common
@option("--channels", "-m", type=int, default=100, help="Channels; their number goes where {channel} stands.")
@option("--subscribers-each", "-k", type=int, default=10, help="Streams on each channel.")
@option("--in-flight", "-w", type=int, default=16, help="Closed loop: events on their way at once.")
@option("--rate", type=float, default=None, help="Open loop instead: events per second over all.", show_default=False)
@SECONDS
@option("--events", type=int, default=0, help="Stop after so many events; 0: only after --seconds.")
@option("--warm-up", type=float, default=1.0, metavar="SECONDS", help="Before the measured window.")
def channels(**given: Any) -> None:
    """Many channels with few subscribers each; events go to the channels in turn."""
    given["subscribers"] = given["channels"] * given.pop("subscribers_each")
    start(given, Channels)


@bench.command()
@common
@SUBSCRIBERS
@CHANNELS
@option("--comes", type=float, default=100.0, metavar="PER_SECOND", help="Streams that come, beside those that stay.")
@option("--life", type=float, default=1.0, metavar="SECONDS", help="After which each of them leaves.")
@RATE
@SECONDS
def churn(**given: Any) -> None:
    """Streams come and go while events flow."""
    start(given, Churn)


@bench.command(short_help="All streams are cut at once; all resume.")
@common
@SUBSCRIBERS
@CHANNELS
@RATE
@option("--before", type=float, default=1.0, metavar="SECONDS", help="Of events before the cut.")
@option("--away", type=float, default=1.0, metavar="SECONDS", help="Of events that all streams miss at first.")
def storm(**given: Any) -> None:
    """Cut all streams at once; all come back with their Last-Event-ID, and must get what they missed."""
    start(given, Storm)


@bench.command(short_help="Some read slowly or not; others must not notice.")
@common
@SUBSCRIBERS
@CHANNELS
@option("--share", type=click.FloatRange(0, 1), default=0.1, help="Of the subscribers that are slow.")
@option("--drip", type=int, default=1, metavar="BYTES", help="What a slow one reads at a time; 0: nothing, ever.")
@option("--every", type=float, default=0.05, metavar="SECONDS", help="Between two such reads.")
@option("--stopped", type=click.FloatRange(0, 1), default=0.0, help="Share that reads nothing behind the head.")
@option("--wake", is_flag=True, help="At the end they read on, or come back if they were cut, and must get all too.")
@RATE
@SECONDS
def slow(**given: Any) -> None:
    """Some subscribers read a byte at a time or stop; the others must not notice. A large --size fills buffers soon."""
    start(given, Slow)


@bench.command(short_help="A page of one result, or of several.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--html", "html_path", required=True, type=OUTPUT)
def report(results: tuple[Path, ...], html_path: Path) -> None:
    """Make a report of results that --json wrote; of several, a comparison.

    They are compared with the first one, in their order. Several with the same --label under the same load count as
    repetitions; one without a label is named after its file.
    """
    try:
        found = [load(path) for path in results]
    except InvalidResult as error:
        click.secho(f"sse-fast: {error}", fg="red", err=True)
        sys.exit(2)
    for path, result in zip(results, found, strict=True):
        result["label"] = result.get("label") or path.stem
    html_path.write_text(render(found), "utf-8")


def start(given: dict[str, Any], mode: Callable[..., Mode]) -> None:
    """Make the plan of the options, run it, show it; does not return if a stream was wrong."""
    json_path: Path | None = given.pop("json_path")
    html_path: Path | None = given.pop("html_path")
    key_source = click.get_current_context().get_parameter_source("key")
    try:
        target = target_of(given, key_is_meant=key_source is click.core.ParameterSource.COMMANDLINE)
        names = (
            "size",
            "publishers",
            "processes",
            "connect_rate",
            "connecting",
            "patience",
            "settle",
            "drain",
            "reconnect",
            "server_pid",
        )
        plan = Plan(target=target, **{name: given.pop(name) for name in (*names, "label")}, mode=mode(**given))
        with progress_bar(Console(stderr=True)) as watch:
            result = run(plan, watch)
    except (InvalidPlan, CannotStart) as error:
        click.secho(f"sse-fast: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, InvalidPlan) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    if json_path is not None:
        json_path.write_bytes(result.to_json())
    if html_path is not None:
        html_path.write_text(render([orjson.loads(result.to_json())]), "utf-8")
    show(results_console(), result)
    sys.exit(0 if result.ok else 1)


def target_of(given: dict[str, Any], *, key_is_meant: bool = False) -> Target | None:
    """The server that the options name; None: none. `key_is_meant`: a key that would not be sent is an InvalidPlan."""
    url, publish, key = given.pop("url"), given.pop("publish_url"), given.pop("key")
    if key and not PUBLISH_KEY.fullmatch(key):  # it is not shown
        raise InvalidPlan("--key: a key is visible ASCII characters, without spaces or line ends")
    method, body, content_type = given.pop("method"), given.pop("body"), given.pop("content_type")
    headers, publish_headers = header_pairs(given.pop("headers")), header_pairs(given.pop("publish_header"))
    if url is None:
        if publish is not None:
            raise InvalidPlan("--publish without the URL to subscribe to")
        if key and key_is_meant:
            raise InvalidPlan("--key without the URL of a server: the edge that is started for the run asks for none")
        return None
    authorization: tuple[tuple[str, str], ...] = ()
    if all(names_no_more_than_a_server(given) for given in (url, publish or url)):
        edge = Target.edge(url, publish, key=key)
        url, publish = edge.subscribe, edge.publish
        if not any(name.lower() == "authorization" for name, _ in publish_headers):
            authorization = edge.publish_headers
    if key and key_is_meant and not authorization:
        raise InvalidPlan(
            "--key would not be sent: it is for an edge named by its address alone, without an Authorization of your "
            "own; for other URLs say --publish-header 'Authorization: Bearer KEY'"
        )
    return Target(url, publish, headers, method, body, content_type, (*publish_headers, *authorization))


def names_no_more_than_a_server(url: str) -> bool:
    return urlsplit(url).path in ("", "/") and not urlsplit(url).query


def header_pairs(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidPlan(f"a header looks like 'Name: value', not {line!r}")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)
