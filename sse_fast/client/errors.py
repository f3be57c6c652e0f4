"""What a client is told when it gets no further, as exceptions. To name them loads nothing that sends anything."""

from sse_fast import errors
from sse_fast.errors import SSEFastError


class Refused(SSEFastError):
    """The server said no, and would say it again. status: of its answer; 0: it was none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Unauthorized(Refused, errors.Unauthorized):
    """401: no token, or one that is not taken (any more)."""


class Forbidden(Refused, errors.Forbidden):
    """403: a good token, which does not grant this."""


class NotFound(Refused):
    """404: there is no edge at this address."""


class KeyReused(Refused, errors.KeyReused):
    """422: this idempotency key was given before, with something else. Nothing was published."""


class Unavailable(SSEFastError):
    """No answer, or one that says "later". retry_after: seconds the server asked for. maybe: whether what was to be
    published may have been."""

    def __init__(self, reason: str, retry_after: float = 0.0, *, maybe: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.maybe = retry_after, maybe


class Stopped(SSEFastError):
    """The server answered 204: do not come back."""
