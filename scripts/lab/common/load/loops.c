/* loops.c: when a connection sends a request. */
#include "load.h"
#include <math.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* Waits for events until the time `until`, at most 20 ms, and handles them. */
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
int established(void)
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

void closed_loop(void)
{
    int started = 0;
    uint64_t gap = (uint64_t)(stagger * SECOND / connections);
    window = window_end = UINT64_MAX;
    /* At most 512 connects at once, so that the server's accept queue does not overflow. */
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
    /* Wait for the end of answers that have begun, so that they are checked too. */
    stopping = 1;
    for (uint64_t end = now() + (uint64_t)(finish * SECOND); now() < end;) {
        int begun = 0;
        for (int i = 0; i < connections; i++) begun += conns[i].state >= BODY && conns[i].state <= TRAILER;
        if (!begun) break;
        turn(end);
    }
}

void open_loop(void)
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
    /* A request without an answer, or one that could not be sent, counts with the time it has waited until now. */
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
