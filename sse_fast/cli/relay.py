"""`sse-fast relay`: what comes from somewhere else is published to the edge."""

import asyncio
import logging.config
import signal

import click
import httpx

from sse_fast.cli.edge import KEY_GIVEN, authorization, http_client, key_option, next_step, url_option
from sse_fast.cli.failure import Failure, Misuse, tell
from sse_fast.client.failures import Refused
from sse_fast.logs import log_config
from sse_fast.outbox.table import DDL

INSTALL = "pip install 'sse-fast[outbox]'"


@click.command(
    short_help="Publish the events that an application's database has in its outbox.",
    epilog="""\b
Examples:
  sse-fast relay --outbox postgresql:///shop --create      make the tables; --ddl prints what does
  sse-fast relay --outbox postgresql:///shop
  SSE_FAST_OUTBOX=postgresql://relay:secret@db/shop SSE_FAST_PUBLISH_KEY=secret \\
      sse-fast relay --url https://events.example.org
  sse-fast relay --outbox 'service=shop' --once            publish what there is, and end
""",
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
def relay(
    outbox: str | None,
    create: bool,
    ddl: bool,
    once: bool,
    poll: float,
    verbose: bool,
    url: str,
    publish_key: str | None,
) -> None:
    """Publish the events of an outbox to the server: those of committed transactions, in the order of the commits of
    each channel, once each.

    Of several relays of one outbox one publishes, and the others stand by. It comes back by itself when the database or
    the server was away. An event that the server will never take (too large, a channel that is none) is kept aside in
    the table with its error, and the others go on. It ends at SIGTERM and Ctrl-C, and with status 1 where trying again
    would meet the same: a refusal of the credential, a database without an outbox.
    """
    if ddl:
        click.echo(DDL, nl=False)
        return
    if outbox is None:
        raise Misuse("name the database: --outbox postgresql://user@host/name, or SSE_FAST_OUTBOX")
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


async def relay_outbox(conninfo: str, client: httpx.Client, poll: float, once: bool) -> None:
    from sse_fast.outbox.edge import EdgeTarget
    from sse_fast.outbox.queue import NoOutbox
    from sse_fast.outbox.relay import Progress, Relay

    relay = Relay(conninfo, lambda marks: EdgeTarget(client, marks), poll=poll, progress=Progress())
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
