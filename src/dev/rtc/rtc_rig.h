// SPDX-License-Identifier: Apache-2.0
/* The real-time clock in a test VM. */
#ifndef DOPPEL_DEV_RTC_RIG_H
#define DOPPEL_DEV_RTC_RIG_H

#include "dev/rtc/rtc.h"
#include "vm/devtest.h"

static inline void *rig_create(struct devtest *t)
{
    const struct rtc_conf conf = {
        .irq = devtest_irq(t, 8),
        .ram_below_4g_bytes = UINT64_C(512) << 20,
        .ram_above_4g_bytes = UINT64_C(1) << 30,
    };
    struct rtc *rtc;

    return rtc_create(&t->vm, &conf, &rtc, NULL) < 0 ? NULL : rtc;
}

static inline void rig_destroy(void *dev)
{
    rtc_destroy(dev);
}

/* Pick one of the clock's own registers: random indexes hit RAM mostly. */
static inline void rig_poke(struct devtest *t, void *dev, uint32_t r)
{
    (void)dev;
    devtest_outb(t, 0x70, r & 15);
    if (r & 16)
        devtest_outb(t, 0x71, r >> 8 & 0xff);
    else
        devtest_note(t, devtest_inb(t, 0x71));
}

static const struct devtest_class rtc_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    .win = {{false, 0x70, 2}},
};

#endif
