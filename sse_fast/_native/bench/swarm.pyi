from .board import Board
from .dial import Dialer, Request
from .publisher import Publishing

CONNECTION_BYTES: int

class Swarm:
    def __init__(
        self,
        board: Board,
        worker: int,
        dialer: Dialer,
        subscribe: Request,
        publish: Request | None,
        *,
        publish_to: Dialer | None = None,
        run: int,
        payload_bytes: int,
        capacity: int,
        at_once: int = 256,
        patience: float = 30.0,
        reconnect: float = -1.0,
        listens: bool = False,
        bell: int = -1,
        control: int = -1,
    ) -> None: ...
    @property
    def publishing(self) -> Publishing: ...
    def open(
        self, count: int, *, first: int = 0, rate: float = 0.0, slow: bool = False, stopped: bool = False
    ) -> None: ...
    def slow_down(self, *, every: float, most: int) -> None: ...
    def wake_up(self) -> None: ...
    def churn(self, rate: float, life: float) -> None: ...
    def cut(self) -> None: ...
    def come_back(self, rate: float = 0.0) -> None: ...
    def audit(self) -> tuple[int, int]: ...
    def give_up(self) -> None: ...
    def loop(self, seconds: float = -1.0) -> bool: ...
    def close(self) -> None: ...
