/* load: a load generator with one thread and one epoll. It checks the status and the length of every answer, and compares
 * the bytes of every 64th answer if it knows what they should be (--body, --root).
 *
 * Closed loop: each connection sends its next request as soon as it has its answer.
 * Open loop (--rate): requests fall due at random moments (Poisson), whatever the server does. Latency counts from the moment
 * a request was due, not from when it could be sent, so that a server that stalls cannot hide it ("coordinated omission").
 * A request without an answer counts with the time that it has waited so far.
 *
 * It prints one JSON object. Times in it are microseconds if the name ends with _us, else seconds.
 * Idle and slow clients are crowd.py.
 *
 *   cc -O2 -o load *.c -lm
 */
#include "load.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

/* Described in load.h. The values are the defaults. */
int port, connections = 1, close_each, spin, want_status = 200, pipeline = 1, bodiless;
long long want_length = -1, upload_size;
double seconds = 1, warm = 0.2, ramp = 1, rate, stagger, drain = 0.3, finish;
uint64_t max_answers;
const char *method = "GET", *path = "/", *upload, *body, *paths, *root;
char fields[2048];
int upload_fd = -1;

uint64_t answered, answered_all, bytes, wrong_status, wrong_length, wrong_body, malformed, cut_off, refused, unanswered;
uint64_t compared;
uint64_t oldest, begin, window, window_end;
int first_wrong_status;

struct conn *conns;
struct request *requests;
int request_count;
int epoll_fd, stopping;
int *free_list, free_count;
double late_sum;

uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + t.tv_nsec;
}

uint64_t draw(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state;
}

void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Seconds for which this process was ready to run while another one had the core. */
static double kept_waiting(void)
{
    unsigned long ran = 0, waited = 0;
    FILE *f = fopen("/proc/self/schedstat", "r");
    if (!f) return 0;
    if (fscanf(f, "%lu %lu", &ran, &waited) != 2) waited = 0;
    fclose(f);
    return waited / 1e9;
}

void usage(void)
{
    fprintf(stderr, "usage: load --port N [--path /P] [--connections N] [--seconds S] [--warm S] [--ramp S] [--stagger S]\n"
                    "            [--close] [--rate PER-SECOND [--spin] [--drain S]] [--answers N] [--finish S] [--field 'Name: value']\n"
                    "            [--method M] [--upload FILE] [--status N] [--length BYTES] [--body FILE] [--pipeline N]\n"
                    "            [--paths FILE [--root FOLDER]]\n"
                    "A %%d in the path becomes the connection's number. --body is the file that each answer should contain. --paths is a file\n"
                    "with one path on each line; each request takes one at random. --root is the folder with the files of these paths.\n");
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
    for (int i = 0; i < connections; i++) served += conns[i].answers || conns[i].status;   /* an answer, or at least a status */
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
