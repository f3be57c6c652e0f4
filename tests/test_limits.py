"""How many streams may be open: limits are exact, counts come back to nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_fast import Overloaded
from sse_fast.access.limits import Admission, Alone

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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("2001:db8:0:0:1::", "2001:DB8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("192.0.2.1:1000", "192.0.2.1:1001"),
        ("[2001:db8::1]:1000", "2001:0DB8:0::2"),
        ("[::ffff:192.0.2.1]:1000", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_one_host_has_one_count_by_whichever_of_its_addresses(one: str, other: str) -> None:
    tally = Alone()
    admission = Admission(max_connections_per_ip=1, tally=tally)
    for first, second in ((one, other), (other, one)):
        admission.enter(first)
        with pytest.raises(Overloaded):
            admission.enter(second)
        admission.leave(second)  # the count is one and the same
        assert not tally.by_address


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("unknown", "_hidden:1"),
        ("192.0.2.1:x", "192.0.2.1:y"),  # no address, whatever is meant by it
        ("[192.0.2.1]:1", "192.0.2.1"),
    ],
)
def test_different_hosts_have_counts_of_their_own(one: str, other: str) -> None:
    admission = Admission(max_connections_per_ip=1)
    admission.enter(one)
    admission.enter(other)
    assert admission.connections == 2


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
