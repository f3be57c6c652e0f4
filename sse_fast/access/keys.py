"""The keys that tokens are signed with: a secret, and JWK sets (RFC 7517). Which algorithm a key is for is said here,
and whose tokens it signs; a token only chooses among them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jwt
from jwt.utils import base64url_encode

from sse_fast.access.algorithms import ALGORITHMS, USUAL_ALGORITHMS, BadKeys, refuse_short

MOST_KEYS = 128  # of a set
MOST_KID = 256  # characters
OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}
PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth"))


class Key(NamedTuple):
    """kid: its id; None: any may mean it. issuer: whose tokens it signs; None: anybody's. digest: of all that it is."""

    kid: str | None
    issuer: str | None
    digest: bytes
    by_algorithm: Mapping[str, jwt.PyJWK]

    def __repr__(self) -> str:
        return f"Key({self.kid!r}, {self.issuer!r}, {', '.join(self.by_algorithm)})"


class KeySet(NamedTuple):
    """Those of a set that tokens may be signed with, and why the others are none."""

    keys: tuple[Key, ...]
    skipped: tuple[str, ...]


def key_of_secret(secret: bytes, algorithms: Collection[str] = USUAL_ALGORITHMS, issuer: str | None = None) -> Key:
    """Raises BadKeys."""
    refuse_short(secret)
    encoded = base64url_encode(secret).decode()
    return _key({"kty": "oct", "k": encoded}, algorithms, issuer)


def key_of_text(text: str, algorithm: str) -> Key:
    """A secret, or a public key in PEM, for one algorithm. Raises BadKeys."""
    if text.lstrip().startswith("-----BEGIN"):
        return key_of_pem(text, algorithm)
    if not algorithm.startswith("HS"):
        raise BadKeys(f"for {algorithm} it is a public key in PEM, that begins with -----BEGIN PUBLIC KEY-----")
    return key_of_secret(text.encode(), [algorithm])


def key_of_pem(text: str, algorithm: str, issuer: str | None = None) -> Key:
    """A public key in PEM, for one algorithm. Raises BadKeys."""
    try:
        kind = jwt.get_algorithm_by_name(algorithm)
        found = kind.prepare_key(text.replace("\\n", "\n"))
        jwk = json.loads(kind.to_jwk(found))
    except Exception:  # what is wrong with it the library says with the key itself
        raise BadKeys(f"it cannot be read as a PEM key of {algorithm}") from None
    if algorithm.startswith("HS"):
        raise BadKeys(f"a PEM key is public, and {algorithm} takes a secret; say which algorithm signs with it")
    return _key(jwk, [algorithm], issuer)


def key_set_of(
    text: bytes | str,
    algorithms: Collection[str] = USUAL_ALGORITHMS,
    issuer: str | None = None,
    *,
    secrets: bool = True,
) -> KeySet:
    """A JWK set, or one JWK. A key with a member `iss` signs the tokens of that issuer, any other those of `issuer`.
    `secrets`: whether a key may be one ("oct"); from where others may read, none is. Raises BadKeys where there is no
    key to be used."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise BadKeys('this is no JSON; a key set is {"keys": [...]} (RFC 7517)') from None
    listed = given.get("keys", [given] if "kty" in given else None) if isinstance(given, dict) else None
    if not isinstance(listed, list):
        raise BadKeys('this is no key set; one is {"keys": [...]} (RFC 7517)')
    if len(listed) > MOST_KEYS:
        raise BadKeys(f"a key set has at most {MOST_KEYS} keys, this has {len(listed)}")
    keys, skipped = [], []
    for place, jwk in enumerate(listed):
        try:
            if not secrets and isinstance(jwk, dict) and jwk.get("kty") == "oct":
                raise BadKeys("it is a secret, where others may read it")
            keys.append(_key(jwk, algorithms, issuer))
        except BadKeys as error:
            skipped.append(f"key {place}: {error}")
    if not keys:
        raise BadKeys(
            f"there is no key in it that tokens can be signed with; {'; '.join(skipped[:4]) or 'it is empty'}"
        )
    return KeySet(tuple(keys), tuple(skipped))


def has_private(text: bytes | str) -> bool:
    """Whether there is the private half of a key in a key set that can be read."""
    given = json.loads(text)
    return any(isinstance(jwk, dict) and "d" in jwk for jwk in given.get("keys", [given]))


def _key(jwk: Any, algorithms: Collection[str], issuer: str | None) -> Key:
    if not isinstance(jwk, dict):
        raise BadKeys("a key is an object")
    kid, own = jwk.get("kid"), jwk.get("iss", issuer)
    if not isinstance(kid, str | None) or len(kid or "") > MOST_KID or not isinstance(own, str | None):
        raise BadKeys(f"'kid' and 'iss' are strings, 'kid' of at most {MOST_KID} characters")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not (
        isinstance(operations, list) and ("verify" in operations or "sign" in operations)
    ):
        raise BadKeys("it is not for signatures")
    possible = tuple(_possible(jwk))
    if not possible:
        raise BadKeys("it is of a kind that signs no tokens here")
    usable = [name for name in possible if name in algorithms]
    if not usable:
        raise BadKeys(f"it is for {', '.join(possible)}, and the algorithms allowed are {', '.join(algorithms)}")
    public = jwk if jwk["kty"] == "oct" else {name: value for name, value in jwk.items() if name not in PRIVATE}
    made: dict[str, jwt.PyJWK] = {}
    for name in usable:
        try:
            found = jwt.PyJWK(public, algorithm=name)
        except Exception:  # what is wrong with it the library says with the key itself
            raise BadKeys(f"it cannot be read as a key of {name}") from None
        if (weak := found.Algorithm.check_key_length(found.Algorithm.prepare_key(found.key))) is None:
            made[name] = found
    if not made:
        raise BadKeys(f"it is too short: {weak}")
    digest = hashlib.sha256(json.dumps([public, own, usable], sort_keys=True).encode()).digest()
    return Key(kid, own, digest, made)


def _possible(jwk: Mapping[str, Any]) -> Iterable[str]:
    """The algorithms of a key, by its own word or by its kind; of one kind it never has those of another."""
    kind = jwk.get("kty")
    if kind == "oct":
        of_kind: Iterable[str] = (name for name in ALGORITHMS if name.startswith("HS"))
    elif kind == "RSA":
        of_kind = (name for name in ALGORITHMS if name.startswith(("RS", "PS")))
    elif kind in ("EC", "OKP") and isinstance(jwk.get("crv"), str):
        of_kind = (name for name in (OF_CURVE.get(jwk["crv"]),) if name is not None)
    else:
        return ()
    return [name for name in of_kind if jwk.get("alg") in (None, name)]
