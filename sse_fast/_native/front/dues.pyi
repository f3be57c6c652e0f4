from typing import final

@final
class Dues:
    """What is due when; for the table of connections alone."""

    count: int
