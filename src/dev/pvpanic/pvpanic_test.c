// SPDX-License-Identifier: Apache-2.0
/* The panic port. */
#include "dev/pvpanic/pvpanic.h"

#include "base/test.h"
#include "vm/devtest.h"

static void *rig_create(struct devtest *t)
{
    const struct pvpanic_conf conf = {.port = 0};
    struct pvpanic *p;

    return pvpanic_create(&t->vm, &conf, &p, NULL) < 0 ? NULL : p;
}

static void rig_destroy(void *dev)
{
    pvpanic_destroy(dev);
}

static const struct devtest_class pvpanic_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .win = {{false, PVPANIC_PORT, 1}},
};

TEST(panics)
{
    struct devtest t;
    void *p;

    devtest_init(&t);
    p = rig_create(&t);
    CHECK(p != NULL);
    CHECK_EQ(devtest_inb(&t, 0x505), 3);
    devtest_outb(&t, 0x505, 0x80);
    CHECK_EQ(t.requests, 0);
    devtest_outb(&t, 0x505, 0x01);
    CHECK_EQ(t.requests, 1);
    CHECK_EQ(t.request, VM_REQ_PANIC);
    CHECK_EQ(t.request_code, 1);
    devtest_outb(&t, 0x505, 0xfe);
    CHECK_EQ(t.request_code, 2);
    pvpanic_reset(p);
    pvpanic_destroy(p);
    pvpanic_destroy(NULL);
    devtest_fini(&t);
}

TEST(random)
{
    CHECK(devtest_loop(&pvpanic_class, 1, 10, 1000));
}

TEST_MAIN(CASE(panics), CASE(random))
