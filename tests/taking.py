"""A subscriber of the fan-out that takes all it is handed, and keeps it as one stream."""

from sse_fast._native.fanout.sinks import Sink


class Taking(Sink):
    def __init__(self) -> None:
        self.stream = b""

    def write(self, data: bytes) -> bool:
        self.stream += data
        return True
