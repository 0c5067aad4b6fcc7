// SPDX-License-Identifier: Apache-2.0
/* The tiny test guests' library; see lib.h. Runs identity mapped, ring 0. */
#include "lib.h"

#define COM1       0x3f8
#define EXIT_PORT  0xf4
#define EXIT_GOOD  0x10 /* status 33 */
#define EXIT_BAD   0x11 /* status 35 */
#define AP_PAGE    0x8000
#define POOL_PAGES 64

struct idt_gate {
    uint16_t off0, sel;
    uint8_t ist, type;
    uint16_t off1;
    uint32_t off2, reserved;
};

static struct idt_gate idt[256] __attribute__((aligned(16)));
struct tss tss, ap_tss;
static int failed;
static void (*handlers[256])(struct frame *);
static uint64_t pool[POOL_PAGES][512] __attribute__((aligned(4096)));
static unsigned pool_used;
static uint8_t user_stack[8192] __attribute__((aligned(4096)));
static uint8_t irq_stack[16384] __attribute__((aligned(16)));
static uint8_t ap_irq_stack[16384] __attribute__((aligned(16)));

extern char ap_start[], ap_end[];
void user_call(uint64_t rip, uint64_t rsp);
extern char user_return[];

/* ---- output ---- */

void print(const char *s)
{
    for (; *s; s++) {
        while (!(inb(COM1 + 5) & 0x20))
            ;
        outb(COM1, (uint8_t)*s);
    }
}

void print_hex(uint64_t v)
{
    char s[17];

    for (int i = 15; i >= 0; i--, v >>= 4)
        s[i] = "0123456789abcdef"[v & 15];
    s[16] = 0;
    print(s);
}

void check(const char *name, bool ok)
{
    print(ok ? "ok " : "FAIL ");
    print(name);
    print("\n");
    failed += !ok;
}

void check_eq(const char *name, uint64_t got, uint64_t want)
{
    check(name, got == want);
    if (got == want)
        return;
    print("  got ");
    print_hex(got);
    print(" want ");
    print_hex(want);
    print("\n");
}

int failures(void)
{
    return failed;
}

void finish(int n)
{
    print(n ? "done, with failures\n" : "done\n");
    outb(EXIT_PORT, n ? EXIT_BAD : EXIT_GOOD);
    for (;;)
        __asm__ volatile("cli; hlt");
}

bool under_tcg(void)
{
    uint32_t r[4];

    cpuid(0x40000000, 0, r);
    return r[1] == 0x54474354; /* "TCGT" */
}

/* ---- exceptions ---- */

/* catch() leaves by a far-reaching return: the frame's rip, rsp and rbp are
 * replaced. */
static struct {
    bool armed, user;
    uint64_t rip, rsp, rbp;
    struct caught c;
} net;

void trap(struct frame *f)
{
    if (f->vector < 256 && handlers[f->vector]) {
        handlers[f->vector](f);
        return;
    }
    if (!net.armed) {
        print("FAIL unexpected vector ");
        print_hex(f->vector);
        print(" error ");
        print_hex(f->error);
        print(" at ");
        print_hex(f->rip);
        print(" cr2 ");
        print_hex(CR_READ(2));
        print("\n");
        finish(1);
    }
    net.armed = false;
    net.c.vector = (int)f->vector;
    net.c.error = f->error;
    net.c.cr2 = CR_READ(2);
    net.c.rip = f->rip;
    net.c.rflags = f->rflags;
    net.c.cs = f->cs;
    net.c.dr6 = DR_READ(6);
    f->rip = net.rip;
    f->rsp = net.rsp;
    f->rbp = net.rbp;
    f->cs = 0x08;
    f->ss = 0x10;
    f->rflags = 0x2;
}

/* Calls fn(arg); `net` knows where to go on. Callee-saved registers are
 * declared lost, since an exception does not give them back. */
int catch (void (*fn)(void *), void *arg, struct caught *c)
{
    net.c.vector = -1;
    __asm__ volatile("lea 1f(%%rip), %%rax\n"
                     "mov %%rax, %0\n"
                     "mov %%rsp, %1\n"
                     "mov %%rbp, %2\n"
                     "movb $1, %3\n"
                     "call *%4\n"
                     "1:\n"
                     : "=m"(net.rip), "=m"(net.rsp), "=m"(net.rbp),
                       "=m"(net.armed)
                     : "r"(fn), "D"(arg)
                     : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10",
                       "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    net.armed = false;
    if (c)
        *c = net.c;
    return net.c.vector;
}

static struct {
    void (*fn)(void *);
    void *arg;
} user_job;

static void user_enter(void *unused)
{
    (void)unused;
    user_job.fn(user_job.arg);
    /* Done without an exception: a vector that nothing else uses. */
    __asm__ volatile("int $0x70");
}

int catch_user(void (*fn)(void *), void *arg, struct caught *c)
{
    user_job.fn = fn;
    user_job.arg = arg;
    net.c.vector = -1;
    net.rip = (uint64_t)user_return;
    net.armed = true;
    user_call((uint64_t)user_enter,
              (uint64_t)user_stack + sizeof user_stack - 8);
    net.armed = false;
    if (net.c.vector == 0x70)
        net.c.vector = -1;
    if (c)
        *c = net.c;
    return net.c.vector;
}

void on_vector(unsigned v, void (*fn)(struct frame *f))
{
    handlers[v] = fn;
}

void gate_set(unsigned v, void *handler, unsigned type, unsigned dpl,
              unsigned ist)
{
    uint64_t a = (uint64_t)handler;

    idt[v] = (struct idt_gate){.off0 = (uint16_t)a,
                               .sel = 0x08,
                               .ist = (uint8_t)ist,
                               .type = (uint8_t)(0x80 | dpl << 5 | type),
                               .off1 = (uint16_t)(a >> 16),
                               .off2 = (uint32_t)(a >> 32)};
}

/* ---- set-up ---- */

static void tss_load(struct tss *t, unsigned sel, uint8_t *stack_top)
{
    uint64_t base = (uint64_t)t, limit = sizeof *t - 1;

    t->rsp[0] = (uint64_t)stack_top;
    t->iomap = (uint16_t)offsetof(struct tss, bitmap);
    for (size_t i = 0; i < sizeof t->bitmap; i++)
        t->bitmap[i] = 0xff;
    gdt[sel / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ULL << 40 |
                   (limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56;
    gdt[sel / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(sel));
}

static void idt_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p = {sizeof idt - 1, (uint64_t)idt};

    __asm__ volatile("lidt %0" : : "m"(p));
}

void lib_init(void)
{
    for (unsigned v = 0; v < 256; v++)
        gate_set(v, stubs + 16 * v, 0xe, v == 3 || v >= 0x70 ? 3 : 0, 0);
    idt_load();
    tss_load(&tss, 0x38, irq_stack + sizeof irq_stack);
}

void ap_init(void)
{
    idt_load();
    tss_load(&ap_tss, 0x48, ap_irq_stack + sizeof ap_irq_stack);
}

__attribute__((weak)) void ap_main(void)
{
}

/* ---- paging ---- */

static volatile uint64_t *next_table(volatile uint64_t *entry)
{
    if (!(*entry & PTE_P)) {
        if (pool_used == POOL_PAGES) {
            print("FAIL page table pool is empty\n");
            finish(1);
        }
        *entry = (uint64_t)pool[pool_used++] | PTE_P | PTE_W | PTE_U;
    }
    return (volatile uint64_t *)(*entry & 0xffffffffff000ULL);
}

volatile uint64_t *pte_of(uint64_t va)
{
    volatile uint64_t *t = next_table(&pml4[va >> 39 & 511]);

    t = next_table(&t[va >> 30 & 511]);
    t = next_table(&t[va >> 21 & 511]);
    return &t[va >> 12 & 511];
}

volatile uint64_t *map_4k(uint64_t va, uint64_t pa, uint64_t bits)
{
    volatile uint64_t *pte = pte_of(va);

    *pte = pa | bits;
    return pte;
}

/* ---- other processors ---- */

static void wait_tsc(uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;

    while (rdtsc() < end)
        __asm__ volatile("pause");
}

bool apic_is_x2(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    return r[2] >> 21 & 1;
}

#define XAPIC ((volatile uint32_t *)0xfee00000)

uint32_t apic_read(uint32_t off)
{
    return apic_is_x2() ? (uint32_t)rdmsr(0x800 + (off >> 4)) : XAPIC[off / 4];
}

void apic_write(uint32_t off, uint32_t v)
{
    if (apic_is_x2())
        wrmsr(0x800 + (off >> 4), v);
    else
        XAPIC[off / 4] = v;
}

void apic_enable(void)
{
    wrmsr(0x1b, rdmsr(0x1b) | (apic_is_x2() ? 0xc00 : 0x800));
    apic_write(0xf0, 0x1ff);
}

void apic_icr(uint32_t id, uint32_t v)
{
    if (apic_is_x2()) {
        wrmsr(0x830, (uint64_t)id << 32 | v);
    } else {
        while (XAPIC[0x300 / 4] & 0x1000)
            ;
        XAPIC[0x310 / 4] = id << 24;
        XAPIC[0x300 / 4] = v;
    }
}

void ap_boot(uint32_t id)
{
    char *to = (char *)AP_PAGE;

    for (char *p = ap_start; p < ap_end; p++)
        *to++ = *p;
    apic_icr(id, 0x4500); /* INIT */
    wait_tsc(20000000);
    apic_icr(id, 0x4600 | AP_PAGE >> 12); /* SIPI */
}
