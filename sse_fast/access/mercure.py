"""Who may do what by Mercure: the credential of a request to the hub's URL becomes its grants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from sse_fast.access.access import Access, Tokens
from sse_fast.access.asking import NOTHING_FOUND, Found
from sse_fast.access.credentials import Credential, Where, in_cookie, token_in
from sse_fast.access.grants import Grants
from sse_fast.access.local import of_another_page, of_another_scheme
from sse_fast.access.matchers import ALL, NO_MATCHERS, Kind, Matchers, matcher
from sse_fast.access.mercure_grants import BOTH, V7, V8
from sse_fast.access.patterns import Patterns
from sse_fast.errors import AmbiguousCredentials, BadToken, Forbidden, ForeignOrigin, Unauthorized
from sse_fast.event_rules import brief

PATH = "/.well-known/mercure"
METADATA_PATH = "/.well-known/oauth-protected-resource/.well-known/mercure"
COOKIES = {V8: b"__Secure-mercure_access_token", V7: b"mercureAuthorization"}
IN_QUERY = "authorization"  # of draft 07; the later one has no token in a URL


class Identity(NamedTuple):
    """url: the hub's, which is its resource identifier. metadata: where that of the resource is (RFC 9728)."""

    url: str
    metadata: str

    @classmethod
    def of(cls, url: str) -> "Identity":
        parts = urlsplit(url)
        return cls(url, f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}")

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class MercureAccess:
    """versions: the drafts that are spoken. publishers, subscribers: whose tokens are taken for what; None: nobody's,
    and `access` says who may. anonymous: who has no token may listen to what is not private. strict: everybody listens
    to nothing that is not granted, private or not. identity: of the hub; None: as requests name it. issuer: whose
    tokens of draft 08 are taken that a key of no issuer signs; None: the hub's own origin. cookie: the name of the one
    that may have a token; None: those of the drafts. subscriptions: who listens is told of, and listed."""

    access: Access
    versions: frozenset[int] = BOTH
    publishers: Tokens | None = None
    subscribers: Tokens | None = None
    anonymous: bool = False
    strict: bool = False
    identity: Identity | None = None
    issuer: str | None = None
    cookie: bytes | None = None
    subscriptions: bool = False

    @property
    def cookies(self) -> tuple[bytes, ...]:
        """In the order in which they are looked for."""
        if self.cookie is not None:
            return (self.cookie,)
        return tuple(COOKIES[version] for version in (V8, V7) if version in self.versions)

    def identity_for(self, headers: Mapping[bytes, bytes], scheme: str) -> Identity:
        """As whoever asks knows the hub."""
        if self.identity is not None:
            return self.identity
        host = headers.get(b"host", b"localhost").decode("latin-1")
        said = headers.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower()
        return Identity.of(f"{said.decode() if said in (b'http', b'https') else scheme}://{host}{PATH}")

    def publishing(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        identity: Identity,
        found: Found = NOTHING_FOUND,
        *,
        scheme: str = "http",
    ) -> Grants:
        """Of a request to publish. Raises Unauthorized, ForeignOrigin, and MustAsk."""
        credential = self._credential(headers, query)
        publishers = self.access.publishers
        if credential is None:
            if self.publishers is not None and not self.access.everybody.publish:
                raise Unauthorized("publishing takes a token; send it as 'Authorization: Bearer TOKEN'")
            return self.access.publishing(headers, b"", now, found, scheme=scheme)
        if credential.where is Where.HEADER and (held := publishers.holder(credential.text, now)) is not None:
            return held.beside(self.access.everybody)
        if self.publishers is None:
            return self.access.publishing(headers, b"", now, found, scheme=scheme)
        if credential.where is Where.COOKIE:
            _refuse_forged(self.access, headers, scheme)
        return self._held(self.publishers, credential, now, identity, found)

    def subscribing(
        self,
        headers: Mapping[bytes, bytes],
        query: bytes,
        now: float,
        identity: Identity,
        found: Found = NOTHING_FOUND,
    ) -> Grants:
        """Of a request to listen. Raises Unauthorized, and MustAsk."""
        credential = self._credential(headers, query)
        if self.subscribers is None:
            return self.access.everybody
        if credential is None:
            if not self.anonymous:
                raise Unauthorized("listening takes a token; send it as 'Authorization: Bearer TOKEN'")
            return self.access.everybody
        publishers = self.access.publishers
        if credential.where is Where.HEADER and (held := publishers.holder(credential.text, now)) is not None:
            return held.beside(self.access.everybody)
        return self._held(self.subscribers, credential, now, identity, found)

    def _held(self, tokens: Tokens, credential: Credential, now: float, identity: Identity, found: Found) -> Grants:
        grants = tokens.grants_of(credential.text, now, found)
        claims = grants.mercure
        if claims is not None and claims.version == V8:
            if identity.url not in claims.audience:
                raise BadToken(f"the token is for another audience than this hub, whose identifier is {identity.url}")
            if claims.issuer not in (None, self.issuer or identity.origin):
                raise BadToken("the token is of another issuer than this hub trusts")
        return grants

    def _credential(self, headers: Mapping[bytes, bytes], query: bytes) -> Credential | None:
        """A header goes before the query, and that before a cookie. Raises AmbiguousCredentials."""
        header = headers.get(b"authorization")
        if header is not None:
            return Credential(_bearer(header), Where.HEADER)
        if V7 in self.versions and b"authorization" in query and (asked := token_in(query, IN_QUERY)) is not None:
            return Credential(asked, Where.QUERY)
        if (kept := headers.get(b"cookie")) is not None:
            for name in self.cookies:
                if (found := in_cookie(kept, name)) is not None:
                    return Credential(found, Where.COOKIE)
        return None


def may_publish(grants: Grants, topic: str) -> bool:
    return (grants.mercure is not None and grants.mercure.publish.matches(topic)) or grants.publish.matches(topic)


def refuse_not_granted(grants: Grants, topics: tuple[str, ...]) -> None:
    """Raise Forbidden for who may not publish to each of these."""
    if grants.publish.everything or (grants.mercure is not None and grants.mercure.publish.everything):
        return
    for topic in topics:
        if not may_publish(grants, topic):
            raise Forbidden(f"this credential does not grant to publish to {brief(topic)}", topic)


def private_of(grants: Grants) -> Matchers:
    """The topics whose private updates somebody may read. Who has shown nothing may read none."""
    if grants.credential is None:
        return NO_MATCHERS
    own = NO_MATCHERS if grants.mercure is None else grants.mercure.subscribe
    return own | matchers_of_patterns(grants.subscribe)


def matchers_of_patterns(patterns: Patterns) -> Matchers:
    """Of our own patterns of channels, the same."""
    if patterns.everything or "**" in patterns.texts:
        return ALL
    return Matchers(matcher(Kind.PATTERN, text) for text in patterns.texts) if patterns else NO_MATCHERS


def _bearer(header: bytes) -> str:
    """RFC 6750, section 2.1. Raises AmbiguousCredentials."""
    scheme, _, given = header.decode("latin-1").partition(" ")
    text = given.strip()
    if scheme.lower() != "bearer" or not text or " " in text or "," in text:
        raise AmbiguousCredentials("a token is sent as 'Authorization: Bearer TOKEN', once, and not in another way")
    return text


def _refuse_forged(access: Access, headers: Mapping[bytes, bytes], scheme: str) -> None:
    """Raise ForeignOrigin for a page that may not publish by a cookie. Browsers that send no Origin say which page by
    its address."""
    if b"origin" not in headers and (referer := headers.get(b"referer")) is not None:
        try:
            parts = urlsplit(referer.decode("latin-1"))
        except ValueError:
            raise ForeignOrigin("the header Referer is no address of a page") from None
        headers = {**headers, b"origin": f"{parts.scheme}://{parts.netloc}".encode("latin-1")}
    origin = headers.get(b"origin")
    own = not of_another_page(headers) and not of_another_scheme(headers, scheme)
    access.publishers.refuse_forged(None if origin is None else origin.decode("latin-1"), own)
