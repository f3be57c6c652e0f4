/*
 * A crude load client: N subscribers and up to 64 publishers of one channel on one epoll thread.
 *
 *     load HOST SUBSCRIBE_PORT SUBSCRIBE_PATH PUBLISH_PORT PUBLISH_PATH N
 *
 * It opens the N streams, prints one JSON line, and then takes commands on stdin, each answered by one JSON line:
 *
 *     run W EVENTS    closed loop: each of W publisher connections publishes an event, waits until all N subscribers
 *                     have it and its HTTP answer is there, and publishes the next, until EVENTS are through
 *
 * The caller reads the server's CPU clock before it writes a command and after it reads the answer. At the end of
 * stdin the client listens for stragglers, and its exit status says whether every event met every law below.
 *
 * What it holds each subscriber to: every event whole, once, in the order of its publisher, and all subscribers of the
 * same mind about the order over publishers. Because the loop is closed, a lost event stalls it: after 30 s without
 * progress the client says what it was waiting for, and fails.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_PUBLISHERS = 64,
    PAYLOAD = 64,              /* bytes of one event's data */
    KEEP = 1024,               /* the most that may be left over between two reads: a response head, or part of an event */
    READ = 256 * 1024,
    ANSWER = 8192,             /* the most bytes of one publish answer */
    CONNECTING = 256,          /* subscribers that may wait for their response head at once: far below any backlog */
    SUBSCRIBERS_PER_SOURCE = 4000, /* one source address has some 28,000 ports, some of them still in TIME_WAIT */
    PATIENCE_SECONDS = 30,
    STRAGGLER_MS = 200,
};

/* The data of an event. Publisher and number stand at fixed places, so recognising one is a memchr and a few compares. */
static const char SHAPE[] = "{\"n\":%08u,\"p\":%02u,\"pad\":\"abcdefghijklmnopqrstuvwxyz01234567\"}";
static const char MARK[] = "{\"n\":";
static const char MIDDLE[] = ",\"p\":";
static const char TAIL[] = ",\"pad\":\"abcdefghijklmnopqrstuvwxyz01234567\"}";
enum { MARK_LEN = 5, N_AT = 5, MIDDLE_AT = 13, P_AT = 18, TAIL_AT = 20 };

enum body { HEAD, PLAIN, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END };

struct subscriber {
    int fd;
    enum body body;
    uint64_t chunk_left;
    uint32_t kept;                     /* bytes of the last read that wait for the rest, in keeps[] */
    uint64_t order;                    /* hash over the sequence of events it saw in this run */
    uint32_t next[MAX_PUBLISHERS];     /* the number it must see next from each publisher */
};

struct publisher {
    int fd;
    uint32_t n;                        /* number of the event in flight, or of the next one */
    uint32_t missing;                  /* subscribers that do not have it yet */
    int answered;
    int busy;
    uint64_t began, arrived;           /* ns: just before the write; when the last subscriber had it */
    size_t got;
    char answer[ANSWER + 1];
};

static struct sockaddr_in subscribe_at, publish_at;
static const char *subscribe_path, *publish_path;
static int epoll_fd;
static uint32_t subscriber_count, streaming;
static struct subscriber *subscribers;
static char (*keeps)[KEEP];
static struct publisher publishers[MAX_PUBLISHERS];
static uint32_t publisher_count;
static char room[KEEP + READ];         /* what was kept is put in front of what is read, so parsers see one piece */

static uint32_t wanted, issued, settled; /* events of the run */
static uint64_t deliveries, lost, duplicated, misordered, other_order, reads, progress;
static uint32_t *latency_us;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double own_cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Connecting blocks: on loopback it ends in the call, and the batches are too small to fill a backlog. */
static int open_connection(const struct sockaddr_in *server, uint32_t source, uint64_t tag) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) die("socket: %s", strerror(errno));
    if ((ntohl(server->sin_addr.s_addr) >> 24) == 127) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000001u + ((source + 1) << 8)); /* 127.0.1.1, 127.0.2.1, … */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    }
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)server, sizeof *server)) die("connect: %s", strerror(errno));
    if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("fcntl: %s", strerror(errno));
    /* Edge-triggered: one system call a read, and a short read means that the socket is empty. */
    struct epoll_event want = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = tag};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &want)) die("epoll_ctl: %s", strerror(errno));
    return fd;
}

static void send_all(int fd, const char *text, size_t length) {
    ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length) die("a request of %zu bytes was not taken whole: %s", length, strerror(errno));
}

/* ---- publishers ---- */

static const uint64_t PUBLISHER = 1ull << 32; /* marks their epoll tags */

static void publish(struct publisher *pub) {
    char request[1024], data[PAYLOAD + 1];
    snprintf(data, sizeof data, SHAPE, pub->n, (uint32_t)(pub - publishers));
    int length = snprintf(request, sizeof request,
                          "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
                          publish_path, PAYLOAD, data);
    pub->missing = subscriber_count;
    pub->answered = 0;
    pub->busy = 1;
    pub->got = 0;
    issued++;
    pub->began = now_ns();
    send_all(pub->fd, request, (size_t)length);
}

static void settle(struct publisher *pub) {
    if (pub->missing || !pub->answered) return;
    latency_us[settled++] = (uint32_t)((pub->arrived - pub->began) / 1000);
    pub->n++;
    pub->busy = 0;
    if (issued < wanted) publish(pub);
}

static int answer_is_whole(struct publisher *pub) {
    pub->answer[pub->got] = 0;
    char *body = strstr(pub->answer, "\r\n\r\n");
    if (!body) return 0;
    if (strncmp(pub->answer, "HTTP/1.1 2", 10)) die("publishing was answered: %s", pub->answer);
    if (!strncmp(pub->answer, "HTTP/1.1 204", 12)) return 1; /* has no body (RFC 9112, section 6.3) */
    body += 4;
    char *length = strcasestr(pub->answer, "\r\ncontent-length:");
    if (length && length < body) return pub->got - (size_t)(body - pub->answer) >= strtoul(length + 17, NULL, 10);
    char *coding = strcasestr(pub->answer, "\r\ntransfer-encoding: chunked");
    if (!coding || coding >= body) die("a publish answer has neither a length nor chunks: %s", pub->answer);
    return strstr(body - 2, "\r\n0\r\n\r\n") != NULL;
}

static void read_publisher(struct publisher *pub) {
    for (;;) {
        ssize_t got = recv(pub->fd, pub->answer + pub->got, ANSWER - pub->got, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) die("a publisher connection ended: %s", got ? strerror(errno) : "closed by the server");
        if (pub->answered) die("a publish request was answered twice");
        pub->got += (size_t)got;
        progress++;
        if (answer_is_whole(pub)) {
            pub->answered = 1;
            settle(pub);
        } else if (pub->got == ANSWER) {
            die("a publish answer is over %d bytes", ANSWER);
        }
    }
}

/* ---- subscribers ---- */

static int digits(const char *text, int count, uint32_t *value) {
    uint32_t v = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') return 0;
        v = v * 10 + (uint32_t)(text[i] - '0');
    }
    *value = v;
    return 1;
}

static void deliver(struct subscriber *sub, const char *data) {
    uint32_t n, p;
    if (!digits(data + N_AT, 8, &n) || memcmp(data + MIDDLE_AT, MIDDLE, sizeof MIDDLE - 1) ||
        !digits(data + P_AT, 2, &p) || p >= publisher_count || memcmp(data + TAIL_AT, TAIL, sizeof TAIL - 1))
        die("a torn event: %.*s", PAYLOAD, data);
    struct publisher *pub = &publishers[p];
    if (n != sub->next[p] || !pub->busy || n != pub->n) {
        /* Nothing is published before all have what came before it, so a lower number is a repeated one. */
        if (n < sub->next[p]) duplicated++;
        else misordered++;
        return;
    }
    sub->next[p]++;
    sub->order = (sub->order ^ ((uint64_t)p << 32 | n)) * 0x9e3779b97f4a7c15u;
    deliveries++;
    progress++;
    if (--pub->missing == 0) {
        pub->arrived = now_ns();
        settle(pub);
    }
}

/* An event has arrived when the blank line that ends it has; whatever else the stream says is passed over. */
static void scan(struct subscriber *sub, char *at, size_t length) {
    char *end = at + length;
    for (;;) {
        char *start = memchr(at, '{', (size_t)(end - at));
        if (!start) {
            at = end;
            break;
        }
        size_t left = (size_t)(end - start);
        if (memcmp(start, MARK, left < MARK_LEN ? left : MARK_LEN)) {
            at = start + 1;
            continue;
        }
        char *blank = left < PAYLOAD + 2 ? NULL : memmem(start + PAYLOAD, left - PAYLOAD, "\n\n", 2);
        at = start;
        if (!blank) break;
        deliver(sub, start);
        at = blank + 2;
    }
    sub->kept = (uint32_t)(end - at);
    if (sub->kept > KEEP) die("an event without an end");
    memcpy(keeps[sub - subscribers], at, sub->kept);
}

/* Takes the chunk framing out, in place; chunks and reads may meet anywhere. */
static size_t dechunk(struct subscriber *sub, char *in, size_t length) {
    char *out = in, *to = in, *end = in + length;
    while (in < end) {
        switch (sub->body) {
        case CHUNK_SIZE: {
            char c = *in++;
            if (c >= '0' && c <= '9') sub->chunk_left = sub->chunk_left * 16 + (uint64_t)(c - '0');
            else if ((c | 32) >= 'a' && (c | 32) <= 'f') sub->chunk_left = sub->chunk_left * 16 + (uint64_t)((c | 32) - 'a' + 10);
            else if (c == '\r' || c == ';') sub->body = CHUNK_EXTENSION;
            else die("a chunk size with the byte 0x%02x", (unsigned char)c);
            break;
        }
        case CHUNK_EXTENSION:
            if (*in++ != '\n') break;
            if (sub->chunk_left == 0) die("a stream ended");
            sub->body = CHUNK_DATA;
            break;
        case CHUNK_DATA: {
            size_t take = (size_t)(end - in) < sub->chunk_left ? (size_t)(end - in) : (size_t)sub->chunk_left;
            memmove(to, in, take);
            to += take;
            in += take;
            sub->chunk_left -= take;
            if (!sub->chunk_left) sub->body = CHUNK_END;
            break;
        }
        case CHUNK_END:
            if (*in++ == '\n') sub->body = CHUNK_SIZE;
            break;
        default:
            return length;
        }
    }
    return (size_t)(to - out);
}

/* Returns how many bytes the head takes, 0 while it is not whole. */
static size_t parse_head(struct subscriber *sub, char *text, size_t length) {
    char *blank = memmem(text, length, "\r\n\r\n", 4);
    if (!blank) return 0;
    *blank = 0;
    if (strncmp(text, "HTTP/1.1 200", 12)) die("subscribing was answered: %s", text);
    if (!strcasestr(text, "\r\ncontent-type: text/event-stream")) die("not an event stream: %s", text);
    sub->body = strcasestr(text, "\r\ntransfer-encoding: chunked") ? CHUNK_SIZE : PLAIN;
    streaming++;
    progress++;
    return (size_t)(blank + 4 - text);
}

static void on_bytes(struct subscriber *sub, char *text, size_t length) {
    if (sub->body == HEAD) {
        text -= sub->kept;
        length += sub->kept;
        memcpy(text, keeps[sub - subscribers], sub->kept);
        sub->kept = 0;
        size_t head = parse_head(sub, text, length);
        if (!head) {
            if (length > KEEP) die("a response head over %d bytes", KEEP);
            memcpy(keeps[sub - subscribers], text, length);
            sub->kept = (uint32_t)length;
            return;
        }
        text += head;
        length -= head;
    }
    if (sub->body != PLAIN) length = dechunk(sub, text, length);
    /* Body kept from the last read is already free of chunk framing. */
    text -= sub->kept;
    memcpy(text, keeps[sub - subscribers], sub->kept);
    scan(sub, text, length + sub->kept);
}

static void read_subscriber(struct subscriber *sub, uint32_t events) {
    for (;;) {
        ssize_t got = recv(sub->fd, room + KEEP, READ, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) die("a stream ended: %s", got ? strerror(errno) : "closed by the server");
        reads++;
        on_bytes(sub, room + KEEP, (size_t)got);
        if (got < READ && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
    }
}

/* ---- the loop ---- */

static int poll_once(int milliseconds) {
    struct epoll_event ready[512];
    int count = epoll_wait(epoll_fd, ready, 512, milliseconds);
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        uint64_t tag = ready[i].data.u64;
        if (tag & PUBLISHER) read_publisher(&publishers[tag & ~PUBLISHER]);
        else read_subscriber(&subscribers[tag], ready[i].events);
    }
    return count;
}

/* False after PATIENCE_SECONDS in which nothing came; what nobody waits for, such as heartbeats, is not progress. */
static int poll_patiently(void) {
    static uint64_t seen = UINT64_MAX, since;
    poll_once(1000);
    if (progress != seen) {
        seen = progress;
        since = now_ns();
    }
    return now_ns() - since < PATIENCE_SECONDS * 1000000000ull;
}

static void open_streams(void) {
    char request[512];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
                          subscribe_path);
    uint64_t began = now_ns();
    uint32_t opened = 0;
    while (streaming < subscriber_count) {
        while (opened < subscriber_count && opened - streaming < CONNECTING) {
            subscribers[opened].fd = open_connection(&subscribe_at, opened / SUBSCRIBERS_PER_SOURCE, opened);
            send_all(subscribers[opened].fd, request, (size_t)length);
            opened++;
        }
        if (!poll_patiently())
            die("no progress for %d s: %u streams asked for, %u of them have a response head", PATIENCE_SECONDS, opened,
                streaming);
    }
    printf("{\"subscribers\": %u, \"seconds\": %.6f}\n", streaming, (double)(now_ns() - began) / 1e9);
    fflush(stdout);
}

static void tell_the_stall(void) {
    fprintf(stderr, "load: no progress for %d s: %u events wanted, %u published, %u settled\n", PATIENCE_SECONDS, wanted,
            issued, settled);
    for (uint32_t p = 0; p < publisher_count; p++) {
        struct publisher *pub = &publishers[p];
        if (!pub->busy) continue;
        lost += pub->missing;
        fprintf(stderr, "load: event %u of publisher %u: %u of %u subscribers have not got it; its answer %s\n", pub->n, p,
                pub->missing, subscriber_count, pub->answered ? "came" : "did not come");
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The nearest-rank percentile of the sorted latencies. */
static uint32_t percentile(uint32_t percent) {
    uint64_t rank = ((uint64_t)settled * percent + 99) / 100;
    return settled ? latency_us[rank ? rank - 1 : 0] : 0;
}

static void run(uint32_t in_flight, uint32_t events) {
    while (publisher_count < in_flight) {
        publishers[publisher_count].fd = open_connection(&publish_at, 100, PUBLISHER | publisher_count);
        publisher_count++;
    }
    for (uint32_t i = 0; i < subscriber_count; i++) subscribers[i].order = 0;
    wanted = events;
    issued = settled = 0;
    deliveries = reads = 0;
    free(latency_us);
    latency_us = malloc(sizeof *latency_us * events);
    if (!latency_us) die("out of memory");
    progress++; /* the time at the prompt was not a stall */
    double cpu = own_cpu_seconds();
    uint64_t began = now_ns();
    for (uint32_t p = 0; p < in_flight && issued < wanted; p++) publish(&publishers[p]);
    int stalled = 0;
    while (settled < wanted && !stalled) stalled = !poll_patiently();
    uint64_t ended = now_ns();
    cpu = own_cpu_seconds() - cpu;
    if (stalled) tell_the_stall();
    else
        for (uint32_t i = 1; i < subscriber_count; i++)
            if (subscribers[i].order != subscribers[0].order) other_order++;
    qsort(latency_us, settled, sizeof *latency_us, ascending);
    printf("{\"in_flight\": %u, \"events\": %u, \"deliveries\": %llu, \"seconds\": %.6f, \"p50_us\": %u, \"p99_us\": %u, "
           "\"max_us\": %u, \"lost\": %llu, \"duplicated\": %llu, \"misordered\": %llu, \"other_order\": %llu, "
           "\"reads\": %llu, \"client_cpu_seconds\": %.6f}\n",
           in_flight, settled, (unsigned long long)deliveries, (double)(ended - began) / 1e9, percentile(50),
           percentile(99), percentile(100), (unsigned long long)lost, (unsigned long long)duplicated,
           (unsigned long long)misordered, (unsigned long long)other_order, (unsigned long long)reads, cpu);
    fflush(stdout);
    if (stalled) exit(1);
}

int main(int argc, char **argv) {
    if (argc != 7) die("usage: load HOST SUBSCRIBE_PORT SUBSCRIBE_PATH PUBLISH_PORT PUBLISH_PATH N");
    subscribe_at.sin_family = AF_INET;
    if (inet_pton(AF_INET, argv[1], &subscribe_at.sin_addr) != 1) die("not an IPv4 address: %s", argv[1]);
    publish_at = subscribe_at;
    subscribe_at.sin_port = htons((uint16_t)atoi(argv[2]));
    subscribe_path = argv[3];
    publish_at.sin_port = htons((uint16_t)atoi(argv[4]));
    publish_path = argv[5];
    subscriber_count = (uint32_t)atoi(argv[6]);
    if (!subscriber_count) die("no subscribers");

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < subscriber_count + MAX_PUBLISHERS + 16)
        die("the descriptor limit of %llu is too low for %u subscribers", (unsigned long long)limit.rlim_max,
            subscriber_count);
    subscribers = calloc(subscriber_count, sizeof *subscribers);
    keeps = calloc(subscriber_count, sizeof *keeps);
    if (!subscribers || !keeps) die("out of memory");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    open_streams();

    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        uint32_t in_flight, events;
        if (sscanf(line, "run %u %u", &in_flight, &events) != 2 || !in_flight || in_flight > MAX_PUBLISHERS || !events)
            die("not a command: %s", line);
        run(in_flight, events);
    }
    while (poll_once(STRAGGLER_MS) > 0) continue;
    if (lost || duplicated || misordered || other_order)
        die("%llu events lost, %llu duplicated, %llu out of their publisher's order; %llu times a subscriber saw the "
            "publishers in another order than the first subscriber did",
            (unsigned long long)lost, (unsigned long long)duplicated, (unsigned long long)misordered,
            (unsigned long long)other_order);
    return 0;
}
