// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI fixed hardware; see acpi_pm.h. The PM timer is computed from guest
 * time; its carry (the top bit toggles, every 2.3 s with 24 bits) sets TMR_STS
 * when somebody looks, and by a timer while TMR_EN is set.
 */
#include "dev/acpi-pm/acpi_pm.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/log.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* PM1 status and enable (ACPI 6.5, 4.8.3.1) */
#define PM1_TMR      0x0001
#define PM1_GBL      0x0020
#define PM1_PWRBTN   0x0100
#define PM1_SLPBTN   0x0200
#define PM1_RTC      0x0400
#define PM1_EN_MASK  (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)
#define PM1_STS_MASK (PM1_EN_MASK | 0x8010) /* and WAK_STS, BM_STS */

/* PM1 control (4.8.3.2) */
#define CNT_SCI_EN    0x0001
#define CNT_BM_RLD    0x0002
#define CNT_SLP_SHIFT 10
#define CNT_SLP_TYP   0x1c00
#define CNT_SLP_EN    0x2000 /* write only */
#define CNT_KEPT      (CNT_SLP_TYP | CNT_BM_RLD)

/* Reset control at 0xcf9: bit 2 going to 1 resets; 1: hard, 3: full */
#define RESET_CPU      0x04
#define RESET_WRITABLE 0x0e

struct acpi_pm {
    struct vm *vm;
    struct acpi_pm_conf conf;
    pthread_mutex_t lock;
    struct bus_region region;
    struct bus_region reset_region;
    struct timer timer;
    struct log_limit misuse;

    uint16_t sts;
    uint16_t en;
    uint16_t cnt; /* without SCI_EN and SLP_EN */
    uint16_t gpe_sts;
    uint16_t gpe_en;
    uint8_t reset;
    bool sci_level;
    uint64_t carries; /* toggles of the timer's top bit so far */
};

/* ---- the timer ---- */

static uint64_t timer_ticks(struct acpi_pm *pm)
{
    return (uint64_t)((unsigned __int128)clock_now_ns(pm->vm->clock) *
                      ACPI_PM_TIMER_HZ / NS_PER_S);
}

static unsigned carry_shift(const struct acpi_pm *pm)
{
    return pm->conf.timer_32bit ? 31 : 23;
}

static void arm(struct acpi_pm *pm)
{
    uint64_t ticks = (pm->carries + 1) << carry_shift(pm);

    if (!(pm->en & PM1_TMR) || (pm->sts & PM1_TMR)) {
        timer_disarm(pm->vm->clock, &pm->timer);
        return;
    }
    timer_arm(pm->vm->clock, &pm->timer,
              (uint64_t)(((unsigned __int128)ticks * NS_PER_S +
                          ACPI_PM_TIMER_HZ - 1) /
                         ACPI_PM_TIMER_HZ));
}

static void sync_carry(struct acpi_pm *pm)
{
    uint64_t carries = timer_ticks(pm) >> carry_shift(pm);

    if (carries != pm->carries)
        pm->sts |= PM1_TMR;
    pm->carries = carries;
}

static void update_sci(struct acpi_pm *pm)
{
    bool level = (pm->sts & pm->en & PM1_EN_MASK) || (pm->gpe_sts & pm->gpe_en);

    if (level != pm->sci_level) {
        pm->sci_level = level;
        irq_line_set(&pm->conf.sci, level);
    }
}

static void timer_expired(void *ctx)
{
    struct acpi_pm *pm = ctx;

    pthread_mutex_lock(&pm->lock);
    sync_carry(pm);
    update_sci(pm);
    arm(pm);
    pthread_mutex_unlock(&pm->lock);
}

/* ---- registers, as bytes: accesses may have any size ---- */

static uint8_t byte_of(uint32_t reg, uint64_t n)
{
    return (uint8_t)(reg >> (8 * n));
}

static void set_byte(uint16_t *reg, uint64_t n, uint8_t val, uint16_t mask)
{
    unsigned shift = 8U * (unsigned)n;
    unsigned v = (*reg & ~(0xffU << shift)) | (unsigned)val << shift;

    *reg = (uint16_t)(v & mask);
}

/* Status bits are cleared by writing ones. */
static void clear_byte(uint16_t *reg, uint64_t n, uint8_t val)
{
    *reg &= (uint16_t) ~((unsigned)val << (8 * n));
}

static uint8_t read_reg(void *dev, uint64_t off)
{
    struct acpi_pm *pm = dev;

    switch (off) {
    case ACPI_PM_EVT_OFF ... ACPI_PM_EVT_OFF + 1:
        return byte_of(pm->sts, off - ACPI_PM_EVT_OFF);
    case ACPI_PM_EVT_OFF + 2 ... ACPI_PM_EVT_OFF + 3:
        return byte_of(pm->en, off - ACPI_PM_EVT_OFF - 2);
    case ACPI_PM_CNT_OFF ... ACPI_PM_CNT_OFF + 1:
        return byte_of(pm->cnt | CNT_SCI_EN, off - ACPI_PM_CNT_OFF);
    case ACPI_PM_GPE0_OFF ... ACPI_PM_GPE0_OFF + 1:
        return byte_of(pm->gpe_sts, off - ACPI_PM_GPE0_OFF);
    case ACPI_PM_GPE0_OFF + 2 ... ACPI_PM_GPE0_OFF + 3:
        return byte_of(pm->gpe_en, off - ACPI_PM_GPE0_OFF - 2);
    default:
        return 0;
    }
}

static void sleep_request(struct acpi_pm *pm)
{
    unsigned typ = (pm->cnt & CNT_SLP_TYP) >> CNT_SLP_SHIFT;

    if (typ == pm->conf.s5_slp_typ)
        vm_request(pm->vm, VM_REQ_POWEROFF, 0);
    else
        log_guest(&pm->misuse, "acpi-pm", "unknown sleep type %u", typ);
}

static void write_reg(void *dev, uint64_t off, uint8_t val)
{
    struct acpi_pm *pm = dev;

    switch (off) {
    case ACPI_PM_EVT_OFF ... ACPI_PM_EVT_OFF + 1:
        clear_byte(&pm->sts, off - ACPI_PM_EVT_OFF, val);
        break;
    case ACPI_PM_EVT_OFF + 2 ... ACPI_PM_EVT_OFF + 3:
        set_byte(&pm->en, off - ACPI_PM_EVT_OFF - 2, val, PM1_EN_MASK);
        break;
    case ACPI_PM_CNT_OFF ... ACPI_PM_CNT_OFF + 1:
        set_byte(&pm->cnt, off - ACPI_PM_CNT_OFF, val, CNT_KEPT);
        if (off == ACPI_PM_CNT_OFF + 1 && (val & CNT_SLP_EN >> 8))
            sleep_request(pm);
        break;
    case ACPI_PM_GPE0_OFF ... ACPI_PM_GPE0_OFF + 1:
        clear_byte(&pm->gpe_sts, off - ACPI_PM_GPE0_OFF, val);
        break;
    case ACPI_PM_GPE0_OFF + 2 ... ACPI_PM_GPE0_OFF + 3:
        set_byte(&pm->gpe_en, off - ACPI_PM_GPE0_OFF - 2, val, 0xffff);
        break;
    default:
        log_guest(&pm->misuse, "acpi-pm", "write to no register, 0x%x",
                  (unsigned)off);
        break;
    }
}

static uint64_t pm_read(void *dev, uint64_t off, unsigned size)
{
    struct acpi_pm *pm = dev;
    uint64_t val;

    sync_carry(pm);
    if (off >= ACPI_PM_TMR_OFF && off < ACPI_PM_TMR_OFF + ACPI_PM_TMR_LEN) {
        /* All bytes of one access are of one instant. */
        val = timer_ticks(pm) &
              (pm->conf.timer_32bit ? BITS(31, 0) : BITS(23, 0));
        val >>= 8 * (off - ACPI_PM_TMR_OFF);
    } else {
        val = bus8_read(read_reg, pm, off, size);
    }
    update_sci(pm);
    return val;
}

static void pm_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    struct acpi_pm *pm = dev;

    sync_carry(pm);
    bus8_write(write_reg, pm, off, val, size);
    update_sci(pm);
    arm(pm);
}

/* Both callers hold the lock. */
static void reset_write_locked(struct acpi_pm *pm, uint8_t val)
{
    bool go = (val & RESET_CPU) && !(pm->reset & RESET_CPU);

    pm->reset = val & RESET_WRITABLE;
    if (!go)
        return;
    pm->reset &= (uint8_t)~RESET_CPU; /* the reset itself clears it */
    vm_request(pm->vm, VM_REQ_RESET, 0);
}

static uint64_t reset_bus_read(void *dev, uint64_t off, unsigned size)
{
    struct acpi_pm *pm = dev;

    (void)off, (void)size;
    return pm->reset;
}

static void reset_bus_write(void *dev, uint64_t off, uint64_t val,
                            unsigned size)
{
    (void)off, (void)size;
    reset_write_locked(dev, (uint8_t)val);
}

static const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write};
static const struct bus_ops reset_ops = {
    .read = reset_bus_read,
    .write = reset_bus_write,
};

/* ---- state and life ---- */

static int acpi_pm_post_load(void *obj, uint32_t version, struct err *e)
{
    struct acpi_pm *pm = obj;

    (void)version;
    if ((pm->sts & ~PM1_STS_MASK) || (pm->en & ~PM1_EN_MASK) ||
        (pm->cnt & ~CNT_KEPT) || (pm->reset & ~RESET_WRITABLE))
        return err_set(e, -EINVAL, "acpi-pm: reserved register bits are set");
    arm(pm);
    return 0;
}

static const struct state_field acpi_pm_fields[] = {
    SF_U16(acpi_pm, sts),
    SF_U16(acpi_pm, en),
    SF_U16(acpi_pm, cnt),
    SF_U16(acpi_pm, gpe_sts),
    SF_U16(acpi_pm, gpe_en),
    SF_U8(acpi_pm, reset),
    SF_BOOL(acpi_pm, sci_level),
    SF_U64(acpi_pm, carries),
    SF_END,
};

static const struct state_desc acpi_pm_desc = {
    .name = "acpi-pm",
    .version = 1,
    .min_version = 1,
    .fields = acpi_pm_fields,
    .post_load = acpi_pm_post_load,
};

static int acpi_pm_register(struct acpi_pm *pm, struct err *e)
{
    int ret;

    pm->region = (struct bus_region){
        .start = pm->conf.port,
        .len = ACPI_PM_LEN,
        .ops = &pm_ops,
        .dev = pm,
        .lock = &pm->lock,
        .name = "acpi-pm",
    };
    pm->reset_region = (struct bus_region){
        .start = pm->conf.reset_port,
        .len = 1,
        .ops = &reset_ops,
        .dev = pm,
        .lock = &pm->lock,
        .name = "reset control",
    };
    ret = bus_add(pm->vm->pio, &pm->region, e);
    if (ret < 0)
        return ret;
    if (pm->conf.reset_port) {
        ret = bus_add(pm->vm->pio, &pm->reset_region, e);
        if (ret < 0)
            return ret;
    }
    ret = state_list_add(pm->vm->state, &acpi_pm_desc, 0, pm);
    return ret < 0 ? err_set(e, ret, "acpi-pm: out of memory") : 0;
}

int acpi_pm_create(struct vm *vm, const struct acpi_pm_conf *conf,
                   struct acpi_pm **out, struct err *e)
{
    struct acpi_pm *pm;
    int ret;

    if (conf->s5_slp_typ > 7)
        return err_set(e, -EINVAL, "acpi-pm: sleep type %u is above 7",
                       conf->s5_slp_typ);
    pm = calloc(1, sizeof *pm);
    if (!pm)
        return err_set(e, -ENOMEM, "acpi-pm: out of memory");
    pm->vm = vm;
    pm->conf = *conf;
    pthread_mutex_init(&pm->lock, NULL);
    timer_init(&pm->timer, timer_expired, pm);
    pm->carries = timer_ticks(pm) >> carry_shift(pm);
    ret = acpi_pm_register(pm, e);
    if (ret < 0) {
        acpi_pm_destroy(pm);
        return ret;
    }
    *out = pm;
    return 0;
}

void acpi_pm_destroy(struct acpi_pm *pm)
{
    if (!pm)
        return;
    timer_disarm(pm->vm->clock, &pm->timer);
    bus_remove(pm->vm->pio, &pm->region);
    bus_remove(pm->vm->pio, &pm->reset_region);
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    sync_carry(pm);
    pm->sts = 0;
    pm->en = 0;
    pm->cnt = 0;
    pm->gpe_sts = 0;
    pm->gpe_en = 0;
    pm->reset = 0;
    update_sci(pm);
    arm(pm);
    pthread_mutex_unlock(&pm->lock);
}

/* ---- events from outside ---- */

bool acpi_pm_power_button(struct acpi_pm *pm)
{
    bool heard;

    pthread_mutex_lock(&pm->lock);
    pm->sts |= PM1_PWRBTN;
    heard = pm->en & PM1_PWRBTN;
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
    return heard;
}

void acpi_pm_gpe(struct acpi_pm *pm, unsigned n)
{
    if (n > 15)
        return;
    pthread_mutex_lock(&pm->lock);
    pm->gpe_sts |= (uint16_t)BIT(n);
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

uint8_t acpi_pm_reset_read(struct acpi_pm *pm)
{
    uint8_t val;

    pthread_mutex_lock(&pm->lock);
    val = pm->reset;
    pthread_mutex_unlock(&pm->lock);
    return val;
}

void acpi_pm_reset_write(struct acpi_pm *pm, uint8_t val)
{
    pthread_mutex_lock(&pm->lock);
    reset_write_locked(pm, val);
    pthread_mutex_unlock(&pm->lock);
}
