// SPDX-License-Identifier: Apache-2.0
/* The UART in a test VM: a character device that refuses at random. */
#ifndef DOPPEL_DEV_UART16550_RIG_H
#define DOPPEL_DEV_UART16550_RIG_H

#include "dev/uart16550/uart16550.h"
#include "vm/devtest.h"

#define RIG_PORT 0x3f8
#define RIG_IRQ  4

struct rig {
    struct chardev_client client;
    bool attached;
    size_t room; /* what the back end still takes; SIZE_MAX: all */
    uint8_t out[65536 * 2];
    size_t out_len;
    unsigned ready; /* calls of input_ready */
};

static inline size_t rig_write(void *be, const uint8_t *buf, size_t len)
{
    struct rig *g = be;

    if (len > g->room)
        len = g->room;
    if (g->room != SIZE_MAX)
        g->room -= len;
    for (size_t i = 0; i < len; i++)
        g->out[g->out_len++ % sizeof g->out] = buf[i];
    return len;
}

static inline void rig_input_ready(void *be)
{
    struct rig *g = be;

    g->ready++;
}

static inline void rig_attach(void *be, const struct chardev_client *client)
{
    struct rig *g = be;

    g->attached = client;
    if (client)
        g->client = *client;
}

static const struct chardev_ops rig_ops = {rig_write, rig_input_ready};

/* The rig hangs from t->extra and is freed with the device. */
struct rigged {
    struct uart16550 *uart;
    struct rig rig;
};

static inline void *rig_create(struct devtest *t)
{
    struct rigged *r = calloc(1, sizeof *r);
    struct uart16550_conf conf = {
        .port = RIG_PORT,
        .irq = devtest_irq(t, RIG_IRQ),
    };

    if (!r)
        return NULL;
    r->rig.room = SIZE_MAX;
    conf.chr = (struct chardev){&rig_ops, &r->rig, rig_attach};
    if (uart16550_create(&t->vm, &conf, &r->uart, NULL) < 0) {
        free(r);
        return NULL;
    }
    return r;
}

static inline void rig_destroy(void *dev)
{
    struct rigged *r = dev;

    if (r)
        uart16550_destroy(r->uart);
    free(r);
}

static inline void rig_poke(struct devtest *t, void *dev, uint32_t v)
{
    struct rigged *r = dev;
    uint8_t buf[24];

    switch (v & 3) {
    case 0:
        r->rig.room = v >> 2 & 1 ? SIZE_MAX : v >> 3 & 31;
        r->rig.client.writable(r->rig.client.dev);
        break;
    default:
        memset(buf, (int)(v >> 8 & 0xff), sizeof buf);
        devtest_note(t, r->rig.client.input(r->rig.client.dev, buf,
                                            (v >> 3) % sizeof buf));
        break;
    }
}

static inline void rig_copy(void *to, const void *from)
{
    ((struct rigged *)to)->rig.room = ((const struct rigged *)from)->rig.room;
}

static const struct devtest_class uart_class = {
    .create = rig_create,
    .destroy = rig_destroy,
    .poke = rig_poke,
    .copy = rig_copy,
    .win = {{false, RIG_PORT, 8}},
};

#endif
