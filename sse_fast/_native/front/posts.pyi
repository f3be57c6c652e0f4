from collections.abc import Callable

class Known: ...

class Posts:
    date: bytes
    enabled: bool
    now: float
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
    ) -> None: ...
    def forget(self) -> None: ...
    def __len__(self) -> int: ...

def is_plain(name: bytes) -> bool: ...
