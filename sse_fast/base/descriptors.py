"""How many descriptors a process may have: the server and the load client both want all they can get."""

import resource

# More than this is not taken of an unlimited limit: some libraries walk through all descriptors there could be.
DESCRIPTORS_AT_MOST = 1 << 20
# Descriptors that a worker does not leave to streams: publishers, health checks, refusals, the log, the event loop.
DESCRIPTOR_RESERVE = 512
# With fewer no worker could serve streams and still answer publishers and health checks.
LEAST_DESCRIPTORS = 256


def raise_descriptor_limit() -> int:
    """Raise our soft limit as far as we may; the number of descriptors this process can have open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (DESCRIPTORS_AT_MOST if limit == resource.RLIM_INFINITY else limit for limit in limits)
    wanted = min(hard, DESCRIPTORS_AT_MOST)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, limits[1]))
    return max(soft, wanted)


def reachable_connections(descriptors: int) -> int:
    """How many streams fit into so many descriptors: all but the reserve, or half where there are very few."""
    return max(descriptors - DESCRIPTOR_RESERVE, descriptors // 2)


def own_descriptors(descriptors: int) -> int:
    """How many of them no connection may take, or accept(2) would fail: a worker's own, some 40, and what it opens."""
    return min(128, descriptors // 4)


def connections_beside_streams(descriptors: int) -> int:
    """How many connections the stream port may have of clients that have no stream: refused, or slow to ask."""
    return (descriptors - own_descriptors(descriptors) - reachable_connections(descriptors)) // 2
