"""`sse-fast token`: makes tokens and the keys that sign them, and says what is in them."""

import base64
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from sse_fast.access.durations import seconds_of
from sse_fast.access.patterns import Patterns
from sse_fast.cli.failure import Failure, Misuse, tell
from sse_fast.logs import printable
from sse_fast.settings import BadSettings, Settings, variable

SECRET_BYTES = 32  # at least (RFC 7518, section 3.2)
WITHOUT_A_UNIT = re.compile(r"[0-9.]+")
ALGORITHMS = ("ES256", "RS256", "EdDSA")
PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))


def time_of(ctx: click.Context, option: click.Parameter, given: str) -> float:
    seconds = seconds_of(given if WITHOUT_A_UNIT.fullmatch(given) is None else given + "s")
    if not isinstance(seconds, float) or not seconds:
        raise Misuse(f"--for: {given!r} is no time; write 90s, 30m, 1h or 7d")
    return seconds


class Token(click.Group):
    """What comes without a command's name makes a token."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=Token,
    short_help="Make a token, or keys to sign tokens with; say what is in them.",
    epilog="""\b
Examples:
  export SSE_FAST_TOKEN_SECRET=$(sse-fast token secret)
  sse-fast token --subscribe 'orders:*' --user 42 --for 1h      (what `serve` with the same secret takes)
  sse-fast token inspect eyJhbGciOi...
  sse-fast token keys signing.json --out public.json            a key pair; serve --token-keys public.json
  sse-fast token --key signing.json --subscribe 'orders:*'
""",
)
def token() -> None:
    """Make a token (`make`, which needs not be said), or keys to sign tokens with; say what is in them."""


@token.command(
    short_help="Make a token, and print it.",
    epilog="""\b
Examples:
  export SSE_FAST_TOKEN_SECRET=$(sse-fast token secret)
  sse-fast token make --subscribe 'orders:*' --user 42 --for 1h
  sse-fast token make --subscribe 'room:7' --publish 'room:7' --no-history --for 90s
  sse-fast token make --key signing.json --operations --issuer https://id.example --for 7d
""",
)
@click.option(
    "--subscribe", metavar="PATTERN", multiple=True, help="Channels to listen to: 'orders:*'. Repeat for more."
)
@click.option("--publish", metavar="PATTERN", multiple=True, help="Channels to publish to. Repeat for more.")
@click.option("--user", metavar="NAME", help="Who it is: the claim 'sub'.")
@click.option(
    "--for", "seconds", callback=time_of, metavar="TIME", default="1h", show_default=True, help="How long it holds."
)
@click.option("--endless", is_flag=True, help="It never ends; only a server that says so takes it.")
@click.option("--history/--no-history", default=True, help="Whether it may ask for what was published before.")
@click.option(
    "--operations", is_flag=True, help="It may operate the server: look into it, end streams, make channels forget."
)
@click.option("--secret", metavar="TEXT", help=f"What it is signed with. Default: {variable('token_secret')}.")
@click.option("--key", "key_file", type=click.Path(path_type=Path), metavar="FILE", help="Or a key of `token keys`.")
@click.option("--issuer", metavar="NAME", help=f"The claim 'iss'. Default: {variable('token_issuer')}.")
@click.option("--audience", metavar="NAME", help=f"The claim 'aud'. Default: {variable('token_audience')}.")
def make(
    subscribe: tuple[str, ...],
    publish: tuple[str, ...],
    user: str | None,
    seconds: float,
    endless: bool,
    history: bool,
    operations: bool,
    secret: str | None,
    key_file: Path | None,
    issuer: str | None,
    audience: str | None,
) -> None:
    """Make a token and print it.

    What is not said here is as `serve` would have it here: of its variables, and of sse-fast.toml in the working
    directory.
    """
    import jwt

    granted = {"subscribe": checked("--subscribe", subscribe), "publish": checked("--publish", publish)}
    if not (subscribe or publish or operations):
        raise Misuse("a token grants something: --subscribe 'orders:*', --publish or --operations")
    settings = settings_here()
    claims: dict[str, Any] = {"iat": int(time.time())}
    if not endless:
        claims["exp"] = int(time.time() + seconds)
    if user is not None:
        claims["sub"] = user
    if issuer := issuer or settings.token_issuer:
        claims["iss"] = issuer
    if audience := audience or settings.token_audience:
        claims["aud"] = audience
    claims["sse"] = {name: texts for name, texts in granted.items() if texts}
    if not history:
        claims["sse"]["history"] = False
    if operations:
        claims["sse"]["operations"] = True
    if key_file is not None:
        if secret is not None:
            raise Misuse("--secret and --key both sign; give one")
        jwk = signing_key(key_file)
        headers = {"kid": jwk["kid"]} if "kid" in jwk else None
        algorithm = jwk.get("alg") or jwt.PyJWK(jwk).algorithm_name
        click.echo(jwt.encode(claims, jwt.PyJWK(jwk, algorithm).key, algorithm, headers))
        return
    if secret is None and settings.token_secret is not None:
        secret = settings.token_secret.get_secret_value()
    if secret is None:
        raise Misuse(
            f"there is nothing to sign with: set {variable('token_secret')}, for which `sse-fast token secret` makes "
            "one, or give --key FILE, which `sse-fast token keys FILE` makes"
        )
    if len(secret.encode()) < SECRET_BYTES:
        raise Misuse(f"a token secret has at least {SECRET_BYTES} bytes; `sse-fast token secret` makes one")
    click.echo(jwt.encode(claims, secret.encode(), "HS256"))


@token.command(
    short_help="Make a secret to sign tokens with, or a publish key.",
    epilog="""\b
Examples:
  export SSE_FAST_TOKEN_SECRET=$(sse-fast token secret)
  SSE_FAST_PUBLISH_KEY=$(sse-fast token secret) sse-fast serve --host 0.0.0.0
""",
)
def secret() -> None:
    """Print a secret of 256 bits: for SSE_FAST_TOKEN_SECRET, or as a publish key."""
    click.echo(secrets.token_urlsafe(SECRET_BYTES))


@token.command(
    short_help="Make a key pair to sign tokens with.",
    epilog="""\b
Examples:
  sse-fast token keys signing.json --out public.json
  sse-fast serve --token-keys public.json
  sse-fast token keys signing.json --add --out public.json      the new one signs, both are taken
  sse-fast token keys signing.json --public                     what is in it, for servers
  sse-fast token keys signing.json --algorithm RS256
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default=ALGORITHMS[0],
    show_default=True,
    help="Of the key that is made, and of what it signs.",
)
@click.option("--add", is_flag=True, help="Put another key into FILE, which is the one that signs from then on.")
@click.option("--public", is_flag=True, help="Make nothing: print the public half of what is in FILE.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Put the public half there.")
def keys(file: Path, algorithm: str, add: bool, public: bool, out: Path | None) -> None:
    """Make a key pair, or another one, in FILE, which only its owner may read; and print the public half, a JWK set,
    which is for `serve --token-keys`, or to be served for its --jwks-url.

    Where nothing is made, what --out names stays as it was; what a shell's > does is empty by then.

    To change keys: add one, let the servers have the new public set, and leave the old key in it until its last token
    has ended.
    """
    if out is not None and out.absolute() == file.absolute():
        raise Misuse("--out is where the public half goes, and FILE where the private one is; name two files")
    if public and add:
        raise Misuse("--public makes nothing; leave --add out")
    found = private_keys(file) if add or public else []
    if not public:
        if not add and file.exists():
            raise Misuse(f"{file} is there; --add puts another key into it, --public prints its public half")
        found = [*found, made(algorithm)]
        write_whole(file, orjson.dumps({"keys": found}, option=orjson.OPT_INDENT_2) + b"\n")
    halves = [{name: value for name, value in jwk.items() if name not in PRIVATE} for jwk in found]
    half = orjson.dumps({"keys": halves}, option=orjson.OPT_INDENT_2)
    if out is not None:
        write_whole(out, half + b"\n", mode=0o644)
    else:
        click.echo(half)


@token.command(
    short_help="Say what is in a token, or in a key set.",
    epilog="""\b
Examples:
  sse-fast token inspect eyJhbGciOi...
  sse-fast token inspect eyJhbGciOi... --keys public.json
  sse-fast token inspect public.json
  sse-fast token inspect - < token.txt
""",
)
@click.argument("what", metavar="TOKEN|FILE|-")
@click.option("--secret", metavar="TEXT", help=f"Check its signature with this. Default: {variable('token_secret')}.")
@click.option("--keys", "key_file", type=click.Path(path_type=Path), metavar="FILE", help="Or with this key set.")
def inspect(what: str, secret: str | None, key_file: Path | None) -> None:
    """Print what is in a token, as JSON, and on stderr whether a server that has the keys would take it; or of a key
    set what keys it has. Status 1: it would not.

    Keys that are not given are as `serve` would have them here.
    """
    if what == "-" and sys.stdin is None:
        raise Misuse("there is no stdin to read it from; give the token, or a file")
    text = sys.stdin.read() if what == "-" else read_file(Path(what)) if is_file(what) else what
    if text.lstrip().startswith("{"):
        show_keys(text)
    else:
        show_token(text.strip(), secret, key_file)


# ---- what is in them -------------------------------------------------------------------------------------------------


def show_keys(text: str) -> None:
    from sse_fast.access.algorithms import BadKeys
    from sse_fast.access.keys import has_private, key_set_of

    try:
        found = key_set_of(text)
    except BadKeys as error:
        raise Failure(str(error)) from None
    for key in found.keys:
        click.echo(f"{key.kid or '(no kid)'}  {', '.join(key.by_algorithm)}")
    for line in found.skipped:
        tell(f"not to be used: {line}")
    if has_private(text):
        tell(
            "there are private keys in it, which no server needs: `sse-fast token keys --public` prints the public half"
        )


def show_token(text: str, secret: str | None, key_file: Path | None) -> None:
    import jwt

    from sse_fast.access.algorithms import BadKeys
    from sse_fast.access.grants import NO_CLAIM
    from sse_fast.access.keys import Key, key_of_secret, key_set_of
    from sse_fast.access.tokens import Tokens
    from sse_fast.errors import Unauthorized

    try:
        whole = jwt.decode_complete(text, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        no_file = f", and there is no file {printable(text)}" if given_as_file(text) else ""
        raise Failure(f"this is no token: {error}{no_file}") from None
    claims = whole["payload"]
    # Not by orjson, which has no numbers past 64 bits.
    click.echo(json.dumps({"header": whole["header"], "claims": claims}, indent=2, ensure_ascii=False))
    now = time.time()
    ends = claims.get("exp")
    if isinstance(ends, int | float):
        tell(f"it {'ended' if ends <= now else 'ends'} {shown_time(ends)}")
    settings = settings_here()
    if secret is None and settings.token_secret is not None:
        secret = settings.token_secret.get_secret_value()
    tokens = Tokens(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        algorithms=settings.token_algorithms,
        leeway=settings.token_leeway,
        endless=settings.token_endless,
    )
    found: list[Key] = []
    try:
        if secret is not None:
            found.append(key_of_secret(secret.encode(), settings.token_algorithms, settings.token_issuer))
        if (path := key_file or settings.token_keys) is not None:
            found += key_set_of(read_file(path), settings.token_algorithms, settings.token_issuer).keys
    except BadKeys as error:
        raise Failure(str(error)) from None
    if not found:
        tell("its signature was not checked: there is no key here; see --secret and --keys")
        return
    tokens.use(found)
    try:
        grants = tokens.grants_of(text, now)
    except Unauthorized as error:
        raise Failure(f"a server with these keys does not take it: {error}") from None
    late = isinstance(ends, int | float) and ends <= now
    leeway = f" until {settings.token_leeway:g} s after its end, its leeway" if late else ""
    tell(f"a server with these keys takes it{leeway}")
    if grants.claimless:
        tell(f"it grants nothing but what everybody may{NO_CLAIM}")
    elif not (grants.subscribe or grants.publish or grants.operations):
        tell("it grants nothing but what everybody may")


def shown_time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "at a time that no calendar has: 'exp' is in seconds since 1970, not in milliseconds"


def given_as_file(text: str) -> bool:
    """Whether it was most likely meant as a file's name, so that it may be shown."""
    return text.count(".") < 2 and len(text) < 256 and (text.endswith((".json", ".jwt", ".txt")) or "/" in text)


def settings_here() -> Settings:
    try:
        return Settings.load()
    except BadSettings as error:
        raise Misuse(str(error)) from None


def checked(option: str, texts: Sequence[str]) -> list[str]:
    try:
        Patterns.of(texts)
    except ValueError as error:
        raise Misuse(f"{option}: {error}") from None
    return list(texts)


# ---- keys ------------------------------------------------------------------------------------------------------------


def made(algorithm: str) -> dict[str, Any]:
    """A new private key, as a JWK whose name is its thumbprint (RFC 7638)."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from jwt.algorithms import get_default_algorithms

    key: Any
    of_thumbprint: tuple[str, ...]
    if algorithm == "ES256":
        key, of_thumbprint = ec.generate_private_key(ec.SECP256R1()), ("crv", "kty", "x", "y")
    elif algorithm == "EdDSA":
        key, of_thumbprint = ed25519.Ed25519PrivateKey.generate(), ("crv", "kty", "x")
    else:
        key, of_thumbprint = rsa.generate_private_key(65537, 2048), ("e", "kty", "n")
    kind: Any = get_default_algorithms()[algorithm]
    jwk: dict[str, Any] = kind.to_jwk(key, as_dict=True)
    digest = hashlib.sha256(orjson.dumps({name: jwk[name] for name in of_thumbprint})).digest()
    kid = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    jwk.pop("key_ops", None)  # of the private half; "use" is of both
    return jwk | {"kid": kid, "alg": algorithm, "use": "sig"}


def private_keys(file: Path) -> list[dict[str, Any]]:
    """Those of a file that `keys` made, or of one like it."""
    try:
        said = orjson.loads(read_file(file))
        listed = said.get("keys", [said])
        if not listed or not all("d" in jwk and "kty" in jwk for jwk in listed):
            raise Misuse(f"{file} has no private keys; `sse-fast token keys FILE` makes one")
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        raise Misuse(f"{file} is no JWK set; `sse-fast token keys FILE` makes one") from None
    return list(listed)


def signing_key(file: Path) -> dict[str, Any]:
    return private_keys(file)[-1]


def write_whole(file: Path, data: bytes, mode: int = 0o600) -> None:
    """Or not at all; for nobody else to read, but where `mode` says so."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as opened:
            opened.write(data)
        beside.replace(file)
    except OSError as error:
        raise Misuse(f"{file}: cannot be written: {error.strerror}") from None


def read_file(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def is_file(what: str) -> bool:
    try:
        return Path(what).is_file()
    except OSError:  # a token is longer than any file's name
        return False
