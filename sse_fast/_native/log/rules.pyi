from collections.abc import Iterable

ChannelRule = tuple[bytes, int, int, bool]

class Rules:
    def __init__(self, rules: Iterable[ChannelRule] = ()) -> None: ...
    def shows_all(self, names: Iterable[bytes], patterns: Iterable[bytes]) -> bool: ...
