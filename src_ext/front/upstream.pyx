"""A connection of the front to an app server on this machine, by a Unix socket.

What it keeps: of bytes that the server has not taken the rest of one `send`, or of several where nobody waited.
What it drops: what is sent to a server that takes nothing any more; it may have answered before it went.
Who is told: its context, of bytes, of room for more, and of the end. It knows no HTTP and no client.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from sse_fast._native.base.linux cimport (
    AF_UNIX,
    EAGAIN,
    EINTR,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    MSG_DONTWAIT,
    MSG_PEEK,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    close,
    errno,
    recv,
    shutdown,
    sockaddr,
    sockaddr_un,
    socket,
)
from sse_fast._native.base.linux cimport connect as connect_
from sse_fast._native.fanout.sinks cimport BLOCKED, WRITTEN, SocketSink
from sse_fast._native.front.table cimport READ_SIZE, Table, Watched, report


@cython.final
cdef class Upstream(Watched):
    """One connection to an app server. Made by `connect`; it has no other maker.

    `context`, to be set, has `received(upstream, data)`: bytes, `b""` for the end of them; `sent(upstream)`: a send
    that was blocked is out; `lost(upstream)`: it broke, or was aborted, while this was its context.
    """

    def send(self, bytes data not None):
        """False: not all of it is out. `sent` is called when it is, so send nothing before."""
        if self.fd < 0 or self.broken:
            return True
        if self.rest is not None:
            self.rest = self.rest[self.rest_at:] + data
            self.rest_at = 0
            return False
        try:
            return self.send_now(data) == WRITTEN
        except OSError:             # what it has said before can still be read
            self.broken = True
            return True

    def pause(self):
        """Read nothing, until `resume`."""
        self.paused = True
        self._rewatch()

    def resume(self):
        self.paused = False
        self._rewatch()

    def shut(self):
        """Nothing more is sent; what was, still is."""
        self.shutting = True
        if self.rest is None and self.fd >= 0:
            shutdown(self.fd, SHUT_WR)

    def quiet(self):
        """Whether it is open, and has nothing to say: one that was idle may have been closed since epoll looked."""
        return self.fd >= 0 and recv(self.fd, self.table.buffer, 1, MSG_DONTWAIT | MSG_PEEK) < 0 and errno == EAGAIN

    def abort(self):
        """Close. Again: nothing happens."""
        cdef object context = self.context
        if self.fd < 0:
            return
        self.context = None
        self.rest = None
        self.table.forget(self)
        if context is not None:
            try:
                context.lost(self)
            except Exception:
                report("the end of a connection to the app server could not be told; the others go on")

    cdef int keep_rest(self, bytes data, Py_ssize_t taken) except -1:
        self.rest = data
        self.rest_at = taken
        self._rewatch()
        return 0

    cdef int _rewatch(self) except -1:
        cdef uint32_t wanted = 0
        if self.fd < 0:
            return 0
        if self.rest is not None:
            wanted |= EPOLLOUT
        if not self.paused and not self.over:
            wanted |= EPOLLIN
        # That its peer has gone is told whatever is asked for; once is enough where nothing is.
        self.table.watch(self, wanted if wanted else <uint32_t>EPOLLET)
        return 0

    cdef int happened(self, uint32_t events) except -1:
        if events & EPOLLOUT or self.rest is not None and events & (EPOLLHUP | EPOLLERR):
            self._writable()
        if self.fd >= 0 and not self.paused and not self.over and events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read()
        return 0

    cdef int _writable(self) except -1:
        if self.rest is None:
            return 0
        try:
            if self.flush() == BLOCKED:
                return 0
        except OSError:
            self.broken = True
            self.rest = None
        if self.shutting:
            shutdown(self.fd, SHUT_WR)
        self._rewatch()
        if self.context is not None:
            self.context.sent(self)
        return 0

    cdef int _read(self) except -1:
        cdef ssize_t got = recv(self.fd, self.table.buffer, READ_SIZE, MSG_DONTWAIT)
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                self.abort()
            return 0
        if got == 0:
            self.over = True
            self._rewatch()
        if self.context is None:
            self.abort()            # nobody waits for what it says
        else:
            self.context.received(self, PyBytes_FromStringAndSize(self.table.buffer, got))
        return 0


def connect(Table table not None, path not None, context):
    """A connection to the server that listens at `path`. Raises BlockingIOError: more wait to be accepted there than it
    allows, so later; OSError: there is none, or no descriptor is left."""
    cdef Upstream upstream = Upstream.__new__(Upstream)
    cdef bytes name = os.fsencode(path)
    cdef sockaddr_un address
    cdef int fd, failed
    if len(name) >= sizeof(address.sun_path):
        raise OSError(f"the path of a Unix socket has fewer than {sizeof(address.sun_path)} bytes: {path}")
    memset(&address, 0, sizeof(address))
    address.sun_family = AF_UNIX
    memcpy(address.sun_path, <const char*>name, len(name))
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        raise OSError(errno, os.strerror(errno))
    try:
        if connect_(fd, <const sockaddr*>&address, sizeof(address)) < 0:
            raise OSError(errno, os.strerror(errno), os.fsdecode(name))     # EAGAIN: BlockingIOError
        if not table.enter(upstream, fd, EPOLLIN):
            raise OSError(errno, os.strerror(errno))
    except BaseException:
        close(fd)
        raise
    upstream.context = context
    return upstream
