// SPDX-License-Identifier: Apache-2.0
/*
 * The unit tests' harness. A test file lists its cases and ends in TEST_MAIN:
 *
 *     TEST(adds) { CHECK_EQ(1 + 1, 2); }
 *     TEST_MAIN(CASE(adds))
 *
 * Each case prints `ok NAME` or `FAIL NAME`, skipped ones `skip NAME: why`;
 * the last line is `N passed, N failed, N skipped`, the exit status 0 or 1.
 */
#ifndef DOPPEL_BASE_TEST_H
#define DOPPEL_BASE_TEST_H

#include "base/cc.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*fn)(void);
};

extern int test_failures;     /* in the running case */
extern const char *test_skip; /* why the running case was skipped */

/** test_main() - run all cases, or those whose name contains argv[1] */
int test_main(int argc, char **argv, const struct test_case *cases, size_t n);

#define TEST(name) static void test_##name(void)
#define CASE(name)                                                             \
    {                                                                          \
#        name, test_##name                                                     \
    }

#define TEST_MAIN(...)                                                         \
    int main(int argc, char **argv)                                            \
    {                                                                          \
        static const struct test_case cases[] = {__VA_ARGS__};                 \
        return test_main(argc, argv, cases, ARRAY_LEN(cases));                 \
    }

#define CHECK(x)                                                               \
    do {                                                                       \
        if (!(x)) {                                                            \
            printf("%s:%d: %s does not hold\n", __FILE__, __LINE__, #x);       \
            test_failures++;                                                   \
        }                                                                      \
    } while (0)

#define CHECK_EQ(a, b)                                                         \
    do {                                                                       \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                       \
        if (a_ != b_) {                                                        \
            printf("%s:%d: %s is 0x%" PRIx64 ", not 0x%" PRIx64 "\n",          \
                   __FILE__, __LINE__, #a, a_, b_);                            \
            test_failures++;                                                   \
        }                                                                      \
    } while (0)

#define SKIP(why)                                                              \
    do {                                                                       \
        test_skip = (why);                                                     \
        return;                                                                \
    } while (0)

#endif
