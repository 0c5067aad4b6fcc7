// SPDX-License-Identifier: Apache-2.0
/*
 * A run of a random program: its bytes and registers put in place, the engine
 * run up to the next exit, and everything put back as it was.
 */
#include "tests/bt/blocks_vm.h"

#include "cpu/x86/exceptions.h"
#include "engine/interp/vec_int.h"

#include <string.h>

static const uint8_t zero[4096];

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
            blk_poke(v, GPA_CODE + a, want + a, b - a);
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
        for (unsigned i = 0; i < (h ? 1 : BLK_ALIASES); i++)
            v->cpu.lin->flush(v->cpu.lin_ctx, X86_FLUSH_PAGE,
                              (gva_t){va[h] + blk_alias(i) + LAZY_PAGE * 4096},
                              0);
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
            blk_poke(v, page * 4096ULL + i, want + i, 1);
            flush = true;
        }
    }
    if (flush)
        v->ops->vcpu_flush(v->v);
}

void blk_vm_load(struct blk_vm *v, const struct blk_prog *p)
{
    uint64_t cells[4096 / 8] = {0};

    v->in = (struct blk_inputs){.seed = p->seed << 32};
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
    if (memcmp(v->page[IST_PAGE], zero, 4096) != 0)
        blk_poke(v, IST_PAGE * 4096, zero, 4096);
}

void blk_vm_spoil(struct blk_vm *v)
{
    for (unsigned i = 0; i < BLK_DATA_PAGES; i++)
        v->page[GPA_DATA / 4096 + i][BLK_SPOILT] ^= 1;
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
    blk_set_seg(&cpu->seg[X86_SEG_CS], p->kernel ? 0x10 : 0x33,
                p->kernel ? 0xa09b : 0xa0fb);
    blk_set_seg(&cpu->seg[X86_SEG_SS], p->kernel ? 0x18 : 0x2b,
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

/* The frame goes: a program may jump to a handler without one, and what is
 * left of it may differ (flags, and what was excused). */
static void take_frame(struct blk_vm *v, struct blk_exit *x)
{
    uint64_t f[6]; /* error code, RIP, CS, RFLAGS, RSP, SS */
    const uint8_t *at = v->page[IST_PAGE] + 4096 - sizeof f;

    memcpy(f, at, sizeof f);
    blk_poke(v, IST_TOP - sizeof f, zero, sizeof f);
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

    blk_set_seg(&cpu->seg[X86_SEG_CS], x->cs, kernel ? 0xa09b : 0xa0fb);
    blk_set_seg(&cpu->seg[X86_SEG_SS], x->ss, kernel ? 0xc093 : 0xc0f3);
    cpu->cpl = kernel ? 0 : 3;
    cpu->rip = rip;
    cpu->rflags = rflags & ~X86_FL_RF;
    cpu->gpr[X86_RSP] = x->rsp;
    cpu->activity = X86_ACT_RUN;
    cpu->shadow = 0;
}

const uint8_t *blk_vm_code(const struct blk_vm *v, unsigned page)
{
    return v->page[GPA_CODE / 4096 + page];
}

bool blk_vm_code_changed(const struct blk_vm *v, const struct blk_prog *p)
{
    for (unsigned i = 0; i < BLK_CODE_PAGES; i++)
        if (memcmp(blk_vm_code(v, i), p->code + i * 4096ULL, 4096) != 0)
            return true;
    return false;
}

/* What kernel code wrote where nothing is. */
static void reset_rest(struct blk_vm *v)
{
    for (unsigned page = SYSTEM_PAGES; page < PAGES; page++) {
        uint64_t at = page * 4096ULL;

        if (at - GPA_CODE >= BLK_CODE_BYTES &&
            at - GPA_DATA >= BLK_DATA_BYTES &&
            memcmp(v->page[page], zero, 4096) != 0)
            blk_poke(v, at, zero, 4096);
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
