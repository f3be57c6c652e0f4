"""What a bench says at its end: its goals, a line each, what went wrong, and the status it exits with."""

import argparse
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, TypeVar

from harness import machine, say
from peers.base import CannotInstall, Peer
from peers.report import spread

AnyPeer = TypeVar("AnyPeer", bound=Peer)


class Verdict:
    """met: all goals so far are."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.met = True

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def add(self, what: str, values: Collection[float], of: str, goal: float | None, digits: int = 2) -> None:
        """The median of `values` is to be `goal` at most; None: there is none, and they are told."""
        good = goal is None or (bool(values) and median(values) <= goal)
        self.met = self.met and good
        word = "      " if goal is None else "met   " if good else "MISSED"
        aim = "" if goal is None else f", goal {goal:.2f}"
        self.lines.append(f"{word} {what}: {spread(values, digits)} {of}{aim}")


def conclude(verdict: Verdict, findings: Sequence[Any], wrong: Iterable[str], arguments: argparse.Namespace) -> int:
    """Say it all, write what `--json` asks for, and return the status to exit with: 1 where something is wrong, or
    nothing was found, or a goal is missed, without `--quick`. `findings` are dataclasses."""
    print(f"\n{verdict}")
    if arguments.json:
        record = {"machine": machine(), "findings": [*map(asdict, findings)]}
        arguments.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    wrong = list(wrong)
    for one in wrong:
        say(f"WRONG: {one}")
    return 1 if wrong or not findings or not (verdict.met or arguments.quick) else 0


def available(peers: Iterable[AnyPeer], *, install: bool) -> list[AnyPeer]:
    """Those that are here; of the others it is said why not."""
    found = []
    for peer in peers:
        if install and peer.version() is None:
            say(f"{peer.name}: installing")
            try:
                peer.install()
            except CannotInstall as error:
                say(f"{peer.name}: cannot be had here: {error}")
        if version := peer.version():
            say(f"{peer.name}: {version}")
            found.append(peer)
        else:
            say(f"{peer.name}: skipped, it is not installed")
    return found
