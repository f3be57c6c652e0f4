"""`sse-fast publish`: an event, or one for every line of stdin."""

import io
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

import click
import httpx
import orjson

from sse_fast.cli.edge import KEY_GIVEN, authorization, http_client, key_option, next_step, url_option
from sse_fast.cli.failure import Failure, Misuse, tell
from sse_fast.client.failures import Refused, Unavailable
from sse_fast.client.publisher import Publisher
from sse_fast.event_rules import MAX_CHANNELS, channel_name
from sse_fast.event_rules import idempotency_key as check_key

BATCH_BYTES = 256 * 1024  # read at once by `publish --lines`


@click.command(
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
            tell("reading from the terminal; end with Ctrl-D")
        try:
            if lines:
                click.echo(publish_lines(publisher, stdin, as_json))
            else:
                text = data.encode() if data is not None else without_line_end(stdin.read())
                click.echo(publisher.json(json_value(text)) if as_json else publisher.text(text))
                if publisher.replayed:
                    tell("nothing was published: it was before, under this idempotency key, and has that id")
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
