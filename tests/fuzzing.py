"""How a fuzzer is run by hand: `fuzz_x.py --seconds 600 --seed 7`. It says its seed first and ends with what it met."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path


def fuzz(about: str | None, step: Callable[[random.Random, Counter[str], float], None]) -> None:
    """Call step(rng, tally, end) again and again until `end`, which is by time.monotonic()."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = options.parse_args()
    print(f"{Path(sys.argv[0]).name} --seed {given.seed}", flush=True)
    rng, tally = random.Random(given.seed), Counter[str]()
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        step(rng, tally, end)
    print(dict(sorted(tally.items())))
