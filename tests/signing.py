"""Keys and tokens for tests: each made once."""

import base64
import hashlib
import hmac
import json
import time
from functools import lru_cache
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a secret of these tests, of 32 bytes or more"
OTHER_SECRET = "another secret, of 32 bytes or more, of nobody"


@lru_cache
def rsa_key(name: str = "rsa") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@lru_cache
def ec_key(name: str = "ec") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@lru_cache
def ed_key(name: str = "ed") -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public(key: Any, **members: str) -> dict[str, Any]:
    """As a JWK."""
    kinds = ((rsa.RSAPrivateKey, RSAAlgorithm), (ec.EllipticCurvePrivateKey, ECAlgorithm))
    kind: Any = next((kind for of, kind in kinds if isinstance(key, of)), OKPAlgorithm)
    return kind.to_jwk(key.public_key(), as_dict=True) | members


def key_set(*jwks: dict[str, Any]) -> bytes:
    return orjson.dumps({"keys": jwks})


def token(
    sse: Any = None,
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    kid: str | None = None,
    seconds: float | None = 3600,
    **claims: Any,
) -> str:
    """A token that grants `sse` for so many seconds."""
    if sse is not None:
        claims["sse"] = sse
    if seconds is not None:
        claims["exp"] = int(time.time() + seconds)
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid is not None else None)


def listen(*patterns: str, **options: Any) -> str:
    return token({"subscribe": list(patterns)}, **options)


def signed_by_hs256(claims: dict[str, Any], key: bytes, **header: str) -> str:
    """As a stranger would, whom no library keeps from it."""

    def encoded(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    head = json.dumps({"alg": "HS256", "typ": "JWT"} | header).encode()
    body = encoded(head) + b"." + encoded(json.dumps(claims).encode())
    return (body + b"." + encoded(hmac.digest(key, body, hashlib.sha256))).decode()
