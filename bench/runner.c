// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the benchmark program in several places by turns and compares:
 *     runner ROUNDS RAW_FILE NAME=COMMAND...
 * The first NAME is what the others are divided by. Each COMMAND (by sh -c)
 * prints, anywhere in its output, `mark up` once the guest's init runs and the
 * program's `begin`/`end` lines. Every line is stamped with this host's clock,
 * so that each row is timed twice; a row whose two times lie more than 2 % (and
 * 4 ms, the console's jitter) apart is marked `!` and makes the status 1. The
 * raw series go to RAW_FILE, a JSON object a line.
 */
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
    char row[ROWS_MAX][32];
    struct series at[PLACES_MAX][ROWS_MAX];
    FILE *raw;
};

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
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

/* One line of a place's output. */
static void take_line(struct bench *b, int place, const char *line,
                      double started, double *begun)
{
    char name[32];
    uint64_t count, ns;

    if (strstr(line, "mark up")) {
        double t = now_ns() - started;

        record(b, place, "boot", t, t, t);
    } else if (strncmp(line, "begin ", 6) == 0) {
        *begun = now_ns();
    } else if (sscanf(line, "end %31s %" SCNu64 " %" SCNu64, name, &count,
                      &ns) == 3 &&
               count) {
        record(b, place, name, (double)ns / (double)count, (double)ns,
               now_ns() - *begun);
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

/* The table: medians, then each place over the first. Return: all in step. */
static bool print_table(struct bench *b)
{
    double log_sum[PLACES_MAX] = {0};
    int counted[PLACES_MAX] = {0};
    bool in_step = true;

    printf("%-10s", "row (ns)");
    for (int p = 0; p < b->places; p++)
        printf(" %14s%8s", b->place[p], p ? "ratio" : "");
    printf("\n");
    for (int r = 0; r < b->rows; r++) {
        double base = median(&b->at[0][r]);

        printf("%-10s", b->row[r]);
        for (int p = 0; p < b->places; p++) {
            double m = median(&b->at[p][r]);

            printf(" %13.1f%c", m, b->at[p][r].skewed ? '!' : ' ');
            in_step &= !b->at[p][r].skewed;
            if (p && isfinite(m / base)) {
                printf("%7.2fx", m / base);
                log_sum[p] += log(m / base);
                counted[p]++;
            } else {
                printf("%8s", "");
            }
        }
        printf("\n");
    }
    printf("%-10s", "geo. mean");
    for (int p = 0; p < b->places; p++)
        if (p && counted[p])
            printf(" %14s%7.2fx", "", exp(log_sum[p] / counted[p]));
        else
            printf(" %14s%8s", "", "");
    printf("\n");
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
    return print_table(&b) && all ? 0 : 1;
}
