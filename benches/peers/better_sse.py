"""better-sse on Node's own http server: npm, the version below, and the Node of this machine.

The server (servers/better_sse.mjs) is what its guide shows: a session a request, one channel, `broadcast`. One process,
Node's default heap; keep-alive comments every 15 s instead of 10. It sends the data as JSON (its default), with event
type and id.
"""

import shutil
from pathlib import Path

from .base import BUILD, SERVERS, Peer, run

VERSION = "0.16.1"
HOME = BUILD / "better-sse"


def install() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "package.json").write_text('{"private": true, "type": "module"}\n')
    run("npm", "install", "--no-audit", "--no-fund", "--save-exact", f"better-sse@{VERSION}", cwd=HOME)


def command(port: int, scratch: Path) -> list[str]:
    program = HOME / "better_sse.mjs"  # Node looks for packages beside the program
    shutil.copy(SERVERS / program.name, program)
    return ["node", str(program), str(port)]


def version() -> str | None:
    if shutil.which("node") is None or not (HOME / "node_modules" / "better-sse").exists():
        return None
    return f"{VERSION}, Node {run('node', '--version').strip()}"


PEER = Peer(
    name="better-sse",
    about="better-sse on Node's http",
    subscribe="/sse/bench",
    publish="/publish/bench",
    command=command,
    version=version,
    install=install,
)
