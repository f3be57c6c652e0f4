"""The configurations in examples/deploy, run by the real proxies; only addresses, paths and machine limits differ."""

import os
import re
import shutil
import ssl
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import httpx
import trustme
from conftest import PATIENCE, missing, until
from support import free_port

EXAMPLES = Path(__file__).parents[2] / "examples" / "deploy"
INSIDER = "127.0.0.1"
"""The examples take all of this machine's addresses for insiders, and a test has no others to come from."""


def substituted(text: str, replacements: dict[str, str]) -> str:
    """Fails where the example no longer says what is to be replaced."""
    for old, new in replacements.items():
        assert old in text, f"the example has no {old!r}"
        text = text.replace(old, new)
    return text


def proxy_program(name: str) -> str:
    """The path of a proxy, or the end of the test; /usr/sbin is not in everybody's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or missing(name)


class Proxy(ABC):
    """A proxy in front of an edge, on a port of its own with a certificate for localhost."""

    name: ClassVar[str]

    def __init__(self, directory: Path, edge: int) -> None:
        self.directory = directory
        self.edge = edge
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.authority_file = directory / "authority.pem"
        self.authority_file.write_bytes(authority.cert_pem.bytes())
        self._chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        self._key = certificate.private_key_pem.bytes()
        self._trusted = ssl.create_default_context()
        authority.configure_trust(self._trusted)

    def client(self, *, http2: bool, source: str | None = None) -> httpx.AsyncClient:
        """One connection over HTTP/2; `source`: the address it comes from."""
        limits = httpx.Limits(max_connections=1 if http2 else None)
        transport = httpx.AsyncHTTPTransport(
            verify=self._trusted, http1=not http2, http2=http2, limits=limits, local_address=source
        )
        return httpx.AsyncClient(base_url=self.url, transport=transport, timeout=PATIENCE)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until SIGTERM, which it must obey at once."""
        command = self.command()
        with (self.directory / "output.log").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

        def ready() -> bool:
            assert process.poll() is None, self.log()
            try:
                return httpx.get(f"{self.url}/readyz", verify=self._trusted).status_code == 200
            except httpx.TransportError:
                return False

        try:
            until(ready, f"{self.name}, to answer")
            yield
            process.terminate()
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        return "".join(file.read_text(errors="replace") for file in sorted(self.directory.glob("*.log")))

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def in_vain(self, channel: str) -> bool:
        """Whether the log has a request for a stream of this channel that the edge was not there for."""

    def _requests(self, channel: str) -> list[str]:
        asked = re.compile(rf"(/sse/|channel=){channel}[ &?]")
        return [line for line in self.log().splitlines() if asked.search(line)]


class Nginx(Proxy):
    name = "nginx"

    def command(self) -> list[str]:
        (self.directory / "chain.pem").write_bytes(self._chain)
        (self.directory / "key.pem").write_bytes(self._key)
        bodies = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        elsewhere = " ".join(f"{kind}_temp_path {self.directory / kind};" for kind in bodies)
        text = substituted(
            (EXAMPLES / "nginx.conf").read_text(),
            {
                "user www-data;": "user root;" if os.geteuid() == 0 else "",
                "pid /run/": f"pid {self.directory}/",
                "worker_rlimit_nofile 140000;": "",
                "worker_connections 65536;": "worker_connections 2000;",
                "http {\n": f"http {{\n    {elsewhere}\n",
                "/var/log/nginx/": f"{self.directory}/",
                "listen 443 ": f"listen 127.0.0.1:{self.port} ",
                "/etc/ssl/certs/events.pem": f"{self.directory}/chain.pem",
                "/etc/ssl/private/events.key": f"{self.directory}/key.pem",
                "allow 127.0.0.0/8;": f"allow {INSIDER};",
                "server 127.0.0.1:8000;": f"server 127.0.0.1:{self.edge};",
            },
        )
        config = self.directory / "nginx.conf"
        config.write_text(text)
        nginx = proxy_program("nginx")
        early = ("-e", str(self.directory / "error.log"))
        return [nginx, "-p", str(self.directory), *early, "-c", str(config), "-g", "daemon off;"]

    def in_vain(self, channel: str) -> bool:
        return any('" 444 ' in line for line in self._requests(channel))


class Haproxy(Proxy):
    name = "haproxy"

    def command(self) -> list[str]:
        (self.directory / "events.pem").write_bytes(self._chain + self._key)
        text = substituted(
            (EXAMPLES / "haproxy.cfg").read_text(),
            {
                "    user haproxy\n    group haproxy\n": "",
                "log /dev/log local0 warning": "log stdout format raw local0 info",
                "maxconn 100000": "maxconn 1000",
                "bind :443 ": f"bind 127.0.0.1:{self.port} ",
                "/etc/haproxy/events.pem": f"{self.directory}/events.pem",
                "insider src 127.0.0.0/8": f"insider src {INSIDER}",
                "127.0.0.1:8000": f"127.0.0.1:{self.edge}",
            },
        )
        config = self.directory / "haproxy.cfg"
        config.write_text(text)
        return [proxy_program("haproxy"), "-f", str(config), "-db"]

    def in_vain(self, channel: str) -> bool:
        return any(" SC-- " in line for line in self._requests(channel))


PROXIES: dict[str, type[Proxy]] = {each.name: each for each in (Nginx, Haproxy)}
