"""What the commands say on stderr, and how they fail: in one line, with an exit status."""

from typing import Any

import click

from sse_fast.logs import printable


class Failure(click.ClickException):
    """One line on stderr instead of a traceback."""

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            click.secho(f"sse-fast: {printable(line)}", fg="red", err=True)


class Misuse(Failure):
    exit_code = 2


def tell(sentence: str) -> None:
    """What is no result, on stderr."""
    click.secho(printable(sentence), dim=True, err=True)
