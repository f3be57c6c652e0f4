"""What has to be found out before somebody's request can be decided about, and what was: values. Whoever carries out
asks, waits, and has it decided again."""

from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]


class KeyAsked(NamedTuple):
    """A token names a key that nobody here has. kid: its id; None: the token names none, and there are no keys yet."""

    kid: str | None


class TokenAsked(NamedTuple):
    """A token that nobody has verified, of somebody who has sent too many that were none. wait: seconds until another
    one of theirs is looked at."""

    wait: float


class HookAsked(NamedTuple):
    """Whether these channels and patterns may be listened to. credential: that was verified, as a digest; None: none
    was. headers: of the request, those that are told."""

    credential: str | None
    channels: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    user: str | None = None
    headers: Headers = ()


class HookSaid(NamedTuple):
    """What was answered. status: 200, 401 or 403. channels, patterns: of those asked about; None: all of them. until:
    seconds since 1970. detail: why not."""

    status: int
    channels: tuple[str, ...] | None = None
    patterns: tuple[str, ...] | None = None
    user: str | None = None
    until: float | None = None
    detail: str = ""


class Found(NamedTuple):
    """keys: what keys there are was asked, so whose key is still not there has none. hook: what was said. wait: seconds
    until a token is verified for who asks; 0.0: it is."""

    keys: bool = False
    hook: HookSaid | None = None
    wait: float = 0.0


NOTHING_FOUND = Found()


class MustAsk(Exception):
    """Raised where it cannot be decided yet."""

    def __init__(self, what: KeyAsked | TokenAsked | HookAsked) -> None:
        super().__init__(what)
        self.what = what
