"""An edge that events of an outbox are published to, over HTTP."""

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from time import monotonic

import httpx
import orjson

from sse_fast._native.wire.event_parser import EventParser
from sse_fast.client.failures import (
    AS_IT_IS,
    Refused,
    Stopped,
    Unavailable,
    check_encoding,
    explain,
    failure_of,
    is_no_http,
    mistrust_of,
)
from sse_fast.client.listener import open_stream
from sse_fast.errors import EventTooLarge
from sse_fast.outbox.mark import ASKING, BATCH, MARKS, Mark
from sse_fast.outbox.queue import Row
from sse_fast.outbox.target import Failing, NoMarks, Rejected

# What an edge says of the events themselves. That of another one may be taken; this one never will be.
OF_THE_EVENTS = {400, 403, 413, 422}
AWAY = {502, 503, 504}  # of the edge, or of a proxy before one that is not there
ASKING_SECONDS = 10.0


class EdgeTarget:
    """client: one of this target alone, with the edge's address and a credential. marks: the channel of the marks."""

    def __init__(self, client: httpx.Client, marks: str) -> None:
        self._client = client
        self._marks = marks
        self._accepted = False  # anything at all

    @property
    def name(self) -> str:
        return str(self._client.base_url).rstrip("/")

    async def publish(self, rows: Sequence[Row], mark: Mark | None) -> int:
        events = [event_of(row) for row in rows]
        if mark is not None:
            events.append({"channel": self._marks, "event": BATCH, "data": mark.data, "key": mark.key})
        try:
            return await self._post(events)
        except Rejected as error:
            if len(rows) > 1:
                raise
            # Nobody sees the request whose line 1 it is.
            why = str(error).removeprefix("line 1: ").replace("line 1 has", "the event has", 1)
            raise Rejected(why, error.status) from None

    async def newest_mark(self) -> Mark | None:
        asking = token_hex(16)
        try:
            await self._post_sound([{"channel": self._marks, "event": ASKING, "data": asking, "key": asking}])
        except (Refused, Rejected) as error:
            if error.status == 403:
                raise NoMarks(str(error)) from None
            raise Refused(str(error), error.status) from None
        try:
            return await asyncio.to_thread(self._read_up_to, asking)
        except Refused as error:
            raise NoMarks(str(error)) from None

    async def probe(self) -> None:
        await self._post_sound([])

    async def close(self) -> None:
        self._client.close()

    async def _post_sound(self, events: list[dict[str, object]]) -> None:
        """Events with which there is nothing wrong."""
        try:
            await self._post(events)
        except Failing as error:
            raise Unavailable(str(error), error.retry_after) from None

    async def _post(self, events: list[dict[str, object]]) -> int:
        """How many of them had been published before."""
        lines = b"\n".join(map(orjson.dumps, events))
        return await asyncio.to_thread(self._posted, lines)

    def _posted(self, lines: bytes) -> int:
        headers = {"Content-Type": "application/x-ndjson", **AS_IT_IS}
        try:
            with self._client.stream("POST", "/publish", content=lines, headers=headers) as response:
                if not response.is_success:
                    raise self._meant(failure_of(response), response.status_code)
                check_encoding(response)
                repeated = int(orjson.loads(response.read()).get("repeated", 0))
                self._accepted = True
                return repeated
        except httpx.TransportError as error:
            raise self._broken(error) from error
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            raise Refused(f"{self.name} answers something else than an edge does: another server?") from None

    def _meant(self, failure: Refused | Unavailable, status: int) -> Exception:
        if isinstance(failure, Unavailable):
            fails = status >= 500 and status not in AWAY
            return Failing(str(failure), failure.retry_after) if fails else failure
        if failure.status not in OF_THE_EVENTS:
            return failure
        if failure.status == 403 and not self._accepted:  # nobody may, or not by this credential
            return failure
        return Rejected(str(failure), failure.status)

    def _read_up_to(self, asking: str) -> Mark | None:
        """The newest mark before that event, which is in the log."""
        try:
            return self._read(asking, {"history": str(MARKS)})
        except Refused as error:
            if error.status != 400:
                raise
        return self._read(asking, {"last_event_id": "earliest"})  # an edge with a lower --max-history

    def _read(self, asking: str, first: dict[str, str]) -> Mark | None:
        newest: Mark | None = None
        deadline = monotonic() + ASKING_SECONDS
        query = {"channel": self._marks, **first}
        try:
            with open_stream(self._client, "/sse", params=query, headers=AS_IT_IS) as response:
                parser = EventParser()
                for piece in response.iter_bytes():
                    for event in parser.feed(piece):
                        if event.event == ASKING and event.data == asking:
                            return newest
                        if event.event == BATCH:
                            newest = Mark.read(event.data) or newest
                    if monotonic() > deadline:
                        break
        except httpx.TransportError as error:
            raise self._broken(error) from error
        except (Stopped, EventTooLarge) as error:
            raise Refused(f"{self.name}: the marks in {self._marks} can't be read: {error}") from None
        raise Unavailable(f"{self.name} did not send the newest event of {self._marks}")

    def _broken(self, error: httpx.TransportError) -> Refused | Unavailable:
        said = explain(error, self._client)
        lasting = mistrust_of(error) or is_no_http(error) or isinstance(error, httpx.UnsupportedProtocol)
        return Refused(said) if lasting else Unavailable(said)


def event_of(row: Row) -> dict[str, object]:
    where: dict[str, object] = {"channels": row.channels} if row.also else {"channel": row.channel}
    event = {} if row.event is None else {"event": row.event}
    return {**where, **event, "data": row.data, "key": row.key}
