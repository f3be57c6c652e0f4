"""What a peer is: a server that is measured beside sse_fast, where it comes from, and how it is spoken to.

What holds for all of them, so that figures compare: one working process (for Go: one thread at a time), no access log,
no compression, limits above 10,000 streams, publishers' connections that stay open, heartbeats no more often than every
15 s where that can be set. What differs is said in the peer's own file.

Everything that is built or downloaded lands in `benches/build/`; Debian's packages are installed as such.
"""

import base64
import hashlib
import hmac
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HERE, ROOT, Server

from sse_fast.bench import Target

SERVERS = HERE / "peers" / "servers"
BUILD = HERE / "build"
BUILD_SECONDS = 1800


class CannotInstall(Exception):
    """The peer cannot be had on this machine; the message says what was tried."""


@dataclass(frozen=True, kw_only=True)
class Peer(Server):
    """`version()` is None while it is not installed; `install()` may be called again at any time."""

    version: Callable[[], str | None]
    install: Callable[[], None]
    publish_host: str = "127.0.0.1"
    publish_headers: tuple[tuple[str, str], ...] = ()
    body: str = "{data}"  # or {json}: the payload as a JSON string
    content_type: str = "text/plain"
    known_faults: frozenset[str] = frozenset()  # kinds of problems of the load client: reported, but no surprise
    settling: float = 0.0  # seconds that it needs after the first stream was answered
    connecting: int = 256  # streams that are asked for at once while all are opened

    def target(self, port: int) -> Target:
        """For the load client."""
        return Target(
            f"http://127.0.0.1:{port}{self.subscribe}",
            f"http://{self.publish_host}:{port}{self.publish}",
            body=self.body,
            content_type=self.content_type,
            publish_headers=self.publish_headers,
        )


def run(*command: str, cwd: Path = ROOT, env: Mapping[str, str] = os.environ) -> str:
    """Run a step of an installation at low priority; what it printed. Raises CannotInstall."""
    step = " ".join(command)
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            preexec_fn=lambda: os.nice(10),
        )
    except FileNotFoundError:
        raise CannotInstall(f"{command[0]} is not on this machine; wanted for: {step}") from None
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{step}\nwas not done after {BUILD_SECONDS // 60} minutes") from None
    if done.returncode:
        raise CannotInstall(f"{step}\nexited with {done.returncode}: {done.stdout.strip()[-800:]}")
    return done.stdout


def apt(*packages: str) -> None:
    if all(debian_version(package) for package in packages):
        return
    command = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    if os.geteuid() != 0:
        raise CannotInstall(f"needs packages of Debian; say: sudo {' '.join(command)}")
    run(*command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def debian_version(package: str) -> str | None:
    if shutil.which("dpkg-query") is None:
        return None
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package]
    status, _, version = subprocess.run(command, capture_output=True, text=True).stdout.partition(" ")
    return version if status == "installed" else None


def python_version(*packages: str) -> str | None:
    """The versions of packages of the environment that runs the bench (extra `bench`)."""
    try:
        return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    except importlib.metadata.PackageNotFoundError:
        return None


def python_packages() -> None:
    raise CannotInstall("its packages are those of the extra `bench`; say: pip install --editable '.[bench]'")


def go_build(program: Path, module: str, version: str, source: Path | None = None) -> None:
    """Build a Go program: `source`, which uses the module, or the module's own. `go install module@version` would do
    for the latter, but it also asks for the list of all versions, which not every mirror of modules has."""
    home = program.parent
    home.mkdir(parents=True, exist_ok=True)
    (home / "go.mod").write_text(f"module peer\n\ngo 1.23\n\nrequire {module} {version}\n")
    if source:
        shutil.copy(source, home / "main.go")
    package = "." if source else module
    run("go", "build", "-mod=mod", "-p", "1", "-ldflags=-s", "-o", str(program), package, cwd=home)


def built_version(program: Path, version: str, source: Path | None = None) -> str | None:
    """The version, if the program is built, and not before its source was last changed."""
    if not program.exists() or (source and program.stat().st_mtime < source.stat().st_mtime):
        return None
    return version


def signed_token(claims: dict[str, Any], key: str) -> str:
    """A JSON web token, HS256 (RFC 7519)."""

    def coded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    text = coded(b'{"alg":"HS256","typ":"JWT"}') + b"." + coded(json.dumps(claims).encode())
    return (text + b"." + coded(hmac.digest(key.encode(), text, hashlib.sha256))).decode()
