// SPDX-License-Identifier: Apache-2.0
/*
 * Runs cases in the interpreter: a VM in 64-bit mode at CPL 3 with the corpus'
 * regions at the same linear addresses as in the native child, and control
 * registers, selectors and descriptors as a 64-bit Linux process has them
 * (Linux arch/x86/include/asm/segment.h).
 *
 * corpus_guest_run() is one instruction of the interpreter;
 * corpus_guest_run_on() runs any engine into the HLT of an exception's handler
 * and reads what it left, as the native child's signal handler does.
 *
 * Guest-physical: 0x1000 PML4, 0x2000-0x5fff tables of the low half, 0x6000
 * tables of the upper half (0-2 MiB at -2 GiB, supervisor), 0x8000 GDT, 0x9000
 * IDT, 0xa000 TSS, 0x10000 code, 0x20000 data window.
 */
#include "tests/insn/corpus/corpus.h"

#include "cpu/x86/exceptions.h"
#include "engine/interp/interp.h"
#include "engine/interp/single.h"
#include "engine/interp/vec.h"
#include "vm/vm.h"

#include <stdlib.h>
#include <string.h>

#define SYS_LIN   UINT64_C(0xffffffff80000000) /* of guest-physical 0 */
#define GPA_CODE  0x10000U
#define GPA_DATA  0x20000U
#define PTE_P     1U
#define PTE_W     2U
#define PTE_U     4U
#define PTE_LARGE 0x80U
#define PTE_NX    BIT(63)
#define HANDLERS  (SYS_LIN + 0xd000) /* one byte for each vector */
#define STACK_TOP 0xc000U
#define HDR_AT    512

struct corpus_guest {
    struct vm vm;
    struct x86_cpuid cpuid;
    struct x86_topology topo;
    struct x86_cpu cpu;
    struct x86_cpu start; /* what every case begins with */
    const struct engine_ops *ops;
    struct engine_vcpu *v;
    const uint64_t *pattern;
    uint64_t *page[CORPUS_PAGES]; /* host address of each data page */
    struct mem_iov pin[CORPUS_PAGES];
    uint64_t shadow[CORPUS_WORDS];
};

static void poke(struct corpus_guest *g, uint64_t at, const void *p, size_t n)
{
    if (mem_write(g->vm.mem, gpa(at), p, n))
        abort();
}

static void poke64(struct corpus_guest *g, uint64_t at, uint64_t v)
{
    poke(g, at, &v, 8);
}

static void make_tables(struct corpus_guest *g)
{
    const uint64_t upper = PTE_P | PTE_W | PTE_U;

    poke64(g, 0x1000, 0x2000 | upper);
    poke64(g, 0x2000, 0x3000 | upper);
    poke64(g, 0x3000 + (CORPUS_CODE >> 21) * 8, 0x4000 | upper);
    poke64(g, 0x3000 + (CORPUS_DATA >> 21) * 8, 0x5000 | upper);
    for (unsigned i = 0; i < CORPUS_CODE_BYTES / 4096; i++)
        poke64(g, 0x4000 + i * 8, (GPA_CODE + i * 4096) | PTE_P | PTE_U);
    for (unsigned i = 0; i < CORPUS_PAGES; i++) {
        enum corpus_page kind = corpus_page_kind(i);
        uint64_t pte = (GPA_DATA + i * 4096) | PTE_P | PTE_U | PTE_NX;
        if (kind == CORPUS_RW)
            pte |= PTE_W;
        poke64(g, 0x5000 + i * 8, kind == CORPUS_ABSENT ? 0 : pte);
    }
    poke64(g, 0x1000 + 511 * 8, 0x6000 | PTE_P | PTE_W);
    poke64(g, 0x6000 + 510 * 8, 0x7000 | PTE_P | PTE_W);
    poke64(g, 0x7000, PTE_P | PTE_W | PTE_LARGE);
}

/* Linux's descriptors; kernel ones (DPL 0) as far as CPL 3 can tell. */
static void make_descriptors(struct corpus_guest *g)
{
    poke64(g, 0x8008, 0x00cf9b000000ffff); /* kernel code 32 */
    poke64(g, 0x8010, 0x00af9b000000ffff); /* kernel code */
    poke64(g, 0x8018, 0x00cf93000000ffff); /* kernel data */
    poke64(g, 0x8020, 0x00cffb000000ffff); /* user code 32 */
    poke64(g, 0x8028, 0x00cff3000000ffff); /* user data */
    poke64(g, 0x8030, 0x00affb000000ffff); /* user code */
    poke64(g, 0x8040, 0x80008b00a0000067); /* TSS */
    poke64(g, 0x8048, 0xffffffff);
    poke64(g, 0x8078, 0x0040f50000000000);  /* CPU number in the limit */
    poke64(g, 0xa004, SYS_LIN + STACK_TOP); /* RSP0 */
    poke(g, 0xa066, "\x68", 2);             /* no I/O bitmap */
    for (unsigned v = 0; v < 256; v++) {
        uint64_t dpl3 = v == 3 || v == 4 || v == 0x80 ? 0x60 : 0;
        uint64_t to = HANDLERS + v;
        poke64(g, 0x9000 + v * 16,
               (to & 0xffff) | 0x10ULL << 16 | (0x8e | dpl3) << 40 |
                   (to >> 16 & 0xffff) << 48);
        poke64(g, 0x9008 + v * 16, to >> 32);
    }
}

static void set_seg(struct x86_seg *s, uint16_t sel, uint32_t attr)
{
    *s = (struct x86_seg){.limit = 0xffffffff, .attr = attr, .sel = sel};
}

static void make_cpu(struct x86_cpu *cpu)
{
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP |
               X86_CR0_WP | X86_CR0_AM;
    cpu->cr3 = 0x1000;
    cpu->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
               X86_CR4_OSXSAVE | X86_CR4_FSGSBASE | X86_CR4_UMIP |
               X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_MCE;
    cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    cpu->xcr0 = 7;
    cpu->cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        set_seg(&cpu->seg[i], 0, X86_SEG_UNUSABLE);
        cpu->seg[i].limit = 0;
    }
    set_seg(&cpu->seg[X86_SEG_CS], 0x33, 0xa0fb);
    set_seg(&cpu->seg[X86_SEG_SS], 0x2b, 0xc0f3);
    cpu->gdtr = (struct x86_dtr){SYS_LIN + 0x8000, 127};
    cpu->idtr = (struct x86_dtr){SYS_LIN + 0x9000, 0xfff};
    cpu->tr = (struct x86_seg){
        .base = SYS_LIN + 0xa000, .limit = 0x67, .attr = 0x8b, .sel = 0x40};
    cpu->ldtr.attr = X86_SEG_UNUSABLE;
    cpu->activity = X86_ACT_RUN;
    cpu->rflags = X86_FL_ONE | X86_FL_IF;
}

static int make_vm(struct corpus_guest *g, struct engine_part *part,
                   struct err *e)
{
    const struct mem_conf mc = {.ram_bytes = 2 << 20,
                                .low_limit = 3ULL << 30,
                                .scatter = !part, /* zones need one piece */
                                .seed = 7,
                                .memfd = -1};
    const struct x86_cpuid_conf cc = {
        .level = X86_LEVEL_HOST, .ncpus = 1, .tsc_khz = 1000000};
    struct clock *clk = clock_create(CLOCK_MODE_REAL, 1000000, 0);
    struct mem *mem;

    if (!clk || mem_create(&mc, &mem, e) || vm_init(&g->vm, mem, clk, e) ||
        x86_cpuid_build(&cc, &g->cpuid, e))
        return -1;
    g->topo.ncpus = 1;
    g->topo.cpu[0] = &g->cpu;
    x86_cpu_init(&g->cpu, 0, &g->vm, &g->topo, &g->cpuid);
    g->vm.engine = part;
    if ((!part && interp_vec_init()) ||
        g->ops->vcpu_create(&g->vm, &g->cpu, &g->v, e))
        return -1;
    clock_start(clk);
    return 0;
}

static void pin_pages(struct corpus_guest *g)
{
    for (unsigned i = 0; i < CORPUS_PAGES; i++) {
        gpa_t at = gpa(GPA_DATA + i * 4096);
        poke(g, at.v, g->pattern + i * 512, 4096);
        if (mem_get(g->vm.mem, at, 4096, MEM_WRITE, &g->pin[i], 1) != 1)
            abort();
        g->page[i] = (uint64_t *)(void *)g->pin[i].hva;
    }
    memcpy(g->shadow, g->pattern, CORPUS_BYTES);
}

struct corpus_guest *corpus_guest_open(const uint64_t *pattern,
                                       const char **why)
{
    return corpus_guest_open_on(&interp_engine, NULL, pattern, why);
}

struct corpus_guest *corpus_guest_open_on(const struct engine_ops *ops,
                                          struct engine_part *part,
                                          const uint64_t *pattern,
                                          const char **why)
{
    struct corpus_guest *g = aligned_alloc(64, (sizeof *g + 63) & ~(size_t)63);
    uint8_t fill[4096];
    struct err e;

    *why = "the guest cannot be made";
    if (!g)
        return NULL;
    memset(g, 0, sizeof *g);
    g->pattern = pattern;
    g->ops = ops;
    if (make_vm(g, part, &e))
        return NULL;
    make_tables(g);
    make_descriptors(g);
    memset(fill, 0xcc, sizeof fill);
    poke(g, GPA_CODE, fill, 4096);
    poke(g, GPA_CODE + 4096, fill, 4096);
    memset(fill, 0xf4, 256);
    poke(g, HANDLERS - SYS_LIN, fill, 256);
    pin_pages(g);
    make_cpu(&g->cpu);
    g->ops->vcpu_flush(g->v);
    g->start = g->cpu;
    return g;
}

void corpus_guest_close(struct corpus_guest *g)
{
    if (!g)
        return;
    for (unsigned i = 0; i < CORPUS_PAGES; i++)
        mem_put(g->vm.mem, &g->pin[i], 1, true);
    g->ops->vcpu_destroy(g->v);
    x86_cpu_fini(&g->cpu);
    vm_fini(&g->vm);
    free(g);
}

const struct x86_cpuid *corpus_guest_cpuid(const struct corpus_guest *g)
{
    return &g->cpuid;
}

/* ---- one case ---- */

static void put_word(struct corpus_guest *g, uint32_t at, uint64_t v)
{
    g->page[at / 512][at % 512] = v;
    g->shadow[at] = v;
}

static void put_code(struct corpus_guest *g, const struct corpus_case *c,
                     const uint8_t *bytes)
{
    uint64_t off = c->rip - CORPUS_CODE;
    size_t n = c->ncode;

    if (off + n > CORPUS_CODE_BYTES)
        n = CORPUS_CODE_BYTES - off;
    poke(g, GPA_CODE + off, bytes, n);
}

static void load(struct corpus_guest *g, const struct corpus_case *c)
{
    struct x86_cpu *cpu = &g->cpu;

    memcpy(cpu->gpr, c->gpr, sizeof cpu->gpr);
    cpu->rip = c->rip;
    cpu->rflags = c->rflags;
    cpu->cr2 = 0;
    cpu->dr6 = g->start.dr6;
    cpu->cpl = 3;
    cpu->shadow = 0;
    cpu->activity = X86_ACT_RUN;
    cpu->event.valid = false;
    cpu->db_pending = 0;
    memset(&cpu->exc, 0, sizeof cpu->exc);
    memcpy(cpu->seg, g->start.seg, sizeof cpu->seg);
    cpu->seg[X86_SEG_FS].base = c->fs_base;
    cpu->seg[X86_SEG_GS].base = c->gs_base;
    memcpy(cpu->xsave.b, c->xs, CORPUS_XS_BYTES);
    memset(cpu->xsave.b + HDR_AT, 0, 64);
    cpu->xsave.b[HDR_AT] = 7;
    for (uint32_t i = 0; i < c->npatches; i++)
        put_word(g, c->patch[i].at, c->patch[i].v);
    put_code(g, c, c->code);
}

static void take_diffs(struct corpus_guest *g, struct corpus_result *r)
{
    r->ndiffs = 0;
    for (unsigned page = 0; page < CORPUS_PAGES; page++) {
        uint64_t *a = g->page[page], *b = g->shadow + page * 512;
        if (corpus_page_kind(page) == CORPUS_ABSENT || !memcmp(a, b, 4096))
            continue;
        for (unsigned w = 0; w < 512; w++) {
            if (a[w] == b[w])
                continue;
            if (r->ndiffs < CORPUS_DIFFS_MAX)
                r->diff[r->ndiffs] =
                    (struct corpus_word){page * 512 + w, 0, a[w]};
            r->ndiffs++;
            a[w] = b[w];
        }
    }
}

static void take(struct corpus_guest *g, struct corpus_result *r)
{
    const struct x86_cpu *cpu = &g->cpu;

    memcpy(r->gpr, cpu->gpr, sizeof r->gpr);
    r->rip = cpu->rip;
    r->rflags = cpu->rflags;
    r->fs_base = cpu->seg[X86_SEG_FS].base;
    r->gs_base = cpu->seg[X86_SEG_GS].base;
    for (unsigned i = 0; i < 6; i++)
        r->sel[i] = cpu->seg[i].sel;
    memcpy(r->xs, cpu->xsave.b, CORPUS_XS_BYTES);
    take_diffs(g, r);
}

static void take_exc(const struct x86_cpu *cpu, struct corpus_result *r,
                     enum corpus_end end)
{
    r->end = (uint8_t)end;
    r->vector = cpu->exc.vector;
    r->error = cpu->exc.has_error ? cpu->exc.error : 0;
    r->cr2 = cpu->exc.cr2;
}

/* Whether an INT3 of the code region stands at @rip. */
static bool at_int3(const struct corpus_case *c, uint64_t rip)
{
    return rip - CORPUS_CODE < CORPUS_CODE_BYTES &&
           !(rip >= c->rip && rip < c->rip + c->ncode);
}

/* INT3, INT1, INT n: delivered through the guest's IDT. The frame on its stack
 * is what the native handler sees. */
static void take_soft(struct corpus_guest *g, struct corpus_result *r)
{
    uint64_t f[5]; /* RIP, CS, RFLAGS, RSP, SS */

    r->error = 0;
    r->vector = (uint8_t)(g->cpu.rip - HANDLERS);
    r->end = r->vector == X86_VEC_DB ? CORPUS_DONE_TRAP : CORPUS_SOFT;
    if (mem_read(g->vm.mem, gpa(STACK_TOP - sizeof f), f, sizeof f))
        abort();
    r->rip = f[0];
    r->sel[X86_SEG_CS] = (uint16_t)f[1];
    r->rflags = f[2];
    r->gpr[X86_RSP] = f[3];
    r->sel[X86_SEG_SS] = (uint16_t)f[4];
}

/* The instruction completed: is there a next one? */
static void next_fetch(struct corpus_guest *g, const struct corpus_case *c,
                       struct corpus_result *r)
{
    struct x86_cpu *cpu = &g->cpu;

    if (at_int3(c, r->rip)) {
        r->end = CORPUS_DONE;
        r->vector = X86_VEC_BP;
    } else if (r->rip - c->rip < c->ncode || !interp_single(cpu)) {
        r->end = CORPUS_ODD;
    } else {
        take_exc(cpu, r, CORPUS_DONE_FETCH);
    }
}

static void unload(struct corpus_guest *g, const struct corpus_case *c)
{
    uint8_t fill[CORPUS_INSN_ROOM];

    for (uint32_t i = 0; i < c->npatches; i++)
        put_word(g, c->patch[i].at, g->pattern[c->patch[i].at]);
    memset(fill, 0xcc, sizeof fill);
    put_code(g, c, fill);
}

void corpus_guest_run(struct corpus_guest *g, const struct corpus_case *c,
                      struct corpus_result *r)
{
    struct x86_cpu *cpu = &g->cpu;
    int ret;

    load(g, c);
    ret = interp_single(cpu);
    take(g, r);
    if (ret && cpu->exc.vector == X86_VEC_DB)
        take_exc(cpu, r, CORPUS_DONE_TRAP);
    else if (ret)
        take_exc(cpu, r, CORPUS_FAULT);
    else if (cpu->cpl == 0)
        take_soft(g, r);
    else
        next_fetch(g, c, r);
    unload(g, c);
}

/* ---- one case, by any engine, up to an exception ---- */

static bool has_error(unsigned v)
{
    return v == X86_VEC_DF || (v >= X86_VEC_TS && v <= X86_VEC_PF) ||
           v == X86_VEC_AC;
}

/* The frame that delivery from CPL 3 left on the supervisor's stack. */
static void take_frame(struct corpus_guest *g, unsigned vector,
                       struct corpus_result *r)
{
    uint64_t f[6]; /* error code, RIP, CS, RFLAGS, RSP, SS */

    if (mem_read(g->vm.mem, gpa(STACK_TOP - sizeof f), f, sizeof f))
        abort();
    r->vector = (uint8_t)vector;
    r->error = has_error(vector) ? (uint32_t)f[0] : 0;
    r->cr2 = vector == X86_VEC_PF ? g->cpu.cr2 : 0;
    r->rip = f[1];
    r->sel[X86_SEG_CS] = (uint16_t)f[2];
    r->rflags = f[3];
    r->gpr[X86_RSP] = f[4];
    r->sel[X86_SEG_SS] = (uint16_t)f[5];
}

static enum corpus_end end_of(const struct corpus_case *c,
                              struct corpus_result *r)
{
    bool soft = r->vector == X86_VEC_BP || r->vector == X86_VEC_OF;

    if (r->vector == X86_VEC_DB)
        return CORPUS_DONE_TRAP;
    if (r->rip - 1 - c->rip < c->ncode && soft)
        return CORPUS_SOFT;
    if (r->vector == X86_VEC_BP && at_int3(c, r->rip - 1)) {
        r->rip--;
        return CORPUS_DONE;
    }
    if (r->rip == c->rip)
        return CORPUS_FAULT;
    return CORPUS_DONE_FETCH;
}

void corpus_guest_run_on(struct corpus_guest *g, const struct corpus_case *c,
                         struct corpus_result *r)
{
    struct x86_cpu *cpu = &g->cpu;
    struct exit_rec x;
    uint64_t vector;

    load(g, c);
    g->ops->vcpu_run(g->v, 0, &x);
    take(g, r);
    vector = cpu->rip - 1 - HANDLERS;
    if (x.reason != EXIT_HLT || cpu->cpl || vector > 255) {
        r->end = CORPUS_LOST;
    } else {
        take_frame(g, (unsigned)vector, r);
        r->end = (uint8_t)end_of(c, r);
    }
    unload(g, c);
}

struct x86_cpu *corpus_guest_cpu(struct corpus_guest *g)
{
    return &g->cpu;
}
