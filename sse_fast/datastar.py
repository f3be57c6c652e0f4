"""A DatastarEvent of datastar-py, which is a `str` and an encoded event already -> its fields.

The law of this file: it is one event and says nothing but its fields, or it is refused. datastar-py does not look at
what it is given, so a line end in a selector or an id would end the event there.
"""

import sys
from typing import NamedTuple

from sse_fast.errors import InvalidEvent

ORDER = ("event", "id", "retry", "data")  # of the lines; only the last may come again


class Fields(NamedTuple):
    """Of one event; None where it does not say."""

    data: str | None
    event: str | None
    id: str | None
    retry: int | None


def fields_of(text: str) -> Fields | None:
    """The fields that a DatastarEvent says, None for any other `str`. Raises InvalidEvent."""
    module = sys.modules.get("datastar_py.sse")  # where there is such an event, it has been imported
    if module is None or not isinstance(text, getattr(module, "DatastarEvent", ())):
        return None
    body = text.removesuffix("\n\n")
    if len(body) == len(text) or "\n\n" in body or body[:1] == "\n" or "\r" in body:
        raise InvalidEvent("a DatastarEvent is one event; in this one a line end ends it early, or it has no end")
    found: dict[str, list[str]] = {name: [] for name in ORDER}
    last = 0
    for line in body.split("\n"):
        name, _, value = line.partition(":")
        if name not in ORDER or ORDER.index(name) < last or (found[name] and name != "data"):
            raise InvalidEvent(f"a DatastarEvent has lines {', '.join(ORDER)} in this order, not {line[:80]!r} here")
        last = ORDER.index(name)
        found[name].append(value.removeprefix(" "))
    event, id, retry = (found[name][0] if found[name] else None for name in ORDER[:3])
    if retry is not None and not (retry.isascii() and retry.isdigit() and len(retry) < 19):
        raise InvalidEvent(f"the retry of a DatastarEvent is a whole number of milliseconds, not {retry[:80]!r}")
    data = "\n".join(found["data"]) if found["data"] else None
    return Fields(data, event, id, None if retry is None else int(retry))
