// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors, segment checks and loads, the descriptor instructions, I/O
 * rights; see segmentation.h. Far transfers are in far.c, tasks in task.c.
 */
#include "cpu/x86/segmentation.h"

#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"

static bool long_mode(const struct x86_cpu *cpu)
{
    return cpu->efer & X86_EFER_LMA;
}

static bool real_or_v86(const struct x86_cpu *cpu)
{
    return !(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM);
}

/* ---- descriptors ---- */

void x86_desc_parse(uint64_t raw, struct x86_desc *d)
{
    memset(d, 0, sizeof *d);
    d->raw = raw;
    d->base = bits_get(raw, 39, 16) | bits_get(raw, 63, 56) << 24;
    d->limit = (uint32_t)(bits_get(raw, 15, 0) | bits_get(raw, 51, 48) << 16);
    d->attr = (uint32_t)(bits_get(raw, 55, 40) & 0xf0ffU);
    if (d->attr & X86_SEG_G)
        d->limit = d->limit << 12 | 0xfffU;
    d->gate_sel = (uint16_t)bits_get(raw, 31, 16);
    d->gate_off = bits_get(raw, 15, 0) | bits_get(raw, 63, 48) << 16;
    d->gate_param = (uint8_t)bits_get(raw, 36, 32);
}

/* System descriptors that take 16 bytes in long mode. */
static bool is_wide(uint32_t attr)
{
    unsigned type = X86_SEG_TYPE(attr);

    return !(attr & X86_SEG_S) &&
           (type == X86_SYS_LDT || type == X86_SYS_TSS_AVAIL ||
            type == X86_SYS_TSS_BUSY || type == X86_SYS_CALL);
}

int x86_desc_read(struct x86_cpu *cpu, uint16_t sel, uint8_t vec, uint32_t ext,
                  struct x86_desc *d)
{
    bool ldt = sel & 4;
    uint64_t base = ldt ? cpu->ldtr.base : cpu->gdtr.base;
    uint32_t limit = ldt ? cpu->ldtr.limit : cpu->gdtr.limit;
    uint32_t off = sel & 0xfff8U;
    uint32_t err = (sel & 0xfffcU) | ext;
    uint64_t raw, hi;

    if ((ldt && (cpu->ldtr.attr & X86_SEG_UNUSABLE)) || off + 7 > limit)
        return x86_raise_err(cpu, vec, err);
    if (x86_lin_read(cpu, base + off, &raw, 8, X86_LIN_IMPLICIT))
        return X86_FAULT;
    x86_desc_parse(raw, d);
    d->addr = base + off;
    if (!long_mode(cpu) || !is_wide(d->attr))
        return 0;
    if (off + 15 > limit)
        return x86_raise_err(cpu, vec, err);
    if (x86_lin_read(cpu, base + off + 8, &hi, 8, X86_LIN_IMPLICIT))
        return X86_FAULT;
    if (bits_get(hi, 44, 40)) /* upper type bits must be 0 */
        return x86_raise_err(cpu, vec, err);
    d->base |= hi << 32;
    d->gate_off |= hi << 32;
    return 0;
}

int x86_desc_accessed(struct x86_cpu *cpu, struct x86_desc *d)
{
    uint8_t type;

    if (d->attr & X86_TYPE_ACCESSED)
        return 0;
    type = (uint8_t)(d->attr | X86_TYPE_ACCESSED);
    if (x86_lin_write(cpu, d->addr + 5, &type, 1, X86_LIN_IMPLICIT))
        return X86_FAULT;
    d->attr |= X86_TYPE_ACCESSED;
    return 0;
}

void x86_seg_set(struct x86_seg *s, uint16_t sel, const struct x86_desc *d)
{
    s->sel = sel;
    s->base = d->base;
    s->limit = d->limit;
    s->attr = d->attr;
}

/* A null selector: Intel CPUs clear the base too. */
static void seg_set_null(struct x86_seg *s, uint16_t sel, uint8_t dpl)
{
    s->sel = sel;
    s->base = 0;
    s->limit = 0;
    s->attr = (uint32_t)X86_SEG_UNUSABLE | (uint32_t)dpl << 5;
}

void x86_seg_set_real(struct x86_cpu *cpu, enum x86_seg_id seg, uint16_t sel)
{
    struct x86_seg *s = &cpu->seg[seg];

    s->sel = sel;
    s->base = (uint64_t)sel << 4;
    if (cpu->rflags & X86_FL_VM) {
        s->limit = 0xffff;
        s->attr = (uint32_t)(X86_SEG_S | X86_SEG_P) | 3U << 5 | 3U;
    } else {
        /* big limits survive (unreal mode); what was null works again */
        if (s->attr & X86_SEG_UNUSABLE)
            s->limit = 0xffff;
        s->attr = (s->attr & (uint32_t)(X86_SEG_DB | X86_SEG_G)) |
                  (uint32_t)(X86_SEG_S | X86_SEG_P) | 3U;
    }
}

/* ---- effective to linear ---- */

/* [off, off+len) within the limit, expand-down minded. SDM vol. 3A 5.3 */
static bool limit_ok(const struct x86_seg *s, uint64_t off, size_t len,
                     bool typed)
{
    uint64_t last = off + (len ? len - 1 : 0);
    bool down =
        typed && !(s->attr & X86_TYPE_CODE) && (s->attr & X86_TYPE_EXPDOWN);

    if (down)
        return off > s->limit &&
               last <= (s->attr & X86_SEG_DB ? 0xffffffffU : 0xffffU);
    return last <= s->limit && last >= off;
}

static bool type_ok(const struct x86_seg *s, bool write)
{
    if (s->attr & X86_SEG_UNUSABLE)
        return false;
    if (write)
        return (s->attr & (X86_TYPE_CODE | X86_TYPE_RW)) == X86_TYPE_RW;
    return !(s->attr & X86_TYPE_CODE) || (s->attr & X86_TYPE_RW);
}

int x86_seg_check(struct x86_cpu *cpu, enum x86_seg_id seg, uint64_t off,
                  size_t len, bool write, gva_t *lin)
{
    const struct x86_seg *s = &cpu->seg[seg];
    bool typed;

    if (x86_mode(cpu) == X86_MODE_64) {
        if (seg == X86_SEG_FS || seg == X86_SEG_GS)
            off += s->base;
        *lin = gva(off);
        return 0;
    }
    typed = !real_or_v86(cpu);
    if ((typed && !type_ok(s, write)) || !limit_ok(s, off, len, typed))
        return x86_raise_err(cpu, seg == X86_SEG_SS ? X86_VEC_SS : X86_VEC_GP,
                             0);
    *lin = gva((s->base + off) & 0xffffffffU);
    return 0;
}

/* ---- loads ---- */

/* Checks of a stack segment at privilege @cpl (SDM vol. 2B MOV). */
static int ss_check(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl,
                    const struct x86_desc *d)
{
    uint32_t err = sel & 0xfffcU;

    if ((sel & 3) != cpl || !(d->attr & X86_SEG_S) ||
        (d->attr & (X86_TYPE_CODE | X86_TYPE_RW)) != X86_TYPE_RW ||
        X86_SEG_DPL(d->attr) != cpl)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_SS, err);
    return 0;
}

static int data_check(struct x86_cpu *cpu, uint16_t sel,
                      const struct x86_desc *d)
{
    unsigned dpl = X86_SEG_DPL(d->attr), rpl = sel & 3;
    uint32_t err = sel & 0xfffcU;
    bool code = d->attr & X86_TYPE_CODE;
    bool conforming = code && (d->attr & X86_TYPE_CONFORM);

    if (!(d->attr & X86_SEG_S) || (code && !(d->attr & X86_TYPE_RW)))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!conforming && (rpl > dpl || cpu->cpl > dpl))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    return 0;
}

int x86_seg_load(struct x86_cpu *cpu, enum x86_seg_id seg, uint16_t sel)
{
    struct x86_desc d;
    int r;

    if (real_or_v86(cpu)) {
        x86_seg_set_real(cpu, seg, sel);
        x86_mode_changed(cpu);
        return 0;
    }
    if ((sel & 0xfffc) == 0) {
        bool ok = seg != X86_SEG_SS || (x86_mode(cpu) == X86_MODE_64 &&
                                        cpu->cpl < 3 && (sel & 3) == cpu->cpl);

        if (!ok)
            return x86_raise_err(cpu, X86_VEC_GP, 0);
        seg_set_null(&cpu->seg[seg], sel, seg == X86_SEG_SS ? cpu->cpl : 0);
        x86_mode_changed(cpu);
        return 0;
    }
    if (x86_desc_read(cpu, sel, X86_VEC_GP, 0, &d))
        return X86_FAULT;
    r = seg == X86_SEG_SS ? ss_check(cpu, sel, cpu->cpl, &d)
                          : data_check(cpu, sel, &d);
    if (r || x86_desc_accessed(cpu, &d))
        return X86_FAULT;
    x86_seg_set(&cpu->seg[seg], sel, &d);
    x86_mode_changed(cpu);
    return 0;
}

void x86_segs_outer(struct x86_cpu *cpu, uint8_t cpl)
{
    static const uint8_t segs[] = {X86_SEG_ES, X86_SEG_DS, X86_SEG_FS,
                                   X86_SEG_GS};

    for (size_t i = 0; i < ARRAY_LEN(segs); i++) {
        struct x86_seg *s = &cpu->seg[segs[i]];
        bool conforming = (s->attr & (X86_TYPE_CODE | X86_TYPE_CONFORM)) ==
                          (X86_TYPE_CODE | X86_TYPE_CONFORM);

        if ((s->sel & 0xfffc) && !conforming && X86_SEG_DPL(s->attr) < cpl)
            seg_set_null(s, 0, 0);
    }
}

static int system_insn(struct x86_cpu *cpu)
{
    if (real_or_v86(cpu))
        return x86_raise(cpu, X86_VEC_UD);
    if (cpu->cpl != 0)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return 0;
}

int x86_lldt(struct x86_cpu *cpu, uint16_t sel)
{
    uint32_t err = sel & 0xfffcU;
    struct x86_desc d;

    if (system_insn(cpu))
        return X86_FAULT;
    if (!(sel & 0xfffc)) {
        seg_set_null(&cpu->ldtr, sel, 0);
        return 0;
    }
    if (sel & 4)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (x86_desc_read(cpu, sel, X86_VEC_GP, 0, &d))
        return X86_FAULT;
    if ((d.attr & X86_SEG_S) || X86_SEG_TYPE(d.attr) != X86_SYS_LDT)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(d.attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (long_mode(cpu) && !x86_canonical(d.base))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    x86_seg_set(&cpu->ldtr, sel, &d);
    return 0;
}

int x86_ltr(struct x86_cpu *cpu, uint16_t sel)
{
    uint32_t err = sel & 0xfffcU;
    struct x86_desc d;
    unsigned type;
    uint8_t busy;

    if (system_insn(cpu))
        return X86_FAULT;
    if (!(sel & 0xfffc))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (sel & 4)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (x86_desc_read(cpu, sel, X86_VEC_GP, 0, &d))
        return X86_FAULT;
    type = X86_SEG_TYPE(d.attr);
    if ((d.attr & X86_SEG_S) ||
        (type != X86_SYS_TSS_AVAIL &&
         (type != X86_SYS_TSS16_AVAIL || long_mode(cpu))))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(d.attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (long_mode(cpu) && !x86_canonical(d.base))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    busy = (uint8_t)(d.attr | 2U);
    if (x86_lin_write(cpu, d.addr + 5, &busy, 1, X86_LIN_IMPLICIT))
        return X86_FAULT;
    d.attr |= 2U;
    x86_seg_set(&cpu->tr, sel, &d);
    return 0;
}

/* ---- LAR, LSL, VERR, VERW ---- */

/* The descriptor of @sel as these instructions look at it: *ok false instead
 * of #GP. */
static int desc_look(struct x86_cpu *cpu, uint16_t sel, struct x86_desc *d,
                     bool *ok)
{
    struct x86_exc before = cpu->exc;

    *ok = false;
    if (!(sel & 0xfffc))
        return 0;
    if (x86_desc_read(cpu, sel, X86_VEC_GP, 0, d)) {
        /* outside the table: not an exception here */
        if (cpu->exc.vector == X86_VEC_GP &&
            cpu->exc.error == (sel & 0xfffcU)) {
            cpu->exc = before;
            return 0;
        }
        return X86_FAULT;
    }
    *ok = true;
    return 0;
}

static bool visible(const struct x86_cpu *cpu, uint16_t sel,
                    const struct x86_desc *d)
{
    unsigned dpl = X86_SEG_DPL(d->attr);

    if ((d->attr & X86_SEG_S) &&
        (d->attr & (X86_TYPE_CODE | X86_TYPE_CONFORM)) ==
            (X86_TYPE_CODE | X86_TYPE_CONFORM))
        return true;
    return dpl >= cpu->cpl && dpl >= (sel & 3U);
}

/* System types that LAR and LSL accept (SDM vol. 2A tables 3-52, 3-64). */
static bool system_type_ok(const struct x86_cpu *cpu, unsigned type, bool lsl)
{
    switch (type) {
    case X86_SYS_LDT:
    case X86_SYS_TSS_AVAIL:
    case X86_SYS_TSS_BUSY:
        return true;
    case X86_SYS_TSS16_AVAIL:
    case X86_SYS_TSS16_BUSY:
        return !long_mode(cpu);
    case X86_SYS_CALL:
        return !lsl;
    case X86_SYS_CALL16:
    case X86_SYS_TASK:
        return !lsl && !long_mode(cpu);
    default:
        return false;
    }
}

int x86_lar(struct x86_cpu *cpu, uint16_t sel, uint32_t *out, bool *ok)
{
    struct x86_desc d;

    if (desc_look(cpu, sel, &d, ok))
        return X86_FAULT;
    if (!*ok)
        return 0;
    *ok = visible(cpu, sel, &d) &&
          ((d.attr & X86_SEG_S) ||
           system_type_ok(cpu, X86_SEG_TYPE(d.attr), false));
    if (*ok)
        *out = (uint32_t)(d.raw >> 32) & 0x00ffff00U;
    return 0;
}

int x86_lsl(struct x86_cpu *cpu, uint16_t sel, uint32_t *out, bool *ok)
{
    struct x86_desc d;

    if (desc_look(cpu, sel, &d, ok))
        return X86_FAULT;
    if (!*ok)
        return 0;
    *ok = visible(cpu, sel, &d) &&
          ((d.attr & X86_SEG_S) ||
           system_type_ok(cpu, X86_SEG_TYPE(d.attr), true));
    if (*ok)
        *out = d.limit;
    return 0;
}

int x86_verx(struct x86_cpu *cpu, uint16_t sel, bool write, bool *ok)
{
    struct x86_desc d;
    bool code;

    if (desc_look(cpu, sel, &d, ok))
        return X86_FAULT;
    if (!*ok)
        return 0;
    code = d.attr & X86_TYPE_CODE;
    *ok = (d.attr & X86_SEG_S) && visible(cpu, sel, &d) &&
          (write ? !code && (d.attr & X86_TYPE_RW)
                 : !code || (d.attr & X86_TYPE_RW));
    return 0;
}

/* ---- I/O rights ---- */

int x86_io_check(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    uint16_t map, bits;
    uint64_t at;

    if (!(cpu->cr0 & X86_CR0_PE))
        return 0;
    if (!(cpu->rflags & X86_FL_VM) && cpu->cpl <= bits_get(cpu->rflags, 13, 12))
        return 0;
    if ((cpu->tr.attr & X86_SEG_UNUSABLE) ||
        !(X86_SEG_TYPE(cpu->tr.attr) & 8U) || cpu->tr.limit < 103)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (x86_lin_read(cpu, cpu->tr.base + 102, &map, 2, X86_LIN_IMPLICIT))
        return X86_FAULT;
    at = (uint64_t)map + port / 8;
    if (at + 1 > cpu->tr.limit)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (x86_lin_read(cpu, cpu->tr.base + at, &bits, 2, X86_LIN_IMPLICIT))
        return X86_FAULT;
    if (bits >> (port & 7) & ((1U << size) - 1))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return 0;
}
