"""What tokens may be signed by (RFC 7518, section 3.1). Apart from the keys, which load a library for them."""

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
USUAL_ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
SECRET_BYTES = 32  # at least (section 3.2)


class BadKeys(ValueError):
    """Keys that cannot be used, in one sentence that has nothing of them."""


def refuse_short(secret: bytes) -> None:
    """Raises BadKeys."""
    if len(secret) < SECRET_BYTES:
        raise BadKeys(
            f"a token secret has at least {SECRET_BYTES} bytes, this has {len(secret)}; make one with "
            "'openssl rand -base64 48'"
        )
