"""What a channel got lately: when its newest event came, and how many since a moment. Nothing is counted for it; whoever asks
has the times of the records looked at, a logarithm of them.
"""

from typing import NamedTuple

from libc.stdint cimport uint64_t

from sse_fast._native.log.channels cimport Channel
from sse_fast._native.log.index cimport Index, Link
from sse_fast._native.log.retention cimport time_of


class Recent(NamedTuple):
    """last: when the newest kept event came, in milliseconds since 1970; None: none is kept. since: how many came since
    that moment, first: when the oldest of these did."""

    last: int | None
    since: int
    first: int | None


def recent(Index index not None, bytes name not None, uint64_t since):
    """Of the channel of that name, since a moment in milliseconds."""
    cdef Channel channel = index.get(name)
    cdef uint64_t number, last, count = 1
    cdef Link* link
    if channel is None or not channel.last:
        return Recent(None, 0, None)
    number = channel.last
    last = time_of(index, number)
    if last == 0:
        return Recent(None, 0, None)
    if last < since:
        return Recent(last, 0, None)
    while True:
        link = index.link(number)
        if link.previous == 0 or time_of(index, number - link.previous) < since:
            return Recent(last, count, time_of(index, number) or last)
        if number - link.jump >= index._first_link and time_of(index, number - link.jump) >= since:
            number -= link.jump
            count += link.span
        else:
            number -= link.previous
            count += 1
