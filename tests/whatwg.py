"""A parser of event streams, written from the standard alone (WHATWG HTML, 9.2.6 "Interpreting an event stream").

It is the oracle of the tests: slow, obvious, and strict. It knows nothing of how the package writes.
"""

import codecs
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    type: str
    data: str
    last_event_id: str


class Parser:
    """Takes a stream in pieces of any size; `feed` gives the events that each piece completes.

    `last_event_id` and `reconnection_time` (milliseconds; None until the stream sets it) are the event source's own, as
    they stand after all that was fed. An event that the stream's end cuts off is never given: the standard drops it.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.reconnection_time: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = True
        self._after_cr = False
        self._line = ""
        self._data = ""
        self._event_type = ""
        self._last_event_id_buffer = ""

    def feed(self, chunk: bytes) -> list[Event]:
        text = self._decoder.decode(chunk)
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:  # the CR ended its line already, so the LF of a CRLF ends nothing
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r") or (self._after_cr and not text)
        *lines, self._line = re.split(r"\r\n|\n|\r", self._line + text)
        return [event for line in lines if (event := self._process_line(line)) is not None]

    def _process_line(self, line: str) -> Event | None:
        if line == "":
            return self._dispatch()
        if line.startswith(":"):
            return None
        field, _, value = line.partition(":")
        self._process_field(field, value.removeprefix(" "))
        return None

    def _process_field(self, field: str, value: str) -> None:
        if field == "event":
            self._event_type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                self._last_event_id_buffer = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            self.reconnection_time = int(value)

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._last_event_id_buffer  # also when no event follows
        data, self._data = self._data, ""
        event_type, self._event_type = self._event_type, ""
        if data == "":
            return None
        return Event(event_type or "message", data.removesuffix("\n"), self.last_event_id)
