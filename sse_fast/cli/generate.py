"""`sse-fast generate`: clients of an app's typed events, in other languages."""

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sse_fast.cli.failure import Failure, Misuse
from sse_fast.errors import InvalidSchema

if TYPE_CHECKING:
    from sse_fast.schema.model import Document

LANGUAGES = ("typescript", "python", "elm")
ELM_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*")


@click.command(
    short_help="Make a client of an app's typed events: TypeScript, Python, Elm.",
    epilog="""\b
Examples:
  sse-fast generate typescript shop.events -o web/events.ts     a file without dependencies
  sse-fast generate python shop.json -o shop_client.py          it needs httpx alone
  sse-fast generate elm shop.events -o src/Shop/Events.elm --ports public/ports.js
  sse-fast generate typescript shop.events -o web/events.ts --check
  sse-fast generate typescript shop.events -o web/events.ts --client ./client.js
                            with client.js and client.d.ts of the edge beside it
""",
)
@click.argument("language", type=click.Choice(LANGUAGES))
@click.argument("sources", metavar="MODULE_OR_JSON...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
@click.option("--module", metavar="NAME", help="Elm: the module's name. Default: by the file: src/Shop/Events.elm.")
@click.option(
    "--ports",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Elm: write the script there that carries the streams for the module's ports.",
)
@click.option(
    "--client",
    metavar="MODULE",
    help="TypeScript: import the browser client from there (./client.js), in place of having it in the file.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing: fail where the file is another text, as of an older schema."
)
def generate(
    language: str,
    sources: tuple[str, ...],
    output: Path | None,
    module: str | None,
    ports: Path | None,
    client: str | None,
    check: bool,
) -> None:
    """Make a client of the typed events that MODULEs define by `sse_fast.stream`, or of the JSON document of
    `sse-fast schema`: types, a union of the events of each stream, and a client that resumes.
    """
    from sse_fast.schema import model  # what it loads is this command's alone
    from sse_fast.schema.document import read_schema
    from sse_fast.schema.elm import ports as ports_script

    if language != "elm" and (module is not None or ports is not None):
        raise Misuse("--module and --ports are for elm")
    if language != "typescript" and client is not None:
        raise Misuse("--client is for typescript")
    if check and output is None:
        raise Misuse("--check compares with a file: -o FILE")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the modules print is no part of the client
            document = model.read(read_schema(*sources))
    except InvalidSchema as error:
        raise Failure(str(error)) from None
    text = text_of(language, document, ", ".join(sources), module or elm_module(output), client)
    made = {output: text} | ({ports: ports_script()} if ports is not None else {})
    for file, content in made.items():
        if file is None:
            click.echo(content, nl=False)
        elif check:
            compare(file, content)
        else:
            write(file, content)


def text_of(language: str, document: "Document", source: str, module: str, client: str | None) -> str:
    if language == "typescript":
        from sse_fast.schema.typescript import typescript

        return typescript(document, source, client)
    if language == "python":
        from sse_fast.schema.python import python

        return python(document, source)
    from sse_fast.schema.elm import MODULE, elm

    if not MODULE.fullmatch(module):
        raise Misuse(f"--module: {module!r} is no name of an Elm module; write Shop.Events")
    return elm(document, source, module)


def elm_module(output: Path | None) -> str:
    """By where the file is: as many folders as have a name that a module can have."""
    names: list[str] = []
    for part in reversed(output.with_suffix("").parts if output is not None else ()):
        if not ELM_NAME.fullmatch(part):
            break
        names.insert(0, part)
    return ".".join(names) or "Events"


def compare(file: Path, content: str) -> None:
    try:
        found = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from None
    if found != content:
        raise Failure(f"{file} is not what the schema makes now; write it anew with the same command without --check")


def write(file: Path, content: str) -> None:
    try:
        file.write_text(content)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"{file}: {content.count(chr(10))} lines", err=True)
