// SPDX-License-Identifier: Apache-2.0
/*
 * Harness of the benchmark program:
 *     suite [SECONDS [ROW...]]
 * For each row it prints, on lines of their own,
 *     begin NAME
 *     end NAME COUNT NS        (CLOCK_MONOTONIC between the two lines)
 * so that a reader outside can time the same stretch with its own clock.
 * `suite --list` prints names and what one operation is.
 */
#include "suite.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SEARCH_NS 20000000ULL /* long enough to extrapolate from */

static volatile uint64_t sink;

void suite_use(uint64_t v)
{
    sink += v;
}

void suite_die(const char *what)
{
    perror(what);
    exit(1);
}

const char *suite_tmp(void)
{
    struct stat st;

    return stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp";
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static uint64_t find_count(const struct row *r, double seconds)
{
    uint64_t n = 1, t;

    if (r->once)
        return r->once;
    for (;;) {
        t = now_ns();
        r->run(n);
        t = now_ns() - t;
        if (t >= SEARCH_NS)
            break;
        n = t < SEARCH_NS / 16 ? n * 8 : n * 2;
    }
    n = (uint64_t)((double)n * seconds * 1e9 / (double)t);
    return n ? n : 1;
}

static void run_row(const struct row *r, double seconds)
{
    uint64_t n, t;

    if (r->prepare)
        r->prepare();
    n = find_count(r, seconds);
    printf("begin %s\n", r->name);
    t = now_ns();
    r->run(n);
    t = now_ns() - t;
    printf("end %s %" PRIu64 " %" PRIu64 "\n", r->name, n, t);
}

static bool wanted(const struct row *r, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], r->name) == 0)
            return true;
    return argc <= 2;
}

int main(int argc, char **argv)
{
    static const struct row *const groups[] = {rows_memory, rows_cpu,
                                               rows_kernel};
    bool list = argc > 1 && strcmp(argv[1], "--list") == 0;
    double seconds = argc > 1 && !list ? atof(argv[1]) : 0.5;

    if (argc > 1 && strcmp(argv[1], "--exit") == 0)
        return 0; /* what the exec row runs */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++)
        for (const struct row *r = groups[g]; r->name; r++) {
            if (list)
                printf("%-14s %s\n", r->name, r->what);
            else if (wanted(r, argc, argv))
                run_row(r, seconds);
        }
    if (!list)
        printf("done\n");
    return 0;
}
