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
    form_line: bytes
    most_form: int
    later: Callable[[tuple[bytes, bytes], Waiting], bool] | None
    failed: Callable[[Any, Any, Exception], None] | None
    @property
    def waiting(self) -> int: ...
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
        request: object = None,
    ) -> None: ...
    def remember_form(
        self, block: bytes, before: bytes, behind: bytes, *, form: Callable[[bytes], str | None], until: float = ...
    ) -> None: ...
    def forget(self) -> None: ...
    def __len__(self) -> int: ...

class Waiting:
    def done(self) -> bool: ...
    def set_result(self, published: Any) -> None: ...
    def set_exception(self, error: Exception) -> None: ...
    def gone(self, connection: object) -> None: ...
    def late(self, connection: object) -> None: ...
    def writable(self, connection: object) -> None: ...
    def feed(self, connection: object, data: bytes) -> None: ...

def is_plain(name: bytes) -> bool: ...
