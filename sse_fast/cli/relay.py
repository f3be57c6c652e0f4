"""`sse-fast relay`: what comes from somewhere else is published to the edge."""

import asyncio
import logging.config
import signal
from pathlib import Path
from typing import Any

import click
import httpx
from click.core import ParameterSource

from sse_fast.cli.edge import KEY_GIVEN, authorization, http_client, key_option, next_step, url_option
from sse_fast.cli.failure import Failure, Misuse, tell
from sse_fast.cli.relay_from import relay_from
from sse_fast.client.failures import Refused
from sse_fast.client.listener import SILENCE
from sse_fast.client.relay_source import MAX_EVENT_SIZE
from sse_fast.logs import log_config
from sse_fast.outbox.table import DDL

INSTALL = "pip install 'sse-fast[outbox]'"
OF_THE_OUTBOX = {"create", "ddl", "once", "poll"}
OF_A_STREAM = {
    "to", "transform", "events", "headers", "from_token", "from_token_file", "since", "state", "name", "on_error",
    "max_event_bytes", "silence", "cross_origin",
}  # fmt: skip


@click.command(
    short_help="Publish what another event stream says, or the events in an application's database.",
    epilog="""\b
Examples:
  sse-fast relay --from https://other.example/stream --to news
  sse-fast relay --from https://other.example/stream --to news --event price --header 'X-Api-Key: secret' \\
      --transform shop.relays:shorter --url https://events.example.org
  sse-fast relay --from http://inner:8000/sse/orders --to orders --since earliest --state /var/lib/relay/orders
  sse-fast relay --outbox postgresql:///shop --create      make the tables; --ddl prints what does
  sse-fast relay --outbox postgresql:///shop
  SSE_FAST_OUTBOX=postgresql://relay:secret@db/shop SSE_FAST_PUBLISH_KEY=secret \\
      sse-fast relay --url https://events.example.org
  sse-fast relay --outbox 'service=shop' --once            publish what there is, and end
""",
)
@click.option(
    "--from",
    "from_url",
    metavar="URL",
    help="Of an event stream, of whatever server. --to says where its events go.",
)
@click.option("--to", metavar="CHANNEL", help="Of the server at --url.")
@click.option(
    "--transform",
    metavar="MODULE:FUNCTION",
    help="Is given each event (data, event, id), and returns what is published in its place: None (nothing), data, an "
    "sse_fast.Event with data and type, or a list of those. Modules of the working directory come first.",
)
@click.option("--event", "events", metavar="TYPE", multiple=True, help="Relay these types only; 'message' has none.")
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="Sent to --from, and to no other origin that it redirects to.",
)
@click.option(
    "--from-token",
    metavar="TOKEN",
    envvar="SSE_FAST_FROM_TOKEN",
    show_envvar=True,
    help="Sent to --from as 'Authorization: Bearer', as a header is.",
)
@click.option(
    "--from-token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The same, read for each connection.",
)
@click.option(
    "--since",
    metavar="ID",
    help="Begin behind this id, or 'earliest' of an edge, where this relay has published nothing yet; else with what "
    "comes from now on.",
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep in a file as well how far it has got, for a server whose log is not kept when it stops.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Of this relay, for its own channel relay:NAME. By default it is made of --from and --to; give one where the "
    "URL changes, or where two relays have both in common.",
)
@click.option(
    "--on-error",
    type=click.Choice(["gap", "stop"]),
    default="gap",
    show_default=True,
    help="What becomes of an event at which the transform fails, or that the server will never take: it is left out, "
    "and subscribers are told by a $gap; or the relay ends in front of it, with status 1.",
)
@click.option(
    "--max-event-bytes",
    type=click.IntRange(min=1024),
    default=MAX_EVENT_SIZE,
    show_default=True,
    metavar="BYTES",
    help="What an event of --from may have. What --url takes is its own affair.",
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0),
    default=SILENCE,
    show_default=True,
    metavar="SECONDS",
    help="Connect to --from again where nothing was heard for so long, a heartbeat neither; 0: never.",
)
@click.option(
    "--cross-origin",
    is_flag=True,
    help="Follow redirects of --from to other origins as well: whoever runs it could lead the relay into your own "
    "network by one.",
)
@click.option(
    "--outbox",
    metavar="URL",
    envvar="SSE_FAST_OUTBOX",
    show_envvar=True,
    help="Of a PostgreSQL database, postgresql://user@host/name, or a connection string of libpq, whose variables "
    "(PGHOST, PGPASSFILE, ...) count too. Not through a pooler that shares connections by transaction.",
)
@click.option("--create", is_flag=True, help="Make the tables of the outbox, and end; those that are there stay.")
@click.option("--ddl", is_flag=True, help="Print what makes them, for a migration, and end.")
@click.option("--once", is_flag=True, help="End when the outbox is empty.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0, max=3600, min_open=True),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Look for events that often, also where no notification came.",
)
@click.option("--verbose", is_flag=True, help="Say how far it is, once a second while there are events.")
@url_option
@key_option
@click.pass_context
def relay(
    context: click.Context,
    /,
    from_url: str | None,
    outbox: str | None,
    create: bool,
    ddl: bool,
    once: bool,
    poll: float,
    verbose: bool,
    url: str,
    publish_key: str | None,
    **of_a_stream: Any,
) -> None:
    """Publish to the server what another event stream says (--from), or the events of an outbox (--outbox).

    A stream: its events are published to a channel in their order, once each, and their ids tell where the stream is
    to be resumed, which is kept in the server's log beside them. What is gone at the source is told to subscribers by
    a $gap, and so is what was missed between two connections to a source that gives no ids. It comes back by itself,
    with pauses that get longer, when either is away, and ends when the source says so (204).

    An outbox: those of committed transactions, in the order of the commits of each channel, once each. Of several
    relays of one outbox one publishes, and the others stand by. It comes back by itself when the database or
    the server was away. An event that the server will never take (too large, a channel that is none) is kept aside in
    the table with its error, and the others go on.

    Both end at SIGTERM and Ctrl-C, and with status 1 where trying again would meet the same: a refusal of the
    credential, a source that is no event stream, a database without an outbox.
    """
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if from_url is not None:
        refuse_given(given & (OF_THE_OUTBOX | {"outbox"}), "that is of an outbox, and does not go with --from")
        logging.config.dictConfig(log_config("debug" if verbose else "info", "text"))
        asyncio.run(relay_from(from_url, url, authorization(publish_key), **of_a_stream))
        return
    refuse_given(given & OF_A_STREAM, "that is of a stream, so --from has to name one")
    if ddl:
        click.echo(DDL, nl=False)
        return
    if outbox is None:
        raise Misuse(
            "name the database: --outbox postgresql://user@host/name, or SSE_FAST_OUTBOX; or a stream: --from URL"
        )
    try:
        import psycopg

        from sse_fast.outbox.queue import conninfo_of, first_line
        from sse_fast.outbox.queue import create as create_tables
    except ImportError as missing:
        raise Failure(f"--outbox needs the extra 'outbox' ({missing.name or missing} is missing): {INSTALL}") from None
    try:
        conninfo = conninfo_of(outbox)
    except ValueError as error:
        raise Misuse(f"--outbox: {error}") from None
    if create:
        try:
            asyncio.run(create_tables(conninfo))
        except psycopg.errors.DuplicateTable:
            tell("the outbox is there already, and stays as it is")
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise Failure(f"the tables were not made: {first_line(error)}") from None
        return
    logging.config.dictConfig(log_config("debug" if verbose else "info", "text"))
    client = http_client(url, httpx.Timeout(30, connect=10), authorization(publish_key))
    asyncio.run(relay_outbox(conninfo, client, poll, once))


def refuse_given(others: set[str], why: str) -> None:
    flags = {"events": "event", "headers": "header"}
    if others:
        names = sorted(f"--{flags.get(name, name).replace('_', '-')}" for name in others)
        raise Misuse(f"{', '.join(names)}: {why}")


async def relay_outbox(conninfo: str, client: httpx.Client, poll: float, once: bool) -> None:
    from sse_fast.client.attempts import Progress
    from sse_fast.outbox.edge import EdgeTarget
    from sse_fast.outbox.queue import NoOutbox
    from sse_fast.outbox.relay import Relay, logger

    relay = Relay(conninfo, lambda marks: EdgeTarget(client, marks), poll=poll, progress=Progress(logger))
    closing: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: closing.append(loop.create_task(relay.close())))
    try:
        await relay.run(until_empty=once)
    except NoOutbox as error:
        raise Failure(str(error)) from None
    except Refused as error:
        raise Failure(f"{error}{next_step(error, KEY_GIVEN)}") from None
