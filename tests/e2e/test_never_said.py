"""What a server was sent to prove who somebody is, it never says again: in no log, no metric, no answer."""

import base64
import contextlib
import socket
from collections.abc import Iterator

import pytest
from conftest import EdgeProcess, Edges

from sse_fast.transports.life import Transport

KEY = "the-publish-key-itself"
PATHS = (
    "/sse/a",
    "/sse?channel=a",
    "/publish/a",
    "/publish",
    "/",
    "/stats",
    "/metrics",
    "/channels",
    "/livez",
    "/nothing",
)
END = "Connection: close\r\nContent-Length: 0\r\n\r\n"
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "DELETE")


class Secrets:
    """Credentials that nothing else looks like: `next(secrets)`."""

    def __init__(self) -> None:
        self.sent: list[str] = [KEY]

    def __next__(self) -> str:
        self.sent.append(f"credential-{len(self.sent):05}-of-somebody")
        return self.sent[-1]

    def __iter__(self) -> Iterator[str]:
        return self

    def named_in(self, text: str) -> list[str]:
        return [secret for secret in self.sent if secret in text or encoded(secret) in text]


def encoded(secret: str) -> str:
    return base64.b64encode(f"user:{secret}".encode()).decode()


def heads(secrets: Secrets) -> Iterator[bytes]:
    """Requests, right and wrong, with a credential wherever one may stand, and where it should not."""
    for path in PATHS:
        mark = "&" if "?" in path else "?"
        for method in METHODS:
            for line in (
                f"Authorization: Bearer {next(secrets)}",
                f"Authorization: Basic {encoded(next(secrets))}",
                f"Authorization: {next(secrets)}",
                f"Cookie: token={next(secrets)}; other={next(secrets)}",
                f"X-Api-Key: {next(secrets)}",
            ):
                yield f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n{END}".encode()
            for name in ("access_token", "token", "authorization", "acess_token", "jwt"):
                target = f"{path}{mark}{name}={next(secrets)}"
                yield f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{END}".encode()
    for broken in (
        f"GET /sse/a?access_token={next(secrets)} HTTP/1.1\r\nHost: a b\r\n\r\n",
        f"GET /sse/a?access_token={next(secrets)}\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nAuthorization: Bearer {next(secrets)}\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {next(secrets)}\nX: 1\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {next(secrets) * 2000}\r\n\r\n",
        f"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {next(secrets)}\r\n"
        "Content-Length: 9\r\n\r\nhalf",
        f"GET http://{next(secrets)}@localhost/sse/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nHost: evil.test\r\nAuthorization: Bearer {next(secrets)}\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {next(secrets)}\r\n",
    ):
        yield broken.encode()
    for body in ("{", "[1]", '{"channel": "a"}', "\xff"):
        head = (
            f"POST /publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}"
        )
        yield f"{head}\r\n\r\n{body}".encode("latin-1")
    yield f"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


def answer_of(server: EdgeProcess, request: bytes) -> str:
    """As much as comes within a moment of an answer; of a stream its beginning."""
    said = b""
    with socket.create_connection(("127.0.0.1", server.port)) as connection, contextlib.suppress(OSError):
        connection.sendall(request)
        connection.settimeout(0.02)
        while received := connection.recv(65536):
            said += received
    return said.decode("latin-1")


@pytest.mark.parametrize("transport", Transport)
def test_no_credential_is_said_again(edge: Edges, transport: Transport) -> None:
    common = ("--publish-key", KEY, "--log-level", "debug")
    access_log = ("--access-log",) if transport is Transport.NATIVE else ("--access-log", "true")
    server = edge(*common, *access_log, transport=transport)
    server.noise_expected = True
    secrets = Secrets()
    answers = [answer_of(server, request) for request in heads(secrets)]
    assert sum(answer.startswith("HTTP/1.1 ") for answer in answers) > 0.9 * len(answers)
    assert "HTTP/1.1 401 " in "".join(answers)
    said = "".join(answers) + "".join(
        server.request("GET", path)[1].decode() for path in ("/stats", "/metrics", "/channels")
    )
    server.stop()
    log = server.log()
    assert "refused: wrong_key" in log
    assert secrets.named_in(said) == []
    assert secrets.named_in(log) == []
