"""The engine that a hub is told of by a URL."""

from collections.abc import Callable

from sse_fast.hub.engine import Engine

SIZE = 1 << 30  # bytes of events that an engine keeps
PREFIX = "sse_fast"


def engine_of(
    url: str,
    *,
    prefix: str = PREFIX,
    replicas: int = 0,
    size: int = SIZE,
    max_age: float | None = None,
    idempotency_window: float = 120.0,
    idempotency_keys: int = 131_072,
) -> Callable[[], Engine]:
    """What makes a connection to it, for the loop that runs. Raises ValueError for a URL or a number that means
    nothing, and ModuleNotFoundError where the client of such an engine is not installed."""
    if url.startswith(("http://", "https://")):
        from sse_fast.cluster.edge import EdgeEngine, check_url  # what it loads is for those who use it

        check_url(url)
        return lambda: EdgeEngine(url)
    from sse_fast.cluster.engine import Engine as Redis  # what it loads is for those who use it
    from sse_fast.cluster.functions import Limits

    limits = Limits(
        max_bytes=int(size),  # it may be a ByteSize
        max_age=max_age,
        idempotency_window=idempotency_window,
        idempotency_keys=idempotency_keys,
    )

    def connect() -> Engine:
        return Redis.from_url(url, prefix=prefix, replicas=replicas, limits=limits)

    connect()  # nothing is connected before it is opened
    return connect
