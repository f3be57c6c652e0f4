"""What decisions go by may change while the server runs: keys do."""

from collections.abc import Callable


class Changes:
    """How often something did, and who is told. What was decided before does not hold any more."""

    def __init__(self) -> None:
        self.count = 0
        self._told: list[Callable[[], None]] = []

    def tell(self, changed: Callable[[], None]) -> None:
        """From here on `changed()` is called at once, each time."""
        self._told.append(changed)

    def happened(self) -> None:
        self.count += 1
        for told in self._told:
            told()
