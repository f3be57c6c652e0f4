from typing import NamedTuple

from sse_fast._native.log.ring import Log

class Verified(NamedTuple):
    head: int
    events: int
    first: int
    last: int

def verify(log: Log) -> Verified: ...
