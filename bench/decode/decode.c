// SPDX-License-Identifier: Apache-2.0
/*
 * Nanoseconds per decoded instruction over raw x86-64 code: a file given (any
 * bytes, decoded from the first one on) or this program's own text. Prints
 * JSON lines. Question and last numbers: README.md.
 */
#include "cpu/x86/decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern const uint8_t __executable_start[], etext[];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One pass; bytes that are no instruction are stepped over singly. */
static uint64_t pass(const uint8_t *code, size_t n, uint64_t *bad)
{
    struct x86_insn insn;
    uint64_t count = 0;

    *bad = 0;
    for (size_t at = 0; at < n; count++) {
        if (x86_decode(code + at, n - at, X86_MODE_64, &insn) == X86_DEC_OK) {
            at += insn.len;
        } else {
            at++;
            ++*bad;
        }
    }
    return count;
}

static uint8_t *file_read(const char *path, size_t skip, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(*n);

    if (f == NULL || p == NULL || fseek(f, (long)skip, SEEK_SET) != 0) {
        perror(path);
        exit(1);
    }
    *n = fread(p, 1, *n, f);
    fclose(f);
    return p;
}

int main(int argc, char **argv)
{
    const uint8_t *code = __executable_start;
    size_t n = (size_t)(etext - __executable_start);
    uint64_t best = UINT64_MAX, bad = 0, count = 0, spent = 0;

    if (argc > 1) {
        size_t skip = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
        n = argc > 3 ? strtoull(argv[3], NULL, 0) : 32u << 20;
        code = file_read(argv[1], skip, &n);
    }
    for (unsigned i = 0; i < 5 || spent < 1000000000u; i++) {
        uint64_t t = now_ns();
        count = pass(code, n, &bad);
        t = now_ns() - t;
        spent += t;
        if (t < best)
            best = t;
    }
    printf("{\"name\":\"decode\",\"value\":%.2f,\"unit\":\"ns/"
           "insn\",\"n\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"bytes\":%zu}\n",
           (double)best / (double)count, count, bad, n);
    return 0;
}
