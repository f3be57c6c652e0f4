"""Intrusive queues: the links are in the items, so `push` allocates nothing and cannot fail.

So an item that has to be handled is never forgotten, not even when memory has run out.
"""

cimport cython


cdef class Linked:
    """An item: in at most one queue at a time. `queued` says whether it is in one."""


@cython.final
cdef class Queue:
    """First in, first out."""

    cdef void push(self, Linked item) noexcept:
        """Append; an item that is in a queue already, this one or another, stays where it is."""
        if item.queued:
            return
        item.queued = True
        if self.first is None:
            self.first = item
        else:
            self.last.behind = item
        self.last = item

    cdef Linked pop(self):
        """The first item, or None."""
        cdef Linked item = self.first
        if item is None:
            return None
        self.first = item.behind
        item.behind = None
        item.queued = False
        if self.first is None:
            self.last = None
        return item
