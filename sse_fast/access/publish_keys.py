"""Several publish keys, each for its own channels, as a value of the text of a file:

[shop]                                   # what the key is called in logs and counters
key = "…"                                # or several, while one is replaced by another: ["…", "…"]
publish = ["orders:**", "stock:*"]
until = 2031-01-01T00:00:00Z             # if it is to end
subscribe = ["orders:**"]                # if its holder may listen, too
operations = true                        # if its holder may look into the server, and end streams
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from sse_fast.access.grants import NO_GRANTS, Grants
from sse_fast.access.patterns import Patterns
from sse_fast.errors import InvalidPattern, SSEFastError

MOST_BYTES = 1024 * 1024
MOST_KEYS = 10_000
KEY = re.compile(r"[\x21-\x7e]{16,512}")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
KNOWN = ("key", "publish", "subscribe", "operations", "until")
EXAMPLE = '[shop] key = "…" publish = ["orders:**"]'


class BadPublishKeys(SSEFastError, ValueError):
    """The file of publish keys is none. The words show no key."""


class PublishKeys:
    """Immutable. No key stays in memory, only digests, by which they are looked up: so nobody's time tells of them."""

    __slots__ = ("_grants", "names")

    def __init__(self, grants: Mapping[bytes, Grants] | None = None) -> None:
        """By the SHA-256 of each key."""
        self._grants = dict(grants or {})
        self.names = tuple(sorted({each.credential for each in self._grants.values() if each.credential is not None}))

    def __len__(self) -> int:
        return len(self._grants)

    @property
    def let_listen(self) -> bool:
        """Whether the holder of one may."""
        return any(granted.subscribe for granted in self._grants.values())

    def lost_to(self, others: "PublishKeys") -> frozenset[bytes]:
        """The digests of those keys by which somebody may listen or look for no longer, or to something else, where
        these others are taken instead; whatever they are called there."""
        return frozenset(
            digest
            for digest, granted in self._grants.items()
            if _opens(granted) != _opens(others._grants.get(digest, NO_GRANTS))
        )

    def find(self, key: str) -> Grants | None:
        """What the holder of this key may. None: it is none of these."""
        return self._grants.get(sha256(key.encode("utf-8", "surrogatepass")).digest())

    @classmethod
    def parse(cls, data: bytes) -> "PublishKeys":
        """Of the text of a file. Raises BadPublishKeys."""
        if len(data) > MOST_BYTES:
            raise BadPublishKeys(f"it has {len(data)} bytes; publish keys are in {MOST_BYTES} at most")
        try:
            tables = tomllib.loads(data.decode())
        except tomllib.TOMLDecodeError as error:
            # Its own words show what stands there, which may be a key; where it stands is at their end.
            where = re.search(r"\(at .*\)$", str(error))
            raise BadPublishKeys(f"it is not valid TOML {where[0] if where else ''}; write {EXAMPLE}") from None
        except UnicodeDecodeError as error:
            raise BadPublishKeys(f"it is not UTF-8 text: byte {error.start}") from None
        grants: dict[bytes, Grants] = {}
        for name, table in tables.items():
            for key, granted in _entry(name, table):
                digest = sha256(key.encode()).digest()
                if digest in grants:
                    raise BadPublishKeys(f"[{name}] has the key of [{grants[digest].credential}]; each has its own")
                grants[digest] = replace(granted, key=digest)
        if len(grants) > MOST_KEYS:
            raise BadPublishKeys(f"it has {len(grants)} keys; {MOST_KEYS} is the most")
        return cls(grants)


def _opens(granted: Grants) -> tuple[object, ...]:
    """By what streams are opened with it, and until when."""
    return granted.subscribe, granted.operations, granted.until


def _entry(name: str, table: Any) -> list[tuple[str, Grants]]:
    """The keys under a name, and what their holder may."""
    if not isinstance(table, Mapping):
        raise BadPublishKeys(f"{name[:64]!r} stands outside of any key's table; write {EXAMPLE}")
    if not NAME.fullmatch(name):
        raise BadPublishKeys(f"[{name[:64]}] is no name for a key: 1 to 64 letters, digits and ._-")
    if unknown := [each for each in table if each not in KNOWN]:
        raise BadPublishKeys(f"[{name}] has no {unknown[0][:64]!r}; it has {', '.join(KNOWN)}")
    keys = table.get("key")
    keys = [keys] if isinstance(keys, str) else keys
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and KEY.fullmatch(key) for key in keys):
        raise BadPublishKeys(
            f"[{name}] needs a key, or a list of some: 16 to 512 visible ASCII characters, as `sse-fast token secret` "
            "makes them"
        )
    operations = table.get("operations", False)
    if not isinstance(operations, bool):
        raise BadPublishKeys(f"[{name}] operations is true or false")
    publish, subscribe = _patterns(name, "publish", table), _patterns(name, "subscribe", table)
    if not (publish or subscribe or operations):
        raise BadPublishKeys(f'[{name}] says nothing that its holder may; write publish = ["orders:**"]')
    granted = Grants(subscribe, publish, operations=operations, until=_until(name, table), credential=f"key:{name}")
    return [(key, granted) for key in keys]


def _patterns(name: str, what: str, table: Mapping[str, Any]) -> Patterns:
    texts = table.get(what, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadPublishKeys(f'[{name}] {what} is a list of patterns of channels, as in ["orders:**"]')
    try:
        return Patterns.of(texts)
    except InvalidPattern as error:
        raise BadPublishKeys(f"[{name}] {what}: {error}") from None


def _until(name: str, table: Mapping[str, Any]) -> float | None:
    until = table.get("until")
    if until is None:
        return None
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise BadPublishKeys(f"[{name}] until is a time with its offset, as in 2031-01-01T00:00:00Z")
    return until.timestamp()
