"""The board: counters, histograms and faults of a run in one shared segment.

Native threads count in plain integers, each in its own block; others read. A number read while it is written is one
event old at worst. Histograms have the layout of HdrHistogram(1, 1_000_000_000, 3), so adding them up over processes
is exact, and so is taking the difference of two moments.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from sse_fast._native.linux cimport __ATOMIC_ACQUIRE, __ATOMIC_RELEASE, __atomic_load_n, __atomic_store_n

COUNTERS = (
    "connects", "streaming", "unfinished", "opened", "deliveries", "events", "bytes", "reads", "published", "answered",
    "settled", "late", "came_back", "caught_up", "closed_by_us", "slow_streams", "slow_cut", "foreign",
    "tried_again",
)
FAULTS = (
    "refused", "unreachable", "timed_out", "redirect", "no_content", "status", "not_event_stream", "bad_head",
    "bad_chunk", "ended", "cut", "reset", "event_too_long", "torn", "checksum", "wrong_channel", "lost",
    "lost_at_start", "duplicate", "out_of_order", "ids_fell", "no_id", "publish_refused", "publish_failed",
    "publish_unsent",
)
TIMINGS = ("latency", "last", "answer", "lateness", "connect", "first_byte", "back", "complete")
assert (len(COUNTERS), len(FAULTS), len(TIMINGS)) == (N_COUNTERS, N_FAULTS, N_TIMINGS)

cdef enum:
    SUB_BUCKETS = 2048
    HALF = 1024
    HALF_BITS = 10

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil


cdef inline size_t place_of(uint64_t microseconds) noexcept nogil:
    cdef int bucket = 64 - __builtin_clzll(microseconds | (SUB_BUCKETS - 1)) - (HALF_BITS + 1)
    cdef uint64_t place = (<uint64_t>(bucket + 1) << HALF_BITS) + (microseconds >> bucket) - HALF
    return place if place < HISTOGRAM_COUNTS else HISTOGRAM_COUNTS - 1


cdef void record(Block* block, Timing timing, uint64_t microseconds) noexcept nogil:
    block.histograms[<int>timing][place_of(microseconds)] += 1


cdef void complain(Block* block, Fault fault, uint64_t count, const char* example, size_t length) noexcept nogil:
    """Count a fault; the first of its kind leaves an example for the report."""
    cdef char* kept = block.examples[<int>fault]
    if block.faults[<int>fault] == 0 and example != NULL:
        length = min(length, <size_t>(EXAMPLE_BYTES - 1))
        memcpy(kept, example, length)
        kept[length] = 0
    block.faults[<int>fault] += count


def bucket(uint64_t microseconds):
    """Where a value is counted."""
    return place_of(microseconds)


def bucket_value(size_t index):
    """The lowest value that is counted at this place of a histogram."""
    cdef int bucket = <int>(index >> HALF_BITS) - 1
    cdef uint64_t sub = (index & (HALF - 1)) + HALF
    if bucket < 0:
        return index
    return sub << bucket


@cython.final
cdef class Board:
    """Board(memory, workers, channels, publishers): a view of a segment of `Board.size` bytes."""

    def __cinit__(self, memory, int workers, uint32_t channels, uint32_t publishers):
        PyObject_GetBuffer(memory, &self._view, PyBUF_WRITABLE)
        if self._view.len < Board.size(workers, channels, publishers):
            raise ValueError("the segment is too small for this board")
        cdef char* at = <char*>self._view.buf
        cdef size_t pairs = <size_t>channels * publishers
        self.workers, self.channels, self.publishers = workers, channels, publishers
        self._blocks = <Block*>at
        at += <size_t>workers * sizeof(Block)
        self._done = <Done*>at
        at += <size_t>workers * publishers * sizeof(Done)
        self._doubts = <Doubts*>at
        at += <size_t>publishers * sizeof(Doubts)
        self.closed_loop = <uint32_t*>at
        self.published = self.closed_loop + 1
        self.target = self.published + pairs
        self._streaming = self.target + pairs

    def __dealloc__(self):
        self.release()

    def release(self):
        """Let the segment go, so that it can be closed. The board is not used again."""
        if self._view.buf != NULL:
            PyBuffer_Release(&self._view)
            self._view.buf = NULL

    @staticmethod
    def size(size_t workers, size_t channels, size_t publishers):
        """Bytes that a board takes."""
        return (
            workers * (sizeof(Block) + publishers * sizeof(Done)) + publishers * sizeof(Doubts)
            + (1 + channels * (2 * publishers + workers)) * sizeof(uint32_t)
        )

    cdef Block* block(self, int worker) noexcept nogil:
        return &self._blocks[worker]

    cdef uint32_t* streaming(self, int worker) noexcept nogil:
        return self._streaming + <size_t>worker * self.channels

    cdef Done* done(self, int worker) noexcept nogil:
        return self._done + <size_t>worker * self.publishers

    cdef bint doubt(self, uint32_t channel, uint32_t publisher, uint32_t n) noexcept nogil:
        """Nobody knows whether this event is out. Said before the publisher's next one is sent, so before any stream
        can have passed it over. False: there is no room to remember it."""
        cdef Doubts* doubts = &self._doubts[publisher]
        cdef uint32_t count = doubts.count
        if count == MOST_DOUBTS:
            return False
        doubts.channels[count] = channel
        doubts.numbers[count] = n
        __atomic_store_n(&doubts.count, count + 1, __ATOMIC_RELEASE)
        return True

    cdef uint32_t doubtful(
        self, uint32_t channel, uint32_t publisher, uint32_t first, uint32_t end, uint64_t* bits
    ) noexcept nogil:
        """How many of the numbers from `first` on and before `end` a stream need not have. Their bits are cleared, if
        `bits` is given: bit i is the number end-i."""
        cdef Doubts* doubts = &self._doubts[publisher]
        cdef uint32_t found = 0, i, n
        for i in range(__atomic_load_n(&doubts.count, __ATOMIC_ACQUIRE)):
            n = doubts.numbers[i]
            if doubts.channels[i] == channel and first <= n < end:
                found += 1
                if bits != NULL and end - n < 64:
                    bits[0] &= ~(<uint64_t>1 << (end - n))
        return found

    def counters(self):
        """All counters, added up over the workers."""
        cdef int worker, which
        totals = dict.fromkeys(COUNTERS, 0)
        for which, name in enumerate(COUNTERS):
            for worker in range(self.workers):
                totals[name] += self._blocks[worker].counters[which]
        return totals

    def faults(self):
        """What was wrong: kind -> (how often, an example); only kinds that happened."""
        cdef int worker, which
        cdef Block* block
        found = {}
        for which, name in enumerate(FAULTS):
            count, example = 0, ""
            for worker in range(self.workers):
                block = &self._blocks[worker]
                count += block.faults[which]
                if not example:
                    example = block.examples[which][: strlen(block.examples[which])]
                    example = example.decode("utf-8", "backslashreplace")
            if count:
                found[name] = (count, example)
        return found

    def histogram(self, timing):
        """One timing over all workers: place -> count, only places that have one; `bucket_value` tells what they mean."""
        cdef int worker, which = TIMINGS.index(timing)
        cdef size_t place
        cdef uint64_t count
        counts = {}
        for place in range(HISTOGRAM_COUNTS):
            count = 0
            for worker in range(self.workers):
                count += self._blocks[worker].histograms[which][place]
            if count:
                counts[place] = count
        return counts

    def total_published(self):
        """Events that are out, over all channels and publishers, without those that were refused."""
        cdef size_t pair
        total = 0
        for pair in range(<size_t>self.channels * self.publishers):
            total += self.published[pair]
        return total

    def aim(self):
        """From now on, who comes back is complete when it has all that is published by now."""
        memcpy(self.target, self.published, <size_t>self.channels * self.publishers * sizeof(uint32_t))
