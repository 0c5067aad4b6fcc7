// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the benchmark program in several places by turns and compares:
 *     runner ROUNDS RAW_FILE NAME=COMMAND...
 * The first NAME is what the others are divided by. Each COMMAND (by sh -c)
 * prints, anywhere in its output, `mark up` once the guest's init runs and the
 * program's `begin`/`end`/`sum` lines. Every line is stamped with this host's
 * clock, so that each row is timed twice; a row whose two times lie more than 2
 * % (and 4 ms, the console's jitter) apart is marked `!` and makes the
 * status 1. The raw series go to RAW_FILE, a JSON object a line. `sum NAME
 * TEXT` must say the same everywhere. The means leave out `boot` and rows named
 * +NAME; places named tcg... are also what the others between are compared
 * with.
 */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLACES_MAX 6
#define ROWS_MAX   64
#define ROUNDS_MAX 32
#define SKEW_PCT   2.0
#define JITTER_NS  4e6

struct series {
    double ns[ROUNDS_MAX];
    int n;
    bool skewed;
};

struct bench {
    int places, rounds, rows;
    char *place[PLACES_MAX], *command[PLACES_MAX];
    char row[ROWS_MAX][32], sum[ROWS_MAX][128];
    bool differs, by_cpu;
    double cpu_begun;
    struct series at[PLACES_MAX][ROWS_MAX];
    FILE *raw;
};

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

#define PIDS_MAX 32768

/* CPU time of what descends from us, ended children included. */
static double children_cpu_ns(void)
{
    static bool ours[PIDS_MAX + 1]; /* by pid: greater than its parent's */
    double ticks = 0;
    char path[300], line[1024];
    struct dirent **all;
    int n = scandir("/proc", &all, NULL, versionsort);

    memset(ours, 0, sizeof ours);
    for (int i = 0; i < n; free(all[i++])) {
        unsigned long ut, st, cut, cst;
        int pid = atoi(all[i]->d_name), parent;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%s/stat", all[i]->d_name);
        f = pid > 0 && pid <= PIDS_MAX ? fopen(path, "r") : NULL;
        if (!f)
            continue;
        size_t len = fread(line, 1, sizeof line - 1, f);
        fclose(f);
        line[len] = 0;
        char *at = strrchr(line, ')');
        if (!at ||
            sscanf(at + 1,
                   " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu "
                   "%lu",
                   &parent, &ut, &st, &cut, &cst) != 5)
            continue;
        ours[pid] = parent == getpid() ||
                    (parent > 0 && parent <= PIDS_MAX && ours[parent]);
        if (ours[pid])
            ticks += (double)(ut + st + cut + cst);
    }
    if (n >= 0)
        free(all);
    return ticks * 1e9 / (double)sysconf(_SC_CLK_TCK);
}

static int row_index(struct bench *b, const char *name)
{
    for (int i = 0; i < b->rows; i++)
        if (strcmp(b->row[i], name) == 0)
            return i;
    if (b->rows == ROWS_MAX)
        exit(2);
    snprintf(b->row[b->rows], sizeof b->row[0], "%s", name);
    return b->rows++;
}

static void record(struct bench *b, int place, const char *name, double per_op,
                   double guest_ns, double host_ns)
{
    struct series *s = &b->at[place][row_index(b, name)];
    double apart = fabs(host_ns - guest_ns);

    if (s->n < ROUNDS_MAX)
        s->ns[s->n++] = per_op;
    if (apart > JITTER_NS && apart > guest_ns * SKEW_PCT / 100)
        s->skewed = true;
    fprintf(b->raw,
            "{\"place\":\"%s\",\"name\":\"%s\",\"value\":%.3f,\"unit\":\"ns\","
            "\"guest_ns\":%.0f,\"host_ns\":%.0f}\n",
            b->place[place], name, per_op, guest_ns, host_ns);
    fflush(b->raw);
}

/* What a row worked out; the first one told is what the others must say. */
static void take_sum(struct bench *b, int place, const char *name,
                     const char *text)
{
    char *known = b->sum[row_index(b, name)];

    if (!*known)
        snprintf(known, sizeof b->sum[0], "%s", text);
    if (strncmp(known, text, sizeof b->sum[0] - 1) == 0)
        return;
    fprintf(stderr, "bench: %s: %s says %s, not %s\n", name, b->place[place],
            text, known);
    b->differs = true;
}

/* One line of a place's output. */
static void take_line(struct bench *b, int place, const char *line,
                      double started, double *begun)
{
    char name[32], text[128];
    uint64_t count, ns;
    double value;
    int n;

    if (strstr(line, "mark up")) {
        double t = now_ns() - started;

        record(b, place, "boot", t, t, t);
    } else if (strncmp(line, "begin ", 6) == 0) {
        *begun = now_ns();
        if (b->by_cpu)
            b->cpu_begun = children_cpu_ns();
    } else if ((n = sscanf(line, "end %31s %" SCNu64 " %" SCNu64 " %lf", name,
                           &count, &ns, &value)) >= 3 &&
               count) {
        double host = now_ns() - *begun;

        if (n <= 3)
            value =
                (b->by_cpu ? children_cpu_ns() - b->cpu_begun : (double)ns) /
                (double)count;
        record(b, place, name, value, (double)ns, host);
    } else if (sscanf(line, "sum %31s %127[^\n]", name, text) == 2) {
        take_sum(b, place, name, text);
    } else if (strncmp(line, "failed ", 7) == 0) {
        fprintf(stderr, "bench: %s: %s\n", b->place[place], line);
    }
}

static bool run_place(struct bench *b, int place)
{
    double started = now_ns(), begun = 0;
    char *line = NULL;
    size_t cap = 0;
    bool done = false;
    FILE *f = popen(b->command[place], "r");

    if (!f)
        return false;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        take_line(b, place, line, started, &begun);
        done |= strcmp(line, "done") == 0;
    }
    free(line);
    if (pclose(f) != 0 || !done)
        fprintf(stderr, "bench: %s did not finish\n", b->place[place]);
    return done;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const struct series *s)
{
    double v[ROUNDS_MAX];

    if (!s->n)
        return NAN;
    memcpy(v, s->ns, (size_t)s->n * sizeof v[0]);
    qsort(v, (size_t)s->n, sizeof v[0], by_value);
    return s->n % 2 ? v[s->n / 2] : (v[s->n / 2 - 1] + v[s->n / 2]) / 2;
}

/* Place @p's median of row @r over place @base's, or NAN. */
static double ratio(const struct bench *b, int r, int p, int base)
{
    return median(&b->at[p][r]) / median(&b->at[base][r]);
}

/* Is row @r part of the means? */
static bool counts(const struct bench *b, int r)
{
    return b->row[r][0] != '+' && strcmp(b->row[r], "boot") != 0;
}

/* Geometric mean of place @p over @base; NAN without a row in common. */
static double mean(const struct bench *b, int p, int base)
{
    double log_sum = 0;
    int n = 0;

    for (int r = 0; r < b->rows; r++)
        if (counts(b, r) && isfinite(ratio(b, r, p, base))) {
            log_sum += log(ratio(b, r, p, base));
            n++;
        }
    return n ? exp(log_sum / n) : NAN;
}

/* One row: each place's median and that over the first's. */
static bool print_row(const struct bench *b, int r)
{
    bool in_step = true;

    printf("%-12s", b->row[r]);
    for (int p = 0; p < b->places; p++) {
        printf(" %13.1f%c", median(&b->at[p][r]),
               b->at[p][r].skewed ? '!' : ' ');
        in_step &= !b->at[p][r].skewed;
        if (p && isfinite(ratio(b, r, p, 0)) && strcmp(b->row[r], "boot") != 0)
            printf("%7.2fx", ratio(b, r, p, 0));
        else
            printf("%8s", "");
    }
    printf("\n");
    return in_step;
}

/* How much faster place @p is than @tcg: each row, and the mean. */
static void print_against(const struct bench *b, int p, int tcg)
{
    printf("%s against %s:", b->place[p], b->place[tcg]);
    for (int r = 0; r < b->rows; r++)
        if (isfinite(ratio(b, r, tcg, p)))
            printf(" %s %.2f", b->row[r], ratio(b, r, tcg, p));
    printf("; geometric mean %.2f times as fast\n", mean(b, tcg, p));
}

/* The table: medians, then each place over the first. Return: all in step. */
static bool print_table(const struct bench *b)
{
    bool in_step = true;

    printf("%-12s", "row (ns)");
    for (int p = 0; p < b->places; p++)
        printf(" %14s%8s", b->place[p], p ? "ratio" : "");
    printf("\n");
    for (int r = 0; r < b->rows; r++)
        in_step &= print_row(b, r);
    printf("%-12s", "geo. mean");
    for (int p = 0; p < b->places; p++)
        if (p && isfinite(mean(b, p, 0)))
            printf(" %14s%7.2fx", "", mean(b, p, 0));
        else
            printf(" %14s%8s", "", "");
    printf("\n");
    for (int t = 1; t < b->places; t++)
        for (int p = 1; p < b->places; p++)
            if (strncmp(b->place[t], "tcg", 3) == 0 &&
                strncmp(b->place[p], "tcg", 3) != 0)
                print_against(b, p, t);
    return in_step;
}

int main(int argc, char **argv)
{
    static struct bench b;
    bool all = true;

    b.rounds = argc > 3 ? atoi(argv[1]) : 0;
    if (b.rounds < 1 || b.rounds > ROUNDS_MAX || argc - 3 > PLACES_MAX) {
        fprintf(stderr, "usage: runner ROUNDS RAW_FILE NAME=COMMAND...\n");
        return 2;
    }
    b.by_cpu = getenv("BY_CPU") != NULL;
    b.raw = fopen(argv[2], "w");
    if (!b.raw) {
        perror(argv[2]);
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        char *eq = strchr(argv[i], '=');

        if (!eq)
            return 2;
        *eq = 0;
        b.place[b.places] = argv[i];
        b.command[b.places++] = eq + 1;
    }
    for (int round = 0; round < b.rounds; round++)
        for (int p = 0; p < b.places; p++)
            all &= run_place(&b, p) || run_place(&b, p); /* once more */
    fclose(b.raw);
    return print_table(&b) && all && !b.differs ? 0 : 1;
}
