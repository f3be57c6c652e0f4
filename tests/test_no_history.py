"""Who is granted no history is given nothing of before by an id that nobody gave them, and resumes by one that somebody
did."""

import pytest
from front_port import edge_of
from signing import SECRET, token
from support import until
from test_keys_taken_away import stream
from test_streams_of_patterns import drained, listen, publish

from sse_fast._native.fanout.drain import UNKNOWN, FanOut
from sse_fast._native.log.ring import Log
from sse_fast.transports.life import Transport


@pytest.mark.parametrize("names", [(b"a",), (b"a", b"b"), (b"a:*", b"a"), (b"**",)])
def test_behind_an_id_that_this_log_never_gave_it_begins_now_and_with_a_gap(names: tuple[bytes, ...]) -> None:
    fanout = FanOut(Log.private(1 << 16))
    publish(fanout, *[b"a", b"b", b"a:b"] * 5)
    for after in (UNKNOWN, 10**9):
        stream = listen(fanout, *names, after=after, kept=False)
        assert (stream.native.lost, stream.native.position) == (True, fanout.index.position)
        assert fanout.to_replay(names, after=after, kept=False) == 0
        drained(fanout)
        assert stream.positions == []
        later = publish(fanout, b"a", b"a:b", b"c")
        assert stream.positions == [at for at, name in zip(later, (b"a", b"a:b", b"c"), strict=True) if of(names, name)]
        fanout.unsubscribe(stream.native)
    resumed = listen(fanout, *names, after=3, kept=False)
    drained(fanout)
    assert not resumed.native.lost
    assert resumed.positions == listen_all(fanout, names), "an id that it did give resumes"


def of(names: tuple[bytes, ...], name: bytes) -> bool:
    return name in names or b"**" in names or (b"a:*" in names and name == b"a:b")


def listen_all(fanout: FanOut, names: tuple[bytes, ...]) -> list[int]:
    stream = listen(fanout, *names, after=3)
    drained(fanout)
    return stream.positions


def test_what_comes_while_it_is_asked_about_is_not_of_before() -> None:
    fanout = FanOut(Log.private(1 << 16))
    publish(fanout, b"a", b"a")
    since = fanout.index.position
    later = publish(fanout, b"a", b"a")
    stream = listen(fanout, b"a", after=UNKNOWN, since=since, kept=False)
    drained(fanout)
    assert (stream.positions, stream.native.lost) == (later, True)


@pytest.mark.parametrize("transport", Transport)
async def test_a_token_without_history_has_no_old_events_by_a_made_up_id(transport: Transport) -> None:
    without, with_history = (token({"subscribe": ["news"], "history": history}) for history in (False, True))
    async with edge_of(token_secret=SECRET) as edge:
        ids = [str(await edge.hub.publish("news", f"old {number}")) for number in range(3)]

        async def began(credential: str, last_event_id: str) -> bytes:
            async with stream(edge, transport, credential, **{"last-event-id": last_event_id}) as sent:
                await edge.hub.publish("news", "now")
                await until(lambda: b"data: now" in sent)
                return bytes(sent)

        got = await began(without, "whatever")
        assert b"event: $gap" in got
        assert b"data: old" not in got
        assert (await began(with_history, "whatever")).count(b"data: old") == 3
        got = await began(without, ids[1])
        assert b"$gap" not in got
        assert b"data: old 2" in got
        assert b"data: old 1" not in got
