"""Streams by the hundred, each held to its book natively, that come back when a server ends them; their publishers."""

from conftest import PATIENCE, EdgeProcess
from ledger import Ledger

from sse_fast.bench import Broadcast, Plan, Target, modes
from sse_fast.bench.runner import Fleet

CHANNELS = 6
EVENTS_A_SECOND = 20.0
ANSWER_WITHIN = 2.5  # seconds; then they try again
COMES_BACK = 0.3
NOBODYS_FAULT = {"publish_refused", "publish_failed", "publish_unsent"}  # by a server whose workers end


class Streams:
    """A swarm of so many streams by one way to them."""

    def __init__(self, server: EdgeProcess, name: str, way: str, streams: int) -> None:
        self.channels = [f"{name}-{number}" for number in range(CHANNELS)]
        self._streams = streams
        self.fleet = Fleet(
            Plan(
                Broadcast(streams, channels=CHANNELS, rate=EVENTS_A_SECOND),
                Target(f"{way}/{name}-{{channel}}", f"{server.url}/publish/{name}-{{channel}}"),
                publishers=8,
                processes=1,
                patience=ANSWER_WITHIN,
                drain=PATIENCE,
                reconnect=COMES_BACK,
                server_pid=server.pid,
            )
        )

    def begin(self) -> None:
        self.fleet.open(self._streams)
        modes.opened(self.fleet)
        self.fleet.order("open_loop", rate=EVENTS_A_SECOND, events=0)

    def end(self) -> None:
        """Publish no more, and wait until everybody has everything."""
        modes.settle(self.fleet)

    def check(self) -> None:
        """All are there, and have what they are owed, in order, once."""
        faults = self.fleet.board.faults()
        assert not self.fleet.problems, self.fleet.problems
        assert not faults.keys() - NOBODYS_FAULT, faults
        assert self.fleet.board.counters()["streaming"] == self._streams

    def compare(self, log: Ledger) -> None:
        """And what they are owed is what the log holds."""
        self.check()
        counters, faults = self.fleet.board.counters(), self.fleet.board.faults()
        numbers: dict[str, list[int]] = {}
        for _, entry in sorted(log.items()):
            if entry.channel in self.channels:
                _, _, channel, publisher, number, *_ = entry.data.split(":")
                assert int(channel, 16) == self.channels.index(entry.channel)
                numbers.setdefault(f"{channel} {publisher}", []).append(int(number, 16))
        for these in numbers.values():
            assert these == sorted(set(these)), "an event is in the log twice, or later than its publisher's next one"
        doubtful = faults.get("publish_failed", (0, ""))[0]
        assert 0 <= sum(map(len, numbers.values())) - counters["answered"] <= doubtful
