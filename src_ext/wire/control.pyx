"""What a stream says of itself, beside the events: its preamble, `$connected`, `$gap`, `$expiring`, `$closing`, and the
heartbeat; and what a channel says, which is an event of it: `$forgotten`.

The laws of this file:
- nobody else writes these bytes, and whatever comes from a client (the id it asked for) is escaped;
- what is no event has no blank line: some clients deliver an empty event at one;
- every frame that a client may resume behind carries the id to resume by, last;
- a `$gap` counts what is gone only where that is known.
"""

import re

import orjson

cdef object dumps = orjson.dumps
cdef object own = re.compile(r"[A-Za-z0-9._-]*").fullmatch

# The page (edge/page/index.html) and the load client (bench/stream_parser) have these names of their own.
CONNECTED, GAP, EXPIRING, CLOSING, FORGOTTEN = "$connected", "$gap", "$expiring", "$closing", "$forgotten"
CONTROL_EVENTS = frozenset((CONNECTED, GAP, EXPIRING, CLOSING, FORGOTTEN))

HEARTBEAT = b":\n"


cpdef bytes preamble(object milliseconds):
    """The first bytes of a stream: when to come back. A frame follows."""
    return b":\nretry: %d\n" % milliseconds


cpdef bytes connected(str resume, str id, bint enveloped=False, tuple left_out=()):
    """`$connected`. `resume`: "live", "complete" or "gap"; `id`: the cursor's, None where a `$gap` follows, which has it: a
    drop before the gap was told has it told again. `enveloped`: whether the events' data are envelopes. `left_out`: the
    channels that were asked for and not granted, where the client takes what is."""
    form = ',"envelope":"json"' if enveloped else ""
    without = f',"left_out":[{",".join([quoted(name) for name in left_out])}]' if left_out else ""
    told = f'event: $connected\ndata: {{"resume":"{resume}"{form}{without}}}\n'
    return (told + (f"id: {id}\n\n" if id is not None else "\n")).encode()


cpdef bytes gap(str after, str until, bint with_id=True):
    """`$gap`: events between the ids `after` and `until` are gone, and the stream goes on behind `until`. Either may be
    None: it has no id. Where both are of one epoch it says how many positions of the log that is, those of other
    channels among them: `{"after", "until", "positions"}`. `with_id`: False for the log, which puts the line in itself."""
    cdef object positions = positions_between(after, until)
    cdef str counted = f',"positions":{positions}' if positions is not None else ""
    told = f'{{"after":{quoted(after)},"until":{quoted(until)}{counted}}}'
    cdef bytes id_line = b"id: %b\n" % until.encode("ascii") if with_id and until is not None else b""
    return b"event: $gap\ndata: %b\n%b\n" % (told.encode(), id_line)


def gap_from(str id not None, str after, str until not None):
    """`$gap` of a stream that goes on behind `id`, which is before `until`: some of its channels have all of what is
    between, and others have not."""
    cdef bytes told = gap(after, until, False)
    return told[:len(told) - 1] + b"id: %b\n\n" % id.encode("ascii")


cpdef bytes expiring(long long seconds):
    """`$expiring`: so many seconds from now the stream ends, as the client's credential does. One that renews it until
    then comes back with the new one."""
    return b'event: $expiring\ndata: {"seconds":%d}\n\n' % seconds


cpdef bytes closing(str reason, object milliseconds=None):
    """`$closing`, the last frame of a stream. `milliseconds`: when to come back, if not as the preamble said."""
    cdef bytes retry = b"retry: %d\n" % milliseconds if milliseconds is not None else b""
    return b'event: $closing\n%bdata: {"reason":"%b"}\n\n' % (retry, reason.encode("ascii"))


cpdef bytes forgotten(str channel):
    """`$forgotten`, for the log, which puts the id in: nothing of this channel from before it is kept any more."""
    return b'event: $forgotten\ndata: {"channel":%b}\n\n' % quoted(channel).encode()


cdef str quoted(str id):
    """As JSON. What this server made goes without orjson, which dies where memory has run out (3.13.0)."""
    if id is None:
        return "null"
    return f'"{id}"' if own(id) is not None else dumps(id).decode()


cdef object positions_between(str after, str until):
    """None: they are not of one epoch, so nobody here knows how far apart they are."""
    if after is None or until is None:
        return None
    cdef str epoch, position, other, last
    epoch, _, position = after.rpartition("-")
    other, _, last = until.rpartition("-")
    if not epoch or epoch != other or not (position.isascii() and position.isdigit() and len(position) <= 20):
        return None
    skipped = int(last) - int(position)
    return skipped if skipped >= 0 else None
