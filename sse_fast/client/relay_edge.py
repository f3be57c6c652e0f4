"""An edge that a relay publishes to, over HTTP."""

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from typing import NamedTuple

import httpx
import orjson

from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.publication import encode_publication
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
    read_of,
)
from sse_fast.client.publication import in_quotes
from sse_fast.client.relay_mark import ASKING, MARK, MARKS, Mark, Rejected, Superseded, channel_of
from sse_fast.client.relay_source import check
from sse_fast.errors import EventTooLarge

ASKING_SECONDS = 10.0
LARGEST = 16 * 1024 * 1024
"""Bytes of an encoded event that are sent. What the edge takes is its own affair: 64 KiB, if it says nothing else."""


class Prepared(NamedTuple):
    line: bytes


class EdgeTarget:
    """client: one of this target alone, with the edge's address and a credential. name: of the relay."""

    def __init__(self, client: httpx.AsyncClient, channel: str, name: str) -> None:
        self.name = str(client.base_url).rstrip("/")
        self._client = client
        self._channel = channel
        self._marks = channel_of(name)

    async def lead(self) -> bool:
        return True  # the marks tell

    def prepare(self, data: object, event: str | None) -> Prepared:
        _, frame = encode_publication(self._channel, data, event=event, limit=LARGEST)
        (written,) = EventParser(max_event_size=LARGEST).feed(frame)
        return Prepared(line_of(self._channel, written.data, written.event))

    async def publish(self, prepared: Sequence[object], mark: Mark, key: str) -> Sequence[str]:
        lines = [each.line for each in prepared if isinstance(each, Prepared)]
        try:
            ids = await self._post([*lines, line_of(self._marks, mark.data, MARK)], key)
        except Refused as error:
            if error.status == 422:
                raise Superseded(str(error)) from None
            if error.status in (400, 413):
                raise Rejected(str(error)) from None
            raise
        return ids[:-1]

    async def newest_mark(self) -> Mark | None:
        asking = token_hex(16)
        try:
            await self._post([line_of(self._marks, asking, ASKING)], asking)
            async with asyncio.timeout(ASKING_SECONDS):
                return await self._read_up_to(asking)
        except TimeoutError:
            raise Unavailable(f"{self.name} did not send the newest event of {self._marks}") from None
        except httpx.TransportError as error:
            raise self._broken(error) from error
        except (Stopped, EventTooLarge) as error:
            raise Refused(f"{self.name}: the marks in {self._marks} can't be read: {error}") from None
        except Refused as error:
            if error.status != 403:
                raise
            raise Refused(
                f"{error}; a relay publishes, and listens, to its own channel {self._marks} as well, where it says how "
                "far it has got",
                403,
            ) from None

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, lines: list[bytes], key: str) -> list[str]:
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": in_quotes(key), **AS_IT_IS}
        try:
            async with self._client.stream("POST", "/publish", content=b"\n".join(lines), headers=headers) as response:
                if not response.is_success:
                    raise failure_of(await read_of(response))
                check_encoding(response)
                return [str(id) for id in orjson.loads(await response.aread())["ids"]]
        except httpx.TransportError as error:
            raise self._broken(error) from error
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise Refused(f"{self.name} answers something else than an edge does: another server?") from None

    async def _read_up_to(self, asking: str) -> Mark | None:
        """The newest mark before that event, which is in the log."""
        try:
            return await self._read(asking, {"history": str(MARKS)})
        except Refused as error:
            if error.status != 400:
                raise
        return await self._read(asking, {"last_event_id": "earliest"})  # an edge with a lower --max-history

    async def _read(self, asking: str, first: dict[str, str]) -> Mark | None:
        newest: Mark | None = None
        query = {"channel": self._marks, **first}
        headers = {"Accept": "text/event-stream", **AS_IT_IS}
        async with self._client.stream("GET", "/sse", params=query, headers=headers) as response:
            await check(response)
            parser = EventParser()
            async for piece in response.aiter_raw():
                for event in parser.feed(piece):
                    if event.event == ASKING and event.data == asking:
                        return newest
                    if event.event == MARK:
                        newest = Mark.read(event.data) or newest
        raise Unavailable(f"{self.name} did not send the newest event of {self._marks}")

    def _broken(self, error: httpx.TransportError) -> Refused | Unavailable:
        said = explain(error, self._client)
        lasting = mistrust_of(error) or is_no_http(error) or isinstance(error, httpx.UnsupportedProtocol)
        return Refused(said) if lasting else Unavailable(said)


def line_of(channel: str, data: str, event: str) -> bytes:
    named = {} if event == "message" else {"event": event}
    return orjson.dumps({"channel": channel, **named, "data": data})
