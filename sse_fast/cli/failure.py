"""How the commands fail: one line on stderr, and an exit status."""

from typing import Any

import click


class Failure(click.ClickException):
    """One line on stderr instead of a traceback."""

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            click.secho(f"sse-fast: {line}", fg="red", err=True)


class Misuse(Failure):
    exit_code = 2
