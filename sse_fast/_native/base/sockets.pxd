# What the fan-out does with a socket itself. A build without the Linux parts has no such sockets: there it finds them gone.

from libc.stdint cimport uint32_t

cdef extern from * nogil:
    """
    #include <errno.h>
    #ifndef SSE_FAST_PORTABLE
    #include <linux/sock_diag.h>
    #include <linux/sockios.h>
    #include <stdint.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>

    static inline Py_ssize_t send_at_once(int fd, const char* data, Py_ssize_t length) {
        return send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static inline int passing(int number) {
        return number == EAGAIN || number == EINTR || number == ENOBUFS || number == ENOMEM;
    }
    static inline int look_in_flight(int fd, int* bytes) {
        return ioctl(fd, SIOCOUTQ, bytes);
    }
    static inline uint32_t kernel_memory_of(int fd) {
        uint32_t memory[SK_MEMINFO_VARS];
        socklen_t length = sizeof(memory);
        return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0 ? 0 : memory[SK_MEMINFO_WMEM_QUEUED];
    }
    #else
    #define send_at_once(fd, data, length) ((void)(data), errno = ENOTSOCK, (Py_ssize_t)-1)
    #define passing(number) 0
    #define look_in_flight(fd, bytes) (-1)
    #define kernel_memory_of(fd) 0
    #endif
    """
    int errno
    Py_ssize_t send_at_once(int fd, const char* data, Py_ssize_t length)    # what it takes; -1 and errno
    bint passing(int number)                        # whether a send that failed with this number may be tried again later
    int look_in_flight(int fd, int* bytes)          # what the client has not taken yet; -1 where that cannot be known
    uint32_t kernel_memory_of(int fd)           # the kernel's own structures included; 0 where it cannot be known
