// SPDX-License-Identifier: Apache-2.0
/* Rows about memory: copies, pointer chase, first touch. `fresh` stands first:
 * it must meet RAM that nothing used before. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096

/* Touch @pages fresh pages, at most @at_once of them mapped at a time. */
static void touch(size_t pages, size_t at_once)
{
    while (pages) {
        size_t n = pages < at_once ? pages : at_once;
        volatile uint8_t *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            suite_die("fault: mmap");
        for (size_t i = 0; i < n; i++)
            p[i * PAGE] = 1;
        munmap((void *)p, n * PAGE);
        pages -= n;
    }
}

#define FRESH_PAGES 40960 /* 160 MiB */

static void fresh(uint64_t n)
{
    touch(n, n);
}

static void fault(uint64_t n)
{
    touch(n, 1024);
}

#define COPY_BYTES (1 << 20)
static char *copy_a, *copy_b;

static void copy_prepare(void)
{
    copy_a = malloc(COPY_BYTES);
    copy_b = malloc(COPY_BYTES);
    if (!copy_a || !copy_b)
        suite_die("copy: malloc");
    memset(copy_a, 'x', COPY_BYTES);
    copy_a[COPY_BYTES - 1] = 0;
}

static void copy(uint64_t n)
{
    while (n--) {
        memcpy(copy_b, copy_a, COPY_BYTES);
        suite_use(strlen(copy_b));
        suite_use((uint64_t)memcmp(copy_a, copy_b, COPY_BYTES));
    }
}

#define CHASE_N (1 << 18) /* 2 MiB of pointers */
static void **chase_at;

static void chase_prepare(void)
{
    void **cell = malloc(CHASE_N * sizeof *cell);
    uint32_t *order = malloc(CHASE_N * sizeof *order), x = 1;

    if (!cell || !order)
        suite_die("chase: malloc");
    for (uint32_t i = 0; i < CHASE_N; i++)
        order[i] = i;
    for (uint32_t i = CHASE_N - 1; i > 0; i--) {
        uint32_t j, t;

        x = x * 1664525u + 1013904223u;
        j = (x >> 8) % (i + 1);
        t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < CHASE_N; i++)
        cell[order[i]] = &cell[order[(i + 1) % CHASE_N]];
    chase_at = cell;
    free(order);
}

static void chase(uint64_t n)
{
    void **p = chase_at;

    while (n--)
        p = *p;
    suite_use((uint64_t)p);
}

const struct row rows_memory[] = {
    {"fresh", "first touch of a page never used", fresh, NULL, FRESH_PAGES},
    {"fault", "first touch of a page used before", fault, NULL, 0},
    {"copy", "memcpy+strlen+memcmp of 1 MiB", copy, copy_prepare, 0},
    {"chase", "dependent load in 2 MiB", chase, chase_prepare, 0},
    {NULL, NULL, NULL, NULL, 0},
};
