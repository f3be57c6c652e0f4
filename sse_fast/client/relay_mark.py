"""How far a relay has got, said in the log that it publishes to; and what a relay publishes to.

With each batch goes one more event, its *mark*: all or nothing, so the log has the mark if and only if it has the
batch. The newest mark says where the source is to be resumed, whoever died meanwhile, and whatever became of the last
request.

Each batch has an idempotency key that is made of the mark before it. So behind one mark there can be one batch only:
of two relays that both take themselves for the one, the second is refused, and a request that came late is, too.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import orjson

from sse_fast.client.listener import SENDABLE_ID
from sse_fast.errors import SSEFastError

NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
LONGEST_ID = 1024  # characters
MARK = "mark"
ASKING = "asking"
MARKS = 100
"""How many of the newest events of the marks' channel are looked through."""


class Mark(NamedTuple):
    """id: the source's, behind which it is resumed; "": it gave none, so that nobody knows what is behind; None: it was
    not reached yet. batch: names the batch."""

    id: str | None
    batch: str

    @classmethod
    def read(cls, text: str) -> "Mark | None":
        """As `data` has it; None: this is none. Anybody who may publish may have written it."""
        try:
            said = orjson.loads(text)
            id, batch = said["id"], said["batch"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        if not (id is None or (isinstance(id, str) and can_be_sent(id))) or not isinstance(batch, str):
            return None
        return cls(id, batch)

    @property
    def data(self) -> str:
        return orjson.dumps({"id": self.id, "batch": self.batch}).decode()


class Rejected(SSEFastError):
    """Of what came at once, at least one event will never be taken; nothing was published."""


class Superseded(SSEFastError):
    """Behind the mark that was last there is another batch already: nothing was published."""


class Target(Protocol):
    """All or nothing. What fails is Rejected, Superseded; `client.failures.Refused`, which whatever comes next would
    meet too; or Unavailable, and then nobody knows what became of it."""

    @property
    def name(self) -> str: ...

    async def lead(self) -> bool:
        """Whether this relay is the one among those that share this target, from here on to `close`. Asked again, it
        says the same, or that its time has come."""

    def prepare(self, data: object, event: str | None) -> object:
        """What `publish` takes. Raises InvalidEvent for what would never be taken."""

    async def publish(self, prepared: Sequence[object], mark: Mark, key: str) -> Sequence[str]:
        """Publish these, and behind them the mark, unless something else was published under this key. Returns the
        ids of the events."""

    async def newest_mark(self) -> Mark | None:
        """The newest that the log has; None: it has none."""

    async def close(self) -> None: ...


def check_name(name: str) -> None:
    """Raises ValueError for what is no name of a relay."""
    if not NAME.fullmatch(name):
        raise ValueError(f"the name of a relay is 1 to 128 characters of [A-Za-z0-9._:-]; this is {name!r}")


def can_be_sent(id: str) -> bool:
    """Whether a source can be asked for what is behind this id."""
    return len(id) <= LONGEST_ID and SENDABLE_ID.fullmatch(id) is not None


def cut(text: str, most: int = 80) -> str:
    """What somebody else has written, for a line of the log."""
    return text if len(text) <= most else f"{text[:most]}…"


def channel_of(name: str) -> str:
    """Where the marks of a relay are."""
    return f"relay:{name}"
