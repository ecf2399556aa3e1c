/* limit.c: the upper limit for the figures of scripts/bench. It does as little as an HTTP server can.
 *
 * One thread, one edge-triggered epoll. When a connection is readable: one recv, count the empty lines in it, one send of as
 * many copies of a prepared answer. It does not parse, look up or log anything, and has no timeouts.
 * No server that answers a recv with a send is faster on this kernel.
 *
 *   cc -O2 -o limit limit.c
 *   limit --port P [--file F] [--status S] [--header "Name: value\r\n"] [--close] [--head]
 *   limit --port P --sendfile F          sends the body by sendfile, for large files
 *   limit --port P --upload FOLDER       takes uploads: writes each to a new file and renames it when it is whole
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COPIES 32               /* of a small answer, so that a pipelined batch is one send */
#define SMALL 16384
#define EVENTS 512
#define READ 65536
#define READ_UPLOAD 262144      /* with a quarter of it an upload costs 10% more; four times as much gains nothing */

struct conn {
    int fd;
    int tail_len;               /* the last bytes of the previous read: an empty line may be split */
    char tail[3];
    uint64_t owed, at;          /* bytes to send, and the position in the repeated answers */
    int store, receiving;       /* of an upload: its file, and whether its body is being received */
    uint64_t left;
    struct conn *next_dead;
};

static int port, status = 200, closing, head_only, file_fd = -1, epoll_fd;
static const char *file, *large, *header = "", *folder;
static char *answer;            /* COPIES times, or once if it is large */
static uint64_t head_len, answer_len, copies = 1;
static char buffer[4 + READ_UPLOAD];

static void fail(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Sends as much of the owed bytes as the socket takes. Returns -1 if the connection must be closed. */
static int push(struct conn *c)
{
    while (c->owed) {
        uint64_t in = c->at % answer_len;
        off_t offset = in - head_len;
        ssize_t n;
        if (file_fd >= 0 && in >= head_len) {
            n = sendfile(c->fd, file_fd, &offset, answer_len - in);
        } else if (file_fd >= 0) {
            n = send(c->fd, answer + in, head_len - in, MSG_NOSIGNAL | MSG_MORE);
        } else {
            uint64_t room = answer_len * copies - in;
            n = send(c->fd, answer + in, c->owed < room ? c->owed : room, MSG_NOSIGNAL);
        }
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        c->at += n;
        c->owed -= n;
    }
    c->at = 0;
    return closing ? -1 : 0;
}

static int count_requests(struct conn *c, char *at, char *end)
{
    int count = 0;
    for (char *found; (found = memmem(at, end - at, "\r\n\r\n", 4)); at = found + 4) count++;
    c->tail_len = end - at < 3 ? end - at : 3;
    memcpy(c->tail, end - c->tail_len, c->tail_len);
    return count;
}

static int take_requests(struct conn *c, int read_closed)
{
    for (;;) {
        ssize_t n = recv(c->fd, buffer + 4, READ, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        char *at = buffer + 4 - c->tail_len;
        memcpy(at, c->tail, c->tail_len);
        int count = count_requests(c, at, buffer + 4 + n);
        c->owed += (closing ? count > 0 : (uint64_t)count) * answer_len;
        if (count && push(c)) return -1;
        if (n < READ && !read_closed) return 0;
    }
}

static int store_upload(struct conn *c)
{
    char name[4096], whole[4096];
    if (c->store < 0) return 0;
    snprintf(name, sizeof name, "%s/.limit-%d", folder, c->fd);
    snprintf(whole, sizeof whole, "%s/limit-%d", folder, c->fd);
    close(c->store);
    c->store = -1;
    return rename(name, whole);
}

/* Expects each head in one read, as on loopback. If a head comes in parts, it closes the connection. */
static int take_uploads(struct conn *c)
{
    for (;;) {
        ssize_t n = recv(c->fd, buffer, READ_UPLOAD, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        for (char *at = buffer, *end = buffer + n; at < end;) {
            if (!c->receiving) {
                char name[4096], *body = memmem(at, end - at, "\r\n\r\n", 4);
                if (!body) return -1;
                *body = 0;
                char *length = strcasestr(at, "\r\ncontent-length:");
                c->left = length ? strtoull(length + 17, NULL, 10) : 0;
                c->receiving = 1;
                at = body + 4;
                snprintf(name, sizeof name, "%s/.limit-%d", folder, c->fd);
                c->store = c->left ? open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644) : -1;
            }
            uint64_t part = (uint64_t)(end - at) < c->left ? (uint64_t)(end - at) : c->left;
            if (part && write(c->store, at, part) != (ssize_t)part) return -1;
            c->left -= part;
            at += part;
            if (c->left) continue;
            c->receiving = 0;
            c->owed += answer_len;
            if (store_upload(c) || push(c)) return -1;
        }
        if (n < READ_UPLOAD) return 0;
    }
}

static void accept_all(int listener)
{
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        c->fd = fd;
        c->store = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

static void read_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, 0, 'p'},   {"file", 1, 0, 'f'},  {"sendfile", 1, 0, 'l'}, {"status", 1, 0, 's'},
                                            {"header", 1, 0, 'h'}, {"close", 0, 0, 'c'}, {"head", 0, 0, 'o'},     {"upload", 1, 0, 'u'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'f': file = optarg; break;
        case 'l': large = optarg; break;
        case 's': status = atoi(optarg); break;
        case 'h': header = optarg; break;
        case 'c': closing = 1; break;
        case 'o': head_only = 1; break;
        case 'u': folder = optarg; break;
        default: exit(2);
    }
    if (port < 1 || port > 65535) fail("--port");
}

static void make_answer(void)
{
    const char *reason = status == 200 ? "OK" : status == 201 ? "Created" : status == 304 ? "Not Modified" : "Not Found";
    char head[1024], date[64];
    struct stat about = {0};
    time_t now = time(NULL);
    const char *source = large ? large : file;
    int fd = source ? open(source, O_RDONLY | O_CLOEXEC) : -1, len;
    if (source && (fd < 0 || fstat(fd, &about))) fail(source);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    len = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nServer: limit\r\nDate: %s\r\n", status, reason, date);
    if (status != 304)
        len += snprintf(head + len, sizeof head - len, "Content-Type: text/html\r\nContent-Length: %lld\r\n", (long long)about.st_size);
    if (status == 200 || status == 304)
        len += snprintf(head + len, sizeof head - len, "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nETag: \"65920080-400\"\r\nAccept-Ranges: bytes\r\n");
    len += snprintf(head + len, sizeof head - len, "%sConnection: %s\r\n\r\n", header, closing ? "close" : "keep-alive");
    head_len = len;
    answer_len = head_len + (head_only || status == 304 ? 0 : about.st_size);
    if (large) file_fd = fd;
    else if (answer_len <= SMALL) copies = COPIES;
    answer = malloc(large ? head_len : answer_len * copies);
    memcpy(answer, head, head_len);
    for (uint64_t at = head_len; !large && at < answer_len;) {
        ssize_t n = read(fd, answer + at, answer_len - at);
        if (n <= 0) fail(source);
        at += n;
    }
    for (uint64_t i = 1; i < copies; i++) memcpy(answer + i * answer_len, answer, answer_len);
}

static int listen_on(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096)) fail("bind");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    return fd;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    static struct epoll_event events[EVENTS];
    read_arguments(argc, argv);
    make_answer();
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int listener = listen_on(port);;) {
        struct conn *dead = NULL;
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            uint32_t ready = events[i].events;
            int over = 0;
            if (!c) { accept_all(listener); continue; }
            if (c->owed && (ready & EPOLLOUT)) over = push(c);
            if (!over && (ready & ~EPOLLOUT)) over = folder ? take_uploads(c) : take_requests(c, (ready & ~EPOLLOUT & ~EPOLLIN) != 0);
            if (!over) continue;
            close(c->fd);
            if (c->store >= 0) close(c->store);
            c->next_dead = dead;
            dead = c;
        }
        for (struct conn *c; (c = dead); free(c)) dead = c->next_dead;
    }
}
