"""What a server was sent to prove who somebody is, it never says again: in no log, no metric, no answer."""

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import jwt
import pytest
from conftest import EdgeProcess, Edges

from sse_fast.transports.life import Transport

KEY = "the-publish-key-itself"
SECRET = "the-secret-that-signs-tokens-of-this-server"
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
        self.sent: list[str] = [KEY, SECRET]

    def __next__(self) -> str:
        self.sent.append(f"credential-{len(self.sent):05}-of-somebody")
        return self.sent[-1]

    def token(self) -> str:
        """A good one."""
        claims = {"exp": time.time() + 600, "jti": str(len(self.sent)), "sse": {"subscribe": ["**"], "publish": ["**"]}}
        self.sent.append(jwt.encode(claims, SECRET, "HS256"))
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
                f"Authorization: Bearer {secrets.token()}",
                f"Cookie: token={secrets.token()}",
                f"Authorization: Bearer {next(secrets)}",
                f"Authorization: Basic {encoded(next(secrets))}",
                f"Authorization: {next(secrets)}",
                f"Cookie: token={next(secrets)}; other={next(secrets)}",
                f"X-Api-Key: {next(secrets)}",
            ):
                yield f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n{END}".encode()
            yield f"{method} {path}{mark}access_token={secrets.token()} HTTP/1.1\r\nHost: localhost\r\n{END}".encode()
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


def answer_of(server: EdgeProcess, request: bytes, tls: ssl.SSLContext | None) -> str:
    """As much as comes within a moment of an answer; of a stream its beginning."""
    said = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)) as plain:
        connection = tls.wrap_socket(plain) if tls is not None else plain
        connection.sendall(request)
        connection.settimeout(0.05)
        while received := connection.recv(65536):
            said += received
    return said.decode("latin-1")


@pytest.mark.parametrize("transport", Transport)
def test_no_credential_is_said_again(edge: Edges, transport: Transport, certificate: tuple[str, ...]) -> None:
    by_asgi = transport is Transport.ASGI  # which is how a server with a certificate sends
    flags = ("--publish-key", KEY, "--token-secret", SECRET, "--token-cookie", "token", "--token-in-query")
    server = edge(*flags, "--log-level", "debug", "--access-log", *(certificate if by_asgi else ()))
    server.noise_expected = True
    tls = ssl._create_unverified_context() if by_asgi else None
    secrets = Secrets()
    answers = [answer_of(server, request, tls) for request in heads(secrets)]
    assert sum(answer.startswith("HTTP/1.1 ") for answer in answers) > 0.9 * len(answers)
    assert "HTTP/1.1 401 " in "".join(answers)
    told = [server.request("GET", path)[1].decode() for path in ("/stats", "/metrics", "/channels")]
    server.stop()
    log = server.log()
    assert "refused: wrong_key" in log
    assert f"stream opened client=127.0.0.1 transport={transport}" in log
    assert "stream ended" in log
    assert secrets.named_in("".join(answers + told)) == []
    assert secrets.named_in(log) == []
