"""The URL of an engine, read."""

import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from urllib.parse import parse_qsl, unquote

Host = tuple[str, int]

KINDS: dict[str, Literal["server", "sentinel", "cluster", "socket"]] = {
    "redis": "server",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "unix": "socket",
}
PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}
OPTIONS = (
    "db",
    "sentinel_password",
    "sentinel_username",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// with TLS, unix:///path, "
    "redis+sentinel://host[:port],host[:port]/service[/db] or redis+cluster://host[:port],host[:port]"
)


@dataclass(frozen=True)
class Address:
    """Where an engine is, and how it is spoken to. As text: where it is, without what is secret."""

    kind: Literal["server", "sentinel", "cluster", "socket"]
    hosts: tuple[Host, ...]
    tls: bool = False
    service: str = ""
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError, which does not show the URL: there may be a password in it."""
        scheme, separator, rest = url.partition("://")
        tls = scheme in ("rediss", "rediss+sentinel", "rediss+cluster")
        kind = KINDS.get(scheme.replace("rediss", "redis"))
        if kind is None or not separator:
            raise ValueError(f"the URL of an engine is {FORMS}; this one begins with {scheme[:20]!r}")
        rest, _, query = rest.partition("?")
        netloc, _, path = rest.partition("/")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if wrong := sorted(given.keys() - set(OPTIONS)):
            raise ValueError(f"the engine's URL has an option {wrong[0]!r}; there are {', '.join(OPTIONS)}")
        if (wanted := given.get("ssl_cert_reqs", "required")) not in ("required", "none"):
            raise ValueError(f"in the engine's URL ssl_cert_reqs is 'required' or 'none', not {wanted!r}")
        user, at, places = netloc.rpartition("@")
        name, _, password = user.partition(":")
        segments = [unquote(part) for part in path.split("/") if part]
        service, socket = "", ""
        if kind == "sentinel":
            if not segments:
                raise ValueError(f"the engine's URL has no service that its Sentinels know: {FORMS}")
            service = segments.pop(0)
        elif kind == "socket":
            socket, segments = "/" + unquote(path), []
        db = given.pop("db", segments.pop(0) if segments else "0")
        if not (db.isascii() and db.isdigit()) or segments:
            raise ValueError(f"the engine's URL ends with the number of a database, or with nothing: {FORMS}")
        if kind == "cluster" and int(db):
            raise ValueError("a Redis cluster has the database 0 only")
        return cls(
            kind=kind,
            hosts=() if kind == "socket" else tuple(host_of(place, PORTS[kind]) for place in places.split(",")),
            tls=tls,
            service=service,
            path=socket,
            db=int(db),
            username=unquote(name) or None,
            password=unquote(password) if at and password else None,
            sentinel_username=given.pop("sentinel_username", None),
            sentinel_password=given.pop("sentinel_password", None),
            options=given,
        )

    def __str__(self) -> str:
        if self.kind == "socket":
            return f"unix://{self.path}"
        hosts = ",".join(text_of(host) for host in self.hosts)
        kind = "" if self.kind == "server" else f"+{self.kind}"
        service = f"/{self.service}" if self.service else ""
        return f"{'rediss' if self.tls else 'redis'}{kind}://{hosts}{service}"

    @cached_property
    def ssl(self) -> ssl.SSLContext | None:
        """Raises OSError for files that are none."""
        if not self.tls:
            return None
        given = self.options
        context = ssl.create_default_context(cafile=given.get("ssl_ca_certs"))
        if given.get("ssl_check_hostname", "true").lower() in ("false", "0", "no"):
            context.check_hostname = False
        if given.get("ssl_cert_reqs") == "none":
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if "ssl_certfile" in given:
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"))
        return context

    def greeting(self, *, sentinel: bool = False) -> list[tuple[str, ...]]:
        """What is said first on a connection."""
        username = self.sentinel_username if sentinel else self.username
        password = self.sentinel_password if sentinel else self.password
        said: list[tuple[str, ...]] = []
        if password is not None:
            said.append(("AUTH", username, password) if username else ("AUTH", password))
        if self.db and not sentinel:
            said.append(("SELECT", str(self.db)))
        return said


def host_of(text: str, port: int) -> Host:
    """`host`, `host:port`, `[::1]:port`."""
    name, colon, number = text.rpartition(":")
    if not colon or "]" in number:
        name, number = text, str(port)
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if not name or not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise ValueError(f"the engine's URL has a host {text[:80]!r}, which is none: {FORMS}")
    return name, int(number)


def text_of(host: Host) -> str:
    return f"[{host[0]}]:{host[1]}" if ":" in host[0] else f"{host[0]}:{host[1]}"
