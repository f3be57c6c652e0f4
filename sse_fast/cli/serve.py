"""`sse-fast serve`: the server. Its options are made from the fields of `Settings`; nothing about a setting is said
twice."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from sse_fast.access.namespaces import Namespace
from sse_fast.cli.failure import Failure, Misuse
from sse_fast.cli.groups import Grouped
from sse_fast.errors import NeedsLinux
from sse_fast.settings import GONE, Settings, flag, refuse_unsafe, types_of, variable


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting. Its value is None (or empty, for a list) where it was not given."""
    for name, field in reversed(Settings.model_fields.items()):  # decorators stack up from below
        text = f"{field.description}  [{variable(name)}{shown_default(field)}]"
        if field.annotation is bool:
            command = click.option(f"{flag(name)}/{flag('no_' + name)}", name, default=None, help=text)(command)
        else:
            several = get_origin(field.annotation) is list
            command = click.option(flag(name), name, metavar=metavar(field), multiple=several, help=text)(command)
    return command


def gone_options(command: Callable[..., None]) -> Callable[..., None]:
    """What was a setting: it is answered with what is right, not with "no such option"."""
    for name in GONE:
        # A flag that took a value and one that took none: whatever stands behind it is not looked at.
        command = click.option(flag(name), name, is_flag=False, flag_value="", default=None, hidden=True)(command)
    return command


def shown_default(field: FieldInfo) -> str:
    default = field.default
    if default is None or default is False or default == []:
        return ""
    if isinstance(default, ByteSize):
        return f"; default {default.human_readable().replace('.0', '')}"
    if isinstance(default, list):
        return f"; default {','.join(default)}"
    return f"; default {default}"


def metavar(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if annotation == list[Namespace]:
        return "JSON"
    if get_origin(annotation) is list:
        return "TEXT,..."
    names = {int: "INTEGER", float: "SECONDS", ByteSize: "SIZE", Path: "PATH"}
    return next((names[kind] for kind in types_of(annotation) if kind in names), "TEXT")


@click.command(
    cls=Grouped,
    short_help="Run the server.",
    epilog="""\b
Examples:
  sse-fast serve
      on http://127.0.0.1:8000/, open to anybody on this machine
  SSE_FAST_PUBLISH_KEY=$(sse-fast token secret) sse-fast serve --host 0.0.0.0
      for everybody; publishing needs the key (a flag would show it in the process list)
  SSE_FAST_TOKEN_SECRET=$(sse-fast token secret) sse-fast serve --grant-subscribe 'news,public:**'
      who listens to anything but these shows a token, which `sse-fast token` makes with that secret
  sse-fast serve --port 8443 --ssl-certificate cert.pem --ssl-keyfile key.pem
      HTTPS, with HTTP/2 for clients that speak it
  sse-fast serve --workers 2 --app shop.main:app
      beside your ASGI app, whose hub.response(...) become native streams; the edge is under /edge
  sse-fast serve --log-size 1GiB --keepalive 30 --log-format json
      keep more for replay, fewer heartbeats, logs for a machine
""",
)
@setting_options
@gone_options
def serve(**flags: Any) -> None:
    """Run the server until Ctrl-C or SIGTERM, then drain: streams are told, and clients come back by themselves.

    Every setting is a flag, a variable (named below in brackets) and a key of sse-fast.toml in the working directory
    (the flag without dashes in front, with underscores: max_connections). A flag beats the variable, the variable beats
    the file, the file beats the default. Sizes may be written 64KiB, 1.5GiB, seconds 90s, 30m,
    1h or 7d.
    """
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        settings = Settings.load(given)
        refuse_unsafe(settings)
    except ValueError as error:
        raise Misuse(str(error)) from None
    try:
        from sse_fast.node.serve import CannotServe
        from sse_fast.node.serve import serve as run
    except NeedsLinux as error:
        raise Failure(str(error)) from None

    try:
        sys.exit(run(settings))
    except CannotServe as error:
        raise Failure(str(error)) from None
