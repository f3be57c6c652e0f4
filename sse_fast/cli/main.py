"""The command line: `sse-fast serve | publish | listen | relay | token | schema | generate | bench`.

Results go to stdout, everything else to stderr. Exit status: 0 done, 1 it failed, 2 it was asked for wrongly.
"""

import click

from sse_fast.cli.bench import bench
from sse_fast.cli.generate import generate
from sse_fast.cli.listen import listen
from sse_fast.cli.publish import publish
from sse_fast.cli.relay import relay
from sse_fast.cli.schema import schema
from sse_fast.cli.serve import serve
from sse_fast.cli.token import token


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
In three terminals:
  sse-fast serve
  sse-fast listen news
  sse-fast publish news 'hello'
""",
)
@click.version_option(package_name="sse-fast", prog_name="sse-fast")
def main() -> None:
    """A Server-Sent Events edge: publish over HTTP, subscribe with any EventSource client.

    Every command has its own --help with examples.
    """


for command in (bench, generate, listen, publish, relay, schema, serve, token):
    main.add_command(command)
