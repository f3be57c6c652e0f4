from .board import Board
from .dial import Dialer, Request

class Publishing:
    def __init__(
        self,
        board: Board,
        worker: int,
        dialer: Dialer,
        request: Request | None,
        epoll: int,
        bell: int,
        run: int,
        payload_bytes: int,
    ) -> None: ...
    def closed(self, in_flight: int, events: int) -> None: ...
    def open(self, rate: float, events: int) -> None: ...
    def quiet(self) -> None: ...
    @property
    def busy(self) -> int: ...
    @property
    def loop(self) -> int: ...
