# The board: one shared segment in which the processes of a run count, and which anybody reads at any time.
#
# Every worker writes only into its own block; `published`, `target` and the numbers of the closed loop are how the
# workers know of each other. All of it starts as zero.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from sse_fast._native.base.atomics cimport store_relaxed

cdef enum:
    EXAMPLE_BYTES = 160
    HISTOGRAM_COUNTS = 21504    # HdrHistogram(1, 1_000_000_000, 3): 20 buckets
    MOST_DOUBTS = 256           # of one publisher; more are held against the server

# In the order of board.COUNTERS.
cdef enum Counter:
    CONNECTS
    STREAMING
    UNFINISHED
    OPENED
    DELIVERIES
    EVENTS
    BYTES
    READS
    PUBLISHED
    ANSWERED
    SETTLED
    LATE
    CAME_BACK
    CAUGHT_UP
    CLOSED_BY_US
    SLOW_STREAMS
    SLOW_CUT
    FOREIGN
    TRIED_AGAIN
    N_COUNTERS

# What can be wrong, in the order of board.FAULTS.
cdef enum Fault:
    NO_FAULT = -1
    REFUSED
    UNREACHABLE
    TIMED_OUT
    REDIRECT
    NO_CONTENT
    STATUS
    NOT_EVENT_STREAM
    BAD_HEAD
    BAD_CHUNK
    ENDED
    CUT
    AT_LIMIT
    LET_GO
    RESET
    EVENT_TOO_LONG
    TORN
    CHECKSUM
    WRONG_CHANNEL
    LOST
    LOST_AT_START
    DUPLICATE
    OUT_OF_ORDER
    IDS_FELL
    NO_ID
    PUBLISH_REFUSED
    PUBLISH_FAILED
    PUBLISH_UNSENT
    N_FAULTS

# What is timed, in microseconds, in the order of board.TIMINGS.
cdef enum Timing:
    LATENCY
    LAST
    ANSWER
    LATENESS
    CONNECT
    FIRST_BYTE
    BACK
    COMPLETE
    N_TIMINGS


cdef struct Block:
    uint64_t counters[N_COUNTERS]
    uint64_t faults[N_FAULTS]
    char examples[N_FAULTS][EXAMPLE_BYTES]
    uint64_t histograms[N_TIMINGS][HISTOGRAM_COUNTS]


# Of one worker and one publisher: the event that all of the worker's subscribers have, and since when.
cdef struct Done:
    uint64_t key
    uint64_t at


# Of one publisher: events whose acknowledgement was lost with the connection. A stream may have them or not.
cdef struct Doubts:
    uint32_t count
    uint32_t channels[MOST_DOUBTS]
    uint32_t numbers[MOST_DOUBTS]


cdef class Board:
    cdef:
        Py_buffer _view
        readonly int workers
        readonly uint32_t channels, publishers
        uint32_t* _closed_loop  # nonzero: a publisher waits for everybody, so workers report
        uint32_t* _published    # [channel][publisher]: how many it has sent there
        uint32_t* _target       # the same, at the moment the storm returns
        uint32_t* _streaming
        Done* _done
        Doubts* _doubts
        Block* _blocks

    cdef Block* block(self, int worker) noexcept nogil
    cdef bint in_closed_loop(self) noexcept nogil
    cdef void set_closed_loop(self, bint closed) noexcept nogil
    cdef uint32_t published(self, uint32_t channel, uint32_t publisher) noexcept nogil
    cdef void set_published(self, uint32_t channel, uint32_t publisher, uint32_t count) noexcept nogil
    cdef uint32_t target(self, uint32_t channel, uint32_t publisher) noexcept nogil
    cdef uint32_t streaming(self, int worker, uint32_t channel) noexcept nogil  # subscribers a closed loop waits for
    cdef void count_streaming(self, int worker, uint32_t channel, int more) noexcept nogil
    cdef void set_done(self, int worker, uint32_t publisher, uint64_t key, uint64_t at) noexcept nogil
    cdef bint done(self, int worker, uint32_t publisher, uint64_t key, uint64_t* at) noexcept nogil
    cdef bint doubt(self, uint32_t channel, uint32_t publisher, uint32_t n) noexcept nogil
    cdef uint32_t doubtful(
        self, uint32_t channel, uint32_t publisher, uint32_t first, uint32_t end, uint64_t* bits
    ) noexcept nogil


cdef inline void count(Block* block, Counter which, int64_t more) noexcept nogil:
    store_relaxed(&block.counters[<int>which], block.counters[<int>which] + <uint64_t>more)

cdef void record(Block* block, Timing timing, uint64_t microseconds) noexcept nogil
cdef void complain(Block* block, Fault fault, int64_t count, const char* example, size_t length) noexcept nogil
