from typing import NamedTuple

from sse_fast._native.log.index import Index

class Recent(NamedTuple):
    last: int | None
    since: int
    first: int | None

def recent(index: Index, name: bytes, since: int) -> Recent: ...
