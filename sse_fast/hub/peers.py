"""The other workers over the same log, as a hub knows them."""

from typing import Protocol


class Peers(Protocol):
    """The other workers over the same log."""

    def arm(self) -> None:
        """Have them notify this worker of news from here on."""

    def disarm(self) -> None:
        """They need not notify it."""

    def notify(self) -> None:
        """There is news in the log: wake those who sleep."""

    @property
    def others_busy(self) -> bool:
        """Whether one of them has not handed out all of the log yet."""

    def hold(self, held: int, for_streams: int) -> None:
        """Tell them how many bytes of kernel memory wait for the clients of this one, and for streams' among them."""

    @property
    def held_by_others(self) -> int:
        """How many for theirs."""

    @property
    def held_for_streams_by_others(self) -> int:
        """And for streams' among them."""

    def lead(self, what: str) -> bool:
        """Whether this worker is the one that does this, from here on until `lead_no_more`, or its death."""

    def lead_no_more(self, what: str) -> None: ...

    def is_there(self, process: int) -> bool:
        """Whether this process is one of them, and lives."""

    def know(self, what: str) -> None:
        """This worker knows it, for as long as it lives."""

    def is_known(self, what: str) -> bool:
        """Whether another one does."""
