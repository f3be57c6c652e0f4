"""What an engine has done, for who reads it."""

from dataclasses import dataclass


@dataclass
class Counts:
    """Since the start. `events` and `calls` are of those that were answered; `repeated`: under an idempotency key."""

    events: int = 0
    calls: int = 0
    repeated: int = 0
    failures: int = 0
    connections: int = 0
    entries_read: int = 0
    pages_read: int = 0
    missed: int = 0
    marks: int = 0
