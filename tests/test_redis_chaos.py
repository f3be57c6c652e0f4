"""`chaos_engine`, for a moment."""

from chaos_engine import chaos


async def test_whatever_happens_to_redis_and_the_ways_to_it_all_read_one_log_with_each_event_once() -> None:
    await chaos(seed=1, seconds=2)
