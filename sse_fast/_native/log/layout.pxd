# What a log's memory looks like: a header of one page, then records.
#
#     0  what it is, and how far it got     1024  the lock     1088  the epochs     4096  records

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    /* Two lanes of 64 bits; each step can be undone, so that no change of a single word goes unseen before the end. */
    static inline uint32_t checksum_of(const char* record, uint64_t length, uint32_t frame_length) {
        const uint64_t odd = 0x9E3779B97F4A7C15u;
        uint64_t one, two, a = 0, b = odd, at;
        for (at = 0; at < length; at += 16) {
            memcpy(&one, record + at, 8);
            memcpy(&two, record + at + 8, 8);
            if (at == 16) two = frame_length;   /* here stands the checksum too */
            a = (a ^ one) * odd;
            b = (b ^ two) * odd;
            a ^= a >> 29;
            b ^= b >> 32;
        }
        a = (a ^ (b << 32 | b >> 32)) * odd;
        return (uint32_t)(a >> 32);
    }
    """
    uint32_t checksum_of(const char* record, uint64_t length, uint32_t frame_length)


cdef enum:
    THIS_LAYOUT = 5
    HEADER_ROOM = 4096
    EPOCHS = 50                     # places; see `epochs.pyx`
    EPOCH_ROOM = 20                 # characters of its name
    ALIGNMENT = 16
    FLAG_PAD = 1                    # fills the end of the ring: a record never wraps
    FLAG_MARK = 2                   # an epoch from outside begins; where a name would be stands the fork, in 8 bytes
    # 4: FLAG_SEVERAL, 16: FLAG_KEYED, in names.pxd
    FLAG_FORGET = 8                 # of its channel nothing from before it is kept; the rest is room
    FLAG_NAMED = 32                 # its frame has its publisher's id


cdef enum Mode:                     # of a header; flags
    MARKING = 1                     # an epoch is being begun
    OUTSIDE = 2                     # positions come from outside


cdef struct Epoch:
    char name[EPOCH_ROOM]
    uint32_t number
    uint64_t begins                 # the log's own number of its first position
    uint64_t fork                   # of one from outside: the last of what came before that is its past, too
    uint64_t offset                 # of the record that marks its begin
    uint32_t outside                # its positions count from `begins` on
    uint32_t checksum               # of the fields before


cdef struct Kept:                   # what a reserve was given last, and its head behind it
    uint64_t head
    uint64_t position


cdef struct LogHeader:
    # what the segment is: written once
    char magic[8]
    uint32_t layout
    uint32_t header_size
    uint64_t capacity               # bytes in the data area, a power of two
    char epoch[8]                   # that whoever opened it gave it
    # how far it got: offsets are virtual, they only rise; `offset & (capacity - 1)` is the place
    uint64_t tail                   # the oldest record that is kept
    uint64_t head                   # where the next record goes; storing it commits an append
    uint64_t next_position          # a writer that dies between this and `head` leaves a hole, never a double
    # for a log in a file
    uint32_t checksums              # whether records have them
    uint32_t closed                 # whether all that is here is on the disk
    char boot[40]                   # /proc/sys/kernel/random/boot_id when it was opened last
    # epochs
    uint64_t epoch_count            # that there were ever
    uint64_t before                 # `next_position` before the append that began at `before_head`, if that isn't done
    uint64_t before_head
    uint32_t mode
    uint32_t checksum               # of what the segment is
    # idempotency keys, see `keys`
    uint64_t keys                   # the number of the last that counts
    uint64_t keys_next              # what it is once the append that has begun is committed; 0: none has begun
    uint64_t keys_head              # the head that it began at
    # of a reserve, see `reserve`
    Kept kept[2]                    # the one counts whose head is the reserve's
    uint64_t evicted                # position of the newest that it has given up itself
    uint64_t missing                # up to this position it may never have had what is its
    uint64_t whose                  # a hash of what says which channels are its
    # who of several processes appends what comes from outside, see `outside`
    uint64_t reader                 # how many there have been in the upper 32 bits, the process below; 0: nobody counts
    uint64_t reader_ns              # when it was there last, of CLOCK_MONOTONIC
    char unused[792]
    char lock[64]                   # a process-shared robust mutex
    Epoch epochs[EPOCHS]


cdef struct Record:
    uint32_t length                 # header, names, frame, padding: a multiple of 16
    uint16_t flags
    uint16_t names_length           # of its channels
    uint64_t position
    uint64_t milliseconds           # when it was published: wall clock
    uint32_t frame_length
    uint32_t checksum               # if the log has them: of the whole record but for this field



cdef inline uint32_t aligned(uint64_t length) noexcept nogil:
    return <uint32_t>((length + ALIGNMENT - 1) & ~<uint64_t>(ALIGNMENT - 1))


cdef inline uint64_t largest_of(uint64_t capacity) noexcept nogil:
    return min(capacity // 4, <uint64_t>1 << 30)    # a record and the pad before it are counted in 32 bits


cdef inline uint64_t largest_batch_of(uint64_t capacity) noexcept nogil:
    # With a pad before its largest record it is at most half of the log: its writing never reaches its own beginning.
    # And others wait for the lock meanwhile.
    return min(capacity // 4, <uint64_t>32 << 20)


cdef inline int write_decimal(char* to, uint64_t value) noexcept nogil:
    cdef char digits[20]
    cdef int n = 0, i
    while True:
        digits[n] = <char>(48 + value % 10)
        value //= 10
        n += 1
        if value == 0:
            break
    for i in range(n):
        to[i] = digits[n - 1 - i]
    return n
