// SPDX-License-Identifier: Apache-2.0
/* The unit tests' harness; see test.h. Linked into test programs only. */
#include "base/test.h"

int test_failures;
const char *test_skip;

int test_main(int argc, char **argv, const struct test_case *cases, size_t n)
{
    unsigned passed = 0, failed = 0, skipped = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && !strstr(cases[i].name, argv[1]))
            continue;
        test_failures = 0;
        test_skip = NULL;
        cases[i].fn();
        if (test_failures) {
            printf("FAIL %s\n", cases[i].name);
            failed++;
        } else if (test_skip) {
            printf("skip %s: %s\n", cases[i].name, test_skip);
            skipped++;
        } else {
            printf("ok %s\n", cases[i].name);
            passed++;
        }
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed != 0;
}
