"""Who may publish: the key opens, compared in constant time; without one, pages of others are kept out."""

import hmac
from contextlib import nullcontext

import pytest

from sse_fast import Unauthorized
from sse_fast.access.access import Access
from sse_fast.access.grants import Grants
from sse_fast.access.origins import Origins
from sse_fast.access.publishers import Publishers
from sse_fast.errors import ForeignOrigin


def publishing(
    publishers: Publishers, header: str | None = None, *, origin: str | None = None, host: str | None = None
) -> Grants:
    """What a request to publish gets."""
    given = {b"authorization": header, b"origin": origin, b"host": host}
    headers = {name: value.encode("latin-1") for name, value in given.items() if value is not None}
    return Access(publishers=publishers).publishing(headers, b"", 0.0)


def test_without_a_key_anybody_publishes() -> None:
    for header in (None, "", "Bearer x", "Basic x"):
        assert publishing(Publishers(), header).publish.everything


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER s3cret", "Bearer  s3cret "])
def test_the_key_opens(header: str) -> None:
    publishing(Publishers("s3cret"), header)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (None, "needs a key; send it as 'Authorization: Bearer KEY'"),
        ("", "not without or with"),
        ("s3cret", "not without or with"),
        ("Basic s3cret", "or with another scheme"),
        ("Bearer", "not the publish key"),
        ("Bearer ", "not the publish key"),
        ("Bearer s3cre", "not the publish key"),
        ("Bearer s3crett", "not the publish key"),
        ("Bearer S3CRET", "not the publish key"),
        ("Bearer s3cret s3cret", "not the publish key"),
        ("Bearer s\xe9cret", "not the publish key"),
    ],
)
def test_anything_else_does_not_and_is_told_why(header: str | None, why: str) -> None:
    with pytest.raises(Unauthorized, match=why) as refusal:
        publishing(Publishers("s3cret"), header)
    assert "s3cret" not in str(refusal.value)


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(given: bytes, kept: bytes) -> bool:
        compared.append((given, kept))
        return real(given, kept)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    publishers = Publishers("s3cret")
    publishing(publishers, "Bearer s3cret")
    with pytest.raises(Unauthorized):
        publishing(publishers, "Bearer wrong")
    assert compared == [(b"s3cret", b"s3cret"), (b"wrong", b"s3cret")]


HERE = "127.0.0.1:8000"
ELSEWHERE = "app.example"


@pytest.mark.parametrize("origin", [None, f"http://{HERE}", f"https://{HERE}", f"https://{ELSEWHERE}"])
def test_without_a_key_pages_of_ours_and_of_listed_origins_may_publish(origin: str | None) -> None:
    for listed in (f"https://{ELSEWHERE}", "*"):
        publishing(Publishers(origins=[listed]), None, origin=origin, host=HERE)


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://localhost:5173", True),
        ("http://localhost", True),
        ("http://[::1]:5173", True),
        ("https://localhost:5173", False),
        ("http://localhost.evil.example:5173", False),
        ("http://evil.example:5173", False),
        ("http://localhost:", False),
        ("http://localhost:5173:80", False),
        ("http://localhost:80.evil.example", False),
        ("null", False),
    ],
)
def test_a_listed_origin_may_have_any_port(origin: str, may: bool) -> None:
    listed = ["http://localhost:*", "http://[::1]:*"]
    readable = dict(Origins(listed).headers_for(origin.encode()))
    assert (readable.get(b"access-control-allow-origin") == origin.encode()) is may
    with nullcontext() if may else pytest.raises(ForeignOrigin):
        publishing(Publishers(origins=listed), None, origin=origin, host=HERE)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "app.localhost", "127.9.9.9:80", "[::1]:8000"])
def test_ours_is_a_page_from_a_loopback_name(host: str) -> None:
    publishing(Publishers(), None, origin=f"http://{host}", host=host)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:8001", "null", "127.0.0.1:8000", ""])
def test_without_a_key_a_foreign_page_may_not_publish(origin: str) -> None:
    with pytest.raises(ForeignOrigin, match="cors_origins"):
        publishing(Publishers(origins=[f"https://{ELSEWHERE}"]), None, origin=origin, host=HERE)
    publishing(Publishers(foreign_pages=True), None, origin=origin, host=HERE)


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "8.8.8.8", "", "[::"])
def test_a_name_that_only_resolves_to_this_machine_is_not_ours(host: str) -> None:
    with pytest.raises(ForeignOrigin):
        publishing(Publishers(), None, origin=f"http://{host}", host=host)


def test_with_a_key_it_is_the_key_that_counts() -> None:
    publishers = Publishers("s3cret")
    publishing(publishers, "Bearer s3cret", origin="https://other.example", host=HERE)
