// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's paravirtual clock: MSRs and the structures that they place in guest
 * memory. Thread: the vCPU's. Source: Linux Documentation/virt/kvm/x86/msr.rst,
 * cpuid.rst; the layout of struct pvclock_vcpu_time_info.
 */
#ifndef DOPPEL_CPU_X86_KVMCLOCK_H
#define DOPPEL_CPU_X86_KVMCLOCK_H

#include "cpu/x86/state.h"

/** x86_kvm_msr() - whether @index is one of KVM's that this vCPU shows */
bool x86_kvm_msr(const struct x86_cpu *cpu, uint32_t index);
int x86_kvm_msr_read(struct x86_cpu *cpu, uint32_t index, uint64_t *val);
int x86_kvm_msr_write(struct x86_cpu *cpu, uint32_t index, uint64_t val);

/** x86_kvmclock_update() - write the vCPU's time structure again: the TSC's
 * offset changed, or state was loaded */
void x86_kvmclock_update(struct x86_cpu *cpu);

#endif
