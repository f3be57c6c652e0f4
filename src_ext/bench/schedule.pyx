"""What the load client does when: who connects, who leaves, when the slow read; and the timer that wakes its loop for it.

It knows places of connections and times, and does nothing to a connection: the swarm asks it what is due and does that. Two
rings hold the appointments, with room for every connection. Who is behind its rate makes up for BURST of it, no more: a
process that was held up does not open thousands at once. Appointments are made and looked up without the GIL.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from sse_fast._native.base.clock cimport monotonic_ns
from sse_fast._native.base.linux cimport (
    CLOCK_MONOTONIC, TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME, close, errno, itimerspec, read, timerfd_create,
    timerfd_settime,
)

cdef enum:
    BURST = 20_000_000          # ns


@cython.final
cdef class Schedule:
    """Schedule(capacity): the appointments of so many connections at most."""

    def __cinit__(self, uint32_t capacity):
        self.timer = -1
        self.ring = capacity + 1
        self.queue = <Appointment*>calloc(self.ring, sizeof(Appointment))
        self.lives = <Appointment*>calloc(self.ring, sizeof(Appointment))
        if self.queue == NULL or self.lives == NULL:
            raise MemoryError
        self.pass_next = self.drip_next = UINT64_MAX
        self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        if self.timer < 0:
            raise OSError(errno, "cannot make a timer")

    def __dealloc__(self):
        free(self.queue)
        free(self.lives)
        if self.ring:           # else its argument was wrong, and `timer` says nothing: 0 is somebody's
            self.close()

    cdef void close(self) noexcept:
        """Close the timer. The schedule is not used again."""
        if self.timer >= 0:
            close(self.timer)
        self.timer = -1

    # ---- orders -----------------------------------------------------------------------------------------------------

    cdef int pace(self, double rate) except -1:
        """From now on at most `rate` of the queue connect a second; 0: as fast as they can."""
        self.open_interval = <uint64_t>(SECOND / rate) if rate > 0 else 0
        self.open_next = monotonic_ns()
        return 0

    cdef int churn(self, double rate, double life) except -1:
        """From now on `rate` a second come, and each leaves after `life` seconds. 0: no more come."""
        self.pass_next = monotonic_ns() if rate > 0 else UINT64_MAX
        self.pass_interval = <uint64_t>(SECOND / rate) if rate > 0 else 0
        if rate > 0:
            self.pass_life = <uint64_t>(life * SECOND)
        return 0

    cdef int drip(self, double every) except -1:
        """The slow read every so many seconds from now on; negative: never."""
        self.drip_interval = <uint64_t>(every * SECOND) if every >= 0 else 0
        self.drip_next = monotonic_ns() if every >= 0 else UINT64_MAX
        return 0

    # ---- appointments -----------------------------------------------------------------------------------------------

    cdef void connects(self, uint32_t place, uint64_t at) noexcept nogil:
        """It connects in its turn, and not before `at`."""
        self.queue[self.queue_tail % self.ring].at = at
        self.queue[self.queue_tail % self.ring].place = place
        self.queue_tail += 1

    cdef void stays(self, uint32_t place, uint64_t now) noexcept nogil:
        """One that passes came: it leaves when its life is over."""
        self.lives[self.lives_tail % self.ring].at = now + self.pass_life
        self.lives[self.lives_tail % self.ring].place = place
        self.lives_tail += 1

    cdef int64_t who_connects(self, uint64_t now) noexcept nogil:
        """Who is to connect now, or NOBODY. It is no longer in the queue."""
        cdef Appointment* first = &self.queue[self.queue_head % self.ring]
        if self.queue_head == self.queue_tail or self.open_next > now or first.at > now:
            return NOBODY
        self.queue_head += 1
        if self.open_interval:
            self.open_next = max(self.open_next + self.open_interval, now - BURST)
        return first.place

    cdef int64_t who_leaves(self, uint64_t now) noexcept nogil:
        """Which of those who pass is to leave now, or NOBODY."""
        cdef Appointment* first = &self.lives[self.lives_head % self.ring]
        if self.lives_head == self.lives_tail or first.at > now:
            return NOBODY
        self.lives_head += 1
        return first.place

    cdef bint one_comes(self, uint64_t now) noexcept nogil:
        """Whether one more of those who pass is to come now. If so, it is taken to come."""
        if self.pass_next > now:
            return False
        self.pass_next = max(self.pass_next + self.pass_interval, now - BURST)
        return True

    cdef bint is_time_to_drip(self, uint64_t now) noexcept nogil:
        """Whether the slow are to read now; the next time is an interval later."""
        if now < self.drip_next:
            return False
        self.drip_next = now + self.drip_interval
        return True

    cdef bint is_time_to_sweep(self, uint64_t now) noexcept nogil:
        """Whether to look for those who wait too long: once a second."""
        if now < self.sweep_next:
            return False
        self.sweep_next = now + SECOND
        return True

    # ---- the timer --------------------------------------------------------------------------------------------------

    cdef void wake(self, uint64_t now, uint64_t until, bint may_connect) noexcept nogil:
        """Be woken for the next appointment, or at `until`, to the microsecond."""
        cdef itimerspec when
        cdef uint64_t at = min(until, self.sweep_next)
        at = min(at, min(self.pass_next, self.drip_next))
        if self.queue_head != self.queue_tail and may_connect:
            at = min(at, max(self.open_next, self.queue[self.queue_head % self.ring].at))
        if self.lives_head != self.lives_tail:
            at = min(at, self.lives[self.lives_head % self.ring].at)
        if at == self.armed and at > now:
            return
        self.armed = at
        memset(&when, 0, sizeof(when))
        at = max(at, now + 1)
        when.it_value.tv_sec = <long>(at // SECOND)
        when.it_value.tv_nsec = <long>(at % SECOND)
        timerfd_settime(self.timer, TFD_TIMER_ABSTIME, &when, NULL)

    cdef void rang(self) noexcept nogil:
        """The timer is readable: it is no longer after this."""
        cdef uint64_t expired
        read(self.timer, &expired, sizeof(expired))
