"""What wakes the drain, in whose name it hands out, and that it goes on whatever happens to it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from front_port import FrontPort
from support import turns_of_others, until

from sse_fast._native.fanout.sinks import Sink
from sse_fast.embed.hub import Hub
from sse_fast.hub.stepper import Stepper


class Kept(Sink):
    """Takes everything; `then` is called with each write."""

    def __init__(self, then: Any = lambda: None) -> None:
        self.data: list[bytes] = []
        self.then = then

    def write(self, data: bytes) -> bool:
        self.data.append(data)
        self.then()
        return True


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub(log_size=1 << 20)
    yield hub
    await hub.close()


def opened(hub: Hub, channel: str, sink: Kept) -> Kept:
    hub.attach([channel], sink).start()
    return sink


async def test_a_drain_to_sockets_alone_runs_in_nobodys_name_and_with_another_sink_in_a_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[asyncio.Task[Any] | None] = []
    run = Stepper.run
    monkeypatch.setattr(Stepper, "run", lambda stepper, step, *args: names.append(None) or run(stepper, step, *args))
    async with FrontPort.opened() as port:
        client = port.connect(b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: port.listener.streams)
        await port.hub.publish("a", "1")
        await until(lambda: port.hub.fanout.deliveries == 1)
        assert not names
        other = port.hub.attach(["a"], sink := Kept(lambda: names.append(asyncio.current_task())))
        other.start()
        await port.hub.publish("a", "2")
        await until(lambda: sink.data)
        assert names[-1] is not None
        other.close()
        names.clear()
        await port.hub.publish("a", "3")
        await until(lambda: port.hub.fanout.deliveries == 4)
        assert not names
        client.close()
        await until(lambda: not port.listener.streams)


async def test_what_a_sink_publishes_while_it_is_written_to_is_handed_out_too(hub: Hub) -> None:
    second = opened(hub, "second", Kept())
    first = opened(hub, "first", Kept(lambda: hub.backplane.append_now([(b"second", b"data: 2\n\n")])))
    await hub.publish("first", "1")
    await until(lambda: second.data)
    assert len(first.data) == len(second.data) == 1


async def test_a_drain_of_several_slices_gives_the_loop_back_between_them(hub: Hub) -> None:
    slices: list[int] = []
    drain = hub.fanout.drain
    async with turns_of_others() as turns:

        def run(step: Any, *args: Any) -> Any:
            if step == drain:
                slices.append(turns.count)
            return step(*args)

        hub.stepper.run = run  # type: ignore[method-assign]
        sink = opened(hub, "a", Kept())
        for _ in range(12_000):  # from another worker; an index takes in so many records a slice: see FanOut.drain
            hub.log.append(b"b", b"data: x\n\n")
        hub.log.append(b"a", b"data: last\n\n")
        hub.look()
        await until(lambda: sink.data)
    assert len(slices) >= 3
    assert len(set(slices)) == len(slices)


async def test_a_drain_that_failed_is_told_of_and_goes_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sse_fast.hub.hub.TICK", 0.001)
    sink = opened(hub, "a", Kept())
    failures = [RuntimeError("once"), RuntimeError("twice")]

    def run(step: Any, *args: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return step(*args)

    hub.stepper.run = run  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR, "sse_fast.hub"):
        await hub.publish("a", "1")
        await until(lambda: sink.data)
        await until(lambda: len(caplog.records) == 2)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["once", "twice"]


async def test_a_hub_that_is_closed_runs_its_drain_no_more(hub: Hub) -> None:
    await hub.publish("a", "1")
    await hub.close()
    turns = hub._turns
    hub._wake()
    await asyncio.sleep(0)
    assert hub._turns == turns


async def test_a_send_that_suspends_where_no_task_stood_ready_is_finished_and_changes_nobodys_task(hub: Hub) -> None:
    hub._start()
    finished = asyncio.Event()

    async def finish() -> None:
        finished.set()

    hub.stepper.take_over(finish)
    assert asyncio.current_task() is not None
    me = asyncio.current_task()
    await asyncio.wait_for(finished.wait(), 5)
    assert asyncio.current_task() is me
