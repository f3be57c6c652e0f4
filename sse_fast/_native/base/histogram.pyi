from typing import Final

BOUNDS: Final[tuple[float, ...]]

class Histogram:
    @property
    def counts(self) -> list[int]: ...
    @property
    def nanoseconds(self) -> int: ...
    def observe(self, seconds: float, count: int = 1) -> None: ...
