from collections.abc import Iterable

from sse_fast._native.log.ring import Log

def end_of(log: Log) -> tuple[str, int] | None: ...
def mark(
    log: Log,
    epoch: str,
    prev: int | None = None,
    *,
    position: int = 0,
    body: bytes | None = None,
    milliseconds: int | None = None,
) -> int: ...
def skip_to(log: Log, position: int, *, body: bytes | None = None, milliseconds: int | None = None) -> int: ...
def append_at(log: Log, events: Iterable[tuple[int, bytes | tuple[bytes, ...], bytes, int]]) -> int: ...
def forget_at(log: Log, position: int, channel: bytes, body: bytes, milliseconds: int) -> int: ...
