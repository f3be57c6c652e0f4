from socket import socket

from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.front.connection import Connections, Transport

class Listener(Connections):
    def __init__(
        self,
        listening: socket,
        fanout: FanOut,
        transport: Transport,
        *,
        head_seconds: float = 10.0,
        idle_seconds: float = 60.0,
        stuck_seconds: float = 30.0,
        linger_seconds: float = 2.0,
        most: int = ...,
        streams_each: int | None = None,
    ) -> None: ...
    @property
    def turned_away(self) -> int: ...
    @property
    def evicted(self) -> int: ...
    @property
    def addresses(self) -> int: ...
    def tick(self, now: float) -> None: ...
    def stop_accepting(self) -> None: ...
    def close(self) -> None: ...
