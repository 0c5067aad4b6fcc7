// SPDX-License-Identifier: Apache-2.0
/*
 * Far JMP, CALL and RET in all modes, call gates included; segmentation.h.
 * Source: Intel SDM vol. 2A CALL, JMP, vol. 2B RET; vol. 3A 5.8.
 */
#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/stack.h"
#include "cpu/x86/task.h"

struct far {
    uint16_t sel;
    uint64_t off;
    unsigned opsize;
    uint64_t next_rip;
    bool call;
};

static int gp(struct x86_cpu *cpu, uint32_t error)
{
    return x86_raise_err(cpu, X86_VEC_GP, error);
}

static bool long_mode(const struct x86_cpu *cpu)
{
    return cpu->efer & X86_EFER_LMA;
}

static bool real_or_v86(const struct x86_cpu *cpu)
{
    return !(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM);
}

static uint64_t cut(uint64_t v, unsigned bytes)
{
    return bytes == 8 ? v : v & (BIT(8 * bytes) - 1);
}

static int far_real(struct x86_cpu *cpu, const struct far *f)
{
    uint64_t off = cut(f->off, f->opsize);
    struct x86_stack st;
    struct x86_frame fr = {.bytes = f->opsize};

    if (off > cpu->seg[X86_SEG_CS].limit)
        return gp(cpu, 0);
    if (f->call) {
        x86_stack_now(cpu, &st);
        x86_frame_add(&fr, cpu->seg[X86_SEG_CS].sel);
        x86_frame_add(&fr, f->next_rip);
        if (x86_stack_push(cpu, &st, &fr))
            return X86_FAULT;
        cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    }
    x86_seg_set_real(cpu, X86_SEG_CS, f->sel);
    cpu->rip = off;
    x86_mode_changed(cpu);
    return 0;
}

/* Straight to a code segment: CPL stays. */
static int far_code(struct x86_cpu *cpu, const struct far *f,
                    struct x86_desc *d)
{
    uint32_t err = f->sel & 0xfffcU;
    unsigned dpl = X86_SEG_DPL(d->attr);
    uint64_t off = cut(f->off, f->opsize);
    struct x86_stack st;
    struct x86_frame cs = {.bytes = f->opsize}, ip = {.bytes = f->opsize};

    if (d->attr & X86_TYPE_CONFORM
            ? dpl > cpu->cpl
            : (f->sel & 3U) > cpu->cpl || dpl != cpu->cpl)
        return gp(cpu, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (long_mode(cpu) && (d->attr & X86_SEG_L) && (d->attr & X86_SEG_DB))
        return gp(cpu, err);
    if ((!long_mode(cpu) && x86_ip_check(cpu, d, off, 0)) ||
        x86_desc_accessed(cpu, d))
        return X86_FAULT;
    if (f->call) {
        x86_stack_now(cpu, &st);
        if (long_mode(cpu)) /* the stack is as wide as the new code */
            st.wide = d->attr & X86_SEG_L;
        x86_frame_add(&cs, cpu->seg[X86_SEG_CS].sel);
        x86_frame_add(&ip, f->next_rip);
        if (x86_stack_push(cpu, &st, &cs) || x86_stack_push(cpu, &st, &ip))
            return X86_FAULT;
    }
    /* in long mode after the pushes (observed on Intel) */
    if (x86_ip_check(cpu, d, off, 0))
        return X86_FAULT;
    if (f->call)
        cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    x86_cs_set(cpu, f->sel, d, cpu->cpl);
    cpu->rip = x86_ip_cut(cpu, d, off);
    return 0;
}

/* The code segment that a call gate names. *cpl: the privilege it runs at. */
static int gate_code(struct x86_cpu *cpu, const struct far *f,
                     const struct x86_desc *gate, struct x86_desc *d,
                     uint8_t *cpl)
{
    uint32_t err = gate->gate_sel & 0xfffcU;
    bool conforming;
    unsigned dpl;

    if (!err)
        return gp(cpu, 0);
    if (x86_desc_read(cpu, gate->gate_sel, X86_VEC_GP, 0, d))
        return X86_FAULT;
    dpl = X86_SEG_DPL(d->attr);
    conforming = d->attr & X86_TYPE_CONFORM;
    if (!(d->attr & X86_SEG_S) || !(d->attr & X86_TYPE_CODE) || dpl > cpu->cpl)
        return gp(cpu, err);
    if (long_mode(cpu) && (d->attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
        return gp(cpu, err);
    if (!f->call && !conforming && dpl != cpu->cpl)
        return gp(cpu, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    *cpl = conforming ? cpu->cpl : (uint8_t)dpl;
    return x86_desc_accessed(cpu, d);
}

/* The stack and frame of a call through a gate to inner privilege @cpl. */
static int gate_inner(struct x86_cpu *cpu, const struct x86_desc *gate,
                      uint8_t cpl, struct x86_stack *st, struct x86_frame *fr)
{
    struct x86_stack old;
    uint64_t params[32];
    unsigned n = gate->gate_param;

    x86_frame_add(fr, cpu->seg[X86_SEG_SS].sel);
    x86_frame_add(fr, cpu->gpr[X86_RSP]);
    if (long_mode(cpu)) {
        *st = (struct x86_stack){.wide = true, .cpl = cpl};
        x86_ss_null(&st->ss, cpl);
        return x86_stack_slot64(cpu, cpl, 0, &st->sp);
    }
    if (x86_stack_inner(cpu, cpl, 0, st))
        return X86_FAULT;
    x86_stack_now(cpu, &old);
    if (n && x86_stack_pop(cpu, &old, n, fr->bytes, params))
        return X86_FAULT;
    while (n)
        x86_frame_add(fr, params[--n]);
    return 0;
}

static int far_gate(struct x86_cpu *cpu, const struct far *f,
                    const struct x86_desc *gate)
{
    bool narrow = X86_SEG_TYPE(gate->attr) == X86_SYS_CALL16;
    uint64_t off = narrow ? gate->gate_off & 0xffff : gate->gate_off;
    uint32_t err = f->sel & 0xfffcU;
    struct x86_frame fr = {.bytes = narrow ? 2 : long_mode(cpu) ? 8 : 4};
    struct x86_stack st;
    struct x86_desc d;
    uint8_t cpl;

    if (X86_SEG_DPL(gate->attr) < cpu->cpl ||
        (f->sel & 3U) > X86_SEG_DPL(gate->attr))
        return gp(cpu, err);
    if (!(gate->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (gate_code(cpu, f, gate, &d, &cpl) || x86_ip_check(cpu, &d, off, 0))
        return X86_FAULT;
    if (f->call) {
        bool inner = cpl < cpu->cpl;

        x86_stack_now(cpu, &st);
        if (long_mode(cpu))
            st.wide = true;
        if (inner && gate_inner(cpu, gate, cpl, &st, &fr))
            return X86_FAULT;
        x86_frame_add(&fr, cpu->seg[X86_SEG_CS].sel);
        x86_frame_add(&fr, f->next_rip);
        if (x86_stack_push(cpu, &st, &fr))
            return X86_FAULT;
        cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
        if (inner)
            cpu->seg[X86_SEG_SS] = st.ss;
    }
    x86_cs_set(cpu, gate->gate_sel, &d, cpl);
    cpu->rip = off;
    return 0;
}

static int far_task(struct x86_cpu *cpu, const struct far *f,
                    const struct x86_desc *d)
{
    uint32_t err = f->sel & 0xfffcU;
    struct x86_task_switch ts = {.why = f->call ? X86_TASK_CALL : X86_TASK_JMP,
                                 .sel = f->sel,
                                 .next_rip = f->next_rip};

    if (long_mode(cpu) || X86_SEG_DPL(d->attr) < cpu->cpl ||
        (f->sel & 3U) > X86_SEG_DPL(d->attr))
        return gp(cpu, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (X86_SEG_TYPE(d->attr) == X86_SYS_TASK)
        ts.sel = d->gate_sel;
    return x86_task_switch(cpu, &ts);
}

static int far_go(struct x86_cpu *cpu, const struct far *f)
{
    struct x86_desc d;

    if (real_or_v86(cpu))
        return far_real(cpu, f);
    if (!(f->sel & 0xfffc))
        return gp(cpu, 0);
    if (x86_desc_read(cpu, f->sel, X86_VEC_GP, 0, &d))
        return X86_FAULT;
    if (d.attr & X86_SEG_S) {
        if (!(d.attr & X86_TYPE_CODE))
            return gp(cpu, f->sel & 0xfffcU);
        return far_code(cpu, f, &d);
    }
    switch (X86_SEG_TYPE(d.attr)) {
    case X86_SYS_CALL16:
        if (long_mode(cpu))
            break;
        return far_gate(cpu, f, &d);
    case X86_SYS_CALL:
        return far_gate(cpu, f, &d);
    case X86_SYS_TASK:
    case X86_SYS_TSS_AVAIL:
    case X86_SYS_TSS16_AVAIL:
        return far_task(cpu, f, &d);
    default:
        break;
    }
    return gp(cpu, f->sel & 0xfffcU);
}

int x86_far_jmp(struct x86_cpu *cpu, uint16_t sel, uint64_t off,
                unsigned opsize, uint64_t next_rip)
{
    struct far f = {
        .sel = sel, .off = off, .opsize = opsize, .next_rip = next_rip};

    return far_go(cpu, &f);
}

int x86_far_call(struct x86_cpu *cpu, uint16_t sel, uint64_t off,
                 unsigned opsize, uint64_t next_rip)
{
    struct far f = {.sel = sel,
                    .off = off,
                    .opsize = opsize,
                    .next_rip = next_rip,
                    .call = true};

    return far_go(cpu, &f);
}

/* ---- RETF ---- */

int x86_far_ret(struct x86_cpu *cpu, unsigned opsize, uint16_t pop_bytes)
{
    struct x86_stack st;
    struct x86_desc d;
    uint64_t v[2]; /* rIP, CS */
    uint16_t sel;
    bool outer;

    x86_stack_now(cpu, &st);
    if (x86_stack_peek(cpu, &st, opsize, 2, &v[1]) ||
        x86_stack_peek(cpu, &st, 0, opsize, &v[0]))
        return X86_FAULT;
    x86_stack_drop(&st, 2 * opsize);
    sel = (uint16_t)v[1];
    if (real_or_v86(cpu)) {
        if (v[0] > cpu->seg[X86_SEG_CS].limit)
            return gp(cpu, 0);
        st.sp += pop_bytes;
        cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
        x86_seg_set_real(cpu, X86_SEG_CS, sel);
        cpu->rip = v[0];
        x86_mode_changed(cpu);
        return 0;
    }
    if (x86_ret_code(cpu, sel, &d))
        return X86_FAULT;
    outer = (sel & 3U) > cpu->cpl;
    st.sp += pop_bytes;
    if ((outer && x86_ret_stack(cpu, &st, opsize, &d, sel & 3U)) ||
        x86_ip_check(cpu, &d, v[0], 0))
        return X86_FAULT;
    if (outer) {
        st.sp += pop_bytes;
        cpu->seg[X86_SEG_SS] = st.ss;
        x86_segs_outer(cpu, sel & 3U);
    }
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    x86_cs_set(cpu, sel, &d, sel & 3U);
    cpu->rip = x86_ip_cut(cpu, &d, v[0]);
    return 0;
}
