"""The URL of an engine, read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
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
    options: dict[str, Any] = field(default_factory=dict)
    """Of TLS, as redis-py takes them."""

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError, which does not show the URL: there may be a password in it."""
        from sse_fast.cluster.redis_py import parse_url  # what it loads is for those who use it

        scheme, separator, rest = url.replace("#", "%23").partition("://")
        tls = scheme in ("rediss", "rediss+sentinel", "rediss+cluster")
        kind = KINDS.get(scheme.replace("rediss", "redis"))
        if kind is None or not separator:
            raise ValueError(f"the URL of an engine is {FORMS}; this one begins with {scheme[:20]!r}")
        rest, _, query = rest.partition("?")
        netloc, _, path = rest.partition("/")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if wrong := sorted(asked.keys() - set(OPTIONS)):
            raise ValueError(f"the engine's URL has an option {wrong[0]!r}; there are {', '.join(OPTIONS)}")
        if (wanted := asked.get("ssl_cert_reqs", "required")) not in ("required", "none"):
            raise ValueError(f"in the engine's URL ssl_cert_reqs is 'required' or 'none', not {wanted!r}")
        user, at, places = netloc.rpartition("@")
        segments = [part for part in path.split("/") if part]
        service = ""
        if kind == "sentinel":
            if not segments:
                raise ValueError(f"the engine's URL has no service that its Sentinels know: {FORMS}")
            service = unquote(segments.pop(0))
        elif kind == "socket":
            segments = []
        db = asked.get("db", segments.pop(0) if segments else "0")
        if not (db.isascii() and db.isdigit()) or segments:
            raise ValueError(f"the engine's URL ends with the number of a database, or with nothing: {FORMS}")
        if kind == "cluster" and int(db):
            raise ValueError("a Redis cluster has the database 0 only")
        # What redis-py knows nothing of are several hosts, and a service.
        one = f"unix://{user}{at}/{path}?{query}" if kind == "socket" else f"redis://{user}{at}host/{db}?{query}"
        try:
            given: dict[str, Any] = {**parse_url(one)}
        except ValueError:
            raise ValueError(f"the engine's URL is not understood: {FORMS}") from None
        return cls(
            kind=kind,
            hosts=() if kind == "socket" else tuple(host_of(place, PORTS[kind]) for place in places.split(",")),
            tls=tls,
            service=service,
            path=given.get("path", ""),
            db=int(db),
            username=given.get("username"),
            password=given.get("password"),
            sentinel_username=given.get("sentinel_username"),
            sentinel_password=given.get("sentinel_password"),
            options={name: value for name, value in given.items() if name.startswith("ssl_")},
        )

    def __str__(self) -> str:
        if self.kind == "socket":
            return f"unix://{self.path}"
        hosts = ",".join(text_of(host) for host in self.hosts)
        kind = "" if self.kind == "server" else f"+{self.kind}"
        service = f"/{self.service}" if self.service else ""
        return f"{'rediss' if self.tls else 'redis'}{kind}://{hosts}{service}"

    def given(self, host: Host | None, *, sentinel: bool = False) -> dict[str, Any]:
        """What one of redis-py's connections is made with; host: None, its Unix socket."""
        found: dict[str, Any] = {
            "username": self.sentinel_username if sentinel else self.username,
            "password": self.sentinel_password if sentinel else self.password,
            "db": 0 if sentinel else self.db,
            "protocol": 2,  # its replies are the same in all versions
        }
        if host is None:
            return {**found, "path": self.path}
        found |= {"host": host[0], "port": host[1], "socket_keepalive": True}
        if self.tls:
            found |= {"ssl_check_hostname": self.options.get("ssl_cert_reqs") != "none", **self.options}
            if "ssl_certfile" in found:  # in one file, which redis-py before 6 takes for no key
                found.setdefault("ssl_keyfile", found["ssl_certfile"])
        return found

    @cached_property
    def context(self) -> Any:
        """What redis-py's connections make their TLS of. All have the same: it reads the files only once, and they and
        the system's certificates take the loop milliseconds."""
        from sse_fast.cluster.redis_py import AsyncTls

        return AsyncTls(**self.given(("", 0))).ssl_context


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
