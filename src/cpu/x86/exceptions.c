// SPDX-License-Identifier: Apache-2.0
/*
 * Raising and delivering events through the IDT; see exceptions.h.
 * One attempt (deliver_once) changes nothing when it faults; x86_deliver
 * combines what fails into #DF and shutdown. Source: Intel SDM vol. 3A ch. 6,
 * vol. 2A "INT n/INTO/INT3/INT1".
 */
#include "cpu/x86/exceptions.h"

#include "cpu/x86/control.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/stack.h"
#include "cpu/x86/task.h"

/* An event on its way through the IDT. */
struct delivery {
    uint8_t vector;
    bool soft; /* INT n, INT3, INTO: the gate's DPL counts */
    bool has_error;
    uint32_t error;
    uint32_t ext;    /* EXT bit for faults on the way */
    uint64_t rip;    /* pushed */
    uint64_t rflags; /* pushed */
};

#define ERR_IDT 2U

/* Vectors that push an error code (SDM vol. 3A table 6-1). */
#define HAS_ERROR                                                              \
    (BIT(X86_VEC_DF) | BIT(X86_VEC_TS) | BIT(X86_VEC_NP) | BIT(X86_VEC_SS) |   \
     BIT(X86_VEC_GP) | BIT(X86_VEC_PF) | BIT(X86_VEC_AC))

/* ---- raising ---- */

int x86_raise_err(struct x86_cpu *cpu, uint8_t vector, uint32_t error)
{
    cpu->exc =
        (struct x86_exc){.vector = vector, .has_error = true, .error = error};
    return X86_FAULT;
}

int x86_raise(struct x86_cpu *cpu, uint8_t vector)
{
    cpu->exc =
        (struct x86_exc){.vector = vector,
                         .has_error = vector < 32 && (HAS_ERROR >> vector & 1)};
    return X86_FAULT;
}

int x86_raise_pf(struct x86_cpu *cpu, gva_t va, uint32_t error)
{
    cpu->exc = (struct x86_exc){
        .vector = X86_VEC_PF, .has_error = true, .error = error, .cr2 = va.v};
    return X86_FAULT;
}

int x86_raise_db(struct x86_cpu *cpu, uint64_t dr6_bits)
{
    cpu->exc = (struct x86_exc){.vector = X86_VEC_DB, .dr6 = dr6_bits};
    return X86_FAULT;
}

/* ---- one attempt ---- */

static int gp_idt(struct x86_cpu *cpu, const struct delivery *d, uint8_t vec)
{
    return x86_raise_err(cpu, vec, d->vector * 8U + ERR_IDT + d->ext);
}

static int deliver_real(struct x86_cpu *cpu, const struct delivery *d)
{
    uint32_t off = d->vector * 4U;
    struct x86_stack st;
    struct x86_frame fr = {.bytes = 2};
    uint16_t to[2]; /* IP, CS */

    if (off + 3 > cpu->idtr.limit)
        return gp_idt(cpu, d, X86_VEC_GP);
    if (x86_lin_read(cpu, cpu->idtr.base + off, to, 4, X86_LIN_IMPLICIT))
        return X86_FAULT;
    x86_stack_now(cpu, &st);
    x86_frame_add(&fr, d->rflags);
    x86_frame_add(&fr, cpu->seg[X86_SEG_CS].sel);
    x86_frame_add(&fr, d->rip);
    if (x86_stack_push(cpu, &st, &fr))
        return X86_FAULT;
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    x86_seg_set_real(cpu, X86_SEG_CS, to[1]);
    cpu->rip = to[0];
    cpu->rflags &= ~(X86_FL_IF | X86_FL_TF | X86_FL_AC | X86_FL_RF);
    x86_mode_changed(cpu);
    return 0;
}

/* The gate of the event's vector, checked but for its target. *ist: long
 * mode's stack table index. */
static int gate_read(struct x86_cpu *cpu, const struct delivery *d,
                     struct x86_desc *gate, unsigned *ist)
{
    bool lm = cpu->efer & X86_EFER_LMA;
    unsigned bytes = lm ? 16 : 8, type;
    uint64_t raw[2] = {0};

    if (d->vector * bytes + bytes - 1 > cpu->idtr.limit)
        return gp_idt(cpu, d, X86_VEC_GP);
    if (x86_lin_read(cpu, cpu->idtr.base + d->vector * bytes, raw, bytes,
                     X86_LIN_IMPLICIT))
        return X86_FAULT;
    x86_desc_parse(raw[0], gate);
    gate->gate_off |= raw[1] << 32;
    *ist = lm ? gate->gate_param & 7 : 0;
    type = X86_SEG_TYPE(gate->attr);
    if ((gate->attr & X86_SEG_S) ||
        !(type == X86_SYS_INT || type == X86_SYS_TRAP ||
          (!lm && (type == X86_SYS_INT16 || type == X86_SYS_TRAP16 ||
                   type == X86_SYS_TASK))))
        return gp_idt(cpu, d, X86_VEC_GP);
    if (d->soft && X86_SEG_DPL(gate->attr) < cpu->cpl)
        return gp_idt(cpu, d, X86_VEC_GP);
    if (!(gate->attr & X86_SEG_P))
        return gp_idt(cpu, d, X86_VEC_NP);
    return 0;
}

/* The gate's code segment. *cpl: the privilege that the handler runs at. */
static int gate_target(struct x86_cpu *cpu, const struct delivery *d,
                       const struct x86_desc *gate, struct x86_desc *cs,
                       uint8_t *cpl)
{
    uint32_t err = (gate->gate_sel & 0xfffcU) | d->ext;
    bool v86 = cpu->rflags & X86_FL_VM;
    unsigned dpl;

    if (!(gate->gate_sel & 0xfffc))
        return x86_raise_err(cpu, X86_VEC_GP, d->ext);
    if (x86_desc_read(cpu, gate->gate_sel, X86_VEC_GP, d->ext, cs))
        return X86_FAULT;
    dpl = X86_SEG_DPL(cs->attr);
    if (!(cs->attr & X86_SEG_S) || !(cs->attr & X86_TYPE_CODE) ||
        dpl > cpu->cpl)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if ((cpu->efer & X86_EFER_LMA) &&
        (cs->attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    if (!(cs->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    *cpl = cs->attr & X86_TYPE_CONFORM ? cpu->cpl : (uint8_t)dpl;
    if (v86 && *cpl != 0)
        return x86_raise_err(cpu, X86_VEC_GP, err);
    return x86_desc_accessed(cpu, cs);
}

/* Where an event's frame goes: rSP0-2, an IST slot, or the running stack. */
static int frame_stack(struct x86_cpu *cpu, const struct delivery *d,
                       uint8_t cpl, unsigned ist, struct x86_stack *st)
{
    if (!(cpu->efer & X86_EFER_LMA)) {
        if (cpl < cpu->cpl)
            return x86_stack_inner(cpu, cpl, d->ext, st);
        x86_stack_now(cpu, st);
        st->error = d->ext;
        return 0;
    }
    x86_stack_now(cpu, st);
    st->wide = true;
    st->cpl = cpl;
    st->error = d->ext;
    if (cpl < cpu->cpl)
        x86_ss_null(&st->ss, cpl);
    if (ist || cpl < cpu->cpl) {
        if (x86_stack_slot64(cpu, ist ? 3 + ist : cpl, d->ext, &st->sp))
            return X86_FAULT;
    }
    st->sp &= ~UINT64_C(15);
    return 0;
}

static void frame_fill(const struct x86_cpu *cpu, const struct delivery *d,
                       bool with_stack, struct x86_frame *fr)
{
    if (cpu->rflags & X86_FL_VM) {
        x86_frame_add(fr, cpu->seg[X86_SEG_GS].sel);
        x86_frame_add(fr, cpu->seg[X86_SEG_FS].sel);
        x86_frame_add(fr, cpu->seg[X86_SEG_DS].sel);
        x86_frame_add(fr, cpu->seg[X86_SEG_ES].sel);
    }
    if (with_stack) {
        x86_frame_add(fr, cpu->seg[X86_SEG_SS].sel);
        x86_frame_add(fr, cpu->gpr[X86_RSP]);
    }
    x86_frame_add(fr, d->rflags);
    x86_frame_add(fr, cpu->seg[X86_SEG_CS].sel);
    x86_frame_add(fr, d->rip);
    if (d->has_error)
        x86_frame_add(fr, d->error);
}

/* v8086 left for a handler: data segments become null. */
static void leave_v86(struct x86_cpu *cpu)
{
    static const uint8_t segs[] = {X86_SEG_ES, X86_SEG_DS, X86_SEG_FS,
                                   X86_SEG_GS};

    for (size_t i = 0; i < ARRAY_LEN(segs); i++)
        cpu->seg[segs[i]] =
            (struct x86_seg){.attr = (uint32_t)X86_SEG_UNUSABLE};
}

static int deliver_task(struct x86_cpu *cpu, const struct delivery *d,
                        const struct x86_desc *gate)
{
    struct x86_task_switch ts = {.why = X86_TASK_CALL,
                                 .sel = gate->gate_sel,
                                 .ext = d->ext,
                                 .next_rip = d->rip,
                                 .has_error = d->has_error,
                                 .error = d->error};

    return x86_task_switch(cpu, &ts);
}

static int deliver_gate(struct x86_cpu *cpu, const struct delivery *d)
{
    bool lm = cpu->efer & X86_EFER_LMA, inner;
    struct x86_desc gate, cs;
    struct x86_stack st;
    struct x86_frame fr = {0};
    unsigned ist = 0, type;
    uint8_t cpl;

    if (gate_read(cpu, d, &gate, &ist))
        return X86_FAULT;
    type = X86_SEG_TYPE(gate.attr);
    if (type == X86_SYS_TASK)
        return deliver_task(cpu, d, &gate);
    if (gate_target(cpu, d, &gate, &cs, &cpl))
        return X86_FAULT;
    inner = cpl < cpu->cpl;
    fr.bytes = lm ? 8 : type & 8 ? 4 : 2;
    if (!(type & 8))
        gate.gate_off &= 0xffff;
    if (frame_stack(cpu, d, cpl, ist, &st))
        return X86_FAULT;
    frame_fill(cpu, d, lm || inner, &fr);
    if (x86_ip_check(cpu, &cs, gate.gate_off, d->ext) ||
        x86_stack_push(cpu, &st, &fr))
        return X86_FAULT;
    if (cpu->rflags & X86_FL_VM)
        leave_v86(cpu);
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    if (inner)
        cpu->seg[X86_SEG_SS] = st.ss;
    cpu->rflags &= ~(X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM);
    if (!(type & 1)) /* interrupt gate, not trap gate */
        cpu->rflags &= ~X86_FL_IF;
    x86_cs_set(cpu, gate.gate_sel, &cs, cpl);
    cpu->rip = gate.gate_off;
    return 0;
}

/* Return: 0, or X86_FAULT: cpu->exc is what went wrong on the way. */
static int deliver_once(struct x86_cpu *cpu, const struct delivery *d)
{
    int r = cpu->cr0 & X86_CR0_PE ? deliver_gate(cpu, d) : deliver_real(cpu, d);

    if (r == 0) {
        cpu->activity = X86_ACT_RUN;
        cpu->shadow = 0;
    }
    return r;
}

/* ---- exceptions ---- */

enum exc_class {
    BENIGN,
    CONTRIBUTORY,
    PAGE_FAULT,
    DOUBLE_FAULT
};

/* SDM vol. 3A table 6-4. */
static enum exc_class class_of(uint8_t vector)
{
    switch (vector) {
    case X86_VEC_DE:
    case X86_VEC_TS:
    case X86_VEC_NP:
    case X86_VEC_SS:
    case X86_VEC_GP:
        return CONTRIBUTORY;
    case X86_VEC_PF:
        return PAGE_FAULT;
    case X86_VEC_DF:
        return DOUBLE_FAULT;
    default:
        return BENIGN;
    }
}

/* Whether @second, raised while @first was delivered, makes a double fault.
 * SDM vol. 3A table 6-5. */
static bool makes_double(enum exc_class first, enum exc_class second)
{
    if (first == CONTRIBUTORY)
        return second == CONTRIBUTORY;
    if (first == PAGE_FAULT)
        return second == CONTRIBUTORY || second == PAGE_FAULT;
    return false;
}

/* RF in the pushed image: set by faults, so that the instruction's breakpoint
 * doesn't hit again; not by traps, aborts, code breakpoints. SDM 18.3.1.1 */
static bool sets_rf(const struct x86_exc *e)
{
    switch (e->vector) {
    case X86_VEC_DB:
        return e->dr6 & X86_DR6_BD;
    case X86_VEC_NMI:
    case X86_VEC_BP:
    case X86_VEC_OF:
    case X86_VEC_DF:
    case X86_VEC_MC:
        return false;
    default:
        return true;
    }
}

/* What an exception does before its handler is looked up. */
static void exc_registers(struct x86_cpu *cpu, const struct x86_exc *e)
{
    if (e->vector == X86_VEC_PF)
        cpu->cr2 = e->cr2;
    if (e->vector == X86_VEC_DB) {
        cpu->dr6 = (cpu->dr6 & ~UINT64_C(15)) | e->dr6;
        cpu->dr7 &= ~X86_DR7_GD;
        cpu->msr.debugctl &= ~UINT64_C(1); /* LBR */
    }
}

/* Deliver @d of class @cls, and what fails on the way. */
static void deliver_chain(struct x86_cpu *cpu, struct delivery *d,
                          enum exc_class cls)
{
    for (;;) {
        struct x86_exc e;
        enum exc_class second;

        if (deliver_once(cpu, d) == 0)
            return;
        e = cpu->exc;
        exc_registers(cpu, &e);
        second = class_of(e.vector);
        if (cls == DOUBLE_FAULT) {
            cpu->activity = X86_ACT_SHUTDOWN;
            cpu->event.valid = false;
            return;
        }
        if (makes_double(cls, second)) {
            e = (struct x86_exc){.vector = X86_VEC_DF, .has_error = true};
            second = DOUBLE_FAULT;
        }
        d->vector = e.vector;
        d->soft = false;
        d->ext = 1;
        /* real mode pushes no error codes */
        d->has_error = e.has_error && (cpu->cr0 & X86_CR0_PE);
        d->error = e.error;
        d->rip = cpu->rip;
        d->rflags = cpu->rflags | (sets_rf(&e) ? X86_FL_RF : 0);
        cls = second;
    }
}

void x86_deliver(struct x86_cpu *cpu)
{
    struct x86_exc e = cpu->exc;
    struct delivery d = {.vector = e.vector,
                         .has_error = e.has_error && (cpu->cr0 & X86_CR0_PE),
                         .error = e.error,
                         .ext = 1,
                         .rip = cpu->rip,
                         .rflags = cpu->rflags};

    if (sets_rf(&e))
        d.rflags |= X86_FL_RF;
    cpu->db_pending = 0;
    exc_registers(cpu, &e);
    deliver_chain(cpu, &d, class_of(e.vector));
}

void x86_deliver_irq(struct x86_cpu *cpu, uint8_t vector)
{
    struct delivery d = {
        .vector = vector, .ext = 1, .rip = cpu->rip, .rflags = cpu->rflags};

    deliver_chain(cpu, &d, BENIGN);
}

int x86_int(struct x86_cpu *cpu, uint8_t vector, uint64_t next_rip,
            enum x86_int_kind kind)
{
    struct delivery d = {.vector = vector,
                         .soft = kind != X86_INT_1,
                         .ext = kind == X86_INT_1,
                         .rip = next_rip,
                         .rflags = cpu->rflags & ~X86_FL_RF};

    if (kind == X86_INT_N && (cpu->rflags & X86_FL_VM) &&
        (cpu->rflags & X86_FL_IOPL) != X86_FL_IOPL)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return deliver_once(cpu, &d);
}
