// SPDX-License-Identifier: Apache-2.0
/* A vCPU's physical and port accesses; see phys.h. */
#include "cpu/x86/phys.h"

#include "cpu/x86/lapic.h"

bool x86_phys_is_mmio(const struct x86_cpu *cpu, gpa_t gpa)
{
    uint64_t page = gpa.v & ~(uint64_t)MEM_PAGE_MASK;

    return page == x86_lapic_page(cpu) ||
           !mem_is_ram(cpu->vm->mem, (gpa_t){page}, MEM_PAGE_BYTES);
}

uint64_t x86_mmio_read(struct x86_cpu *cpu, gpa_t gpa, unsigned size)
{
    uint64_t page = x86_lapic_page(cpu), v;

    if ((gpa.v & ~(uint64_t)MEM_PAGE_MASK) == page)
        return x86_lapic_mmio_read(cpu, (uint32_t)(gpa.v - page), size);
    v = bus_read(cpu->vm->mmio, gpa.v, size);
    return input_value(&cpu->vm->gate, INPUT_MMIO, cpu->index, gpa.v, v,
                       cpu->icount);
}

void x86_mmio_write(struct x86_cpu *cpu, gpa_t gpa, uint64_t val, unsigned size)
{
    uint64_t page = x86_lapic_page(cpu);

    if ((gpa.v & ~(uint64_t)MEM_PAGE_MASK) == page)
        x86_lapic_mmio_write(cpu, (uint32_t)(gpa.v - page), val, size);
    else
        bus_write(cpu->vm->mmio, gpa.v, val, size);
}

/* The widest naturally aligned access at @a of at most @len bytes. */
static unsigned piece_bytes(uint64_t a, size_t len)
{
    unsigned n = 8;

    while (n > len || (a & (n - 1)))
        n >>= 1;
    return n;
}

void x86_phys_read(struct x86_cpu *cpu, gpa_t gpa, void *buf, size_t len)
{
    uint8_t *to = buf;

    if ((gpa.v & ~(uint64_t)MEM_PAGE_MASK) != x86_lapic_page(cpu) &&
        mem_read(cpu->vm->mem, gpa, buf, len) == 0)
        return;
    while (len) {
        unsigned n = piece_bytes(gpa.v, len);
        uint64_t v = x86_mmio_read(cpu, gpa, n);

        memcpy(to, &v, n);
        to += n;
        gpa.v += n;
        len -= n;
    }
}

void x86_phys_write(struct x86_cpu *cpu, gpa_t gpa, const void *buf, size_t len)
{
    const uint8_t *from = buf;

    if ((gpa.v & ~(uint64_t)MEM_PAGE_MASK) != x86_lapic_page(cpu) &&
        mem_write(cpu->vm->mem, gpa, buf, len) == 0)
        return;
    while (len) {
        unsigned n = piece_bytes(gpa.v, len);
        uint64_t v = 0;

        memcpy(&v, from, n);
        x86_mmio_write(cpu, gpa, v, n);
        from += n;
        gpa.v += n;
        len -= n;
    }
}

uint32_t x86_pio_in(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    uint64_t v = bus_read(cpu->vm->pio, port, size);

    v = input_value(&cpu->vm->gate, INPUT_PIO, cpu->index,
                    port | (uint64_t)size << 16, v, cpu->icount);
    return (uint32_t)v;
}

void x86_pio_out(struct x86_cpu *cpu, uint16_t port, uint32_t val,
                 unsigned size)
{
    bus_write(cpu->vm->pio, port, val, size);
}
