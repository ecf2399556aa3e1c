/* client.c: one connection. It sends requests, parses the answers and checks them. */
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- one connection */
void ask(struct conn *c);

static void hang_up(struct conn *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->life++;
    c->state = CLOSED;
    c->carried = c->closing = 0;
}

/* The request is over, answered or not: the connection may send another. */
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
    if (refused + cut_off > 2000 && !answered_all) {    /* there is no server: do not try for ever */
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

/* Sends as much as the socket takes of the request, then of the upload. */
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

void ask(struct conn *c)
{
    c->waiting = 1;
    c->owed = pipeline;
    c->request = &requests[paths ? draw() % request_count : (uint64_t)(c - conns)];
    c->sent = 0;
    c->uploaded = 0;
    if (!rate) c->since = now();
    if (c->fd < 0) {
        dial(c);                /* push() is called once it is connected */
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
        /* The side that closes first keeps the connection in TIME_WAIT. The server should be that side. */
        if (c->state != BODY_TO_EOF && close_each) { c->state = FIN; return; }
        hang_up(c);
    } else {
        c->state = rate ? FREE : HEAD;
    }
    next(c);
}

/* Reads the whole head in head..end. Returns 1 for an interim response (1xx), -1 if it is not HTTP. */
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

/* Parses one part of the bytes at..end. Returns where it stopped, or NULL to read no more from this connection. */
static char *step(struct conn *c, char *at, char *end)
{
    uint64_t n = end - at;
    int more = c->owed > 1 && !c->closing;      /* pipelined: the bytes after this answer belong to the next one */
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
        if (!more && stop < end) { lost(c, &malformed); return NULL; }   /* bytes after the last answer */
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

/* Reads until the socket is empty, because epoll is edge-triggered. A short read means empty, unless the peer has closed. */
static void on_readable(struct conn *c, int read_closed)
{
    static char buffer[256 * 1024 + HEAD_MAX];
    unsigned life = c->life;
    while (c->life == life) {
        size_t room = 256 * 1024;
        ssize_t n;
        if (c->state == BODY && c->left > HEAD_MAX && !c->compared) {   /* with MSG_TRUNC, TCP drops the bytes and does not copy them */
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

void on_event(struct conn *c, uint32_t events)
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
