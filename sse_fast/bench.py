"""`sse-fast bench`, loaded only when it is called: the other commands need none of its packages."""

from typing import Any

import click


class Bench(click.Command):
    """Stands in for `sse_fast.swarm.cli.bench` in lists of commands."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            from sse_fast.swarm.cli import bench as real
        except ModuleNotFoundError as missing:
            raise click.ClickException(
                f"bench needs the extra 'bench' ({missing.name} is missing): pip install 'sse-fast[bench]', "
                "or pip install -e '.[bench]' where the sources are"
            ) from None
        return real.make_context(info_name, args, parent, **extra)


bench = Bench("bench", short_help="Load-test an SSE server: this one, or any other.")
