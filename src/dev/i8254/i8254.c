// SPDX-License-Identifier: Apache-2.0
/*
 * The 8254 interval timer; see i8254.h.
 *
 * Nothing counts: counters and outputs are computed when somebody looks
 * (i8254_channel.h), in ticks of 1193182 Hz since power-on. Channel 0's output
 * drives IRQ 0: `edge` is the tick of its next rising edge, armed as a timer.
 * Edges that passed unseen are merged into one, as on a PC whose interrupt is
 * served late.
 */
#include "dev/i8254/i8254.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "dev/i8254/i8254_channel.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define PORT_COUNTERS 0x40
#define PORT_CONTROL  3 /* offset of the control word register */
#define PORT_B        0x61

/* Port 61h */
#define PB_GATE2    0x01
#define PB_SPEAKER  0x02
#define PB_WRITABLE 0x0f
#define PB_REFRESH  0x10 /* toggles every 15.085 us */
#define PB_OUT2     0x20
#define REFRESH_NS  15085U

/* A periodic mode may not interrupt more often than this: edges merge. */
#define MIN_PERIOD_NS (50 * NS_PER_US)
#define TICK_MAX      (UINT64_MAX / 4) /* in saved state; sums don't wrap */

struct i8254 {
    struct vm *vm;
    struct irq_line irq;
    pthread_mutex_t lock;
    struct bus_region region;
    struct bus_region port_b_region;
    struct timer timer;
    struct log_limit misuse;

    struct i8254_channel ch[3];
    uint8_t port_b; /* the writable bits */
    uint64_t edge;  /* tick of channel 0's next rising edge */
};

/* ---- ticks ---- */

static uint64_t now_ticks(struct i8254 *pit)
{
    return (uint64_t)((unsigned __int128)clock_now_ns(pit->vm->clock) *
                      I8254_HZ / NS_PER_S);
}

/* The first ns at which now_ticks() is @tick. */
static uint64_t tick_ns(uint64_t tick)
{
    return (uint64_t)(((unsigned __int128)tick * NS_PER_S + I8254_HZ - 1) /
                      I8254_HZ);
}

/* ---- channel 0's interrupt ---- */

static void arm_edge(struct i8254 *pit, uint64_t now)
{
    pit->edge = i8254_next_rise(&pit->ch[0], now);
    if (pit->edge == I8254_NO_EDGE)
        timer_disarm(pit->vm->clock, &pit->timer);
    else
        timer_arm(pit->vm->clock, &pit->timer, tick_ns(pit->edge));
}

/* Deliver an edge that has passed; the line then stays high, as OUT does in
 * all modes but for one tick or the mode 3 half that no controller sees. */
static void run_edges(struct i8254 *pit, uint64_t now)
{
    uint64_t gap = (uint64_t)MIN_PERIOD_NS * I8254_HZ / NS_PER_S;

    if (pit->edge == I8254_NO_EDGE || now < pit->edge)
        return;
    irq_line_set(&pit->irq, false);
    irq_line_set(&pit->irq, true);
    i8254_switch_period(&pit->ch[0], now);
    arm_edge(pit, pit->ch[0].period < gap ? now + gap : now);
}

static void timer_expired(void *ctx)
{
    struct i8254 *pit = ctx;

    pthread_mutex_lock(&pit->lock);
    run_edges(pit, now_ticks(pit));
    pthread_mutex_unlock(&pit->lock);
}

/* What every access begins with. */
static uint64_t sync_ticks(struct i8254 *pit)
{
    uint64_t now = now_ticks(pit);

    run_edges(pit, now);
    for (unsigned i = 0; i < 3; i++)
        i8254_switch_period(&pit->ch[i], now);
    return now;
}

/* Channel 0 was programmed: follow its output and find the next edge. */
static void channel_changed(struct i8254 *pit, struct i8254_channel *c,
                            uint64_t now)
{
    if (c != &pit->ch[0])
        return;
    irq_line_set(&pit->irq, i8254_output(c, now));
    arm_edge(pit, now);
}

/* ---- programming ---- */

static void write_count(struct i8254 *pit, struct i8254_channel *c, uint8_t val)
{
    uint64_t now = sync_ticks(pit);

    switch (c->access) {
    case ACCESS_LSB:
        c->count = val;
        break;
    case ACCESS_MSB:
        c->count = (uint16_t)(val << 8);
        break;
    default:
        c->write_msb = !c->write_msb;
        if (c->write_msb) {
            c->lsb = val;
            if (c->mode == 0) { /* the first byte stops mode 0, output low */
                c->running = false;
                channel_changed(pit, c, now);
            }
            return;
        }
        c->count = (uint16_t)(val << 8 | c->lsb);
        break;
    }
    i8254_load_count(c, now);
    channel_changed(pit, c, now);
}

/* Read-back: 5 = no count latch, 4 = no status latch, 3..1 channels */
static void read_back(struct i8254 *pit, uint8_t val, uint64_t now)
{
    for (unsigned i = 0; i < 3; i++) {
        if (!(val & BIT(1 + i)))
            continue;
        if (!(val & 0x20))
            i8254_latch_count(&pit->ch[i], now);
        if (!(val & 0x10))
            i8254_latch_status(&pit->ch[i], now);
    }
}

/* Control word: 7..6 channel (3 read-back) | 5..4 access | 3..1 mode | 0 BCD */
static void write_control(struct i8254 *pit, uint8_t val)
{
    uint64_t now = sync_ticks(pit);
    unsigned mode = val >> 1 & 7;
    struct i8254_channel *c;

    if (val >> 6 == 3) {
        read_back(pit, val, now);
        return;
    }
    c = &pit->ch[val >> 6];
    if ((val >> 4 & 3) == ACCESS_LATCH) {
        i8254_latch_count(c, now);
        return;
    }
    *c = (struct i8254_channel){
        .mode = (uint8_t)(mode > 5 ? mode - 4 : mode),
        .access = val >> 4 & 3,
        .bcd = val & 1,
        .gate = c->gate,
        .count = c->count,
    };
    channel_changed(pit, c, now);
}

static uint8_t read_count(struct i8254 *pit, struct i8254_channel *c)
{
    uint64_t now = sync_ticks(pit);
    uint16_t val;
    bool msb;

    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    val = c->latched ? c->latch : i8254_counter(c, now);
    msb = c->access == ACCESS_MSB;
    if (c->access == ACCESS_WORD) {
        msb = c->read_msb;
        c->read_msb = !c->read_msb;
    }
    if (c->latched)
        c->latched--;
    return (uint8_t)(msb ? val >> 8 : val);
}

/* ---- ports ---- */

static uint8_t read_reg(void *dev, uint64_t off)
{
    struct i8254 *pit = dev;

    if (off == PORT_CONTROL)
        return 0xff; /* write only */
    return read_count(pit, &pit->ch[off]);
}

static void write_reg(void *dev, uint64_t off, uint8_t val)
{
    struct i8254 *pit = dev;

    if (off == PORT_CONTROL)
        write_control(pit, val);
    else if (pit->ch[off].access == ACCESS_LATCH)
        log_guest(&pit->misuse, "i8254", "count for idle channel %u",
                  (unsigned)off);
    else
        write_count(pit, &pit->ch[off], val);
}

static uint64_t pit_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(read_reg, dev, off, size);
}

static void pit_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    bus8_write(write_reg, dev, off, val, size);
}

static uint64_t port_b_read(void *dev, uint64_t off, unsigned size)
{
    struct i8254 *pit = dev;
    uint64_t now = sync_ticks(pit);

    (void)off, (void)size;
    return pit->port_b |
           (clock_now_ns(pit->vm->clock) / REFRESH_NS & 1 ? PB_REFRESH : 0U) |
           (i8254_output(&pit->ch[2], now) ? PB_OUT2 : 0U);
}

static void port_b_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    struct i8254 *pit = dev;
    uint64_t now = sync_ticks(pit);

    (void)off, (void)size;
    pit->port_b = val & PB_WRITABLE;
    i8254_set_gate(&pit->ch[2], val & PB_GATE2, now);
}

static const struct bus_ops pit_ops = {.read = pit_read, .write = pit_write};
static const struct bus_ops port_b_ops = {
    .read = port_b_read,
    .write = port_b_write,
};

/* ---- state and life ---- */

static int i8254_post_load(void *obj, uint32_t version, struct err *e)
{
    struct i8254 *pit = obj;

    (void)version;
    for (unsigned i = 0; i < 3; i++) {
        const struct i8254_channel *c = &pit->ch[i];

        if (c->mode > 5 || c->access > ACCESS_WORD || c->latched > 2 ||
            c->period > 0x10000 || c->next > 0x10000 ||
            (c->running && !c->period) || (c->next && !c->running) ||
            c->start > TICK_MAX || c->switch_at > TICK_MAX ||
            c->held_from > TICK_MAX)
            return err_set(e, -EINVAL, "i8254: channel %u: impossible state",
                           i);
    }
    if (pit->edge != I8254_NO_EDGE && pit->edge > TICK_MAX)
        return err_set(e, -EINVAL, "i8254: edge out of range");
    if (pit->port_b & ~PB_WRITABLE)
        return err_set(e, -EINVAL, "i8254: port 0x61 is 0x%x", pit->port_b);
    if (pit->edge == I8254_NO_EDGE)
        timer_disarm(pit->vm->clock, &pit->timer);
    else
        timer_arm(pit->vm->clock, &pit->timer, tick_ns(pit->edge));
    return 0;
}

static const struct state_field i8254_fields[] = {
    SF_STRUCT(i8254, ch, 3, i8254_channel_desc),
    SF_U8(i8254, port_b),
    SF_U64(i8254, edge),
    SF_END,
};

static const struct state_desc i8254_desc = {
    .name = "i8254",
    .version = 1,
    .min_version = 1,
    .fields = i8254_fields,
    .post_load = i8254_post_load,
};

static int i8254_register(struct i8254 *pit, struct err *e)
{
    int ret;

    pit->region = (struct bus_region){
        .start = PORT_COUNTERS,
        .len = 4,
        .ops = &pit_ops,
        .dev = pit,
        .lock = &pit->lock,
        .name = "i8254",
    };
    pit->port_b_region = (struct bus_region){
        .start = PORT_B,
        .len = 1,
        .ops = &port_b_ops,
        .dev = pit,
        .lock = &pit->lock,
        .name = "port b",
    };
    ret = bus_add(pit->vm->pio, &pit->region, e);
    if (ret < 0)
        return ret;
    ret = bus_add(pit->vm->pio, &pit->port_b_region, e);
    if (ret < 0)
        return ret;
    ret = state_list_add(pit->vm->state, &i8254_desc, 0, pit);
    return ret < 0 ? err_set(e, ret, "i8254: out of memory") : 0;
}

int i8254_create(struct vm *vm, const struct i8254_conf *conf,
                 struct i8254 **out, struct err *e)
{
    struct i8254 *pit = calloc(1, sizeof *pit);
    int ret;

    if (!pit)
        return err_set(e, -ENOMEM, "i8254: out of memory");
    pit->vm = vm;
    pit->irq = conf->irq;
    pthread_mutex_init(&pit->lock, NULL);
    timer_init(&pit->timer, timer_expired, pit);
    i8254_reset(pit);
    ret = i8254_register(pit, e);
    if (ret < 0) {
        i8254_destroy(pit);
        return ret;
    }
    *out = pit;
    return 0;
}

void i8254_destroy(struct i8254 *pit)
{
    if (!pit)
        return;
    timer_disarm(pit->vm->clock, &pit->timer);
    bus_remove(pit->vm->pio, &pit->region);
    bus_remove(pit->vm->pio, &pit->port_b_region);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}

void i8254_reset(struct i8254 *pit)
{
    pthread_mutex_lock(&pit->lock);
    for (unsigned i = 0; i < 3; i++)
        pit->ch[i] =
            (struct i8254_channel){.gate = i != 2}; /* 2: by port 61h */
    pit->port_b = 0;
    pit->edge = I8254_NO_EDGE;
    timer_disarm(pit->vm->clock, &pit->timer);
    irq_line_set(&pit->irq, false);
    pthread_mutex_unlock(&pit->lock);
}
