"""What the settings say, as the values that the edge is made of: who may what, how often, and what is decided by."""

from collections.abc import Iterator
from functools import partial

from sse_fast._native.node.buckets import Buckets, Limit
from sse_fast.access.access import Access, Tokens
from sse_fast.access.grants import Grants
from sse_fast.access.hosts import Hosts
from sse_fast.access.mercure import Identity, MercureAccess
from sse_fast.access.mercure_claims import mercure_claimed
from sse_fast.access.mercure_grants import BOTH
from sse_fast.access.namespaces import Namespaces
from sse_fast.access.origins import Origins
from sse_fast.access.patterns import EVERYTHING, Patterns
from sse_fast.access.proxies import TrustedProxies
from sse_fast.access.publish_keys import PublishKeys
from sse_fast.access.publishers import Publishers
from sse_fast.access.rates import COUNTED_KEYS, RATES, Rates
from sse_fast.base.memory import tcp_memory
from sse_fast.edge.slot import WorkerSlot
from sse_fast.embed.hub import Hub
from sse_fast.errors import EngineTrouble, EngineUnavailable
from sse_fast.hub.control import Control
from sse_fast.hub.engine import Counting, Members
from sse_fast.hub.kept import told_of_presence
from sse_fast.hub.over_engine import OverEngine
from sse_fast.hub.presence import Presence
from sse_fast.hub.presence_of_fleet import FleetPresence
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import READ
from sse_fast.settings import Settings, refuse_idle
from sse_fast.transports.guesses import BAD_TOKENS, COUNTED_ADDRESSES, WRONG_KEYS, Guesses

MAX_JSON_SIZE = 1024 * 1024  # bytes: JSON that is not in lines is parsed in one go, and the loop waits for that
OF_MERCURE = frozenset((b"referer", b"if-none-match"))  # headers that count for its sake
GRACE = 5.0  # seconds that a user may be away, and has not left


def policy_of(settings: Settings, max_event_size: int) -> Policy:
    """What is decided by. `max_event_size`: of the hub, whose log may be too small for the setting's."""
    access = access_of(settings)
    mercure = mercure_of(settings, access)
    read = READ.union(access.hook or ())
    return Policy(
        max_channels=settings.max_channels_per_stream,
        max_history=settings.max_history,
        max_event_size=max_event_size,
        max_json_size=min(settings.max_body_size, max(MAX_JSON_SIZE, 8 * max_event_size)),
        max_body_size=settings.max_body_size,
        access=access,
        read=read.union(OF_MERCURE) if mercure is not None else read,
        origins=Origins(settings.cors_origins) if settings.cors_origins else None,
        hosts=Hosts(settings.allowed_hosts) if settings.allowed_hosts else None,
        presence=Patterns.of(settings.presence_channels),
        namespaces=Namespaces(settings.namespace),
        compress=settings.compress,
        private_schema=settings.private_schema,
        mercure=mercure,
        proxies=TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None,
    )


def access_of(settings: Settings) -> Access:
    """Who may what. With a source of keys for tokens, who has none may do what is granted to everybody, and no more.
    Raises ValueError for settings about credentials that would close nothing."""
    refuse_idle(settings)
    key = settings.publish_key.get_secret_value() if settings.publish_key is not None else None
    keys = PublishKeys() if settings.publish_keys is not None else None  # they are read by `Sources`
    publishers = Publishers(key, keys=keys, origins=settings.cors_origins, foreign_pages=settings.open)
    listening = settings.guarded or settings.grant_subscribe
    publishing = publishers.keyed or ((settings.guarded or settings.grant_publish) and not settings.open)
    everybody = Grants(
        Patterns.of(settings.grant_subscribe) if listening else EVERYTHING,
        Patterns.of(settings.grant_publish) if publishing else EVERYTHING,
        alone=frozenset() if settings.guarded else frozenset(_never_granted(publishers)),
    )
    tokens, publish_tokens = tokens_of(settings, everybody), None
    if settings.mercure and settings.has_mercure_keys and not settings.has_token_keys:
        tokens, publish_tokens = (mercure_tokens(settings, everybody, role) for role in ("subscriber", "publisher"))
    return Access(
        everybody,
        publishers,
        tokens,
        settings.token_cookie,
        settings.token_in_query,
        None if settings.authorize_url is None else tuple(name.encode() for name in settings.authorize_headers),
        publish_tokens,
    )


def mercure_of(settings: Settings, access: Access) -> MercureAccess | None:
    """Whose tokens count by Mercure: those of its own keys for each role; where it has none, all."""
    if not settings.mercure:
        return None
    publishers = subscribers = access.tokens
    if settings.has_mercure_keys:
        publishers, subscribers = (
            mercure_tokens(settings, access.everybody, role) if getattr(settings, f"mercure_{role}_key") else None
            for role in ("publisher", "subscriber")
        )
    return MercureAccess(
        access,
        versions_of(settings),
        publishers,
        subscribers,
        anonymous=settings.mercure_anonymous,
        strict=settings.has_token_keys or settings.authorize_url is not None,
        identity=Identity.of(settings.mercure_url) if settings.mercure_url is not None else None,
        issuer=settings.mercure_issuer,
        cookie=settings.mercure_cookie.encode() if settings.mercure_cookie is not None else None,
        subscriptions=settings.mercure_subscriptions,
    )


def versions_of(settings: Settings) -> frozenset[int]:
    return BOTH if settings.mercure_version == "both" else frozenset((int(settings.mercure_version),))


def mercure_tokens(settings: Settings, everybody: Grants, role: str) -> Tokens:
    """Those that Mercure's own key for this role signs; where there is no such key, none is."""
    from sse_fast.access.keys import key_of_text
    from sse_fast.access.tokens import ANYBODY
    from sse_fast.access.tokens import Tokens as VerifiedTokens

    key, algorithm = getattr(settings, f"mercure_{role}_key"), getattr(settings, f"mercure_{role}_alg")
    tokens = VerifiedTokens(
        audience=ANYBODY,
        algorithms=[algorithm],
        leeway=settings.token_leeway,
        endless=True,  # draft 07 lets them be
        everybody=everybody,
        reads=partial(mercure_claimed, versions=versions_of(settings), hub=settings.mercure_url),
    )
    if key is not None:
        tokens.use([key_of_text(key.get_secret_value(), algorithm)], role)
    return tokens


def _never_granted(publishers: Publishers) -> Iterator[str]:
    """What no publish key lets its holder do, whatever is in it."""
    if publishers.keys is None:
        yield "subscribe"
    if not publishers.keyed:
        yield "publish"


def tokens_of(settings: Settings, everybody: Grants) -> Tokens | None:
    if not settings.has_token_keys:
        return None
    from sse_fast.access.keys import key_of_secret  # here, as what they load takes 90 ms and 10 MB
    from sse_fast.access.tokens import ANYBODY, Reads
    from sse_fast.access.tokens import Tokens as VerifiedTokens

    reads: Reads | None = None
    if settings.mercure:
        versions, hub, audience = versions_of(settings), settings.mercure_url, settings.token_audience
        reads = partial(mercure_claimed, versions=versions, hub=hub, audience=audience, alone=False)
    tokens = VerifiedTokens(
        issuer=settings.token_issuer,
        audience=ANYBODY if settings.mercure else settings.token_audience,
        algorithms=settings.token_algorithms,
        leeway=settings.token_leeway,
        endless=settings.token_endless,
        everybody=everybody,
        asks=settings.jwks_url is not None,
        reads=reads,
    )
    if settings.token_secret is not None:
        secret = settings.token_secret.get_secret_value().encode()
        tokens.use([key_of_secret(secret, settings.token_algorithms, settings.token_issuer)], "secret")
    return tokens


def hub_of(settings: Settings, slot: WorkerSlot | None) -> Hub:
    """The hub of a worker of a node, or of an edge by itself."""
    return Hub(
        log_size=settings.log_size,
        keepalive=settings.keepalive,
        send_timeout=settings.send_timeout,
        slow_policy=settings.slow_policy,
        max_event_size=settings.max_event_size,
        send_memory=settings.send_memory or tcp_memory() // 4,
        max_history=settings.max_history,
        max_stream_age=settings.max_stream_age,
        compress=settings.compress,
        compress_min=settings.compress_min,
        idempotency_window=settings.idempotency_window,
        idempotency_keys=settings.idempotency_keys,
        log=slot.log if slot is not None else None,
        peers=slot,
        keys=slot.keys if slot is not None else None,
        retry=settings.retry,
        drain_timeout=settings.drain_timeout,
        namespaces=settings.namespace,
        backplane=settings.backplane.get_secret_value() if settings.backplane is not None else None,
        backplane_prefix=settings.backplane_prefix,
        backplane_replicas=settings.backplane_replicas,
        backplane_size=settings.backplane_size,
        backplane_max_age=settings.backplane_max_age,
    )


def presence_of(settings: Settings, hub: Hub, control: Control, node: str) -> Presence:
    """Who is there, in the channels of which that is kept. Who was told to come back is waited for. node: its name,
    where it is one of several."""
    kept, namespaces = Patterns.of(settings.presence_channels), Namespaces(settings.namespace)
    grace = max(GRACE, 2 * settings.retry / 1000)

    def keeps(channel: str) -> bool:
        return namespaces.keeps_presence(channel, kept)

    backplane = hub.backplane
    if not isinstance(backplane, OverEngine):
        return Presence(keeps, hub.append, lambda: told_of_presence(hub), control, grace=grace)

    def members() -> Members:
        if not backplane.started:
            raise EngineUnavailable("this node has not begun yet", EngineTrouble.LOADING)
        assert isinstance(backplane.engine, Counting)
        return backplane.engine.members

    return FleetPresence(keeps, members, lambda: backplane.leads, node, control, grace=grace)


def rates_of(settings: Settings, buckets: Buckets | None) -> Rates | None:
    """The rates that are set, if any are, counted in these buckets; without, for this process alone."""
    given = settings.rates
    if not given:
        return None
    shared = buckets if buckets is not None else Buckets.private(COUNTED_KEYS)
    return Rates(given, lambda name, rate: Limit(shared, RATES.index(name), rate.amount, rate.seconds, rate.burst))


def guesses_of(settings: Settings) -> Guesses:
    """What may be guessed at from an address, of this process."""
    shared = Buckets.private(COUNTED_ADDRESSES)
    keys, tokens = (
        Limit(shared, number, rate.amount, rate.seconds, rate.burst)
        for number, rate in enumerate((WRONG_KEYS, BAD_TOKENS))
    )
    return Guesses(keys, tokens if settings.takes_tokens else None)
