from collections.abc import Callable, Iterable, Sequence

class Template: ...

class TypedChannels:
    def __init__(
        self,
        templates: Iterable[Sequence[tuple[bytes, bytes | None]]],
        refuse: Callable[[int, bytes, bytes], object],
    ) -> None: ...
    def find(self, name: bytes) -> int: ...
