// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's registers, priorities and EOI; see lapic.h. The timer is in
 * lapic_timer.c, messages between APICs in lapic_msg.c.
 */
#include "cpu/x86/lapic.h"

#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/lapic_int.h"
#include "cpu/x86/paging.h"

#define VERSION 0x00050014U /* integrated, LVT entries 0-5 */

/* What an LVT entry keeps of a write, by X86_LVT_*. */
static const uint32_t lvt_mask[7] = {
    [X86_LVT_TIMER] = 0x700ff, [X86_LVT_THERMAL] = 0x107ff,
    [X86_LVT_PERF] = 0x107ff,  [X86_LVT_LINT0] = 0x1a7ff,
    [X86_LVT_LINT1] = 0x1a7ff, [X86_LVT_ERROR] = 0x100ff,
};

static bool x2(const struct x86_cpu *cpu)
{
    return cpu->lapic.apic_base & X86_APIC_BASE_X2;
}

/* ---- bitmaps ---- */

static bool bit_get(const uint32_t *map, unsigned v)
{
    return map[v / 32] >> (v % 32) & 1;
}

static void bit_set(uint32_t *map, unsigned v)
{
    map[v / 32] |= 1U << (v % 32);
}

static void bit_clear(uint32_t *map, unsigned v)
{
    map[v / 32] &= ~(1U << (v % 32));
}

static int highest(const uint32_t *map)
{
    for (int i = 7; i >= 0; i--)
        if (map[i])
            return i * 32 + 31 - __builtin_clz(map[i]);
    return -1;
}

/* ---- priorities ---- */

static uint32_t ppr(const struct x86_lapic *l)
{
    int v = highest(l->isr);
    uint32_t isr = v < 0 ? 0 : (uint32_t)v & 0xf0U;

    return (l->tpr & 0xf0U) >= isr ? l->tpr : isr;
}

int x86_lapic_pending(const struct x86_cpu *cpu)
{
    const struct x86_lapic *l = &cpu->lapic;
    int v = highest(l->irr);

    if (v < 0 || !(l->apic_base & X86_APIC_BASE_EN) ||
        ((uint32_t)v & 0xf0U) <= (ppr(l) & 0xf0U))
        return -1;
    return v;
}

void x86_lapic_ack(struct x86_cpu *cpu, uint8_t vec)
{
    bit_clear(cpu->lapic.irr, vec);
    bit_set(cpu->lapic.isr, vec);
}

void x86_lapic_accept(struct x86_cpu *cpu, uint8_t vec, bool level)
{
    struct x86_lapic *l = &cpu->lapic;

    if (vec < 16) {
        x86_lapic_error(cpu, X86_ESR_RECV_ILLEGAL);
        return;
    }
    if (!(l->svr & X86_SVR_ENABLE) || !(l->apic_base & X86_APIC_BASE_EN))
        return;
    bit_set(l->irr, vec);
    if (level)
        bit_set(l->tmr, vec);
    else
        bit_clear(l->tmr, vec);
}

void x86_lapic_take_posted(struct x86_cpu *cpu)
{
    struct kick *k = &cpu->kick;

    kick_clear(k, KICK_POSTED);
    for (unsigned w = 0; w < 4; w++) {
        uint64_t bits = atomic_exchange(&k->posted[w], 0);
        uint64_t level = atomic_load(&k->posted_tmr[w]);

        while (bits) {
            unsigned b = (unsigned)__builtin_ctzll(bits);

            bits &= bits - 1;
            x86_lapic_accept(cpu, (uint8_t)(w * 64 + b), level >> b & 1);
        }
    }
}

static void eoi(struct x86_cpu *cpu)
{
    struct x86_lapic *l = &cpu->lapic;
    int v = highest(l->isr);

    if (v < 0)
        return;
    bit_clear(l->isr, (unsigned)v);
    if (bit_get(l->tmr, (unsigned)v) && cpu->topo->eoi)
        cpu->topo->eoi(cpu->topo->ctx, (uint8_t)v);
}

void x86_lapic_cr8_write(struct x86_cpu *cpu, uint64_t val)
{
    cpu->lapic.tpr = (uint32_t)(val & 15) << 4;
}

bool x86_lapic_extint_ok(const struct x86_cpu *cpu)
{
    const struct x86_lapic *l = &cpu->lapic;
    uint32_t lint0 = l->lvt[X86_LVT_LINT0];

    if (!(l->apic_base & X86_APIC_BASE_EN))
        return true; /* INTR goes straight to the core */
    return (lint0 & (X86_LVT_MASKED | X86_LVT_MODE)) == X86_LVT_MODE_EXTINT;
}

void x86_lapic_lvt_fire(struct x86_cpu *cpu, unsigned which)
{
    uint32_t lvt = cpu->lapic.lvt[which];

    if (lvt & X86_LVT_MASKED)
        return;
    switch (which == X86_LVT_TIMER || which == X86_LVT_ERROR
                ? 0
                : lvt & X86_LVT_MODE) {
    case X86_LVT_MODE_NMI:
        cpu->nmi_pending = true;
        break;
    case 0:
        x86_lapic_accept(cpu, lvt & 0xff, false);
        break;
    default:
        break; /* SMI: there is no SMM */
    }
}

void x86_lapic_error(struct x86_cpu *cpu, uint32_t bit)
{
    struct x86_lapic *l = &cpu->lapic;

    l->esr_pending |= bit;
    if ((l->lvt[X86_LVT_ERROR] & 0xff) >= 16) /* else an error of its own */
        x86_lapic_lvt_fire(cpu, X86_LVT_ERROR);
}

void x86_lapic_nmi_lint1(struct x86_cpu *cpu)
{
    x86_lapic_lvt_fire(cpu, X86_LVT_LINT1);
}

/* ---- registers, by MMIO offset >> 4 = MSR - 0x800 ---- */

uint32_t x86_lapic_ldr_x2(uint32_t id)
{
    return (id >> 4) << 16 | 1U << (id & 15);
}

/* X86_LVT_* of register @reg, or -1. */
static int lvt_index(unsigned reg)
{
    return reg >= 0x32 && reg <= 0x37 ? (int)(reg - 0x32 + X86_LVT_TIMER) : -1;
}

/* Return: false when there is no such register to read. */
static bool reg_read(struct x86_cpu *cpu, unsigned reg, uint32_t *val)
{
    const struct x86_lapic *l = &cpu->lapic;
    int lvt = lvt_index(reg);

    *val = 0;
    if (lvt >= 0)
        *val = l->lvt[lvt];
    else if (reg >= 0x10 && reg <= 0x17)
        *val = l->isr[reg - 0x10];
    else if (reg >= 0x18 && reg <= 0x1f)
        *val = l->tmr[reg - 0x18];
    else if (reg >= 0x20 && reg <= 0x27)
        *val = l->irr[reg - 0x20];
    else
        switch (reg) {
        case 0x02:
            *val = x2(cpu) ? l->id : l->id << 24;
            break;
        case 0x03:
            *val = VERSION;
            break;
        case 0x08:
            *val = l->tpr;
            break;
        case 0x09: /* APR, RRD: xAPIC only */
        case 0x0c:
            return !x2(cpu);
        case 0x0a:
            *val = ppr(l);
            break;
        case 0x0b:
            return !x2(cpu);
        case 0x0d:
            *val = x2(cpu) ? x86_lapic_ldr_x2(l->id) : l->ldr;
            break;
        case 0x0e:
            *val = l->dfr;
            return !x2(cpu);
        case 0x0f:
            *val = l->svr;
            break;
        case 0x28:
            *val = l->esr;
            break;
        case 0x30:
            *val = (uint32_t)l->icr;
            break;
        case 0x31:
            *val = (uint32_t)(l->icr >> 32);
            return !x2(cpu);
        case 0x38:
            *val = l->timer_icr;
            break;
        case 0x39:
            *val = x86_lapic_timer_count(cpu);
            break;
        case 0x3e:
            *val = l->timer_dcr;
            break;
        default:
            return false;
        }
    return true;
}

static void svr_write(struct x86_cpu *cpu, uint32_t val)
{
    struct x86_lapic *l = &cpu->lapic;

    l->svr = val & 0x3ffU;
    if (!(val & X86_SVR_ENABLE))
        for (unsigned i = 0; i < 7; i++)
            l->lvt[i] |= X86_LVT_MASKED;
    x86_lapic_publish(cpu);
}

static void lvt_write(struct x86_cpu *cpu, unsigned which, uint32_t val)
{
    struct x86_lapic *l = &cpu->lapic;

    val &= lvt_mask[which];
    if (!(l->svr & X86_SVR_ENABLE))
        val |= X86_LVT_MASKED;
    if (which == X86_LVT_TIMER)
        x86_lapic_timer_lvt(cpu, val);
    else
        l->lvt[which] = val;
}

/* Bits that may be written in x2APIC mode, else #GP. */
static uint32_t reg_bits(unsigned reg)
{
    int lvt = lvt_index(reg);

    if (lvt >= 0) /* delivery status and remote IRR may be written as read */
        return lvt_mask[lvt] |
               (lvt == X86_LVT_LINT0 || lvt == X86_LVT_LINT1 ? 0x5000U
                                                             : 0x1000U);
    switch (reg) {
    case 0x08:
        return 0xff;
    case 0x0f:
        return 0x3ff;
    case 0x0b:
    case 0x28:
        return 0;
    case 0x3e:
        return 0xb;
    case 0x3f:
        return 0xff;
    default:
        return ~0U;
    }
}

/* Return: false when there is no such register to write. */
static bool reg_write(struct x86_cpu *cpu, unsigned reg, uint32_t val)
{
    struct x86_lapic *l = &cpu->lapic;
    int lvt = lvt_index(reg);

    if (lvt >= 0) {
        lvt_write(cpu, (unsigned)lvt, val);
        return true;
    }
    switch (reg) {
    case 0x08:
        l->tpr = val & 0xff;
        return true;
    case 0x0b:
        eoi(cpu);
        return true;
    case 0x0d:
        l->ldr = val & 0xff000000U;
        x86_lapic_publish(cpu);
        return !x2(cpu);
    case 0x0e:
        l->dfr = val | 0x0fffffffU;
        x86_lapic_publish(cpu);
        return !x2(cpu);
    case 0x0f:
        svr_write(cpu, val);
        return true;
    case 0x28: /* a write latches what has been collected */
        l->esr = l->esr_pending;
        l->esr_pending = 0;
        return true;
    case 0x30:
        l->icr = (l->icr & ~UINT64_C(0xffffffff)) | (val & ~X86_ICR_PENDING);
        x86_lapic_ipi(cpu, l->icr);
        return true;
    case 0x31:
        l->icr = (l->icr & 0xffffffffU) | (uint64_t)(val & 0xff000000U) << 32;
        return true;
    case 0x38:
        x86_lapic_timer_start(cpu, val);
        return true;
    case 0x3e:
        x86_lapic_timer_divide(cpu, val & 0xb);
        return true;
    case 0x3f:
        if (!x2(cpu))
            return false;
        if (val < 16)
            x86_lapic_error(cpu, X86_ESR_SEND_ILLEGAL);
        else
            x86_lapic_accept(cpu, (uint8_t)val, false);
        return true;
    case 0x02: /* read only: writes vanish in xAPIC mode */
    case 0x03:
        return !x2(cpu);
    default:
        return false;
    }
}

uint64_t x86_lapic_mmio_read(struct x86_cpu *cpu, uint32_t off, unsigned size)
{
    uint32_t val;

    if ((off & 0xf) + size > 4 || off >= 0x400)
        return 0; /* straddles a register, or reserved space */
    if (!reg_read(cpu, off >> 4, &val))
        x86_lapic_error(cpu, X86_ESR_ILLEGAL_REG);
    return val >> (8 * (off & 3)) & (BIT(8 * size) - 1);
}

void x86_lapic_mmio_write(struct x86_cpu *cpu, uint32_t off, uint64_t val,
                          unsigned size)
{
    if ((off & 0xf) || size < 4 || off >= 0x400)
        return; /* undefined by the SDM: ignored */
    if (!reg_write(cpu, off >> 4, (uint32_t)val))
        x86_lapic_error(cpu, X86_ESR_ILLEGAL_REG);
}

static int gp0(struct x86_cpu *cpu)
{
    return x86_raise_err(cpu, X86_VEC_GP, 0);
}

int x86_lapic_msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    unsigned reg = index - 0x800;
    uint32_t v;

    if (!x2(cpu) || reg > 0xff)
        return gp0(cpu);
    if (reg == 0x30) {
        *val = cpu->lapic.icr;
        return 0;
    }
    if (!reg_read(cpu, reg, &v))
        return gp0(cpu);
    *val = v;
    return 0;
}

int x86_lapic_msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t val)
{
    unsigned reg = index - 0x800;

    if (!x2(cpu) || reg > 0xff || reg == 0x31 || reg == 0x0d || reg == 0x0e)
        return gp0(cpu);
    if (reg == 0x30) {
        if (val & UINT64_C(0xfff32000))
            return gp0(cpu);
        cpu->lapic.icr = val & ~(uint64_t)X86_ICR_PENDING;
        x86_lapic_ipi(cpu, cpu->lapic.icr);
        return 0;
    }
    if (val & ~(uint64_t)reg_bits(reg) || !reg_write(cpu, reg, (uint32_t)val))
        return gp0(cpu);
    return 0;
}

/* ---- reset, base, publishing ---- */

void x86_lapic_publish(struct x86_cpu *cpu)
{
    const struct x86_lapic *l = &cpu->lapic;
    uint32_t v = l->ldr & 0xff000000U;

    if ((l->dfr & 0xf0000000U) == 0xf0000000U)
        v |= X86_LOGICAL_FLAT;
    if (x2(cpu))
        v |= X86_LOGICAL_X2;
    if ((l->svr & X86_SVR_ENABLE) && (l->apic_base & X86_APIC_BASE_EN))
        v |= X86_LOGICAL_ENABLED;
    atomic_store(&cpu->topo->logical[cpu->index], v);
}

void x86_lapic_reset(struct x86_cpu *cpu, bool init)
{
    struct x86_lapic *l = &cpu->lapic;
    uint64_t base = l->apic_base;

    x86_lapic_timer_stop(cpu);
    memset(l, 0, sizeof *l);
    l->apic_base = init ? base
                        : X86_LAPIC_BASE_DEFAULT | X86_APIC_BASE_EN |
                              (cpu->index ? 0 : X86_APIC_BASE_BSP);
    l->id = cpu->index;
    l->dfr = 0xffffffffU;
    l->svr = 0xff;
    l->timer_due_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < 7; i++)
        l->lvt[i] = X86_LVT_MASKED;
    for (unsigned w = 0; w < 4; w++)
        atomic_store(&cpu->kick.posted[w], 0);
    kick_clear(&cpu->kick, KICK_POSTED | KICK_TIMER);
    x86_lapic_publish(cpu);
}

int x86_lapic_base_write(struct x86_cpu *cpu, uint64_t val)
{
    uint64_t old = cpu->lapic.apic_base;
    uint64_t mode = X86_APIC_BASE_EN | X86_APIC_BASE_X2;
    uint64_t from = old & mode, to = val & mode;

    if (val & ~(BITS(X86_MAXPHYADDR - 1, 12) | mode | X86_APIC_BASE_BSP))
        return gp0(cpu);
    /* x2APIC needs EN, is entered from xAPIC only and left by disabling
     * (SDM vol. 3A figure 11-27) */
    if (to == X86_APIC_BASE_X2 || (to == mode && from == 0) ||
        (from == mode && to == X86_APIC_BASE_EN))
        return gp0(cpu);
    if (to == 0 && from)
        x86_lapic_reset(cpu, true);
    cpu->lapic.apic_base = val;
    x86_lapic_publish(cpu);
    cpu->lin->flush(cpu->lin_ctx, X86_FLUSH_ALL, gva(0), 0);
    x86_mode_changed(cpu);
    return 0;
}
