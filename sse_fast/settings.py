"""Every setting in one place: its flag, its `SSE_FAST_*` variable, its key in `sse-fast.toml`, its default, its meaning.

The command line is made from these fields, so a field added here is a flag, a variable and a key at once.
Precedence: flag, then variable, then `sse-fast.toml` in the working directory, then the default.
"""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

MIB = 1024 * 1024


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="SSE_FAST_", toml_file="sse-fast.toml", extra="forbid", frozen=True, validate_default=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Any address but loopback needs a publish key.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    uds: Path | None = Field(None, description="Listen on this Unix socket instead of host and port.")
    log_size: ByteSize = Field(
        ByteSize(64 * MIB), ge=64 * 1024, le=2**40, description="Bytes of events kept for replay, e.g. 64MiB."
    )
    keepalive: float = Field(15, gt=0, le=3600, description="Seconds of silence after which a stream gets a heartbeat.")
    retry: int = Field(3000, ge=0, le=86_400_000, description="Reconnect delay told to clients, in ms, jittered ±30 %.")
    send_timeout: float = Field(
        30, gt=0, le=3600, description="Seconds a client may take no byte before slow_policy applies."
    )
    slow_policy: Literal["disconnect", "skip"] = Field(
        "disconnect", description="What meets a client that is too slow: it resumes by id, or it is told of a gap."
    )
    drain_timeout: float = Field(10, ge=0, le=600, description="Seconds a shutdown may take to finish its streams.")
    max_connections: int | None = Field(
        None, ge=1, description="Streams open at once. Default: what the descriptor limit allows."
    )
    max_connections_per_ip: int | None = Field(None, ge=1, description="Streams open at once from one address.")
    max_channels_per_stream: int = Field(128, ge=1, le=4096, description="Channels one stream may name.")
    max_event_size: ByteSize = Field(ByteSize(64 * 1024), ge=1, description="Bytes one event may have, encoded.")
    max_body_size: ByteSize = Field(
        ByteSize(16 * MIB), ge=1, description="Bytes one publish request may have, over all its events."
    )
    publish_key: SecretStr | None = Field(
        None, min_length=1, description="Key that POST /publish must carry as 'Authorization: Bearer KEY'."
    )
    open: bool = Field(False, description="Let anybody publish, also on an address other than loopback.")
    cors_origins: list[str] = Field([], description="Origins that may read streams from a browser, or '*' for any.")
    ssl_certificate: Path | None = Field(None, description="PEM certificate chain; with ssl_keyfile: HTTPS and HTTP/2.")
    ssl_keyfile: Path | None = Field(None, description="PEM private key of the certificate (PKCS#8).")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="One line of text, or one JSON object, an entry.")

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

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            scheme, _, rest = origin.partition("://")
            if origin != "*" and (scheme not in ("http", "https") or not rest or "/" in rest):
                raise ValueError(f"{origin!r} is not an origin; write scheme://host[:port] with no path, or '*'")
        return origins

    @model_validator(mode="after")
    def _safe_and_whole(self) -> Self:
        if (self.ssl_certificate is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certificate and ssl_keyfile go together; give both or neither")
        if self.max_event_size > self.log_size // 4:
            raise ValueError(
                f"max_event_size ({int(self.max_event_size)} bytes) is over a quarter of log_size "
                f"({int(self.log_size)} bytes); make the log larger or the events smaller"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.uds is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def refuse_unsafe(self) -> None:
        """Raise ValueError where a stranger could publish and nobody said that he may."""
        if not self.loopback and self.publish_key is None and not self.open:
            raise ValueError(
                f"refusing to listen on {self.host} without a publish key: anybody who can reach it could publish. "
                "Set --publish-key (or SSE_FAST_PUBLISH_KEY), or say --open if that is what you want."
            )
