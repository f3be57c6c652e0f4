"""The streams that watch the server: who looks at its figures is not to find himself in them."""

from sse_fast._native.fanout.groups import Subscriber

STATS = "$stats"


class Watching:
    """Of one worker: the streams of `$stats`, whatever else they listen to. `events` and `bytes`: of the log, that they
    were handed; they never fall."""

    def __init__(self) -> None:
        self._open: set[Subscriber] = set()
        self._events = self._bytes = 0

    def opened(self, subscriber: Subscriber) -> None:
        self._open.add(subscriber)

    @property
    def count(self) -> int:
        self._look()
        return len(self._open)

    @property
    def events(self) -> int:
        self._look()
        return self._events + sum(each.events for each in self._open)

    @property
    def bytes(self) -> int:
        self._look()
        return self._bytes + sum(each.bytes for each in self._open)

    def _look(self) -> None:
        for each in [each for each in self._open if each.closed]:
            self._open.discard(each)
            self._events += each.events
            self._bytes += each.bytes
