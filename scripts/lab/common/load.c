/* load.c: the measured load. One thread, one epoll; it checks the status and the length of every answer, and compares
 * the bytes of every 64th where it knows them (--body, --root).
 *
 * Closed loop: each connection asks again as soon as it has its answer.
 * Open loop (--rate): requests fall due at random moments (Poisson) whatever the server does, and latency counts from
 * the moment a request was due, not from when it could be sent: a server that stalls cannot hide it ("coordinated
 * omission"). A request that got no answer counts with the time it has waited so far.
 *
 * One JSON object on standard output; times in it are microseconds where the name says _us, otherwise seconds.
 * Crowds that do little (idle and slow clients) are crowd.py's business.
 *
 *   cc -O2 -o load load.c -lm
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define HEAD_MAX 8192       /* a longer response head is called malformed */

/* What a connection waits for. CLOSED has no socket; FREE has one and no request (open loop only). */
enum state { CLOSED, FREE, CONNECTING, HEAD, BODY, BODY_TO_EOF, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, FIN };

/* What is sent, and what should come back where that is known. */
struct request {
    char *bytes;
    int len;
    char *body;
    uint64_t body_len;
};

struct conn {
    int fd;
    enum state state;
    int waiting;            /* a request is under way */
    int owed;               /* answers still to come: more than one when pipelined */
    int compared;           /* this answer's bytes are compared */
    int closing;            /* the connection ends after this answer */
    int status;
    unsigned life;          /* counts hang-ups: a new socket may have the old one's number */
    int carried;            /* bytes in carry */
    char *carry;            /* the beginning of a head or chunk line, until the rest arrives */
    struct request *request;
    int sent;
    off_t uploaded;
    uint64_t since;         /* when the request was due */
    uint64_t left, length;  /* of the body: bytes to come, bytes so far */
    uint64_t answers;
};

/* ---- what is asked for, from the command line */
static int port, connections = 1, close_each, spin, want_status = 200, pipeline = 1, bodiless;
static long long want_length = -1, upload_size;
static double seconds = 1, warm = 0.2, ramp = 1, rate, stagger, drain = 0.3, finish;
static uint64_t max_answers;
static const char *method = "GET", *path = "/", *upload, *body, *paths, *root;
static char fields[2048];
static int upload_fd = -1;

/* ---- what came of it */
static uint64_t answered, answered_all, bytes, wrong_status, wrong_length, wrong_body, malformed, cut_off, refused, unanswered;
static uint64_t compared;
static uint64_t oldest, begin, window, window_end;
static int first_wrong_status;

static struct conn *conns;
static struct request *requests;    /* one for each connection, or those of --paths, drawn at random */
static int request_count;
static int epoll_fd, stopping;
static int *free_list, free_count;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t draw(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- latencies: 64 buckets for each power of two of nanoseconds, so that a percentile is right within 1.6% */
#define BUCKETS (64 * 48)
static uint64_t histogram[BUCKETS], lat_count, lat_max;
static double lat_sum, late_sum;    /* late: sent after it was due, although a connection was free */

static void latency(uint64_t ns)
{
    int power = ns < 64 ? 5 : 63 - __builtin_clzll(ns);
    int bucket = ns < 64 ? (int)ns : (power - 5) * 64 + (int)((ns >> (power - 6)) & 63);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    lat_count++;
    lat_sum += ns;
    if (ns > lat_max) lat_max = ns;
}

static double percentile_us(double share)
{
    uint64_t want = (uint64_t)(share * lat_count), seen = 0;
    if (want >= lat_count) want = lat_count ? lat_count - 1 : 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > want) return (i < 64 ? i : ldexp(1 + (i & 63) / 64.0, i / 64 + 5)) / 1e3;
    }
    return -1;
}

/* ---- one connection */
static void ask(struct conn *c);

static void hang_up(struct conn *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->life++;
    c->state = CLOSED;
    c->carried = c->closing = 0;
}

/* The request is over, answered or not: the connection may take another. */
static void next(struct conn *c)
{
    c->waiting = 0;
    if (rate) free_list[free_count++] = c - conns;
    else if (!stopping) ask(c);
}

static void lost(struct conn *c, uint64_t *counter)
{
    int waiting = c->waiting;
    if (waiting && !stopping) (*counter)++;
    hang_up(c);
    if (!waiting) return;
    if (stopping) { c->waiting = 0; return; }
    if (refused + cut_off > 2000 && !answered_all) {    /* nobody is there: do not spin on it */
        fprintf(stderr, "load: 2000 connections failed and none was answered\n");
        exit(3);
    }
    next(c);
}

static void dial(struct conn *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

/* Sends what the socket takes of the request and of the upload behind it. */
static void push(struct conn *c)
{
    while (c->sent < c->request->len) {
        ssize_t n = send(c->fd, c->request->bytes + c->sent, c->request->len - c->sent, MSG_NOSIGNAL | (upload ? MSG_MORE : 0));
        if (n < 0) {
            if (errno != EAGAIN) lost(c, &cut_off);
            return;
        }
        c->sent += n;
    }
    while (upload && c->uploaded < upload_size) {
        ssize_t n = sendfile(c->fd, upload_fd, &c->uploaded, upload_size - c->uploaded);
        if (n < 0) {
            if (errno != EAGAIN) lost(c, &cut_off);
            return;
        }
    }
}

static void ask(struct conn *c)
{
    c->waiting = 1;
    c->owed = pipeline;
    c->request = &requests[paths ? draw() % request_count : (uint64_t)(c - conns)];
    c->sent = 0;
    c->uploaded = 0;
    if (!rate) c->since = now();
    if (c->fd < 0) {
        dial(c);                /* it is sent once the connection stands */
        return;
    }
    c->state = HEAD;
    push(c);
}

static void answer_is_whole(struct conn *c)
{
    uint64_t t = now();
    answered_all++;
    c->answers++;
    if (rate ? c->since >= window : t >= window && t < window_end) {
        answered++;
        latency(t - c->since);
    }
    if (c->status != want_status) {
        wrong_status++;
        first_wrong_status = c->status;
    } else if (!bodiless && ((want_length >= 0 && c->length != (uint64_t)want_length) || (c->request->body && c->length != c->request->body_len))) {
        wrong_length++;
    }
    if (--c->owed && !c->closing) { c->state = HEAD; return; }
    if (c->closing || close_each) {
        /* The server closes first: the connection's last wait, TIME_WAIT, stays on its side. */
        if (c->state != BODY_TO_EOF && close_each) { c->state = FIN; return; }
        hang_up(c);
    } else {
        c->state = rate ? FREE : HEAD;
    }
    next(c);
}

/* Reads a head that lies whole in head..end. Returns 1 for an interim answer, -1 when it is no HTTP. */
static int read_head(struct conn *c, char *head, char *end)
{
    long long length = -1;
    int chunked = 0;
    if (end - head < 16 || memcmp(head, "HTTP/1.", 7)) return -1;
    c->status = atoi(head + 9);
    if (c->status < 100 || c->status > 599) return -1;
    if (c->status < 200) return 1;
    c->closing = head[7] == '0';
    for (char *line = head; (line = memchr(line, '\n', end - line)) && ++line < end - 2;) {
        if (!strncasecmp(line, "content-length:", 15)) length = atoll(line + 15);
        else if (!strncasecmp(line, "transfer-encoding: chunked", 26)) chunked = 1;
        else if (!strncasecmp(line, "connection: close", 17)) c->closing = 1;
        else if (!strncasecmp(line, "connection: keep-alive", 22)) c->closing = 0;
    }
    c->length = 0;
    c->left = length > 0 ? length : 0;
    c->compared = c->request->body && c->status == want_status && answered_all % 64 == 0;
    compared += c->compared;
    if (bodiless || c->status == 204 || c->status == 304) c->left = 0, c->state = BODY;
    else if (chunked) c->state = CHUNK_SIZE;
    else if (length >= 0) c->state = BODY;
    else if (c->closing) c->state = BODY_TO_EOF;
    else return -1;
    return 0;
}

static void take_body(struct conn *c, const char *at, uint64_t n)
{
    uint64_t t = now();
    if (c->compared && (c->length + n > c->request->body_len || memcmp(c->request->body + c->length, at, n))) {
        wrong_body++;
        c->compared = 0;
    }
    if (t >= window && t < window_end) bytes += n;
    c->left -= n;
    c->length += n;
}

static char *keep(struct conn *c, char *at, char *end)
{
    if (end - at > HEAD_MAX) { lost(c, &malformed); return NULL; }
    if (!c->carry) c->carry = malloc(HEAD_MAX);
    memcpy(c->carry, at, end - at);
    c->carried = end - at;
    return end;
}

/* Takes one step through the bytes at..end; returns where it stopped, NULL when the connection is to be left alone. */
static char *step(struct conn *c, char *at, char *end)
{
    uint64_t n = end - at;
    int more = c->owed > 1 && !c->closing;      /* bytes behind this answer are the next one's */
    char *stop;
    switch (c->state) {
    case HEAD:
        stop = c->waiting ? memmem(at, n, "\r\n\r\n", 4) : NULL;
        if (!c->waiting) { lost(c, &malformed); return NULL; }
        if (!stop) return keep(c, at, end);
        stop += 4;
        switch (read_head(c, at, stop)) {
        case -1: lost(c, &malformed); return NULL;
        case 1: return stop;
        }
        if (c->state != BODY || c->left) return stop;
        more = more && !c->closing;
        if (!more && stop < end) { lost(c, &malformed); return NULL; }   /* bytes that nobody asked for */
        answer_is_whole(c);
        return more ? stop : NULL;
    case BODY:
    case CHUNK_DATA:
        if (n > c->left) n = c->left;
        take_body(c, at, n);
        if (c->left) return at + n;
        if (c->state == CHUNK_DATA) { c->state = CHUNK_END; return at + n; }
        if (!more && at + n < end) { lost(c, &malformed); return NULL; }
        answer_is_whole(c);
        return more ? at + n : NULL;
    case BODY_TO_EOF:
        c->length += n;
        return end;
    case CHUNK_SIZE:
    case CHUNK_END:
    case TRAILER:
        stop = memchr(at, '\n', n);
        if (!stop) return keep(c, at, end);
        if (c->state == CHUNK_END) {
            c->state = CHUNK_SIZE;
        } else if (c->state == CHUNK_SIZE) {
            c->left = strtoull(at, NULL, 16);
            c->state = c->left ? CHUNK_DATA : TRAILER;
        } else if (stop - at <= 1) {
            if (!more && stop + 1 < end) { lost(c, &malformed); return NULL; }
            answer_is_whole(c);
            return more ? stop + 1 : NULL;
        }
        return stop + 1;
    default:
        lost(c, &malformed);
        return NULL;
    }
}

static void on_end(struct conn *c)
{
    if (c->state == FIN) { hang_up(c); next(c); }
    else if (c->state == BODY_TO_EOF) { c->closing = 1; answer_is_whole(c); }
    else lost(c, &cut_off);
}

/* Edge-triggered: reads until the socket is drained, which a short read shows too, unless the peer has closed. */
static void on_readable(struct conn *c, int read_closed)
{
    static char buffer[256 * 1024 + HEAD_MAX];
    unsigned life = c->life;
    while (c->life == life) {
        size_t room = 256 * 1024;
        ssize_t n;
        if (c->state == BODY && c->left > HEAD_MAX && !c->compared) {   /* TCP takes MSG_TRUNC as: drop the bytes, do not copy them */
            room = c->left - 1;
            n = recv(c->fd, NULL, room, MSG_TRUNC);
            if (n > 0) take_body(c, NULL, n);
        } else {
            char *at = buffer, *end = buffer + c->carried;
            if (c->carried) memcpy(buffer, c->carry, c->carried);
            n = recv(c->fd, end, room, 0);
            if (n > 0) {
                end += n;
                c->carried = 0;
                while (at && at < end) at = step(c, at, end);
            }
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) { on_end(c); return; }
        if ((size_t)n < room && !read_closed) return;
    }
}

static void on_event(struct conn *c, uint32_t events)
{
    if (c->fd < 0) return;
    if (c->state == CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) { lost(c, &refused); return; }
        c->state = c->waiting ? HEAD : FREE;
    }
    unsigned life = c->life;
    if ((events & EPOLLOUT) && c->waiting && c->state == HEAD) push(c);
    if (c->life == life && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) on_readable(c, (events & ~EPOLLIN & ~EPOLLOUT) != 0);
}

/* Waits for events, at longest until `until`. */
static void turn(uint64_t until)
{
    struct epoll_event events[512];
    uint64_t t = now(), wait = until > t ? until - t : 0;
    if (wait > SECOND / 50) wait = SECOND / 50;
    struct timespec timeout = {0, (long)wait};
    int n = epoll_pwait2(epoll_fd, events, 512, &timeout, NULL);
    for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
}

/* ---- the two loops */
static int established(void)
{
    int count = 0;
    for (int i = 0; i < connections; i++) count += conns[i].fd >= 0 && conns[i].state != CONNECTING;
    return count;
}

static void open_window(void)
{
    window = now() + (uint64_t)(warm * SECOND);
    window_end = window + (uint64_t)(seconds * SECOND);
}

static void closed_loop(void)
{
    int started = 0;
    uint64_t gap = (uint64_t)(stagger * SECOND / connections);
    window = window_end = UINT64_MAX;
    /* At most 512 connects at once, so that the server's queue of new connections is filled, not flooded. */
    while (started < connections && now() < begin + (uint64_t)((ramp + stagger) * SECOND)) {
        int batch = started + 512;
        while (started < connections && started < batch && now() >= begin + started * gap) ask(&conns[started++]);
        turn(gap ? begin + started * gap : now() + SECOND / 1000);
    }
    while (started < connections) ask(&conns[started++]);
    while (established() < connections && now() < begin + (uint64_t)((ramp + stagger) * SECOND)) turn(now() + SECOND / 500);
    open_window();
    while (now() < window_end && (!max_answers || answered_all < max_answers)) turn(window_end);
    if (now() < window_end) window_end = now();
    /* Answers that have begun may end, so that they are verified too. */
    stopping = 1;
    for (uint64_t end = now() + (uint64_t)(finish * SECOND); now() < end;) {
        int begun = 0;
        for (int i = 0; i < connections; i++) begun += conns[i].state >= BODY && conns[i].state <= TRAILER;
        if (!begun) break;
        turn(end);
    }
}

static void open_loop(void)
{
    uint64_t count = 0, due = 0, next_due;
    double at = 0, length = warm + seconds;
    uint64_t *schedule = malloc((size_t)(rate * length * 1.2 + 1000) * sizeof *schedule);
    for (uint64_t most = rate * length * 1.2 + 999; count < most; count++) {
        at += -log(((draw() >> 11) + 1) / 9007199254740993.0) / rate;
        if (at >= length) break;
        schedule[count] = (uint64_t)(at * SECOND);
    }
    begin = now();
    open_window();
    for (int i = connections - 1; i >= 0; i--) free_list[free_count++] = i;
    while (now() < window_end) {
        while (due < count && free_count && begin + schedule[due] <= now()) {
            struct conn *c = &conns[free_list[--free_count]];
            c->since = begin + schedule[due++];
            late_sum += now() - c->since;
            ask(c);
        }
        next_due = due < count && free_count ? begin + schedule[due] : window_end;
        turn(spin ? 0 : next_due);
    }
    stopping = 1;
    uint64_t end = now() + (uint64_t)(drain * SECOND);
    int busy = connections - free_count;
    while (busy && now() < end) {
        turn(end);
        busy = 0;
        for (int i = 0; i < connections; i++) busy += conns[i].waiting && conns[i].state != FIN;
    }
    /* What is still waiting, and what could not even be sent, has waited this long at least. */
    uint64_t t = now();
    for (int i = 0; i < connections; i++) {
        struct conn *c = &conns[i];
        if (!c->waiting || c->state == FIN || c->since < window) continue;
        unanswered++;
        latency(t - c->since);
        if (t - c->since > oldest) oldest = t - c->since;
    }
    for (; due < count; due++) {
        if (begin + schedule[due] < window) continue;
        unanswered++;
        latency(t - begin - schedule[due]);
        if (t - begin - schedule[due] > oldest) oldest = t - begin - schedule[due];
    }
}

/* Seconds in which this process could have run and another had the core. */
static double kept_waiting(void)
{
    unsigned long ran = 0, waited = 0;
    FILE *f = fopen("/proc/self/schedstat", "r");
    if (!f) return 0;
    if (fscanf(f, "%lu %lu", &ran, &waited) != 2) waited = 0;
    fclose(f);
    return waited / 1e9;
}

static void usage(void)
{
    fprintf(stderr, "usage: load --port N [--path /P] [--connections N] [--seconds S] [--warm S] [--ramp S] [--stagger S]\n"
                    "            [--close] [--rate PER-SECOND [--spin] [--drain S]] [--answers N] [--finish S] [--field 'Name: value']\n"
                    "            [--method M] [--upload FILE] [--status N] [--length BYTES] [--body FILE] [--pipeline N]\n"
                    "            [--paths FILE [--root FOLDER]]\n"
                    "A %%d in the path becomes the connection's number. --body is what each answer should bring. --paths is a list, a\n"
                    "path a line, asked for at random; --root is where the files of that list are.\n");
    exit(2);
}

static void read_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"warm", 1, 0, 'w'},
        {"ramp", 1, 0, 'a'}, {"stagger", 1, 0, 'g'}, {"close", 0, 0, 'C'}, {"rate", 1, 0, 'r'}, {"spin", 0, 0, 'S'},
        {"drain", 1, 0, 'd'}, {"finish", 1, 0, 'F'}, {"answers", 1, 0, 'n'}, {"field", 1, 0, 'f'}, {"method", 1, 0, 'm'}, {"upload", 1, 0, 'b'},
        {"status", 1, 0, 't'}, {"length", 1, 0, 'l'},
        {"body", 1, 0, 'B'}, {"pipeline", 1, 0, 'P'}, {"paths", 1, 0, 'U'}, {"root", 1, 0, 'R'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 'a': ramp = atof(optarg); break;
        case 'g': stagger = atof(optarg); break;
        case 'C': close_each = 1; break;
        case 'r': rate = atof(optarg); break;
        case 'S': spin = 1; break;
        case 'd': drain = atof(optarg); break;
        case 'F': finish = atof(optarg); break;
        case 'n': max_answers = strtoull(optarg, NULL, 10); break;
        case 'm': method = optarg; break;
        case 'b': upload = optarg; break;
        case 't': want_status = atoi(optarg); break;
        case 'l': want_length = atoll(optarg); break;
        case 'B': body = optarg; break;
        case 'P': pipeline = atoi(optarg); break;
        case 'U': paths = optarg; break;
        case 'R': root = optarg; break;
        case 'f':
            if (strlen(fields) + strlen(optarg) + 3 > sizeof fields) usage();
            strcat(strcat(fields, optarg), "\r\n");
            break;
        default: usage();
    }
    if (optind < argc || port < 1 || port > 65535 || connections < 1 || seconds <= 0 || rate < 0 || pipeline < 1) usage();
    if (pipeline > 1 && (upload || close_each)) usage();
    bodiless = !strcmp(method, "HEAD");
}

static void read_body(struct request *r, const char *name)
{
    struct stat status;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status)) fail(name);
    r->body = malloc(status.st_size + 1);
    r->body_len = status.st_size;
    for (uint64_t at = 0; at < r->body_len;) {
        ssize_t n = read(fd, r->body + at, r->body_len - at);
        if (n <= 0) fail(name);
        at += n;
    }
    close(fd);
}

/* A request as often as it is sent at once. `number` stands in for %d in the path. */
static struct request make_request(const char *path, int number)
{
    struct request r = {0};
    const char *mark = strstr(path, "%d");
    char mine[32] = "", *one;
    if (mark) snprintf(mine, sizeof mine, "%d", number);
    int len = asprintf(&one, "%s %.*s%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n", method, (int)(mark ? mark - path : (int)strlen(path)),
                       path, mine, mark ? mark + 2 : "", port, close_each ? "Connection: close\r\n" : "", fields);
    r.len = len * pipeline;
    r.bytes = malloc(r.len);
    for (int i = 0; i < pipeline; i++) memcpy(r.bytes + i * len, one, len);
    free(one);
    return r;
}

static void read_paths(void)
{
    char line[4096], name[8192];
    FILE *list = fopen(paths, "r");
    if (!list) fail(paths);
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\r\n")] = 0;
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        requests[request_count] = make_request(line, 0);
        if (root) {
            snprintf(name, sizeof name, "%s%s", root, line);
            read_body(&requests[request_count], name);
        }
        request_count++;
    }
    fclose(list);
    if (!request_count) usage();
}

static void build_requests(void)
{
    if (upload) {
        struct stat status;
        upload_fd = open(upload, O_RDONLY | O_CLOEXEC);
        if (upload_fd < 0 || fstat(upload_fd, &status)) fail(upload);
        upload_size = status.st_size;
        snprintf(fields + strlen(fields), sizeof fields - strlen(fields), "Content-Length: %lld\r\n", upload_size);
    }
    conns = calloc(connections, sizeof *conns);
    free_list = calloc(connections, sizeof *free_list);
    for (int i = 0; i < connections; i++) conns[i].fd = -1;
    if (paths) {
        read_paths();
        return;
    }
    requests = calloc(connections, sizeof *requests);
    struct request known = {0};
    if (body) read_body(&known, body);
    for (int i = 0; i < connections; i++) {
        requests[i] = make_request(path, i);
        requests[i].body = known.body;
        requests[i].body_len = known.body_len;
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    struct rusage used;
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    build_requests();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) fail("epoll_create1");
    begin = now();
    if (rate) open_loop();
    else closed_loop();
    stopping = 1;

    uint64_t end = now();
    int served = 0, standing = established();
    for (int i = 0; i < connections; i++) served += conns[i].answers || conns[i].status;   /* or the beginning of one */
    getrusage(RUSAGE_SELF, &used);
    double window_s = (window_end > window ? window_end - window : end - begin) / 1e9;
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"answered\":%lu,\"answered_all\":%lu,\"bytes\":%lu,\"window\":%.4f,\"wall\":%.4f,\"cpu\":%.4f,\"kept_waiting\":%.4f,"
           "\"late_us\":%.1f,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"connections\":%d,\"established\":%d,\"served\":%d,\"unanswered\":%lu,\"oldest_us\":%.1f,"
           "\"wrong_status\":%lu,\"first_wrong_status\":%d,\"wrong_length\":%lu,\"wrong_body\":%lu,\"compared\":%lu,\"malformed\":%lu,\"cut_off\":%lu,\"refused\":%lu}\n",
           answered, answered_all, bytes, window_s, (end - begin) / 1e9, cpu, kept_waiting(),
           rate && answered_all ? late_sum / answered_all / 1e3 : 0, lat_count ? lat_sum / lat_count / 1e3 : -1, percentile_us(.5), percentile_us(.9), percentile_us(.99), lat_max / 1e3,
           connections, standing, served, unanswered, oldest / 1e3,
           wrong_status, first_wrong_status, wrong_length, wrong_body, compared, malformed, cut_off, refused);
    return 0;
}
