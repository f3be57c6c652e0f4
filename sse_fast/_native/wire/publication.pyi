from collections.abc import Iterator
from typing import Any

from sse_fast._native.wire.templates import TypedChannels
from sse_fast.event_rules import Encoded

def encode_publication(
    channel: Any,
    data: Any,
    *,
    event: str | None = None,
    retry: int | None = None,
    conflate_key: str | None = None,
    id: str | None = None,
    fragment: bool = False,
    private: bool = False,
    limit: int,
    typed: TypedChannels | None = None,
) -> Encoded: ...
def from_json_object(
    body: bytes, limit: int, keys: dict[int, str] | None = None, typed: TypedChannels | None = None
) -> Encoded: ...
def from_json_array(
    body: bytes, limit: int, keys: dict[int, str] | None = None, typed: TypedChannels | None = None
) -> Iterator[list[Encoded]]: ...
def from_ndjson(
    body: bytes, limit: int, keys: dict[int, str] | None = None, typed: TypedChannels | None = None
) -> Iterator[list[Encoded]]: ...
