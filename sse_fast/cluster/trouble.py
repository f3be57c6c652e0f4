"""What an engine says when it does not do what it is asked, in words for whoever runs it."""

import re

from sse_fast.errors import EngineRefused, EngineTrouble, EngineUnavailable

# What the user of an access list may do, if not everything.
COMMANDS = (
    "+fcall +function|load +info +time +wait +type +exists +del +unlink "
    "+hget +hgetall +hmget +hset +hdel +hincrby +hlen +rpush +lpop +lindex +llen "
    "+xadd +xread +xrange +xrevrange +xtrim +xlen +xinfo|stream"
)
OF_PRESENCE = "+zadd +zrem +zcard +zscore +zlexcount +zrangebylex +zrangebyscore"
NEEDED = f"{COMMANDS}; and, where it is kept who is there, {OF_PRESENCE}"

NOT_LOADED = "ERR Function not found"
MOVED = re.compile(r"MOVED \d+ (.*):(\d+)$")

T = EngineTrouble
# The beginning of what it says; what that is; whether somebody has to put it right; the sentence.
SAID: tuple[tuple[str, EngineTrouble, bool, str], ...] = (
    ("NOAUTH", T.CREDENTIALS, True, "{at} asks for a password; put it into the URL: redis://user:password@…"),
    ("ERR Protocol error: unauthenticated", T.CREDENTIALS, True, "{at} asks for a password, and the URL has none"),
    ("WRONGPASS", T.CREDENTIALS, True, "{at} does not take this user and password"),
    ("ERR AUTH", T.CREDENTIALS, True, "{at} takes no password, and the URL has one ({said})"),
    ("ERR invalid password", T.CREDENTIALS, True, "{at} does not take this password"),
    ("ERR Client sent AUTH", T.CREDENTIALS, True, "{at} takes no password, and the URL has one"),
    (
        "NOPERM",
        T.PERMISSIONS,
        True,
        "the user at {at} may not do what is needed ({said}). It needs the keys ~{keys} and " + NEEDED,
    ),
    (
        "SSEFAST DENIED",
        T.PERMISSIONS,
        True,
        "the user at {at} may not do what is needed ({said}). It needs the keys ~{keys} and " + NEEDED,
    ),
    (
        "DENIED",
        T.CREDENTIALS,
        True,
        "{at} is in protected mode: it takes others than its own machine with a password only",
    ),
    (
        "READONLY",
        T.READ_ONLY,
        False,
        "{at} is a replica, and takes no events: give the primary's address, or Sentinels",
    ),
    ("SSEFAST REPLICA", T.READ_ONLY, False, "{at} is a replica, if a writable one: give the primary's address"),
    ("OOM", T.MEMORY, False, "{at} is over its maxmemory: raise it, or keep less of the log (bytes, age)"),
    ("MISCONF", T.DISK, False, "{at} cannot save to its disk, and takes no events until it can ({said})"),
    ("NOREPLICAS", T.REPLICAS, False, "{at} has too few replicas that keep up (its min-replicas-to-write)"),
    ("LOADING", T.LOADING, False, "{at} is loading its data"),
    ("BUSY", T.LOADING, False, "{at} is busy with a script of somebody's"),
    ("MASTERDOWN", T.READ_ONLY, False, "{at} is a replica whose primary is away"),
    ("UNBLOCKED", T.READ_ONLY, False, "{at} has become a replica"),
    ("CLUSTERDOWN", T.UNREACHABLE, False, "the cluster at {at} is down"),
    ("TRYAGAIN", T.LOADING, False, "the cluster at {at} is moving the log to another of its servers"),
    ("ASK", T.LOADING, False, "the cluster at {at} is moving the log to another of its servers"),
    ("MOVED", T.ADDRESS, True, "{at} is one of a cluster: write the URL as redis+cluster://"),
    ("CROSSSLOT", T.ADDRESS, True, "the prefix does not keep the keys in one slot: have one {{…}} in it, or none"),
    ("WRONGTYPE", T.FOREIGN, True, "what {at} has under the keys {keys} is another program's: use another prefix"),
    ("SSEFAST FOREIGN", T.FOREIGN, True, "at {at} {said}, of another program: use another prefix"),
    (
        "SSEFAST LAYOUT",
        T.VERSION,
        True,
        "the log at {at} was written by another version ({said}), which this one does not read",
    ),
    ("ERR unknown command", T.VERSION, True, "{at} does not know what is needed ({said}): it takes Redis 7.0 or newer"),
    ("ERR DB index", T.ADDRESS, True, "{at} has no database of this number"),
    ("ERR invalid DB", T.ADDRESS, True, "{at} has no database of this number"),
    ("ERR SELECT is not allowed", T.ADDRESS, True, "{at} is one of a cluster: write the URL as redis+cluster://"),
    (
        "ERR This instance has cluster support disabled",
        T.ADDRESS,
        True,
        "{at} is no cluster: write the URL as redis://",
    ),
    ("ERR max number of clients", T.UNREACHABLE, False, "{at} takes no more connections (its maxclients)"),
)
MAY_HAVE = {T.OTHER}  # what is refused for the reasons above was refused before anything was written


def trouble_of(answer: Exception, at: object, keys: str) -> EngineUnavailable:
    """An error that it answered, as ours. `keys`: the pattern of ours."""
    text = str(answer)
    said = text.partition(" script: ")[0].removeprefix("ERR ")
    if "can't run this command" in text or "NOPERM" in text or "No permissions" in text:
        text = f"NOPERM {text}"
    for beginning, reason, lasts, sentence in SAID:
        if text.startswith(beginning):
            kind = EngineRefused if lasts else EngineUnavailable
            shown = (
                said.removeprefix("SSEFAST ").removeprefix("FOREIGN ").removeprefix("LAYOUT ").removeprefix("DENIED ")
            )
            return kind(sentence.format(at=at, said=shown[:200], keys=keys), reason)
    return EngineUnavailable(f"{at} says: {text[:200]}", T.OTHER, maybe=True)


def unreachable(at: object, why: BaseException | str, *, maybe: bool = False) -> EngineUnavailable:
    told = str(why) or type(why).__name__
    return EngineUnavailable(f"{at} is not reached: {told}", T.UNREACHABLE, maybe=maybe)


def late(at: object, seconds: float, *, maybe: bool = False) -> EngineUnavailable:
    return EngineUnavailable(f"{at} did not answer within {seconds:g} s", T.TIMEOUT, maybe=maybe)
