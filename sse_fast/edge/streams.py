"""The streams of a node, over all its workers: which are open, and the end of some of them. A stream's name is
`<worker's slot>-<number>`.

Each worker looks through its own, so many a turn of its loop (`hub.open_streams`); who is asked asks the others.
"""

import asyncio
import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sse_fast._native.fanout.groups import Subscriber
from sse_fast.errors import EndReason, InvalidEvent, Silent
from sse_fast.event_rules import brief, channel_name
from sse_fast.hub.control import Control
from sse_fast.hub.hub import Hub
from sse_fast.hub.open_streams import STREAMS_AT_ONCE
from sse_fast.transports.life import Transport

ID = re.compile(r"([0-9]{1,4})-([0-9]{1,16})")
PLACE = re.compile(r"([0-9]{1,4})\.([0-9]{1,18})")
FILTERS = ("channel", "user", "address")


class Listed(NamedTuple):
    """next: where to go on, if there are more: what `before` is then. silent: the pids of workers that do not
    answer."""

    streams: list[dict[str, Any]]
    next: str | None
    silent: list[int]


class NodeStreams:
    """Of the node of `control`, one of whose hubs this is."""

    def __init__(self, hub: Hub, control: Control) -> None:
        self._hub, self._control = hub, control

    def answer_others(self) -> None:
        """What other workers ask of this one."""
        self._control.on("streams", self._page)
        self._control.on("parked streams", self._parked)
        self._control.on("end streams", self._end)

    async def open(self, limit: int, before: str | None, **which: str) -> Listed:
        """At most `limit` of them, worker by worker. One may be listed twice, where others end meanwhile. Raises
        InvalidEvent for a `before` that was never said."""
        slot, place = place_of(before)
        found: list[dict[str, Any]] = []
        silent: list[int] = []
        for worker in self._control.workers:
            if worker < slot:
                continue
            try:
                streams, place = await self._control.ask(
                    worker, "streams", limit=limit - len(found), before=place if worker == slot else 0, **which
                )
            except LookupError:
                continue  # it has just ended, and its streams with it
            except Silent as error:
                silent.append(error.pid)
                continue
            found += streams
            if place or len(found) == limit:
                return Listed(found, f"{worker}.{place}" if place else f"{worker + 1}.0", silent)
        return Listed(found, None, silent)

    async def parked(self, limit: int) -> Listed:
        """At most `limit` of those that wait until their client reads again, who have waited longest first."""
        answers = await self._control.ask_all("parked streams", limit=limit)
        found = [stream for told in answers.told for stream in told.answer]
        found.sort(key=lambda stream: stream["parked_since"] or math.inf)
        return Listed(found[:limit], None, answers.silent)

    async def end(self, name: str) -> bool:
        """End one; False: there is none of this name. Raises InvalidEvent or Silent."""
        named = ID.fullmatch(name)
        if named is None:
            raise InvalidEvent(f"a stream's id is as /streams says it, such as 0-1764000000000001, not {brief(name)}")
        try:
            return bool(await self._control.ask(int(named[1]), "end streams", number=int(named[2])))
        except LookupError:
            return False

    async def end_all(self, **which: str) -> int:
        """End those of a user, an address, a channel; how many. Raises Silent: some may have ended, and the others have
        not."""
        answers = await self._control.ask_all("end streams", **which)
        ended: int = sum(told.answer for told in answers.told)
        if answers.silent:
            pids = ", ".join(map(str, answers.silent))
            raise Silent(f"{ended} streams were ended, but worker {pids} of this server does not answer; try again")
        return ended

    # ---- of this worker ----------------------------------------------------------------------------------------------

    async def _page(self, about: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        found, place = await self._hub.open_streams.page(**about)
        return [self._seen(subscriber) for subscriber in found], place

    def _parked(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [self._seen(stream) for stream in self._hub.fanout.parked(about["limit"], STREAMS_AT_ONCE)]

    async def _end(self, about: Mapping[str, Any]) -> int:
        return await self._hub.open_streams.end(EndReason.OPERATOR, **about)

    def _seen(self, subscriber: Subscriber) -> dict[str, Any]:
        now = time.time()
        since = None
        if subscriber.parked:
            before = subscriber.timeouts * self._hub.send_timeout  # each begins its time anew
            since = round(now - asyncio.get_running_loop().time() + subscriber.touched - before, 3)
        return {
            "id": f"{self._control.slot}-{subscriber.number}",
            "channels": [name.decode() for name in subscriber.channels],
            "patterns": [pattern.decode() for pattern in subscriber.patterns],
            "user": subscriber.user,
            "address": subscriber.address,
            "transport": (Transport.NATIVE if subscriber.native else Transport.ASGI).value,
            "age": round(now - subscriber.opened, 3),
            "until": subscriber.until,
            "envelope": subscriber.enveloped,
            "lag": self._hub.fanout.lag(subscriber),
            "parked_since": since,
        }


def which_of(options: Mapping[str, str]) -> dict[str, str]:
    """The filters among a query's options. Raises InvalidEvent."""
    which = {name: options[name] for name in FILTERS if name in options}
    if "channel" in which:
        channel_name(which["channel"])
    return which


def place_of(before: str | None) -> tuple[int, int]:
    """Of which worker, and where there. Raises InvalidEvent."""
    if before is None:
        return 0, 0
    place = PLACE.fullmatch(before)
    if place is None:
        raise InvalidEvent(f"'before' is what 'next' said in the answer before, not {brief(before)}")
    return int(place[1]), int(place[2])
