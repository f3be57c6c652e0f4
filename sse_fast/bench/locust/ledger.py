"""From what a native thread counts to locust's statistics."""

import time

from locust.stats import RequestStats, StatsEntry, StatsError

from sse_fast._native.bench.board import Board, bucket_value
from sse_fast.bench.results import MEANINGS, Counts, difference

REQUEST_TYPE = "SSE"
CONNECTING = ("refused", "unreachable", "timed_out", "redirect", "no_content", "status", "not_event_stream", "bad_head")
PUBLISHING = ("publish_refused", "publish_failed", "publish_unsent")
NAMES = dict.fromkeys(CONNECTING, "connect") | dict.fromkeys(PUBLISHING, "publish")  # other faults: their own


class Ledger:
    """What of a board is in locust's statistics already.

    Locust takes one request at a time, some 10 µs each. A report makes one StatsEntry of all that is new under a name
    and adds that, as a locust master does with what its workers send; the `request` event is not fired.
    """

    def __init__(self, stats: RequestStats, connections: int) -> None:
        self._stats = stats
        self._connections = connections  # so many streams opened are new ones, the others have come back
        self._taken: dict[str, int] = {}
        self._times: dict[str, Counts] = {}

    def take(self, board: Board) -> None:
        """Add what is new. The native thread goes on counting meanwhile, so of two numbers that are subtracted the
        greater is read first: what is missed now is found next time, and nothing is counted twice."""
        events = board.counters()["events"]
        counters = board.counters()
        latency, answers, heads, back = (
            self._new_times(board, timing) for timing in ("latency", "answer", "first_byte", "back")
        )
        opened = sum(self._times["first_byte"].values())
        connects, reconnects = split(heads, self._connections - (opened - sum(heads.values())))
        timed = sum(self._times["latency"].values())
        self._add("connect", connects)
        self._add("reconnect", reconnects)
        self._add(
            "event",
            latency,
            self._new("untimed", counters["deliveries"] - timed),
            self._new("bytes", counters["bytes"]),
        )
        self._add("other event", {}, self._new("other", events - counters["deliveries"]))
        self._add("publish", answers)
        self._add("back", back)
        self._fail("reconnect", "an attempt to come back failed", self._new("tried_again", counters["tried_again"]))
        for kind, (count, example) in board.faults().items():
            words = MEANINGS[kind] + (f": {example}" if kind in NAMES and example else "")
            self._fail(NAMES.get(kind, kind), words, self._new(kind, count))

    def _new(self, name: str, count: int) -> int:
        """How much a count has grown."""
        new = max(0, count - self._taken.get(name, 0))
        self._taken[name] = self._taken.get(name, 0) + new
        return new

    def _new_times(self, board: Board, timing: str) -> dict[int, int]:
        now = board.histogram(timing)
        new = difference(now, self._times.get(timing, {}))
        self._times[timing] = now
        return new

    def _add(self, name: str, times: Counts, untimed: int = 0, length: int = 0) -> None:
        news = StatsEntry(self._stats, name, REQUEST_TYPE)
        for place, count in times.items():
            news.extend(many(self._stats, name, bucket_value(place) / 1000, count))
        if untimed:
            news.extend(many(self._stats, name, None, untimed))
        news.total_content_length = length
        self._extend(news)

    def _fail(self, name: str, words: str, count: int) -> None:
        if count <= 0:
            return
        news = many(self._stats, name, None, count)
        news.num_failures = count
        news.num_fail_per_sec[int(time.time())] = count
        self._extend(news)
        error = self._stats.errors.setdefault(
            StatsError.create_key(REQUEST_TYPE, name, words), StatsError(REQUEST_TYPE, name, words)
        )
        error.occurrences += count

    def _extend(self, news: StatsEntry) -> None:
        if news.num_requests:
            self._stats.total.extend(news)
            self._stats.entries[news.name, REQUEST_TYPE].extend(news)


def many(stats: RequestStats, name: str, milliseconds: float | None, count: int) -> StatsEntry:
    """So many requests of one length: locust logs the first, which says where all are counted."""
    entry = StatsEntry(stats, name, REQUEST_TYPE)
    entry.log(milliseconds, 0)  # type: ignore[arg-type]
    entry.num_requests = count
    entry.num_none_requests *= count
    entry.total_response_time *= count
    entry.num_reqs_per_sec = dict.fromkeys(entry.num_reqs_per_sec, count)
    entry.response_times = dict.fromkeys(entry.response_times, count)
    return entry


def split(times: Counts, first: int) -> tuple[dict[int, int], dict[int, int]]:
    """So many of the times, and the rest. Which are whose is not known, within one report."""
    head: dict[int, int] = {}
    for place, count in times.items():
        if first > 0:
            head[place] = min(first, count)
            first -= head[place]
    return head, difference(times, head)
