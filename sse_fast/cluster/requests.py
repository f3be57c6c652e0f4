"""What is handed in to be published, as the engine's function takes it, and what the function's answers mean."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from sse_fast.cluster.entries import id_of, pack
from sse_fast.errors import KeyReused
from sse_fast.event import EventId, EventIds
from sse_fast.event_rules import Encoded, idempotency_key

Keys = str | Mapping[int, str]
"""The key of a whole batch, or by their places the keys of those of its events that have one."""

DIGEST = 16
SHARE = 8  # of what the engine keeps a batch may be a part: one of so many
AT_ONCE = 512 * 1024  # bytes that are packed and hashed before others have their turn, or
EVENTS_AT_ONCE = 512


class Published(NamedTuple):
    """The ids of all events, those of earlier times included, and how many those are."""

    ids: Sequence[EventId]
    repeated: int


class Request:
    """Events that are published together or not at all."""

    __slots__ = ("_copies", "arguments", "count", "counted", "kind", "places", "size")

    def __init__(self, kind: str, arguments: list[bytes], count: int, size: int) -> None:
        self.kind = kind  # as in functions.lua
        self.arguments = arguments
        self.count = count
        self.size = size
        self.counted: Callable[[], None] | None = None  # called when it is published, before who waits is told
        self.places: list[int] = []  # of `k`: of the events that go there
        self._copies: dict[int, int] = {}  # and of the others: whose key and event they have, too

    def answered(self, epoch: str, answer: Any, offset: int = 0) -> Published:
        """`offset`: events of others before these, under the same answer. Raises KeyReused."""
        if self.kind != "k":
            if answer == -1:
                raise KeyReused.at(None)
            if isinstance(answer, bytes):
                epoch, first = id_of(answer)
                return Published(EventIds(epoch, range(first, first + self.count)), self.count)
            first = answer + offset
            if self.count == 1:
                return Published([EventId(epoch, first)], 0)
            return Published(EventIds(epoch, range(first, first + self.count)), 0)
        if isinstance(answer, int):
            raise KeyReused.at(self.places[-1 - answer])
        ids: list[EventId] = [EventId("", 0)] * (len(self.places) + len(self._copies))
        repeated = len(self._copies)
        for place, each in zip(self.places, answer, strict=True):
            if isinstance(each, bytes):
                ids[place] = id_of(each)
                repeated += 1
            else:
                ids[place] = EventId(epoch, each)
        for place, first in self._copies.items():
            ids[place] = ids[first]
        return Published(ids, repeated)

    def keyed(self, packed: Sequence[bytes], keys: Mapping[int, str]) -> None:
        firsts: dict[bytes, tuple[int, bytes]] = {}
        for place, event in enumerate(packed):
            both = b""
            if (key := keys.get(place)) is not None:
                digest, body = of_key(key), digest_of(event)
                first, other = firsts.setdefault(digest, (place, body))
                if other != body:
                    raise KeyReused.at(place, first)
                if first != place:
                    self._copies[place] = first
                    continue
                both = digest + body
            self.places.append(place)
            self.arguments += both, event
        self.count = len(self.places)


def of_key(key: str) -> bytes:
    return blake2b(idempotency_key(key).encode(), digest_size=DIGEST).digest()


def digest_of(packed: bytes) -> bytes:
    return blake2b(packed, digest_size=DIGEST).digest()


def digest_of_all(packed: Sequence[bytes]) -> bytes:
    body = blake2b(digest_size=DIGEST)
    for each in packed:
        body.update(b"%d:" % len(each))
        body.update(each)
    return body.digest()


def request(events: Sequence[Encoded], keys: Keys | None = None) -> Request:
    """Raises InvalidEvent for what is no key, KeyReused for one of two events."""
    return of_packed([pack(event) for event in events], keys)


async def request_in_turns(events: Sequence[Encoded], keys: Keys | None = None) -> Request:
    """`request`, giving the loop back in between."""
    packed, done = [], 0
    for number, event in enumerate(events, 1):
        packed.append(pack(event))
        done += len(event[1])
        if done > AT_ONCE or number % EVENTS_AT_ONCE == 0:
            done = 0
            await asyncio.sleep(0)
    return of_packed(packed, keys)


def of_packed(packed: list[bytes], keys: Keys | None) -> Request:
    size = sum(map(len, packed))
    if keys is None:
        return Request("e", packed, len(packed), size)
    if isinstance(keys, str):
        return Request("b", [of_key(keys) + digest_of_all(packed), *packed], len(packed), size)
    made = Request("k", [], len(packed), size)
    made.keyed(packed, keys)
    return made


def forgetting(channel: bytes, body: bytes) -> Request:
    packed = pack((channel, body))
    return Request("f", [packed], 1, len(packed))


def arguments_of(requests: Sequence[Request]) -> list[bytes]:
    """Of one call. Those without keys, which nothing can refuse, go as one."""
    arguments: list[bytes] = []
    at = 0
    while at < len(requests):
        each = requests[at]
        end, count = at + 1, each.count
        if each.kind == "e":
            while end < len(requests) and requests[end].kind == "e":
                count += requests[end].count
                end += 1
        arguments.append(f"{each.kind}{count}".encode())
        for one in requests[at:end]:
            arguments += one.arguments
        at = end
    return arguments


def answers_of(requests: Sequence[Request], reply: Sequence[Any]) -> list[Published | KeyReused]:
    epoch = reply[0].decode()
    found: list[Published | KeyReused] = []
    group, offset, before = 0, 0, ""
    for each in requests:
        if each.kind == "e" and before == "e":
            pass
        else:
            group, offset = group + 1, 0
        try:
            found.append(each.answered(epoch, reply[group], offset))
        except KeyReused as error:
            found.append(error)
        offset, before = offset + each.count, each.kind
    return found
