"""Source, relay and target are killed by SIGKILL, again and again; and what the target has in the end is held to what
the source has.

    python tests/chaos_relay.py --seconds 600

The law: every event that the source's log has is in the target's channel once, and in the same order. Both edges keep
their logs in files, and forget their idempotency keys with every kill. The relay keeps nothing.
"""

import argparse
import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from chaos_outbox import Killed
from conftest import EdgeProcess
from conftest import until as wait_until

from sse_fast import EventParser
from sse_fast.transports.life import Transport

THE_END = "the end"


class Chaos:
    def __init__(self, directory: Path, seed: int) -> None:
        self._choose = random.Random(seed)
        self._log = directory / "log of the relay"
        self.source, self.target = (self._edge(directory / name) for name in ("source", "target"))
        arguments = ("--from", f"{self.source.url}/sse/from", "--to", "to", "--url", self.target.url)
        self.relay = Killed("-m", "sse_fast", "relay", *arguments, "--since", "earliest", log=self._log)
        self.tally: Counter[str] = Counter()
        self._over = threading.Event()
        self._publishing = threading.Thread(target=self._publish)
        self._publishing.start()

    def _edge(self, directory: Path) -> EdgeProcess:
        directory.mkdir()
        edge = EdgeProcess(directory, ("--log-file", str(directory / "log"), "--log-size", "256MiB"), Transport.NATIVE)
        edge.start()
        return edge

    def _publish(self) -> None:
        """What is acknowledged or not, the source's log says; no event is published twice."""
        numbers = itertools.count()
        pause = random.Random(self._choose.randrange(2**32))
        while not self._over.is_set():
            events = [f"{next(numbers)} {'x' * pause.randrange(200)}" for _ in range(pause.choice((1, 1, 5, 100)))]
            try:
                self.source.publish_many("from", events)
            except (OSError, AssertionError, httpx.HTTPError, ValueError):
                time.sleep(0.05)
            except Exception:  # whatever http.client makes of an edge that dies
                time.sleep(0.05)
            time.sleep(pause.random() * 0.03)

    # ---- what is done ------------------------------------------------------------------------------------------------

    def rage(self, seconds: float) -> None:
        """All of it once at least, in any order."""
        acts: list[Callable[[], None]] = []
        over = time.monotonic() + seconds
        while time.monotonic() < over or acts:
            if not acts:
                acts = [self.kill_source, self.kill_target, self.kill_relay]
                acts += [self.kill_relay, self.kill_all] if seconds > 60 else []
                self._choose.shuffle(acts)
            time.sleep(self._choose.uniform(0, 0.7))
            act = acts.pop()
            act()
            self.tally[act.__name__] += 1
            assert self.relay.lives, self._log.read_text()

    def kill_relay(self) -> None:
        self.relay.kill()
        time.sleep(self._choose.choice((0, 0, 0.3)))
        self.relay.start()

    def kill_source(self) -> None:
        self._kill(self.source)

    def kill_target(self) -> None:
        self._kill(self.target)

    def _kill(self, edge: EdgeProcess) -> None:
        edge.kill()
        time.sleep(self._choose.choice((0, 0, 0.5)))
        edge.start()

    def kill_all(self) -> None:
        self.relay.kill()
        self.source.kill()
        self.target.kill()
        self.target.start()
        self.source.start()
        self.relay.start()

    # ---- and what became of it ---------------------------------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """Hold the one log to the other; figures."""
        self._over.set()
        self._publishing.join()
        self.source.publish("from", THE_END)
        owed = self._kept(self.source, "from")
        wait_until(lambda: self._kept_now(len(owed)), "the end at the target", 120)
        has = self._kept(self.target, "to")
        twice = [event for event, times in Counter(has).items() if times > 1]
        assert not twice, f"{len(twice)} came twice, as {twice[:3]}"
        lost = set(owed) - set(has)
        assert not lost, f"{len(lost)} never came, as {sorted(lost)[:3]}"
        assert has == owed, next((pair for pair in zip(has, owed, strict=False) if pair[0] != pair[1]), None)
        return {"events": len(has), **self.tally}

    def _kept_now(self, count: int) -> bool:
        assert self.relay.lives, self._log.read_text()
        status, body = self.target.request("GET", "/channels/to")
        return status == 200 and httpx.Response(200, content=body).json()["kept"] >= count + 1

    def _kept(self, edge: EdgeProcess, channel: str) -> list[str]:
        """The data of all that the edge's log has of a channel, up to the end."""
        found: list[str] = []
        parser = EventParser()
        with httpx.stream("GET", f"{edge.url}/sse/{channel}?last_event_id=earliest", timeout=60) as response:
            for piece in response.iter_bytes():
                for event in parser.feed(piece):
                    if event.data == THE_END:
                        return found
                    assert event.event != "$gap", f"a gap: {event.data}"
                    if not event.event.startswith("$"):
                        found.append(event.data)
        raise AssertionError("the stream ended")

    def end(self) -> None:
        self._over.set()
        self._publishing.join()
        self.relay.kill()
        for edge in (self.source, self.target):
            if edge.running:
                edge.kill()


def run(seconds: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        chaos = Chaos(Path(directory), seed)
        try:
            wait_until(lambda: chaos.target.request("GET", "/channels/to")[0] == 200, "the first event")
            chaos.rage(seconds)
            return chaos.check()
        finally:
            chaos.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    print(run(given.seconds, given.seed))
