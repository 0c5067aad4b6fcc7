// SPDX-License-Identifier: Apache-2.0
/* Stacks of control transfers; see stack.h. */
#include "cpu/x86/stack.h"

#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"

static uint64_t sp_mask(const struct x86_stack *st)
{
    if (st->wide)
        return ~UINT64_C(0);
    return st->ss.attr & X86_SEG_DB ? 0xffffffffU : 0xffffU;
}

static unsigned lin_flags(const struct x86_stack *st)
{
    return X86_LIN_STACK |
           (st->cpl == 3 ? X86_LIN_USER : X86_LIN_IMPLICIT | X86_LIN_SUPER);
}

void x86_stack_now(const struct x86_cpu *cpu, struct x86_stack *st)
{
    *st = (struct x86_stack){.ss = cpu->seg[X86_SEG_SS],
                             .sp = cpu->gpr[X86_RSP],
                             .wide = x86_mode(cpu) == X86_MODE_64,
                             .cpl = cpu->cpl};
}

/* The linear address of [off, off+len) on @st, or #SS(st->error). */
static int stack_lin(struct x86_cpu *cpu, const struct x86_stack *st,
                     uint64_t off, size_t len, uint64_t *lin)
{
    uint64_t last = off + len - 1;
    bool ok;

    if (st->wide) {
        *lin = off;
        /* the access itself raises #SS(0) for a later byte, after #AC */
        ok = x86_canonical(off) && (!st->error || x86_canonical(last));
    } else {
        *lin = (st->ss.base + off) & 0xffffffffU;
        if (st->ss.attr & X86_TYPE_EXPDOWN)
            ok = off > st->ss.limit && last <= sp_mask(st);
        else
            ok = last <= st->ss.limit;
        ok = ok && !(st->ss.attr & X86_SEG_UNUSABLE);
    }
    return ok ? 0 : x86_raise_err(cpu, X86_VEC_SS, st->error);
}

/* A 16- or 32-bit stack pointer wraps inside the frame: two parts. */
static size_t part_bytes(const struct x86_stack *st, uint64_t off, size_t len)
{
    uint64_t room = sp_mask(st) - off;

    return room < len - 1 ? (size_t)room + 1 : len;
}

int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *st,
                   const struct x86_frame *f)
{
    size_t len = (size_t)f->n * f->bytes, first;
    uint64_t sp = (st->sp - len) & sp_mask(st), lin, lin2 = 0;
    uint8_t buf[X86_FRAME_MAX * 8];
    unsigned flags = lin_flags(st);

    for (unsigned i = 0; i < f->n; i++)
        memcpy(buf + len - (size_t)(i + 1) * f->bytes, &f->v[i], f->bytes);
    first = part_bytes(st, sp, len);
    if (stack_lin(cpu, st, sp, first, &lin))
        return X86_FAULT;
    if (first < len) {
        if (stack_lin(cpu, st, 0, len - first, &lin2) ||
            x86_lin_probe(cpu, lin, first, flags | X86_LIN_WRITE) ||
            x86_lin_write(cpu, lin2, buf + first, len - first,
                          flags | X86_LIN_WRITE))
            return X86_FAULT;
    }
    if (x86_lin_write(cpu, lin, buf, first, flags | X86_LIN_WRITE))
        return X86_FAULT;
    st->sp = (st->sp & ~sp_mask(st)) | sp;
    return 0;
}

int x86_stack_pop(struct x86_cpu *cpu, struct x86_stack *st, unsigned n,
                  unsigned bytes, uint64_t *v)
{
    size_t len = (size_t)n * bytes, first;
    uint64_t sp = st->sp & sp_mask(st), lin;
    uint8_t buf[X86_FRAME_MAX * 8];

    first = st->wide ? len : part_bytes(st, sp, len);
    if (stack_lin(cpu, st, sp, first, &lin) ||
        x86_lin_read(cpu, lin, buf, first, lin_flags(st)))
        return X86_FAULT;
    if (first < len &&
        (stack_lin(cpu, st, 0, len - first, &lin) ||
         x86_lin_read(cpu, lin, buf + first, len - first, lin_flags(st))))
        return X86_FAULT;
    for (unsigned i = 0; i < n; i++) {
        v[i] = 0;
        memcpy(&v[i], buf + (size_t)i * bytes, bytes);
    }
    st->sp = (st->sp & ~sp_mask(st)) | ((sp + len) & sp_mask(st));
    return 0;
}

int x86_stack_peek(struct x86_cpu *cpu, const struct x86_stack *st,
                   unsigned off, unsigned bytes, uint64_t *v)
{
    struct x86_stack at = *st;

    at.sp = (st->sp & ~sp_mask(st)) | ((st->sp + off) & sp_mask(st));
    return x86_stack_pop(cpu, &at, 1, bytes, v);
}

void x86_stack_drop(struct x86_stack *st, unsigned bytes)
{
    st->sp = (st->sp & ~sp_mask(st)) | ((st->sp + bytes) & sp_mask(st));
}

uint64_t x86_stack_sp(const struct x86_cpu *cpu, const struct x86_stack *st)
{
    uint64_t mask = sp_mask(st);

    if (mask == 0xffffU)
        return (cpu->gpr[X86_RSP] & ~mask) | (st->sp & mask);
    return st->sp & mask;
}

int x86_stack_slot64(struct x86_cpu *cpu, unsigned slot, uint32_t ext,
                     uint64_t *rsp)
{
    uint32_t off = slot < 3 ? 4 + 8 * slot : 0x24 + 8 * (slot - 4);

    if ((cpu->tr.attr & X86_SEG_UNUSABLE) || off + 7 > cpu->tr.limit)
        return x86_raise_err(cpu, X86_VEC_TS, (cpu->tr.sel & 0xfffcU) | ext);
    return x86_lin_read(cpu, cpu->tr.base + off, rsp, 8, X86_LIN_IMPLICIT);
}

int x86_ss_fetch(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl, uint8_t vec,
                 uint32_t ext, struct x86_desc *d)
{
    uint32_t err = (sel & 0xfffcU) | ext;

    if (!(sel & 0xfffc))
        return x86_raise_err(cpu, vec, ext);
    if (x86_desc_read(cpu, sel, vec, ext, d))
        return X86_FAULT;
    if ((sel & 3) != cpl || !(d->attr & X86_SEG_S) ||
        (d->attr & (X86_TYPE_CODE | X86_TYPE_RW)) != X86_TYPE_RW ||
        X86_SEG_DPL(d->attr) != cpl)
        return x86_raise_err(cpu, vec, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_SS, err);
    return x86_desc_accessed(cpu, d);
}

int x86_stack_inner(struct x86_cpu *cpu, uint8_t cpl, uint32_t ext,
                    struct x86_stack *st)
{
    bool tss32 = X86_SEG_TYPE(cpu->tr.attr) & 8U;
    uint32_t off = tss32 ? 4 + 8U * cpl : 2 + 4U * cpl;
    unsigned n = tss32 ? 4 : 2;
    uint32_t esp = 0;
    uint16_t sel = 0;
    struct x86_desc d;

    if ((cpu->tr.attr & X86_SEG_UNUSABLE) || off + n + 1 > cpu->tr.limit)
        return x86_raise_err(cpu, X86_VEC_TS, (cpu->tr.sel & 0xfffcU) | ext);
    if (x86_lin_read(cpu, cpu->tr.base + off, &esp, n, X86_LIN_IMPLICIT) ||
        x86_lin_read(cpu, cpu->tr.base + off + n, &sel, 2, X86_LIN_IMPLICIT) ||
        x86_ss_fetch(cpu, sel, cpl, X86_VEC_TS, ext, &d))
        return X86_FAULT;
    *st = (struct x86_stack){
        .sp = esp, .cpl = cpl, .error = (sel & 0xfffcU) | ext};
    x86_seg_set(&st->ss, sel, &d);
    return 0;
}

/* ---- segment registers of control transfers ---- */

void x86_cs_set(struct x86_cpu *cpu, uint16_t sel, const struct x86_desc *d,
                uint8_t cpl)
{
    x86_seg_set(&cpu->seg[X86_SEG_CS], (uint16_t)((sel & 0xfffcU) | cpl), d);
    cpu->cpl = cpl;
    x86_mode_changed(cpu);
}

uint64_t x86_ip_cut(const struct x86_cpu *cpu, const struct x86_desc *d,
                    uint64_t off)
{
    bool wide = (cpu->efer & X86_EFER_LMA) && (d->attr & X86_SEG_L);

    return wide ? off : (uint32_t)off;
}

int x86_ip_check(struct x86_cpu *cpu, const struct x86_desc *d, uint64_t off,
                 uint32_t error)
{
    bool wide = (cpu->efer & X86_EFER_LMA) && (d->attr & X86_SEG_L);

    if (wide ? x86_canonical(off) : (uint32_t)off <= d->limit)
        return 0;
    return x86_raise_err(cpu, X86_VEC_GP, error);
}

void x86_cs_flat(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl, bool wide)
{
    uint64_t size = wide ? X86_SEG_L : X86_SEG_DB;

    cpu->seg[X86_SEG_CS] = (struct x86_seg){
        .sel = (uint16_t)((sel & 0xfffcU) | cpl),
        .limit = 0xffffffffU,
        .attr = (uint32_t)(X86_SEG_S | X86_SEG_P | X86_SEG_G | size) | 11U |
                (uint32_t)cpl << 5};
    cpu->cpl = cpl;
}

void x86_ss_flat(struct x86_cpu *cpu, uint16_t sel, uint8_t cpl)
{
    cpu->seg[X86_SEG_SS] = (struct x86_seg){
        .sel = (uint16_t)((sel & 0xfffcU) | cpl),
        .limit = 0xffffffffU,
        .attr = (uint32_t)(X86_SEG_S | X86_SEG_P | X86_SEG_G | X86_SEG_DB) |
                3U | (uint32_t)cpl << 5};
}

void x86_ss_null(struct x86_seg *ss, uint8_t cpl)
{
    *ss = (struct x86_seg){
        .sel = cpl, .attr = (uint32_t)X86_SEG_UNUSABLE | (uint32_t)cpl << 5};
}

/* ---- where RETF and IRET go back to ---- */

int x86_ret_code(struct x86_cpu *cpu, uint16_t sel, struct x86_desc *d)
{
    uint32_t err = sel & 0xfffcU;
    unsigned rpl = sel & 3U, dpl;

    if (!err)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    if (x86_desc_read(cpu, sel, X86_VEC_GP, 0, d))
        return X86_FAULT;
    dpl = X86_SEG_DPL(d->attr);
    if (!(d->attr & X86_SEG_S) || !(d->attr & X86_TYPE_CODE) ||
        rpl < cpu->cpl || (d->attr & X86_TYPE_CONFORM ? dpl > rpl : dpl != rpl))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if ((cpu->efer & X86_EFER_LMA) && (d->attr & X86_SEG_L) &&
        (d->attr & X86_SEG_DB))
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    return x86_desc_accessed(cpu, d);
}

int x86_ret_stack(struct x86_cpu *cpu, struct x86_stack *st, unsigned bytes,
                  const struct x86_desc *cs, uint8_t cpl)
{
    bool to64 = (cpu->efer & X86_EFER_LMA) && (cs->attr & X86_SEG_L);
    struct x86_desc d;
    uint64_t v[2]; /* rSP, SS */
    uint16_t sel;

    if (x86_stack_peek(cpu, st, bytes, 2, &v[1]) ||
        x86_stack_peek(cpu, st, 0, bytes, &v[0]))
        return X86_FAULT;
    sel = (uint16_t)v[1];
    if (!(sel & 0xfffc) && to64 && cpl != 3 && (sel & 3U) == cpl) {
        x86_ss_null(&st->ss, cpl);
    } else {
        if (x86_ss_fetch(cpu, sel, cpl, X86_VEC_GP, 0, &d))
            return X86_FAULT;
        x86_seg_set(&st->ss, sel, &d);
    }
    st->sp = v[0];
    st->wide = to64;
    return 0;
}
