"""Where a relay's source is to be resumed, in a small file: for where the target's log does not know any more."""

import contextlib
import os
from pathlib import Path

import orjson

from sse_fast.client.failures import Refused
from sse_fast.client.relay_mark import can_be_sent


class StateFile:
    """What is read raises Refused, where it is none of this relay's."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._written: object = self  # nothing that is an id

    def read(self) -> str | None:
        """The id; None: it has none yet."""
        try:
            said = orjson.loads(self._path.read_bytes())
            name, id = said["relay"], said["id"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(f"the state {self._path} can't be read: {error.strerror}") from None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise Refused(f"{self._path} is no state of a relay; name another file, or remove it") from None
        if name != self._name or not (id is None or isinstance(id, str)):
            raise Refused(f"{self._path} is the state of the relay {name!r}, and this is {self._name!r}")
        if id is not None and not can_be_sent(id):
            raise Refused(f"{self._path} has an id that no source can be asked by; remove it")
        return id

    def write(self, id: str | None) -> None:
        """All of it, or nothing. Raises Refused."""
        if id == self._written:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            beside.write_bytes(orjson.dumps({"relay": self._name, "id": id}))
            os.replace(beside, self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise Refused(f"the state {self._path} can't be written: {error.strerror}") from None
        self._written = id
