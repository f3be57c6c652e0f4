"""Strangers at the front; `scripts/sanitized tests/fuzz_listener.py --seconds 600` is the long one.

SSE_FAST_FUZZ_SECONDS makes it longer, SSE_FAST_FUZZ_SEED repeats a run's choices.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

FUZZER = Path(__file__).with_name("fuzz_listener.py")
SECONDS = float(os.environ.get("SSE_FAST_FUZZ_SECONDS", "20"))
REST = 0.004  # after each step: two thirds of the time is left to others


def test_strangers_neither_crash_nor_hang_nor_grow_it_and_who_behaves_gets_everything() -> None:
    seed = os.environ.get("SSE_FAST_FUZZ_SEED", str(random.randrange(2**32)))
    command = [sys.executable, str(FUZZER), "--seconds", str(SECONDS), "--rest", str(REST), "--seed", seed]
    # A process of its own: a crash is to be told with its seed.
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{' '.join(command[1:])}\nstatus {done.returncode}\n{done.stderr}"
