from .board import Board

class Expected:
    def __init__(self, board: Board, worker: int, capacity: int, listens: bool) -> None: ...
