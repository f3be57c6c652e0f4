"""What settings are called, as flags, variables and keys of the file, and which one is at fault for what is wrong."""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sse_fast.settings.values import types_of

PREFIX = "SSE_FAST_"
TOML_FILE = "sse-fast.toml"
HANDED_DOWN = f"{PREFIX}SETTINGS_JSON"  # the parent's settings, whole, for its worker processes
# Settings that are none any more.
GONE = dict.fromkeys(
    ("stream_port", "stream_redirect"),
    "is no setting any more: the one port has everything, and streams are native there; leave it out",
)
# The parent's other words to its workers; the clients' default server; the build's debug switch.
NOT_SETTINGS = {HANDED_DOWN} | {
    f"{PREFIX}{name}"
    for name in (
        *("LOG_SEGMENT", "SLOTS_SEGMENT", "KEYS_SEGMENT", "RATES_SEGMENT", "SOCKETS_DIRECTORY"),
        *("URL", "TOKEN", "DEBUG"),
    )
}


class BadSettings(ValueError):
    """Settings that no server can start with. `problems`: one readable line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def variable(name: str) -> str:
    return PREFIX + name.upper()


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def gone_variables() -> list[str]:
    """A readable line for every variable that was a setting."""
    in_environment = {given.upper() for given in os.environ}
    return [f"{variable(name)} {why}" for name, why in GONE.items() if variable(name) in in_environment]


def unknown(environment: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """A readable line for every SSE_FAST_* variable that sets none of these: most likely a slip of the pen."""
    known = {variable(name) for name in settings} | NOT_SETTINGS
    unknown = sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)
    return [f"{name} is not a setting and was ignored{_did_you_mean(name.upper(), known)}" for name in unknown]


def problem(detail: Any, flags: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """One line, of one of pydantic's details: the setting by the name it was given under, what was wrong, what is
    right."""
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return str(message)  # about several settings at once; it names them itself
    name = str(detail["loc"][0])
    if name in GONE:
        return f"{flag(name) if name in flags else f'{name} in {TOML_FILE}'} {GONE[name]}"
    if name not in fields:
        return f"{name} in {TOML_FILE} is not a setting{_did_you_mean(name, fields)}"
    in_environment = {given.upper() for given in os.environ}
    if name in flags:
        origin = flag(name)
    elif variable(name) in in_environment:
        origin = variable(name)
    else:
        origin = f"{name} in {TOML_FILE}"
    field = fields[name]
    secret = SecretStr in types_of(field.annotation)
    given = "" if secret or detail["type"] == "value_error" else f", got {str(detail['input'])!r}"
    return f"{origin}: {message[:1].lower()}{message[1:]}{given}. {field.description}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
