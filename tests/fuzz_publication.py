"""What strangers publish, and what an app encodes: mutated JSON, NDJSON and raw bodies, and values of all kinds.

    scripts/sanitized tests/fuzz_publication.py --seconds 600 [--seed N]

What is taken is held against Python's own JSON parser and the event-stream oracle; all else must be an InvalidEvent.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fuzzing import fuzz
from whatwg import Parser

from sse_fast import InvalidEvent, encode
from sse_fast._native.wire.envelope import envelope
from sse_fast._native.wire.publication import encode_publication, from_json_array, from_json_object, from_ndjson

LIMIT = 20_000
TOKENS = rb"""" \ { } [ ] , : 0 - 1e5 "data" "d\u0061ta" "channel":"c" \ud800 \" \\" null [[[[""".split()
TOKENS += [b" ", b"\n", b"\r\n", b"\t", b"\0", b"\xff", "☃".encode()]
TEXTS = ["", "x", "two\nlines", "cr\rcrlf\r\n", "é ☃ \U0001f600", "\x00\x0b\x85\u2028", ":", " data: y", "y" * 300]
SPACES = ("", "", "", " ", "\t", " \r\n ")


def text(rng: random.Random) -> str:
    return "".join(rng.choices(TEXTS, k=rng.choice((0, 1, 1, 2, 5)))) + "\ud800" * (rng.random() < 0.02)


def value(rng: random.Random, depth: int = 0) -> Any:
    match rng.randrange(4 if depth > 4 else 7):
        case 0 | 1:
            return text(rng)
        case 2:
            return rng.choice((None, True, False, 0, -1, 2**63, 10**40, 0.5, -1e300))
        case 3:
            return rng.getrandbits(rng.choice((3, 31, 64)))
        case 4 | 5:
            return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
        case _:
            return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(5))}


def spelled(rng: random.Random, made: Any) -> str:
    """The value as JSON, with white space wherever it may stand but no line end, so that NDJSON takes it, too."""
    put = rng.choice(SPACES[:5])
    if isinstance(made, list):
        return f"[{put}{f',{put}'.join(spelled(rng, item) for item in made)}]"
    if isinstance(made, dict):
        return (
            "{"
            + put
            + f"{put},".join(f"{json.dumps(name)}{put}:{put}{spelled(rng, made[name])}" for name in made)
            + "}"
        )
    return json.dumps(made, ensure_ascii=rng.random() < 0.7 or "\ud800" in str(made))


def event(rng: random.Random) -> str:
    names = [rng.choice(("c", "room:1", "é", text(rng))) for _ in range(rng.choice((1, 1, 2, 16)))]
    made: dict[str, Any] = {"channel": names[0]} if rng.random() < 0.7 else {"channels": names}
    made["data"] = value(rng)
    if rng.random() < 0.3:
        made["event"] = rng.choice(("tick", text(rng), None))
    if rng.random() < 0.2:
        made["retry"] = rng.choice((0, 1000, 10**9, None))
    return spelled(rng, dict(rng.sample(list(made.items()), len(made))))


def mutated(raw: bytes, rng: random.Random) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 3))):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(5):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                del made[at : at + rng.choice((1, 1, 5, 50))]
            case 2:
                made[at:at] = rng.choice(TOKENS)
            case 3:
                made[at:at] = made[at : at + rng.randrange(80)] * rng.choice((1, 1, 300))
            case _:
                del made[at:]
    return bytes(made)


def received(frame: bytes) -> str:
    [event] = Parser().feed(frame)
    return event.data


def with_lf(text: str) -> str:
    """As a parser hands it on."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def as_text(data: Any) -> Any:
    """JSON with each number as its digits."""
    exactly: dict[str, Any] = {"parse_int": lambda digits: ("number", digits), "parse_float": lambda d: ("number", d)}
    return json.loads(data, **exactly)


def check(frame: bytes, source: bytes) -> None:
    """The frame says what Python's own parser finds in the object."""
    data = as_text(source)["data"]
    if isinstance(data, str):
        assert received(frame) == with_lf(data), source
    else:
        assert as_text(received(frame)) == data, source


def check_envelope(encoded: Any, rng: random.Random) -> None:
    """What is in the envelope is the event; and bytes that are no frame harm nobody."""
    names, frame = encoded
    channels = names if isinstance(names, tuple) else (names,)
    [plain], [told] = Parser().feed(frame), Parser().feed(envelope(frame, channels, rng.getrandbits(41)))
    inside = json.loads(told.data)
    assert (told.type, inside["event"], inside["data"]) == (plain.type, plain.type, plain.data)
    assert inside.get("channels", [inside["channel"]]) == [name.decode() for name in channels]
    envelope(mutated(frame, rng), channels, rng.getrandbits(64))


def taken(read: Callable[[], Any], tally: Counter[str], kind: str) -> Any:
    try:
        found = read()
    except InvalidEvent:
        tally[f"{kind} refused"] += 1
        return None
    tally[f"{kind} taken"] += 1
    return found


def flat(pieces: Iterator[list[Any]]) -> list[Any]:
    return [event for piece in pieces for event in piece]


def from_strangers(rng: random.Random, tally: Counter[str]) -> None:
    one = mutated(event(rng).encode("utf-8", "replace"), rng)
    if (found := taken(lambda: from_json_object(one, LIMIT), tally, "object")) is not None:
        check(found[1], one)
        check_envelope(found, rng)
    several = [event(rng) for _ in range(rng.choice((0, 1, 3, 3, 40)))]
    array = mutated(f"[{','.join(several)}]".encode("utf-8", "replace"), rng)
    if (found := taken(lambda: flat(from_json_array(array, LIMIT)), tally, "array")) is not None:
        items = as_text(array)
        assert len(items) == len(found)
        for encoded, item in zip(found, items, strict=True):
            if isinstance(item["data"], str):
                assert received(encoded[1]) == with_lf(item["data"])
    lines = mutated("\n".join(several).encode("utf-8", "replace"), rng)
    if (found := taken(lambda: flat(from_ndjson(lines, LIMIT)), tally, "ndjson")) is not None:
        sources = [line for line in lines.split(b"\n") if line.strip(b" \t\r")]
        assert len(sources) == len(found)
        for encoded, source in zip(found, sources, strict=True):
            check(encoded[1], source)
    raw = mutated(text(rng).encode("utf-8", "replace"), rng)
    kind = rng.choice((None, "tick", text(rng)))
    found = taken(lambda: encode_publication(text(rng) or "c", raw, event=kind, limit=LIMIT), tally, "raw")
    if found is not None:
        assert received(found[1]) == with_lf(raw.decode())


def from_an_app(rng: random.Random, tally: Counter[str]) -> None:
    """`encode`: what a client parses is what went in."""
    given: dict[str, Any] = {name: text(rng) for name in ("event", "id", "comment") if rng.random() < 0.5}
    if rng.random() < 0.3:
        given["retry"] = rng.choice((0, 7, 2**63 - 1, -1, 2**63))
    data = rng.choice((text(rng), mutated(text(rng).encode("utf-8", "replace"), rng), value(rng), {1, 2}, object()))
    frame = taken(lambda: encode(data, **given), tally, "encode")
    if frame is None:
        return
    parser = Parser()
    [event] = parser.feed(frame)
    assert event.type == (given.get("event") or "message")
    assert event.last_event_id == given.get("id", "")
    assert parser.reconnection_time == given.get("retry", parser.reconnection_time)
    if isinstance(data, str | bytes):
        said = data if isinstance(data, str) else data.decode()
        assert event.data == with_lf(said)


def step(rng: random.Random, tally: Counter[str], end: float) -> None:
    from_strangers(rng, tally)
    from_an_app(rng, tally)


if __name__ == "__main__":
    fuzz(__doc__, step)
