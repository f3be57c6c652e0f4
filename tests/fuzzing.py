"""How a fuzzer is run by hand: `fuzz_x.py --seconds 600 --seed 7`. It says its seed first and ends with what it met."""

import argparse
import asyncio
import gc
import logging
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import uvloop

MIB = 1024 * 1024
GROWTH = 192 * MIB  # of the process between a fifth of the run and its end; a sanitizer's own quarantine included
LONG = 1200.0  # seconds


def _arguments(about: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    return options


def _say_seed(seed: int) -> None:
    print(f"{Path(sys.argv[0]).name} --seed {seed}", flush=True)


def fuzz(about: str | None, step: Callable[[random.Random, Counter[str], float], None]) -> None:
    """Call step(rng, tally, end) again and again until `end`, which is by time.monotonic()."""
    given = _arguments(about).parse_args()
    _say_seed(given.seed)
    rng, tally = random.Random(given.seed), Counter[str]()
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        step(rng, tally, end)
    print(dict(sorted(tally.items())))


class Served(Protocol):
    """A run against a server in this process."""

    tally: Counter[str]

    async def begin(self) -> None: ...
    async def step(self) -> None: ...
    async def end(self) -> None:
        """Everybody has gone."""


def fuzz_server(about: str | None, opened: Callable[[random.Random], AbstractAsyncContextManager[Served]]) -> None:
    """Have a run's steps for `--seconds`, with a `--rest` after each; then its end. The process must not grow
    meanwhile, and no descriptor be left."""
    options = _arguments(about)
    options.add_argument("--rest", type=float, default=0, help="seconds of rest after each step")
    options.add_argument("--long", action="store_true", help=f"{LONG:g} seconds")
    given = options.parse_args()
    _say_seed(given.seed)
    logging.disable(logging.CRITICAL)
    seconds = LONG if given.long else given.seconds
    tally = uvloop.run(_run(opened(random.Random(given.seed)), seconds, given.rest))
    print(dict(sorted(tally.items())))


async def _run(opening: AbstractAsyncContextManager[Served], seconds: float, rest: float) -> Counter[str]:
    before = descriptors() + 1  # libuv keeps one in reserve, from its first stream on
    async with opening as fuzz:
        await fuzz.begin()
        begun = time.monotonic()
        settled = 0
        while (gone := time.monotonic() - begun) < seconds:
            await fuzz.step()
            if not settled and gone > seconds / 5:
                settled = resident()
            await asyncio.sleep(rest)
        await fuzz.end()
        assert resident() - settled < GROWTH, f"{(resident() - settled) // MIB} MiB more than before"
    gc.collect()
    await asyncio.sleep(0.1)
    assert descriptors() <= before, "descriptors are left open"
    return fuzz.tally


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
