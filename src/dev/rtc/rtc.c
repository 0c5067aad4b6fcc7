// SPDX-License-Identifier: Apache-2.0
/*
 * The MC146818 real-time clock; see rtc.h.
 *
 * The time shown is the wall clock plus an offset. While register B's SET bit
 * (or a held divider) stops the updates, the ten time registers are plain
 * memory (`ram`), from which a new offset is made when updates go on. Flags are
 * brought up to date when somebody looks (sync_flags); a timer is armed only
 * while an interrupt is enabled that could come.
 */
#include "dev/rtc/rtc.h"

#include "base/err.h"
#include "base/log.h"
#include "vm/bus8.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PORT_INDEX 0x70
#define RAM_BYTES  128
#define NMI_OFF    0x80 /* bit 7 of the index port */

/* Registers */
#define R_SEC         0x00
#define R_SEC_ALARM   0x01
#define R_MIN         0x02
#define R_MIN_ALARM   0x03
#define R_HOUR        0x04
#define R_HOUR_ALARM  0x05
#define R_WDAY        0x06 /* 1 = Sunday */
#define R_MDAY        0x07
#define R_MONTH       0x08
#define R_YEAR        0x09
#define R_A           0x0a
#define R_B           0x0b
#define R_C           0x0c
#define R_D           0x0d
#define R_CENTURY     RTC_CENTURY_INDEX

#define A_UIP         0x80
#define A_DIVIDER     0x70 /* 010: 32.768 kHz; 11x: held in reset */
#define A_RATE        0x0f
#define A_DEFAULT     0x26 /* 32.768 kHz, 1024 Hz */
#define B_SET         0x80
#define B_PIE         0x40
#define B_AIE         0x20
#define B_UIE         0x10
#define B_SQWE        0x08
#define B_BINARY      0x04
#define B_24H         0x02
#define C_IRQF        0x80
#define C_PF          0x40
#define C_AF          0x20
#define C_UF          0x10
#define D_VALID       0x80
#define HOUR_PM       0x80
#define ALARM_ANY     0xc0 /* both bits set: matches always */

#define UIP_NS        (244 * NS_PER_US) /* before the update */
#define CRYSTAL_HZ    32768U
#define SECS_PER_DAY  86400
#define CATCH_UP_SECS 3600 /* alarms looked for after a jump of the clock */

struct rtc {
    struct vm *vm;
    struct irq_line irq;
    pthread_mutex_t lock;
    struct bus_region region;
    struct timer timer;
    struct log_limit misuse;

    uint8_t index;
    uint8_t ram[RAM_BYTES]; /* A, B, C at their places; D is made */
    uint64_t offset_sec;    /* RTC less wall clock, modulo 2^64 ... */
    uint32_t offset_ns;     /* ... plus this, below NS_PER_S */
    uint64_t last_sec;      /* RTC second of the last update */
    uint64_t last_tick;     /* periodic ticks counted so far */
    uint8_t wday_shift;     /* what the guest says today is, less what it is */
    bool irq_level;
};

struct civil {
    int64_t year;
    unsigned month, mday, hour, min, sec;
};

/* ---- the calendar ---- */

/* Days since 1970-01-01 of the proleptic Gregorian calendar. The year is made
 * to begin in March, so that the leap day is its last. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned mday)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * ((month + 9) % 12) + 2) / 5 + mday - 1;

    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct civil civil_from_secs(uint64_t secs)
{
    int64_t days = (int64_t)(secs / SECS_PER_DAY) + 719468;
    int64_t era = days / 146097, doe = days % 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (unsigned)((5 * doy + 2) / 153);
    unsigned rest = (unsigned)(secs % SECS_PER_DAY);
    struct civil c;

    c.month = mp < 10 ? mp + 3 : mp - 9;
    c.year = yoe + era * 400 + (c.month <= 2);
    c.mday = (unsigned)(doy - (153 * mp + 2) / 5) + 1;
    c.hour = rest / 3600;
    c.min = rest / 60 % 60;
    c.sec = rest % 60;
    return c;
}

/* ---- register formats ---- */

static uint8_t encode(const struct rtc *r, unsigned n)
{
    if (r->ram[R_B] & B_BINARY)
        return (uint8_t)n;
    return (uint8_t)((n / 10 << 4) | n % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    if (r->ram[R_B] & B_BINARY)
        return v;
    return (v >> 4) * 10U + (v & 15U);
}

static uint8_t encode_hour(const struct rtc *r, unsigned hour)
{
    if (r->ram[R_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->ram[R_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* ---- time ---- */

static bool is_stopped(const struct rtc *r)
{
    return (r->ram[R_B] & B_SET) || (r->ram[R_A] & 0x60) == 0x60;
}

struct instant {
    uint64_t sec; /* since 1970 */
    uint64_t ns;  /* below NS_PER_S */
};

static struct instant rtc_now(struct rtc *r)
{
    uint64_t ns = clock_wall_ns(r->vm->clock) + r->offset_ns;

    return (struct instant){ns / NS_PER_S + r->offset_sec, ns % NS_PER_S};
}

/* Put the time @secs into the registers. */
static void time_to_ram(struct rtc *r, uint64_t secs)
{
    struct civil c = civil_from_secs(secs);
    unsigned wday = (unsigned)((secs / SECS_PER_DAY + 4 + r->wday_shift) % 7);

    r->ram[R_SEC] = encode(r, c.sec);
    r->ram[R_MIN] = encode(r, c.min);
    r->ram[R_HOUR] = encode_hour(r, c.hour);
    r->ram[R_WDAY] = encode(r, wday + 1);
    r->ram[R_MDAY] = encode(r, c.mday);
    r->ram[R_MONTH] = encode(r, c.month);
    r->ram[R_YEAR] = encode(r, (unsigned)(c.year % 100));
    r->ram[R_CENTURY] = encode(r, (unsigned)(c.year / 100));
}

/* The time that the registers say. Values out of range carry over, as much as
 * they can be taken; before 1970 is 1970. */
static uint64_t ram_to_secs(const struct rtc *r)
{
    int64_t year =
        (int64_t)decode(r, r->ram[R_CENTURY]) * 100 + decode(r, r->ram[R_YEAR]);
    unsigned month = decode(r, r->ram[R_MONTH]);
    unsigned mday = decode(r, r->ram[R_MDAY]);
    int64_t secs;

    month = month < 1 ? 1 : month > 12 ? 12 : month;
    secs = days_from_civil(year, month, mday) * SECS_PER_DAY +
           decode_hour(r, r->ram[R_HOUR]) * 3600 +
           decode(r, r->ram[R_MIN]) * 60 + decode(r, r->ram[R_SEC]);
    return secs < 0 ? 0 : (uint64_t)secs;
}

/* The registers were written: derive offset and weekday from them.
 * @frac_ns: how far the current second is. */
static void time_from_ram(struct rtc *r, uint64_t frac_ns)
{
    uint64_t secs = ram_to_secs(r);
    unsigned wday = (unsigned)((secs / SECS_PER_DAY + 4) % 7);
    unsigned shown = decode(r, r->ram[R_WDAY]) + 6;

    r->wday_shift = (uint8_t)((shown + 7 - wday) % 7);
    uint64_t wall = clock_wall_ns(r->vm->clock);

    r->offset_ns =
        (uint32_t)((frac_ns + NS_PER_S - wall % NS_PER_S) % NS_PER_S);
    r->offset_sec = secs - (wall + r->offset_ns) / NS_PER_S;
    r->last_sec = secs;
}

/* ---- flags and interrupts ---- */

/* Shift of the crystal's cycles for register A's rate; 0: no ticks. Rates 1
 * and 2 are those of 8 and 9 with this time base (MC146818, table 5). */
static unsigned rate_shift(const struct rtc *r)
{
    unsigned rate = r->ram[R_A] & A_RATE;

    if (!rate || (r->ram[R_A] & 0x60) == 0x60)
        return 0;
    return rate <= 2 ? rate + 6 : rate - 1;
}

static uint64_t periodic_tick(struct rtc *r, unsigned shift)
{
    uint64_t ns = clock_now_ns(r->vm->clock);

    return (uint64_t)((unsigned __int128)ns * CRYSTAL_HZ / NS_PER_S) >> shift;
}

static bool alarm_matches(const struct rtc *r, uint64_t secs)
{
    struct civil c = civil_from_secs(secs);
    const uint8_t *ram = r->ram;

    return (ram[R_SEC_ALARM] >= ALARM_ANY ||
            decode(r, ram[R_SEC_ALARM]) == c.sec) &&
           (ram[R_MIN_ALARM] >= ALARM_ANY ||
            decode(r, ram[R_MIN_ALARM]) == c.min) &&
           (ram[R_HOUR_ALARM] >= ALARM_ANY ||
            decode_hour(r, ram[R_HOUR_ALARM]) == c.hour);
}

/* Account for the updates since the last look: UF, and AF if one matched. */
static void sync_updates(struct rtc *r)
{
    uint64_t now = rtc_now(r).sec, from = r->last_sec + 1;

    if (is_stopped(r) || now == r->last_sec)
        return;
    r->ram[R_C] |= C_UF;
    if (now < from || now - from > CATCH_UP_SECS)
        from = now; /* the wall clock was stepped, or we slept for long */
    for (uint64_t s = from; s <= now && !(r->ram[R_C] & C_AF); s++)
        if (alarm_matches(r, s))
            r->ram[R_C] |= C_AF;
    r->last_sec = now;
}

static void update_irq(struct rtc *r)
{
    uint8_t enabled = r->ram[R_B] & (B_PIE | B_AIE | B_UIE);
    bool level = r->ram[R_C] & enabled;

    r->ram[R_C] &= (uint8_t)~C_IRQF;
    if (level)
        r->ram[R_C] |= C_IRQF;
    if (level != r->irq_level) {
        r->irq_level = level;
        irq_line_set(&r->irq, level);
    }
}

/* Arm for the next tick or update that may interrupt. A second's alarm is
 * looked at each second. */
static void arm(struct rtc *r)
{
    uint64_t now = clock_now_ns(r->vm->clock), deadline = CLOCK_NEVER;
    unsigned shift = rate_shift(r);

    if (shift && (r->ram[R_B] & B_PIE) && !(r->ram[R_C] & C_PF)) {
        uint64_t cycles = (r->last_tick + 1) << shift;

        deadline =
            (uint64_t)(((unsigned __int128)cycles * NS_PER_S + CRYSTAL_HZ - 1) /
                       CRYSTAL_HZ);
    }
    if (!is_stopped(r) && (((r->ram[R_B] & B_UIE) && !(r->ram[R_C] & C_UF)) ||
                           ((r->ram[R_B] & B_AIE) && !(r->ram[R_C] & C_AF)))) {
        uint64_t update = now + NS_PER_S - rtc_now(r).ns;

        if (update < deadline)
            deadline = update;
    }
    timer_arm(r->vm->clock, &r->timer, deadline);
}

/* Bring all flags up to date. Ends every entry, too. */
static void sync_flags(struct rtc *r)
{
    unsigned shift = rate_shift(r);

    if (shift) {
        uint64_t tick = periodic_tick(r, shift);

        if (tick != r->last_tick)
            r->ram[R_C] |= C_PF;
        r->last_tick = tick;
    }
    sync_updates(r);
    update_irq(r);
}

static void timer_expired(void *ctx)
{
    struct rtc *r = ctx;

    pthread_mutex_lock(&r->lock);
    sync_flags(r);
    arm(r);
    pthread_mutex_unlock(&r->lock);
}

/* ---- registers ---- */

static bool is_time(uint8_t index)
{
    return index == R_SEC || index == R_MIN || index == R_HOUR ||
           (index >= R_WDAY && index <= R_YEAR) || index == R_CENTURY;
}

static uint8_t read_reg(struct rtc *r, uint8_t index)
{
    struct instant now = rtc_now(r);
    uint8_t val;

    if (is_time(index) && !is_stopped(r))
        time_to_ram(r, now.sec);
    switch (index) {
    case R_A:
        return r->ram[R_A] |
               (!is_stopped(r) && now.ns >= NS_PER_S - UIP_NS ? A_UIP : 0);
    case R_C: /* reading acknowledges */
        val = r->ram[R_C];
        r->ram[R_C] = 0;
        update_irq(r);
        return val;
    case R_D:
        return D_VALID;
    default:
        return r->ram[index];
    }
}

/* Registers A and B: time stops and goes on, formats and rates change. */
static void write_control(struct rtc *r, uint8_t index, uint8_t val)
{
    bool was_stopped = is_stopped(r), was_held = !rate_shift(r);
    struct instant now = rtc_now(r);

    if (!was_stopped)
        time_to_ram(r, now.sec);
    if (index == R_A) {
        bool held = (r->ram[R_A] & 0x60) == 0x60;

        r->ram[R_A] = val & (A_DIVIDER | A_RATE);
        if (was_stopped && !is_stopped(r))
            /* The first update is half a second after the divider starts. */
            time_from_ram(r, held ? NS_PER_S / 2 : 0);
    } else {
        r->ram[R_B] = val & B_SET ? val & (uint8_t)~B_UIE : val;
        if (was_stopped && !is_stopped(r))
            time_from_ram(r, now.ns);
    }
    if (rate_shift(r) && (was_held || index == R_A))
        r->last_tick = periodic_tick(r, rate_shift(r));
}

static void write_reg(struct rtc *r, uint8_t index, uint8_t val)
{
    struct instant now;

    switch (index) {
    case R_A:
    case R_B:
        write_control(r, index, val);
        return;
    case R_C:
    case R_D:
        log_guest(&r->misuse, "rtc", "write to read-only register 0x%x", index);
        return;
    default:
        break;
    }
    if (!is_time(index) || is_stopped(r)) {
        r->ram[index] = val;
        return;
    }
    now = rtc_now(r);
    time_to_ram(r, now.sec);
    r->ram[index] = val;
    time_from_ram(r, now.ns);
}

static uint8_t port_read(void *dev, uint64_t off)
{
    struct rtc *r = dev;
    uint8_t val;

    if (off == 0)
        return 0xff; /* the index port is write only */
    sync_flags(r);
    val = read_reg(r, r->index & (RAM_BYTES - 1));
    arm(r);
    return val;
}

static void port_write(void *dev, uint64_t off, uint8_t val)
{
    struct rtc *r = dev;

    if (off == 0) {
        r->index = val; /* with the NMI mask; nothing raises one */
        return;
    }
    sync_flags(r);
    write_reg(r, r->index & (RAM_BYTES - 1), val);
    update_irq(r);
    arm(r);
}

static uint64_t rtc_read(void *dev, uint64_t off, unsigned size)
{
    return bus8_read(port_read, dev, off, size);
}

static void rtc_write(void *dev, uint64_t off, uint64_t val, unsigned size)
{
    bus8_write(port_write, dev, off, val, size);
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};

/* ---- state and life ---- */

static int rtc_post_load(void *obj, uint32_t version, struct err *e)
{
    struct rtc *r = obj;

    (void)version;
    if (r->wday_shift > 6 || (r->ram[R_A] & A_UIP) || r->offset_ns >= NS_PER_S)
        return err_set(e, -EINVAL,
                       "rtc: weekday shift %u, register A 0x%x, offset %u ns",
                       r->wday_shift, r->ram[R_A], r->offset_ns);
    arm(r);
    return 0;
}

static const struct state_field rtc_fields[] = {
    SF_U8(rtc, index),
    SF_U8A(rtc, ram, RAM_BYTES),
    SF_U64(rtc, offset_sec),
    SF_U32(rtc, offset_ns),
    SF_U64(rtc, last_sec),
    SF_U64(rtc, last_tick),
    SF_U8(rtc, wday_shift),
    SF_BOOL(rtc, irq_level),
    SF_END,
};

static const struct state_desc rtc_desc = {
    .name = "rtc",
    .version = 1,
    .min_version = 1,
    .fields = rtc_fields,
    .post_load = rtc_post_load,
};

/* Memory sizes where firmware and old kernels look (IBM PC/AT CMOS map; 0x34
 * and 0x5b as other PCs' firmware has them). */
static void set_memory(struct rtc *r, const struct rtc_conf *conf)
{
    uint64_t ext_kib = conf->ram_below_4g_bytes > 0x100000
                           ? (conf->ram_below_4g_bytes - 0x100000) / 1024
                           : 0;
    uint64_t above_16m = conf->ram_below_4g_bytes > 0x1000000
                             ? (conf->ram_below_4g_bytes - 0x1000000) / 65536
                             : 0;
    uint64_t above_4g = conf->ram_above_4g_bytes / 65536;

    ext_kib = ext_kib > 0xffff ? 0xffff : ext_kib;
    above_16m = above_16m > 0xffff ? 0xffff : above_16m;
    r->ram[0x15] = 640 & 0xff;
    r->ram[0x16] = 640 >> 8;
    r->ram[0x17] = r->ram[0x30] = (uint8_t)ext_kib;
    r->ram[0x18] = r->ram[0x31] = (uint8_t)(ext_kib >> 8);
    r->ram[0x34] = (uint8_t)above_16m;
    r->ram[0x35] = (uint8_t)(above_16m >> 8);
    r->ram[0x5b] = (uint8_t)above_4g;
    r->ram[0x5c] = (uint8_t)(above_4g >> 8);
    r->ram[0x5d] = (uint8_t)(above_4g >> 16);
}

static int rtc_register(struct rtc *r, struct err *e)
{
    int ret;

    r->region = (struct bus_region){
        .start = PORT_INDEX,
        .len = 2,
        .ops = &rtc_ops,
        .dev = r,
        .lock = &r->lock,
        .name = "rtc",
    };
    ret = bus_add(r->vm->pio, &r->region, e);
    if (ret < 0)
        return ret;
    ret = state_list_add(r->vm->state, &rtc_desc, 0, r);
    return ret < 0 ? err_set(e, ret, "rtc: out of memory") : 0;
}

int rtc_create(struct vm *vm, const struct rtc_conf *conf, struct rtc **out,
               struct err *e)
{
    struct rtc *r = calloc(1, sizeof *r);
    int ret;

    if (!r)
        return err_set(e, -ENOMEM, "rtc: out of memory");
    r->vm = vm;
    r->irq = conf->irq;
    pthread_mutex_init(&r->lock, NULL);
    timer_init(&r->timer, timer_expired, r);
    r->ram[R_A] = A_DEFAULT;
    r->ram[R_B] = B_24H;
    set_memory(r, conf);
    r->last_sec = rtc_now(r).sec;
    r->last_tick = periodic_tick(r, rate_shift(r));
    ret = rtc_register(r, e);
    if (ret < 0) {
        rtc_destroy(r);
        return ret;
    }
    *out = r;
    return 0;
}

void rtc_destroy(struct rtc *r)
{
    if (!r)
        return;
    timer_disarm(r->vm->clock, &r->timer);
    bus_remove(r->vm->pio, &r->region);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void rtc_reset(struct rtc *r)
{
    pthread_mutex_lock(&r->lock);
    sync_flags(r);
    r->index = 0;
    r->ram[R_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    r->ram[R_C] = 0;
    update_irq(r);
    arm(r);
    pthread_mutex_unlock(&r->lock);
}

void rtc_cmos_set(struct rtc *r, uint8_t index, uint8_t val)
{
    if (index <= R_D || index >= RAM_BYTES || index == R_CENTURY)
        return;
    pthread_mutex_lock(&r->lock);
    r->ram[index] = val;
    pthread_mutex_unlock(&r->lock);
}
