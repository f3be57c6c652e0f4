"""How long an answer may be kept, by its Cache-Control (RFC 9111, section 5.2.2)."""

import re

MAX_AGE = re.compile(r'max-age="?([0-9]{1,10})"?', re.I)
NEVER = frozenset(("no-store", "no-cache"))


def max_age(cache_control: str | None) -> int | None:
    """Seconds; 0: not at all. None: it does not say."""
    said: int | None = None
    for directive in (cache_control or "").split(","):
        directive = directive.strip()
        if directive.lower() in NEVER:
            return 0
        if said is None and (found := MAX_AGE.fullmatch(directive)) is not None:
            said = int(found[1])
    return said
