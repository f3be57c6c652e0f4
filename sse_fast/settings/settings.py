"""Every setting in one place: flag, `SSE_FAST_*` variable, key in `sse-fast.toml`, default, meaning.

The command line is made from these fields, so a field added here is a flag, a variable and a key at once.
Precedence: flag, then variable, then `sse-fast.toml` in the working directory, then the default.

Two ways in: `load()` reads all four sources and says in words what is wrong with them; `from_environment()` takes over,
in a worker process, exactly what its parent had loaded.
"""

import json
import os
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from sse_fast.access.algorithms import ALGORITHMS, USUAL_ALGORITHMS
from sse_fast.access.namespaces import reserves_of
from sse_fast.access.rates import RATES, Rate
from sse_fast.settings.names import HANDED_DOWN, PREFIX, TOML_FILE, BadSettings, gone_variables, problem, unknown
from sse_fast.settings.values import (
    MIB,
    Algorithms,
    App,
    CookieName,
    EdgePath,
    Headers,
    HostNames,
    Namespaces,
    Origins,
    PatternsOfChannels,
    Proxies,
    PublishKey,
    RateOf,
    RateOfBytes,
    Seconds,
    TokenSecret,
    Url,
    is_loopback_host,
)

# `schema` is what everybody looks for; the method of BaseModel with that name is deprecated.
warnings.filterwarnings("ignore", 'Field name "schema" in "Settings" shadows', UserWarning)


class Settings(BaseSettings):
    """Every setting, checked; the fields say what each means. What is not given comes from the variables and
    `sse-fast.toml`. Raises pydantic's ValidationError; `load()` says the same in words."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # A list in a variable is comma separated, not JSON.
        enable_decoding=False,
        toml_file=TOML_FILE,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Any address but loopback needs a publish key."
    )
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    trusted_proxies: Proxies = Field(
        default=[],
        description="Addresses or networks of proxies whose X-Forwarded-For names the client; '*': whoever connects.",
    )
    operations_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port at which alone /stats, /metrics, /channels, /streams, /presence and the page's figures are. "
        "Default: at that of all else, for requests from this machine itself and for credentials that grant "
        "operations.",
    )
    operations_host: str = Field(
        default="127.0.0.1",
        description="Address to listen on at operations_port. On any but loopback whoever reaches it may operate the "
        "server.",
    )
    uds: Path | None = Field(default=None, description="Listen on this Unix socket instead of host and port.")
    app: App | None = Field(
        default=None,
        description="Your ASGI app, as MODULE:ATTRIBUTE, served by the same workers; the edge is under edge_path then. "
        "A quarter of the descriptors is for the app's requests and websockets, two for each.",
    )
    factory: bool = Field(default=False, description="What app names is a function that makes the app.")
    edge_path: EdgePath = Field(
        default="/edge", description="Where the edge is, beside an app: /edge/sse, /edge/publish, …"
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Worker processes. All share one log; a client may come back to any."
    )
    hung_worker_timeout: Seconds = Field(
        default=30,
        ge=2,
        le=3600,
        description="Seconds a worker's event loop may stand still until the worker is killed and replaced.",
    )
    log_size: ByteSize = Field(
        default=ByteSize(64 * MIB),
        ge=64 * 1024,
        le=2**40,
        description="Bytes of events kept for replay, e.g. 64MiB; rounded up to a power of two. A batch is a quarter "
        "of it at most.",
    )
    backplane: SecretStr | None = Field(
        default=None,
        description="Redis that holds the log of several nodes, as redis://user:password@host:6379/0 (rediss:// by "
        "TLS; redis+sentinel://host,host/service; redis+cluster://). Or another edge, "
        "https://token@host, whose events and ids this one has then. The log here is a window on its newest part.",
    )
    backplane_prefix: str = Field(
        default="sse_fast", min_length=1, max_length=64, description="With what the keys begin that it has there."
    )
    backplane_replicas: int = Field(
        default=0, ge=0, le=16, description="Replicas that have to have an event before its publisher is answered."
    )
    backplane_size: ByteSize = Field(
        default=ByteSize(1024 * MIB), ge=MIB, description="Bytes of events that the backplane keeps."
    )
    backplane_max_age: Seconds | None = Field(
        default=None, ge=1, description="Seconds after which it lets events go. Default: none, but for its size."
    )
    log_file: Path | None = Field(
        default=None,
        description="Keep the log in this file: the history outlives the server. Default: in memory.",
    )
    keepalive: Seconds = Field(
        default=15, gt=0, le=3600, description="Seconds of silence after which a stream gets a heartbeat."
    )
    retry: int = Field(
        default=3000, ge=0, le=86_400_000, description="Reconnect delay told to clients, in ms, jittered ±30 %."
    )
    max_stream_age: Seconds | None = Field(
        default=None,
        ge=1,
        le=31 * 86_400,
        description="Seconds after which a stream ends and its client resumes, or up to a fifth less, spread. Default: "
        "never.",
    )
    send_timeout: Seconds = Field(
        default=30, gt=0, le=3600, description="Seconds a client may take no byte before slow_policy applies."
    )
    send_buffer: ByteSize = Field(
        default=ByteSize(256 * 1024),
        ge=128 * 1024,
        le=16 * MIB,
        description="Bytes of kernel memory that may wait for the client of one connection; at most twice "
        "net.core.wmem_max.",
    )
    send_memory: ByteSize | None = Field(
        default=None,
        ge=MIB,
        description="Bytes of kernel memory that may wait for all clients; past it unread answers end, and the longest "
        "blocked. Default: a quarter of what the machine has for TCP.",
    )
    compress: bool = Field(
        default=False,
        description="Send streams as gzip to clients that take it, compressed once for all of them.",
    )
    compress_min: ByteSize = Field(
        default=ByteSize(256),
        ge=0,
        le=MIB,
        description="With compress: bytes from which on what is sent at once is compressed; what is shorter is stored "
        "as it is.",
    )
    slow_policy: Literal["disconnect", "skip"] = Field(
        default="disconnect",
        description="What meets a client that is too slow: it resumes by id, or it is told of a gap.",
    )
    relay_timeout: Seconds = Field(
        default=60,
        gt=0,
        le=3600,
        description="Seconds without a byte after which a relayed request that the app has not begun to answer is "
        "answered 504, and an answer that has a length is broken off.",
    )
    drain_timeout: Seconds = Field(
        default=10, ge=0, le=600, description="Seconds a shutdown may take to finish its streams."
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Streams open at once, over all workers. Default: what the descriptor limit allows.",
    )
    max_connections_per_ip: int | None = Field(
        default=None,
        ge=1,
        description="Streams open at once from one address, IPv6 by /64; behind a proxy set trusted_proxies too.",
    )
    max_connections_per_channel: int | None = Field(
        default=None, ge=1, description="Streams open at once that name one channel, or one pattern, over all workers."
    )
    max_connections_per_token: int | None = Field(
        default=None, ge=1, description="Streams open at once by one token or key, over all workers."
    )
    presence_channels: PatternsOfChannels = Field(
        default=[],
        description="Patterns of channels of which it is told who is there, by the users of tokens: by events of "
        "$presence:CHANNEL, and at /presence/CHANNEL.",
    )
    namespace: Namespaces = Field(
        default=[],
        description="What holds for the channels of a pattern: keep, max_age, max_connections, presence, publish, "
        "conflate, reserve; the first that has a channel rules it. [[namespace]] in the file, or JSON: "
        '{"pattern": "ticks:*", "keep": 100}.',
    )
    rate_open: RateOf | None = Field(
        default=None,
        description="Streams that one address may open, and one token: 10/s, 600/min or 600/min,burst=50. The burst is "
        "what may come at once; by default what the rate counts.",
    )
    rate_publish: RateOf | None = Field(
        default=None, description="Events that one address may publish, and one token or key, e.g. 100/s,burst=500."
    )
    rate_publish_channel: RateOf | None = Field(
        default=None, description="Events that may be published to one channel, by all together, e.g. 100/s."
    )
    rate_replay: RateOfBytes | None = Field(
        default=None, description="Bytes of kept events that one address may be sent again, e.g. 64MiB/min."
    )
    max_channels_per_stream: int = Field(default=128, ge=1, le=4096, description="Channels one stream may name.")
    max_subscriptions: int = Field(
        default=1_000_000,
        ge=1,
        description="Channels that all streams may listen to, each worker its part; a set that many share counts once.",
    )
    max_patterns: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="Patterns that all streams may listen to, each worker its part; the same one counts once.",
    )
    max_history: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Events that ?history= may ask for, and that follow the gap after an id this server never gave.",
    )
    max_event_size: ByteSize = Field(
        default=ByteSize(64 * 1024), ge=1, description="Bytes one event may have, encoded."
    )
    max_body_size: ByteSize = Field(
        default=ByteSize(16 * MIB), ge=1, description="Bytes one publish request may have, over all its events."
    )
    idempotency_window: Seconds = Field(
        default=120,
        ge=0,
        le=86_400,
        description="Seconds that an idempotency key is remembered, so that a retry publishes nothing twice; 0: no "
        "keys are taken; 86,400 at most.",
    )
    idempotency_keys: int = Field(
        default=131_072,
        ge=16,
        le=2**26,
        description="Idempotency keys remembered at most, 16 to 67,108,864, 80 bytes each, rounded up to a power of "
        "two; past it the oldest are forgotten early.",
    )
    publish_key: PublishKey | None = Field(
        default=None,
        description="Key that POST /publish must carry as 'Authorization: Bearer KEY'; on any address but loopback of "
        "16 characters at least.",
    )
    publish_keys: Path | None = Field(
        default=None,
        description="File of several publish keys, each for its own channels; read again when it changes.",
    )
    schema: str | None = Field(  # type: ignore[assignment]
        default=None,
        description="Typed events: a module that defines streams, shop.events (several between commas), or a file that "
        "sse-fast schema has written, shop.json. What is published to their channels has to fit.",
    )
    private_schema: bool = Field(
        default=False,
        description="Let only who operates the server read /schema.json, /openapi.json, /openapi-3.1.json and "
        "/asyncapi.json, which else are for everybody.",
    )
    authorize_url: Url | None = Field(
        default=None,
        description="Webhook that is asked, by a POST of JSON, whether somebody may listen to channels that nothing "
        "else grants them.",
    )
    authorize_headers: Headers = Field(
        default=["cookie", "authorization"],
        description="Headers of the request that authorize_url is told.",
    )
    open: bool = Field(default=False, description="Let anybody publish, also on an address other than loopback.")
    token_secret: TokenSecret | None = Field(
        default=None,
        description="Secret that tokens (JWT) are signed with by HS256, at least 32 bytes. With any source of keys for "
        "tokens, nobody may listen or publish without one but to what grant_subscribe and grant_publish say.",
    )
    token_keys: Path | None = Field(
        default=None,
        description="File with a JWK set, whose keys sign tokens; read again when it changes.",
    )
    jwks_url: Url | None = Field(
        default=None,
        description="URL of the JWK set whose keys sign tokens, of an identity provider; fetched ahead of its end, and "
        "when a token names a key that is not in it.",
    )
    token_issuer: str | None = Field(default=None, description="The 'iss' that tokens must have.")
    token_audience: str | None = Field(
        default=None, description="The 'aud' that tokens must have. Without it, tokens that have one are refused."
    )
    token_algorithms: Algorithms = Field(
        default=[*USUAL_ALGORITHMS], description="What tokens may be signed by: of " + ", ".join(ALGORITHMS) + "."
    )
    token_leeway: Seconds = Field(
        default=10, ge=0, le=600, description="Seconds by which the clocks of whoever makes tokens may differ."
    )
    token_endless: bool = Field(default=False, description="Take tokens without 'exp', which never end.")
    token_cookie: CookieName | None = Field(
        default=None, description="Name of a cookie that may have the token, as for an EventSource: __Host-sse."
    )
    token_in_query: bool = Field(
        default=False, description="Take tokens from ?access_token= too. What logs URLs on the way then has them."
    )
    grant_subscribe: PatternsOfChannels = Field(
        default=[], description="Patterns of channels that everybody may listen to, without a token: 'news,public:**'."
    )
    grant_publish: PatternsOfChannels = Field(
        default=[], description="Patterns of channels that everybody may publish to, without a token or a key."
    )
    mercure: bool = Field(
        default=False,
        description="Speak Mercure as well, at /.well-known/mercure, over the same hub: its topics are channels. Takes "
        "the extra sse-fast[mercure].",
    )
    mercure_version: Literal["both", "7", "8"] = Field(
        default="both", description="The drafts of Mercure that are spoken; each request says by which it goes."
    )
    mercure_url: Url | None = Field(
        default=None,
        description="The hub's URL as its clients know it, https://example.com/.well-known/mercure: its resource "
        "identifier, which is the 'aud' of tokens. Default: as each request names it.",
    )
    mercure_publisher_key: SecretStr | None = Field(
        default=None,
        description="Key of the tokens by which is published by Mercure: a secret of 32 bytes at least, or a public "
        "key in PEM. Without it the sources of keys for all other tokens count.",
    )
    mercure_publisher_alg: Literal[ALGORITHMS] = Field(  # type: ignore[valid-type]
        default="HS256", description="What tokens of mercure_publisher_key are signed by."
    )
    mercure_subscriber_key: SecretStr | None = Field(
        default=None, description="Key of the tokens of who listens by Mercure, as mercure_publisher_key."
    )
    mercure_subscriber_alg: Literal[ALGORITHMS] = Field(  # type: ignore[valid-type]
        default="HS256", description="What tokens of mercure_subscriber_key are signed by."
    )
    mercure_issuer: str | None = Field(
        default=None,
        description="The 'iss' of tokens of draft 08 that are signed by these two keys. Default: the origin of the "
        "hub's URL.",
    )
    mercure_anonymous: bool = Field(
        default=False, description="Let who has no token listen by Mercure to what is not private."
    )
    mercure_cookie: CookieName | None = Field(
        default=None,
        description="Name of the cookie that may have the token. Default: __Secure-mercure_access_token, and by draft "
        "07 mercureAuthorization.",
    )
    mercure_subscriptions: bool = Field(
        default=False,
        description="Tell by Mercure's subscription events who listens, and list it at "
        "/.well-known/mercure/subscriptions, to tokens that grant it.",
    )
    cors_origins: Origins = Field(
        default=[],
        description="Origins whose pages may subscribe and publish, with cookies; a port may be '*', as in "
        "http://localhost:*. Or '*' for any, without.",
    )
    allowed_hosts: HostNames = Field(
        default=[],
        description="Names by which clients call the server, beside those of loopback: shop.example, *.shop.example "
        "for all below it, '*' for any. Default: on loopback no others, so that no page of a name that only resolves "
        "to this machine reads anything; elsewhere, on a Unix socket and behind trusted_proxies any.",
    )
    ssl_certificate: Path | None = Field(
        default=None, description="PEM certificate chain; with ssl_keyfile: HTTPS and HTTP/2."
    )
    ssl_keyfile: Path | None = Field(default=None, description="PEM private key of the certificate (PKCS#8).")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="One line of text, or one JSON object, an entry."
    )
    access_log: bool = Field(
        default=False,
        description="Log a line for each stream that opens, and one for each that ends: age, events, bytes, why.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _safe_and_whole(self) -> Self:
        if (self.ssl_certificate is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certificate and ssl_keyfile go together; give both or neither")
        if self.app is None and self.factory:
            raise ValueError("factory says that app names a function; set app too")
        if self.app is None and self.edge_path != type(self).model_fields["edge_path"].default:
            raise ValueError("edge_path is where the edge is beside an app; set app too, or leave edge_path out")
        if self.operations_port is None and self.operations_host != type(self).model_fields["operations_host"].default:
            raise ValueError("operations_host is where operations_port listens; set that too, or leave it out")
        if self.operations_port == self.port and self.uds is None:
            raise ValueError(f"operations_port is another port than port, {self.port}, which is the public one")
        if self.max_event_size > self.log_size // 4:
            raise ValueError(
                f"max_event_size ({int(self.max_event_size)} bytes) is over a quarter of log_size "
                f"({int(self.log_size)} bytes); make the log larger or the events smaller"
            )
        for pattern, size in self.reserves:
            if 0 < size < 4 * self.max_event_size:
                raise ValueError(
                    f"the namespace {pattern.decode()!r} reserves {size} bytes, and max_event_size "
                    f"({int(self.max_event_size)} bytes) is over a quarter of that; reserve more or make events smaller"
                )
        return self

    @property
    def rates(self) -> dict[str, Rate]:
        """Those that are set, by their names in `access.rates.RATES`."""
        given = {name: getattr(self, name) for name in RATES}
        return {
            name: Rate.read(rate, of_bytes=name == "rate_replay") for name, rate in given.items() if rate is not None
        }

    @property
    def reserves(self) -> list[tuple[bytes, int]]:
        """What the log keeps of each namespace beyond the rest, as the log takes it."""
        return reserves_of(self.namespace, int(self.log_size))

    @property
    def keeps_presence(self) -> bool:
        """Whether it is kept of any channel who is there."""
        return bool(self.presence_channels) or any(each.presence for each in self.namespace)

    @property
    def before_an_edge(self) -> bool:
        """Whether what is behind it is another edge."""
        return self.backplane is not None and self.backplane.get_secret_value().startswith(("http://", "https://"))

    @property
    def has_front(self) -> bool:
        """Whether clients meet the front, and the ASGI server stands behind it. TLS is the ASGI server's."""
        return self.ssl_certificate is None

    @property
    def relays_to_app(self) -> bool:
        """Whether what the front relays is answered by an app of the user's too."""
        return self.has_front and self.app is not None

    @property
    def takes_tokens(self) -> bool:
        """Whether there are keys for tokens, so that who has none may do nothing but what is granted to everybody."""
        return self.has_token_keys or self.has_mercure_keys

    @property
    def has_token_keys(self) -> bool:
        """Whether there are such for tokens of all kinds."""
        return self.token_secret is not None or self.token_keys is not None or self.jwks_url is not None

    @property
    def has_mercure_keys(self) -> bool:
        """Whether there are such for tokens of Mercure."""
        return self.mercure_publisher_key is not None or self.mercure_subscriber_key is not None

    @property
    def guarded(self) -> bool:
        """Whether somebody says what each may, so that everybody may nothing but what is granted to everybody."""
        return self.takes_tokens or self.authorize_url is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.uds is not None or is_loopback_host(self.host)

    @property
    def hosts_where_it_listens(self) -> list[str]:
        """`allowed_hosts`, or what they are by default for a server that listens where these settings say. Who is
        reached by others than programs of this machine is called by names that nobody here knows."""
        local = self.loopback and self.uds is None and not self.trusted_proxies
        return self.allowed_hosts or (["localhost"] if local else ["*"])

    @classmethod
    def load(cls, flags: Mapping[str, Any] | None = None) -> Self:
        """Settings from flags, variables, `sse-fast.toml` and defaults. Raises BadSettings."""
        flags = flags or {}
        if gone := gone_variables():
            raise BadSettings(gone)
        try:
            return cls(**flags)
        except ValidationError as error:
            raise BadSettings([problem(detail, flags, cls.model_fields) for detail in error.errors()]) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSettings([f"{TOML_FILE} is not valid TOML: {error}"]) from None
        except OSError as error:
            raise BadSettings([f"{TOML_FILE} cannot be read: {error.strerror}"]) from None

    def to_environment(self) -> dict[str, str]:
        """The variable that carries these settings, the publish key included, to worker processes."""
        return {HANDED_DOWN: json.dumps(self.model_dump(), default=_plain)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The parent's settings where a parent handed some down, else `load()`. Raises BadSettings."""
        handed_down = environment.get(HANDED_DOWN)
        if handed_down is None:
            return cls.load()
        settings = cls.__new__(cls)
        # BaseSettings.__init__ would read variables and file again, and the file may have changed since.
        BaseModel.__init__(settings, **json.loads(handed_down))
        return settings


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A readable line for every SSE_FAST_* variable that sets nothing."""
    return unknown(environment, Settings.model_fields)


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
