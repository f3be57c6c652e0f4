"""How much memory there is: the machine's, or what its control group allows."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the processes of this one may have at most, swap included; None where nothing tells."""
    told = [_meminfo(root, "MemTotal", "SwapTotal"), *_group_limits(root)]
    return min((limit for limit in told if limit), default=None)


def memory_available(root: Path = ROOT) -> int | None:
    """Bytes that could be had now without taking them from other programs; None where nothing tells."""
    return _meminfo(root, "MemAvailable", "SwapFree") or None


def _meminfo(root: Path, *names: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        return sum(int(words[1]) * 1024 for words in lines if words[0].rstrip(":") in names)
    return 0


def _group_limits(root: Path) -> Iterator[int]:
    """Of the control groups of this process and those around it. Version 2: memory.max; version 1: limit_in_bytes."""
    groups = ""
    with contextlib.suppress(OSError):
        groups = (root / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mounted = root / "sys/fs/cgroup" / controllers
        file = "memory.limit_in_bytes" if controllers else "memory.max"
        inner = Path(group.lstrip("/"))
        for folder in (inner, *inner.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
                yield int((mounted / folder / file).read_text())
