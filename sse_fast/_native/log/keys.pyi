from collections.abc import Sequence
from typing import Self

from _typeshed import WriteableBuffer

from sse_fast._native.log.ring import Log

DIGEST: int

class KeyTable:
    ahead: int
    def __init__(self, memory: WriteableBuffer, keys: int = 0, window: int = 0) -> None: ...
    @staticmethod
    def size(keys: int) -> int: ...
    @classmethod
    def private(cls, keys: int, window: int) -> Self: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def room(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def forgotten(self) -> int: ...
    @property
    def repeated(self) -> int: ...
    def append_once(
        self,
        log: Log,
        events: Sequence[tuple[bytes | tuple[bytes, ...], bytes]],
        keys: bytes | Sequence[bytes | None],
        limit: int | None = None,
    ) -> tuple[memoryview[int], int, int] | None: ...
