// SPDX-License-Identifier: Apache-2.0
/* Hardware task switches between 32-bit TSSs; see task.h. */
#include "cpu/x86/task.h"

#include "cpu/x86/control.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/paging.h"
#include "cpu/x86/stack.h"

#define TSS32_BYTES 104

/* The 32-bit TSS (SDM vol. 3A figure 7-2), as doublewords. */
enum tss32 {
    TSS_LINK = 0,
    TSS_CR3 = 7,
    TSS_EIP = 8,
    TSS_EFLAGS = 9,
    TSS_EAX = 10, /* ECX EDX EBX ESP EBP ESI EDI follow */
    TSS_ES = 18,  /* CS SS DS FS GS follow */
    TSS_LDT = 24,
    TSS_TRAP = 25
};

static int ts_fault(struct x86_cpu *cpu, uint16_t sel, uint32_t ext)
{
    return x86_raise_err(cpu, X86_VEC_TS, (sel & 0xfffcU) | ext);
}

/* The descriptor of the task to go to, checked (SDM vol. 3A table 7-1). */
static int new_tss(struct x86_cpu *cpu, const struct x86_task_switch *ts,
                   struct x86_desc *d)
{
    bool back = ts->why == X86_TASK_IRET;
    uint8_t vec = back ? X86_VEC_TS : X86_VEC_GP;
    uint32_t err = (ts->sel & 0xfffcU) | ts->ext;
    unsigned want = back ? X86_SYS_TSS_BUSY : X86_SYS_TSS_AVAIL;

    if ((ts->sel & 4) || !err)
        return x86_raise_err(cpu, vec, err);
    if (x86_desc_read(cpu, ts->sel, vec, ts->ext, d))
        return X86_FAULT;
    if ((d->attr & X86_SEG_S) || X86_SEG_TYPE(d->attr) != want)
        return x86_raise_err(cpu, vec, err);
    if (!(d->attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, err);
    if (d->limit < TSS32_BYTES - 1)
        return ts_fault(cpu, ts->sel, ts->ext);
    return 0;
}

/* Save the running task: EIP to GS, 72 bytes from offset 32. */
static int save_old(struct x86_cpu *cpu, const struct x86_task_switch *ts)
{
    uint64_t flags = cpu->rflags;
    uint32_t w[16];

    if (ts->why == X86_TASK_IRET)
        flags &= ~X86_FL_NT;
    w[0] = (uint32_t)ts->next_rip;
    w[1] = (uint32_t)flags;
    for (unsigned i = 0; i < 8; i++)
        w[2 + i] = (uint32_t)cpu->gpr[i];
    for (unsigned i = 0; i < 6; i++)
        w[10 + i] = cpu->seg[i].sel;
    return x86_lin_write(cpu, cpu->tr.base + 4 * TSS_EIP, w, sizeof w,
                         X86_LIN_IMPLICIT);
}

static int set_busy(struct x86_cpu *cpu, uint64_t desc_addr, uint32_t attr,
                    bool busy)
{
    uint8_t b = (uint8_t)(busy ? attr | 2U : attr & ~2U);

    return x86_lin_write(cpu, desc_addr + 5, &b, 1, X86_LIN_IMPLICIT);
}

/* LDTR and segment registers of the new task; the selectors stand already. */
static int load_segs(struct x86_cpu *cpu, const uint32_t *t)
{
    uint16_t cs = (uint16_t)t[TSS_ES + 1], ss = (uint16_t)t[TSS_ES + 2];
    uint16_t ldt = (uint16_t)t[TSS_LDT];
    struct x86_desc d;

    if (ldt & 0xfffc) {
        if ((ldt & 4) || x86_desc_read(cpu, ldt, X86_VEC_TS, 0, &d) ||
            (d.attr & X86_SEG_S) || X86_SEG_TYPE(d.attr) != X86_SYS_LDT ||
            !(d.attr & X86_SEG_P))
            return ts_fault(cpu, ldt, 0);
        x86_seg_set(&cpu->ldtr, ldt, &d);
    }
    if (cpu->rflags & X86_FL_VM) {
        cpu->cpl = 3;
        for (unsigned i = 0; i < 6; i++)
            x86_seg_set_real(cpu, i, (uint16_t)t[TSS_ES + i]);
        return 0;
    }
    cpu->cpl = cs & 3U;
    if (x86_ss_fetch(cpu, ss, cpu->cpl, X86_VEC_TS, 0, &d))
        return X86_FAULT;
    x86_seg_set(&cpu->seg[X86_SEG_SS], ss, &d);
    if (!(cs & 0xfffc) || x86_desc_read(cpu, cs, X86_VEC_TS, 0, &d))
        return ts_fault(cpu, cs, 0);
    if (!(d.attr & X86_SEG_S) || !(d.attr & X86_TYPE_CODE) ||
        (d.attr & X86_TYPE_CONFORM ? X86_SEG_DPL(d.attr) > cpu->cpl
                                   : X86_SEG_DPL(d.attr) != cpu->cpl))
        return ts_fault(cpu, cs, 0);
    if (!(d.attr & X86_SEG_P))
        return x86_raise_err(cpu, X86_VEC_NP, cs & 0xfffcU);
    if (x86_desc_accessed(cpu, &d))
        return X86_FAULT;
    x86_seg_set(&cpu->seg[X86_SEG_CS], cs, &d);
    for (unsigned i = 0; i < 6; i++) {
        if (i == X86_SEG_CS || i == X86_SEG_SS)
            continue;
        if (x86_seg_load(cpu, i, (uint16_t)t[TSS_ES + i])) {
            if (cpu->exc.vector == X86_VEC_GP)
                cpu->exc.vector = X86_VEC_TS;
            return X86_FAULT;
        }
    }
    return 0;
}

/* Registers of the new task from its TSS image; segments have selectors only,
 * so that a fault in load_segs is raised in the new task. */
static void load_registers(struct x86_cpu *cpu, const uint32_t *t, bool nested)
{
    cpu->rip = t[TSS_EIP];
    cpu->rflags = (t[TSS_EFLAGS] & UINT64_C(0x3f7fd5)) | X86_FL_ONE |
                  (nested ? X86_FL_NT : 0);
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = t[TSS_EAX + i];
    for (unsigned i = 0; i < 6; i++) {
        cpu->seg[i].sel = (uint16_t)t[TSS_ES + i];
        cpu->seg[i].attr |= (uint32_t)X86_SEG_UNUSABLE;
    }
    cpu->ldtr = (struct x86_seg){.sel = (uint16_t)t[TSS_LDT],
                                 .attr = (uint32_t)X86_SEG_UNUSABLE};
    cpu->cr0 |= X86_CR0_TS;
    cpu->dr7 &= ~UINT64_C(0x155); /* local enables */
}

static int push_error(struct x86_cpu *cpu, uint32_t error)
{
    struct x86_frame fr = {.bytes = 4};
    struct x86_stack st;

    x86_stack_now(cpu, &st);
    x86_frame_add(&fr, error);
    if (x86_stack_push(cpu, &st, &fr))
        return X86_FAULT;
    cpu->gpr[X86_RSP] = x86_stack_sp(cpu, &st);
    return 0;
}

/* The new task's CR3, when paging is on. */
static int load_root(struct x86_cpu *cpu, uint32_t cr3)
{
    if (!(cpu->cr0 & X86_CR0_PG))
        return 0;
    if ((cpu->cr4 & X86_CR4_PAE) && x86_pae_load(cpu, cr3))
        return X86_FAULT;
    cpu->cr3 = cr3;
    cpu->lin->root(cpu->lin_ctx, false);
    return 0;
}

int x86_task_switch(struct x86_cpu *cpu, const struct x86_task_switch *ts)
{
    bool leave_busy = ts->why == X86_TASK_CALL;
    uint32_t t[TSS32_BYTES / 4];
    struct x86_desc d, old;
    uint16_t link = cpu->tr.sel;

    if (new_tss(cpu, ts, &d))
        return X86_FAULT;
    if (X86_SEG_TYPE(cpu->tr.attr) != X86_SYS_TSS_BUSY ||
        cpu->tr.limit < TSS32_BYTES - 1)
        return ts_fault(cpu, cpu->tr.sel, ts->ext);
    if (x86_lin_read(cpu, d.base, t, sizeof t, X86_LIN_IMPLICIT) ||
        x86_desc_read(cpu, cpu->tr.sel, X86_VEC_TS, ts->ext, &old) ||
        save_old(cpu, ts))
        return X86_FAULT;
    if (!leave_busy && set_busy(cpu, old.addr, old.attr, false))
        return X86_FAULT;
    if (leave_busy && x86_lin_write(cpu, d.base, &link, 2, X86_LIN_IMPLICIT))
        return X86_FAULT;
    if (ts->why != X86_TASK_IRET && set_busy(cpu, d.addr, d.attr, true))
        return X86_FAULT;
    if (load_root(cpu, t[TSS_CR3]))
        return X86_FAULT;
    d.attr |= 2U;
    x86_seg_set(&cpu->tr, ts->sel, &d);
    load_registers(cpu, t, leave_busy);
    x86_mode_changed(cpu);
    if (load_segs(cpu, t))
        return X86_FAULT;
    if (ts->has_error && push_error(cpu, ts->error))
        return X86_FAULT;
    x86_mode_changed(cpu);
    if (t[TSS_TRAP] & 1)
        cpu->db_pending |= X86_DR6_BT;
    return 0;
}
