// SPDX-License-Identifier: Apache-2.0
/* The 8259 pair in a test VM; INTR is line RIG_INTR of the recorder. */
#ifndef DOPPEL_DEV_I8259_RIG_H
#define DOPPEL_DEV_I8259_RIG_H

#include "dev/i8259/i8259.h"
#include "vm/devtest.h"

#define RIG_INTR 16

static inline void rig_intr(void *ctx, bool level)
{
    devtest_line(ctx, RIG_INTR, level);
}

static inline void *rig_create(struct devtest *t)
{
    const struct i8259_conf conf = {.intr = rig_intr, .ctx = t};
    struct i8259 *pic;

    return i8259_create(&t->vm, &conf, &pic, NULL) < 0 ? NULL : pic;
}

static inline void rig_destroy(void *dev)
{
    i8259_destroy(dev);
}

static inline void rig_poke(struct devtest *t, void *dev, uint32_t r)
{
    if (r & 1)
        i8259_set_line(dev, r >> 4 & 31, r & 2);
    else if (i8259_intr(dev) || (r & 6) == 0)
        devtest_note(t, i8259_intack(dev));
}

static inline bool rig_check(struct devtest *t, void *dev)
{
    return i8259_intr(dev) == t->level[RIG_INTR];
}

static const struct devtest_class i8259_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    .check = rig_check,
    .win = {{false, 0x20, 2}, {false, 0xa0, 2}, {false, 0x4d0, 2}},
};

#endif
