// SPDX-License-Identifier: Apache-2.0
/* Sizes, numbers and seconds as users write them. */
#include "cli/size.h"

#include <errno.h>

#include "base/bits.h"
#include "base/test.h"

static uint64_t size_of(const char *text)
{
    struct err e = {.text = ""};
    uint64_t v = 0;

    return size_parse(text, &v, &e) == 0 ? v : 0;
}

TEST(sizes)
{
    CHECK_EQ(size_of("512"), 512 * MIB);
    CHECK_EQ(size_of("512M"), 512 * MIB);
    CHECK_EQ(size_of("512m"), 512 * MIB);
    CHECK_EQ(size_of("2g"), 2 * GIB);
    CHECK_EQ(size_of("2G"), 2 * GIB);
    CHECK_EQ(size_of("1T"), 1024 * GIB);
    CHECK_EQ(size_of("1536K"), 1536 * KIB);
    CHECK_EQ(size_of("1k"), KIB);
}

TEST(size_garbage)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "0M",
                                      "-1",
                                      "-512M",
                                      "M",
                                      "512MB",
                                      "512 M",
                                      " 512",
                                      "+512",
                                      "0x20",
                                      "5.5",
                                      "1e3",
                                      "12X",
                                      "512m ",
                                      "9999999999999T",
                                      "18446744073709551616",
                                      "8388608T"};
    struct err e;
    uint64_t v = 77;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        e.text[0] = 0;
        CHECK_EQ(size_parse(bad[i], &v, &e), -EINVAL);
        CHECK(e.text[0]);
        CHECK_EQ(v, 77);
    }
}

TEST(numbers)
{
    struct err e = {.text = ""};
    uint64_t v = 0;

    CHECK_EQ(number_parse("x", "64", 1, 64, &v, &e), 0);
    CHECK_EQ(v, 64);
    CHECK_EQ(number_parse("x", "0xF4", 0, 0xffff, &v, &e), 0);
    CHECK_EQ(v, 0xf4);
    CHECK_EQ(number_parse("x", "18446744073709551615", 0, UINT64_MAX, &v, &e),
             0);
    CHECK_EQ(v, UINT64_MAX);
    CHECK_EQ(number_parse("x", "18446744073709551616", 0, UINT64_MAX, &v, &e),
             -EINVAL);
    CHECK_EQ(number_parse("x", "65", 1, 64, &v, &e), -EINVAL);
    CHECK_EQ(number_parse("x", "0", 1, 64, &v, &e), -EINVAL);
    CHECK_EQ(number_parse("x", "-1", 0, 64, &v, &e), -EINVAL);
    CHECK_EQ(number_parse("x", "2x", 0, 64, &v, &e), -EINVAL);
    CHECK_EQ(number_parse("x", "0x", 0, 64, &v, &e), -EINVAL);
    CHECK_EQ(number_parse("x", "", 0, 64, &v, &e), -EINVAL);
}

TEST(seconds)
{
    struct err e = {.text = ""};
    uint64_t ms = 0;

    CHECK_EQ(seconds_parse("t", "60", &ms, &e), 0);
    CHECK_EQ(ms, 60000);
    CHECK_EQ(seconds_parse("t", "0.5", &ms, &e), 0);
    CHECK_EQ(ms, 500);
    CHECK_EQ(seconds_parse("t", "1.2345", &ms, &e), 0);
    CHECK_EQ(ms, 1234);
    CHECK_EQ(seconds_parse("t", "0", &ms, &e), -EINVAL);
    CHECK_EQ(seconds_parse("t", "0.0001", &ms, &e), -EINVAL);
    CHECK_EQ(seconds_parse("t", "-1", &ms, &e), -EINVAL);
    CHECK_EQ(seconds_parse("t", "1s", &ms, &e), -EINVAL);
    CHECK_EQ(seconds_parse("t", "99999999999", &ms, &e), -EINVAL);
}

TEST_MAIN(CASE(sizes), CASE(size_garbage), CASE(numbers), CASE(seconds))
