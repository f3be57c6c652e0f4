"""`sse-fast bench`, loaded only when it is called: the other commands need none of its packages."""

from typing import Any

import click

from sse_fast.cli.failure import Failure
from sse_fast.errors import NeedsLinux

INSTALL = "pip install 'sse-fast[bench]', or pip install -e '.[bench]' where the sources are"


class Bench(click.Command):
    """Stands in for `sse_fast.bench.cli.bench` in lists of commands; where it can't be loaded, says what to install."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            from sse_fast.bench.cli import bench as real
        except NeedsLinux as error:
            raise Failure(str(error)) from None
        except ModuleNotFoundError as missing:
            if {"-h", "--help"} & set(args):
                return super().make_context(info_name, ["--help"], parent, **extra)  # prints `help` and leaves
            raise click.ClickException(
                f"bench needs the extra 'bench' ({missing.name} is missing): {INSTALL}"
            ) from None
        return real.make_context(info_name, args, parent, **extra)


bench = Bench(
    "bench",
    short_help="Load-test an SSE server: this one, or any other.",
    help=f"""Hold thousands of SSE streams, send events through the server, and hold every stream to what it must
    receive: each event whole, once, in order, none missing.

    Modes: hold, broadcast, channels, churn, storm, slow; and report, which makes a page of results.

    Here its packages are missing. Install the extra 'bench', then ask again: {INSTALL}.
    """,
)
