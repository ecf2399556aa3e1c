/* latency.c: a histogram of latencies. It has 64 buckets for each power of two of nanoseconds, so that a percentile is right
 * within 1.6%. */
#include "load.h"
#include <math.h>

#define BUCKETS (64 * 48)
static uint64_t histogram[BUCKETS];
uint64_t lat_count, lat_max;
double lat_sum;

void latency(uint64_t ns)
{
    int power = ns < 64 ? 5 : 63 - __builtin_clzll(ns);
    int bucket = ns < 64 ? (int)ns : (power - 5) * 64 + (int)((ns >> (power - 6)) & 63);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    lat_count++;
    lat_sum += ns;
    if (ns > lat_max) lat_max = ns;
}

double percentile_us(double share)
{
    uint64_t want = (uint64_t)(share * lat_count), seen = 0;
    if (want >= lat_count) want = lat_count ? lat_count - 1 : 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > want) return (i < 64 ? i : ldexp(1 + (i & 63) / 64.0, i / 64 + 5)) / 1e3;
    }
    return -1;
}
