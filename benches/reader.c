/*
 * The yardstick of the load client: the least that a reader of N event streams can do.
 *
 *     reader IP PORT PATH N
 *
 * It opens N streams on one epoll thread, prints one JSON line, and then counts the marks ("sw1:") in what it reads, and
 * nothing else: it neither parses nor checks, and a mark split over two reads is not counted. Each line on stdin is
 * answered by a JSON line with the marks and its own CPU time so far; it stops at the end of stdin.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ = 256 * 1024, READY = 256, SUBSCRIBERS_PER_SOURCE = 2000, CONTROL = -1 };

static char room[READ];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void watch(int epoll_fd, int fd, int tag, uint32_t events) {
    struct epoll_event want = {.events = events, .data.fd = tag};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &want)) die("epoll_ctl");
}

static void open_stream(int epoll_fd, const struct sockaddr_in *server, const char *request, int number) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) die("socket");
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7f000101u + ((uint32_t)(number / SUBSCRIBERS_PER_SOURCE) << 8));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) die("bind");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)server, sizeof *server)) die("connect");
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) die("send");
    if (recv(fd, room, READ, 0) <= 0) die("no response head");
    if (strncmp(room, "HTTP/1.1 200", 12)) die("the response is not 200");
    if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("fcntl");
    watch(epoll_fd, fd, fd, EPOLLIN | EPOLLET);
}

int main(int count, char **arguments) {
    if (count != 5) {
        fputs("usage: reader IP PORT PATH N\n", stderr);
        return 2;
    }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
    if (inet_pton(AF_INET, arguments[1], &server.sin_addr) != 1) die("the IP address");
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    char request[1024];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", arguments[3]);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), streams = atoi(arguments[4]);
    for (int i = 0; i < streams; i++) open_stream(epoll_fd, &server, request, i);
    watch(epoll_fd, STDIN_FILENO, CONTROL, EPOLLIN);
    printf("{\"streams\": %d}\n", streams);
    fflush(stdout);

    uint64_t marks = 0, reads = 0;
    struct epoll_event ready[READY];
    for (;;) {
        int n = epoll_wait(epoll_fd, ready, READY, -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == CONTROL) {
                if (read(STDIN_FILENO, room, READ) <= 0) return 0;
                printf("{\"marks\": %llu, \"reads\": %llu, \"cpu\": %.9f}\n", (unsigned long long)marks,
                       (unsigned long long)reads, cpu_seconds());
                fflush(stdout);
                continue;
            }
            ssize_t got;
            do {
                got = recv(ready[i].data.fd, room, READ, 0);
                if (got == 0) die("a stream ended");
                if (got < 0 && errno != EAGAIN) die("recv");
                if (got <= 0) break;
                reads++;
                for (char *at = room, *end = room + got; (at = memmem(at, (size_t)(end - at), "sw1:", 4)); at += 4) marks++;
            } while (got == READ);
        }
    }
}
