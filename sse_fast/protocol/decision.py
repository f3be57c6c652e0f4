"""What a request turns out to be, and the headers that every stream has. `decide` returns one of these, and a transport
carries it out.

What only the moment knows is not decided here but counted where it is carried out: whether there is room, whether the
server drains, whether the log takes it.

What has to be found out first, such as a webhook's answer, is an `Ask`: the transport finds it out, and it is decided
again.
"""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from sse_fast.access.asking import NOTHING_FOUND, Found, HookAsked, KeyAsked, TokenAsked
from sse_fast.access.grants import OPEN, Grants
from sse_fast.access.matchers import NO_MATCHERS, Matcher, Matchers
from sse_fast.access.mercure import Identity
from sse_fast.protocol.encodings import accepts_gzip

Headers = tuple[tuple[bytes, bytes], ...]

STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Need(StrEnum):
    """What a stream may need of its transport beside all events in their order."""

    FILTER = "filter"  # each event is looked at for this client alone, and may be left out or changed
    PRESENCE = "presence"  # the app is told of this client when it joins and when it leaves


class MercureStream(NamedTuple):
    """What is Mercure's own of a stream: no events but those that are published. told_by: the response fields that say
    behind which event it begins."""

    told_by: tuple[bytes, ...] = ()


class Subscribe(NamedTuple):
    """A stream. channels: their names, each once, in the order given. last_event_id: the cursor; without one the newest
    `history` events come first. envelope: each event's data says its channel and time too. headers: of the stream.
    readable: who may read it, if it becomes another answer. reads_json: then 503, and not a stream that says when to
    come back. needs: a transport that has not got them raises `Unsupported`, see `Streams.enter`. patterns: of further
    channels. grants: of who listens; they have all of these channels. left_out: what was asked for beside them, and is
    not granted. from_outside: what becomes of it if who asks is not on this machine; None: the same. asked: something
    was found out about it first, and by then it was counted as opened. gzip: it is compressed. matchers: of topics; of
    what is private it is sent what `private` has, too. mercure: it is a stream of that dialect."""

    channels: tuple[str, ...]
    last_event_id: str | None = None
    history: int = 0
    envelope: bool = False
    headers: Headers = STREAM_HEADERS
    readable: Headers = ()
    reads_json: bool = False
    needs: frozenset[Need] = frozenset()
    patterns: tuple[str, ...] = ()
    grants: Grants = OPEN
    left_out: tuple[str, ...] = ()
    from_outside: "Answer | Subscribe | None" = None
    asked: bool = False
    gzip: bool = False
    matchers: tuple[Matcher, ...] = ()
    private: Matchers = NO_MATCHERS
    mercure: MercureStream | None = None

    @property
    def opening_headers(self) -> Headers:
        """Of the stream, once it is one: what it becomes otherwise is not compressed."""
        return (*self.headers, (b"content-encoding", b"gzip")) if self.gzip else self.headers

    def negotiated(self, accept_encoding: bytes | None) -> "Subscribe":
        """As it is carried out where streams are compressed for those who take it: a cache is told that they differ."""
        headers = (*self.headers, (b"vary", b"Accept-Encoding"))
        return self._replace(headers=headers, gzip=accepts_gzip(accept_encoding))


class Form(StrEnum):
    """What the body of a publish request is."""

    DATA = "data"  # of one event, as it stands
    JSON = "json"  # an object, or an array of them
    LINES = "lines"  # NDJSON
    UPDATE = "update"  # of Mercure, in a form

    @property
    def words(self) -> str:
        """What it is called to a publisher."""
        return {
            Form.DATA: "an event",
            Form.JSON: "JSON",
            Form.LINES: "a publish request of lines",
            Form.UPDATE: "an update",
        }[self]


class Publish(NamedTuple):
    """Events to publish, from the body, which has at most `most` bytes. channel, event, retry (milliseconds),
    conflate_key: of Form.DATA, whose body has none of them. headers: to add to the answer, whatever it is. key: the
    idempotency key of all of them together. grants: of who publishes; they have `channel`, and are to have those that
    the body names. identity: of the Mercure hub, of Form.UPDATE."""

    form: Form
    most: int
    channel: str | None = None
    event: str | None = None
    retry: int | None = None
    headers: Headers = ()
    key: str | None = None
    grants: Grants = OPEN
    conflate_key: str | None = None
    identity: Identity | None = None


class Answer(NamedTuple):
    """Everything there is to say, already. whole: else it is broken off behind the body, which brings clients back.
    refused: why somebody is refused by it, if that is so, as logs and metrics call it. detail: in a sentence.
    from_outside: what is answered instead to who is not on this machine; None: the same. bad_token: what was shown is
    no token that is taken, as somebody has looked at it to find out."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    whole: bool = True
    refused: str = ""
    from_outside: "Answer | None" = None
    detail: str = ""
    bad_token: bool = False


class Elsewhere(NamedTuple):
    """Neither stream nor publish: whatever else is served there answers, with these headers beside its own. ours: it is
    the edge's to answer, and not the app's beside it. operations: it looks into the server, or changes what is there:
    that takes grants that say so, or to come from this machine itself. grants: of who asks. from_outside: what is
    answered instead to who is not on this machine; None: the same."""

    headers: Headers = ()
    ours: bool = True
    operations: bool = False
    grants: Grants = OPEN
    from_outside: Answer | None = None


class Ask(NamedTuple):
    """It cannot be decided before this is found out. found: what was, by then. stream: a stream is asked for, with
    these `headers`, and who is turned away is told so as there: `readable`, `reads_json`."""

    what: KeyAsked | TokenAsked | HookAsked
    found: Found = NOTHING_FOUND
    stream: bool = True
    headers: Headers = STREAM_HEADERS
    readable: Headers = ()
    reads_json: bool = False


Decision = Subscribe | Publish | Answer | Elsewhere


def in_order(*headers: tuple[bytes, bytes]) -> Headers:
    """Who may read an answer stands directly behind what it is. A browser takes a head that breaks off for whole; one
    that says neither ends an EventSource for good, and anything behind that does not."""
    return tuple(sorted(headers, key=_place))


@lru_cache(maxsize=256)  # nearly always the same few
def stream_headers(readable: Headers = ()) -> Headers:
    """Of a stream that those may read whom `readable` names."""
    return in_order(*STREAM_HEADERS, *readable)


def _place(header: tuple[bytes, bytes]) -> int:
    if header[0] == b"content-type":
        return 0
    return 1 if header[0].startswith(b"access-control-") else 2
