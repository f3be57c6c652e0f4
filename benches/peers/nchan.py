"""Nchan: Debian's nginx and libnginx-mod-nchan (apt).

Settings (servers/nchan.conf.in): as its users would tune it for one busy channel: one worker, messages kept in memory,
access log off. It sends the payload as it stands, with an id.
"""

import os
import shutil
from pathlib import Path

from .base import SERVERS, Peer, apt, debian_version

MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin"


def nginx() -> str:
    return shutil.which("nginx", path=SEARCHED) or "nginx"


def filled_in(template: Path, scratch: Path, values: dict[str, str]) -> Path:
    """The template in the scratch directory, with the values for @NAMES@ put in."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path = scratch / template.stem
    path.write_text(text)
    return path


def command(port: int, scratch: Path) -> list[str]:
    values = {"MODULE": MODULE, "PORT": str(port), "PREFIX": str(scratch)}
    config = filled_in(SERVERS / "nchan.conf.in", scratch, values)
    return [nginx(), "-p", str(scratch), "-e", str(scratch / "error.log"), "-c", str(config)]


def version() -> str | None:
    return debian_version("libnginx-mod-nchan") if debian_version("nginx") else None


PEER = Peer(
    name="nchan",
    about="nginx with libnginx-mod-nchan, one worker",
    subscribe="/sse/bench",
    publish="/publish/bench",
    command=command,
    version=version,
    install=lambda: apt("nginx", "libnginx-mod-nchan"),
)
