"""The stepped `send`: finished at once, suspended, raising, cancelled; and whose name it runs in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from support import until

from sse_fast.embed.hub import Hub
from sse_fast.errors import EndReason
from sse_fast.hub.subscription import Subscription

Message = dict[str, Any]
channel_of_context: ContextVar[str] = ContextVar("channel_of_context", default="nobody's")


class Stream:
    """A started subscription to `a` over a `send` that the test gives; `taken` is what it took."""

    def __init__(self, hub: Hub, send: Callable[[Message], Awaitable[None]]) -> None:
        self.taken: list[bytes] = []
        self.ended: list[tuple[EndReason, Exception | None]] = []
        self.subscription: Subscription = hub.subscribe(["a"], send, lambda *why: self.ended.append(why))
        self.subscription.start()


@pytest.fixture
async def hub():
    hub = Hub(log_size=64 * 1024)
    yield hub
    await hub.close()


class Wire:
    """A server's `send` that suspends while there is no room, as Granian's does: the message is taken already."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.calls_under_way = 0
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: Message) -> None:
        assert self.calls_under_way == 0, "called again before the suspended one was done"
        self.calls_under_way += 1
        try:
            self.bodies.append(message["body"])
            if not self.room.is_set():
                await self.room.wait()
        finally:
            self.calls_under_way -= 1

    @property
    def data(self) -> list[str]:
        return [line[6:].decode() for line in b"".join(self.bodies).split(b"\n") if line.startswith(b"data: ")]


async def test_a_send_that_finishes_at_once_makes_no_task_and_does_not_block(hub: Hub) -> None:
    wire = Wire()
    Stream(hub, wire.send)
    before = asyncio.all_tasks()
    await hub.publish("a", "1")
    await until(lambda: wire.bodies)
    assert asyncio.all_tasks() == before
    assert hub.fanout.blocked == 0


async def test_a_suspended_send_is_finished_before_the_next_and_then_gets_all_that_piled_up_at_once(hub: Hub) -> None:
    wire = Wire()
    Stream(hub, wire.send)
    wire.room.clear()
    await hub.publish("a", "0")
    await until(lambda: hub.fanout.blocked == 1)
    for number in range(1, 10):
        await hub.publish("a", str(number))
        await asyncio.sleep(0)
    assert wire.data == ["0"]
    wire.room.set()
    await until(lambda: len(wire.data) == 10)
    assert wire.data == [str(number) for number in range(10)]
    assert len(wire.bodies) == 2
    assert hub.fanout.blocked == 0


@pytest.mark.parametrize("when", ["at once", "after it was suspended"])
async def test_a_send_that_raises_ends_its_stream_and_no_other(hub: Hub, when: str) -> None:
    async def failing(message: Message) -> None:
        if when == "after it was suspended":
            await asyncio.sleep(0)
        raise OSError("no such wire")

    wire = Wire()
    broken, whole = Stream(hub, failing), Stream(hub, wire.send)
    await hub.publish("a", "1")
    await until(lambda: broken.ended and wire.data == ["1"])
    ((reason, error),) = broken.ended
    assert reason is EndReason.ERROR
    assert isinstance(error, OSError)
    broken.subscription.close()
    await hub.publish("a", "2")
    await until(lambda: wire.data == ["1", "2"])
    assert whole.ended == []
    assert hub.fanout.connections == 1


async def test_closing_gives_up_a_suspended_send(hub: Hub) -> None:
    wire = Wire()
    stream = Stream(hub, wire.send)
    wire.room.clear()
    await hub.publish("a", "1")
    await until(lambda: hub.fanout.blocked == 1)
    stream.subscription.close()
    stream.subscription.close()
    await until(lambda: wire.calls_under_way == 0)
    assert (hub.fanout.connections, hub.fanout.blocked) == (0, 0)
    assert stream.ended == []


async def test_what_cannot_be_awaited_ends_the_stream(hub: Hub) -> None:
    stream = Stream(hub, lambda message: None)  # type: ignore[arg-type, return-value]
    await hub.publish("a", "1")
    await until(lambda: stream.ended)
    assert isinstance(stream.ended[0][1], TypeError)


# Whatever can be awaited


class BareIterator:
    """An awaitable whose iterator has neither send nor throw, as Granian's futures."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __await__(self) -> "BareIterator":  # type: ignore[override]
        return self

    def __iter__(self) -> "BareIterator":
        return self

    def __next__(self) -> Any:
        if self._future.done():
            self._future.result()
            raise StopIteration
        self._future._asyncio_future_blocking = True
        return self._future


class Delegating:
    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, Any, None]:
        return self._future.__await__()


async def coroutine(future: asyncio.Future[None]) -> None:
    await future


def asend(future: asyncio.Future[None]) -> Awaitable[None]:
    async def generator() -> AsyncGenerator[None, None]:
        await future
        yield

    return generator().asend(None)


KINDS: list[Callable[[asyncio.Future[None]], Awaitable[None]]] = [
    coroutine,
    asend,
    lambda future: future,
    Delegating,
    BareIterator,
]


@pytest.mark.parametrize("kind", KINDS, ids=["coroutine", "asend", "future", "delegating", "bare iterator"])
@pytest.mark.parametrize("outcome", ["result", "error"])
async def test_any_awaitable_is_continued_where_it_was_left(
    hub: Hub, kind: Callable[[asyncio.Future[None]], Awaitable[None]], outcome: str
) -> None:
    futures: list[asyncio.Future[None]] = []

    def send(message: Message) -> Awaitable[None]:
        futures.append(asyncio.get_running_loop().create_future())
        return kind(futures[-1])

    stream = Stream(hub, send)
    await hub.publish("a", "1")
    await until(lambda: hub.fanout.blocked == 1)
    if outcome == "error":
        futures[0].set_exception(OSError("no such wire"))
        await until(lambda: stream.ended)
        assert isinstance(stream.ended[0][1], OSError)
    else:
        futures[0].set_result(None)
        await until(lambda: hub.fanout.blocked == 0)
        await hub.publish("a", "2")
        await until(lambda: len(futures) == 2)
        assert stream.ended == []


async def test_a_send_that_suspends_many_times_is_stepped_through_them_all(hub: Hub) -> None:
    turns = 0

    async def send(message: Message) -> None:
        nonlocal turns
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1

    Stream(hub, send)
    await hub.publish("a", "1")
    await until(lambda: turns == 100 and hub.fanout.blocked == 0)


async def test_a_cancellation_is_thrown_into_the_suspended_send(hub: Hub) -> None:
    caught: list[BaseException] = []

    async def send(message: Message) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            caught.append(error)
            raise

    stream = Stream(hub, send)
    await hub.publish("a", "1")
    await until(lambda: hub.fanout.blocked)
    await asyncio.sleep(0)
    stream.subscription.close()
    await until(lambda: caught)
    assert isinstance(caught[0], asyncio.CancelledError)


# In whose name. Middleware may wrap a `send` in anything; it must find its own task and context again, and whatever it
# does to them must not reach the hub.


async def in_a_timeout(room: asyncio.Event) -> None:
    async with asyncio.timeout(0.02):
        await room.wait()


async def in_a_timeout_of_no_time(room: asyncio.Event) -> None:
    async with asyncio.timeout(0):
        await room.wait()


async def in_a_failing_task_group(room: asyncio.Event) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise OSError("no such wire")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await room.wait()


async def in_a_cancel_scope(room: asyncio.Event) -> None:
    with anyio.fail_after(0.02):
        await room.wait()


async def cancelling_itself(room: asyncio.Event) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


GIVING_UP = [in_a_timeout, in_a_timeout_of_no_time, in_a_failing_task_group, in_a_cancel_scope]


@pytest.mark.parametrize("wrapped", GIVING_UP)
async def test_a_send_that_gives_up_ends_its_own_stream_and_the_others_go_on(
    hub: Hub, wrapped: Callable[[asyncio.Event], Awaitable[None]]
) -> None:
    wire, room = Wire(), asyncio.Event()
    giving_up, other = Stream(hub, lambda message: wrapped(room)), Stream(hub, wire.send)
    await hub.publish("a", "1")
    await until(lambda: giving_up.ended)
    assert giving_up.ended[0][0] is EndReason.ERROR
    giving_up.subscription.close()
    await hub.publish("a", "2")
    await until(lambda: wire.data == ["1", "2"])
    assert other.ended == []


async def test_a_send_that_cancels_its_task_does_not_stop_the_hub(hub: Hub) -> None:
    wire, slow = Wire(), Wire()
    Stream(hub, lambda message: cancelling_itself(wire.room))
    Stream(hub, wire.send)
    Stream(hub, slow.send)
    for number in range(3):
        slow.room.clear()
        await hub.publish("a", str(number))
        await until(lambda number=number: len(wire.data) == number + 1)
        slow.room.set()
    await until(lambda: len(slow.data) == 3)


async def test_a_send_finds_its_own_task_when_it_goes_on_and_can_reset_a_context_variable(hub: Hub) -> None:
    found: list[bool] = []

    async def send(message: Message) -> None:
        task, token = asyncio.current_task(), channel_of_context.set("mine")
        await asyncio.sleep(0)
        channel_of_context.reset(token)
        found.append(asyncio.current_task() is task)

    for _ in range(3):
        Stream(hub, send)
    await hub.publish("a", "1")
    await until(lambda: len(found) == 3)
    assert all(found)
    assert channel_of_context.get() == "nobody's"


async def test_whoever_says_something_is_himself_again_afterwards(hub: Hub) -> None:
    me, seen = asyncio.current_task(), []

    async def send(message: Message) -> None:
        seen.append(asyncio.current_task())

    Stream(hub, send)
    hub.say("a", b"data: 1\n\n")
    assert len(seen) == 1
    assert seen[0] is not me
    assert asyncio.current_task() is me


async def test_a_send_may_say_something_itself(hub: Hub) -> None:
    wire = Wire()

    async def send(message: Message) -> None:
        hub.say("b", b"data: echo\n\n")

    Stream(hub, send)
    hub.subscribe(["b"], wire.send, lambda *why: None).start()
    await hub.publish("a", "1")
    await until(lambda: wire.data == ["echo"])


async def test_a_send_may_say_something_when_it_goes_on(hub: Hub) -> None:
    wire = Wire()

    async def send(message: Message) -> None:
        await asyncio.sleep(0)
        hub.say("b", b"data: echo\n\n")

    stream = Stream(hub, send)
    hub.subscribe(["b"], wire.send, lambda *why: None).start()
    await hub.publish("a", "1")
    await until(lambda: wire.data == ["echo"])
    assert stream.ended == []


async def test_who_fails_when_told_that_his_stream_ended_holds_nobody_up(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(message: Message) -> None:
        raise ConnectionError

    async def taking(message: Message) -> None:
        pass

    def failing(*why: object) -> None:
        raise RuntimeError("his own affair")

    hub.subscribe(["a"], broken, failing).start()
    wire = Wire()
    hub.subscribe(["a"], wire.send, lambda *why: None).start()
    await hub.publish("a", "1")
    await until(lambda: wire.data == ["1"])
    hub.subscribe(["a"], taking, failing).start()
    last = Stream(hub, taking)
    await hub.close()
    assert last.ended == [(EndReason.SHUTDOWN, None)]
    assert len(caplog.records) == 2
