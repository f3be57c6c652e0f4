"""What a node hears of the others over their engine: nobody sees by what, nor ends it; and no two nodes have a name in
common."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import Server
from support import until
from test_over_engine import Stream, hub_over

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
