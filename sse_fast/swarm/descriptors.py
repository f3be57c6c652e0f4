"""How many descriptors a process may have; apart, since parent and workers both need it."""

import resource


def raise_descriptor_limit() -> int:
    """Raise the soft limit as far as it goes; how many descriptors this process may have then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
