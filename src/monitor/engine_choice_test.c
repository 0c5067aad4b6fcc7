// SPDX-License-Identifier: Apache-2.0
/* The engine choice, for each kind of KVM a host can have. */
#include "monitor/engine_choice.h"

#include <errno.h>
#include <string.h>

#include "base/test.h"
#include "engine/engine.h"

TEST(auto_takes_the_fastest)
{
    const struct engine_ops *bt = engine_find("bt");
    struct engine_probe p = {.usable = false};
    struct engine_choice c;
    struct err e = {.text = ""};
    const char *soft;

    if (bt)
        bt->probe(&p);
    soft = p.usable ? "bt" : "interp";
    CHECK_EQ(engine_choose("auto", ABI_KVM_ABSENT, &c, &e), 0);
    CHECK(strcmp(c.name, soft) == 0);
    CHECK(c.why[0] && !c.slow_kvm);
    CHECK(p.usable || strstr(c.why, bt ? p.why : "not in this build"));
    CHECK_EQ(engine_choose("auto", ABI_KVM_EMULATING, &c, &e), 0);
    CHECK(strcmp(c.name, soft) == 0 && strstr(c.why, "interprets"));
    CHECK_EQ(engine_choose("auto", ABI_KVM_REAL, &c, &e), 0);
    CHECK((strcmp(c.name, "kvm") == 0) == (engine_find("kvm") != NULL));
}

TEST(by_name)
{
    struct engine_choice c;
    struct err e = {.text = ""};

    CHECK_EQ(engine_choose("interp", ABI_KVM_REAL, &c, &e), 0);
    CHECK(strcmp(c.name, "interp") == 0);
    CHECK_EQ(engine_choose("fast", ABI_KVM_REAL, &c, &e), -ENOTSUP);
    CHECK(strstr(e.text, "unknown") != NULL);
}

TEST(not_built)
{
    static const char *const names[] = {"bt", "kvm"};
    struct engine_choice c;
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        e.text[0] = 0;
        if (engine_find(names[i]))
            continue;
        CHECK_EQ(engine_choose(names[i], ABI_KVM_REAL, &c, &e), -ENOTSUP);
        CHECK(strstr(e.text, "not in this build") != NULL);
    }
}

TEST(kvm_where_it_is_built)
{
    struct engine_choice c;
    struct err e = {.text = ""};

    if (!engine_find("kvm"))
        SKIP("the kvm engine is not in this build");
    CHECK_EQ(engine_choose("kvm", ABI_KVM_ABSENT, &c, &e), -ENOTSUP);
    CHECK_EQ(engine_choose("kvm", ABI_KVM_EMULATING, &c, &e), 0);
    CHECK(c.slow_kvm);
}

TEST_MAIN(CASE(auto_takes_the_fastest), CASE(by_name), CASE(not_built),
          CASE(kvm_where_it_is_built))
