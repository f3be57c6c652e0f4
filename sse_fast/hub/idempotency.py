"""What is remembered of an idempotency key: its digest, and that of what came with it.

One digest of an event, whichever way it came: raw, in an object, a line or from Python. So a retry may go another way.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from sse_fast._native.log.keys import DIGEST, KeysOfEvents
from sse_fast.event_rules import Encoded, Keyed, idempotency_key

Keys = str | Mapping[int, str]
"""The key of a whole batch, or by their places the keys of those of its events that have one."""

EVENTS_AT_ONCE = 512  # hashed before the loop is given back: about a millisecond
BYTES_AT_ONCE = 512 * 1024


LONGEST_WINDOW = 86_400  # seconds
LEAST_KEYS, MOST_KEYS = 16, 2**26


def check_bounds(window: object, keys: object) -> None:
    """Raises ValueError for a window and a number of keys that no hub has."""
    if not isinstance(window, int | float) or not 0 <= window <= LONGEST_WINDOW:
        raise ValueError(f"idempotency_window must be a number of seconds, 0 to {LONGEST_WINDOW}; this is {window!r}")
    if type(keys) is not int or not LEAST_KEYS <= keys <= MOST_KEYS:
        raise ValueError(f"idempotency_keys must be a whole number, {LEAST_KEYS} to {MOST_KEYS}; this is {keys!r}")


async def digests(events: Sequence[Encoded], keys: Keys, secret: bytes) -> bytes | KeysOfEvents:
    """As `KeyTable.append_once` takes them. Raises InvalidEvent for what is no key, KeyReused for one of two events."""
    if not isinstance(keys, Mapping):
        key = of_key(keys, secret)
        body = blake2b(digest_size=DIGEST, key=secret)
        hashed = 0
        for number, event in enumerate(events, 1):
            hashed += _add(body, event)
            if hashed > BYTES_AT_ONCE or number % EVENTS_AT_ONCE == 0:
                hashed = 0
                await asyncio.sleep(0)
        return key + body.digest()
    found = KeysOfEvents(len(events))
    hashed = 0
    for number, (place, text) in enumerate(keys.items(), 1):
        key, body = of_key(text, secret), blake2b(digest_size=DIGEST, key=secret)
        hashed += _add(body, events[place])
        found.put(place, key + body.digest())
        if hashed > BYTES_AT_ONCE or number % EVENTS_AT_ONCE == 0:
            hashed = 0
            await asyncio.sleep(0)
    return found


def of_key(key: str, secret: bytes) -> bytes:
    """All who publish share one space of keys: here is the place for whose key it is, once they are told apart."""
    return blake2b(idempotency_key(key).encode(), digest_size=DIGEST, key=secret).digest()


def _add(body: blake2b, event: Encoded) -> int:
    """Returns how many bytes were hashed."""
    channels, frame = event
    names = channels if isinstance(channels, tuple) else (channels,)
    body.update(b"%d:" % len(names))
    for part in (*names, frame):
        body.update(b"%d:" % len(part))
        body.update(part)
    if isinstance(channels, Keyed):
        body.update(b"%d:" % len(channels.key))
        body.update(channels.key)
    return len(frame)
