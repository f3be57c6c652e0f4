from typing import final

@final
class Place:
    """What an address has of connections that are no streams; for the listener alone."""

def place_of(address: bytes) -> bytes: ...
