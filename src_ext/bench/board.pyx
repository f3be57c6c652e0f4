"""The board: counters, histograms and faults of a run in one shared segment.

Each native thread counts in its own block; others read. All of the segment is read and written atomically, and only
here. A number read while it is written is one event old at worst. Histograms have the layout of
HdrHistogram(1, 1_000_000_000, 3), so adding them up over processes is exact, and so is the difference of two moments.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from sse_fast._native.base.bits cimport leading_zeros
from sse_fast._native.base.atomics cimport (
    load_acquire, load_acquire32, load_relaxed, load_relaxed32, store_relaxed, store_relaxed32, store_release,
    store_release32,
)

COUNTERS = (
    "connects", "streaming", "unfinished", "opened", "deliveries", "events", "bytes", "reads", "published", "answered",
    "settled", "late", "came_back", "caught_up", "closed_by_us", "slow_streams", "slow_cut", "foreign",
    "tried_again",
)
FAULTS = (
    "refused", "unreachable", "timed_out", "redirect", "no_content", "status", "not_event_stream", "bad_head",
    "bad_chunk", "ended", "cut", "at_limit", "let_go", "reset", "event_too_long", "torn", "checksum", "wrong_channel", "lost",
    "lost_at_start", "duplicate", "out_of_order", "ids_fell", "no_id", "publish_refused", "publish_failed",
    "publish_unsent",
)
TIMINGS = ("latency", "last", "answer", "lateness", "connect", "first_byte", "back", "complete")
assert (len(COUNTERS), len(FAULTS), len(TIMINGS)) == (N_COUNTERS, N_FAULTS, N_TIMINGS)

cdef enum:
    SUB_BUCKETS = 2048
    HALF = 1024
    HALF_BITS = 10


cdef inline size_t place_of(uint64_t microseconds) noexcept nogil:
    cdef int bucket = 64 - leading_zeros(microseconds | (SUB_BUCKETS - 1)) - (HALF_BITS + 1)
    cdef uint64_t place = (<uint64_t>(bucket + 1) << HALF_BITS) + (microseconds >> bucket) - HALF
    return place if place < HISTOGRAM_COUNTS else HISTOGRAM_COUNTS - 1


cdef void record(Block* block, Timing timing, uint64_t microseconds) noexcept nogil:
    cdef uint64_t* at = &block.histograms[<int>timing][place_of(microseconds)]
    store_relaxed(at, at[0] + 1)


cdef void complain(Block* block, Fault fault, int64_t count, const char* example, size_t length) noexcept nogil:
    """Count a fault; the first of its kind leaves an example for the report."""
    cdef char* kept = block.examples[<int>fault]
    if block.faults[<int>fault] == 0 and example != NULL:
        length = min(length, <size_t>(EXAMPLE_BYTES - 1))
        memcpy(kept, example, length)
        kept[length] = 0
    store_release(&block.faults[<int>fault], block.faults[<int>fault] + <uint64_t>count)     # behind its example


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
        self._closed_loop = <uint32_t*>at
        self._published = self._closed_loop + 1
        self._target = self._published + pairs
        self._streaming = self._target + pairs

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

    cdef bint in_closed_loop(self) noexcept nogil:
        return load_acquire32(self._closed_loop)

    cdef void set_closed_loop(self, bint closed) noexcept nogil:
        store_release32(self._closed_loop, closed)

    cdef uint32_t published(self, uint32_t channel, uint32_t publisher) noexcept nogil:
        return load_acquire32(&self._published[<size_t>channel * self.publishers + publisher])

    cdef void set_published(self, uint32_t channel, uint32_t publisher, uint32_t count) noexcept nogil:
        store_release32(&self._published[<size_t>channel * self.publishers + publisher], count)

    cdef uint32_t target(self, uint32_t channel, uint32_t publisher) noexcept nogil:
        return load_relaxed32(&self._target[<size_t>channel * self.publishers + publisher])

    cdef uint32_t streaming(self, int worker, uint32_t channel) noexcept nogil:
        return load_acquire32(&self._streaming[<size_t>worker * self.channels + channel])

    cdef void count_streaming(self, int worker, uint32_t channel, int more) noexcept nogil:
        cdef uint32_t* at = &self._streaming[<size_t>worker * self.channels + channel]
        store_release32(at, at[0] + <uint32_t>more)

    cdef void set_done(self, int worker, uint32_t publisher, uint64_t key, uint64_t at) noexcept nogil:
        cdef Done* done = &self._done[<size_t>worker * self.publishers + publisher]
        store_relaxed(&done.at, at)
        store_release(&done.key, key)

    cdef bint done(self, int worker, uint32_t publisher, uint64_t key, uint64_t* at) noexcept nogil:
        """Whether all of the worker's subscribers have the event of that key; then `at` is when the last one had it."""
        cdef Done* done = &self._done[<size_t>worker * self.publishers + publisher]
        if load_acquire(&done.key) != key:
            return False
        at[0] = load_relaxed(&done.at)
        return True

    cdef bint doubt(self, uint32_t channel, uint32_t publisher, uint32_t n) noexcept nogil:
        """This event may have been published or not. Said before the publisher's next one is sent, so before any stream
        can have passed it over. False: there is no room to remember it."""
        cdef Doubts* doubts = &self._doubts[publisher]
        cdef uint32_t count = doubts.count
        if count == MOST_DOUBTS:
            return False
        doubts.channels[count] = channel
        doubts.numbers[count] = n
        store_release32(&doubts.count, count + 1)
        return True

    cdef uint32_t doubtful(
        self, uint32_t channel, uint32_t publisher, uint32_t first, uint32_t end, uint64_t* bits
    ) noexcept nogil:
        """How many of the numbers from `first` on and before `end` a stream need not have. Their bits are cleared, if
        `bits` is given: bit i is the number end-i."""
        cdef Doubts* doubts = &self._doubts[publisher]
        cdef uint32_t found = 0, i, n
        for i in range(load_acquire32(&doubts.count)):
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
                totals[name] += load_relaxed(&self._blocks[worker].counters[which])
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
                faults = load_acquire(&block.faults[which])
                count += faults
                if faults and not example:
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
                count += load_relaxed(&self._blocks[worker].histograms[which][place])
            if count:
                counts[place] = count
        return counts

    def aim(self):
        """From now on, who comes back is complete when it has all that is published by now."""
        cdef size_t pair
        for pair in range(<size_t>self.channels * self.publishers):
            store_relaxed32(&self._target[pair], load_acquire32(&self._published[pair]))
