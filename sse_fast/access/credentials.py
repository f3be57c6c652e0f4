"""Where the credential of a request is: in its header, in a cookie, or in its query."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qsl

from sse_fast.errors import AmbiguousCredentials, Unauthorized

IN_QUERY = "access_token"  # RFC 6750, section 2.3
NAMED = re.compile(rb"(?:\A|&)(?:access_token|[^&=]*%)")  # some other names are written with % too
MOST_PARAMETERS = 8192  # of a query: those who read it for what it asks have a lower bound


class Where(StrEnum):
    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


class Credential(NamedTuple):
    text: str
    where: Where

    def __repr__(self) -> str:
        return f"Credential(…, {self.where})"


def credential_of(
    headers: Mapping[bytes, bytes], query: bytes, cookie: bytes | None = None, in_query: bool = False
) -> Credential | None:
    """What a request comes with; None: nothing. `cookie`: the name of the cookie that may have it.

    Who says something in the request itself means it; a cookie comes by itself, so anything else goes before. Raises
    AmbiguousCredentials for two of the same weight, and Unauthorized for a header that has none.
    """
    header = headers.get(b"authorization")
    asked = token_in(query, IN_QUERY) if query and NAMED.search(query) is not None else None
    if asked is not None and not in_query:
        raise AmbiguousCredentials(
            f"tokens are not taken from the query here ({IN_QUERY}), where logs and histories keep them; send "
            "'Authorization: Bearer TOKEN'"
        )
    if header is not None and asked is not None:
        raise AmbiguousCredentials(f"there is a token in the header Authorization and one in {IN_QUERY}; send one")
    if header is not None:
        return Credential(bearer(header), Where.HEADER)
    if asked is not None:
        return Credential(asked, Where.QUERY)
    kept = headers.get(b"cookie") if cookie is not None else None
    found = in_cookie(kept, cookie) if kept is not None and cookie is not None else None
    return Credential(found, Where.COOKIE) if found is not None else None


def bearer(header: bytes) -> str:
    """What stands behind `Bearer`. Raises Unauthorized, and AmbiguousCredentials for what were several headers."""
    scheme, _, given = header.decode("latin-1").partition(" ")
    if b", bearer " in header.lower() or (scheme.lower() == "bearer" and ", " in given):  # no credential has a space
        raise AmbiguousCredentials("there is more than one credential in the header Authorization; send one")
    if scheme.lower() != "bearer":
        # The header is not shown: without a scheme it may be the credential itself.
        raise Unauthorized(
            "a credential is sent as 'Authorization: Bearer CREDENTIAL', not without or with another scheme",
        )
    return given.strip()


def token_in(query: bytes, name: str) -> str | None:
    """What the parameter of this name says, which is there once at most. Raises AmbiguousCredentials."""
    try:
        parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise AmbiguousCredentials("the query has more parameters than anybody looks at for a token") from None
    given = [value for said, value in parameters if said == name]
    if len(given) > 1:
        raise AmbiguousCredentials(f"the parameter {name!r} is given twice")
    return given[0] if given else None


def in_cookie(header: bytes, name: bytes) -> str | None:
    """RFC 6265, section 4.2. Two of one name are set for different paths or domains, maybe by a stranger."""
    given = set()
    for pair in header.split(b";"):
        key, equals, value = pair.strip(b" \t").partition(b"=")
        if equals and key == name:
            given.add(value.strip(b'"'))
    if len(given) > 1:
        raise AmbiguousCredentials("the cookie that has the token came twice, with different values")
    return given.pop().decode("latin-1") or None if given else None
