"""Who is there, at which nodes, as the engine keeps it: in presence.lua. Members are (channel, user); what
somebody else has put among them and is none is ("", what it is)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from sse_fast.cluster.entries import pack
from sse_fast.cluster.functions import Argument, Dialogue, Log, Reply
from sse_fast.event_rules import Encoded

Member = tuple[str, str]
BETWEEN = "\0"  # no channel's name has one
HERE, GONE = "+", "-"


class Change(NamedTuple):
    """Somebody came to a node (here), or left it. event: what is said where that joins the fleet, or leaves it; None:
    nothing is, of what is no member."""

    member: Member
    here: bool
    event: Encoded | None


class Said(NamedTuple):
    """number: of what was said, from which the next goes on. full: somebody was left out, as too many are there. dead:
    a node that has not been heard for its time."""

    number: int
    full: bool
    dead: str | None


class Who(NamedTuple):
    """total: how many are there; users: some, in their order, and the seconds since 1970 since which they are there."""

    total: int
    users: list[tuple[str, float]]


class PresenceLog:
    """What is asked about it, beside a fleet's log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = tuple(f"{log.prefix}:presence{name}" for name in ("", ":who", ":names", ":nodes"))

    def _asked(self, function: str, node: str, *arguments: Argument) -> Dialogue[Reply]:
        keys = (*self._keys, f"{self._keys[0]}:at:{node}")
        return (yield from self._log.loaded(self._log.call(function, *arguments, keys=keys)))

    def say(self, node: str, number: int, milliseconds: int, changes: Sequence[Change]) -> Dialogue[Said | None]:
        """None: this node has said something else behind that."""
        reply = yield from self._asked("present", node, node, number, milliseconds, *_arguments(changes))
        if not reply[0]:
            return None
        return Said(int(reply[1]), bool(reply[2]), reply[3].decode() or None)

    def at(self, node: str, after: Member | None, most: int) -> Dialogue[tuple[int, list[Member]]]:
        """The number of what a node said last, -1: nothing; and who is there at it, behind one, so many at most."""
        number, members = yield from self._asked(
            "present_at", node, node, _raw(after) if after is not None else b"", most
        )
        return number, [_member(each) for each in members]

    def over(self, node: str, milliseconds: int, changes: Sequence[Change]) -> Dialogue[bool]:
        """False: it is there again."""
        return bool((yield from self._asked("present_no_more", node, node, milliseconds, *_arguments(changes))))

    def who(self, channel: str, after: str, most: int) -> Dialogue[Who]:
        count, *listed = yield from self._asked("who", "", channel + BETWEEN, after, most)
        users = zip(listed[::2], listed[1::2], strict=True)
        return Who(count, [(user.decode(errors="replace"), int(since) / 1000) for user, since in users])


class Members:
    """What a node asks of its engine. All raise EngineUnavailable."""

    def __init__(self, hold: Callable[[Dialogue[Any]], Awaitable[Any]], log: Log) -> None:
        self._hold, self._log = hold, PresenceLog(log)

    async def say(self, node: str, number: int, seconds: float, changes: Sequence[Change]) -> Said | None:
        """That a node is there for so long, and who has come to it and left it since it said `number`. None: it has
        said something else since."""
        said: Said | None = await self._hold(self._log.say(node, number, round(1000 * seconds), changes))
        return said

    async def at(self, node: str, after: Member | None, most: int) -> tuple[int, list[Member]]:
        """The number of what a node said last, -1: nothing; and who is there at it, behind one, so many at most."""
        found: tuple[int, list[Member]] = await self._hold(self._log.at(node, after, most))
        return found

    async def over(self, node: str, seconds: float, changes: Sequence[Change]) -> bool:
        """Who has left with a node that is dead. False: it is there again."""
        return bool(await self._hold(self._log.over(node, round(1000 * seconds), changes)))

    async def who(self, channel: str, after: str, most: int) -> Who:
        """Who is there in a channel, at any node: the first behind `after`."""
        found: Who = await self._hold(self._log.who(channel, after, most))
        return found


def _arguments(changes: Sequence[Change]) -> list[Argument]:
    return [
        argument
        for each in changes
        for argument in (
            HERE if each.here else GONE,
            _raw(each.member),
            pack(each.event) if each.event is not None else b"",
        )
    ]


def _member(raw: bytes) -> Member:
    try:
        channel, _, user = raw.decode().partition(BETWEEN)
    except UnicodeDecodeError:
        channel = user = ""
    return (channel, user) if channel and user else ("", raw.decode(errors="surrogateescape"))


def _raw(member: Member) -> bytes:
    channel, user = member
    return (BETWEEN.join(member) if channel else user).encode(errors="surrogateescape")
