"""Every native module under AddressSanitizer and UndefinedBehaviorSanitizer, by what the table below says.

    make sanitize                                           # short, as CI does it: some two minutes with its build
    make sanitize ARGS=--long                               # an hour
    make sanitize ARGS='--seconds 60 --only publication'    # one fuzzer of them, for so long

It runs inside `scripts/sanitized`, each driver in a process of its own, as many at a time as there are cores. What was
found is printed with the command that finds it again, and the status is 1.
"""

import argparse
import os
import random
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SHORT, LONG = 10.0, 600.0  # seconds of a fuzzer
FOUND = 99  # the status of a process in which AddressSanitizer has found something
NATIVE = "sse_fast._native."
LONG_FORMS = {"HYPOTHESIS_PROFILE": "long", "SSE_FAST_LOG_FLIPS": "20000"}


@dataclass(frozen=True)
class Driver:
    """What drives which modules: a fuzzer, or test files in one pytest."""

    modules: str
    files: str
    share: float = 1.0  # of a fuzzer's seconds
    tests: str = ""  # pytest's -k: what these files need not do here
    short: bool = True  # is part of the short pass

    @property
    def name(self) -> str:
        return self.files.split()[0].removesuffix(".py").removeprefix("fuzz_")

    def arguments(self, seconds: float, seed: int) -> list[str]:
        files = [str(HERE / file) for file in self.files.split()]
        if files[0].startswith(str(HERE / "fuzz_")):
            return [*files, "--seconds", f"{seconds * self.share:g}", "--seed", str(seed)]
        return ["-m", "pytest", "-p", "no:faulthandler", "-p", "no:cacheprovider", "-q", "-k", self.tests, *files]


DRIVERS = [
    # The log and the fan-out, against their model too. What takes longest comes first.
    Driver(
        "fanout.drain fanout.reading fanout.groups fanout.volley fanout.deadlines fanout.endings fanout.forms "
        "fanout.sinks base.histogram base.queue wire.envelope wire.gzip wire.control log.index log.channels "
        "log.patterns log.reserve log.reserved log.selection log.beginnings log.ring log.pieces "
        "log.retention log.rules log.newest log.ids log.sources",
        "test_fanout_machine.py test_namespaces_machine.py test_reserves_machine.py test_reserves.py test_conflation.py"
        " test_fanout.py"
        " test_streams_of_patterns.py test_publishers_ids.py test_endings.py test_envelope.py"
        " test_batches.py test_sinks.py",
        tests="not meets_memory_that_is_there",  # counts page faults, and the sanitizers have their own
    ),
    # The wire: bytes of publishers, of servers, of apps.
    Driver("wire.publication wire.frame", "fuzz_publication.py"),
    Driver("wire.form", "test_mercure_form.py", share=0.25),
    Driver("wire.templates wire.publication", "test_typed_templates.py", share=0.25),
    Driver("wire.event_parser bench.stream_parser bench.payload", "fuzz_event_parser.py"),
    # Strangers' connections.
    Driver(
        "front.listener front.connection front.table front.dues front.places base.tcp fanout.drain fanout.sinks"
        " log.ring wire.publication",
        "fuzz_listener.py",
        share=1.5,
    ),
    Driver(
        "front.listener front.connection front.places front.upstream front.posts front.chunks base.siphash fanout.drain"
        " fanout.sinks log.ring wire.publication",
        "fuzz_front.py",
        share=2,
    ),
    Driver("front.posts front.connection base.siphash", "test_posts.py", share=0.5),
    Driver("front.chunks", "test_chunks.py", share=0.25),
    # App servers that answer what they like.
    Driver("front.upstream front.connection", "test_relay.py"),
    Driver("base.tcp", "test_kernel.py"),
    Driver("front.places front.listener front.connection", "test_places.py", share=0.5),
    # The load client, and a server that lies to it.
    Driver(
        "bench.swarm bench.publisher bench.dial bench.framing bench.board bench.stream_parser bench.payload"
        " bench.expected bench.schedule",
        "fuzz_load_client.py",
    ),
    # Memory that others write to, or have damaged.
    Driver("node.slots", "fuzz_slots.py", share=0.5),
    Driver("node.buckets base.siphash", "test_buckets.py", share=0.25),
    Driver(
        "log.ring log.names log.measure log.index log.beginnings log.keys log.verify log.header log.lock log.epochs"
        " log.outside log.recent fanout.drain",
        "test_ring.py test_index.py test_keys.py test_segment.py test_log_processes.py test_outside.py"
        " test_forgetting.py test_log_file.py",
        tests="(not test_log_file or damage) and not any_instruction and not mark_that_was_not_done",
    ),
    # What the fuzzers above go through as well.
    Driver("wire.publication wire.frame", "test_frame.py test_event.py test_numbers.py", short=False),
    Driver("wire.event_parser", "test_event_parser.py", short=False),
    Driver("front.listener front.connection", "test_listener.py test_connection.py test_front.py", short=False),
    Driver("bench.board bench.dial bench.stream_parser bench.payload", "test_swarm.py", short=False),
    Driver("log.ring log.keys log.verify", "test_log_file.py test_log_dying_writers.py test_keys.py", short=False),
]


def inside(modules: Sequence[str], arguments: Sequence[str]) -> int:
    """Be one driver; and when it is through, look whether the modules that it drove are those with the sanitizers."""
    sys.argv = list(arguments)
    if arguments[0] == "-m":
        import pytest

        status = int(pytest.main(list(arguments[2:])))
    else:
        status = 0
        runpy.run_path(arguments[0], run_name="__main__")
    for module in modules:
        loaded = sys.modules.get(NATIVE + module)
        if loaded is None or loaded.__file__ is None:
            sys.exit(f"{arguments[0]} never imports {module}, which it should drive")
        binary = Path(loaded.__file__).read_bytes()
        if b"__asan_report_" not in binary or b"__ubsan_handle_" not in binary:
            sys.exit(f"{loaded.__file__} was built without the sanitizers: run this by scripts/sanitized")
    return status


def finds_faults() -> bool:
    """Whether AddressSanitizer is there and ends a process that reads past its memory."""
    memory = "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; at = c.malloc(8)"
    read_past = "c.memcmp(ctypes.c_void_p(at), ctypes.c_void_p(at + 1), ctypes.c_size_t(8))"
    done = subprocess.run([sys.executable, "-c", f"{memory}; {read_past}"], capture_output=True, check=False)
    return done.returncode == FOUND and b"heap-buffer-overflow" in done.stderr


def drive(driver: Driver, arguments: Sequence[str], environment: dict[str, str], patience: float) -> bool:
    begun = time.monotonic()
    command = [sys.executable, __file__, "--inside", driver.modules, "--", *arguments]
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
        )
        status, said = str(done.returncode), done.stdout
    except subprocess.TimeoutExpired as error:
        status, said = f"killed after {patience:g} s", str(error.stdout or "")
    took = time.monotonic() - begun
    if status == "0":
        print(f"ok      {took:5.0f} s  {driver.name:18}  {said.strip().splitlines()[-1]}", flush=True)
        return True
    again = " ".join([*(f"{name}={value}" for name, value in environment.items()), "scripts/sanitized", *arguments])
    print(f"{said}\nFAILED  {took:5.0f} s  {driver.name}: status {status}\n    {again}", flush=True)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help=f"{LONG:g} s for a fuzzer, long forms of tests, more tests")
    parser.add_argument("--seconds", type=float, help=f"of a fuzzer, more or less; {SHORT:g}, or {LONG:g} with --long")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the fuzzers; by default any")
    parser.add_argument("--only", default="", metavar="NAME", help="drivers whose name contains this")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        return inside(given.inside.split(), given.arguments)
    if not finds_faults():
        print("no sanitizer finds anything here: run this by 'make sanitize' or scripts/sanitized", file=sys.stderr)
        return 1
    seconds = given.seconds or (LONG if given.long else SHORT)
    chosen = [driver for driver in DRIVERS if (driver.short or given.long) and given.only in driver.name]
    if not chosen:
        print(f"no driver has {given.only!r} in its name: {', '.join(one.name for one in DRIVERS)}", file=sys.stderr)
        return 1
    environment = LONG_FORMS if given.long else {}
    patience = 10 * seconds + (7200 if given.long else 300)
    print(f"--seed {given.seed}", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda one: drive(one, one.arguments(seconds, given.seed), environment, patience), chosen)
        return int(not all(list(results)))


if __name__ == "__main__":
    sys.exit(main())
