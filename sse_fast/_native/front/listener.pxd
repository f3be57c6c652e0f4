# The listener for C callers.

from libc.stdint cimport uint64_t

from sse_fast._native.base.linux cimport INET6_ADDRSTRLEN, sockaddr_storage
from sse_fast._native.front.places cimport Queues
from sse_fast._native.front.table cimport Table


cdef class Listener(Table):
    cdef:
        int _listening
        int _spare                  # a descriptor, where there is one in reserve
        bint _reserved
        int _most
        int _each                   # connections that are no streams, of one address
        dict _places                # addresses with such connections, by key
        object _trusts
        object _words               # the transport's, for who is turned away
        bint _stopped, _paused
        char _last_text[INET6_ADDRSTRLEN]
        str _last_address
        readonly uint64_t turned_away, evicted

    cdef bint admit(self, int fd, str address) except -1
    cdef bint _make_room(self) except -1
    cdef int _reserve(self) except -1
    cdef int _turn_away(self, int fd, str crowded) except -1
    cdef bint _has_place(self, str client, bytes key) except -1
    cdef int _enter_place(self, int fd, bytes key) except -1
    cdef bint _evict(self, Queues* queues) except -1
    cdef bytes _key_of(self, sockaddr_storage* address)
    cdef int _listen(self, bint listen) except -1
    cdef str _address_of(self, sockaddr_storage* address)
