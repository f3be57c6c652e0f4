"""ServerSentEvent and JSONServerSentEvent, for who comes from sse-starlette: its names, its arguments, its bytes.

New code takes `sse_fast.Event`, which is encoded natively, and refuses what a client would read differently.
"""

import json
import re
from typing import Any

_LINE_END = re.compile(r"\r\n|\r|\n")


class ServerSentEvent:
    """One event. `data`: as `str()` has it. `id`, `event`: line ends in them are left out. `retry`: milliseconds.
    `sep`: what lines end with, CR LF by default."""

    DEFAULT_SEPARATOR = "\r\n"

    def __init__(
        self,
        data: Any | None = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self.comment = comment
        self._sep = sep if sep is not None else self.DEFAULT_SEPARATOR

    def encode(self) -> bytes:
        """The event as one frame (WHATWG HTML, section 9.2). Raises TypeError for a `retry` that is no int."""
        lines = []
        if self.comment is not None:
            lines += [f": {line}" for line in _LINE_END.split(str(self.comment))]
        if self.id is not None:
            lines.append("id: " + _LINE_END.sub("", self.id))
        if self.event is not None:
            lines.append("event: " + _LINE_END.sub("", self.event))
        if self.data is not None:
            lines += [f"data: {line}" for line in _LINE_END.split(str(self.data))]
        if self.retry is not None:
            if not isinstance(self.retry, int):
                raise TypeError("retry argument must be int")
            lines.append(f"retry: {self.retry}")
        return self._sep.join([*lines, "", ""]).encode() if lines else self._sep.encode()


class JSONServerSentEvent(ServerSentEvent):
    """One event with `data` as JSON, compact; None is none. Raises TypeError and ValueError as `json.dumps` does."""

    def __init__(self, data: Any | None = None, **fields: Any) -> None:
        if data is not None:
            data = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        super().__init__(data, **fields)
