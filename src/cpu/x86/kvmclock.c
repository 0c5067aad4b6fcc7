// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's paravirtual clock; see kvmclock.h. System time is the machine's TSC
 * counted from power-on, so that all vCPUs' structures describe one line and
 * the clock is stable by construction (flag bit 0).
 */
#include "cpu/x86/kvmclock.h"

#include "cpu/x86/cpuid.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/msr.h"

#define ENABLE     1U
#define TSC_STABLE 1U

/* struct pvclock_vcpu_time_info */
struct vcpu_time {
    le32_t version; /* odd: being written */
    le32_t pad0;
    le64_t tsc_timestamp;
    le64_t system_time;
    le32_t mul;
    int8_t shift;
    uint8_t flags;
    uint8_t pad[2];
};

/* struct pvclock_wall_clock */
struct wall_time {
    le32_t version;
    le32_t sec;
    le32_t nsec;
};

_Static_assert(sizeof(struct vcpu_time) == 32, "layout is the guest's");
_Static_assert(sizeof(struct wall_time) == 12, "layout is the guest's");

bool x86_kvm_msr(const struct x86_cpu *cpu, uint32_t index)
{
    if (cpu->cpuid->max_kvm == 0)
        return false;
    return index == X86_MSR_KVM_WALL || index == X86_MSR_KVM_SYSTEM ||
           index == X86_MSR_KVM_WALL_OLD || index == X86_MSR_KVM_SYSTEM_OLD;
}

int x86_kvm_msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *val)
{
    *val = index == X86_MSR_KVM_WALL || index == X86_MSR_KVM_WALL_OLD
               ? cpu->msr.kvm_wall_clock
               : cpu->msr.kvm_system_time;
    return 0;
}

/* ns = ((tsc << shift) * mul) >> 32, with mul's top bit set. */
static void rate(uint32_t tsc_khz, uint32_t *mul, int8_t *shift)
{
    uint64_t hz = (uint64_t)tsc_khz * 1000;
    unsigned __int128 m = ((unsigned __int128)NS_PER_S << 32) / hz;
    int s = 0;

    while (m >> 32) {
        s++;
        m >>= 1;
    }
    while (!(m >> 31)) {
        s--;
        m = ((unsigned __int128)NS_PER_S << (32 - s)) / hz;
    }
    *mul = (uint32_t)m;
    *shift = (int8_t)s;
}

void x86_kvmclock_update(struct x86_cpu *cpu)
{
    uint64_t msr = cpu->msr.kvm_system_time, at = msr & ~UINT64_C(3);
    struct vcpu_time t = {0};
    uint32_t version = 0, mul;

    if (!(msr & ENABLE) ||
        mem_read(cpu->vm->mem, gpa(at), &version, sizeof version))
        return;
    version |= 1;
    t.version = le32(version);
    /* the structure is this vCPU's own: its readers run on this thread, or
     * see an odd version first */
    if (mem_write(cpu->vm->mem, gpa(at), &t.version, sizeof t.version))
        return;
    rate(clock_tsc_khz(cpu->vm->clock), &mul, &t.shift);
    t.tsc_timestamp = le64(cpu->tsc_offset);
    t.mul = le32(mul);
    t.flags = TSC_STABLE;
    if (mem_write(cpu->vm->mem, gpa(at), &t, sizeof t))
        return;
    t.version = le32(version + 1);
    (void)!mem_write(cpu->vm->mem, gpa(at), &t.version, sizeof t.version);
}

/* The wall clock at system time 0. */
static void wall_write(struct x86_cpu *cpu, uint64_t at)
{
    struct clock *clk = cpu->vm->clock;
    uint64_t ns = clock_wall_ns(clk) - clock_now_ns(clk);
    struct wall_time w;

    ns = input_value(&cpu->vm->gate, INPUT_TSC, cpu->index, X86_MSR_KVM_WALL,
                     ns, cpu->icount);
    w = (struct wall_time){.version = le32(2),
                           .sec = le32((uint32_t)(ns / NS_PER_S)),
                           .nsec = le32((uint32_t)(ns % NS_PER_S))};

    (void)!mem_write(cpu->vm->mem, gpa(at), &w, sizeof w);
}

int x86_kvm_msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t val)
{
    if (index == X86_MSR_KVM_WALL || index == X86_MSR_KVM_WALL_OLD) {
        cpu->msr.kvm_wall_clock = val;
        wall_write(cpu, val);
        return 0;
    }
    if (val & 2)
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    cpu->msr.kvm_system_time = val;
    x86_kvmclock_update(cpu);
    return 0;
}
