// SPDX-License-Identifier: Apache-2.0
/* Sets the BSP's registers for a kernel's entry. Source: SDM vol. 3A 3.4.5
 * (descriptors), 4.5 (4-level paging), 9.8.5 (long mode). */
#include "boot/cpu.h"

#include <errno.h>

#include "base/bits.h"
#include "boot/boot.h"
#include "boot/bytes.h"
#include "cpu/x86/lapic.h"
#include "cpu/x86/state.h"

/* Descriptors: 4 GiB, byte granularity scaled by G, DPL 0, accessed. */
#define GDT_CODE64 UINT64_C(0x00af9b000000ffff)
#define GDT_CODE32 UINT64_C(0x00cf9b000000ffff)
#define GDT_DATA   UINT64_C(0x00cf93000000ffff)
#define GDT_BYTES  32U

/* The same as struct x86_seg's attr: descriptor bits 55-40. */
#define ATTR_CODE64 0xa09bU
#define ATTR_CODE32 0xc09bU
#define ATTR_DATA   0xc093U

#define PTE_P       BIT(0)
#define PTE_W       BIT(1)
#define PTE_PS      BIT(7)
#define LARGE_BYTES (2 * MIB)
#define TABLE_WORDS 512U
#define PD_COUNT    4U /* GiB mapped */

/* IA32_MTRR_DEF_TYPE: E (bit 11), default type write-back (6). */
#define MTRR_DEF_WB 0x806U

/* Virtual wire mode of the BSP: the 8259's INTR at LINT0, NMI at LINT1, the
 * APIC on. Source: MultiProcessor Specification 1.4, 3.6.2.2, appendix A.3. */
#define LAPIC_SVR_ON 0x10fU
#define LAPIC_EXTINT 0x700U
#define LAPIC_NMI    0x400U

void boot_cpu_firmware(struct x86_cpu *cpu)
{
    cpu->msr.mtrr_def_type = MTRR_DEF_WB;
    if (cpu->lapic.apic_base & X86_APIC_BASE_BSP) {
        cpu->lapic.svr = LAPIC_SVR_ON;
        cpu->lapic.lvt[X86_LVT_LINT0] = LAPIC_EXTINT;
        cpu->lapic.lvt[X86_LVT_LINT1] = LAPIC_NMI;
        x86_lapic_publish(cpu);
    }
}

static int put_table(struct mem *mem, uint64_t at,
                     const uint64_t table[TABLE_WORDS], struct err *e)
{
    if (mem_write(mem, gpa(at), table, TABLE_WORDS * sizeof *table) < 0)
        return err_set(e, -ENOMEM,
                       "guest memory is too small: 1 MiB at least is needed");
    return 0;
}

/* PML4 -> one PDPT -> four directories of 2 MiB pages. */
static int put_page_tables(struct mem *mem, struct err *e)
{
    const uint64_t pdpt = BOOT_PML4_GPA + MEM_PAGE_BYTES;
    const uint64_t pd = pdpt + MEM_PAGE_BYTES;
    uint64_t t[TABLE_WORDS] = {pdpt | PTE_P | PTE_W};
    int rc = put_table(mem, BOOT_PML4_GPA, t, e);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < PD_COUNT; i++)
        t[i] = (pd + (uint64_t)i * MEM_PAGE_BYTES) | PTE_P | PTE_W;
    rc = put_table(mem, pdpt, t, e);
    for (unsigned i = 0; rc == 0 && i < PD_COUNT; i++) {
        for (unsigned k = 0; k < TABLE_WORDS; k++)
            t[k] = (i * GIB + k * LARGE_BYTES) | PTE_P | PTE_W | PTE_PS;
        rc = put_table(mem, pd + (uint64_t)i * MEM_PAGE_BYTES, t, e);
    }
    return rc;
}

static void set_segments(struct x86_cpu *cpu, uint32_t code_attr)
{
    for (unsigned i = 0; i < ARRAY_LEN(cpu->seg); i++)
        cpu->seg[i] = (struct x86_seg){
            .limit = UINT32_MAX, .attr = ATTR_DATA, .sel = BOOT_DS_SEL};
    cpu->seg[X86_SEG_CS].attr = code_attr;
    cpu->seg[X86_SEG_CS].sel = BOOT_CS_SEL;
    cpu->gdtr = (struct x86_dtr){.base = BOOT_GDT_GPA, .limit = GDT_BYTES - 1};
    cpu->idtr = (struct x86_dtr){0};
    cpu->cpl = 0;
    cpu->shadow = 0;
    cpu->activity = X86_ACT_RUN;
    cpu->rflags = X86_FL_ONE;
    for (unsigned i = 0; i < ARRAY_LEN(cpu->gpr); i++)
        cpu->gpr[i] = 0;
    cpu->gpr[X86_RSP] = BOOT_STACK_TOP;
    boot_cpu_firmware(cpu);
}

static int put_gdt(struct mem *mem, uint64_t code, struct err *e)
{
    const uint64_t gdt[GDT_BYTES / 8] = {0, 0, code, GDT_DATA};
    if (mem_write(mem, gpa(BOOT_GDT_GPA), gdt, sizeof gdt) < 0)
        return err_set(e, -ENOMEM,
                       "guest memory is too small: 1 MiB at least is needed");
    return 0;
}

int boot_cpu_enter64(struct mem *mem, struct x86_cpu *cpu, gpa_t entry,
                     gpa_t arg, struct err *e)
{
    int rc = put_gdt(mem, GDT_CODE64, e);
    if (rc == 0)
        rc = put_page_tables(mem, e);
    if (rc < 0)
        return rc;
    set_segments(cpu, ATTR_CODE64);
    cpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG;
    cpu->cr3 = BOOT_PML4_GPA;
    cpu->cr4 = X86_CR4_PAE;
    cpu->efer = X86_EFER_LME | X86_EFER_LMA;
    cpu->gpr[X86_RSI] = arg.v;
    cpu->rip = entry.v;
    return 0;
}

int boot_cpu_enter32(struct mem *mem, struct x86_cpu *cpu, gpa_t entry,
                     uint32_t eax, uint32_t ebx, struct err *e)
{
    int rc = put_gdt(mem, GDT_CODE32, e);
    if (rc < 0)
        return rc;
    set_segments(cpu, ATTR_CODE32);
    cpu->cr0 = X86_CR0_PE | X86_CR0_ET;
    cpu->cr3 = 0;
    cpu->cr4 = 0;
    cpu->efer = 0;
    cpu->gpr[X86_RAX] = eax;
    cpu->gpr[X86_RBX] = ebx;
    cpu->rip = entry.v;
    return 0;
}
