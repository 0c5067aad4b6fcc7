// SPDX-License-Identifier: Apache-2.0
/*
 * What a vCPU's physical accesses reach: RAM, its own local APIC's page, the
 * MMIO bus, the ports; reads pass the input gate. Thread: the vCPU's.
 */
#ifndef DOPPEL_CPU_X86_PHYS_H
#define DOPPEL_CPU_X86_PHYS_H

#include "cpu/x86/state.h"

/** x86_phys_read(), x86_phys_write() - access [gpa, gpa+len), in one page
 * Anything but RAM is split into naturally aligned pieces of 1-8 bytes. */
void x86_phys_read(struct x86_cpu *cpu, gpa_t gpa, void *buf, size_t len);
void x86_phys_write(struct x86_cpu *cpu, gpa_t gpa, const void *buf,
                    size_t len);

/** x86_mmio_read(), x86_mmio_write() - one access of 1, 2, 4, 8 bytes outside
 * RAM: the xAPIC page or the MMIO bus */
uint64_t x86_mmio_read(struct x86_cpu *cpu, gpa_t gpa, unsigned size);
void x86_mmio_write(struct x86_cpu *cpu, gpa_t gpa, uint64_t val,
                    unsigned size);

/** x86_phys_is_mmio() - whether page @gpa needs x86_mmio_*: not RAM, or the
 * xAPIC page, which lies above RAM */
bool x86_phys_is_mmio(const struct x86_cpu *cpu, gpa_t gpa);

/** x86_pio_in(), x86_pio_out() - one port access of 1, 2, 4 bytes; rights are
 * checked before (x86_io_check) */
uint32_t x86_pio_in(struct x86_cpu *cpu, uint16_t port, unsigned size);
void x86_pio_out(struct x86_cpu *cpu, uint16_t port, uint32_t val,
                 unsigned size);

#endif
