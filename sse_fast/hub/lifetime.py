"""When a stream ends by itself: before its credential does, and each at a moment of its own, so that those who came
together do not all come back together."""

import random
from collections.abc import Callable

AHEAD = 1.0  # seconds of a credential's end: two looks at who is due, and the moment between the last words and the end
SPREAD = 0.2  # of a stream's time: the most that it ends before it has to
SPREAD_MOST = 60.0  # seconds ahead of a credential's end


def end_of(
    now: float, until: float | None, most: float | None, share: Callable[[], float] = random.random
) -> tuple[float | None, bool]:
    """When a stream ends that opens now, and whether that is for its age: after `most` seconds, at the latest; else
    it is because its credential ends, at `until`. None: never. Times are seconds since 1970."""
    end = None
    if until is not None:
        end = until - AHEAD - share() * min(SPREAD * (until - now), SPREAD_MOST)
    if most is not None:
        by_age = now + most * (1 - SPREAD * share())
        if end is None or by_age < end:
            return by_age, True
    return end, False
