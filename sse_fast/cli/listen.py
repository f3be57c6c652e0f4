"""`sse-fast listen`: the events of channels, printed as they come."""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import click
import httpx
import orjson
from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from sse_fast._native.wire.control import CLOSING, CONNECTED, CONTROL_EVENTS, EXPIRING, FORGOTTEN, GAP
from sse_fast._native.wire.event_parser import ReceivedEvent
from sse_fast.access.patterns import has_wildcard
from sse_fast.cli.edge import DEFAULT_URL, http_client, next_step, url_option
from sse_fast.cli.failure import Failure, Misuse, tell
from sse_fast.client.envelope import PublishedEvent
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.listener import MAX_EVENT_SIZE, SENDABLE_ID, SILENCE, Listener
from sse_fast.logs import printable
from sse_fast.settings import PUBLISH_KEY


@click.command(
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

    A server's id that fits no HTTP header can't be sent back: then it says so, and resumes after the last one that can,
    so events may be printed again.

    Each event is shown with the time at which it was published, and, of several CHANNELs, with its own. Of a server
    that says neither it is the time at which the event came.

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
            tell=tell,
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
        tell(f"the server closes the stream: {data}")
    elif event.event == FORGOTTEN:
        tell(f"what the channel had is forgotten: {data}")
    elif event.event == EXPIRING:
        tell(f"what lets this client listen ends soon: {data}")
    elif verbose:
        tell(f"{CONNECTED} {event.id} {data}")


def positions_skipped(gap: str) -> int | None:
    """Of the data of a `$gap`, where it says."""
    try:
        positions = orjson.loads(gap)["positions"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return positions if type(positions) is int else None
