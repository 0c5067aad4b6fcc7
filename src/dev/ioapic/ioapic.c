// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O APIC; see ioapic.h. Registers are reached through an index (IOREGSEL)
 * and a data window (IOWIN); pin n's redirection table entry (RTE) is the
 * register pair 0x10 + 2n. Messages leave with the lock held: the receiver
 * (local APICs) only posts bits and kicks.
 */
#include "dev/ioapic/ioapic.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* MMIO offsets */
#define IOREGSEL 0x00
#define IOWIN    0x10
#define IOEOI    0x40

/* Indexed registers */
#define REG_ID      0x00
#define REG_VERSION 0x01
#define REG_ARB     0x02
#define REG_RTE     0x10
#define VERSION     (0x20U | (IOAPIC_PINS - 1) << 16)

/*
 * RTE:  63..56 destination | 16 mask | 15 trigger (1 level) | 14 remote IRR |
 *       13 polarity | 12 delivery status | 11 destination mode (1 logical) |
 *       10..8 delivery mode | 7..0 vector
 */
#define RTE_VECTOR     BITS(7, 0)
#define RTE_MODE_SHIFT 8
#define RTE_LOGICAL    BIT(11)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASK       BIT(16)
#define RTE_DEST_SHIFT 56
/* Writable: all but delivery status and remote IRR */
#define RTE_WRITABLE (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

/* Message (SDM vol. 3A 11.11): address 0xfee, dest 19..12, RH 3, DM 2;
 * data: trigger 15, assert 14, delivery mode 10..8, vector 7..0 */
#define MSI_BASE       UINT64_C(0xfee00000)
#define MSI_DEST_SHIFT 12
#define MSI_RH         BIT(3)
#define MSI_LOGICAL    BIT(2)
#define MSI_LEVEL      (BIT(15) | BIT(14))
#define MODE_LOWEST    1U /* fixed is 0; others are always edges */

struct ioapic {
    struct vm *vm;
    pthread_mutex_t lock; /* irq class */
    struct bus_region region;
    struct log_limit misuse;
    uint8_t reset_id;

    uint8_t index;
    uint8_t id;
    uint32_t lines; /* levels of the inputs */
    uint64_t rte[IOAPIC_PINS];
};

/* SMI, NMI, INIT and ExtINT are edges, whatever the trigger bit says. */
static bool is_level(uint64_t rte)
{
    return (rte & RTE_LEVEL) && bits_get(rte, 10, 8) <= MODE_LOWEST;
}

static void deliver(struct ioapic *io, unsigned pin)
{
    uint64_t rte = io->rte[pin];
    unsigned mode = (unsigned)bits_get(rte, 10, 8);
    uint64_t addr = MSI_BASE | (rte >> RTE_DEST_SHIFT) << MSI_DEST_SHIFT;
    uint32_t data = (uint32_t)(rte & RTE_VECTOR) | mode << RTE_MODE_SHIFT;

    if (rte & RTE_LOGICAL)
        addr |= MSI_LOGICAL;
    if (mode == MODE_LOWEST)
        addr |= MSI_RH;
    if (is_level(rte)) {
        data |= MSI_LEVEL;
        io->rte[pin] |= RTE_REMOTE_IRR;
    }
    irq_msi_send(&io->vm->msi, addr, data);
}

/* A level pin delivers while it is asserted, open, and not in service. */
static void check_level(struct ioapic *io, unsigned pin)
{
    uint64_t rte = io->rte[pin];

    if (is_level(rte) && (io->lines & BIT(pin)) &&
        !(rte & (RTE_MASK | RTE_REMOTE_IRR)))
        deliver(io, pin);
}

static void eoi_locked(struct ioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if (!(io->rte[pin] & RTE_REMOTE_IRR) ||
            (io->rte[pin] & RTE_VECTOR) != vector)
            continue;
        io->rte[pin] &= ~RTE_REMOTE_IRR;
        check_level(io, pin);
    }
}

static uint32_t reg_read(struct ioapic *io)
{
    unsigned pin = (io->index - REG_RTE) / 2U;

    switch (io->index) {
    case REG_ID:
    case REG_ARB:
        return (uint32_t)io->id << 24;
    case REG_VERSION:
        return VERSION;
    default:
        if (io->index < REG_RTE || pin >= IOAPIC_PINS) {
            log_guest(&io->misuse, "ioapic", "read of no register, 0x%x",
                      io->index);
            return 0;
        }
        return (uint32_t)(io->rte[pin] >> (io->index & 1 ? 32 : 0));
    }
}

static void rte_write(struct ioapic *io, unsigned pin, uint64_t rte)
{
    uint64_t old = io->rte[pin];

    rte = (rte & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
    /* Edge triggered: there is nothing in service; software relies on it to
     * reset a pin. */
    if (!(rte & RTE_LEVEL))
        rte &= ~RTE_REMOTE_IRR;
    io->rte[pin] = rte;
    check_level(io, pin);
}

static void reg_write(struct ioapic *io, uint32_t val)
{
    unsigned pin = (io->index - REG_RTE) / 2U;

    if (io->index == REG_ID) {
        io->id = (val >> 24) & 0xf;
    } else if (io->index >= REG_RTE && pin < IOAPIC_PINS) {
        if (io->index & 1)
            rte_write(io, pin, bits_set(io->rte[pin], 63, 32, val));
        else
            rte_write(io, pin, bits_set(io->rte[pin], 31, 0, val));
    } else {
        log_guest(&io->misuse, "ioapic", "write to no register, 0x%x",
                  io->index);
    }
}

static uint64_t ioapic_read(void *dev, uint64_t off, unsigned size)
{
    struct ioapic *io = dev;
    uint32_t val = 0;

    (void)size; /* the bus cuts off what is too much */
    switch (off & ~UINT64_C(3)) {
    case IOREGSEL:
        val = io->index;
        break;
    case IOWIN:
        val = reg_read(io);
        break;
    default:
        break;
    }
    return val >> (8 * (off & 3));
}

static void ioapic_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    struct ioapic *io = dev;

    if (off == IOREGSEL)
        io->index = (uint8_t)val;
    else if (off == IOWIN && size >= 4)
        reg_write(io, (uint32_t)val);
    else if (off == IOEOI)
        eoi_locked(io, (uint8_t)val);
    else
        log_guest(&io->misuse, "ioapic", "%u-byte write at offset 0x%x", size,
                  (unsigned)off);
}

static const struct bus_ops ioapic_ops = {
    .read = ioapic_read,
    .write = ioapic_write,
};

static int ioapic_post_load(void *obj, uint32_t version, struct err *e)
{
    struct ioapic *io = obj;

    (void)version;
    if (io->id > 0xf || io->lines >> IOAPIC_PINS)
        return err_set(e, -EINVAL, "ioapic: id 0x%x or lines 0x%x too large",
                       io->id, io->lines);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        if (io->rte[pin] & ~(RTE_WRITABLE | RTE_REMOTE_IRR))
            return err_set(e, -EINVAL, "ioapic: entry %u has reserved bits",
                           pin);
    return 0;
}

static const struct state_field ioapic_fields[] = {
    SF_U8(ioapic, index),
    SF_U8(ioapic, id),
    SF_U32(ioapic, lines),
    SF_U64A(ioapic, rte, IOAPIC_PINS),
    SF_END,
};

static const struct state_desc ioapic_desc = {
    .name = "ioapic",
    .version = 1,
    .min_version = 1,
    .fields = ioapic_fields,
    .post_load = ioapic_post_load,
};

int ioapic_create(struct vm *vm, const struct ioapic_conf *conf,
                  struct ioapic **out, struct err *e)
{
    struct ioapic *io = calloc(1, sizeof *io);
    int ret;

    if (!io)
        return err_set(e, -ENOMEM, "ioapic: out of memory");
    io->vm = vm;
    io->reset_id = conf->id & 0xf;
    pthread_mutex_init(&io->lock, NULL);
    io->region = (struct bus_region){
        .start = conf->base ? conf->base : IOAPIC_BASE,
        .len = IOAPIC_LEN_BYTES,
        .ops = &ioapic_ops,
        .dev = io,
        .lock = &io->lock,
        .name = "ioapic",
    };
    ioapic_reset(io);
    ret = bus_add(vm->mmio, &io->region, e);
    if (ret < 0)
        goto fail;
    ret = state_list_add(vm->state, &ioapic_desc, 0, io);
    if (ret < 0) {
        err_set(e, ret, "ioapic: out of memory");
        goto fail;
    }
    *out = io;
    return 0;
fail:
    ioapic_destroy(io);
    return ret;
}

void ioapic_destroy(struct ioapic *io)
{
    if (!io)
        return;
    bus_remove(io->vm->mmio, &io->region);
    pthread_mutex_destroy(&io->lock);
    free(io);
}

void ioapic_reset(struct ioapic *io)
{
    pthread_mutex_lock(&io->lock);
    io->index = 0;
    io->id = io->reset_id;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        io->rte[pin] = RTE_MASK;
    pthread_mutex_unlock(&io->lock);
}

void ioapic_set_line(void *ctx, unsigned pin, bool level)
{
    struct ioapic *io = ctx;
    bool was;

    if (pin >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&io->lock);
    was = io->lines & BIT(pin);
    io->lines =
        (uint32_t)(level ? io->lines | BIT(pin) : io->lines & ~BIT(pin));
    if (is_level(io->rte[pin]))
        check_level(io, pin);
    else if (level && !was && !(io->rte[pin] & RTE_MASK))
        deliver(io, pin); /* an edge on a masked pin is lost (82093AA 3.2.4) */
    pthread_mutex_unlock(&io->lock);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    pthread_mutex_lock(&io->lock);
    eoi_locked(io, vector);
    pthread_mutex_unlock(&io->lock);
}
