"""How writers take turns.

A robust mutex in the segment, held for the copying only, never while its holder waits for the GIL; if the holder dies,
the kernel hands it on. A holder that is *stopped* can't be passed: it may go on at any time and overwrite what others
have appended since. So nobody waits for longer than PATIENCE_US, or whatever `Log.longest_wait` says: then LogBusy is
raised, nothing was appended, and until the lock is had again an append waits for nothing, however many try. Readers take
no lock.
"""

import os

from libc.stdint cimport int64_t, uint32_t

from sse_fast._native.base.clock cimport monotonic_us
from sse_fast._native.base.mutex cimport (
    EBUSY,
    ENOSYS,
    EOWNERDEAD,
    ETIMEDOUT,
    mutex_holder,
    mutex_init,
    mutex_repair,
    mutex_try,
    mutex_unlock,
    mutex_wait,
    robust_mutex,
)
from sse_fast.errors import LogBusy


cdef int init_lock(robust_mutex* lock) noexcept:
    """An errno, or 0."""
    return mutex_init(lock)


cdef uint32_t holder_of(robust_mutex* lock) noexcept:
    """Id of the thread that has it; 0 is nobody."""
    return mutex_holder(lock)


cdef int wait_for(robust_mutex* lock, int64_t* patience, int64_t most, int status) except -1:
    """Go on after a try that ended with `status`."""
    cdef int64_t deadline = 0
    while True:
        if status == EBUSY and patience[0] > 0:
            deadline = deadline or monotonic_us() + patience[0]
            # What is waited for is that it becomes free: who has it must not wait for the GIL.
            with nogil:
                status = mutex_wait(lock, max(deadline - monotonic_us(), 0))
                if status == EOWNERDEAD:
                    status = mutex_repair(lock)
                if status == 0:
                    mutex_unlock(lock)
            if status == 0:
                status = mutex_try(lock)
                continue
        if status == EOWNERDEAD:
            status = mutex_repair(lock)
        if status == 0:
            patience[0] = most
            return 0
        if status == ETIMEDOUT or status == EBUSY:
            patience[0] = 0
            raise LogBusy(f"the log is locked by process {holder_of(lock)}, which does not go on; try again later")
        if status == ENOSYS:
            raise OSError(status, "a log that processes share needs Linux")
        raise LogBusy(f"the log's lock cannot be had: {os.strerror(status)}; was its memory overwritten?")
