from collections.abc import Callable
from typing import Any

from sse_fast._native.wire.templates import TypedChannels

class Known: ...

class Posts:
    date: bytes
    enabled: bool
    now: float
    admits: Callable[[str, Any, bytes], bool] | None
    undo: Callable[[str, Any, bytes], None] | None
    typed: TypedChannels | None
    def __init__(
        self,
        start: bytes,
        limit: int,
        append: Callable[[tuple[bytes, bytes]], str | None],
        hand_out: Callable[[], None],
        *,
        most: int = 1024,
    ) -> None: ...
    @property
    def taken(self) -> int: ...
    def remember(
        self,
        block: bytes,
        before: bytes,
        behind: bytes,
        *,
        allows: Callable[[bytes], bool] | None = None,
        until: float = ...,
        publisher: object = None,
    ) -> None: ...
    def forget(self) -> None: ...
    def __len__(self) -> int: ...

def is_plain(name: bytes) -> bool: ...
