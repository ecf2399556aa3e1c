/* hostile.c: clients that cause much work with few bytes, to measure how much they slow down other clients.
 *
 *   cc -O2 -o hostile hostile.c
 *   hostile --port P --seconds S NAME CLIENTS BATCH REQUEST [NAME CLIENTS BATCH REQUEST]...
 *
 * Each NAME is a group of clients. A client connects, sends the request BATCH times in one go, reads the answers, and sends
 * the batch again. With a BATCH of 0 a client sends the request once and never reads. REQUEST is a request line, and fields
 * below it if there are any, without Host and without the empty line. A client whose connection ends connects again.
 *
 * One JSON object on standard output: for each group its answers, its refusals (answers of status 400 and above), the
 * connections that the server ended, and the bytes read. In a group that never reads, an answer is one whose beginning has
 * arrived.
 *
 * It connects to 127.0.0.1 only, with at most 1,000 clients, and ends by itself after at most 60 seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_CLIENTS 1000
#define MOST_SECONDS 60
#define MOST_GROUPS 16
#define PAUSE 0.01              /* seconds before a client connects again, so that it does not loop on a server that refuses */
#define LINE 256                /* longer lines are cut: only their beginning is parsed */
#define READ (256 * 1024)
#define READS 4                 /* reads of one client in a row, before the others have their turn */

struct group {
    const char *name;
    int clients, batch;
    char *bytes;                /* the whole batch */
    size_t len;
    int is_head;                /* the answers have no body */
    uint64_t answers, refusals, ended, read;
};

/* The part of an answer to which the next byte belongs. */
enum part { STATUS_LINE, FIELD, BODY, BODY_TO_END, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

struct client {
    struct group *group;
    int fd;                     /* -1: not connected */
    double connect_at;
    size_t sent;
    int owed;                   /* answers still to come */
    enum part part;
    int status, chunked;
    long long left;             /* bytes of the body or chunk still to come; -1: no length was given */
    int line_len;
    char line[LINE];
};

static int port, group_count, client_count;
static double seconds;
static struct group groups[MOST_GROUPS];
static struct client clients[MOST_CLIENTS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- connections */
static void begin_batch(struct client *c)
{
    c->sent = 0;
    c->owed = c->group->batch;
    c->part = STATUS_LINE;
    c->line_len = 0;
}

static void dial(struct client *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, small = 4096;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* A small receive buffer: unread answers must wait in the server, not in the kernel. */
    if (!c->group->batch) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    begin_batch(c);
}

static void hang_up(struct client *c)
{
    close(c->fd);
    c->fd = -1;
    c->connect_at = now() + PAUSE;
    c->group->ended++;
}

/* Sends as much as the socket takes. Returns 0 if the connection has ended. */
static int push(struct client *c)
{
    struct group *g = c->group;
    while (c->sent < g->len) {
        ssize_t n = send(c->fd, g->bytes + c->sent, g->len - c->sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN;
        c->sent += n;
    }
    return 1;
}

/* ---- answers */
static void answer_is_whole(struct client *c)
{
    if (c->status >= 400) c->group->refusals++;
    else c->group->answers++;
    c->part = STATUS_LINE;
    c->owed--;
}

static void head_is_whole(struct client *c)
{
    if (c->status < 200) {
        c->part = STATUS_LINE;
    } else if (c->group->is_head || c->status == 204 || c->status == 304 || (!c->chunked && c->left == 0)) {
        answer_is_whole(c);
    } else if (c->chunked) {
        c->part = CHUNK_SIZE;
    } else {
        c->part = c->left > 0 ? BODY : BODY_TO_END;
    }
}

static void take_line(struct client *c)
{
    char *line = c->line;
    line[c->line_len] = 0;
    if (c->line_len && line[c->line_len - 1] == '\r') line[--c->line_len] = 0;
    switch (c->part) {
    case STATUS_LINE:
        if (strncmp(line, "HTTP/1.", 7)) {
            fprintf(stderr, "hostile: %s: an answer begins with '%.60s'\n", c->group->name, line);
            exit(1);
        }
        c->status = atoi(line + 9);
        c->chunked = 0;
        c->left = -1;
        c->part = FIELD;
        break;
    case FIELD:
        if (!c->line_len) head_is_whole(c);
        else if (!strncasecmp(line, "content-length:", 15)) c->left = atoll(line + 15);
        else if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->chunked = 1;
        break;
    case CHUNK_SIZE:
        c->left = strtoll(line, NULL, 16);
        c->part = c->left > 0 ? CHUNK : TRAILER;
        break;
    case CHUNK_END:
        c->part = CHUNK_SIZE;
        break;
    case TRAILER:
        if (!c->line_len) answer_is_whole(c);
        break;
    default:
        break;
    }
    c->line_len = 0;
}

static void take(struct client *c, const char *at, const char *end)
{
    while (at < end) {
        if (c->part == BODY_TO_END) return;
        if (c->part == BODY || c->part == CHUNK) {
            long long n = end - at < c->left ? end - at : c->left;
            at += n;
            c->left -= n;
            if (c->left) return;
            if (c->part == CHUNK) c->part = CHUNK_END;
            else answer_is_whole(c);
            continue;
        }
        const char *stop = memchr(at, '\n', end - at);
        size_t n = (stop ? stop : end) - at, room = LINE - 1 - c->line_len;
        memcpy(c->line + c->line_len, at, n < room ? n : room);
        c->line_len += n < room ? n : room;
        at = stop ? stop + 1 : end;
        if (stop) take_line(c);
    }
}

/* Reads the bytes that have arrived. Returns 0 if the connection has ended. */
static int pull(struct client *c)
{
    static char buffer[READ];
    for (int i = 0; i < READS; i++) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0) return errno == EAGAIN;
        if (n == 0) {
            if (c->part == BODY_TO_END) answer_is_whole(c);
            return 0;
        }
        c->group->read += n;
        take(c, buffer, buffer + n);
        if (c->owed <= 0) {
            begin_batch(c);
            return push(c);
        }
    }
    return 1;
}

/* ---- the loop */
static void turn(double until)
{
    struct pollfd polled[MOST_CLIENTS];
    struct client *whose[MOST_CLIENTS];
    int count = 0;
    for (int i = 0; i < client_count; i++) {
        struct client *c = &clients[i];
        if (c->fd < 0 && now() >= c->connect_at) dial(c);
        if (c->fd < 0) continue;
        short events = (c->sent < c->group->len ? POLLOUT : 0) | (c->group->batch ? POLLIN : 0);
        polled[count] = (struct pollfd){.fd = c->fd, .events = events};
        whose[count++] = c;
    }
    double left = until - now();
    if (left > PAUSE) left = PAUSE;
    if (poll(polled, count, left > 0 ? (int)(left * 1000) : 0) <= 0) return;
    for (int i = 0; i < count && now() < until; i++) {
        struct client *c = whose[i];
        short ready = polled[i].revents;
        int stands = !(ready & POLLERR) && (c->group->batch || !(ready & POLLHUP));
        if (stands && (ready & POLLOUT)) stands = push(c);
        if (stands && (ready & (POLLIN | POLLHUP))) stands = pull(c);
        if (!stands) hang_up(c);
    }
}

/* Answers that have begun to arrive and are not read. */
static void count_unread(void)
{
    for (int i = 0; i < client_count; i++) {
        int waiting = 0;
        if (!clients[i].group->batch && clients[i].fd >= 0 && !ioctl(clients[i].fd, FIONREAD, &waiting) && waiting > 0)
            clients[i].group->answers++;
    }
}

/* ---- the command line */
static void usage(void)
{
    fprintf(stderr, "usage: hostile --port P --seconds S NAME CLIENTS BATCH REQUEST [NAME CLIENTS BATCH REQUEST]...\n"
                    "at most %d groups, %d clients and %d seconds\n", MOST_GROUPS, MOST_CLIENTS, MOST_SECONDS);
    exit(2);
}

static void add_group(char **words)
{
    if (group_count == MOST_GROUPS) usage();
    struct group *g = &groups[group_count++];
    char *one;
    g->name = words[0];
    g->clients = atoi(words[1]);
    g->batch = atoi(words[2]);
    g->is_head = !strncmp(words[3], "HEAD ", 5);
    if (g->clients < 1 || client_count + g->clients > MOST_CLIENTS || g->batch < 0) usage();
    int copies = g->batch ? g->batch : 1, len = asprintf(&one, "%s\r\nHost: 127.0.0.1:%d\r\n\r\n", words[3], port);
    g->len = (size_t)len * copies;
    g->bytes = malloc(g->len);
    for (int i = 0; i < copies; i++) memcpy(g->bytes + (size_t)i * len, one, len);
    free(one);
    for (int i = 0; i < g->clients; i++) clients[client_count++] = (struct client){.group = g, .fd = -1};
}

static void read_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, 0, 'p'}, {"seconds", 1, 0, 's'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) != -1;) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        default: usage();
    }
    if (port < 1 || port > 65535 || !(seconds > 0 && seconds <= MOST_SECONDS) || optind == argc || (argc - optind) % 4) usage();
    for (int i = optind; i < argc; i += 4) add_group(argv + i);
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)seconds + 5);   /* ends the program if the loop does not */
    double began = now();
    while (now() < began + seconds) turn(began + seconds);
    count_unread();
    printf("{\"seconds\":%.4f,\"groups\":{", now() - began);
    for (int i = 0; i < group_count; i++) {
        struct group *g = &groups[i];
        printf("%s\"%s\":{\"clients\":%d,\"answers\":%lu,\"refusals\":%lu,\"ended\":%lu,\"read\":%lu}", i ? "," : "", g->name, g->clients,
               g->answers, g->refusals, g->ended, g->read);
    }
    printf("}}\n");
    return 0;
}
