// SPDX-License-Identifier: Apache-2.0
/* The debug exit port. */
#include "dev/debug-exit/debug_exit.h"

#include "base/test.h"
#include "vm/devtest.h"

static void *rig_create(struct devtest *t)
{
    const struct debug_exit_conf conf = {.port = 0xf4};
    struct debug_exit *d;

    return debug_exit_create(&t->vm, &conf, &d, NULL) < 0 ? NULL : d;
}

static void rig_destroy(void *dev)
{
    debug_exit_destroy(dev);
}

static const struct devtest_class debug_exit_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .win = {{false, 0xf4, 4}},
};

TEST(exits)
{
    struct devtest t;
    void *d;

    devtest_init(&t);
    d = rig_create(&t);
    CHECK(d != NULL);
    bus_write(t.vm.pio, 0xf4, 0x12, 1);
    CHECK_EQ(t.request, VM_REQ_DEBUG_EXIT);
    CHECK_EQ(t.request_code, 0x12);
    bus_write(t.vm.pio, 0xf4, 0x1234, 2);
    CHECK_EQ(t.request_code, 0x1234);
    bus_write(t.vm.pio, 0xf4, 0x12345678, 4);
    CHECK_EQ(t.request_code, 0x12345678);
    CHECK_EQ(t.requests, 3);
    CHECK_EQ(devtest_inb(&t, 0xf4), 0);
    debug_exit_reset(d);
    debug_exit_destroy(d);
    bus_write(t.vm.pio, 0xf4, 1, 1);
    CHECK_EQ(t.requests, 3);
    devtest_fini(&t);
}

TEST(random)
{
    CHECK(devtest_loop(&debug_exit_class, 1, 10, 1000));
}

TEST_MAIN(CASE(exits), CASE(random))
