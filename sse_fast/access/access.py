"""Who may do what: the credentials of a request become its grants."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sse_fast.access.asking import NOTHING_FOUND, Found
from sse_fast.access.changes import Changes
from sse_fast.access.credentials import Credential, Where, bearer, credential_of
from sse_fast.access.grants import OPEN, Grants
from sse_fast.access.hosts import is_loopback
from sse_fast.access.local import of_another_page, of_another_scheme
from sse_fast.access.patterns import NOTHING
from sse_fast.access.publishers import Publishers
from sse_fast.errors import Unauthorized, WrongKey


class Tokens(Protocol):
    """As `access.tokens` has it, which loads what most who deal with requests here do without. hits, misses: those that
    were verified before, and the others."""

    hits: int
    misses: int

    @property
    def everybody(self) -> Grants: ...
    @property
    def changes(self) -> Changes: ...
    def use(self, keys: Iterable[Any], source: str = "", /) -> None: ...
    def grants_of(self, text: str, now: float, found: Found = NOTHING_FOUND, /) -> Grants: ...


@dataclass(frozen=True, slots=True)
class Access:
    """everybody: what needs no credential; where it is not said, everything, but for what there are keys or tokens for.
    publishers: the publish keys, and whose pages may publish without one. tokens: those that are taken; None: none is,
    and whoever listens is not asked for one. cookie: the name of the cookie that may have one. in_query: whether the
    query may. publish_tokens: those by which is published; None: the same. hook: the names of the headers that the
    webhook is told, in lower case; None: there is none.
    """

    everybody: Grants = None  # type: ignore[assignment]  # it is set below
    publishers: Publishers = field(default_factory=Publishers)
    tokens: Tokens | None = None
    cookie: str | None = None
    in_query: bool = False
    hook: tuple[bytes, ...] | None = None
    publish_tokens: Tokens | None = None

    def __post_init__(self) -> None:
        if self.everybody is None:
            open_to_all = replace(OPEN, publish=NOTHING) if self.publishers.keyed else OPEN
            object.__setattr__(self, "everybody", self.tokens.everybody if self.tokens is not None else open_to_all)

    def tell(self, changed: Callable[[], None]) -> None:
        """From here on `changed()` is called where what was decided by credentials does not hold any more."""
        self.publishers.changes.tell(changed)
        if self.tokens is not None:
            self.tokens.changes.tell(changed)

    def grants_of(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        found: Found = NOTHING_FOUND,
        *,
        hooked: bool = False,
    ) -> Grants:
        """Of a request for a stream, or to look into the server. hooked: the webhook may be asked about it. Raises
        Unauthorized for a credential that is none, and MustAsk."""
        if self.tokens is None:
            return self._with_key(headers, now, hooked) or self.everybody
        credential = self._credential(headers, query)
        return self.everybody if credential is None else self._holder(credential, now, found)

    def publishing(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        found: Found = NOTHING_FOUND,
        *,
        scheme: str = "http",
    ) -> Grants:
        """Of a request to publish, which came by this scheme. Raises Unauthorized, ForeignOrigin, and MustAsk."""
        origin, host = _text(headers, b"origin"), _text(headers, b"host")
        own = not of_another_page(headers)
        if self.tokens is not None:
            credential = self._credential(headers, query)
        elif self.publishers.keyed and b"authorization" in headers:
            credential = Credential(bearer(headers[b"authorization"]), Where.HEADER)
        else:
            credential = None
        if credential is not None:
            grants = self._holder(credential, now, found, self.publish_tokens)
            if credential.where is Where.COOKIE:
                self.publishers.refuse_forged(origin, own and not of_another_scheme(headers, scheme))
            return grants
        if not self.everybody.publish:
            raise self._missing("publishing")
        self.publishers.refuse_foreign(origin, own and is_loopback(host))
        return self.everybody

    def _credential(self, headers: Mapping[bytes, bytes], query: bytes) -> Credential | None:
        return credential_of(headers, query, self.cookie.encode() if self.cookie is not None else None, self.in_query)

    def _with_key(self, headers: Mapping[bytes, bytes], now: float, hooked: bool) -> Grants | None:
        """Where no credential is asked for, a publish key that grants more than to publish is one all the same. With
        another scheme the header is nobody's business here. Raises WrongKey, but where the
        webhook gets to see the header: what is no key may be something to that."""
        if self.publishers.keys is None or b"authorization" not in headers:
            return None
        scheme, _, given = headers[b"authorization"].decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if hooked and self.hook is not None and b"authorization" in self.hook:
            grants = self.publishers.holder(given.strip(), now)
            return grants.beside(self.everybody) if grants is not None else None
        return self._holder(Credential(given.strip(), Where.HEADER), now)

    def _holder(
        self, credential: Credential, now: float, found: Found = NOTHING_FOUND, tokens: Tokens | None = None
    ) -> Grants:
        """What they may, and everybody."""
        if credential.where is Where.HEADER and (grants := self.publishers.holder(credential.text, now)) is not None:
            return grants.beside(self.everybody)
        if tokens is None:
            tokens = self.tokens
        if tokens is None:
            which = "the publish key" if self.publishers.keys is None else "a publish key"
            raise WrongKey(f"this is not {which} of this server", "invalid_token")
        try:
            return tokens.grants_of(credential.text, now, found)
        except Unauthorized as error:
            if self.publishers.keyed and credential.where is Where.HEADER and credential.text.count(".") != 2:
                raise WrongKey(str(error), error.error) from None  # it has not the form of a token
            raise

    def _missing(self, what: str) -> Unauthorized:
        needs = "a key" if self.tokens is None else "a token" if not self.publishers.keyed else "a token or a key"
        return Unauthorized(f"{what} needs {needs}; send it as 'Authorization: Bearer {needs.split()[-1].upper()}'")


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return value.decode("latin-1") if value is not None else None
