// SPDX-License-Identifier: Apache-2.0
/* Tests of paging.c against a model that follows the SDM's sentences one by
 * one (vol. 3A 4.6, 4.7), for all combinations. */
#include "cpu/x86/paging.h"

#include "base/test.h"
#include "cpu/x86/control.h"
#include "cpu/x86/cpu_fixture.h"
#include "cpu/x86/exceptions.h"

#define TABLE(level) (UINT64_C(0x100000) + (uint64_t)(level)*0x1000)
#define VA           UINT64_C(0x00007a1234567890)
#define TARGET       UINT64_C(0x40000000) /* 1 GiB aligned: fits any leaf */

struct model {
    bool user, write, fetch, implicit; /* the access; user: CPL 3 */
    bool wp, smep, smap, nxe, ac;
    unsigned leaf; /* level of the leaf, 1-3 */
    bool us[5], rw[5], nx[5];
};

/* SDM vol. 3A 4.6.1, sentence by sentence. Return: allowed. */
static bool model_allows(const struct model *m)
{
    bool user_page = true, writable = true, no_exec = false;
    bool sup = !m->user || m->implicit;

    for (unsigned l = m->leaf; l <= 4; l++) {
        user_page = user_page && m->us[l];
        writable = writable && m->rw[l];
        no_exec = no_exec || (m->nxe && m->nx[l]);
    }
    if (!sup && !user_page)
        return false;
    if (m->fetch) {
        if (no_exec)
            return false;
        return !(sup && user_page && m->smep);
    }
    if (sup && user_page && m->smap && (m->implicit || !m->ac))
        return false;
    if (m->write && !writable)
        return sup && !m->wp;
    return true;
}

static uint32_t model_error(const struct model *m)
{
    uint32_t e = X86_PF_P;

    if (m->write)
        e |= X86_PF_W;
    if (m->user && !m->implicit)
        e |= X86_PF_U;
    if (m->fetch && (m->nxe || m->smep))
        e |= X86_PF_I;
    return e;
}

static unsigned level_shift(unsigned level)
{
    return 12 + 9 * (level - 1);
}

static uint64_t entry_at(unsigned level)
{
    return TABLE(level) + 8 * (VA >> level_shift(level) & 511);
}

static void long_mode(struct x86_cpu *cpu)
{
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET;
    cpu->cr3 = TABLE(4);
    cpu->cr4 = X86_CR4_PAE;
    cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
}

/* Entries for levels 4..leaf with @flags added to all. */
static void map(struct fx *fx, unsigned leaf, uint64_t flags)
{
    for (unsigned l = 4; l > leaf; l--)
        fx_put64(fx, entry_at(l), TABLE(l - 1) | flags);
    fx_put64(fx, entry_at(leaf), TARGET | flags | (leaf > 1 ? X86_PTE_PS : 0));
}

static uint64_t set_if(uint64_t v, uint64_t bit, bool on)
{
    return on ? v | bit : v & ~bit;
}

static unsigned lin_flags(const struct model *m)
{
    return (m->fetch   ? X86_LIN_EXEC
            : m->write ? X86_LIN_WRITE
                       : X86_LIN_READ) |
           (m->implicit ? X86_LIN_IMPLICIT : 0);
}

static void check_access(struct fx *fx, const struct model *m)
{
    struct x86_cpu *cpu = &fx->cpu[0];
    bool want = model_allows(m);
    struct x86_walk w;
    int r;

    memset(&cpu->exc, 0, sizeof cpu->exc);
    r = x86_walk(cpu, gva(VA), lin_flags(m), &w);
    if ((r == 0) != want) {
        CHECK_EQ(r == 0, want);
        return;
    }
    if (r) {
        CHECK_EQ(cpu->exc.vector, X86_VEC_PF);
        CHECK_EQ(cpu->exc.error, model_error(m));
        CHECK_EQ(cpu->exc.cr2, VA);
        return;
    }
    CHECK_EQ(w.gpa.v, TARGET | (VA & (BIT(level_shift(m->leaf)) - 1)));
    CHECK_EQ(w.shift, level_shift(m->leaf));
    if (m->write && !w.dirty)
        CHECK(w.dirty);
    /* the allow word says the same as another walk would */
    for (unsigned k = 0; k < 12; k++) {
        static const uint32_t bits[12] = {
            X86_ALLOW_USER_R,  X86_ALLOW_USER_W,  X86_ALLOW_USER_X,
            X86_ALLOW_SUP_R,   X86_ALLOW_SUP_W,   X86_ALLOW_SUP_X,
            X86_ALLOW_SUPAC_R, X86_ALLOW_SUPAC_W, X86_ALLOW_SUP_X,
            X86_ALLOW_SUP_R,   X86_ALLOW_SUP_W,   X86_ALLOW_SUP_X};
        struct model o = *m;

        o.user = k < 3;
        o.write = k % 3 == 1;
        o.fetch = k % 3 == 2;
        o.implicit = k >= 9;
        o.ac = k >= 6;
        if (!!(w.allow & bits[k]) != model_allows(&o)) {
            CHECK_EQ(!!(w.allow & bits[k]), model_allows(&o));
            return;
        }
    }
}

/* All accesses under the control bits and entry rights that @m has. */
static void check_accesses(struct fx *fx, struct model *m)
{
    for (unsigned a = 0; a < 9; a++) {
        m->user = a % 3 == 0;
        m->implicit = a % 3 == 2;
        m->write = a / 3 == 1;
        m->fetch = a / 3 == 2;
        if (m->fetch && m->implicit)
            continue;
        fx->cpu[0].cpl = m->user || m->implicit ? 3 : 0;
        check_access(fx, m);
    }
}

TEST(rights_all_combinations)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct model m = {0};

    fx_init(&fx, 1);
    long_mode(cpu);
    for (m.leaf = 1; m.leaf <= 3; m.leaf++) {
        unsigned n = 3 * (5 - m.leaf);

        for (unsigned e = 0; e < 1U << n; e++) {
            map(&fx, m.leaf, X86_PTE_P);
            for (unsigned l = m.leaf; l <= 4; l++) {
                unsigned b = e >> (3 * (l - m.leaf));
                uint64_t pte = fx_get64(&fx, entry_at(l));

                m.us[l] = b & 1;
                m.rw[l] = b & 2;
                m.nx[l] = b & 4;
                pte = set_if(pte, X86_PTE_US, m.us[l]);
                pte = set_if(pte, X86_PTE_RW, m.rw[l]);
                pte = set_if(pte, X86_PTE_NX, m.nx[l]);
                fx_put64(&fx, entry_at(l), pte);
            }
            for (unsigned c = 0; c < 16; c++) {
                m.wp = c & 1;
                m.smep = c & 2;
                m.smap = c & 4;
                m.ac = c & 8;
                m.nxe = true;
                cpu->cr0 = set_if(cpu->cr0, X86_CR0_WP, m.wp);
                cpu->cr4 = set_if(cpu->cr4, X86_CR4_SMEP, m.smep);
                cpu->cr4 = set_if(cpu->cr4, X86_CR4_SMAP, m.smap);
                cpu->rflags = set_if(cpu->rflags, X86_FL_AC, m.ac);
                check_accesses(&fx, &m);
            }
        }
    }
    fx_fini(&fx);
}

TEST(fetch_bit_needs_nxe_or_smep)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct x86_walk w;

    fx_init(&fx, 1);
    long_mode(cpu);
    cpu->cpl = 3;
    map(&fx, 1, X86_PTE_P | X86_PTE_RW);
    for (unsigned i = 0; i < 4; i++) {
        cpu->efer = set_if(cpu->efer, X86_EFER_NXE, i & 1);
        cpu->cr4 = set_if(cpu->cr4, X86_CR4_SMEP, i & 2);
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_EXEC, &w), X86_FAULT);
        CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_U | (i ? X86_PF_I : 0));
    }
    fx_fini(&fx);
}

TEST(not_present_at_each_level)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct x86_walk w;

    fx_init(&fx, 1);
    long_mode(cpu);
    for (unsigned l = 1; l <= 4; l++) {
        map(&fx, 1, X86_PTE_P | X86_PTE_RW | X86_PTE_US);
        /* all else set, reserved bits too: P = 0 decides first */
        fx_put64(&fx, entry_at(l), ~X86_PTE_P);
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_WRITE, &w), X86_FAULT);
        CHECK_EQ(cpu->exc.error, X86_PF_W);
        cpu->cpl = 3;
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_READ, &w), X86_FAULT);
        CHECK_EQ(cpu->exc.error, X86_PF_U);
        cpu->cpl = 0;
    }
    fx_fini(&fx);
}

TEST(reserved_bits)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct x86_walk w;

    fx_init(&fx, 1);
    long_mode(cpu);
    for (unsigned nxe = 0; nxe < 2; nxe++)
        for (unsigned leaf = 1; leaf <= 3; leaf++)
            for (unsigned l = leaf; l <= 4; l++)
                for (unsigned b = 7; b < 64; b++) {
                    bool big = l == leaf && leaf > 1;
                    bool res = (b >= X86_MAXPHYADDR && b <= 51) ||
                               (b == 63 && !nxe) || (b == 7 && l == 4) ||
                               (big && b >= 13 && b < level_shift(leaf));
                    bool moves = b >= 12 && b < X86_MAXPHYADDR && l > leaf;

                    if (moves || (b == 7 && l < 4))
                        continue; /* another table, another leaf */
                    map(&fx, leaf, X86_PTE_P | X86_PTE_RW | X86_PTE_US);
                    fx_put64(&fx, entry_at(l),
                             fx_get64(&fx, entry_at(l)) | BIT(b));
                    cpu->efer = set_if(cpu->efer, X86_EFER_NXE, nxe);
                    CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_READ, &w),
                             res ? X86_FAULT : 0);
                    if (res)
                        CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_RSVD);
                    else if (b == 8 && l == leaf)
                        CHECK(!w.global); /* PGE is off */
                }
    fx_fini(&fx);
}

TEST(accessed_and_dirty)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    uint64_t ad = X86_PTE_A | X86_PTE_D;
    struct x86_walk w;

    fx_init(&fx, 1);
    long_mode(cpu);
    for (unsigned leaf = 1; leaf <= 3; leaf++) {
        uint32_t epoch = mem_epoch_next(fx.vm.mem);

        map(&fx, leaf, X86_PTE_P | X86_PTE_US);
        cpu->cr0 |= X86_CR0_WP;
        /* a refused access sets nothing */
        epoch = mem_epoch_next(fx.vm.mem);
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_WRITE, &w), X86_FAULT);
        for (unsigned l = leaf; l <= 4; l++)
            CHECK_EQ(fx_get64(&fx, entry_at(l)) & ad, 0);
        CHECK(!mem_dirty_since(fx.vm.mem, gpa(entry_at(leaf)), epoch));
        /* a read sets A everywhere, D nowhere, and marks the pages dirty */
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_READ, &w), 0);
        CHECK(!w.dirty);
        for (unsigned l = leaf; l <= 4; l++)
            CHECK_EQ(fx_get64(&fx, entry_at(l)) & ad, X86_PTE_A);
        CHECK(mem_dirty_since(fx.vm.mem, gpa(entry_at(leaf)), epoch));
        /* a write sets D on the leaf only */
        cpu->cr0 &= ~X86_CR0_WP;
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_WRITE, &w), 0);
        CHECK(w.dirty);
        for (unsigned l = leaf; l <= 4; l++)
            CHECK_EQ(fx_get64(&fx, entry_at(l)) & ad,
                     l == leaf ? ad : X86_PTE_A);
        /* nothing left to set: no write to the table */
        epoch = mem_epoch_next(fx.vm.mem);
        CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_WRITE, &w), 0);
        CHECK(!mem_dirty_since(fx.vm.mem, gpa(entry_at(leaf)), epoch));
    }
    fx_fini(&fx);
}

TEST(global_and_peek)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct x86_walk w;
    gpa_t at;

    fx_init(&fx, 1);
    long_mode(cpu);
    cpu->cr4 |= X86_CR4_PGE;
    map(&fx, 2, X86_PTE_P | X86_PTE_G);
    CHECK_EQ(x86_walk(cpu, gva(VA), X86_LIN_READ, &w), 0);
    CHECK(w.global);
    fx_put64(&fx, entry_at(2), fx_get64(&fx, entry_at(2)) & ~X86_PTE_A);
    CHECK(x86_walk_peek(cpu, gva(VA), &at));
    CHECK_EQ(at.v, w.gpa.v);
    CHECK_EQ(fx_get64(&fx, entry_at(2)) & X86_PTE_A, 0);
    CHECK(!x86_walk_peek(cpu, gva(BIT(47)), &at));
    fx_fini(&fx);
}

/* ---- 32-bit and PAE ---- */

static void put32(struct fx *fx, uint64_t at, uint64_t v)
{
    fx_put32(fx, at, (uint32_t)v);
}

TEST(two_level)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    uint64_t va = 0xc0123456U, pde = TABLE(2) + 4 * (va >> 22),
             pte = TABLE(1) + 4 * (va >> 12 & 1023);
    struct x86_walk w;

    fx_init(&fx, 1);
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
    cpu->cr3 = TABLE(2);
    put32(&fx, pde, TABLE(1) | 7);
    put32(&fx, pte, 0x00abc000U | 5);
    cpu->cpl = 3;
    /* upper halves are ignored outside long mode */
    CHECK_EQ(x86_walk(cpu, gva(va | BIT(40)), X86_LIN_READ, &w), 0);
    CHECK_EQ(w.gpa.v, 0x00abc456U);
    CHECK_EQ(w.shift, 12);
    CHECK_EQ(fx_get32(&fx, pde), TABLE(1) | 7 | X86_PTE_A);
    CHECK_EQ(fx_get32(&fx, pte), 0x00abc000U | 5 | X86_PTE_A);
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_WRITE, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_W | X86_PF_U);
    /* no NX: bit I of the error code stays clear whatever EFER says */
    put32(&fx, pte, 0x00abc000U | 1);
    cpu->efer = X86_EFER_NXE;
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_EXEC, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_U);
    /* PS without CR4.PSE is no page; with it 4 MiB, PSE-36 bits included */
    put32(&fx, pde, 0x00400000U | X86_PTE_PS | 7 | 0x5aU << 13);
    cpu->cr4 = X86_CR4_PSE;
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_WRITE, &w), 0);
    CHECK_EQ(w.gpa.v, UINT64_C(0x5a00400000) | (va & 0x3fffff));
    CHECK_EQ(w.shift, 22);
    CHECK_EQ(fx_get32(&fx, pde) & (X86_PTE_A | X86_PTE_D),
             X86_PTE_A | X86_PTE_D);
    put32(&fx, pde, 0x00400000U | X86_PTE_PS | 7 | BIT(21));
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_READ, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_RSVD | X86_PF_U);
    fx_fini(&fx);
}

TEST(pae)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    uint64_t va = 0x80654321U, root = 0x200020,
             pde = TABLE(2) + 8 * (va >> 21 & 511),
             pte = TABLE(1) + 8 * (va >> 12 & 511);
    struct x86_walk w;

    fx_init(&fx, 1);
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
    cpu->cr4 = X86_CR4_PAE;
    cpu->efer = X86_EFER_NXE;
    fx_put64(&fx, root + 16, TABLE(2) | 1);
    fx_put64(&fx, pde, TABLE(1) | 7);
    fx_put64(&fx, pte, UINT64_C(0x1234567000) | 7 | X86_PTE_NX);
    CHECK_EQ(x86_mov_to_cr(cpu, 3, root), 0);
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_WRITE, &w), 0);
    CHECK_EQ(w.gpa.v, UINT64_C(0x1234567321));
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_EXEC, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_I);
    /* 52-62 are reserved here, unlike in 4-level paging */
    fx_put64(&fx, pte, UINT64_C(0x1234567000) | 7 | BIT(55));
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_READ, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, X86_PF_P | X86_PF_RSVD);
    /* 2 MiB */
    fx_put64(&fx, pde, UINT64_C(0x1200200000) | 7 | X86_PTE_PS);
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_READ, &w), 0);
    CHECK_EQ(w.gpa.v, UINT64_C(0x1200200000) | (va & 0x1fffff));
    /* the registers hold what CR3's load read, not what memory says now */
    fx_put64(&fx, root + 16, 0);
    CHECK_EQ(x86_walk(cpu, gva(va), X86_LIN_READ, &w), 0);
    fx_put64(&fx, root + 16, TABLE(2) | 1 | BIT(1));
    CHECK_EQ(x86_mov_to_cr(cpu, 3, root), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    CHECK_EQ(x86_walk(cpu, gva(0x40000000), X86_LIN_READ, &w), X86_FAULT);
    CHECK_EQ(cpu->exc.error, 0);
    fx_fini(&fx);
}

/* ---- linear memory ---- */

TEST(linear_accesses)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    uint64_t pt = TABLE(1), v;

    fx_init(&fx, 1);
    long_mode(cpu);
    cpu->cr0 |= X86_CR0_WP;
    fx_put64(&fx, TABLE(4), TABLE(3) | 7);
    fx_put64(&fx, TABLE(3), TABLE(2) | 7);
    fx_put64(&fx, TABLE(2), pt | 7);
    fx_put64(&fx, pt + 8, 0x300000 | 7);
    fx_put64(&fx, pt + 16, 0x500000 | 7);
    fx_put64(&fx, 0x300ff8, UINT64_C(0x1111111122222222));
    fx_put64(&fx, 0x500000, UINT64_C(0x3333333344444444));
    CHECK_EQ(x86_lin_read(cpu, 0x1ffc, &v, 8, 0), 0);
    CHECK_EQ(v, UINT64_C(0x4444444411111111));
    v = UINT64_C(0xa5a5a5a5b6b6b6b6);
    CHECK_EQ(x86_lin_write(cpu, 0x1ffc, &v, 8, 0), 0);
    CHECK_EQ(fx_get32(&fx, 0x300ffc), 0xb6b6b6b6U);
    CHECK_EQ(fx_get32(&fx, 0x500000), 0xa5a5a5a5U);
    /* the second page is missing: #PF there, the first is untouched */
    fx_put64(&fx, pt + 16, 0);
    v = 0;
    CHECK_EQ(x86_lin_write(cpu, 0x1ffc, &v, 8, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.cr2, 0x2000);
    CHECK_EQ(cpu->exc.error, X86_PF_W);
    CHECK_EQ(fx_get32(&fx, 0x300ffc), 0xb6b6b6b6U);
    /* canonical */
    CHECK_EQ(x86_lin_read(cpu, BIT(47), &v, 1, 0), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_GP);
    CHECK_EQ(x86_lin_read(cpu, BIT(47) - 4, &v, 8, X86_LIN_STACK), X86_FAULT);
    CHECK_EQ(cpu->exc.vector, X86_VEC_SS);
    CHECK_EQ(cpu->exc.error, 0);
    fx_fini(&fx);
}

TEST(no_paging)
{
    static struct fx fx;
    struct x86_cpu *cpu = &fx.cpu[0];
    struct x86_walk w;

    fx_init(&fx, 1);
    CHECK_EQ(x86_walk(cpu, gva(UINT64_C(0xffff00001234)), X86_LIN_WRITE, &w),
             0);
    CHECK_EQ(w.gpa.v, 0x1234);
    CHECK_EQ(w.allow, 0xff);
    CHECK(w.dirty);
    fx_fini(&fx);
}

TEST_MAIN(CASE(rights_all_combinations), CASE(fetch_bit_needs_nxe_or_smep),
          CASE(not_present_at_each_level), CASE(reserved_bits),
          CASE(accessed_and_dirty), CASE(global_and_peek), CASE(two_level),
          CASE(pae), CASE(linear_accesses), CASE(no_paging))
