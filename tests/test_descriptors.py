"""The descriptors of a worker are divided once, over all that it opens."""

import os

import pytest

from sse_fast.base.descriptors import LEAST_DESCRIPTORS, budget, open_descriptors

LIMITS = [LEAST_DESCRIPTORS, 300, 512, 700, 1024, 1500, 4096, 20_000, 65_536, 1 << 20]


@pytest.mark.parametrize("wanted", [None, 1, 100, 1000, 1 << 31])
@pytest.mark.parametrize("descriptors", LIMITS)
def test_with_everything_full_at_once_no_descriptor_is_missing(descriptors: int, wanted: int | None) -> None:
    has = budget(descriptors, wanted)
    upstream = accepted_by_the_application_server = has.relayed
    assert has.own + has.streams + has.others + upstream + accepted_by_the_application_server == descriptors
    assert has.connections == has.streams + has.others
    assert has.own + has.without_relay + has.held_back <= descriptors


@pytest.mark.parametrize("wanted", [None, 1, 100, 1000, 1 << 31])
@pytest.mark.parametrize("descriptors", LIMITS)
def test_relayed_exchanges_leave_places_to_publishers_and_health_checks(descriptors: int, wanted: int | None) -> None:
    has = budget(descriptors, wanted)
    assert has.relayed >= 16
    assert has.others >= 2 * has.relayed
    assert has.own >= 64
    assert has.without_relay >= has.streams + 48, "where the application server accepts clients itself"


@pytest.mark.parametrize("wanted", [None, 1, 1 << 31])
@pytest.mark.parametrize("descriptors", LIMITS)
def test_beside_an_app_a_quarter_is_for_what_is_relayed_to_it(descriptors: int, wanted: int | None) -> None:
    has, alone = budget(descriptors, wanted, app=True), budget(descriptors, wanted)
    assert has.all == descriptors
    assert 2 * has.relayed >= (descriptors - has.own) // 4 - 1
    assert has.others >= has.relayed + 32, "their clients, and room for publishers and health checks"
    assert has.streams >= min(has.own, wanted or has.own), "and streams are not crowded out"
    assert has.relayed >= alone.relayed
    assert has.streams <= alone.streams


@pytest.mark.parametrize("descriptors", LIMITS)
def test_most_descriptors_are_for_streams(descriptors: int) -> None:
    part = budget(descriptors).streams / descriptors
    assert part > (0.8 if descriptors >= 4096 else 0.7 if descriptors >= 1024 else 0.4)


@pytest.mark.parametrize("descriptors", LIMITS)
def test_what_streams_are_not_wanted_for_is_for_relayed_exchanges(descriptors: int) -> None:
    few, by_default = budget(descriptors, 10), budget(descriptors)
    assert few.streams == 10
    assert few.relayed > by_default.relayed
    assert few.others > by_default.others
    assert budget(descriptors, by_default.streams) == budget(descriptors, 1 << 31) == by_default


def test_those_that_are_open_are_counted() -> None:
    before = open_descriptors()
    assert abs(before - len(os.listdir("/proc/self/fd"))) <= 1  # to list them takes one
    more = [os.dup(0) for _ in range(10)]
    assert open_descriptors() == before + 10
    for descriptor in more:
        os.close(descriptor)
