"""What publishers were answered, what customers were told, and what Redis had in the end; and the laws between them."""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from redis_servers import Process

Id = tuple[int, int]
"""(epoch, position): the order of everything."""
KEY = "{sse_fast}:log"


def order(id: str) -> Id:
    epoch, _, position = id.partition("-")
    return int(epoch), int(position)


@dataclass(frozen=True)
class Told:
    """One thing that a customer was told. id: None where it had none."""

    kind: str
    id: Id | None
    data: str


@dataclass
class Customer:
    """All that one customer was told, over all its connections, in its order."""

    channels: tuple[str, ...]
    told: list[Told] = field(default_factory=list)
    cursor: str | None = None
    connections: int = 0

    def take(self, kind: str, id: str, data: str) -> None:
        self.told.append(Told(kind, order(id) if id else None, data))
        if id:
            self.cursor = id

    @property
    def began(self) -> Id | None:
        return next((each.id for each in self.told if each.id is not None), None)

    def got(self) -> Iterator[tuple[Id, str]]:
        return ((each.id, each.data) for each in self.told if each.kind == "message" and each.id is not None)

    @property
    def gaps(self) -> int:
        return sum(each.kind == "$gap" for each in self.told)


@dataclass
class Snapshot:
    """What Redis had at a moment: the events by their ids, (channels, data); and what each epoch's mark says is before
    it."""

    events: dict[Id, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    marks: dict[int, Id | None] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: list[tuple[bytes, list[bytes]]]) -> "Snapshot":
        """Raises AssertionError where one is missing: positions have no holes, and marks say what they follow."""
        snapshot, before = cls(), None
        for raw, (_, _, kind, value) in entries:
            id = order(raw.decode())
            if id[1] == 0:
                assert kind == b"m", (id, kind)
                snapshot.marks[id[0]] = order(value.decode()) if value else None
                assert snapshot.marks[id[0]] == before, f"the mark {id} follows {before} and says {value!r}"
            else:
                assert before == (id[0], id[1] - 1), f"{id} follows {before}"
                snapshot.events[id] = unpacked(value)
            before = id
        return snapshot

    @classmethod
    def taken(cls, redis: Process, and_flush: bool = False) -> "Snapshot":
        """`and_flush`: and empty it in the same moment."""
        commands = [("XRANGE", KEY, "-", "+"), *([("FLUSHALL",)] if and_flush else [])]
        reply = redis.at_once(*commands)[0]
        assert isinstance(reply, list), reply
        return cls.of(reply)


def unpacked(value: bytes) -> tuple[tuple[str, ...], str]:
    """Of a stream's entry: a byte with how many channels, each with its length less one before it; then the frame."""
    names, at = [], 1
    for _ in range(value[0]):
        end = at + value[at] + 2
        names.append(value[at + 1 : end].decode())
        at = end
    lines = value[at:].decode().splitlines()
    return tuple(names), "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))


@dataclass
class Ledger:
    acknowledged: dict[Id, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    """Before each act that empties Redis, and the last: what there is in the end."""
    needless: list[str] = field(default_factory=list)
    """Gaps within an epoch where nothing was missing."""

    def acknowledge(self, id: Id, channels: tuple[str, ...], text: str) -> None:
        assert self.acknowledged.setdefault(id, (channels, text)) == (channels, text), f"{id} was given twice"

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    def lost(self) -> Collection[Id]:
        """What was acknowledged, and Redis has lost."""
        return [id for id in self.acknowledged if id not in self.last.events]

    def check(self, customers: Mapping[str, Customer]) -> None:
        """Raises AssertionError where a law does not hold."""
        everything = self._one_text_each(customers)
        self._none_twice(everything)
        for name, customer in customers.items():
            try:
                self._in_order_and_complete(customer, everything)
            except AssertionError as error:
                error.add_note(f"customer {name} of {', '.join(customer.channels)}")
                raise

    def _one_text_each(self, customers: Mapping[str, Customer]) -> dict[Id, tuple[tuple[str, ...], str]]:
        """An id means the same to everybody; the events that anybody knows of."""
        known = dict(self.acknowledged)
        for snapshot in self.snapshots:
            for id, event in snapshot.events.items():
                assert known.setdefault(id, event) == event, f"{id}: {known[id]} and, in Redis, {event}"
        for name, customer in customers.items():
            for id, text in customer.got():
                if id in known:
                    assert known[id][1] == text, f"{id}: {known[id]} and, told {name}, {text!r}"
                else:  # Redis lost it, and nobody was told that it was taken: of which channel, its text says
                    known[id] = (channels_of(text), text)
        return known

    def _none_twice(self, everything: Mapping[Id, tuple[tuple[str, ...], str]]) -> None:
        """Within an epoch nothing is there twice; nor in Redis, over all its epochs. (What a failover has lost may be
        published again by whoever was not told that it was taken.)"""
        of_epochs = [(id[0], text) for id, (_, text) in everything.items()]
        assert len(set(of_epochs)) == len(of_epochs), f"in an epoch twice: {twice(of_epochs)}"
        for snapshot in self.snapshots:
            texts = [text for _, text in snapshot.events.values()]
            assert len(set(texts)) == len(texts), f"in Redis twice: {twice(texts)}"

    def _in_order_and_complete(self, customer: Customer, everything: Mapping[Id, tuple[tuple[str, ...], str]]) -> None:
        began = customer.began
        if began is None:
            return
        mine = sorted(id for id, (channels, _) in everything.items() if set(channels) & set(customer.channels))
        got = {id for id, _ in customer.got()}
        before, gap = began, False
        pasts = [[id for id in mine if id in snapshot.events] for snapshot in self.snapshots]
        past_of = {id: past for past in pasts for id in past}
        for place, told in enumerate(customer.told):
            if told.kind == "$gap":
                gap = True
            elif told.kind == "message":
                assert told.id is not None
                where = Where(customer, place, before)
                assert before < told.id, f"not in order: {where}"
                assert gap or before[0] == told.id[0], f"another epoch without a gap: {where}"
                missing = mine[bisect_right(mine, before) : bisect_left(mine, told.id)]
                assert gap or not missing, f"missing without a gap, {missing[:3]}: {where}"
                if gap and not missing and before[0] == told.id[0]:
                    self.needless.append(str(where))
                past = past_of.get(told.id, [])
                kept = [id for id in past[bisect_right(past, before) : bisect_left(past, told.id)] if id not in got]
                assert not kept, f"Redis had {kept[:3]}: {where}"
                before, gap = told.id, False
        kept = [id for id in pasts[-1] if id > began and id not in got]
        # Who has gone on in an epoch that was given up is not told what the one before it had beside that.
        given_up = max((id for id in got if id[0] not in self.last.marks), default=began)
        kept = [id for id in kept if id > given_up]
        assert not kept, f"Redis has {len(kept)} that were not told, from {kept[0]} on: {beside(customer, kept[0])}"


@dataclass
class Where:
    """For who has to find out what went wrong."""

    customer: Customer
    place: int
    before: Id

    def __str__(self) -> str:
        return f"{self.customer.told[self.place].id} after {self.before}: {about(self.customer, self.place)}"


def about(customer: Customer, place: int) -> list[Told]:
    return customer.told[max(0, place - 12) : place + 4]


def beside(customer: Customer, id: Id) -> list[Told]:
    """What a customer was told where an event had its place."""
    after = (at for at, each in enumerate(customer.told) if each.id is not None and each.id > id)
    return about(customer, next(after, len(customer.told)))


def channels_of(text: str) -> tuple[str, ...]:
    """Each text says where it is published."""
    return tuple(json.loads(text)["to"])


def twice(texts: object) -> list[object]:
    return [text for text, count in Counter(texts).items() if count > 1][:3]  # type: ignore[call-overload]
