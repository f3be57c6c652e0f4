# A log's segment, for C callers.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.log.layout cimport LogHeader


cdef int take_over(LogHeader* header, uint64_t length, epoch, bint checksums) except -1
cdef int new_lock(LogHeader* header) except -1
cdef bint is_log(const LogHeader* header) noexcept
cdef void claim_for(LogHeader* header, bytes boot) noexcept
cdef int go_on_with(LogHeader* header, uint64_t head, store) except -1
cdef uint32_t checksum_of_header(const LogHeader* header) noexcept
