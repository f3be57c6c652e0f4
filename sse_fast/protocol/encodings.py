"""Whether a client takes gzip: Accept-Encoding (RFC 9110, section 12.5.3)."""

import re
from functools import lru_cache

LONGEST = 512  # bytes of a header that are looked at: no client has more to say
MEMBER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
NAMES = {b"x-gzip": b"gzip"}  # RFC 9110, section 8.4.1.3


@lru_cache(maxsize=256)  # nearly always the same few
def _weights(accept_encoding: bytes) -> dict[bytes, float]:
    """By coding; of one that is named twice the last counts, and what cannot be read is not there."""
    weights: dict[bytes, float] = {}
    for member in accept_encoding.lower().split(b","):
        if found := MEMBER.fullmatch(member.strip(b" \t")):
            weights[NAMES.get(found[1], found[1])] = float(found[2] or 1)
    return weights


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether gzip is taken, and what is not encoded is not liked better. Without the header it is not."""
    if not accept_encoding or len(accept_encoding) > LONGEST:
        return False
    weights = _weights(accept_encoding)
    others = weights.get(b"*", 0.0)
    gzip = weights.get(b"gzip", others)
    return gzip > 0 and gzip >= weights.get(b"identity", 0.0)
