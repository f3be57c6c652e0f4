"""What a setting may be: kinds of values, each with its check, which raises ValueError in words that say what would be
right."""

import ipaddress
import re
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from sse_fast.access.algorithms import ALGORITHMS, refuse_short
from sse_fast.access.durations import seconds_of
from sse_fast.access.namespaces import Namespace, read
from sse_fast.access.patterns import Patterns
from sse_fast.access.rates import Rate

MIB = 1024 * 1024
PUBLISH_KEY = VISIBLE = re.compile(r"[\x21-\x7e]+")
EXAMPLE_SECRET = "change-me-this-is-only-an-example"  # of examples/sse-fast.toml, which anybody may read
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
APP = re.compile(rf"{NAME}:{NAME}")
COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HOST_NAME = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9._-]+|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
ORIGIN = re.compile(r"https?://(?:[^/\s:*@\[\]]+|\[[^/\s*@\]]+\])(?::(?:[0-9]{1,5}|\*))?", re.I)
EDGE_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def _between_commas(given: object) -> object:
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, Iterable):
        return given
    return [part.strip() for item in items for part in str(item).split(",") if part.strip()]


def _origins(origins: list[str]) -> list[str]:
    for origin in origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is not an origin; write scheme://host[:port] with no path, where the port may be *, "
                "as in http://localhost:*, or '*'"
            )
    return [origin.lower() for origin in origins]  # as browsers send them


def _host_names(hosts: list[str]) -> list[str]:
    for host in hosts:
        if not HOST_NAME.fullmatch(host):
            raise ValueError(
                f"{host!r} is no name of a host; write it as browsers send it, without scheme and port, as in "
                "shop.example, *.shop.example or xn--grn-hoa.example, or '*'"
            )
    return [host.lower().strip("[]") for host in hosts]


def _proxies(proxies: list[str]) -> list[str]:
    for proxy in proxies:
        try:
            if proxy != "*":
                ipaddress.ip_network(proxy)
        except ValueError as error:
            raise ValueError(f"{error}; write an IP address, a network such as 10.0.0.0/8, or '*'") from None
    return proxies


def _patterns(patterns: list[str]) -> list[str]:
    Patterns.of(patterns)
    return patterns


def _rate(rate: str) -> str:
    Rate.read(rate)
    return rate


def _rate_of_bytes(rate: str) -> str:
    Rate.read(rate, of_bytes=True)
    return rate


def _algorithms(algorithms: list[str]) -> list[str]:
    if unknown := [name for name in algorithms if name not in ALGORITHMS]:
        raise ValueError(f"{unknown[0]!r} is none that tokens are taken with; there are {', '.join(ALGORITHMS)}")
    if not algorithms:
        raise ValueError("name one at least")
    return algorithms


def _token_secret(secret: SecretStr) -> SecretStr:
    refuse_short(secret.get_secret_value().encode())
    if secret.get_secret_value() == EXAMPLE_SECRET:
        raise ValueError("this is the secret of the example, which anybody knows; `sse-fast token secret` makes one")
    return secret


def _publish_key(key: SecretStr) -> SecretStr:
    if not PUBLISH_KEY.fullmatch(key.get_secret_value()):
        raise ValueError("a key is one or more visible ASCII characters, without spaces or line ends")
    return key


def _cookie_name(name: str) -> str:
    if not COOKIE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no cookie's name; write letters, digits and -_., as in __Host-sse")
    return name


def _app(app: str) -> str:
    if not APP.fullmatch(app):
        raise ValueError(f"{app!r} names no app; write MODULE:ATTRIBUTE, as in shop.main:app")
    return app


def _edge_path(path: str) -> str:
    if not EDGE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(
            f"{path!r} is no path for the edge; write one of letters, digits and ._~-, with a slash in front and "
            "none behind, as in /edge or /live/events"
        )
    return path


def _headers(names: list[str]) -> list[str]:
    for name in names:
        if not HEADER.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header; write names, as in cookie,authorization")
    return [name.lower() for name in names]


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        fits = False
    if not fits or "@" in parts.netloc or not VISIBLE.fullmatch(url):
        raise ValueError("write a URL such as https://app.example/authorize, without a name and password in it")
    return url


Listed = Annotated[list[str], BeforeValidator(_between_commas)]
Seconds = Annotated[float, BeforeValidator(seconds_of)]

Algorithms = Annotated[Listed, AfterValidator(_algorithms)]
App = Annotated[str, AfterValidator(_app)]
CookieName = Annotated[str, AfterValidator(_cookie_name)]
EdgePath = Annotated[str, AfterValidator(_edge_path)]
Headers = Annotated[Listed, AfterValidator(_headers)]
HostNames = Annotated[Listed, AfterValidator(_host_names)]
Namespaces = Annotated[list[Namespace], BeforeValidator(read)]
Origins = Annotated[Listed, AfterValidator(_origins)]
PatternsOfChannels = Annotated[Listed, AfterValidator(_patterns)]
Proxies = Annotated[Listed, AfterValidator(_proxies)]
PublishKey = Annotated[SecretStr, AfterValidator(_publish_key)]
RateOf = Annotated[str, AfterValidator(_rate)]
RateOfBytes = Annotated[str, AfterValidator(_rate_of_bytes)]
TokenSecret = Annotated[SecretStr, AfterValidator(_token_secret)]
Url = Annotated[str, AfterValidator(_url)]


def types_of(annotation: Any) -> list[Any]:
    """The types that an annotation is a union of, without their checks."""
    several = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [get_args(each)[0] if get_origin(each) is Annotated else each for each in several]


def is_loopback_host(host: str) -> bool:
    """Whether who listens there is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
