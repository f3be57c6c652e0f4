# What the load client of one process does when.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    SECOND = 1_000_000_000      # ns, as all times here, by the monotonic clock
    NOBODY = -1


cdef struct Appointment:
    uint64_t at
    uint32_t place


cdef class Schedule:
    cdef:
        Appointment* queue      # who connects when; a ring
        Appointment* lives      # of those who pass: who leaves when; a ring
        uint32_t ring
        int timer
        uint64_t queue_head, queue_tail, lives_head, lives_tail
        uint64_t open_interval, open_next, pass_interval, pass_next, pass_life, drip_interval, drip_next, sweep_next
        uint64_t armed

    cdef int pace(self, double rate) except -1
    cdef int churn(self, double rate, double life) except -1
    cdef int drip(self, double every) except -1
    cdef void connects(self, uint32_t place, uint64_t at) noexcept nogil
    cdef void stays(self, uint32_t place, uint64_t now) noexcept nogil
    cdef int64_t who_connects(self, uint64_t now) noexcept nogil
    cdef int64_t who_leaves(self, uint64_t now) noexcept nogil
    cdef bint one_comes(self, uint64_t now) noexcept nogil
    cdef bint is_time_to_drip(self, uint64_t now) noexcept nogil
    cdef bint is_time_to_sweep(self, uint64_t now) noexcept nogil
    cdef void wake(self, uint64_t now, uint64_t until, bint may_connect) noexcept nogil
    cdef void rang(self) noexcept nogil
    cdef void close(self) noexcept
