/* requests.c: the requests, and the bodies that their answers should have. */
#include "load.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* The bytes of a request, repeated as often as it is pipelined. `number` replaces %d in the path. */
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

void build_requests(void)
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
