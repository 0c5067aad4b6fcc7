// SPDX-License-Identifier: Apache-2.0
/* Rows that stay in user code: what the CPU (or its stand-in) does. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline))

static void integer(uint64_t n)
{
    uint64_t x = 88172645463325252ULL;

    for (uint64_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x += i * 3;
    }
    suite_use(x);
}

#define SORT_N 65536
static uint32_t sort_src[SORT_N], sort_buf[SORT_N];

static void sort_prepare(void)
{
    uint32_t x = 12345;

    for (int i = 0; i < SORT_N; i++)
        sort_src[i] = x = x * 1664525u + 1013904223u;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x, y;

    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return (x > y) - (x < y);
}

static void sort(uint64_t n)
{
    while (n--) {
        memcpy(sort_buf, sort_src, sizeof sort_buf);
        qsort(sort_buf, SORT_N, sizeof sort_buf[0], by_value);
        suite_use(sort_buf[SORT_N / 2]);
    }
}

#define MAT 128
static double ma[MAT][MAT], mb[MAT][MAT], mc[MAT][MAT];

static void matrix_prepare(void)
{
    for (int i = 0; i < MAT; i++)
        for (int j = 0; j < MAT; j++) {
            ma[i][j] = i * 0.5 + j;
            mb[i][j] = i - j * 0.25;
        }
}

static void matrix(uint64_t n)
{
    while (n--) {
        memset(mc, 0, sizeof mc);
        for (int i = 0; i < MAT; i++)
            for (int k = 0; k < MAT; k++)
                for (int j = 0; j < MAT; j++)
                    mc[i][j] += ma[i][k] * mb[k][j];
        suite_use((uint64_t)mc[3][5]);
    }
}

static NOINLINE uint64_t fib(unsigned k)
{
    return k < 2 ? k : fib(k - 1) + fib(k - 2);
}

static void calls(uint64_t n)
{
    while (n--)
        suite_use(fib(20));
}

static NOINLINE uint64_t op_add(uint64_t x)
{
    return x + 7;
}
static NOINLINE uint64_t op_xor(uint64_t x)
{
    return x ^ 0x5555;
}
static NOINLINE uint64_t op_mul(uint64_t x)
{
    return x * 3;
}
static NOINLINE uint64_t op_rot(uint64_t x)
{
    return x << 5 | x >> 59;
}

static uint64_t (*volatile ops[4])(uint64_t) = {op_add, op_xor, op_mul, op_rot};

static void indirect(uint64_t n)
{
    uint64_t x = 1;

    for (uint64_t i = 0; i < n; i++)
        x = ops[(x >> 3) & 3](x);
    suite_use(x);
}

/* Code that is rewritten before each run: mov eax, imm32; ret. */
static uint8_t *smc_code;

static void smc_prepare(void)
{
    smc_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (smc_code == MAP_FAILED)
        suite_die("smc: mmap");
}

static void smc(uint64_t n)
{
    uint32_t (*fn)(void);

    memcpy(&fn, &(void *){smc_code}, sizeof fn);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t imm = (uint32_t)i;

        smc_code[0] = 0xb8;
        memcpy(smc_code + 1, &imm, 4);
        smc_code[5] = 0xc3;
        __asm__ volatile("" ::: "memory");
        if (fn() != imm)
            suite_die("smc: stale code ran");
    }
}

const struct row rows_cpu[] = {
    {"integer", "xorshift step", integer, NULL, 0},
    {"sort", "qsort of 64k words", sort, sort_prepare, 0},
    {"matrix", "128x128 double product", matrix, matrix_prepare, 0},
    {"calls", "fib(20)", calls, NULL, 0},
    {"indirect", "call through a pointer", indirect, NULL, 0},
    {"smc", "rewrite code and run it", smc, smc_prepare, 0},
    {NULL, NULL, NULL, NULL, 0},
};
