"""`sse-fast schema`: the typed events of an app, as the JSON document that everything else reads."""

import contextlib
import sys
from pathlib import Path

import click
import orjson

from sse_fast.cli.failure import Failure
from sse_fast.errors import InvalidSchema


@click.command(
    short_help="Write the typed events of an app as a JSON document.",
    epilog="""\b
Examples:
  sse-fast schema shop.events                       print it
  sse-fast schema shop.events shop.orders -o shop.json
  sse-fast schema shop.json                         check one
  sse-fast serve --schema shop.json                 refuse what does not fit
""",
)
@click.argument("sources", metavar="MODULE...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
def schema(sources: tuple[str, ...], output: Path | None) -> None:
    """Write the streams that modules define by `sse_fast.stream`, and their events as JSON Schema.

    Modules of the working directory come first. One file, whose name ends with .json, may be named in their place: it
    is checked.
    """
    from sse_fast.schema.document import read_schema  # what it loads is this command's alone

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the modules print is no part of the document
            document = read_schema(*sources)
    except InvalidSchema as error:
        raise Failure(str(error)) from None
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        click.echo(text.decode(), nl=False)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from None
    count = len(document["streams"])
    click.echo(f"{output}: {count} stream{'s' * (count != 1)}", err=True)
