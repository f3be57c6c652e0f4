"""What a node hears of the others over their engine: nobody sees by what, nor ends it; and no two nodes have a name in
common."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from engines import Server
from support import until
from test_over_engine import Stream, hub_over

from sse_fast._native.wire.frame import encode
from sse_fast.edge import fleet
from sse_fast.edge.fleet import CHANNEL, Fleet, name_of_node
from sse_fast.edge.listing import Listings
from sse_fast.errors import EndReason
from sse_fast.hub.over_engine import OverEngine


@pytest.fixture
def server() -> Iterator[Server]:
    return Server()


async def test_the_stream_by_which_a_node_hears_of_others_is_not_listed_counted_or_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "SAY", 0.01)
    async with hub_over(server) as one, hub_over(server) as other:
        fleets = []
        for hub, name in ((one, "one"), (other, "other")):
            assert isinstance(hub.backplane, OverEngine)
            fleets.append(Fleet(hub, hub.backplane, name))
            fleets[-1].start()
        await until(lambda: one.listeners(CHANNEL) == other.listeners(CHANNEL) == 1)
        Stream(other, "news")
        await fleets[0].end_elsewhere({"channel": "elsewhere"})
        await until(lambda: other.fanout.index.get(CHANNEL.encode()) is not None)
        streams, _ = await other.open_streams.page()
        assert [stream.channels for stream in streams] == [(b"news",)]
        assert (one.open_streams.count, other.open_streams.count) == (0, 1)
        listings = Listings(other.fanout.index, CHANNEL.encode())
        assert [channel.name for channel in (await listings.look(b"", 10))[0]] == [b"news"]
        assert listings.total == 1
        assert await other.open_streams.end(EndReason.OPERATOR, channel=CHANNEL) == 0
        assert await other.open_streams.end(EndReason.OPERATOR, address="") == 1
        assert other.listeners(CHANNEL) == 1
        last = Stream(other, "news")
        await fleets[0].end_elsewhere({"channel": "news"})  # it is still heard
        await until(lambda: not other.listeners("news"))
        assert last.told[0] == "$connected"
        for each in fleets:
            each.close()


def test_nodes_of_one_hostname_and_process_number_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As two containers have, whose servers are process 1."""
    names = set()
    for machine in ("a", "b"):
        (tmp_path / machine).write_text(machine)
        monkeypatch.setattr(fleet, "BOOT_ID", tmp_path / machine)
        names.add(name_of_node(several=False))
        assert name_of_node(several=False) in names
    assert len(names) == 2
    parent = name_of_node(several=True)  # as each of its workers calls it
    monkeypatch.setattr(os, "getpid", os.getppid)
    assert name_of_node(several=False) == parent


UNREADABLE = [
    b"no JSON",
    b"[]",
    b"{}",
    b'{"by":7}',
    b'{"by":"x"}',
    b'{"by":"x","which":[]}',
    b'{"by":"x","which":{"user":1}}',
    b'{"by":"x","question":"q","channels":5}',
    b'{"by":"x","question":"q","channels":[1]}',
    b'{"by":"x","question":1,"channels":["news"]}',
]


async def test_what_cannot_be_read_of_what_is_said_to_all_is_left_out_and_what_comes_behind_it_is_heard(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet, "SAY", 600.0)  # whoever is deaf once stays so
    async with hub_over(server) as one, hub_over(server) as other:
        assert isinstance(other.backplane, OverEngine)
        assert isinstance(one.backplane, OverEngine)
        listening, asking = Fleet(other, other.backplane, "other"), Fleet(one, one.backplane, "one")
        listening.start()
        await until(lambda: other.listeners(CHANNEL) == 1)
        Stream(other, "news")
        for what in (fleet.END, fleet.ASK):
            await one.append([(CHANNEL.encode(), encode(words, event=what)) for words in UNREADABLE])
        await asking.end_elsewhere({"channel": "news"})
        await until(lambda: not other.listeners("news"))
        assert other.listeners(CHANNEL) == 1
        assert len([line for line in caplog.records if "cannot be read" in line.getMessage()]) == 1
        assert not [line for line in caplog.records if line.exc_info]
        listening.close()
        asking.close()


async def test_who_listens_anew_goes_on_behind_the_last_that_was_heard(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "SAY", 0.05)
    async with hub_over(server) as one, hub_over(server) as other:
        assert isinstance(other.backplane, OverEngine)
        assert isinstance(one.backplane, OverEngine)
        listening, asking = Fleet(other, other.backplane, "other"), Fleet(one, one.backplane, "one")
        listening.start()
        await until(lambda: other.listeners(CHANNEL) == 1)
        Stream(other, "news")
        assert listening._ears is not None
        other.fanout.end(listening._ears._subscription.subscriber, EndReason.ERROR)
        assert other.listeners(CHANNEL) == 0
        await asking.end_elsewhere({"channel": "news"})
        await until(lambda: not other.listeners("news"))
        listening.close()
        asking.close()


async def test_a_node_that_says_of_itself_what_cannot_be_read_is_left_out(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with hub_over(server) as hub:
        assert isinstance(hub.backplane, OverEngine)
        server.nodes |= {"a": b'{"version":"1"}', "b": b"no JSON", "c": b"[]", "d": b'{"version":"2"}'}
        asking = Fleet(hub, hub.backplane, "a")
        for _ in range(2):
            assert await asking.nodes() == [{"name": "a", "version": "1"}, {"name": "d", "version": "2"}]
        assert len(caplog.records) == 1


class Forged:
    """What nodes are said to have answered."""

    def __init__(self, **answers: bytes) -> None:
        self._answers = answers

    async def answer(self, question: str, node: str, words: bytes, /) -> bool:
        return True

    async def answers(self, question: str, nodes: Sequence[str], /) -> dict[str, bytes]:
        return {node: words for node, words in self._answers.items() if node in nodes}


async def test_a_node_whose_answer_cannot_be_read_is_silent(server: Server) -> None:
    async with hub_over(server) as hub:
        assert isinstance(hub.backplane, OverEngine)
        answers = {"b": b"no JSON", "c": b"[1]", "d": b"[3,4]", "e": b'["x","y"]', "f": b"[-1,1]"}
        server.nodes |= dict.fromkeys(("a", *answers), b"{}")
        hub.backplane.engine.questions = Forged(**answers)  # type: ignore[attr-defined]
        asking = Fleet(hub, hub.backplane, "a")
        assert await asking.subscribers(["x", "y"]) == ([3, 4], ["b", "c", "e", "f"])
