"""How the load client opens, watches and closes connections, and writes requests, without the GIL and an allocation.

A source address has some 28,000 ports, and a connection closed by the client keeps its port for a minute. So where the
server is on loopback, connections come from many 127.x.y.z in turn, and the kernel picks the port when it knows both
ends (IP_BIND_ADDRESS_NO_PORT).
"""

import socket as sockets

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from sse_fast._native.base.linux cimport (
    AF_INET, AF_INET6, EINPROGRESS, EPOLL_CTL_ADD, IP_BIND_ADDRESS_NO_PORT, IPPROTO_IP, IPPROTO_TCP, SO_ERROR,
    SO_LINGER, SO_RCVBUF, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, bind, close, connect,
    epoll_ctl, epoll_event, errno, getsockopt, htonl, htons, inet_pton, linger, ntohl, setsockopt, sockaddr,
    sockaddr_in, sockaddr_in6, socket, socklen_t,
)

globals().update(CHANNEL=<int>CHANNEL, PAYLOAD=<int>PAYLOAD, LENGTH=<int>LENGTH, LAST_EVENT_ID=<int>LAST_EVENT_ID)

cdef enum:
    DIALS_PER_SOURCE = 2000
    SOURCES = 4096              # of one worker


cdef inline uint32_t decimal(char* to, uint32_t value) noexcept nogil:
    cdef char digits[16]
    cdef int length = snprintf(digits, 16, b"%u", value)
    if to != NULL:
        memcpy(to, digits, length)
    return <uint32_t>length


@cython.final
cdef class Request:
    """Request(head, body): a request as parts, each bytes or one of CHANNEL, PAYLOAD, LENGTH, LAST_EVENT_ID."""

    def __cinit__(self, head, body=()):
        if len(head) + len(body) > REQUEST_PARTS:
            raise ValueError(f"a request template has at most {REQUEST_PARTS} parts")
        texts = []
        for number, part in enumerate((*head, *body)):
            if isinstance(part, bytes):
                texts.append(part)
                self.parts[self.count] = Part(TEXT, PyBytes_AS_STRING(part), len(part))
            else:
                self.parts[self.count] = Part(<PartKind><int>part, NULL, 0)
            if number >= len(head):
                self.body_fixed += self.parts[self.count].length
                self.body_channels += self.parts[self.count].kind == CHANNEL
                self.body_payloads += self.parts[self.count].kind == PAYLOAD
            self.count += 1
        if sum(map(len, texts)) > REQUEST_OVERHEAD // 2 or self.body_payloads > 1:
            raise ValueError("a request is too long")
        self._texts = tuple(texts)

    cdef uint32_t write(
        self, char* to, uint32_t channel, const char* payload, uint32_t payload_length, const char* id, uint32_t id_length
    ) noexcept nogil:
        cdef char* at = to
        cdef Part* part
        for i in range(self.count):
            part = &self.parts[i]
            if part.kind == TEXT:
                memcpy(at, part.text, part.length)
                at += part.length
            elif part.kind == CHANNEL:
                at += decimal(at, channel)
            elif part.kind == PAYLOAD:
                memcpy(at, payload, payload_length)
                at += payload_length
            elif part.kind == LENGTH:
                at += decimal(
                    at, self.body_fixed + self.body_channels * decimal(NULL, channel) + self.body_payloads * payload_length
                )
            elif id_length:
                memcpy(at, b"Last-Event-ID: ", 15)
                memcpy(at + 15, id, id_length)
                memcpy(at + 15 + id_length, b"\r\n", 2)
                at += 17 + id_length
        return <uint32_t>(at - to)

    def render(self, uint32_t channel, bytes payload, bytes last_event_id):
        """What is sent, to look at."""
        room = PyBytes_FromStringAndSize(NULL, REQUEST_OVERHEAD + len(payload) + len(last_event_id))
        length = self.write(
            PyBytes_AS_STRING(room), channel, PyBytes_AS_STRING(payload), <uint32_t>len(payload),
            PyBytes_AS_STRING(last_event_id), <uint32_t>len(last_event_id),
        )
        return room[:length]


@cython.final
cdef class Dialer:
    """Dialer(family, ip, port, worker): connections to one address."""

    def __cinit__(self, int family, str ip, unsigned short port, uint32_t worker):
        cdef sockaddr_in* four = <sockaddr_in*>&self.address
        cdef sockaddr_in6* six = <sockaddr_in6*>&self.address
        cdef bytes text = ip.encode()
        self.worker = worker
        if family == sockets.AF_INET:
            four.sin_family = AF_INET
            four.sin_port = htons(port)
            self.length = sizeof(sockaddr_in)
            good = inet_pton(AF_INET, text, &four.sin_addr)
            self.from_many = ntohl(four.sin_addr.s_addr) >> 24 == 127
        else:
            six.sin6_family = AF_INET6
            six.sin6_port = htons(port)
            self.length = sizeof(sockaddr_in6)
            good = inet_pton(AF_INET6, text, &six.sin6_addr)
        if good != 1:
            raise ValueError(f"{ip!r} is not an IP address")

    cdef int dial(self, int receive_buffer) noexcept nogil:
        cdef int on = 1, number
        cdef uint32_t place
        cdef sockaddr_in source
        cdef int fd = socket(self.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            return -errno
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
        if receive_buffer:
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer))
        if self.from_many:
            # 127.16.0.1 and up, 127.32.0.1 and up for the next worker, and so on.
            place = <uint32_t>(self.dialled // DIALS_PER_SOURCE % SOURCES)
            self.dialled += 1
            memset(&source, 0, sizeof(source))
            source.sin_family = AF_INET
            source.sin_addr.s_addr = htonl(
                0x7f000000 | ((self.worker % 15 + 1) << 20) | ((place // 250) << 8) | (place % 250 + 1)
            )
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on))
            if bind(fd, <sockaddr*>&source, sizeof(source)):
                number = errno
                close(fd)
                return -number
        if connect(fd, <sockaddr*>&self.address, self.length) and errno != EINPROGRESS:
            number = errno
            close(fd)
            return -number
        return fd


cdef int watch(int epoll, int fd, uint32_t events, uint64_t tag) noexcept nogil:
    """Have epoll say `tag` of a descriptor. 0, or -1 with the reason in errno."""
    cdef epoll_event want
    memset(&want, 0, sizeof(want))
    want.events = events
    want.data.u64 = tag
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &want)


cdef int failure_of(int fd) noexcept nogil:
    """Why a connection could not be made: 0 if it could, or an errno."""
    cdef int failure = 0
    cdef socklen_t size = sizeof(failure)
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size)
    return failure


cdef void hang_up(int fd, bint abruptly) noexcept nogil:
    """Close a connection; abruptly: with a reset."""
    cdef linger reset
    if abruptly:
        reset.l_onoff, reset.l_linger = 1, 0
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset))
    close(fd)
