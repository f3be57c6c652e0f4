"""Who may enter: limits are exact, counts come back to nothing, keys are compared in constant time."""

import hmac
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast import Overloaded, Unauthorized
from sse_fast.access.limits import Admission, Alone
from sse_fast.errors import ForeignOrigin

comings_and_goings = st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60)
limits = st.none() | st.integers(1, 5)


@given(comings_and_goings, limits, limits)
def test_it_counts_as_an_obvious_model_counts(
    steps: list[tuple[bool, str]], most: int | None, most_per_address: int | None
) -> None:
    admission = Admission(max_connections=most, max_connections_per_ip=most_per_address)
    inside: Counter[str] = Counter()
    accepted = 0
    refused: Counter[str] = Counter()
    for enters, address in steps:
        if enters:
            limit = None
            if most is not None and inside.total() >= most:
                limit = "max_connections"
            elif most_per_address is not None and inside[address] >= most_per_address:
                limit = "max_connections_per_ip"
            if limit is None:
                admission.enter(address)
                inside[address] += 1
                accepted += 1
            else:
                with pytest.raises(Overloaded):
                    admission.enter(address)
                refused[limit] += 1
        elif inside[address]:
            admission.leave(address)
            inside[address] -= 1
        assert admission.connections == inside.total()
        assert admission.accepted == accepted
        assert admission.refused == refused


@given(st.lists(st.sampled_from("abcdef"), max_size=40))
def test_an_address_is_forgotten_with_its_last_stream(addresses: list[str]) -> None:
    tally = Alone()
    admission = Admission(max_connections_per_ip=3, tally=tally)
    inside = []
    for address in addresses:
        try:
            admission.enter(address)
        except Overloaded:
            continue
        inside.append(address)
    for address in inside:
        admission.leave(address)
    assert admission.connections == 0
    assert not tally.by_address


def test_a_refused_address_leaves_no_trace() -> None:
    tally = Alone()
    admission = Admission(max_connections=1, max_connections_per_ip=1, tally=tally)
    admission.enter("a")
    for address in ("a", "b"):
        with pytest.raises(Overloaded, match="all 1 streams"):
            admission.enter(address)
    assert set(tally.by_address) == {"a"}
    assert tally.streams == 1
    admission.leave("a")
    admission.enter("b")


def test_the_limit_that_was_met_is_named() -> None:
    admission = Admission(max_connections=2, max_connections_per_ip=1)
    admission.enter("a")
    with pytest.raises(Overloaded, match=r"^a has all 1 streams open that one address may have"):
        admission.enter("a")
    admission.enter("b")
    with pytest.raises(Overloaded, match=r"^all 2 streams that this server allows are in use"):
        admission.enter("c")
    assert admission.refused == {"max_connections": 1, "max_connections_per_ip": 1}


def test_without_a_key_anybody_publishes() -> None:
    for header in (None, "", "Bearer x", "Basic x"):
        Admission().authorize_publisher(header)


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER s3cret", "Bearer  s3cret "])
def test_the_key_opens(header: str) -> None:
    Admission(publish_key="s3cret").authorize_publisher(header)


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
        Admission(publish_key="s3cret").authorize_publisher(header)
    assert "s3cret" not in str(refusal.value)


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(given: bytes, kept: bytes) -> bool:
        compared.append((given, kept))
        return real(given, kept)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    admission = Admission(publish_key="s3cret")
    admission.authorize_publisher("Bearer s3cret")
    with pytest.raises(Unauthorized):
        admission.authorize_publisher("Bearer wrong")
    assert compared == [(b"s3cret", b"s3cret"), (b"wrong", b"s3cret")]


HERE = "127.0.0.1:8000"
ELSEWHERE = "app.example"


@pytest.mark.parametrize("origin", [None, f"http://{HERE}", f"https://{HERE}", f"https://{ELSEWHERE}"])
def test_without_a_key_pages_of_ours_and_of_listed_origins_may_publish(origin: str | None) -> None:
    for listed in (f"https://{ELSEWHERE}", "*"):
        Admission(origins=[listed]).authorize_publisher(None, origin=origin, host=HERE)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "app.localhost", "127.9.9.9:80", "[::1]:8000"])
def test_ours_is_a_page_from_a_loopback_name(host: str) -> None:
    Admission().authorize_publisher(None, origin=f"http://{host}", host=host)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:8001", "null", "127.0.0.1:8000", ""])
def test_without_a_key_a_foreign_page_may_not_publish(origin: str) -> None:
    with pytest.raises(ForeignOrigin, match="cors_origins"):
        Admission(origins=[f"https://{ELSEWHERE}"]).authorize_publisher(None, origin=origin, host=HERE)
    Admission(foreign_pages=True).authorize_publisher(None, origin=origin, host=HERE)


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "8.8.8.8", "", "[::"])
def test_a_name_that_only_resolves_to_this_machine_is_not_ours(host: str) -> None:
    with pytest.raises(ForeignOrigin):
        Admission().authorize_publisher(None, origin=f"http://{host}", host=host)


def test_with_a_key_it_is_the_key_that_counts() -> None:
    admission = Admission(publish_key="s3cret")
    admission.authorize_publisher("Bearer s3cret", origin="https://other.example", host=HERE)


def test_a_stream_whose_address_cannot_be_counted_is_not_counted_in() -> None:
    class Full(Alone):
        def enter_from(self, address: str) -> int:
            raise OverflowError("the table of addresses is full")

    tally = Full()
    admission = Admission(max_connections_per_ip=3, tally=tally)
    for _ in range(5):
        with pytest.raises(OverflowError):
            admission.enter("a")
    assert (tally.streams, admission.connections) == (0, 0)
