/* The floor: one thread, one epoll descriptor; each POST is sent to every stream by one send(2) a stream.
 *
 * What it is not: a server. Any GET is a subscription to the one channel there is. A request head arrives whole or the
 * connection is closed; a body has a Content-Length. A stream that cannot take an event at once is cut, never skipped,
 * so nothing is lost unseen. Chunked, with ids. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READY = 256, REQUEST = 1 << 17, BACKLOG = 4096 };

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n";

static int epoll_fd;
static int *streams;   /* descriptors, dense */
static int *place_of;  /* descriptor -> its place in streams, or -1 */
static int stream_count;
static unsigned long long events;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void drop(int fd) {
    int place = place_of[fd];
    if (place >= 0) {
        int last = streams[--stream_count];
        streams[place] = last;
        place_of[last] = place;
        place_of[fd] = -1;
    }
    close(fd);
}

static void publish(const char *data, size_t length) {
    static char frame[REQUEST], wire[REQUEST + 64];
    int size = snprintf(frame, sizeof frame, "id: %llu\ndata: %.*s\n\n", ++events, (int)length, data);
    int total = snprintf(wire, sizeof wire, "%x\r\n%s\r\n", size, frame);
    for (int i = stream_count - 1; i >= 0; i--) /* from the end: drop() moves the last one into the gap */
        if (send(streams[i], wire, total, MSG_DONTWAIT | MSG_NOSIGNAL) != total)
            drop(streams[i]);
}

static void accept_all(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        place_of[fd] = -1;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            die("epoll_ctl");
    }
}

static void serve(int fd) {
    static char request[REQUEST + 1];
    ssize_t size = recv(fd, request, REQUEST, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        drop(fd);
        return;
    }
    request[size] = 0;
    char *body = strstr(request, "\r\n\r\n");
    if (!body) {
        drop(fd);
        return;
    }
    body += 4;
    if (!strncmp(request, "GET ", 4)) {
        if (place_of[fd] < 0) {
            send(fd, STREAM_HEAD, sizeof STREAM_HEAD - 1, MSG_NOSIGNAL);
            place_of[fd] = stream_count;
            streams[stream_count++] = fd;
        }
        return;
    }
    char *field = strcasestr(request, "\r\nContent-Length:");
    size_t length = field && field < body ? strtoul(field + 17, NULL, 10) : 0;
    size_t have = request + size - body;
    if (length > (size_t)(request + REQUEST - body)) {
        drop(fd);
        return;
    }
    while (have < length) { /* the head came before the body */
        ssize_t more = recv(fd, body + have, length - have, 0);
        if (more < 0 && errno == EAGAIN)
            continue;
        if (more <= 0) {
            drop(fd);
            return;
        }
        have += more;
    }
    publish(body, length);
    static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: %s PORT\n", arguments[0]);
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    streams = calloc(limit.rlim_cur, sizeof *streams);
    place_of = malloc(limit.rlim_cur * sizeof *place_of);
    if (!streams || !place_of)
        die("memory");
    memset(place_of, -1, limit.rlim_cur * sizeof *place_of);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
        die("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[READY];
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(epoll_fd, ready, READY, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener)
                accept_all(listener);
            else
                serve(ready[i].data.fd);
        }
    }
}
