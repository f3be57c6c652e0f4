"""How much memory there is: the machine's, or what its control group allows."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the processes of this one may have at most, swap included; None where nothing tells."""
    swap = _meminfo(root, "SwapTotal")
    told = [_meminfo(root, "MemTotal") + swap, *_group_limits(root, swap)]
    return min((limit for limit in told if limit), default=None)


def memory_available(root: Path = ROOT) -> int | None:
    """Bytes that could be had now without taking them from other programs; None where nothing tells."""
    return _meminfo(root, "MemAvailable", "SwapFree") or None


def _meminfo(root: Path, *names: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
        return sum(int(words[1]) * 1024 for words in lines if words[0].rstrip(":") in names)
    return 0


def _group_limits(root: Path, swap: int) -> Iterator[int]:
    """Of the control groups of this process and those around it, where the machine has so many bytes of swap.

    Version 2 limits memory and swap each, in whichever group it is least; version 1 memory, and the sum of both.
    """
    groups = ""
    with contextlib.suppress(OSError):
        groups = (root / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        inner = Path(group.lstrip("/"))
        around = [root / "sys/fs/cgroup" / controllers / folder for folder in (inner, *inner.parents)]
        if controllers:
            yield from _least(around, "memory.memsw.limit_in_bytes")
            memory, most_swap = _least(around, "memory.limit_in_bytes"), swap
        else:
            memory = _least(around, "memory.max")
            most_swap = min([swap, *_least(around, "memory.swap.max")])
        yield from (least + most_swap for least in memory)


def _least(folders: list[Path], file: str) -> list[int]:
    """The least limit of these, if there is one."""
    limits = []
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            limits.append(int((folder / file).read_text()))
    return sorted(limits)[:1]
