// SPDX-License-Identifier: Apache-2.0
/*
 * The VM that random programs run in: 64-bit mode, user code in the lower half
 * and kernel code in the upper one, every gate on an interrupt stack with a
 * HLT behind it, so that an exception ends a run with its frame at a known
 * place. A #PF of the lazy page is handled by guest code; SYSCALL leads to
 * SWAPGS, SWAPGS, SYSRET.
 *
 * Guest-physical: 0x1000 PML4, 0x2000 PDPT, 0x3000 PD, 0x4000-0x6fff tables of
 * code, data, cells of the lower half; 0x7000 PDPT, 0x8000 PD, 0x9000-0xbfff
 * the same of the upper one; 0xc000 GDT, 0xc800 TSS, 0xd000 IDT, 0xe000
 * interrupt stack, 0xf000 handlers, 0x10000 #PF handler, system call, 0x20000
 * code, 0x30000 data, 0x40000 cells.
 */
#include "tests/bt/blocks.h"

#include "cpu/x86/exceptions.h"
#include "engine/interp/interp.h"
#include "engine/interp/vec.h"
#include "engine/interp/vec_int.h"
#include "vm/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAM          (2U << 20)
#define PAGES        (RAM / 4096)
#define GPA_PF       0x10000U
#define GPA_SYSC     0x10800U
#define GPA_CODE     0x20000U
#define GPA_DATA     0x30000U
#define GPA_CELLS    0x40000U
#define HANDLERS     (BLK_SYS + 0xf000)
#define IST_TOP      0xf000U
#define LAZY_PAGE    3U
#define SYSTEM_PAGES 0x12U
#define IST_PAGE     0xeU
#define PTE_P        1U
#define PTE_W        2U
#define PTE_U        4U
#define PTE_LARGE    0x80U
#define PTE_GLOBAL   0x100U
#define PTE_NX       BIT(63)

struct blk_vm {
    struct vm vm;
    struct x86_cpuid cpuid;
    struct x86_topology topo;
    struct x86_cpu cpu, start;
    const struct engine_ops *ops;
    struct engine_vcpu *v;
    uint8_t *page[PAGES];
    struct mem_iov pin[PAGES];
    uint8_t pattern[BLK_DATA_BYTES];
    uint8_t system[SYSTEM_PAGES * 4096]; /* page 0 and up, as made */
};

static void poke(struct blk_vm *v, uint64_t at, const void *p, size_t n)
{
    if (mem_write(v->vm.mem, gpa(at), p, n))
        abort();
}

static void poke64(struct blk_vm *v, uint64_t at, uint64_t x)
{
    poke(v, at, &x, 8);
}

/* ---- making it ---- */

/* The kernel's pages are global, or not: what is not, changes with CR3. */
static void make_half(struct blk_vm *v, uint64_t pt, uint64_t user)
{
    const uint64_t global = user ? 0 : PTE_GLOBAL;

    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        poke64(v, pt + i * 8, (GPA_CODE + i * 4096) | PTE_P | PTE_W | user);
    for (unsigned i = 0; i < BLK_DATA_PAGES; i++) {
        uint64_t pte = (GPA_DATA + i * 4096) | user | PTE_NX;

        if (i < BLK_DATA_PAGES / 2)
            pte |= global;
        if (blk_page(i) == BLK_RW || blk_page(i) == BLK_LAZY)
            pte |= PTE_W;
        if (blk_page(i) == BLK_RW || blk_page(i) == BLK_RO)
            pte |= PTE_P;
        poke64(v, pt + 0x1000 + i * 8, pte);
    }
    poke64(v, pt + 0x2000, GPA_CELLS | PTE_P | PTE_W | user | PTE_NX);
}

static void make_tables(struct blk_vm *v)
{
    const uint64_t upper = PTE_P | PTE_W | PTE_U;

    poke64(v, 0x1000, 0x2000 | upper);
    poke64(v, 0x2000, 0x3000 | upper);
    poke64(v, 0x3000 + (BLK_UCODE >> 21) * 8, 0x4000 | upper);
    poke64(v, 0x3000 + (BLK_UDATA >> 21) * 8, 0x5000 | upper);
    poke64(v, 0x3000 + (BLK_UCELLS >> 21) * 8, 0x6000 | upper);
    make_half(v, 0x4000, PTE_U);
    poke64(v, 0x1000 + 511 * 8, 0x7000 | PTE_P | PTE_W);
    poke64(v, 0x7000 + 510 * 8, 0x8000 | PTE_P | PTE_W);
    poke64(v, 0x8000, PTE_P | PTE_W | PTE_LARGE | PTE_GLOBAL);
    poke64(v, 0x8000 + (BLK_KCODE >> 21 & 511) * 8, 0x9000 | PTE_P | PTE_W);
    poke64(v, 0x8000 + (BLK_KDATA >> 21 & 511) * 8, 0xa000 | PTE_P | PTE_W);
    poke64(v, 0x8000 + (BLK_KCELLS >> 21 & 511) * 8, 0xb000 | PTE_P | PTE_W);
    make_half(v, 0x9000, 0);
}

static void make_descriptors(struct blk_vm *v)
{
    poke64(v, 0xc010, 0x00af9b000000ffff); /* kernel code */
    poke64(v, 0xc018, 0x00cf93000000ffff); /* kernel data */
    poke64(v, 0xc020, 0x00cffb000000ffff); /* user code 32 */
    poke64(v, 0xc028, 0x00cff3000000ffff); /* user data */
    poke64(v, 0xc030, 0x00affb000000ffff); /* user code */
    poke64(v, 0xc040, 0x80008b00c8000067); /* TSS */
    poke64(v, 0xc048, 0xffffffff);
    poke64(v, 0xc804, BLK_SYS + 0xe800);  /* RSP0 */
    poke64(v, 0xc824, BLK_SYS + IST_TOP); /* IST1 */
    poke(v, 0xc866, "\x68", 2);           /* no I/O bitmap */
    for (unsigned n = 0; n < 256; n++) {
        uint64_t dpl3 = n == 3 || n == 4 || n == 0x80 ? 0x60 : 0;
        uint64_t to = n == X86_VEC_PF ? BLK_SYS + GPA_PF : HANDLERS + 16 * n;

        poke64(v, 0xd000 + n * 16,
               (to & 0xffff) | 0x10ULL << 16 | 1ULL << 32 |
                   (0x8e | dpl3) << 40 | (to >> 16 & 0xffff) << 48);
        poke64(v, 0xd008 + n * 16, to >> 32);
    }
}

/* or byte [rip + ...], 1 of the PTE at @pte, as if at @at */
static unsigned put_or(uint8_t *b, uint64_t at, uint64_t pte)
{
    int32_t rel = (int32_t)(pte - (at + 7));

    b[0] = 0x80;
    b[1] = 0x0d;
    memcpy(b + 2, &rel, 4);
    b[6] = 1;
    return 7;
}

/* push rax; test byte [rsp+8],1; jnz out; mov rax,cr2; shr rax,12; for each
 * half: cmp eax,PAGE; jne next; or byte [PTE],1; pop rax; add rsp,8; iretq;
 * out: pop rax; hlt */
static void make_pf(struct blk_vm *v)
{
    static const uint8_t head[] = {0x50, 0xf6, 0x44, 0x24, 0x08,
                                   0x01, 0x75, 0x00, 0x0f, 0x20,
                                   0xd0, 0x48, 0xc1, 0xe8, 0x0c};
    static const uint8_t back[] = {0x58, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf};
    const uint64_t va[2] = {BLK_UDATA, BLK_KDATA};
    const uint64_t pte[2] = {0x5000, 0xa000};
    uint8_t b[128];
    unsigned n = sizeof head;

    memcpy(b, head, n);
    for (unsigned h = 0; h < 2; h++) {
        uint32_t page = (uint32_t)((va[h] >> 12) + LAZY_PAGE);

        b[n++] = 0x3d;
        memcpy(b + n, &page, 4);
        n += 4;
        b[n++] = 0x75;
        b[n++] = 7 + sizeof back;
        n += put_or(b + n, GPA_PF + n, pte[h] + LAZY_PAGE * 8);
        memcpy(b + n, back, sizeof back);
        n += (unsigned)sizeof back;
    }
    b[7] = (uint8_t)(n - 8);
    b[n++] = 0x58;
    b[n++] = 0xf4;
    poke(v, GPA_PF, b, n);
}

static void make_code(struct blk_vm *v)
{
    uint8_t fill[4096];

    memset(fill, 0xf4, sizeof fill);
    poke(v, 0xf000, fill, sizeof fill);
    make_pf(v);
    poke(v, GPA_SYSC, "\x0f\x01\xf8\x0f\x01\xf8\x48\x0f\x07", 9);
    memset(fill, BLK_FILL, sizeof fill);
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        poke(v, GPA_CODE + i * 4096, fill, sizeof fill);
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
               X86_CR4_OSXSAVE | X86_CR4_FSGSBASE | X86_CR4_SMEP |
               X86_CR4_SMAP | X86_CR4_MCE;
    cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    cpu->xcr0 = 7;
    cpu->gdtr = (struct x86_dtr){BLK_SYS + 0xc000, 127};
    cpu->idtr = (struct x86_dtr){BLK_SYS + 0xd000, 0xfff};
    cpu->tr = (struct x86_seg){
        .base = BLK_SYS + 0xc800, .limit = 0x67, .attr = 0x8b, .sel = 0x40};
    cpu->ldtr.attr = X86_SEG_UNUSABLE;
    cpu->activity = X86_ACT_RUN;
    cpu->msr.star = 0x23ULL << 48 | 0x10ULL << 32;
    cpu->msr.lstar = BLK_SYS + GPA_SYSC;
    cpu->msr.fmask = 0x47700;
    for (unsigned i = 0; i < 6; i++) {
        set_seg(&cpu->seg[i], 0, X86_SEG_UNUSABLE);
        cpu->seg[i].limit = 0;
    }
}

static void make_pattern(struct blk_vm *v)
{
    struct rnd r = {.s = 42};

    for (unsigned i = 0; i < BLK_DATA_BYTES; i += 8) {
        uint64_t w = rnd_lane(&r, (enum rnd_flavor)(i / 512 % RND_FLAVORS));

        memcpy(v->pattern + i, &w, 8);
    }
}

static void pin_pages(struct blk_vm *v)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (mem_get(v->vm.mem, gpa(i * 4096ULL), 4096, MEM_WRITE, &v->pin[i],
                    1) != 1)
            abort();
        v->page[i] = v->pin[i].hva;
    }
    for (unsigned i = 0; i < BLK_DATA_PAGES; i++)
        memcpy(v->page[GPA_DATA / 4096 + i], v->pattern + i * 4096ULL, 4096);
}

struct blk_vm *blk_vm_open(const struct engine_ops *ops,
                           struct engine_part *part, bool scatter)
{
    const struct mem_conf mc = {.ram_bytes = RAM,
                                .low_limit = 3ULL << 30,
                                .scatter = scatter,
                                .seed = 7,
                                .memfd = -1};
    const struct x86_cpuid_conf cc = {
        .level = X86_LEVEL_HOST, .ncpus = 1, .tsc_khz = 1000000};
    struct blk_vm *v = aligned_alloc(64, (sizeof *v + 63) & ~(size_t)63);
    struct clock *clk = clock_create(CLOCK_MODE_REAL, 1000000, 0);
    struct mem *mem;
    struct err e = {.text = "no memory"};

    memset(v, 0, sizeof *v);
    v->ops = ops;
    v->vm.engine = part;
    if (!clk || mem_create(&mc, &mem, &e) || vm_init(&v->vm, mem, clk, &e) ||
        x86_cpuid_build(&cc, &v->cpuid, &e))
        goto fail;
    v->vm.engine = part;
    v->topo.ncpus = 1;
    v->topo.cpu[0] = &v->cpu;
    x86_cpu_init(&v->cpu, 0, &v->vm, &v->topo, &v->cpuid);
    if ((!part && interp_vec_init()) ||
        ops->vcpu_create(&v->vm, &v->cpu, &v->v, &e))
        goto fail;
    clock_start(clk);
    make_tables(v);
    make_descriptors(v);
    make_code(v);
    make_pattern(v);
    pin_pages(v);
    for (unsigned i = 0; i < SYSTEM_PAGES; i++)
        memcpy(v->system + i * 4096ULL, v->page[i], 4096);
    make_cpu(&v->cpu);
    ops->vcpu_flush(v->v);
    v->start = v->cpu;
    return v;
fail:
    printf("the VM of a test: %s\n", e.text);
    exit(1);
}

void blk_vm_close(struct blk_vm *v)
{
    for (unsigned i = 0; i < PAGES; i++)
        mem_put(v->vm.mem, &v->pin[i], 1, true);
    v->ops->vcpu_destroy(v->v);
    x86_cpu_fini(&v->cpu);
    vm_fini(&v->vm);
    free(v);
}

struct x86_cpu *blk_vm_cpu(struct blk_vm *v)
{
    return &v->cpu;
}

const struct x86_cpuid *blk_vm_cpuid(const struct blk_vm *v)
{
    return &v->cpuid;
}

const uint8_t *blk_vm_page(const struct blk_vm *v, unsigned page)
{
    return page < PAGES ? v->page[page] : NULL;
}

bool blk_vm_fetch(const struct blk_vm *v, uint64_t va, uint8_t *out, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t off = va + i - (va >> 63 ? BLK_KCODE : BLK_UCODE);

        off = off < BLK_CODE_BYTES ? GPA_CODE + off : va + i - BLK_SYS;
        if (off >= RAM)
            return i > 0;
        out[i] = v->page[off / 4096][off % 4096];
    }
    return true;
}

/* ---- a run ---- */

/* Write the code region's bytes [lo, hi) that differ, page by page, as another
 * CPU would: the engine is told. */
static void put_code(struct blk_vm *v, const uint8_t *want, uint32_t lo,
                     uint32_t hi)
{
    while (lo < hi) {
        uint32_t end = (lo | 4095) + 1, a = lo, b;
        const uint8_t *have;

        end = end < hi ? end : hi;
        have = v->page[(GPA_CODE + lo) / 4096] - (lo & ~4095U);
        b = end;
        while (a < b && have[a] == want[a])
            a++;
        while (b > a && have[b - 1] == want[b - 1])
            b--;
        if (a < b)
            poke(v, GPA_CODE + a, want + a, b - a);
        lo = end;
    }
}

static void reset_cpu(struct blk_vm *v)
{
    struct x86_cpu *cpu = &v->cpu;
    bool flush = cpu->cr3 != v->start.cr3 || cpu->cr4 != v->start.cr4 ||
                 cpu->efer != v->start.efer;

    memcpy(cpu, &v->start, offsetof(struct x86_cpu, index));
    if (flush)
        v->ops->vcpu_flush(v->v);
}

static void reset_lazy(struct blk_vm *v)
{
    const uint64_t va[2] = {BLK_UDATA, BLK_KDATA};
    const unsigned page[2] = {0x5, 0xa};

    for (unsigned h = 0; h < 2; h++) {
        uint8_t *pte = v->page[page[h]] + LAZY_PAGE * 8;

        if (!(*pte & PTE_P))
            continue;
        *pte = 0; /* the low byte: it stays global */
        *pte = (uint8_t)(PTE_W | (h ? 0 : PTE_U));
        v->cpu.lin->flush(v->cpu.lin_ctx, X86_FLUSH_PAGE,
                          (gva_t){va[h] + LAZY_PAGE * 4096}, 0);
    }
}

/* What kernel code wrote into tables, descriptors, handlers; with @exact
 * Accessed and Dirty bits, too. */
static void reset_system(struct blk_vm *v, bool exact)
{
    bool flush = exact;

    for (unsigned page = 0; page < SYSTEM_PAGES; page++) {
        const uint8_t *want = v->system + page * 4096ULL, *have = v->page[page];

        if (page == IST_PAGE || memcmp(have, want, 4096) == 0)
            continue;
        for (unsigned i = 0; i < 4096; i++) {
            bool bits = page < 0xc && i % 8 == 0 && !exact;

            if (((have[i] ^ want[i]) & (bits ? 0x9f : 0xff)) == 0)
                continue;
            poke(v, page * 4096ULL + i, want + i, 1);
            flush = true;
        }
    }
    if (flush)
        v->ops->vcpu_flush(v->v);
}

void blk_vm_load(struct blk_vm *v, const struct blk_prog *p)
{
    uint64_t cells[4096 / 8] = {0};

    reset_cpu(v);
    reset_lazy(v);
    reset_system(v, false);
    put_code(v, p->code, p->lo, p->hi);
    for (unsigned i = 0; i < BLK_DATA_PAGES; i++) {
        uint8_t *page = v->page[GPA_DATA / 4096 + i];

        if (memcmp(page, v->pattern + i * 4096ULL, 4096) != 0)
            memcpy(page, v->pattern + i * 4096ULL, 4096);
    }
    for (unsigned i = 0; i < p->ncells; i++)
        cells[i] = p->cell[i].item ? p->item[p->cell[i].v].addr : p->cell[i].v;
    memcpy(v->page[GPA_CELLS / 4096], cells, sizeof cells);
}

void blk_vm_state(struct blk_vm *v, const struct blk_prog *p, unsigned run)
{
    struct rnd r = {.s = p->seed * UINT64_C(0x9e3779b97f4a7c15) + run};
    struct x86_cpu *cpu = &v->cpu;

    reset_cpu(v);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t x = rnd_pct(&r, 8) ? 0 : rnd_int(&r);

        if (rnd_pct(&r, 5)) /* ECX is 0 and RCX not, and the like */
            x &= UINT64_C(0xffffffff00000000);
        cpu->gpr[i] = p->known >> i & 1 ? p->gpr[i] : x;
    }
    cpu->rip = p->item[0].addr;
    cpu->rflags = rnd_flags(&r) & ~(X86_FL_TF | X86_FL_AC | X86_FL_NT);
    if (rnd_pct(&r, 80))
        cpu->rflags &= ~X86_FL_DF;
    if (p->kernel && rnd_pct(&r, 20))
        cpu->rflags |= X86_FL_AC;
    if (p->kernel && rnd_pct(&r, 70))
        cpu->rflags &= ~X86_FL_IF;
    set_seg(&cpu->seg[X86_SEG_CS], p->kernel ? 0x10 : 0x33,
            p->kernel ? 0xa09b : 0xa0fb);
    set_seg(&cpu->seg[X86_SEG_SS], p->kernel ? 0x18 : 0x2b,
            p->kernel ? 0xc093 : 0xc0f3);
    cpu->cpl = p->kernel ? 0 : 3;
    cpu->seg[X86_SEG_FS].base = p->fs_base;
    cpu->seg[X86_SEG_GS].base = p->gs_base;
    cpu->msr.kernel_gs_base = p->kernel_gs;
    if (p->ts && rnd_pct(&r, 40))
        cpu->cr0 |= X86_CR0_TS;
    rnd_xstate(&r, rnd_n(&r, RND_FLAVORS), cpu->xsave.b);
    memset(cpu->xsave.b + FX_FOP, 0, 2);
    memset(cpu->xsave.b + FX_FIP, 0, 16);
    memset(cpu->xsave.b + 512, 0, 64);
    cpu->xsave.b[512] = 7;
}

static bool has_error(unsigned n)
{
    return n == X86_VEC_DF || (n >= X86_VEC_TS && n <= X86_VEC_PF) ||
           n == X86_VEC_AC;
}

static void take_frame(struct blk_vm *v, struct blk_exit *x)
{
    uint64_t f[6]; /* error code, RIP, CS, RFLAGS, RSP, SS */

    memcpy(f, v->page[IST_TOP / 4096 - 1] + 4096 - sizeof f, sizeof f);
    x->end = BLK_END_FAULT;
    x->error = has_error(x->vector) ? (uint32_t)f[0] : 0;
    x->rip = f[1];
    x->cs = (uint16_t)f[2];
    x->rflags = f[3];
    x->rsp = f[4];
    x->ss = (uint16_t)f[5];
}

void blk_vm_run(struct blk_vm *v, uint64_t budget, struct blk_exit *x)
{
    struct x86_cpu *cpu = &v->cpu;
    struct exit_rec e = {0};
    uint64_t at;

    v->ops->vcpu_run(v->v, budget, &e);
    *x = (struct blk_exit){.end = BLK_END_LOST, .reason = e.reason};
    x->rip = cpu->rip;
    x->rflags = cpu->rflags;
    x->rsp = cpu->gpr[X86_RSP];
    x->cs = cpu->seg[X86_SEG_CS].sel;
    x->ss = cpu->seg[X86_SEG_SS].sel;
    if (e.reason == EXIT_BUDGET)
        x->end = BLK_END_BUDGET;
    if (e.reason != EXIT_HLT)
        return;
    at = cpu->rip - 1;
    x->end = BLK_END_HLT;
    if (at - HANDLERS < 4096) {
        x->vector = (unsigned)((at - HANDLERS) / 16);
        take_frame(v, x);
    } else if (at - (BLK_SYS + GPA_PF) < 128) {
        x->vector = X86_VEC_PF;
        take_frame(v, x);
    }
}

void blk_vm_resume(struct blk_vm *v, const struct blk_exit *x, uint64_t rip,
                   uint64_t rflags)
{
    struct x86_cpu *cpu = &v->cpu;
    bool kernel = (x->cs & 3) == 0;

    set_seg(&cpu->seg[X86_SEG_CS], x->cs, kernel ? 0xa09b : 0xa0fb);
    set_seg(&cpu->seg[X86_SEG_SS], x->ss, kernel ? 0xc093 : 0xc0f3);
    cpu->cpl = kernel ? 0 : 3;
    cpu->rip = rip;
    cpu->rflags = rflags & ~X86_FL_RF;
    cpu->gpr[X86_RSP] = x->rsp;
    cpu->activity = X86_ACT_RUN;
    cpu->shadow = 0;
}

bool blk_vm_code_changed(const struct blk_vm *v, const struct blk_prog *p)
{
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        if (memcmp(v->page[GPA_CODE / 4096 + i], p->code + i * 4096ULL, 4096) !=
            0)
            return true;
    return false;
}

/* What kernel code wrote where nothing is. */
static void reset_rest(struct blk_vm *v)
{
    static const uint8_t zero[4096];

    for (unsigned page = SYSTEM_PAGES; page < PAGES; page++) {
        uint64_t at = page * 4096ULL;

        if (at - GPA_CODE >= BLK_CODE_BYTES &&
            at - GPA_DATA >= BLK_DATA_BYTES &&
            memcmp(v->page[page], zero, 4096) != 0)
            poke(v, at, zero, 4096);
    }
}

bool blk_vm_tables_changed(const struct blk_vm *v)
{
    for (unsigned i = 0x1000; i < 0xc000; i += 8) {
        const uint8_t *have = v->page[i / 4096] + i % 4096;
        uint64_t want, pte;

        memcpy(&pte, have, 8);
        memcpy(&want, v->system + i, 8);
        if (have != v->page[0x5] + LAZY_PAGE * 8ULL &&
            have != v->page[0xa] + LAZY_PAGE * 8ULL && (pte ^ want) & ~0x60ULL)
            return true;
    }
    return false;
}

void blk_vm_clean(struct blk_vm *v, bool exact)
{
    static const struct {
        uint8_t b[BLK_CODE_BYTES];
    } fill = {{[0 ... BLK_CODE_BYTES - 1] = BLK_FILL}};

    put_code(v, fill.b, 0, BLK_CODE_BYTES);
    if (!exact)
        return;
    reset_rest(v);
    reset_system(v, true);
}
