"""Structured logging: an entry is one line, a message and its fields, as text or as JSON.

The same form for our loggers and for Granian's. Fields are given as logging's own `extra`:
`log.info("stream ended", extra={"reason": "slow", "channels": 3})`. Entries go to stderr.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

# What every record has; whatever else one carries was given as `extra`.
_OWN_ATTRIBUTES = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}
_CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 13: "\\r"}
_RESET = "\x1b[0m"
_RED = "\x1b[31m"
_COLOURS = {logging.DEBUG: "\x1b[2m", logging.WARNING: "\x1b[33m", logging.ERROR: _RED, logging.CRITICAL: _RED}


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the entry carries beside its message."""
    return {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}


def printable(text: str) -> str:
    """Text on one line, with nothing in it that could steer a terminal or forge a second entry."""
    return text.translate(_CONTROL_CHARACTERS)


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 INFO    sse_fast.serve  message name=value …`; what does not fit below, indented."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        pairs = "".join(f" {name}={_text(value)}" for name, value in fields(record).items())
        # Granian puts tracebacks into messages. Indented, no line of a message can pass for an entry of its own.
        line = f"{time} {record.levelname:7} {record.name}  {_indented(record.getMessage())}{pairs}"
        if record.exc_info:
            line += "\n    " + _indented(self.formatException(record.exc_info))
        colour = _COLOURS.get(record.levelno) if sys.stderr.isatty() else None
        return f"{colour}{line}{_RESET}" if colour else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            own["exception"] = self.formatException(record.exc_info)
        entry = own | fields(record) | own  # our names first, and not to be overridden
        try:
            return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:  # a lone surrogate or a huge integer; the entry matters more than its form
            return orjson.dumps({name: ascii(value) for name, value in entry.items()}).decode()


def log_config(level: str, form: Literal["text", "json"], *, app: bool = False) -> dict[str, Any]:
    """A `logging.config.dictConfig`. Names instead of objects, so that it reaches a spawned worker too. `app`: an app
    of the user's logs here, too, at the same level."""
    formatter = "sse_fast.logs.JsonFormatter" if form == "json" else "sse_fast.logs.TextFormatter"
    ours: dict[str, Any] = {"level": level.upper()}
    # Granian's word for each piece of an answer whose client has left: thousands of them say nothing.
    pieces = {"level": "WARNING"} if level.upper() == "INFO" else ours.copy()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"entry": {"()": formatter}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "entry", "stream": "ext://sys.stderr"},
        },
        # Other people's libraries speak up from warnings on: httpx, for one, logs every request at info. But an app's
        # own loggers are known by no name.
        "root": {"level": level.upper() if app else "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "sse_fast": ours,
            "sse_fast.access": {"level": "INFO"},  # there are no lines but where they are asked for
            "_granian": ours.copy(),
            "_granian.asgi.io": pieces,
            "granian.access": ours.copy(),
        },
    }


def _indented(text: str) -> str:
    return "\n    ".join(printable(part) for part in text.split("\n"))


def _text(value: object) -> str:
    text = printable(str(value))
    return f'"{text}"' if not text or " " in text else text
