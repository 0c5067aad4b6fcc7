// SPDX-License-Identifier: Apache-2.0
/*
 * Breakpoints and single step; see exceptions.h. Source: Intel SDM vol. 3B
 * 18.2, 18.3.
 */
#include "cpu/x86/exceptions.h"

/* DR7's R/W field. */
enum bp_kind {
    BP_EXEC,
    BP_WRITE,
    BP_IO,
    BP_ACCESS
};

static bool bp_enabled(const struct x86_cpu *cpu, unsigned i)
{
    return cpu->dr7 >> (2 * i) & 3;
}

static unsigned bp_kind(const struct x86_cpu *cpu, unsigned i)
{
    return (unsigned)(cpu->dr7 >> (16 + 4 * i)) & 3U;
}

static unsigned bp_bytes(const struct x86_cpu *cpu, unsigned i)
{
    static const uint8_t bytes[] = {1, 2, 8, 4};

    return bytes[cpu->dr7 >> (18 + 4 * i) & 3];
}

int x86_check_code_bp(struct x86_cpu *cpu)
{
    uint64_t at = cpu->rip, hit = 0;

    if (cpu->rflags & X86_FL_RF)
        return 0;
    if (x86_mode(cpu) != X86_MODE_64)
        at = (cpu->seg[X86_SEG_CS].base + at) & 0xffffffffU;
    for (unsigned i = 0; i < 4; i++)
        if (bp_enabled(cpu, i) && bp_kind(cpu, i) == BP_EXEC &&
            cpu->dr[i] == at)
            hit |= BIT(i);
    return hit ? x86_raise_db(cpu, hit) : 0;
}

/* Whether [at, at+len) meets breakpoint @i. */
static bool meets(const struct x86_cpu *cpu, unsigned i, uint64_t at,
                  size_t len)
{
    uint64_t n = bp_bytes(cpu, i), from = cpu->dr[i] & ~(n - 1);

    return at < from + n && from < at + len;
}

void x86_check_data_bp(struct x86_cpu *cpu, uint64_t lin, size_t len,
                       bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = bp_kind(cpu, i);

        if (bp_enabled(cpu, i) &&
            (kind == BP_ACCESS || (write && kind == BP_WRITE)) &&
            meets(cpu, i, lin, len))
            cpu->db_pending |= BIT(i);
    }
}

void x86_check_io_bp(struct x86_cpu *cpu, uint16_t port, unsigned size,
                     bool write)
{
    (void)write; /* both directions hit */
    if (!(cpu->cr4 & X86_CR4_DE))
        return;
    for (unsigned i = 0; i < 4; i++)
        if (bp_enabled(cpu, i) && bp_kind(cpu, i) == BP_IO &&
            meets(cpu, i, port, size))
            cpu->db_pending |= BIT(i);
}

int x86_debug_trap(struct x86_cpu *cpu, bool tf)
{
    uint64_t bits = cpu->db_pending | (tf ? X86_DR6_BS : 0);

    if (!bits || (cpu->shadow & X86_SHADOW_MOVSS))
        return 0;
    cpu->db_pending = 0;
    return x86_raise_db(cpu, bits);
}
