# The epochs of a log, for C callers.

from libc.stdint cimport uint64_t

from sse_fast._native.log.layout cimport Epoch, LogHeader


cdef void put_epoch(
    LogHeader* header, uint64_t number, bytes name, uint64_t begins, uint64_t fork, uint64_t offset, bint outside
) noexcept
cdef uint64_t newest_epoch(LogHeader* header, Epoch* found) noexcept
cdef bint is_epoch(bytes name) noexcept
cdef void epoch_of(LogHeader* header, uint64_t position, Epoch* found) noexcept
cdef bint had_epoch(LogHeader* header, bytes name) noexcept
cdef object position_of_id(LogHeader* header, bytes name, position)
cdef bytes name_of(const Epoch* epoch)
cdef void settle(LogHeader* header) noexcept
cdef void forget_newest_if_empty(LogHeader* header) noexcept
cdef str what_is_wrong_with_epochs(LogHeader* header)
