"""Laws of a node's last ten minutes: bounded, whole, whoever writes them, and whoever dies meanwhile."""

import pytest

from sse_fast._native.base.histogram import BOUNDS
from sse_fast.edge.history import BUCKETS, FIELDS, PLACE, SECONDS, History, in_columns, quantile

NOW = 1_700_000_000.25


def totals(**given: int) -> dict[str, int]:
    return dict.fromkeys(FIELDS, 0) | given


def filled(rows: int, start: float = NOW) -> History:
    """One row a second, 10 events published in each, to 3 streams each, two events a write, 2 µs a delivery."""
    history = History()
    for second in range(rows):
        history.add(
            start + second,
            totals(
                published=10 * second,
                deliveries=30 * second,
                handed=30 * second,
                writes=15 * second,
                cpu=60 * second,
                streams=3,
                **{"last 1": 10 * second},
            ),
        )
    return history


def test_each_second_has_what_came_between_two_rows() -> None:
    (*_, newest) = filled(5).seconds(NOW + 4)
    assert (newest.published, newest.deliveries, newest.streams) == (10, 30, 3)
    assert (newest.cpu_per_delivery, newest.events_per_write) == (2, 2)
    assert 0.5 <= (newest.p50 or 0) <= (newest.p99 or 0) <= 1
    assert newest.time == round(1000 * (NOW + 4))


def test_of_nothing_that_happened_nothing_is_said() -> None:
    history = History()
    for second in range(3):
        history.add(NOW + second, totals())
    newest = history.seconds(NOW + 2)[-1]
    assert (newest.p50, newest.p99, newest.cpu_per_delivery, newest.events_per_write) == (None, None, None, None)
    assert newest.published == 0


def test_it_has_ten_minutes_however_long_the_node_lives() -> None:
    rows = 3 * SECONDS
    seconds = filled(rows).seconds(NOW + rows - 1)
    assert SECONDS <= len(seconds) <= SECONDS + 2
    assert all(second.published == 10 for second in seconds)
    assert [second.time for second in seconds] == sorted({second.time for second in seconds})
    assert len(filled(rows).seconds(NOW + rows - 1, last=30)) in (30, 31, 32)


def test_what_was_before_the_last_ten_minutes_is_not_shown_for_them() -> None:
    assert filled(100).seconds(NOW + 3600) == []


def test_several_workers_write_it_over_one_memory_and_one_row_a_second_is_enough() -> None:
    memory = memoryview(bytearray(History.size()))
    one, other = History(memory), History(memory)
    assert one.is_due(NOW)
    assert other.is_due(NOW)
    one.add(NOW, totals())
    assert not other.is_due(NOW + 0.5)
    assert other.is_due(NOW + 1), "whoever wrote the last one may be dead"
    other.add(NOW + 1, totals(published=7))
    assert not one.is_due(NOW + 1.1)
    assert [second.published for second in one.seconds(NOW + 1)] == [7]


def test_a_clock_that_was_set_back_does_not_end_it() -> None:
    history = filled(3)
    assert history.is_due(NOW)


def test_a_row_that_is_being_written_is_left_out() -> None:
    memory = memoryview(bytearray(History.size()))
    history = History(memory)
    for second in range(5):
        history.add(NOW + second, totals(published=second))
    at = (int(NOW) + 2) % (len(memory) // PLACE) * PLACE
    memory[at + 12] ^= 1
    assert [second.published for second in history.seconds(NOW + 4)] == [1, 1, 1]
    assert len(history.seconds(NOW + 4)) == 3


def test_where_nobody_wrote_there_is_a_hole_and_no_line_over_it() -> None:
    history = filled(3)
    history.add(NOW + 30, totals(published=1000))
    history.add(NOW + 31, totals(published=1001))
    assert [second.published for second in history.seconds(NOW + 31)] == [10, 10, 1]


def test_totals_that_began_anew_are_no_rate() -> None:
    history = filled(3)
    history.add(NOW + 3, totals())
    assert [second.published for second in history.seconds(NOW + 3)] == [10, 10]


def test_a_column_has_a_value_for_each_second() -> None:
    columns = in_columns(filled(4).seconds(NOW + 3))
    assert columns["published"] == [10, 10, 10]
    assert {len(column) for column in columns.values()} == {3}


@pytest.mark.parametrize(
    ("counts", "share", "milliseconds"),
    [
        ({}, 0.5, None),
        ({3: 100}, 0.5, 3.75),
        ({0: 50, 4: 50}, 0.99, 9.9),
        ({len(BOUNDS): 5}, 0.5, 10_000),
    ],
)
def test_quantiles_are_those_that_a_histogram_can_tell(
    counts: dict[int, int], share: float, milliseconds: float | None
) -> None:
    assert quantile([counts.get(at, 0) for at in range(BUCKETS)], share) == milliseconds
