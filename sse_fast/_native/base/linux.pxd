# What sockets, the load client's and the stream listener's, need of Linux: declarations only, no module.

from libc.stdint cimport uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, itimerspec


cdef extern from "errno.h" nogil:
    int errno
    int EAGAIN, EINPROGRESS, ECONNREFUSED, ECONNRESET, ECONNABORTED, EINTR, ENOBUFS, ENOMEM, EMFILE, ENFILE


cdef extern from "string.h" nogil:
    char* strerror(int number)
    void* memmem(const void* haystack, size_t haystack_length, const void* needle, size_t needle_length)


cdef extern from "unistd.h" nogil:
    int close(int fd)
    int dup3(int fd, int onto, int flags)
    ssize_t write(int fd, const void* data, size_t length)
    ssize_t read(int fd, void* data, size_t length)


cdef extern from "sys/socket.h" nogil:
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        AF_UNSPEC
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_LINGER
        SO_RCVBUF
        SO_MEMINFO
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_PEEK
        SHUT_WR
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct linger:
        int l_onoff
        int l_linger
    int socket(int family, int kind, int protocol)
    int bind(int fd, const sockaddr* address, socklen_t length)
    int connect(int fd, const sockaddr* address, socklen_t length)
    int getpeername(int fd, sockaddr* address, socklen_t* length)
    int getsockname(int fd, sockaddr* address, socklen_t* length)
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int option, const void* value, socklen_t length)
    int getsockopt(int fd, int level, int option, void* value, socklen_t* length)
    ssize_t recv(int fd, void* buffer, size_t length, int flags)
    ssize_t send(int fd, const void* data, size_t length, int flags)


cdef extern from "sys/un.h" nogil:
    struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]


cdef extern from "linux/sock_diag.h" nogil:
    enum:                           # what SO_MEMINFO gives: an array of uint32_t
        MEMINFO "SK_MEMINFO_VARS"
        WMEM_QUEUED "SK_MEMINFO_WMEM_QUEUED"


cdef extern from "fcntl.h" nogil:
    enum:
        O_CLOEXEC


cdef extern from "sys/ioctl.h" nogil:
    int ioctl(int fd, unsigned long request, int* value)


cdef extern from "linux/sockios.h" nogil:
    enum:
        SIOCOUTQ


cdef extern from "netinet/in.h" nogil:
    enum:
        IPPROTO_IP
        IPPROTO_TCP
        IP_BIND_ADDRESS_NO_PORT
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_family
        unsigned short sin6_port
        in6_addr sin6_addr
    enum:
        INET6_ADDRSTRLEN
    unsigned short htons(unsigned short value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)


cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_INFO
        TCP_NODELAY
    struct tcp_info:
        uint32_t tcpi_last_data_sent    # milliseconds since


cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char* text, void* address)
    const char* inet_ntop(int family, const void* address, char* text, socklen_t length)


cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
    ctypedef union epoll_data:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int most, int milliseconds)


cdef extern from "sys/timerfd.h" nogil:
    enum:
        TFD_CLOEXEC
        TFD_NONBLOCK
        TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* new, itimerspec* old)
