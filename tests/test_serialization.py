"""One serializer at every entrance: each takes the same values, and refuses the others by type and place."""

import asyncio
import json
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import msgspec
import numpy
import orjson
import pydantic
import pytest
from whatwg import Parser

from sse_fast import Event, EventSourceResponse, Hub, InvalidEvent, SSEWriter, encode
from sse_fast._native.wire.publication import from_json_object
from sse_fast.client.publisher import Publisher
from sse_fast.embed import items
from sse_fast.serialization import json_of
from sse_fast.testing import EventClient


class Model(pydantic.BaseModel):
    name: str
    price: Decimal = Decimal("12.50")
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


class Struct(msgspec.Struct, rename="camel"):
    unit_price: Decimal


class Measured(pydantic.BaseModel):
    x: float = 0.5
    within: Any = None
    typed: list[dict[str, float]] = []


class Constants(Measured, ser_json_inf_nan="constants"):
    pass


class Strings(Measured, ser_json_inf_nan="strings"):
    pass


class Nulls(Measured, ser_json_inf_nan="null"):
    pass


class MeasuredStruct(msgspec.Struct):
    x: float
    within: Any = None


@dataclass
class Order:
    lines: list[Any]
    price: Decimal = Decimal("0.10")
    _cached: object = field(default_factory=object)


@dataclass(slots=True)
class Slotted:
    price: Any


class State(Enum):
    PAID = Decimal("1.0")
    OPEN = "open"


class Name(StrEnum):
    A = "a"


class Level(IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    x: int
    y: Any


class Weird:
    pass


PLAIN = {"a": [1, None, True, 1.5, "full"]}
VALUES: list[tuple[Any, Any]] = [
    (PLAIN, PLAIN),
    (Model(name="tea"), {"name": "tea", "price": "12.50", "at": "2026-01-02T00:00:00Z"}),
    ([Model(name="tea", price=Decimal(1))], [{"name": "tea", "price": "1", "at": "2026-01-02T00:00:00Z"}]),
    (Struct(Decimal("1.10")), {"unitPrice": "1.10"}),
    (Measured(within="null NaN"), {"x": 0.5, "within": "null NaN", "typed": []}),
    ([Strings(x=float("nan"))], [{"x": "NaN", "within": None, "typed": []}]),
    (Nulls(x=float("nan")), {"x": None, "within": None, "typed": []}),
    (Measured(within=float("nan")), {"x": 0.5, "within": None, "typed": []}),  # of Any pydantic makes that by itself
    (MeasuredStruct(x=0.5), {"x": 0.5, "within": None}),
    (Order([Pair(1, {2})]), {"lines": [[1, [2]]], "price": "0.10"}),
    (Slotted(Slotted(None)), {"price": {"price": None}}),
    ({"price": Decimal("1.10"), "full": Decimal("1E+2")}, {"price": "1.10", "full": "1E+2"}),
    (
        {7: "a", 2.5: "b", None: "c", True: "d", Name.A: "e", Decimal("0.10"): "f"},
        {"7": "a", "2.5": "b", "null": "c", "true": "d", "a": "e", "0.10": "f"},
    ),
    (
        {date(2026, 1, 2): {UUID(int=1): time(1, 2)}},
        {"2026-01-02": {"00000000-0000-0000-0000-000000000001": "01:02:00"}},
    ),
    ({State.PAID, State.OPEN} - {State.OPEN}, ["1.0"]),
    ([State.OPEN, Name.A, Level.HIGH], ["open", "a", 3]),
    (deque([frozenset([1]), MappingProxyType({"a": OrderedDict(b=1)})]), [[1], {"a": {"b": 1}}]),
    (2**64, 2**64),
    ([-(2**70), {"n": 10**40}], [-(2**70), {"n": 10**40}]),
    (numpy.array([[1.5, 2], [3, 4]]), [[1.5, 2], [3, 4]]),
    ({"n": numpy.int64(7), "f": numpy.float32(0.5), "b": numpy.bool_(True)}, {"n": 7, "f": 0.5, "b": True}),
    (orjson.Fragment('{"a":\n1}'), {"a": 1}),
]

REFUSED: list[tuple[Any, str]] = [
    (Weird(), r"data: a test_serialization\.Weird cannot be sent as JSON"),
    ({"items": [0, 1, 2, {"price": Weird()}]}, r"data\.items\[3\]\.price: a test_serialization\.Weird cannot"),
    (Order([{Weird}]), r"data\.lines\[0\]\[0\]: a type cannot .* an instance of it was meant\?"),
    ({"a b": 1j}, r"data\['a b'\]: a complex cannot"),
    ({"raw": b"x"}, r"data\.raw: a bytes cannot .*; decode it to str first"),
    (bytearray(b"x"), "data: a bytearray cannot .*; decode it to str first"),
    ([iter([1])], r"data\[0\]: a list_iterator cannot .*; make a list of it"),
    ({(1, 2): 3}, r"data\[\(1, 2\)\]: a key becomes a string, and a tuple has no form for that"),
    ({1: "a", "1": "b"}, r"data\['1'\]: two keys become '1'"),
    ({"x": float("nan")}, r"data\.x: nan is no JSON number"),
    (Decimal("NaN"), r"data: Decimal\('NaN'\) has no digits; send null or a string"),
    ({"x": [Decimal("-Infinity")]}, r"data\.x\[0\]: Decimal\('-Infinity'\) has no digits"),
    ({"x": Decimal("sNaN")}, r"data\.x: Decimal\('sNaN'\) has no digits"),
    (Slotted([float("inf")]), r"data\.price\[0\]: inf is no JSON number"),
    ([numpy.float64("-inf")], r"data\[0\]: -inf is no JSON number"),
    ({float("nan"): 1}, r"data\[nan\]: nan is no JSON number"),
    (numpy.array([1j]), r"data: a numpy\.ndarray cannot"),
    ({"t": time(1, tzinfo=UTC)}, r"data\.t: .*tzinfo"),
    ([10**5000], r"data\[0\]: the int is too large"),
    (Model.model_construct(name=Weird()), "data: a test_serialization.Model did not become JSON: .*Weird"),
    (Struct(Weird()), r"data: a test_serialization\.Struct did not become JSON: .*Weird"),  # type: ignore[arg-type]
]
REFUSED += [
    (object.__new__(Slotted), r"data: a test_serialization\.Slotted is not whole: .*price"),
    ({"of": [object.__new__(Slotted)]}, r"data\.of\[0\]: a test_serialization\.Slotted is not whole: .*price"),
    (Measured(x=float("nan")), r"data\.x: nan is no JSON number"),
    ([Measured(typed=[{}, {"a": float("-inf")}])], r"data\[0\]\.typed\[1\]\.a: -inf is no JSON number"),
    (Constants(x=float("nan")), r"data: a test_serialization\.Constants did not become JSON"),
    (MeasuredStruct(x=float("inf")), r"data\.x: inf is no JSON number"),
]
ring: list[Any] = []
ring.append(ring)
REFUSED.append((ring, "data nests more than 254 deep, or holds itself"))


def data_of(frame: bytes | bytearray) -> str:
    [event] = [event for event in Parser().feed(bytes(frame)) if event.type == "message"]
    return event.data


async def sent_by(entrance: str, data: Any) -> str:
    """The data that a client gets; or what the entrance raises."""
    match entrance:
        case "encode":
            return data_of(encode(data))
        case "Event":
            return data_of(Event(data).encode())
        case "publish" | "publish_threadsafe":
            async with Hub(log_size=65536) as hub:
                if entrance == "publish":
                    await hub.publish("c", data)
                else:
                    await asyncio.wrap_future(hub.publish_threadsafe("c", data))
                [record] = hub.log.records()
                return data_of(record.frame)
        case "yielded" | "yielded as a field":
            item = {"data": data} if entrance == "yielded as a field" else Event(data)
            return data_of(items.frame(item))
        case "SSEWriter":
            written: list[bytes] = []

            async def send(message: Any) -> None:
                written.append(message.get("body", b""))

            scope = {"type": "http", "method": "GET", "path": "/"}
            async with SSEWriter(scope, asyncio.Event().wait, send) as sse:  # type: ignore[arg-type]
                await sse.send(data)
            return data_of(b"".join(written))
        case "Publisher":
            bodies: list[bytes] = []

            def answer(request: httpx.Request) -> httpx.Response:
                bodies.append(request.content)
                return httpx.Response(200, json={"id": "1"})

            with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://test") as client:
                Publisher(client, "c").json(data)
            return data_of(from_json_object(bodies[0], 65536)[1])
    raise AssertionError(entrance)


ENTRANCES = [
    "encode",
    "Event",
    "publish",
    "publish_threadsafe",
    "yielded",
    "yielded as a field",
    "SSEWriter",
    "Publisher",
]


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(("value", "said"), VALUES)
async def test_every_entrance_takes_the_same_values(entrance: str, value: Any, said: Any) -> None:
    assert json.loads(await sent_by(entrance, value)) == said


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(("value", "why"), REFUSED)
async def test_every_entrance_refuses_the_others_by_type_and_place(entrance: str, value: Any, why: str) -> None:
    with pytest.raises(InvalidEvent, match=f"^{why}" if entrance != "Publisher" else why):
        await sent_by(entrance, value)


async def test_a_stream_whose_content_cannot_be_sent_says_where_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = EventSourceResponse([{"data": {"items": [1, Weird()]}}])
    async with EventClient(app, lifespan=False) as client, client.stream("/") as stream:
        assert [event.event for event in await stream.rest()] == ["error"]
    assert "data.items[1]: a test_serialization.Weird cannot be sent as JSON" in caplog.text


@pytest.mark.parametrize("value", [value for value, _ in VALUES if not isinstance(value, orjson.Fragment)])
def test_what_orjson_writes_by_itself_is_what_the_serializer_writes(value: Any) -> None:
    try:
        by_itself = orjson.dumps(value)
    except TypeError:
        return
    assert json_of(value) == by_itself


def test_a_dataclass_has_the_slots_of_its_base_too() -> None:
    @dataclass
    class Named(Slotted):
        name: str

    assert json.loads(data_of(encode([Named(1.5, "tea")]))) == [{"price": 1.5, "name": "tea"}]  # orjson drops the price


def test_what_writes_itself_cannot_end_the_event() -> None:
    evil = orjson.Fragment("1\n\nevent: $closing\rdata: {}\n\n")
    [event] = Parser().feed(encode({"a": evil}))
    assert event.type == "message"
    with pytest.raises(InvalidEvent, match=r"data is not valid UTF-8: .* at byte 6"):
        encode({"a": orjson.Fragment(b'"\xff"')})
