"""Times as people write them: `90s`, `30m`, `1.5h`, `7d`."""

import re

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(s|min|m|h|d)")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(given: object) -> object:
    """Seconds, of what has a unit; anything else as it was given."""
    found = DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    return float(found[1]) * SECONDS[found[2]] if found is not None else given
