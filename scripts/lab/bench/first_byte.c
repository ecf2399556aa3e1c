/* first_byte.c: starts a server and measures the time until the first byte of its first answer.
 *
 *   cc -O2 -o first_byte first_byte.c
 *   first_byte PORT PATH CORE PROGRAM [ARGUMENT]...
 *
 * Prints one JSON object: milliseconds and status. It ends the server and all processes of its session.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static pid_t start(int core, char **argv)
{
    pid_t pid = fork();
    if (pid) return pid;
    cpu_set_t cores;
    int nothing = open("/dev/null", O_RDWR);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setsid();
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    sched_setaffinity(0, sizeof cores, &cores);
    for (int fd = 0; fd < 3; fd++) dup2(nothing, fd);
    execvp(argv[0], argv);
    _exit(127);
}

/* Sends one request. Returns the status, or 0 if nothing answers yet. */
static int ask(int port, const char *path)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 5};
    char text[4096];
    int status = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!connect(fd, (struct sockaddr *)&to, sizeof to)) {
        int len = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        send(fd, text, len, MSG_NOSIGNAL);
        if (recv(fd, text, sizeof text, 0) > 12) status = atoi(text + 9);
    }
    close(fd);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    double began = now_ms(), ended;
    pid_t pid = start(atoi(argv[3]), argv + 4);
    int status, seconds = 10;
    struct timespec pause = {0, 50000};
    while (!(status = ask(atoi(argv[1]), argv[2])) && now_ms() < began + seconds * 1e3 && !waitpid(pid, NULL, WNOHANG)) nanosleep(&pause, NULL);
    ended = now_ms();
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    printf("{\"ms\":%.3f,\"status\":%d}\n", ended - began, status);
    return status != 200;
}
