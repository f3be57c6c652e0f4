"""How long something took, counted: how often it took no longer than each of a few bounds, and how long all took together.

It only grows, and to add to it allocates nothing.
"""

from libc.stdint cimport uint64_t

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

cdef uint64_t NANOSECONDS[SIZE]
assert len(BOUNDS) == SIZE
cdef int each
for each in range(SIZE):
    NANOSECONDS[each] = <uint64_t>(1e9 * <double>BOUNDS[each])


cdef class Histogram:
    """Of seconds, by BOUNDS: as Prometheus has them, but that each count is of those alone which no lower bound holds."""

    @property
    def counts(self):
        """By BOUNDS, and the last of what is over them all."""
        return [self._counts[i] for i in range(SIZE + 1)]

    def observe(self, double seconds, uint64_t count=1):
        self.add(<uint64_t>(1e9 * max(seconds, 0.0)), count)

    cdef void add(self, uint64_t nanoseconds, uint64_t count) noexcept:
        cdef int at = 0
        while at < SIZE and nanoseconds > NANOSECONDS[at]:
            at += 1
        self._counts[at] += count
        self.nanoseconds += nanoseconds * count
