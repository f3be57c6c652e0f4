"""Queues that are linked through their members, so that to stand in one needs no memory.

Whoever has news, or is owed some, is forgotten by nobody then, not even when memory has run out.
"""

cimport cython


cdef class Linked:
    """What may stand in a queue, in one at a time. `queued` says whether it does."""


@cython.final
cdef class Queue:
    """First in, first out."""

    cdef void push(self, Linked item) noexcept:
        """Stand at the end; who stands somewhere already stays there."""
        if item.queued:
            return
        item.queued = True
        if self.first is None:
            self.first = item
        else:
            self.last.behind = item
        self.last = item

    cdef Linked pop(self):
        """Who stands first, or None."""
        cdef Linked item = self.first
        if item is None:
            return None
        self.first = item.behind
        item.behind = None
        item.queued = False
        if self.first is None:
            self.last = None
        return item
