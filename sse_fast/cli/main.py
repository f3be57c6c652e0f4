"""The command line: `sse-fast serve | publish | listen | relay | token | schema | generate | bench`.

Options of `serve` are made from the fields of `Settings`; nothing about a setting is said twice. Results go to stdout,
everything else to stderr. Exit status: 0 done, 1 it failed, 2 it was asked for wrongly.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TextIO, get_args, get_origin
from urllib.parse import urlsplit

import click
import httpx
import orjson
from pydantic import ByteSize, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sse_fast._native.wire.control import CLOSING, CONNECTED, CONTROL_EVENTS, EXPIRING, FORGOTTEN, GAP
from sse_fast._native.wire.event_parser import ReceivedEvent
from sse_fast.access.patterns import has_wildcard
from sse_fast.cli.bench import bench
from sse_fast.cli.edge import DEFAULT_URL, KEY_GIVEN, authorization, http_client, key_option, next_step, url_option
from sse_fast.cli.failure import Failure, Misuse
from sse_fast.cli.generate import generate
from sse_fast.cli.groups import Grouped
from sse_fast.cli.relay import relay
from sse_fast.cli.schema import schema
from sse_fast.cli.token import token
from sse_fast.client.envelope import PublishedEvent
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.listener import MAX_EVENT_SIZE, SENDABLE_ID, SILENCE, Listener
from sse_fast.client.publisher import Publisher
from sse_fast.event_rules import MAX_CHANNELS, channel_name
from sse_fast.event_rules import idempotency_key as check_key
from sse_fast.logs import printable
from sse_fast.settings import GONE, PUBLISH_KEY, Settings, flag, variable

BATCH_BYTES = 256 * 1024  # read at once by `publish --lines`


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting. Its value is None (or empty, for a list) where it was not given."""
    for name, field in reversed(Settings.model_fields.items()):  # decorators stack up from below
        text = f"{field.description}  [{variable(name)}{shown_default(field)}]"
        if field.annotation is bool:
            command = click.option(f"{flag(name)}/{flag('no_' + name)}", name, default=None, help=text)(command)
        else:
            several = get_origin(field.annotation) is list
            command = click.option(flag(name), name, metavar=metavar(field), multiple=several, help=text)(command)
    return command


def gone_options(command: Callable[..., None]) -> Callable[..., None]:
    """What was a setting: it is answered with what is right, not with "no such option"."""
    for name in GONE:
        # A flag that took a value and one that took none: whatever stands behind it is not looked at.
        command = click.option(flag(name), name, is_flag=False, flag_value="", default=None, hidden=True)(command)
    return command


def shown_default(field: FieldInfo) -> str:
    default = field.default
    if default is None or default is False or default == []:
        return ""
    if isinstance(default, ByteSize):
        return f"; default {default.human_readable().replace('.0', '')}"
    if isinstance(default, list):
        return f"; default {','.join(default)}"
    return f"; default {default}"


def metavar(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if get_origin(annotation) is list:
        return "TEXT,..."
    names = {int: "INTEGER", float: "SECONDS", ByteSize: "SIZE", Path: "PATH"}
    return next((names[kind] for kind in (annotation, *get_args(annotation)) if kind in names), "TEXT")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
In three terminals:
  sse-fast serve
  sse-fast listen news
  sse-fast publish news 'hello'
""",
)
@click.version_option(package_name="sse-fast", prog_name="sse-fast")
def main() -> None:
    """A Server-Sent Events edge: publish over HTTP, subscribe with any EventSource client.

    Every command has its own --help with examples.
    """


main.add_command(bench)
main.add_command(generate)
main.add_command(relay)
main.add_command(schema)
main.add_command(token)


@main.command(
    cls=Grouped,
    short_help="Run the server.",
    epilog="""\b
Examples:
  sse-fast serve
      on http://127.0.0.1:8000/, open to anybody on this machine
  SSE_FAST_PUBLISH_KEY=$(sse-fast token secret) sse-fast serve --host 0.0.0.0
      for everybody; publishing needs the key (a flag would show it in the process list)
  SSE_FAST_TOKEN_SECRET=$(sse-fast token secret) sse-fast serve --grant-subscribe 'news,public:**'
      who listens to anything but these shows a token, which `sse-fast token` makes with that secret
  sse-fast serve --port 8443 --ssl-certificate cert.pem --ssl-keyfile key.pem
      HTTPS, with HTTP/2 for clients that speak it
  sse-fast serve --workers 2 --app shop.main:app
      beside your ASGI app, whose hub.response(...) become native streams; the edge is under /edge
  sse-fast serve --log-size 1GiB --keepalive 30 --log-format json
      keep more for replay, fewer heartbeats, logs for a machine
""",
)
@setting_options
@gone_options
def serve(**flags: Any) -> None:
    """Run the server until Ctrl-C or SIGTERM, then drain: streams are told, and clients come back by themselves.

    Every setting is a flag, a variable (named below in brackets) and a key of sse-fast.toml in the working directory
    (the flag without dashes in front, with underscores: max_connections). A flag beats the variable, the variable beats
    the file, the file beats the default. Sizes may be written 64KiB, 1.5GiB, seconds 90s, 30m,
    1h or 7d.
    """
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        settings = Settings.load(given)
        settings.refuse_unsafe()
    except ValueError as error:
        raise Misuse(str(error)) from None
    from sse_fast.node.serve import CannotServe
    from sse_fast.node.serve import serve as run

    try:
        sys.exit(run(settings))
    except CannotServe as error:
        raise Failure(str(error)) from None


@main.command(
    short_help="Publish an event, or one for every line of stdin.",
    epilog="""\b
Examples:
  sse-fast publish news 'hello'
  sse-fast publish news --event price --json '{"EUR": 1.08}'
  sse-fast publish news --also archive --also user:42 'hello'
  date | sse-fast publish clock
  tail -f access.log | sse-fast publish log --lines
  SSE_FAST_PUBLISH_KEY=secret sse-fast publish news 'hello' --url https://events.example.org
""",
)
@click.argument("channel")
@click.argument("data", required=False)
@click.option(
    "--also",
    metavar="CHANNEL",
    multiple=True,
    help="A further channel of the same event; a subscriber to several of them gets it once. Repeat for more.",
)
@click.option("--event", metavar="TYPE", help="The event's type; without it clients see 'message'.")
@click.option("--retry", type=click.IntRange(min=0), metavar="MS", help="Tell clients this reconnect delay.")
@click.option("--json", "as_json", is_flag=True, help="The data is JSON: checked, and sent in compact form.")
@click.option(
    "--lines",
    is_flag=True,
    help="Publish every line of stdin as an event of its own, as they come in; a bad one ends it.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Publish it once, however often it is sent with this key within the server's window; not with --lines.",
)
@click.option(
    "--conflate-key",
    metavar="KEY",
    help="What this is the newest value of: where the channel's namespace conflates, who lags gets the newest of each.",
)
@url_option
@key_option
def publish(
    channel: str,
    data: str | None,
    also: tuple[str, ...],
    event: str | None,
    retry: int | None,
    as_json: bool,
    lines: bool,
    idempotency_key: str | None,
    conflate_key: str | None,
    url: str,
    publish_key: str | None,
) -> None:
    """Publish DATA, or all of stdin, to CHANNEL, and print the id of the event (with --lines: of the last one).

    Stdin is sent as it stands, but for one line end at its end.
    """
    if lines and data is not None:
        raise Misuse("--lines reads stdin; leave DATA out")
    if idempotency_key is not None:
        if lines:
            raise Misuse("--idempotency-key is of one event; leave --lines out")
        try:
            check_key(idempotency_key)
        except ValueError as error:
            raise Misuse(f"--idempotency-key: {error}") from None
    if also:
        check_channels(channel, also)
    with http_client(url, httpx.Timeout(30), authorization(publish_key)) as client:
        publisher = Publisher(client, [channel, *also], event, retry, idempotency_key, conflate_key)
        stdin = stdin_of(sys.stdin) if data is None else io.BytesIO()
        if stdin.isatty():
            _tell("reading from the terminal; end with Ctrl-D")
        try:
            if lines:
                click.echo(publish_lines(publisher, stdin, as_json))
            else:
                text = data.encode() if data is not None else without_line_end(stdin.read())
                click.echo(publisher.json(json_value(text)) if as_json else publisher.text(text))
                if publisher.replayed:
                    _tell("nothing was published: it was before, under this idempotency key, and has that id")
        except (Refused, Unavailable, httpx.HTTPError) as error:
            raise Failure(str(error) + next_step(error, KEY_GIVEN)) from None
        except KeyboardInterrupt:
            sys.exit(130)


def stdin_of(opened: TextIO | None) -> BinaryIO:
    """Raises Misuse where this process was started without one."""
    if opened is None:
        raise Misuse("DATA was not given, and there is no stdin to read it from")
    return opened.buffer


def check_channels(channel: str, also: tuple[str, ...]) -> None:
    """Raise Misuse, in the words of this command, for several channels that no event may have."""
    if len(also) >= MAX_CHANNELS:
        raise Misuse(f"an event has at most {MAX_CHANNELS} channels; CHANNEL and --also name {1 + len(also)}")
    for name in (channel, *also):
        where = "CHANNEL" if name is channel else f"--also {name}"
        try:
            channel_name(name)
        except ValueError as error:
            raise Misuse(f"{where}: {error}") from None
    for at, name in enumerate(also):
        if name == channel:
            raise Misuse(f"--also {name}: this is CHANNEL again; name each channel once")
        if name in also[:at]:
            raise Misuse(f"--also {name}: given twice; name each channel once")


def publish_lines(publisher: Publisher, stdin: BinaryIO, as_json: bool) -> str:
    """Publish a line an event; the last id. What comes in while a request runs is the next batch. Raises Misuse for a
    bad line once those in front of it are published."""
    count, last_id = 0, ""
    show_progress = sys.stderr.isatty()
    try:
        for batch in line_batches(stdin):
            values: list[object] = []
            wrong: Misuse | None = None
            for number, line in enumerate(batch, count + 1):
                try:
                    values.append((json_value if as_json else utf8)(line, f"line {number}"))
                except Misuse as error:
                    wrong = error
                    break
            if values:
                last_id = publisher.batch(values)[-1]
                count += len(values)
            if wrong is not None:
                raise wrong
            if show_progress:
                click.echo(f"\r{count:,} events ", nl=False, err=True)
    finally:
        click.echo(f"{chr(13) if show_progress else ''}published {count:,} event{'s' * (count != 1)}", err=True)
    return last_id


def line_batches(stdin: Any) -> Iterator[list[bytes]]:
    """Whole lines, as many as are there: a slow pipe gives them one by one, a fast one by the thousand."""
    rest = b""
    while chunk := stdin.read1(BATCH_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest]


@main.command(
    short_help="Print the events of channels as they come.",
    epilog="""\b
Examples:
  sse-fast listen news
  sse-fast listen news weather 'room:42'
  sse-fast listen news --history 10            the newest ten, then live
  sse-fast listen news --since earliest        everything that is kept, then live
  sse-fast listen news --json --count 1 | jq .data
  sse-fast listen --pattern 'orders:*'         all channels of one segment behind orders:
  sse-fast listen '$stats'                     how the server is doing
""",
)
@click.argument("channels", metavar="CHANNEL...", nargs=-1)
@click.option(
    "--pattern",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Listen to all channels of a pattern: 'orders:*', one segment; 'orders:**', any rest. Repeat for more.",
)
@click.option("--history", type=click.IntRange(min=0), metavar="N", help="First the newest N kept events.")
@click.option("--since", metavar="ID", help="First what was published after this event id, or 'earliest' for all kept.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.option(
    "--retries", type=click.IntRange(min=0), metavar="N", help="Give up after N reconnects in vain, not never."
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0, min_open=True),
    default=SILENCE,
    show_default=True,
    metavar="SECONDS",
    help="Take the server for dead after so long without a byte. Heartbeats come every 15 s by default.",
)
@click.option(
    "--max-event-size",
    metavar="SIZE",
    default=f"{MAX_EVENT_SIZE // 1024**2}MiB",
    show_default=True,
    help="Give up at a larger event; it is held in memory until it is whole.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print each event as a line {"id", "event", "data"}, with "channel" and "time" where the server says so, as '
    'sse-fast does of all but its own events; "channels", too, if it has several.',
)
@click.option("--verbose", is_flag=True, help="Show $connected too.")
@click.option(
    "--token",
    "credential",
    metavar="TOKEN",
    envvar="SSE_FAST_TOKEN",
    show_envvar=True,
    help="The token, where the server needs one; `sse-fast token` makes some.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SSE_FAST_TOKEN_FILE",
    show_envvar=True,
    help="A file that has it, read for each connection: a stream that ends with its token goes on with the next.",
)
@url_option
def listen(
    channels: tuple[str, ...],
    patterns: tuple[str, ...],
    history: int | None,
    since: str | None,
    count: int | None,
    retries: int | None,
    silence: float,
    max_event_size: str,
    as_json: bool,
    verbose: bool,
    credential: str | None,
    token_file: Path | None,
    url: str,
) -> None:
    """Print the events of the CHANNELs until Ctrl-C, reconnecting and resuming so that none is lost or printed twice.

    It ends by itself when the server says that nothing more will come (204), and with status 1 where trying again would
    meet the same: a refusal (most of 4xx), another kind of answer, a certificate that is not to be trusted.

    A server's id that fits no HTTP header can't be sent back: that is said, and resumed is after the last one that can,
    so events may be printed again.

    Shown is when an event was published, and, of several CHANNELs, in which. A server that doesn't say either (it says
    so when it connects) is listened to as well: then it is the time at which the event came.

    Where the server no longer keeps what was missed, it says so with a $gap event, shown on stderr (with --json also on
    stdout: a program should know). The states of the connection are told on stderr.
    """
    if since is not None and history is not None:
        raise Misuse("--since and --history both say where to start; give one")
    if since is not None and not (since and SENDABLE_ID.fullmatch(since)):
        raise Misuse(f"--since: {since!r} fits no header; give an id as listen or publish print it, or 'earliest'")
    try:
        most = TypeAdapter(Annotated[ByteSize, Field(ge=1)]).validate_python(max_event_size)
    except ValidationError:
        raise Misuse(
            f"--max-event-size: {max_event_size!r} is no size of a byte at least; write 65536, 64KiB or 16MiB"
        ) from None
    if "/sse/" in urlsplit(url).path + "/":
        raise Misuse(f"--url: name the server, without /sse, as in {DEFAULT_URL}; channels are arguments of their own")
    if not channels and not patterns:
        raise Misuse("name a CHANNEL, or a --pattern, to listen to")
    for name in channels:
        if has_wildcard(name):
            raise Misuse(f"{name!r} is a pattern, and no channel: --pattern {name!r} listens to all that it matches")
    several = len(set(channels)) > 1 or bool(patterns)
    if credential and not PUBLISH_KEY.fullmatch(credential):  # it is not shown, as errors further down would
        raise Misuse("--token: a token is visible ASCII characters, without spaces or line ends")
    if token_file is not None:
        token_in(token_file)  # what is wrong with it now is said before anything else happens
    with http_client(url, httpx.Timeout(10, read=silence)) as client:
        listener = Listener(
            client,
            channels,
            patterns=patterns,
            token=credential or None if token_file is None else lambda: token_in(token_file),
            since=since,
            history=history,
            retries=retries,
            max_event_size=most,
            tell=_tell,
        )
        shown = 0
        try:
            for event in listener:
                if event.event not in CONTROL_EVENTS:
                    if as_json:
                        show_json(event)
                    else:
                        show_text(event, several)
                    shown += 1
                else:
                    show_control(event, verbose)
                    if as_json and (verbose or event.event == GAP):
                        show_json(event)
                if shown == count:
                    return
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            # The reader is gone. The interpreter's own flush at exit would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (Refused, Unavailable, httpx.HTTPError) as error:
            raise Failure(str(error) + next_step(error, "--token or SSE_FAST_TOKEN")) from None


def token_in(file: Path) -> str:
    """Raises Misuse."""
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Misuse(f"--token-file: {file} cannot be read ({reason})") from None
    if not PUBLISH_KEY.fullmatch(token):  # it is not shown
        raise Misuse(f"--token-file: {file} has no token; one is visible ASCII characters, without spaces")
    return token


def show_json(event: ReceivedEvent | PublishedEvent) -> None:
    shown: dict[str, object] = {"id": event.id, "event": event.event, "data": event.data}
    if isinstance(event, PublishedEvent):
        several = {"channels": event.channels} if len(event.channels) > 1 else {}
        where = {"id": event.id, "channel": event.channel, **several}
        shown = {**where, "event": event.event, "time": event.time, "data": event.data}
    click.echo(orjson.dumps(shown))


def show_text(event: ReceivedEvent | PublishedEvent, with_channel: bool) -> None:
    """`id time [channels] type data`, further lines of data indented; nothing in it can steer the terminal."""
    first, *more = (printable(line.replace("\t", "    ")) for line in event.data.split("\n"))
    now = datetime.now().astimezone()
    time, where = now, ""
    if isinstance(event, PublishedEvent):
        time = event.published.astimezone()
        if with_channel:
            where = click.style(printable(",".join(event.channels)), fg="magenta") + " "
    clock = f"{time:%H:%M:%S}" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M:%S}"
    head = f"{click.style(printable(event.id) or '-', fg='cyan')} {click.style(clock, dim=True)}"
    click.echo(f"{head} {where}{click.style(printable(event.event), fg='green')} {first}")
    for line in more:
        click.echo(f"    {line}")


def show_control(event: ReceivedEvent | PublishedEvent, verbose: bool) -> None:
    data = printable(event.data)
    if event.event == GAP:
        most = positions_skipped(event.data)
        lost = "events were" if most is None else f"at most {most} event{'s were' if most != 1 else ' was'}"
        click.secho(f"gap: {lost} lost before {event.id or 'here'}: {data}", fg="yellow", bold=True, err=True)
    elif event.event == CLOSING:
        _tell(f"the server closes the stream: {data}")
    elif event.event == FORGOTTEN:
        _tell(f"what the channel had is forgotten: {data}")
    elif event.event == EXPIRING:
        _tell(f"what lets this client listen ends soon: {data}")
    elif verbose:
        _tell(f"{CONNECTED} {event.id} {data}")


def positions_skipped(gap: str) -> int | None:
    """Of the data of a `$gap`, where it says."""
    try:
        positions = orjson.loads(gap)["positions"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return positions if type(positions) is int else None


def json_value(text: bytes, where: str = "data") -> object:
    """What the JSON says, to be sent as it stands: no parser keeps the digits of its numbers."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        raise Misuse(f"{where} is not valid JSON: {error.msg} at {line}column {error.colno}") from None
    return orjson.Fragment(text)


def utf8(text: bytes, where: str = "data") -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Misuse(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def without_line_end(text: bytes) -> bytes:
    return text.removesuffix(b"\n").removesuffix(b"\r")


def _tell(sentence: str) -> None:
    click.secho(sentence, dim=True, err=True)
