/* load.h: the declarations that the files of the load generator share. main.c describes the program.
 *
 * main.c      the command line, and the result as JSON
 * loops.c     the closed and the open loop: when a connection sends a request
 * client.c    one connection: it sends requests, and parses and checks the answers
 * requests.c  the requests, and the bodies that their answers should have
 * latency.c   the histogram of latencies
 */
#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE
#include <stdint.h>
#include <sys/types.h>

#define SECOND 1000000000ull
#define HEAD_MAX 8192       /* a longer response head counts as malformed */

/* The state of a connection: what it waits for. CLOSED: there is no socket. FREE: there is a socket and no request (open loop
 * only). FIN: the answer is whole, and the server must close the connection. */
enum state { CLOSED, FREE, CONNECTING, HEAD, BODY, BODY_TO_EOF, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, FIN };

/* The bytes of a request, and the body of its answer if that is known. */
struct request {
    char *bytes;
    int len;
    char *body;
    uint64_t body_len;
};

struct conn {
    int fd;
    enum state state;
    int waiting;            /* a request is due or sent, and its answer is not complete */
    int owed;               /* answers still to come: more than one when pipelined */
    int compared;           /* this answer's bytes are compared with the request's body */
    int closing;            /* the server closes the connection after this answer */
    int status;
    unsigned life;          /* counts hang-ups: a new socket may get the descriptor of the old one */
    int carried;            /* bytes in carry */
    char *carry;            /* the beginning of a head or chunk line, until the rest arrives */
    struct request *request;
    int sent;
    off_t uploaded;
    uint64_t since;         /* when the request was due */
    uint64_t left, length;  /* bytes of the body: still to come, received so far */
    uint64_t answers;
};

/* ---- options, from the command line (main.c). They are not changed after the start. */
extern int port, connections, close_each, spin, want_status, pipeline, bodiless;
extern long long want_length, upload_size;
extern double seconds, warm, ramp, rate, stagger, drain, finish;
extern uint64_t max_answers;
extern const char *method, *path, *upload, *body, *paths, *root;
extern char fields[2048];
extern int upload_fd;

/* ---- counts, for the result (main.c). `answered` counts the measured window, `answered_all` the whole run. */
extern uint64_t answered, answered_all, bytes, wrong_status, wrong_length, wrong_body, malformed, cut_off, refused, unanswered;
extern uint64_t compared;
extern uint64_t oldest, begin, window, window_end;
extern int first_wrong_status;
extern double late_sum;             /* nanoseconds from due to sent, of requests for which a connection was free */

/* ---- state (main.c) */
extern struct conn *conns;
extern struct request *requests;    /* one for each connection, or those of --paths, drawn at random */
extern int request_count;
extern int epoll_fd, stopping;
extern int *free_list, free_count;

uint64_t now(void);                 /* nanoseconds of a monotonic clock */
uint64_t draw(void);                /* a random number, the same sequence in each run */
void fail(const char *what);        /* prints what failed, and why (errno), and exits with 1 */
void usage(void);                   /* exits with 2 */

/* client.c */
void ask(struct conn *c);
void on_event(struct conn *c, uint32_t events);

/* loops.c */
int established(void);
void closed_loop(void);
void open_loop(void);

/* requests.c */
void build_requests(void);

/* latency.c */
extern uint64_t lat_count, lat_max;
extern double lat_sum;
void latency(uint64_t ns);
double percentile_us(double share);

#endif
