// SPDX-License-Identifier: Apache-2.0
/*
 * The 8259A pair; see i8259.h. chip[0] is the master, chip[1] the slave on the
 * master's input 2. `in` holds the levels of the inputs, `irr` the requests:
 * for an edge input set by the edge and cleared by acknowledge or by the line
 * falling (8259A: the line must stay high until the first INTA), for a level
 * input the level itself.
 */
#include "dev/i8259/i8259.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define MASTER      0
#define SLAVE       1
#define CASCADE_PIN 2
#define SPURIOUS    7

#define ICW1_INIT   0x10
#define ICW1_LTIM   0x08 /* all inputs level-triggered */
#define ICW1_SNGL   0x02 /* no ICW3 */
#define ICW1_IC4    0x01 /* ICW4 follows */
#define ICW4_SFNM   0x10
#define ICW4_AEOI   0x02
#define OCW_SELECT  0x18 /* bits 4..3: 00 OCW2, 01 OCW3, 1x ICW1 */
#define OCW_OCW3    0x08
#define OCW3_ESMM   0x40
#define OCW3_SMM    0x20
#define OCW3_POLL   0x04
#define OCW3_RR     0x02
#define OCW3_RIS    0x01

/* PIIX3: IRQ 0, 1, 2, 8 and 13 are always edges. */
#define ELCR_MASTER 0xf8
#define ELCR_SLAVE  0xde

struct chip {
    uint8_t in;
    uint8_t irr;
    uint8_t isr;
    uint8_t imr;
    uint8_t elcr;
    uint8_t vector_base;
    uint8_t lowest;   /* input of lowest priority: 7 normally */
    uint8_t next_icw; /* 0: initialised (or never), 2-4: waits for that ICW */
    uint8_t icw1;
    bool aeoi;
    bool rotate_aeoi;
    bool sfnm; /* special fully nested mode */
    bool special_mask;
    bool poll; /* the next read is a poll */
    bool read_isr;
};

struct i8259 {
    struct vm *vm;
    struct i8259_conf conf;
    pthread_mutex_t lock; /* irq class */
    struct bus_region region[2];
    struct bus_region elcr_region;
    struct log_limit misuse;

    bool intr;
    struct chip chip[2];
};

/* Bits of the inputs that are level-triggered. */
static uint8_t level_inputs(const struct chip *c)
{
    return c->icw1 & ICW1_LTIM ? 0xff : c->elcr;
}

/* The input of highest priority in @bits (not 0), as its distance from the
 * top: 0 is the highest. */
static unsigned rank_of(const struct chip *c, uint8_t bits)
{
    unsigned rank = 0;

    while (!(bits & BIT((c->lowest + 1U + rank) & 7)))
        rank++;
    return rank;
}

static unsigned pin_of_rank(const struct chip *c, unsigned rank)
{
    return (c->lowest + 1U + rank) & 7;
}

/* The request that the chip passes on now, or -1. */
static int chip_request(const struct chip *c, bool is_master)
{
    uint8_t requests = c->irr & (uint8_t)~c->imr;
    uint8_t service = c->isr;
    unsigned rank;

    if (!requests)
        return -1;
    /* Special mask mode: inputs in service that are masked block nothing. */
    if (c->special_mask)
        service &= (uint8_t)~c->imr;
    /* Special fully nested: the slave may interrupt its own service. */
    if (c->sfnm && is_master)
        service &= (uint8_t)~BIT(CASCADE_PIN);
    rank = rank_of(c, requests);
    if (service && rank_of(c, service) <= rank)
        return -1;
    return (int)pin_of_rank(c, rank);
}

static void chip_set_line(struct chip *c, unsigned pin, bool level)
{
    uint8_t bit = (uint8_t)BIT(pin);

    if (level) {
        if ((level_inputs(c) & bit) || !(c->in & bit))
            c->irr |= bit;
        c->in |= bit;
    } else {
        c->irr &= (uint8_t)~bit;
        c->in &= (uint8_t)~bit;
    }
}

/* Pass the slave's output to the master and the master's to the CPU. */
static void update(struct i8259 *pic)
{
    bool slave = chip_request(&pic->chip[SLAVE], false) >= 0;
    bool intr;

    chip_set_line(&pic->chip[MASTER], CASCADE_PIN, slave);
    intr = chip_request(&pic->chip[MASTER], true) >= 0;
    if (intr == pic->intr)
        return;
    pic->intr = intr;
    if (pic->conf.intr)
        pic->conf.intr(pic->conf.ctx, intr);
}

/* First INTA or a poll: the request becomes in service. */
static void chip_ack(struct chip *c, unsigned pin)
{
    uint8_t bit = (uint8_t)BIT(pin);

    if (!(level_inputs(c) & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->aeoi)
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)pin;
}

static void chip_icw1(struct chip *c, uint8_t val)
{
    uint8_t in = c->in, elcr = c->elcr;

    *c = (struct chip){.in = in, .elcr = elcr, .lowest = 7, .next_icw = 2};
    c->icw1 = val;
    /* Edge inputs must fall and rise again (8259A, "initialization"). */
    c->irr = in & level_inputs(c);
}

/* OCW2: bits 7..5 rotate, specific, EOI; 2..0 the level */
static void chip_ocw2(struct chip *c, uint8_t val)
{
    unsigned pin = val & 7;
    uint8_t service = c->isr;

    if (c->special_mask)
        service &= (uint8_t)~c->imr;
    switch (val >> 5) {
    case 0: /* rotate in AEOI mode: clear */
    case 4: /* set */
        c->rotate_aeoi = val >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* ... with rotation */
        if (!service)
            break;
        pin = pin_of_rank(c, rank_of(c, service));
        c->isr &= (uint8_t)~BIT(pin);
        if (val & 0x80)
            c->lowest = (uint8_t)pin;
        break;
    case 3: /* specific EOI */
    case 7: /* ... with rotation */
        c->isr &= (uint8_t)~BIT(pin);
        if (val & 0x80)
            c->lowest = (uint8_t)pin;
        break;
    case 6: /* set priority */
        c->lowest = (uint8_t)pin;
        break;
    default: /* 2: no operation */
        break;
    }
}

static void chip_ocw3(struct chip *c, uint8_t val)
{
    if (val & OCW3_ESMM)
        c->special_mask = val & OCW3_SMM;
    if (val & OCW3_POLL)
        c->poll = true;
    else if (val & OCW3_RR)
        c->read_isr = val & OCW3_RIS;
}

static void chip_data_write(struct chip *c, uint8_t val)
{
    switch (c->next_icw) {
    case 2:
        c->vector_base = val & 0xf8;
        c->next_icw = c->icw1 & ICW1_SNGL ? (c->icw1 & ICW1_IC4 ? 4 : 0) : 3;
        break;
    case 3: /* the cascade is wired: its place can't be chosen */
        c->next_icw = c->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 4:
        c->sfnm = val & ICW4_SFNM;
        c->aeoi = val & ICW4_AEOI;
        c->next_icw = 0;
        break;
    default: /* OCW1 */
        c->imr = val;
        break;
    }
}

static uint8_t chip_poll(struct i8259 *pic, struct chip *c)
{
    int pin = chip_request(c, c == &pic->chip[MASTER]);

    c->poll = false;
    if (pin < 0)
        return 0;
    chip_ack(c, (unsigned)pin);
    update(pic);
    return (uint8_t)(0x80 | pin);
}

static uint8_t pic_read(struct i8259 *pic, struct chip *c, uint64_t off)
{
    if (c->poll)
        return chip_poll(pic, c);
    if (off & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static void pic_write(struct i8259 *pic, struct chip *c, uint64_t off,
                      uint8_t val)
{
    if (off & 1)
        chip_data_write(c, val);
    else if (val & ICW1_INIT)
        chip_icw1(c, val);
    else if ((val & OCW_SELECT) == OCW_OCW3)
        chip_ocw3(c, val);
    else
        chip_ocw2(c, val);
    update(pic);
}

static uint8_t master_read(void *dev, uint64_t off)
{
    struct i8259 *pic = dev;

    return pic_read(pic, &pic->chip[MASTER], off);
}

static void master_write(void *dev, uint64_t off, uint8_t val)
{
    struct i8259 *pic = dev;

    pic_write(pic, &pic->chip[MASTER], off, val);
}

static uint8_t slave_read(void *dev, uint64_t off)
{
    struct i8259 *pic = dev;

    return pic_read(pic, &pic->chip[SLAVE], off);
}

static void slave_write(void *dev, uint64_t off, uint8_t val)
{
    struct i8259 *pic = dev;

    pic_write(pic, &pic->chip[SLAVE], off, val);
}

static uint8_t elcr_read(void *dev, uint64_t off)
{
    struct i8259 *pic = dev;

    return pic->chip[off & 1].elcr;
}

static void elcr_write(void *dev, uint64_t off, uint8_t val)
{
    struct i8259 *pic = dev;
    struct chip *c = &pic->chip[off & 1];

    c->elcr = val & (off & 1 ? ELCR_SLAVE : ELCR_MASTER);
    c->irr |= c->in & level_inputs(c);
    update(pic);
}

/* Ports are byte-wide. */
static uint64_t master_bus_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(master_read, dev, off, size);
}

static void master_bus_write(void *dev, uint64_t off, uint64_t val,
                             unsigned size)
{
    bus8_write(master_write, dev, off, val, size);
}

static uint64_t slave_bus_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(slave_read, dev, off, size);
}

static void slave_bus_write(void *dev, uint64_t off, uint64_t val,
                            unsigned size)
{
    bus8_write(slave_write, dev, off, val, size);
}

static uint64_t elcr_bus_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(elcr_read, dev, off, size);
}

static void elcr_bus_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    bus8_write(elcr_write, dev, off, val, size);
}

static const struct bus_ops master_ops = {master_bus_read, master_bus_write};
static const struct bus_ops slave_ops = {slave_bus_read, slave_bus_write};
static const struct bus_ops elcr_ops = {elcr_bus_read, elcr_bus_write};

static int i8259_post_load(void *obj, uint32_t version, struct err *e)
{
    struct i8259 *pic = obj;

    (void)version;
    for (unsigned i = 0; i < 2; i++) {
        const struct chip *c = &pic->chip[i];

        if (c->lowest > 7 || c->next_icw > 4 || c->next_icw == 1 ||
            (c->vector_base & 7) || (c->irr & ~c->in) ||
            (c->elcr & ~(i ? ELCR_SLAVE : ELCR_MASTER)))
            return err_set(e, -EINVAL, "i8259: chip %u has impossible state",
                           i);
    }
    if (pic->conf.intr)
        pic->conf.intr(pic->conf.ctx, pic->intr);
    update(pic);
    return 0;
}

static const struct state_field chip_fields[] = {
    SF_U8(chip, in),
    SF_U8(chip, irr),
    SF_U8(chip, isr),
    SF_U8(chip, imr),
    SF_U8(chip, elcr),
    SF_U8(chip, vector_base),
    SF_U8(chip, lowest),
    SF_U8(chip, next_icw),
    SF_U8(chip, icw1),
    SF_BOOL(chip, aeoi),
    SF_BOOL(chip, rotate_aeoi),
    SF_BOOL(chip, sfnm),
    SF_BOOL(chip, special_mask),
    SF_BOOL(chip, poll),
    SF_BOOL(chip, read_isr),
    SF_END,
};

static const struct state_desc chip_desc = {
    .name = "i8259-chip",
    .version = 1,
    .min_version = 1,
    .fields = chip_fields,
};

static const struct state_field i8259_fields[] = {
    SF_BOOL(i8259, intr),
    SF_STRUCT(i8259, chip, 2, chip_desc),
    SF_END,
};

static const struct state_desc i8259_desc = {
    .name = "i8259",
    .version = 1,
    .min_version = 1,
    .fields = i8259_fields,
    .post_load = i8259_post_load,
};

static struct bus_region region(struct i8259 *pic, uint64_t port,
                                const struct bus_ops *ops, const char *name)
{
    return (struct bus_region){
        .start = port,
        .len = 2,
        .ops = ops,
        .dev = pic,
        .lock = &pic->lock,
        .name = name,
    };
}

int i8259_create(struct vm *vm, const struct i8259_conf *conf,
                 struct i8259 **out, struct err *e)
{
    struct i8259 *pic = calloc(1, sizeof *pic);
    int ret;

    if (!pic)
        return err_set(e, -ENOMEM, "i8259: out of memory");
    pic->vm = vm;
    pic->conf = *conf;
    pthread_mutex_init(&pic->lock, NULL);
    pic->region[MASTER] = region(pic, 0x20, &master_ops, "i8259 master");
    pic->region[SLAVE] = region(pic, 0xa0, &slave_ops, "i8259 slave");
    pic->elcr_region = region(pic, 0x4d0, &elcr_ops, "i8259 elcr");
    i8259_reset(pic);
    ret = bus_add(vm->pio, &pic->region[MASTER], e);
    if (ret == 0)
        ret = bus_add(vm->pio, &pic->region[SLAVE], e);
    if (ret == 0)
        ret = bus_add(vm->pio, &pic->elcr_region, e);
    if (ret < 0)
        goto fail;
    ret = state_list_add(vm->state, &i8259_desc, 0, pic);
    if (ret < 0) {
        err_set(e, ret, "i8259: out of memory");
        goto fail;
    }
    *out = pic;
    return 0;
fail:
    i8259_destroy(pic);
    return ret;
}

void i8259_destroy(struct i8259 *pic)
{
    if (!pic)
        return;
    bus_remove(pic->vm->pio, &pic->region[MASTER]);
    bus_remove(pic->vm->pio, &pic->region[SLAVE]);
    bus_remove(pic->vm->pio, &pic->elcr_region);
    pthread_mutex_destroy(&pic->lock);
    free(pic);
}

void i8259_reset(struct i8259 *pic)
{
    pthread_mutex_lock(&pic->lock);
    for (unsigned i = 0; i < 2; i++) {
        struct chip *c = &pic->chip[i];

        /* Undefined on the chip until ICW1; here: all inputs masked. */
        *c = (struct chip){.in = c->in, .lowest = 7, .imr = 0xff};
    }
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

void i8259_set_line(void *ctx, unsigned pin, bool level)
{
    struct i8259 *pic = ctx;

    if (pin > 15 || pin == CASCADE_PIN)
        return;
    pthread_mutex_lock(&pic->lock);
    chip_set_line(&pic->chip[pin >> 3], pin & 7, level);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

/* One chip's part of the acknowledge: its input, or a spurious 7. */
static unsigned chip_intack(struct chip *c, bool is_master)
{
    int pin = chip_request(c, is_master);

    if (pin < 0)
        return SPURIOUS; /* no bit in service: software must not EOI */
    chip_ack(c, (unsigned)pin);
    return (unsigned)pin;
}

uint8_t i8259_intack(struct i8259 *pic)
{
    struct chip *c = &pic->chip[MASTER];
    unsigned pin;

    pthread_mutex_lock(&pic->lock);
    pin = chip_intack(c, true);
    if (pin == CASCADE_PIN) {
        c = &pic->chip[SLAVE];
        pin = chip_intack(c, false);
    }
    pin += c->vector_base;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
    return (uint8_t)pin;
}

bool i8259_intr(struct i8259 *pic)
{
    bool intr;

    pthread_mutex_lock(&pic->lock);
    intr = pic->intr;
    pthread_mutex_unlock(&pic->lock);
    return intr;
}
