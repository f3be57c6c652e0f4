"""Numbers as people read them: rounded as far as they mean something, with a unit. What was not measured says so."""

import math

THIN = "\u202f"  # narrow and no-break: between thousands, and before a unit
NOT_MEASURED = "not measured"
TIMES = ((1.0, "µs"), (1e3, "ms"), (1e6, "s"))
BYTES = ((1.0, "B"), (1024.0, "KiB"), (1024.0**2, "MiB"), (1024.0**3, "GiB"))


def rounded(value: float, digits: int = 3) -> str:
    """So many significant digits, never fewer than the whole number has thousands to group: 1 234 000, 12.3, 0.0456."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    value = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", THIN)


def short(value: float) -> str:
    """For a tick: no zeros behind the point."""
    text = rounded(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}".replace(",", THIN)


def amount(value: float | None) -> str:
    """A rate or a share of something: four digits tell enough."""
    return NOT_MEASURED if value is None else rounded(value, 4) if value >= 1000 else rounded(value)


def rate(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{amount(value)}/s"


def duration(microseconds: float | None, digits: int = 3) -> str:
    return _scaled(microseconds, TIMES, 1000, digits)


def seconds(value: float | None) -> str:
    return duration(None if value is None else value * 1e6)


def memory(size: float | None, digits: int = 3) -> str:
    return _scaled(size, BYTES, 1024, digits)


def of_figure(name: str, value: float | None) -> str:
    """A figure says by its name what it is."""
    if "_us_" in name:
        return duration(value)
    if "memory" in name:
        return memory(value)
    if name.endswith("_per_second"):
        return rate(value)
    if name.endswith("seconds"):
        return seconds(value)
    return amount(value) if name.endswith("cores") else count(value)


def tick_of_time(microseconds: float) -> str:
    return "0" if microseconds == 0 else _without_zeros(duration(microseconds))


def tick_of_memory(size: float) -> str:
    return "0" if size == 0 else _without_zeros(memory(size))


def _scaled(value: float | None, units: tuple[tuple[float, str], ...], step: int, digits: int) -> str:
    if value is None:
        return NOT_MEASURED
    shown = ((size, unit) for size, unit in units if float(f"{value / size:.{digits - 1}e}") < step)
    size, unit = next(shown, units[-1])  # by the number as it is rounded: not 1 000 µs but 1.00 ms
    if size == 1 and isinstance(value, int):
        return f"{count(value)}{THIN}{unit}"
    return f"{rounded(value / size, digits)}{THIN}{unit}"


def _without_zeros(text: str) -> str:
    number, _, unit = text.rpartition(THIN)
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{THIN}{unit}"
