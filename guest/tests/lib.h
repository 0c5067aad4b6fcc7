// SPDX-License-Identifier: Apache-2.0
/*
 * The tiny test guests' library: one guest per promise, freestanding, loaded
 * by Multiboot. A guest prints `ok NAME` and `FAIL NAME` lines on COM1 and ends
 * by the debug exit port; tests/guest runs each here and under QEMU.
 */
#ifndef GUEST_TESTS_LIB_H
#define GUEST_TESTS_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an interrupt or exception pushed, and the registers. */
struct frame {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

int test_main(void); /* each guest's own; returns the number of failures */
void ap_main(void);  /* what a second processor runs (weak: halts) */

/** check() - print `ok NAME` or `FAIL NAME`; counts failures */
void check(const char *name, bool ok);
void check_eq(const char *name, uint64_t got, uint64_t want);
int failures(void);
void print(const char *s);
void print_hex(uint64_t v);
void __attribute__((noreturn)) finish(int failed);

/* The last exception that catch() saw; vector -1: none. */
struct caught {
    int vector;
    uint64_t error, cr2, rip, rflags, cs, dr6;
};

/** catch() - run @fn(@arg); an exception ends it and is described
 * Return: the vector, or -1. */
int catch (void (*fn)(void *), void *arg, struct caught *c);

/** under_tcg() - QEMU's translator runs this; it skips some checks */
bool under_tcg(void);

/** catch_user() - the same in ring 3, on a stack of its own */
int catch_user(void (*fn)(void *), void *arg, struct caught *c);

/** on_vector() - call @fn for vector @v instead of failing; NULL: no longer */
void on_vector(unsigned v, void (*fn)(struct frame *f));

/** gate_set() - IDT entry: @type 0xe interrupt, 0xf trap; @ist 0-7 */
void gate_set(unsigned v, void *handler, unsigned type, unsigned dpl,
              unsigned ist);
extern char stubs[];

/** map_4k() - map the page at @va to @pa with PTE bits @bits (tables from a
 * pool); returns the PTE. Does not flush. */
volatile uint64_t *map_4k(uint64_t va, uint64_t pa, uint64_t bits);
volatile uint64_t *
pte_of(uint64_t va); /* the leaf of a 4K mapping made by map_4k */
extern volatile uint64_t pml4[], pdpt[], pd[], gdt[];

extern struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
    uint8_t bitmap[0x2001];
} __attribute__((packed)) tss;

/** apic_enable() - x2APIC where CPUID shows it, else the xAPIC page; software
 * enabled. apic_read(), apic_write(): by the register's xAPIC offset.
 * apic_icr(): send an IPI to APIC id @id. */
void apic_enable(void);
bool apic_is_x2(void);
uint32_t apic_read(uint32_t off);
void apic_write(uint32_t off, uint32_t v);
void apic_icr(uint32_t id, uint32_t v);

/** ap_boot() - start processor with APIC id @id; it runs ap_main() */
void ap_boot(uint32_t id);

#define PTE_P  0x001ULL
#define PTE_W  0x002ULL
#define PTE_U  0x004ULL
#define PTE_A  0x020ULL
#define PTE_D  0x040ULL
#define PTE_PS 0x080ULL
#define PTE_G  0x100ULL
#define PTE_NX 0x8000000000000000ULL

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint64_t rdmsr(uint32_t i)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(i));
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t i, uint64_t v)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(i), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
                     : "memory");
}
#define CR_READ(n)                                                             \
    ({                                                                         \
        uint64_t v_;                                                           \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_));                     \
        v_;                                                                    \
    })
#define CR_WRITE(n, v)                                                         \
    __asm__ volatile("mov %0, %%cr" #n : : "r"((uint64_t)(v)) : "memory")
#define DR_READ(n)                                                             \
    ({                                                                         \
        uint64_t v_;                                                           \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_));                     \
        v_;                                                                    \
    })
#define DR_WRITE(n, v)                                                         \
    __asm__ volatile("mov %0, %%dr" #n : : "r"((uint64_t)(v)) : "memory")
static inline void invlpg(uint64_t va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void flush_all(void)
{
    CR_WRITE(3, CR_READ(3));
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}
static inline void sti(void)
{
    __asm__ volatile("sti" ::: "memory");
}
static inline void cli(void)
{
    __asm__ volatile("cli" ::: "memory");
}

#endif
