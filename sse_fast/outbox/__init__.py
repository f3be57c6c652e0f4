"""Events from your database: written in your own transaction, published after the commit, in order, once.

`add` writes an event, in whatever transaction its session or connection is in; `OutboxRelay` publishes in your app
what `sse-fast relay --outbox` publishes to an edge. `DDL` makes the tables.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sse_fast.outbox.adding import add
from sse_fast.outbox.table import DDL, DROP

if TYPE_CHECKING:
    from sse_fast.outbox.in_app import OutboxRelay

__all__ = ["DDL", "DROP", "OutboxRelay", "add"]


def __getattr__(name: str) -> Any:
    # Who only writes events has another driver, perhaps.
    if name == "OutboxRelay":
        return import_module("sse_fast.outbox.in_app").OutboxRelay
    raise AttributeError(f"module 'sse_fast.outbox' has no attribute {name!r}")
