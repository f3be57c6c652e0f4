from collections.abc import Sequence

CHANNEL: int
PAYLOAD: int
LENGTH: int
LAST_EVENT_ID: int

class Request:
    def __init__(self, head: Sequence[bytes | int], body: Sequence[bytes | int] = ()) -> None: ...
    def render(self, channel: int, payload: bytes, last_event_id: bytes) -> bytes: ...

class Dialer:
    def __init__(self, family: int, ip: str, port: int, worker: int) -> None: ...
