// SPDX-License-Identifier: Apache-2.0
/*
 * The 8254's modes; see i8254_channel.h. While the gate is low, all modes but
 * 1 and 5 stand still at `held_from`; modes 0 and 4 go on from there, modes 2
 * and 3 start anew.
 */
#include "dev/i8254/i8254_channel.h"

static uint32_t count_range(const struct i8254_channel *c)
{
    return c->bcd ? 10000 : 0x10000;
}

/* A count register's value as a number of ticks; 0 is the largest. */
static uint32_t count_ticks(const struct i8254_channel *c)
{
    uint32_t n = c->count;

    if (c->bcd)
        n = (n >> 12 & 15) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 +
            (n & 15);
    n %= count_range(c);
    return n ? n : count_range(c);
}

static uint16_t to_register(const struct i8254_channel *c, uint32_t n)
{
    n %= count_range(c);
    if (c->bcd)
        n = n / 1000 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
    return (uint16_t)n;
}

static bool is_periodic(const struct i8254_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Ticks since the count was loaded; 0 while the loading tick is to come. */
static uint64_t elapsed(const struct i8254_channel *c, uint64_t now)
{
    if (!c->gate && c->mode != 1 && c->mode != 5)
        now = c->held_from;
    return now > c->start ? now - c->start : 0;
}

/* Modes 2, 3: a count written while counting takes over at the end of the
 * period (the chip's mode 3: of the half period). */
void i8254_switch_period(struct i8254_channel *c, uint64_t now)
{
    if (!c->next || now < c->switch_at)
        return;
    c->start = c->switch_at;
    c->period = c->next;
    c->next = 0;
}

bool i8254_output(const struct i8254_channel *c, uint64_t now)
{
    uint64_t t = elapsed(c, now);

    if (!c->running)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return t >= c->period;
    case 2:
        return !c->gate || t % c->period != c->period - 1 || c->period == 1;
    case 3:
        return !c->gate || t % c->period < (c->period + 1) / 2;
    default: /* 4, 5: low for the one tick at the end */
        return t != c->period;
    }
}

/* The counting element, as a guest reads it. */
uint16_t i8254_counter(const struct i8254_channel *c, uint64_t now)
{
    uint64_t t = elapsed(c, now);
    uint32_t half = (c->period + 1) / 2;

    if (!c->running)
        return c->count;
    if (is_periodic(c))
        t %= c->period;
    if (c->mode == 3) { /* counts down by two, twice per period */
        if (t >= half)
            t -= half;
        return to_register(c, (c->period & ~1U) - 2 * (uint32_t)t);
    }
    /* One-shots go on below 0, modulo the range. */
    t %= count_range(c);
    return to_register(c, count_range(c) + c->period - (uint32_t)t);
}

/* The next tick after @now at which the output rises. */
uint64_t i8254_next_rise(const struct i8254_channel *c, uint64_t now)
{
    uint64_t t = elapsed(c, now), start = c->start, period = c->period;

    if (!c->running || (!c->gate && c->mode != 1 && c->mode != 5))
        return I8254_NO_EDGE;
    switch (c->mode) {
    case 0:
    case 1:
        return t < period ? start + period : I8254_NO_EDGE;
    case 2:
    case 3: /* each period's end, also that at which `next` takes over */
        if (c->next && now >= c->switch_at) {
            start = c->switch_at;
            period = c->next;
        }
        return now < start ? start + period
                           : start + ((now - start) / period + 1) * period;
    default:
        return t < period + 1 ? start + period + 1 : I8254_NO_EDGE;
    }
}

void i8254_load_count(struct i8254_channel *c, uint64_t now)
{
    uint32_t ticks = count_ticks(c);

    if (is_periodic(c) && c->running && c->gate) {
        uint64_t periods = elapsed(c, now) / c->period + (now >= c->start);

        c->next = ticks;
        c->switch_at = c->start + periods * c->period;
    } else if (c->mode != 1 && c->mode != 5) {
        c->period = ticks;
        c->next = 0;
        c->start = now + 1; /* loaded at the next tick */
        c->held_from = now + 1;
        c->running = true;
    }
    c->loaded = true;
}

void i8254_latch_count(struct i8254_channel *c, uint64_t now)
{
    if (c->latched) /* a second latch before the read is ignored */
        return;
    c->latch = i8254_counter(c, now);
    c->latched = c->access == ACCESS_WORD ? 2 : 1;
    if (c->access == ACCESS_WORD && c->read_msb)
        c->latched = 1;
}

/* Status: 7 output | 6 null count | 5..4 access | 3..1 mode | 0 BCD */
void i8254_latch_status(struct i8254_channel *c, uint64_t now)
{
    bool null_count = !c->loaded || (c->running && now < c->start) || c->next;

    if (c->status_latched)
        return;
    c->status =
        (uint8_t)((i8254_output(c, now) ? 0x80 : 0) | (null_count ? 0x40 : 0) |
                  c->access << 4 | c->mode << 1 | (c->bcd ? 1 : 0));
    c->status_latched = true;
}

/* The gate input; only channel 2's can be moved on a PC (port 61h). */
void i8254_set_gate(struct i8254_channel *c, bool gate, uint64_t now)
{
    if (gate == c->gate)
        return;
    if (!gate) {
        c->held_from = now > c->start ? now : c->start;
    } else if (c->mode == 0 || c->mode == 4) { /* level: go on */
        if (c->running && now > c->held_from)
            c->start += now - c->held_from;
    } else if (c->loaded) { /* edge: (re)load and start */
        c->period = count_ticks(c);
        c->next = 0;
        c->start = now + 1;
        c->running = true;
    }
    c->gate = gate;
}

static const struct state_field channel_fields[] = {
    SF_U8(i8254_channel, mode),        SF_U8(i8254_channel, access),
    SF_BOOL(i8254_channel, bcd),       SF_BOOL(i8254_channel, gate),
    SF_BOOL(i8254_channel, loaded),    SF_BOOL(i8254_channel, running),
    SF_BOOL(i8254_channel, write_msb), SF_BOOL(i8254_channel, read_msb),
    SF_U8(i8254_channel, lsb),         SF_U8(i8254_channel, latched),
    SF_U16(i8254_channel, latch),      SF_BOOL(i8254_channel, status_latched),
    SF_U8(i8254_channel, status),      SF_U16(i8254_channel, count),
    SF_U32(i8254_channel, period),     SF_U32(i8254_channel, next),
    SF_U64(i8254_channel, switch_at),  SF_U64(i8254_channel, start),
    SF_U64(i8254_channel, held_from),  SF_END,
};

const struct state_desc i8254_channel_desc = {
    .name = "i8254-channel",
    .version = 1,
    .min_version = 1,
    .fields = channel_fields,
};
