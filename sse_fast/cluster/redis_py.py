"""What is used of redis-py: its connections, each alone, and how it reads URLs.

Its clients know of one server's commands; a call of theirs costs more than the whole of ours, and none of them knows
that it was sent and not answered. Errors of the server are `ResponseError` here, all of them, with the whole of its
words: redis-py's own classes leave the first one out, and take some for the end of the connection.
"""

from typing import Any

try:
    import hiredis
    from redis.asyncio.connection import AbstractConnection as AsyncConnection
    from redis.asyncio.connection import Connection as AsyncTcp
    from redis.asyncio.connection import DefaultParser as AsyncParser
    from redis.asyncio.connection import SSLConnection as AsyncTls
    from redis.asyncio.connection import UnixDomainSocketConnection as AsyncUnix
    from redis.asyncio.connection import parse_url
    from redis.connection import AbstractConnection as BlockingConnection
    from redis.connection import Connection as Tcp
    from redis.connection import DefaultParser as Parser
    from redis.connection import SSLConnection as Tls
    from redis.connection import UnixDomainSocketConnection as Unix
    from redis.exceptions import InvalidResponse, RedisError, ResponseError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("an engine needs redis-py: pip install 'sse-fast[redis]'", name=error.name) from None

__all__ = [
    "AsyncConnection",
    "AsyncTls",
    "BlockingConnection",
    "InvalidResponse",
    "RedisError",
    "RedisTimeoutError",
    "ResponseError",
    "async_connection",
    "connection",
    "hiredis",
    "parse_url",
]


class Whole(Parser):  # type: ignore[misc, valid-type]
    @classmethod
    def parse_error(cls, response: str) -> ResponseError:
        return ResponseError(response)


class AsyncWhole(AsyncParser):  # type: ignore[misc, valid-type]
    @classmethod
    def parse_error(cls, response: str) -> ResponseError:
        return ResponseError(response)


def connection(given: dict[str, Any], *, seconds: float) -> BlockingConnection:
    """One that blocks, for so long at most; not connected yet."""
    kind: type[Any] = Unix if "path" in given else Tls if "ssl_check_hostname" in given else Tcp
    made: BlockingConnection = kind(**given, parser_class=Whole, socket_timeout=seconds, socket_connect_timeout=seconds)
    return made


def async_connection(given: dict[str, Any]) -> AsyncConnection:
    """One whose times are its user's matter; not connected yet."""
    kind: type[Any] = AsyncUnix if "path" in given else AsyncTls if "ssl_check_hostname" in given else AsyncTcp
    made: AsyncConnection = kind(**given, parser_class=AsyncWhole, socket_timeout=None, socket_connect_timeout=None)
    return made
