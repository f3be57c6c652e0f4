"""scripts/mercure-conformance: the Mercure project's own tests, from a checkout of theirs."""

import os
import subprocess
from pathlib import Path

import pytest
from mercure_hubs import WELL_KNOWN, serving

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "mercure-conformance"
CHECKOUT = "SSE_FAST_MERCURE_CHECKOUT"


def conformance(*words: str, checkout: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != CHECKOUT}
    environment |= {CHECKOUT: checkout} if checkout is not None else {}
    return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=120)


def test_without_a_checkout_it_says_what_to_give() -> None:
    done = conformance("--dialect", "8", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "give a checkout of dunglas/mercure by --checkout or SSE_FAST_MERCURE_CHECKOUT" in done.stderr


def test_what_is_no_checkout_of_mercure_is_named(tmp_path: Path) -> None:
    done = conformance("--dialect", "7", "http://127.0.0.1:9", checkout=str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path} is no checkout of dunglas/mercure" in done.stderr


@pytest.mark.parametrize("dialect", ["7", "8"])
def test_mercures_own_tests_pass(dialect: str, tmp_path: Path) -> None:
    if not (checkout := os.environ.get(CHECKOUT)):
        pytest.skip(f"{CHECKOUT} gives no checkout of dunglas/mercure")
    with serving("sse_fast", tmp_path) as url:
        done = conformance("--dialect", dialect, url.removesuffix(WELL_KNOWN), checkout=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
