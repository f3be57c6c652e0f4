# The log for C callers.
#
# A writer calls `append_record`. A reader keeps an offset of its own: `read_record` looks at one record, the caller copies
# out from `names_at`, and only a `still_holds` that is true afterwards makes what was copied real.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from sse_fast._native.log.layout cimport LogHeader, Record
from sse_fast._native.base.mutex cimport robust_mutex
from sse_fast._native.log.reserve cimport Reserves


cdef enum:
    READ_AT_HEAD = 0
    READ_OK = 1
    READ_OVERTAKEN = 2


cdef class Log:
    cdef:
        Py_buffer _view
        LogHeader* header
        robust_mutex* lock
        int64_t patience, most_patience     # microseconds; and when the lock was had last time
        bint alone                  # no other process has this memory: no lock is needed
        char* data
        uint64_t mask
        readonly tuple reserves     # their logs, which nobody appends to by themselves
        Reserves keeper             # None: it has none
        uint64_t reader             # the header's, as long as this process is the one that appends what comes from outside
        uint64_t smallest           # capacity, its own or that of its smallest reserve, of which an event has a quarter
        char opened_as[8]           # the header's epoch, by which one that was overwritten is known
        # the epoch it is in, as far as it was looked at
        uint64_t epoch_count, epoch_begins
        uint64_t epoch_base         # what is taken from a position to have that of its id
        str epoch_name
        char id_prefix[32]          # "id: <epoch>-"
        Py_ssize_t id_prefix_length

    cdef int _look_at_epoch(self) except -1
    cdef int _open_reserves(self, memory, reserves) except -1
    cdef void _prefix(self, bytes name) noexcept
    cdef uint64_t _measure(self, list batch, list into) except? 0
    cdef object append_record(self, bytes names, uint16_t flags, bytes body)
    cdef object _begin(self)
    cdef int _acquire(self) except -1
    cdef int _refuse_if_outside(self) except -1
    cdef void _release(self) noexcept
    cdef uint64_t _write(
        self, uint64_t head, uint64_t position,
        const char* names, size_t names_length, uint16_t flags, const char* body, size_t body_length,
        uint64_t milliseconds,
    ) noexcept nogil
    cdef void _commit(self, uint64_t head, uint64_t next_position) noexcept nogil
    cdef uint64_t _write_event(self, tuple event, uint64_t head, uint64_t position, uint64_t milliseconds) noexcept
    cdef void _commit_with_keys(self, uint64_t head, uint64_t next_position, uint64_t keys) noexcept nogil
    cdef void _settle_keys(self) noexcept nogil
    cdef uint64_t load_head(self) noexcept nogil
    cdef uint64_t load_tail(self) noexcept nogil
    cdef int read_record(self, uint64_t* offset, Record* record) noexcept nogil
    cdef const char* names_at(self, uint64_t offset) noexcept nogil
    cdef uint64_t published_at(self, uint64_t offset) noexcept nogil
    cdef bint still_holds(self, uint64_t offset) noexcept nogil
