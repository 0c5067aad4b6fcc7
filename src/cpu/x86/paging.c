// SPDX-License-Identifier: Apache-2.0
/*
 * The page walk and linear memory by walks; see paging.h.
 *
 * Rights are gathered on the way down and judged at the leaf; accessed and
 * dirty bits are set afterwards, by compare-and-exchange on what was read, and
 * the walk starts over when another vCPU changed an entry meanwhile.
 */
#include "cpu/x86/paging.h"

#include "base/assert.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/phys.h"

#define LEVELS_MAX    4
#define LIN_BYTES_MAX (2 * MEM_PAGE_BYTES)
#define RETRY         1

/* How tables are shaped in the paging mode of now (SDM vol. 3A table 4-2). */
struct shape {
    unsigned levels;    /* tables to read */
    unsigned idx_bits;  /* index bits per level */
    unsigned pte_bytes; /* 4 or 8 */
    uint64_t reserved;  /* bits that must be 0 in every entry */
    uint64_t root;      /* GPA of the first table */
};

/* One entry that was used. */
struct used {
    gpa_t at;
    uint64_t pte;
};

struct walking {
    struct shape sh;
    uint64_t va;
    unsigned flags;
    unsigned n; /* entries in used[] */
    struct used used[LEVELS_MAX];
    bool user, write, nx; /* combined rights */
    unsigned shift;       /* of the leaf */
};

uint32_t x86_access_allow(const struct x86_cpu *cpu, unsigned flags)
{
    unsigned kind = flags & (X86_LIN_WRITE | X86_LIN_EXEC);
    bool user =
        flags & X86_LIN_USER || (cpu->cpl == 3 && !(flags & X86_LIN_IMPLICIT));
    bool ac = (cpu->rflags & X86_FL_AC) &&
              (!(flags & X86_LIN_IMPLICIT) || (flags & X86_LIN_SUPER));

    if (user)
        return kind == X86_LIN_WRITE  ? X86_ALLOW_USER_W
               : kind == X86_LIN_EXEC ? X86_ALLOW_USER_X
                                      : X86_ALLOW_USER_R;
    if (kind == X86_LIN_EXEC)
        return X86_ALLOW_SUP_X;
    if (kind == X86_LIN_WRITE)
        return ac ? X86_ALLOW_SUPAC_W : X86_ALLOW_SUP_W;
    return ac ? X86_ALLOW_SUPAC_R : X86_ALLOW_SUP_R;
}

/* Raise the #PF of an access. @bits: X86_PF_P, X86_PF_RSVD. SDM vol. 3A 4.7 */
static int page_fault(struct x86_cpu *cpu, gva_t va, unsigned flags,
                      uint32_t bits)
{
    uint32_t need = x86_access_allow(cpu, flags);

    if (flags & X86_LIN_WRITE)
        bits |= X86_PF_W;
    if (need & (X86_ALLOW_USER_R | X86_ALLOW_USER_W | X86_ALLOW_USER_X))
        bits |= X86_PF_U;
    if ((flags & X86_LIN_EXEC) &&
        ((cpu->cr4 & X86_CR4_SMEP) ||
         ((cpu->cr4 & X86_CR4_PAE) && (cpu->efer & X86_EFER_NXE))))
        bits |= X86_PF_I;
    return x86_raise_pf(cpu, va, bits);
}

static void shape_now(const struct x86_cpu *cpu, struct shape *sh)
{
    bool nxe = cpu->efer & X86_EFER_NXE;

    if (!(cpu->cr4 & X86_CR4_PAE)) {
        *sh = (struct shape){.levels = 2,
                             .idx_bits = 10,
                             .pte_bytes = 4,
                             .root = cpu->cr3 & 0xfffff000U};
        return;
    }
    sh->idx_bits = 9;
    sh->pte_bytes = 8;
    sh->reserved = nxe ? 0 : X86_PTE_NX;
    if (cpu->efer & X86_EFER_LMA) {
        sh->levels = 4;
        sh->reserved |= BITS(51, X86_MAXPHYADDR);
        sh->root = cpu->cr3 & X86_PTE_ADDR;
    } else {
        sh->levels = 2; /* below the PDPTE registers */
        sh->reserved |= BITS(62, X86_MAXPHYADDR);
        sh->root = 0;
    }
}

/* Reserved bits of entry @pte at @level (1 = page table). */
static bool reserved_set(const struct x86_cpu *cpu, const struct walking *w,
                         unsigned level, bool leaf, uint64_t pte)
{
    uint64_t bad = w->sh.reserved;

    if (w->sh.pte_bytes == 4)
        /* PSE-36: bits 20-13 are GPA 39-32, 21 is reserved */
        return leaf && level == 2 && (pte & BIT(21));
    if (level == 4)
        bad |= X86_PTE_PS;
    if (leaf && level > 1)
        bad |= BITS(12 + 9 * (level - 1) - 1, 13);
    (void)cpu;
    return pte & bad;
}

static bool is_leaf(const struct x86_cpu *cpu, const struct walking *w,
                    unsigned level, uint64_t pte)
{
    if (level == 1)
        return true;
    if (!(pte & X86_PTE_PS) || level == 4)
        return false;
    return w->sh.pte_bytes == 8 || (cpu->cr4 & X86_CR4_PSE);
}

/* Read an entry; outside RAM the bus gives all ones. */
static uint64_t entry_read(struct x86_cpu *cpu, const struct shape *sh,
                           gpa_t at)
{
    uint32_t word;
    uint8_t *page = mem_tlb_page(cpu->vm->mem, at, MEM_READ, &word);

    if (!page)
        return sh->pte_bytes == 8 ? ~UINT64_C(0) : 0xffffffffU;
    page += at.v & MEM_PAGE_MASK;
    if (sh->pte_bytes == 8)
        return __atomic_load_n((uint64_t *)(void *)page, __ATOMIC_ACQUIRE);
    return __atomic_load_n((uint32_t *)(void *)page, __ATOMIC_ACQUIRE);
}

/* Set @bits in the entry at @u, if it is still what was read.
 * Return: false when it changed. */
static bool entry_mark(struct x86_cpu *cpu, const struct shape *sh,
                       struct used *u, uint64_t bits)
{
    uint64_t want = u->pte | bits;
    struct mem_iov iov;
    bool done;

    if (want == u->pte)
        return true;
    if (mem_get(cpu->vm->mem, u->at, sh->pte_bytes, MEM_WRITE, &iov, 1) != 1)
        return true; /* not RAM: the write vanishes */
    if (sh->pte_bytes == 8) {
        done = __atomic_compare_exchange_n((uint64_t *)(void *)iov.hva, &u->pte,
                                           want, false, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE);
    } else {
        uint32_t old = (uint32_t)u->pte;

        done = __atomic_compare_exchange_n((uint32_t *)(void *)iov.hva, &old,
                                           (uint32_t)want, false,
                                           __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    mem_put(cpu->vm->mem, &iov, 1, done);
    if (done)
        u->pte = want;
    return done;
}

/* Go down to the leaf. Return: 0, or the X86_PF_* bits of a fault in *pf. */
static int descend(struct x86_cpu *cpu, struct walking *w, uint32_t *pf)
{
    unsigned bits = w->sh.idx_bits;
    uint64_t table = w->sh.root;

    if (w->sh.pte_bytes == 8 && w->sh.levels == 2) {
        uint64_t pdpte = cpu->pae_pdpte[w->va >> 30 & 3];

        *pf = 0;
        if (!(pdpte & X86_PTE_P))
            return X86_FAULT;
        table = pdpte & X86_PTE_ADDR;
    }
    w->user = w->write = true;
    for (unsigned level = w->sh.levels;; level--) {
        struct used *u = &w->used[w->n++];
        uint64_t idx = w->va >> (12 + bits * (level - 1)) & (BIT(bits) - 1);
        bool leaf;

        u->at = gpa(table + idx * w->sh.pte_bytes);
        u->pte = entry_read(cpu, &w->sh, u->at);
        *pf = 0;
        if (!(u->pte & X86_PTE_P))
            return X86_FAULT;
        leaf = is_leaf(cpu, w, level, u->pte);
        *pf = X86_PF_P | X86_PF_RSVD;
        if (reserved_set(cpu, w, level, leaf, u->pte))
            return X86_FAULT;
        w->user = w->user && (u->pte & X86_PTE_US);
        w->write = w->write && (u->pte & X86_PTE_RW);
        w->nx = w->nx || (w->sh.pte_bytes == 8 && (u->pte & X86_PTE_NX));
        if (leaf) {
            w->shift = 12 + bits * (level - 1);
            return 0;
        }
        table =
            w->sh.pte_bytes == 8 ? u->pte & X86_PTE_ADDR : u->pte & 0xfffff000U;
    }
}

static gpa_t leaf_gpa(const struct walking *w)
{
    uint64_t pte = w->used[w->n - 1].pte;
    uint64_t mask = BIT(w->shift) - 1;
    uint64_t base = pte & X86_PTE_ADDR & ~mask;

    if (w->sh.pte_bytes == 4 && w->shift == 22)
        base = (pte & 0xffc00000U) | bits_get(pte, 20, 13) << 32;
    else if (w->sh.pte_bytes == 4)
        base = pte & 0xfffff000U;
    return gpa(base | (w->va & mask));
}

/* Which accesses the gathered rights allow. SDM vol. 3A 4.6.1 */
static uint32_t rights(const struct x86_cpu *cpu, const struct walking *w)
{
    bool sw = w->write || !(cpu->cr0 & X86_CR0_WP);
    uint32_t a = X86_ALLOW_SUPAC_R | (sw ? X86_ALLOW_SUPAC_W : 0);
    bool smap = w->user && (cpu->cr4 & X86_CR4_SMAP);
    bool smep = w->user && (cpu->cr4 & X86_CR4_SMEP);

    if (!smap)
        a |= X86_ALLOW_SUP_R | (sw ? X86_ALLOW_SUP_W : 0);
    if (!w->nx && !smep)
        a |= X86_ALLOW_SUP_X;
    if (w->user) {
        a |= X86_ALLOW_USER_R | (w->write ? X86_ALLOW_USER_W : 0);
        if (!w->nx)
            a |= X86_ALLOW_USER_X;
    }
    return a;
}

/* Set A on all entries used, D on the leaf for writes. False: start over. */
static bool mark_used(struct x86_cpu *cpu, struct walking *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        bool leaf = i == w->n - 1;
        uint64_t bits = X86_PTE_A;

        if (leaf && (w->flags & X86_LIN_WRITE))
            bits |= X86_PTE_D;
        if (!entry_mark(cpu, &w->sh, &w->used[i], bits))
            return false;
    }
    return true;
}

static void walked(const struct x86_cpu *cpu, const struct walking *w,
                   struct x86_walk *out)
{
    uint64_t leaf = w->used[w->n - 1].pte;

    out->gpa = leaf_gpa(w);
    out->shift = (uint8_t)w->shift;
    out->dirty = leaf & X86_PTE_D;
    out->global = (leaf & X86_PTE_G) && (cpu->cr4 & X86_CR4_PGE);
}

static int walk_once(struct x86_cpu *cpu, gva_t va, unsigned flags,
                     struct x86_walk *out)
{
    struct walking w = {.va = va.v, .flags = flags};
    uint32_t pf;

    shape_now(cpu, &w.sh);
    if (descend(cpu, &w, &pf))
        return page_fault(cpu, va, flags, pf);
    out->allow = rights(cpu, &w);
    if (!(out->allow & x86_access_allow(cpu, flags)))
        return page_fault(cpu, va, flags, X86_PF_P);
    if (!mark_used(cpu, &w))
        return RETRY;
    walked(cpu, &w, out);
    return 0;
}

bool x86_walk_marked(struct x86_cpu *cpu, gva_t va, unsigned flags,
                     struct x86_walk *out)
{
    struct walking w = {.va = va.v, .flags = flags};
    uint64_t all = X86_PTE_A;
    uint32_t pf;

    shape_now(cpu, &w.sh);
    if (descend(cpu, &w, &pf))
        return false;
    for (unsigned i = 0; i < w.n; i++)
        all &= w.used[i].pte;
    out->allow = rights(cpu, &w);
    walked(cpu, &w, out);
    return all && (out->allow & x86_access_allow(cpu, flags)) &&
           (out->dirty || !(flags & X86_LIN_WRITE));
}

int x86_walk(struct x86_cpu *cpu, gva_t va, unsigned flags,
             struct x86_walk *out)
{
    int r;

    if (!(cpu->efer & X86_EFER_LMA))
        va.v &= 0xffffffffU;
    if (!(cpu->cr0 & X86_CR0_PG)) {
        *out = (struct x86_walk){
            .gpa = gpa(va.v), .allow = 0xff, .shift = 12, .dirty = true};
        return 0;
    }
    do
        r = walk_once(cpu, va, flags, out);
    while (r == RETRY);
    return r;
}

bool x86_walk_peek(struct x86_cpu *cpu, gva_t va, gpa_t *out)
{
    struct walking w = {.va = va.v};
    uint32_t pf;

    if (!(cpu->efer & X86_EFER_LMA))
        w.va &= 0xffffffffU;
    else if (!x86_canonical(va.v))
        return false;
    *out = gpa(w.va);
    if (!(cpu->cr0 & X86_CR0_PG))
        return true;
    shape_now(cpu, &w.sh);
    if (descend(cpu, &w, &pf))
        return false;
    *out = leaf_gpa(&w);
    return true;
}

int x86_pae_load(struct x86_cpu *cpu, uint64_t cr3)
{
    uint64_t bad = BITS(63, X86_MAXPHYADDR) | BITS(8, 5) | BITS(2, 1);
    uint64_t pdpte[4];

    if (mem_read(cpu->vm->mem, gpa(cr3 & 0xffffffe0U), pdpte, sizeof pdpte))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    for (unsigned i = 0; i < 4; i++)
        if ((pdpte[i] & X86_PTE_P) && (pdpte[i] & bad))
            return x86_raise_err(cpu, X86_VEC_GP, 0);
    memcpy(cpu->pae_pdpte, pdpte, sizeof pdpte);
    return 0;
}

int x86_lin_check(struct x86_cpu *cpu, gva_t va, size_t len, unsigned flags)
{
    if (!(cpu->efer & X86_EFER_LMA) ||
        (x86_canonical(va.v) && x86_canonical(va.v + (len ? len - 1 : 0))))
        return 0;
    return x86_raise_err(cpu, flags & X86_LIN_STACK ? X86_VEC_SS : X86_VEC_GP,
                         0);
}

/* ---- linear memory by walks ---- */

struct pieces {
    unsigned n;
    struct {
        gpa_t gpa;
        size_t len;
    } p[3];
};

/* Translate all of [va, va+len). */
static int translate(struct x86_cpu *cpu, gva_t va, size_t len, unsigned flags,
                     struct pieces *ps)
{
    bool cut = !(cpu->efer & X86_EFER_LMA) ||
               (x86_mode(cpu) != X86_MODE_64 && !(flags & X86_LIN_IMPLICIT));
    int r = x86_lin_check(cpu, va, len, flags);

    ASSERT(len <= LIN_BYTES_MAX);
    for (ps->n = 0; r == 0 && len; ps->n++) {
        size_t here = MEM_PAGE_BYTES - (va.v & MEM_PAGE_MASK);
        struct x86_walk w;

        if (here > len)
            here = len;
        if (cut)
            va.v &= 0xffffffffU;
        r = x86_walk(cpu, va, flags, &w);
        if (r)
            break;
        ps->p[ps->n].gpa = w.gpa;
        ps->p[ps->n].len = here;
        va.v += here;
        len -= here;
    }
    return r;
}

static int walk_read(void *ctx, gva_t va, void *buf, size_t len, unsigned flags)
{
    struct x86_cpu *cpu = ctx;
    uint8_t *to = buf;
    struct pieces ps;

    if (translate(cpu, va, len, flags, &ps))
        return X86_FAULT;
    for (unsigned i = 0; i < ps.n; i++) {
        x86_phys_read(cpu, ps.p[i].gpa, to, ps.p[i].len);
        to += ps.p[i].len;
    }
    return 0;
}

static int walk_write(void *ctx, gva_t va, const void *buf, size_t len,
                      unsigned flags)
{
    struct x86_cpu *cpu = ctx;
    const uint8_t *from = buf;
    struct pieces ps;

    if (translate(cpu, va, len, flags | X86_LIN_WRITE, &ps))
        return X86_FAULT;
    for (unsigned i = 0; i < ps.n; i++) {
        x86_phys_write(cpu, ps.p[i].gpa, from, ps.p[i].len);
        from += ps.p[i].len;
    }
    return 0;
}

static int walk_probe(void *ctx, gva_t va, size_t len, unsigned flags)
{
    struct pieces ps;

    return translate(ctx, va, len, flags, &ps);
}

static void walk_flush(void *ctx, enum x86_flush kind, gva_t va, uint16_t pcid)
{
    (void)ctx; /* nothing is cached */
    (void)kind;
    (void)va;
    (void)pcid;
}

static void walk_root(void *ctx, bool keep)
{
    (void)ctx;
    (void)keep;
}

static void walk_mode(void *ctx)
{
    (void)ctx;
}

const struct x86_lin_ops x86_lin_walk_ops = {.read = walk_read,
                                             .write = walk_write,
                                             .probe = walk_probe,
                                             .flush = walk_flush,
                                             .root = walk_root,
                                             .mode = walk_mode};
