// SPDX-License-Identifier: Apache-2.0
/*
 * The VM that random programs run in: 64-bit mode, user code in the lower half
 * and kernel code in the upper one, every gate on an interrupt stack with a
 * HLT behind it, so that an exception ends a run with its frame at a known
 * place. A #PF of the lazy page is handled by guest code; SYSCALL leads to
 * SWAPGS, SWAPGS, SYSRET.
 */
#include "tests/bt/blocks_vm.h"

#include "cpu/x86/exceptions.h"
#include "engine/interp/interp.h"
#include "engine/interp/vec.h"
#include "engine/interp/vec_int.h"
#include "vm/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void poke64(struct blk_vm *v, uint64_t at, uint64_t x)
{
    blk_poke(v, at, &x, 8);
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

    for (unsigned i = 0; i < BLK_ALIASES; i++)
        poke64(v, 0x1000 + (blk_alias(i) >> 39) * 8, 0x2000 | upper);
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
    blk_poke(v, 0xc866, "\x68", 2);       /* no I/O bitmap */
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
    blk_poke(v, GPA_PF, b, n);
}

static void make_code(struct blk_vm *v)
{
    uint8_t fill[4096];

    memset(fill, 0xf4, sizeof fill);
    blk_poke(v, 0xf000, fill, sizeof fill);
    make_pf(v);
    blk_poke(v, GPA_SYSC, "\x0f\x01\xf8\x0f\x01\xf8\x48\x0f\x07", 9);
    memset(fill, BLK_FILL, sizeof fill);
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        blk_poke(v, GPA_CODE + i * 4096, fill, sizeof fill);
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
        blk_set_seg(&cpu->seg[i], 0, X86_SEG_UNUSABLE);
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

/* Instruction by instruction the same values on either engine. */
static uint64_t input(void *ctx, enum input_kind kind, unsigned vcpu,
                      uint64_t key, uint64_t value, uint64_t icount)
{
    struct blk_inputs *in = ctx;
    struct rnd r;

    (void)vcpu;
    (void)key;
    (void)icount;
    if (kind != INPUT_TSC && kind != INPUT_RANDOM)
        return value;
    r.s = in->seed + kind + (in->taken[kind]++ << 8);
    return rnd_int(&r);
}

struct blk_vm *blk_vm_open(const struct engine_ops *ops,
                           struct engine_part *part, bool scatter)
{
    static const struct input_ops inputs = {input};
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
    v->vm.gate = (struct input_gate){.ops = &inputs, .ctx = &v->in};
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
    va = blk_at_home(va);
    for (unsigned i = 0; i < n; i++) {
        uint64_t off = va + i - (va >> 63 ? BLK_KCODE : BLK_UCODE);

        off = off < BLK_CODE_BYTES ? GPA_CODE + off : va + i - BLK_SYS;
        if (off >= RAM)
            return i > 0;
        out[i] = v->page[off / 4096][off % 4096];
    }
    return true;
}
