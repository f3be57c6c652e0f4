"""Tokens: signed claims (JWT, RFC 7519) become grants.

Signature and claims are checked by PyJWT. Which keys there are, which algorithm each is for and whose tokens it signs
is ours to say and no token's: see `keys`. What was verified is remembered by a digest until it ends or the keys change.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jwt
from jwt.utils import base64url_decode

from sse_fast.access.algorithms import USUAL_ALGORITHMS
from sse_fast.access.asking import NOTHING_FOUND, Found, KeyAsked, MustAsk, TokenAsked
from sse_fast.access.changes import Changes
from sse_fast.access.claims import claimed
from sse_fast.access.grants import NO_GRANTS, Grants
from sse_fast.access.keys import Key
from sse_fast.access.patterns import EVERYTHING, NOTHING
from sse_fast.errors import BadToken, InvalidEvent
from sse_fast.event_rules import brief

MAX_TOKEN = 8192  # characters
MAX_TOKEN_HEADER = 1024
MOST_TRIED = 4  # keys that one token could be signed with
REMEMBERED = 16_384  # tokens; of the usual ones two kilobytes each
REMEMBERED_BYTES = 64 * 1024 * 1024  # of memory that what is kept of them takes
BESIDE = 1024  # bytes: what is kept of a token beside what it grants and whose it is
FOREVER = float("inf")
LATEST = 2.0**53  # seconds: no clock comes there
FAR = 100 * 365.25 * 86_400.0  # seconds from now: an `exp` past it is a slip, most likely of milliseconds


ANYBODY = object()
"""An audience: whoever reads the claims looks at that itself."""
Reads = Callable[[Mapping[str, object], str | None, str | None], Grants]
"""What claims grant, of a token of this `typ`, signed by a key of this issuer. Raises BadToken, or InvalidEvent."""


class _Header(NamedTuple):
    algorithm: str
    kid: str | None
    kind: str | None = None


class Tokens:
    """Whoever has keys puts them here: `use`.

    issuer: whom a token must name that is signed by a key which says no issuer itself; None: it is not looked at.
    audience: that a token must be for; None: for nobody in particular. leeway: seconds that clocks may differ.
    endless: whether a token may come without `exp`. everybody: what needs no token. asks: whether somebody can be asked
    for a key that is not here. reads: what their claims grant; None: `claimed` says.
    """

    def __init__(
        self,
        *,
        issuer: str | None = None,
        audience: str | object | None = None,
        algorithms: Collection[str] = USUAL_ALGORITHMS,
        leeway: float = 0.0,
        endless: bool = False,
        everybody: Grants = NO_GRANTS,
        asks: bool = False,
        remembered: int = REMEMBERED,
        remembered_bytes: int = REMEMBERED_BYTES,
        reads: Reads | None = None,
    ) -> None:
        self.issuer, self.audience, self.algorithms = issuer, audience, tuple(algorithms)
        self.asks = asks
        self._reads = reads
        self.everybody = everybody
        self._leeway = leeway
        self._most, self._most_bytes = remembered, remembered_bytes
        self._endless = endless
        self._required = [] if endless else ["exp"]
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._seed = secrets.token_bytes(16)
        self._known: dict[bytes, tuple[Grants, int]] = {}
        self._bytes = 0
        self.changes = Changes()
        """Of the keys."""
        self.hits = self.misses = 0

    def use(self, keys: Iterable[Key], source: str = "") -> None:
        """These are the keys of a source from here on. Where they are others than before, what was verified is
        forgotten."""
        now = tuple(keys)
        if [key.digest for key in now] != [key.digest for key in self._keys.get(source, ())]:
            self._keys[source] = now
            self._known.clear()
            self._bytes = 0
            self.changes.happened()

    @property
    def keys(self) -> list[Key]:
        return [key for keys in self._keys.values() for key in keys]

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def grants_of(self, text: str, now: float, found: Found = NOTHING_FOUND) -> Grants:
        """What a token grants, and everybody has, until its own end; where that is behind, but not by the leeway, until
        it is taken no more. `now`: seconds since 1970. Raises Unauthorized, in words that have nothing of the token but
        its key's id, and MustAsk."""
        if len(text) > MAX_TOKEN:
            raise BadToken(f"the token is longer than {MAX_TOKEN} characters")
        raw = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(raw, digest_size=16, key=self._seed).digest()
        known = self._known.get(digest)
        if known is not None and ((until := known[0].until) is None or now < until + self._leeway):
            self.hits += 1
            return self._taken(known[0], now)
        self.misses += 1
        if known is not None:
            self._forget(digest)
        grants = self._verified(text, raw, now, found)
        taken = self._taken(grants, now)
        size = self._size(grants)
        self._known[digest] = grants, size
        self._bytes += size
        while len(self._known) > self._most or self._bytes > self._most_bytes:
            self._forget(next(iter(self._known)))
        return taken

    def _taken(self, grants: Grants, now: float) -> Grants:
        if grants.until is None or now < grants.until:
            return grants
        if now >= (last := grants.until + self._leeway):
            raise BadToken("the token has expired")
        return replace(grants, until=last)

    def _size(self, grants: Grants) -> int:
        """Bytes of memory that it takes to remember these, at most."""
        shared = {id(each) for each in (NOTHING, EVERYTHING, self.everybody.subscribe, self.everybody.publish)}
        own = sum(each.size for each in (grants.subscribe, grants.publish) if id(each) not in shared)
        if grants.mercure is not None:
            own += MAX_TOKEN + grants.mercure.size
        return BESIDE + 4 * len(grants.user or "") + own

    def _forget(self, digest: bytes) -> None:
        self._bytes -= self._known.pop(digest)[1]

    def _verified(self, text: str, raw: bytes, now: float, found: Found) -> Grants:
        header = _header_of(text.partition(".")[0][: MAX_TOKEN_HEADER + 1])
        failed: Exception | None = None
        able = self._candidates(header)
        if able and found.wait:
            raise MustAsk(TokenAsked(found.wait))
        for key in _signers(able, raw, header.algorithm):
            try:
                claims = jwt.decode(
                    raw,
                    key.by_algorithm[header.algorithm],
                    algorithms=[header.algorithm],
                    audience=None if self.audience is ANYBODY else self.audience,  # type: ignore[arg-type]
                    issuer=key.issuer,
                    leeway=self._leeway,
                    options={
                        "require": self._required,
                        "enforce_minimum_key_length": True,
                        "verify_aud": self.audience is not ANYBODY,
                    },
                )
            except jwt.InvalidSignatureError as error:
                failed = error
            except jwt.PyJWTError as error:
                raise BadToken(_why(error)) from None
            except Exception:  # whatever a stranger's claims may make a library stumble over
                raise BadToken("the token cannot be read") from None
            else:
                return self._granted(claims, raw, now, header.kind, key.issuer)
        if self.asks and not found.keys and not self._has_all(header, able):
            raise MustAsk(KeyAsked(header.kid))
        if not able:
            named = f" {brief(header.kid)}" if header.kid is not None else ""
            raise BadToken(f"there is no key{named} for {header.algorithm}, with which the token is signed")
        raise BadToken("the token is signed with another key than this server has") from failed

    @staticmethod
    def _has_all(header: _Header, found: list[Key]) -> bool:
        """Whether nobody could have another key for it. Secrets are never fetched."""
        if header.algorithm.startswith("HS"):
            return True
        return bool(found) and (header.kid is None or any(key.kid == header.kid for key in found))

    def _candidates(self, header: _Header) -> list[Key]:
        """The keys that a token with this header may be signed with."""
        if header.algorithm not in self.algorithms:
            raise BadToken(
                f"the token is signed by {brief(header.algorithm)}; allowed are {', '.join(self.algorithms)}"
            )
        able = [key for key in self.keys if header.algorithm in key.by_algorithm]
        found = [key for key in able if header.kid is None or key.kid in (None, header.kid)]
        return sorted(found, key=lambda key: key.kid != header.kid)[:MOST_TRIED]

    def _granted(
        self, claims: dict[str, object], raw: bytes, now: float, kind: str | None, issuer: str | None
    ) -> Grants:
        try:
            granted = self._reads(claims, kind, issuer) if self._reads is not None else claimed(claims)
        except InvalidEvent as error:
            raise BadToken(f"the token grants what cannot be: {error}") from None
        subject = claims.get("sub")  # PyJWT has looked at it: a string
        ends = _time_of(claims, "exp")
        _time_of(claims, "nbf")
        if ends is not None and ends > now + FAR and not self._endless:
            raise BadToken(
                "the token's 'exp' is over a hundred years from now; it is in seconds since 1970, not in milliseconds"
            )
        until = min(ends, LATEST) if ends is not None else None
        user = subject if isinstance(subject, str) else None
        credential = hashlib.blake2b(raw, digest_size=8).hexdigest()
        return granted.beside(self.everybody, user=user, until=until, credential=credential)


def _signers(keys: list[Key], raw: bytes, algorithm: str) -> list[Key]:
    """Of several keys those by which a token may be signed: PyJWT reads the whole of it for each, which for a long one
    takes it many times as long as to look at a signature. It has the last word about these."""
    if len(keys) < 2:
        return keys
    signed, _, signature = raw.rpartition(b".")
    able = [(key, key.by_algorithm[algorithm]) for key in keys]
    try:
        given = base64url_decode(signature)
        return [key for key, jwk in able if jwk.Algorithm.verify(signed, jwk.key, given)]
    except Exception:  # whatever a stranger's signature may make a library stumble over
        return keys


def _time_of(claims: dict[str, object], name: str) -> float | None:
    """RFC 7519, section 2: a number. PyJWT takes whatever int() does, a string of digits too. Raises Unauthorized."""
    given = claims.get(name)
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    raise BadToken(f"the token's {name!r} is no number: it is seconds since 1970, without quotes")


@lru_cache(maxsize=256)  # a header is the same in all tokens of a key
def _header_of(segment: str) -> _Header:
    """Raises Unauthorized."""
    try:
        if len(segment) > MAX_TOKEN_HEADER:
            raise ValueError("no header is that long")
        header = json.loads(base64url_decode(segment))
        algorithm, kid, kind = header["alg"], header.get("kid"), header.get("typ")
        if not isinstance(algorithm, str) or not isinstance(kid, str | None):
            raise TypeError("both are strings")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadToken("this is no token: a JWT has three parts, and a header that says how it is signed") from None
    return _Header(algorithm, kid, kind if isinstance(kind, str) else None)


def _why(error: jwt.PyJWTError) -> str:
    """In our own words: the library's may have what the token says."""
    for kind, words in (
        (jwt.ExpiredSignatureError, "the token has expired"),
        (jwt.ImmatureSignatureError, "the token is not valid yet"),
        (jwt.InvalidIssuerError, "the token is of another issuer"),
        (jwt.InvalidAudienceError, "the token is for another audience"),
        (jwt.InvalidIssuedAtError, "the token's 'iat' is no time"),
        (jwt.exceptions.InvalidSubjectError, "the token's 'sub' is not a string"),
    ):
        if isinstance(error, kind):
            return words
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim!r}"
    return "the token cannot be read"
