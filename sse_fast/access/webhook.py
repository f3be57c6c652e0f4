"""The webhook's words: what it is asked about a subscription, and what its answer means. Who asks is `edge.webhook`.

    POST {"channels": ["user:42:inbox"], "patterns": [], "user": null, "client": "203.0.113.9",
          "headers": {"cookie": "session=…"}}
    200  {"channels": ["user:42:inbox"], "patterns": [], "user": "42", "until": 1893456000}

Each is optional. Without "channels" all that were asked about are granted; a pattern is only where "patterns" has it.
"""

import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from sse_fast.access.asking import HookAsked, HookSaid
from sse_fast.access.patterns import Patterns
from sse_fast.errors import InvalidPattern, SSEFastError

MOST_BYTES = 64 * 1024  # of an answer
MOST_NAMED = 4096  # channels or patterns
MOST_USER = 256  # characters
MOST_DETAIL = 300
MEANS = ("channels", "patterns", "user", "until")
REFUSED = {401: "who asks has not shown who they are", 403: "who asks may not listen to this"}


class BadHookAnswer(SSEFastError, ValueError):
    """What a webhook answered says neither that somebody may nor that they may not."""


def question(asked: HookAsked, client: str) -> bytes:
    """The body that it is asked with. client: the address."""
    return orjson.dumps(
        {
            "channels": asked.channels,
            "patterns": asked.patterns,
            "user": asked.user,
            "client": client,
            "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in asked.headers},
        }
    )


def key_of(asked: HookAsked, client: str) -> bytes:
    """What an answer is kept by: who asks, and for what. Without a credential that was verified here the address counts
    too: headers may be the same for all visitors."""
    where = client if asked.credential is None else ""
    return sha256(question(asked, where) + repr(asked.credential).encode()).digest()


def said_of(asked: HookAsked, status: int, body: bytes) -> HookSaid:
    """What the webhook has answered. Raises BadHookAnswer for all but 200, 401 and 403, and for a 200 that is not as it
    should be: whoever answers every request with a page must let nobody in."""
    if status in REFUSED:
        return HookSaid(status, detail=_detail(body) or REFUSED[status])
    if status != 200:
        raise BadHookAnswer(f"it answered {status}; 200, 401 and 403 have a meaning")
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadHookAnswer("it answered 200 with a body that is not JSON; {} grants what was asked for") from None
    if not isinstance(said, dict):
        raise BadHookAnswer("it answered 200 with JSON that is no object; {} grants what was asked for")
    if unknown := [name for name in said if name not in MEANS]:
        raise BadHookAnswer(f"its answer has {unknown[0][:40]!r}, which means nothing; it may have {', '.join(MEANS)}")
    try:
        named, wild = Patterns.of(_texts(said, "channels")), Patterns.of(_texts(said, "patterns"))
    except InvalidPattern as error:
        raise BadHookAnswer(f"its answer names a channel that is none: {error}") from None
    channels = asked.channels
    if "channels" in said:
        channels = tuple(name for name in channels if named.matches(name))
    # Whoever wrote a hook that looks at channels alone has granted no pattern by saying nothing of them.
    patterns = tuple(pattern for pattern in asked.patterns if wild.covers(pattern))
    return HookSaid(
        200,
        None if channels == asked.channels else channels,
        None if patterns == asked.patterns else patterns,
        _user(said),
        _until(said),
    )


def _texts(said: Mapping[str, Any], name: str) -> list[str]:
    texts = said.get(name, [])
    if not isinstance(texts, list) or len(texts) > MOST_NAMED or not all(isinstance(text, str) for text in texts):
        raise BadHookAnswer(f"its answer's {name!r} is a list of at most {MOST_NAMED} strings")
    return texts


def _user(said: Mapping[str, Any]) -> str | None:
    user = said.get("user")
    if user is not None and not (isinstance(user, str) and 0 < len(user) <= MOST_USER):
        raise BadHookAnswer(f"its answer's 'user' is a string of 1 to {MOST_USER} characters")
    return user


def _until(said: Mapping[str, Any]) -> float | None:
    until = said.get("until")
    if until is None:
        return None
    if type(until) not in (int, float) or not math.isfinite(until):
        raise BadHookAnswer("its answer's 'until' is a time in seconds since 1970")
    return float(until)


def _detail(body: bytes) -> str:
    """What a refusal says of itself: the `detail` of a problem (RFC 9457), if it has one."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    detail = said.get("detail") if isinstance(said, dict) else None
    return detail[:MOST_DETAIL] if isinstance(detail, str) and detail.isprintable() else ""
