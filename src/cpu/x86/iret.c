// SPDX-License-Identifier: Apache-2.0
/*
 * IRET in all modes; see exceptions.h. Source: Intel SDM vol. 2A
 * "IRET/IRETD/IRETQ", vol. 3A 6.12, 20.2 (v8086).
 */
#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/stack.h"
#include "cpu/x86/task.h"

#define FL_USER (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT)
#define FL_WIDE (X86_FL_RF | X86_FL_AC | X86_FL_ID)

static int gp(struct x86_cpu *cpu, uint32_t error)
{
    return x86_raise_err(cpu, X86_VEC_GP, error);
}

/* RFLAGS bits in @may come from @image. */
static void flags_take(struct x86_cpu *cpu, uint64_t image, uint64_t may,
                       unsigned opsize)
{
    if (opsize == 2)
        may &= 0xffff;
    cpu->rflags = (cpu->rflags & ~may) | (image & may) | X86_FL_ONE;
}

static int iret_real(struct x86_cpu *cpu, unsigned opsize)
{
    bool v86 = cpu->rflags & X86_FL_VM;
    uint64_t may = FL_USER | FL_WIDE | X86_FL_IF | (v86 ? 0 : X86_FL_IOPL);
    struct x86_stack st;
    uint64_t v[3]; /* rIP, CS, flags */

    if (v86 && (cpu->rflags & X86_FL_IOPL) != X86_FL_IOPL)
        return gp(cpu, 0);
    x86_stack_now(cpu, &st);
    if (x86_stack_pop(cpu, &st, 3, opsize, v))
        return X86_FAULT;
    if (v[0] > cpu->seg[X86_SEG_CS].limit)
        return gp(cpu, 0);
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    x86_seg_set_real(cpu, X86_SEG_CS, (uint16_t)v[1]);
    cpu->rip = v[0];
    flags_take(cpu, v[2], may, opsize);
    cpu->nmi_blocked = false;
    x86_mode_changed(cpu);
    return 0;
}

/* NT is set: back to the task that this one was called from. */
static int iret_task(struct x86_cpu *cpu)
{
    struct x86_task_switch ts = {.why = X86_TASK_IRET, .next_rip = cpu->rip};

    if (cpu->efer & X86_EFER_LMA)
        return gp(cpu, 0);
    if (cpu->lin->read(cpu->lin_ctx, gva(cpu->tr.base), &ts.sel, 2,
                       X86_LIN_IMPLICIT))
        return X86_FAULT;
    if (x86_task_switch(cpu, &ts))
        return X86_FAULT;
    cpu->nmi_blocked = false;
    return 0;
}

/* To v8086: the frame goes on with ESP, SS, ES, DS, FS, GS. */
static int iret_v86(struct x86_cpu *cpu, struct x86_stack *st,
                    const uint64_t *v)
{
    static const uint8_t order[] = {X86_SEG_SS, X86_SEG_ES, X86_SEG_DS,
                                    X86_SEG_FS, X86_SEG_GS};
    uint64_t w[6];

    if (x86_stack_pop(cpu, st, 6, 4, w))
        return X86_FAULT;
    cpu->rflags = (v[2] & (FL_USER | FL_WIDE | X86_FL_IF | X86_FL_IOPL |
                           X86_FL_VM | X86_FL_VIF | X86_FL_VIP)) |
                  X86_FL_ONE;
    cpu->cpl = 3;
    cpu->gpr[X86_RSP] = w[0];
    x86_seg_set_real(cpu, X86_SEG_CS, (uint16_t)v[1]);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        x86_seg_set_real(cpu, order[i], (uint16_t)w[1 + i]);
    cpu->rip = v[0] & 0xffff;
    cpu->nmi_blocked = false;
    x86_mode_changed(cpu);
    return 0;
}

int x86_iret(struct x86_cpu *cpu, unsigned opsize)
{
    uint64_t may = FL_USER | FL_WIDE;
    struct x86_stack st;
    struct x86_desc cs;
    uint64_t v[3]; /* rIP, CS, flags */
    uint16_t sel;
    uint8_t cpl;
    bool outer;

    if (!(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM))
        return iret_real(cpu, opsize);
    if (cpu->rflags & X86_FL_NT)
        return iret_task(cpu);
    x86_stack_now(cpu, &st);
    if (x86_stack_peek(cpu, &st, 2 * opsize, opsize, &v[2]) ||
        x86_stack_peek(cpu, &st, opsize, 2, &v[1]) ||
        x86_stack_peek(cpu, &st, 0, opsize, &v[0]))
        return X86_FAULT;
    x86_stack_drop(&st, 3 * opsize);
    sel = (uint16_t)v[1];
    if ((v[2] & X86_FL_VM) && cpu->cpl == 0 && opsize == 4 &&
        !(cpu->efer & X86_EFER_LMA))
        return iret_v86(cpu, &st, v);
    if (x86_ret_code(cpu, sel, &cs))
        return X86_FAULT;
    cpl = sel & 3U;
    outer = cpl > cpu->cpl;
    if (outer || x86_mode(cpu) == X86_MODE_64) {
        if (x86_ret_stack(cpu, &st, opsize, &cs, cpl))
            return X86_FAULT;
    }
    if (x86_ip_check(cpu, &cs, v[0], 0))
        return X86_FAULT;
    cpu->seg[X86_SEG_SS] = st.ss;
    if (cpu->cpl == 0)
        may |= X86_FL_IOPL | X86_FL_VIF | X86_FL_VIP;
    if (cpu->cpl <= bits_get(cpu->rflags, 13, 12))
        may |= X86_FL_IF;
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    flags_take(cpu, v[2], may, opsize);
    if (outer)
        x86_segs_outer(cpu, cpl);
    cpu->nmi_blocked = false;
    x86_cs_set(cpu, sel, &cs, cpl);
    cpu->rip = x86_ip_cut(cpu, &cs, v[0]);
    return 0;
}
