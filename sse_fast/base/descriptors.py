"""How many descriptors a process may have: the server and the load client both want all they can get."""

import os
from dataclasses import dataclass

try:
    import resource
except ImportError:  # of Unix
    resource = None  # type: ignore[assignment]

# More than this is not taken of an unlimited limit: some libraries walk through all descriptors there could be.
DESCRIPTORS_AT_MOST = 1 << 20
# With fewer no worker could serve streams and still answer publishers and health checks.
LEAST_DESCRIPTORS = 256
WITHOUT_A_LIMIT = 16_384  # where there is none to ask for

A_RELAYED_EXCHANGE = 2  # descriptors beside its client's: the relay's end and the application server's
LEAST_RELAYED, MOST_RELAYED = 16, 256  # exchanges at once, where streams may have all else
BESIDE_STREAMS = 1024  # connections of the application server's, so that admission can answer whoever is one too many
HELD_BACK = 512  # at most; more than may wait to be accepted
OTHERS_PER_RELAYED = 3  # one is its client; the rest reads heads, publishes, or is kept alive between requests
AN_APP_S = 4  # of what there is one part in so many is for what is relayed to an app: its websockets stay for long


@dataclass(frozen=True, slots=True)
class Budget:
    """What the descriptors of one worker are for. All of these are full at once, and accept(2) still does not fail."""

    own: int
    """Its own: the log, the loop, wake-ups, the application's files and connections; no client of ours takes them."""
    streams: int
    """Streams open at once."""
    others: int
    """Connections of clients that are no streams, those whose exchange is relayed included."""
    relayed: int
    """Exchanges that the relay has under way at once, tunnels included; the application server's connections too."""

    @property
    def connections(self) -> int:
        """Of clients, at once. Places that streams leave free are anybody's."""
        return self.streams + self.others

    @property
    def without_relay(self) -> int:
        """Of clients, at once, where the application server itself accepts them, at a higher price than the front."""
        return min(self.all - self.own - self.held_back, self.streams + BESIDE_STREAMS)

    @property
    def held_back(self) -> int:
        """There, from the application server, until it has run out of the others."""
        return min(self.all // 16, HELD_BACK)

    @property
    def all(self) -> int:
        return self.own + self.connections + A_RELAYED_EXCHANGE * self.relayed


def budget(descriptors: int, streams: int | None = None, *, app: bool = False) -> Budget:
    """Divide so many descriptors, `LEAST_DESCRIPTORS` at least. `streams`: no more are wanted in one worker; what
    that leaves is for relayed exchanges and their clients. `app`: an app of the user's is relayed to."""
    own = max(64, min(descriptors // 8, 128), descriptors // 32)
    room = descriptors - own
    relayed = max(LEAST_RELAYED, min(room // 32, MOST_RELAYED))
    others = OTHERS_PER_RELAYED * relayed
    if app:  # of the others it is only their clients that are more
        more = max(0, room // AN_APP_S // A_RELAYED_EXCHANGE - relayed)
        relayed, others = relayed + more, others + more
    each = A_RELAYED_EXCHANGE + OTHERS_PER_RELAYED
    most = room - A_RELAYED_EXCHANGE * relayed - others
    if streams is not None and streams < most:
        relayed += (most - streams) // each
        most = streams
    return Budget(own, most, room - most - A_RELAYED_EXCHANGE * relayed, relayed)


def descriptors_for(streams: int, *, app: bool = False) -> int:
    """With so many, `budget` has so many streams."""
    needed = LEAST_DESCRIPTORS
    while (missing := streams - budget(needed, app=app).streams) > 0:
        needed += missing
    return needed


def raise_descriptor_limit() -> int:
    """Raise our soft limit as far as we may; the number of descriptors this process can have open."""
    if resource is None:
        return WITHOUT_A_LIMIT
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (DESCRIPTORS_AT_MOST if limit == resource.RLIM_INFINITY else limit for limit in limits)
    wanted = min(hard, DESCRIPTORS_AT_MOST)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, limits[1]))
    return max(soft, wanted)


def open_descriptors() -> int:
    """How many this process has open; counted by the kernel since Linux 6.2 (proc_pid_fd(5)), else one by one."""
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))


def limit_descriptors(most: int) -> None:
    """Have this process open no more from now on, until `raise_descriptor_limit`."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
