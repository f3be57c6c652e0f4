"""What a stream with matchers listens to, as the fan-out has it."""

from collections.abc import Iterable

from sse_fast._native.log.sources import Source
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import Matcher, PrivateGrants, channel_name


def listening(matchers: Iterable[Matcher], private: PrivateGrants | None) -> tuple[tuple[bytes, ...], Source | None]:
    """Channels that it listens to as any stream does, and what it does not. Where it names all that it listens to, and
    may see all private events of it, it needs no more than channels."""
    matchers = tuple(matchers)
    if not matchers:
        return (), None
    names = exact_names(matchers)
    templates = [matcher for matcher in matchers if matcher.exact is None]
    private = private if private is not None else PrivateGrants()
    granted = exact_names(private.matchers)
    if not templates and names and (private.everything or names <= granted) and all(map(is_channel, names)):
        return tuple(sorted(names)), None
    granted_by = [matcher for matcher in private.matchers if matcher.exact is None]
    if private.everything:
        granted, granted_by = frozenset(), []
    return (), Source(names, templates, private.everything, granted, granted_by)


def exact_names(matchers: Iterable[Matcher]) -> frozenset[bytes]:
    """Those that begin with `$` are the server's, and no topics."""
    exact = (matcher.exact for matcher in matchers)
    return frozenset(name.encode() for name in exact if name is not None and not name.startswith("$"))


def is_channel(name: bytes) -> bool:
    try:
        channel_name(name.decode())
    except InvalidEvent:
        return False
    return True
