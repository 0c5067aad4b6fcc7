// SPDX-License-Identifier: Apache-2.0
/* The 8254 in a test VM. */
#ifndef DOPPEL_DEV_I8254_RIG_H
#define DOPPEL_DEV_I8254_RIG_H

#include "dev/i8254/i8254.h"
#include "vm/devtest.h"

static inline void *rig_create(struct devtest *t)
{
    const struct i8254_conf conf = {.irq = devtest_irq(t, 0)};
    struct i8254 *pit;

    return i8254_create(&t->vm, &conf, &pit, NULL) < 0 ? NULL : pit;
}

static inline void rig_destroy(void *dev)
{
    i8254_destroy(dev);
}

static const struct devtest_class i8254_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .win = {{false, 0x40, 4}, {false, 0x61, 1}},
};

#endif
