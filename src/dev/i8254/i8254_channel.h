// SPDX-License-Identifier: Apache-2.0
/*
 * One counter of the 8254, as a function of time: nothing counts, a channel
 * remembers the tick at which its count was loaded, and counter and output
 * are computed for a given tick (of I8254_HZ, since power-on). Used by
 * i8254.c, which holds the device's lock.
 * Spec: Intel 82C54 data sheet (1994), "mode definitions".
 */
#ifndef DOPPEL_DEV_I8254_CHANNEL_H
#define DOPPEL_DEV_I8254_CHANNEL_H

#include "vm/state.h"

#include <stdbool.h>
#include <stdint.h>

#define I8254_NO_EDGE UINT64_MAX

enum i8254_access {
    ACCESS_LATCH,
    ACCESS_LSB,
    ACCESS_MSB,
    ACCESS_WORD
};

struct i8254_channel {
    uint8_t mode;   /* 0-5 */
    uint8_t access; /* enum i8254_access, never ACCESS_LATCH */
    bool bcd;
    bool gate;
    bool loaded;     /* a count was written since the control word */
    bool running;    /* modes 1, 5: triggered; others: loaded */
    bool write_msb;  /* ACCESS_WORD: the next byte written is the high one */
    bool read_msb;   /* ... read */
    uint8_t lsb;     /* of a count whose high byte is still to come */
    uint8_t latched; /* bytes of `latch` still to be read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
    uint16_t count;     /* the count register, as written */
    uint32_t period;    /* what counts now, in ticks */
    uint32_t next;      /* modes 2, 3: period after `switch_at`, 0 none */
    uint64_t switch_at; /* tick at which `next` takes over */
    uint64_t start;     /* tick at which `period` was loaded */
    uint64_t held_from; /* gate low in modes 0, 4: tick when it fell */
};

extern const struct state_desc i8254_channel_desc;

/** i8254_output() - the level of OUT at @now */
bool i8254_output(const struct i8254_channel *c, uint64_t now);

/** i8254_counter() - the counting element, as a guest reads it */
uint16_t i8254_counter(const struct i8254_channel *c, uint64_t now);

/** i8254_next_rise() - the next tick after @now at which OUT rises, or
 * I8254_NO_EDGE */
uint64_t i8254_next_rise(const struct i8254_channel *c, uint64_t now);

/** i8254_switch_period() - let a count that was written while counting take
 * over if its tick has come; to be called before the others */
void i8254_switch_period(struct i8254_channel *c, uint64_t now);

/** i8254_load_count() - c->count was written */
void i8254_load_count(struct i8254_channel *c, uint64_t now);

/** i8254_latch_count(), i8254_latch_status() - hold them for the next reads */
void i8254_latch_count(struct i8254_channel *c, uint64_t now);
void i8254_latch_status(struct i8254_channel *c, uint64_t now);

/** i8254_set_gate() - the GATE input */
void i8254_set_gate(struct i8254_channel *c, bool gate, uint64_t now);

#endif
