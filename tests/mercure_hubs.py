"""Hubs that the tests of Mercure's clients speak to: `sse-fast serve --mercure`, and Mercure's own where
benches/bench_mercure.py has built it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import PATIENCE, EdgeProcess, until
from support import free_port

from sse_fast.transports.life import Transport

KEY = "!ChangeThisMercureHubJWTSecretKey!"  # that of Mercure's documentation
WELL_KNOWN = "/.well-known/mercure"
RESOURCE, ISSUER = f"https://localhost{WELL_KNOWN}", "https://localhost"
DETAIL = "https://mercure.rocks/authorization-detail"
THEIRS = Path(__file__).parent.parent / "benches" / "build" / "mercure-hub"
FLAGS = ("--mercure", "--mercure-publisher-key", KEY, "--mercure-subscriber-key", KEY, "--mercure-anonymous")
FLAGS += (
    "--mercure-subscriptions",
    "--mercure-url",
    RESOURCE,
    "--mercure-issuer",
    ISSUER,
    "--cors-origins",
    "https://app.example",
)
NAMES = ("sse_fast", "mercure")


def token(key: str = KEY, **claims: Any) -> str:
    """Of the 07 dialect: `publish=["*"]`, `subscribe=[…]`, `payload=…`."""
    return jwt.encode({"mercure": claims}, key, "HS256")


def access_token(key: str = KEY, *, exp: float | None = None, **actions: list[Any]) -> str:
    """Of the 08 dialect: `publish=[{"match": "*"}]`, `subscribe=[…]`."""
    details = [{"type": DETAIL, "actions": [action], "topics": topics} for action, topics in actions.items()]
    claims = {"iss": ISSUER, "aud": RESOURCE, "sub": "test", "client_id": "test", "jti": "1", "iat": int(time.time())}
    claims |= {"exp": int(exp or time.time() + 600), "authorization_details": details}
    return jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt"})


@contextmanager
def serving(name: str, directory: Path) -> Iterator[str]:
    """A hub of that name while it runs; the URL of its endpoint."""
    if name == "sse_fast":
        edge = EdgeProcess(directory, FLAGS, Transport.NATIVE)
        edge.start()
        try:
            yield f"{edge.url}{WELL_KNOWN}"
        finally:
            edge.stop()
        return
    built = sorted(THEIRS.glob("mercure-hub-v*"))
    if not built:
        pytest.skip("Mercure's own hub is not built; `python benches/bench_mercure.py` builds it, with Go")
    port = free_port()
    process = subprocess.Popen([built[-1], f"127.0.0.1:{port}", KEY])

    def answers() -> bool:
        with suppress(OSError, HTTPException):
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("HEAD", WELL_KNOWN)
            return bool(connection.getresponse().status)
        return False

    try:
        until(answers, "Mercure's hub")
        yield f"http://127.0.0.1:{port}{WELL_KNOWN}"
    finally:
        process.terminate()
        process.wait(PATIENCE)
