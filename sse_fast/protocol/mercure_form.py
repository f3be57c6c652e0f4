"""An update, as a publisher's form says it: the fields of both drafts, and what they must keep to."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from sse_fast._native.wire.form import parse_form
from sse_fast.access.matchers import bad_character
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import MAX_CHANNELS, MAX_EVENT_TYPE, RETRY, brief
from sse_fast.protocol.problem import TooMuch

MOST_FIELDS = 256
MAX_TOPIC, MAX_ID = 2048, 512  # bytes
RESERVED_TYPE = "mercure"
EARLIEST = "earliest"
TRIPLETS = re.compile("%(?:[46][1-9A-Fa-f]|[57][0-9Aa]|3[0-9]|2[DdEe]|5[Ff]|7[Ee])")


class Update(NamedTuple):
    """topics: the canonical one, then the others, each once. id: the publisher's; None: the hub's own. retry: in
    milliseconds."""

    topics: tuple[str, ...]
    data: bytes
    private: bool = False
    id: str | None = None
    event: str | None = None
    retry: int | None = None


def update_of(body: bytes) -> Update:
    """Raises InvalidEvent, or TooMuch for what is larger than it may be. Fields that nobody knows are somebody else's;
    of one that is given twice, and not `topic`, the first counts."""
    try:
        fields = parse_form(body, MOST_FIELDS)
    except ValueError as error:
        raise TooMuch(f"this form is too large: {error}") from None
    topics: list[str] = []
    data: bytes | None = None
    id = event = retry = None
    private = False
    for name, value in fields:
        if name == b"topic":
            topics.append(topic_of(value))
        elif name == b"data":
            data = value if data is None else data
        elif name == b"private":
            private = True
        elif name == b"id":
            id = value if id is None else id
        elif name == b"type":
            event = value if event is None else event
        elif name == b"retry":
            retry = value if retry is None else retry
    if len(topics) > 1:
        topics = list(dict.fromkeys(topics))
    if not topics:
        raise InvalidEvent("the field 'topic' is missing: an update is published to one at least")
    if len(topics) > MAX_CHANNELS:
        raise TooMuch(f"an update has at most {MAX_CHANNELS} topics; this one has {len(topics)}")
    return Update(
        tuple(topics),
        data or b"",
        private,
        _id_of(id) if id else None,
        _type_of(event) if event else None,
        _retry_of(retry) if retry else None,
    )


@lru_cache(maxsize=4096)  # those of an app come again and again
def topic_of(value: bytes) -> str:
    """A topic that may be published to. Raises InvalidEvent, or TooMuch."""
    if len(value) > MAX_TOPIC:
        raise TooMuch(f"a topic has at most {MAX_TOPIC} bytes; this one has {len(value)}")
    topic = text_of("topic", value)
    if not topic:
        raise InvalidEvent("a topic has at least one character")
    if topic == "*":
        raise InvalidEvent("the topic '*' is every topic, for who listens; nothing is published to it")
    if topic[0] == "$":
        raise InvalidEvent(f"topics that begin with '$' belong to the server; {brief(topic)} is one")
    if is_reserved(topic):
        raise InvalidEvent(f"topics at the hub's own path are the hub's; {brief(topic)} is one")
    return topic


def text_of(field: str, value: bytes) -> str:
    """Raises InvalidEvent for what is no UTF-8, and for control and format characters."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"the field {field!r} is UTF-8; this is none at byte {error.start}") from None
    if (bad := bad_character(text)) is not None:
        raise InvalidEvent(
            f"the field {field!r} has no control and no format characters; this has {bad!a} at {text.index(bad)}"
        )
    return text


def is_reserved(topic: str) -> bool:
    """Whether it is a URL, or a reference to one from the hub's, at the hub's path or below it. It is resolved as the
    standard says; letters that need no escape count as if they had none."""
    start = topic.strip(" ")[:1]
    if "mercure" not in topic and "%" not in topic and start not in ("", "#", "?"):
        return False
    plain = TRIPLETS.sub(lambda triplet: chr(int(triplet[0][1:], 16)), topic)
    try:
        return bool(_reserved().test(plain, "https://mercure.invalid/.well-known/mercure"))
    except Exception:  # it is no reference to a URL, so it is at no path
        return False


@lru_cache(maxsize=1)
def _reserved() -> Any:
    from urlpattern import URLPattern  # here, as it is loaded by who speaks Mercure alone

    return URLPattern({"pathname": "/.well-known/mercure{/*}?"})


def _id_of(value: bytes) -> str:
    if len(value) > MAX_ID:
        raise TooMuch(f"an id has at most {MAX_ID} bytes; this one has {len(value)}")
    id = text_of("id", value)
    if id == EARLIEST or id[0] == "#":
        raise InvalidEvent(f"an id is not {EARLIEST!r}, and does not begin with '#'; this is {brief(id)}")
    return id


def _type_of(value: bytes) -> str:
    if len(value) > 4 * MAX_EVENT_TYPE:
        raise TooMuch(f"a type has at most {MAX_EVENT_TYPE} characters")
    event = text_of("type", value)
    if event == RESERVED_TYPE:
        raise InvalidEvent(f"the type {RESERVED_TYPE!r} is that of the hub's own events")
    return event


def _retry_of(value: bytes) -> int:
    """More than a day is a day."""
    if not value.isdigit():
        raise InvalidEvent(f"'retry' is milliseconds, in digits, not {brief(value.decode('utf-8', 'replace'))}")
    digits = value.lstrip(b"0")
    return min(int(digits or b"0"), RETRY.most) if len(digits) < 20 else RETRY.most
