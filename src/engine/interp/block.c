// SPDX-License-Identifier: Apache-2.0
/*
 * The cache of decoded blocks. A block is keyed by the host address of its
 * first byte (one per guest-physical address) and the decode mode; it keeps a
 * copy of its bytes, which are compared with memory on each entry, so that a
 * write by anyone (this vCPU, another one, DMA) is noticed without tracking.
 * Everything lies in one arena per vCPU that is dropped as a whole when full.
 */
#include "engine/interp/access.h"

#include "cpu/x86/insn.h"
#include "cpu/x86/phys.h"
#include "engine/interp/ops.h"

#include <errno.h>
#include <sys/mman.h>

#define ARENA_BYTES (UINT64_C(96) << 20)
/* The most that one block takes: header, ops, full decodes. */
#define BLOCK_ROOM                                                             \
    (sizeof(struct block) +                                                    \
     BLOCK_OPS_MAX * (sizeof(struct op) + sizeof(struct x86_insn)) + 256)

/* ---- arena ---- */

static void *arena_take(struct interp *in, size_t n)
{
    void *p = in->arena + in->arena_used;

    in->arena_used += (n + 15) & ~(size_t)15;
    return p;
}

int block_init(struct interp *in)
{
    in->arena_bytes = ARENA_BYTES;
    in->arena = mmap(NULL, in->arena_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (in->arena == MAP_FAILED) {
        in->arena = NULL;
        return -ENOMEM;
    }
    in->hash = calloc(1U << BLOCK_HASH_BITS, sizeof *in->hash);
    in->jump = calloc(1U << JUMP_BITS, sizeof *in->jump);
    in->one = aligned_alloc(64, (BLOCK_ROOM + 63) & ~(size_t)63);
    if (!in->hash || !in->jump || !in->one)
        return -ENOMEM;
    memset(in->one, 0, sizeof *in->one);
    return 0;
}

void block_fini(struct interp *in)
{
    if (in->arena)
        munmap(in->arena, in->arena_bytes);
    free(in->hash);
    free(in->jump);
    free(in->one);
}

void block_drop_all(struct interp *in)
{
    in->arena_used = 0;
    memset(in->hash, 0, sizeof *in->hash << BLOCK_HASH_BITS);
    memset(in->jump, 0, sizeof *in->jump << JUMP_BITS);
    in->st.arena_flushes++;
}

/* ---- lookup ---- */

static struct block **bucket(struct interp *in, const uint8_t *src)
{
    uint64_t h = (uint64_t)(uintptr_t)src * UINT64_C(0x9e3779b97f4a7c15);

    return &in->hash[h >> (64 - BLOCK_HASH_BITS)];
}

bool block_fresh(const struct block *b)
{
    const uint8_t *p = b->src;
    unsigned n = b->nbytes1, i = 0;

    for (; i + 8 <= n; i += 8)
        if (host_ld(p + i, 8) != host_ld(b->bytes + i, 8))
            return false;
    for (; i < n; i++)
        if (host_ld(p + i, 1) != b->bytes[i])
            return false;
    if (LIKELY(!b->src2))
        return true;
    for (; i < b->nbytes; i++)
        if (host_ld(b->src2 + i - n, 1) != b->bytes[i])
            return false;
    return true;
}

/* Where the code at cpu->rip lies. */
struct fetch {
    uint64_t lin;
    const uint8_t *src; /* NULL: not RAM */
    gpa_t gpa;
    uint64_t room; /* bytes up to the page's end and CS's limit */
};

static int fetch_page(struct interp *in, uint64_t lin, const uint8_t **src,
                      gpa_t *a)
{
    const struct tlb_ent *e = tlb_slot(in, lin);
    struct xlat x;

    if (LIKELY(e->x == tlb_tag(in, lin, 1))) {
        *src = e->host + (lin & 0xfff);
        return 0;
    }
    if (tlb_xlat(in, lin, X86_LIN_EXEC, &x))
        return X86_FAULT;
    *src = x.host;
    *a = x.gpa;
    return 0;
}

static int fetch_open(struct interp *in, struct fetch *f)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t in_page;

    f->lin = cpu->rip;
    if (in->mode64) {
        if (!x86_canonical(cpu->rip))
            return x86_raise_err(cpu, X86_VEC_GP, 0);
    } else {
        if (cpu->rip > cpu->seg[X86_SEG_CS].limit)
            return x86_raise_err(cpu, X86_VEC_GP, 0);
        f->lin = (uint32_t)(cpu->seg[X86_SEG_CS].base + cpu->rip);
    }
    if (fetch_page(in, f->lin, &f->src, &f->gpa))
        return X86_FAULT;
    in_page = 4096 - (f->lin & 0xfff);
    f->room = in_page;
    if (!in->mode64 && cpu->seg[X86_SEG_CS].limit - cpu->rip < in_page)
        f->room = cpu->seg[X86_SEG_CS].limit - cpu->rip + 1;
    return 0;
}

/* ---- decoding ---- */

/* Fill @o's compact fields; the handler comes from op_select. */
static void op_fill(struct op *o, const struct x86_insn *insn, bool mode64)
{
    bool wide = mode64 && insn->adsize == 8 && insn->seg < X86_SEG_FS;

    o->insn = insn;
    o->imm = insn->imm;
    o->disp = (int32_t)insn->disp;
    o->len = insn->len;
    o->size = insn->opsize;
    o->reg = insn->reg;
    o->rm = insn->rm;
    o->base = insn->base;
    o->index = insn->index;
    o->scale = insn->scale;
    o->seg = insn->seg;
    o->adsize = insn->adsize;
    o->cc = insn->opcode & 15;
    o->ssize = 0;
    o->ea = EA_GEN;
    if (!wide || insn->disp_len == 8)
        return;
    if (insn->base == X86_REG_RIP)
        o->ea = EA_RIP;
    else if (insn->base < 16)
        o->ea = insn->index == X86_REG_NONE ? EA_BASE : EA_INDEX;
}

void block_op(struct interp *in, const struct x86_insn *insn, struct op *o)
{
    op_fill(o, insn, in->mode64);
    op_select(in, insn, o);
}

static bool ends_block(const struct x86_insn *insn)
{
    return (x86_form_info(insn->form)->attr &
            (XA_CTRL | XA_ENDTB | XA_SHADOW | XA_UD)) != 0;
}

/* One op that raises what the decoder said. */
static void op_bad(struct op *o, struct x86_insn *insn, enum x86_dec dec)
{
    unsigned len = insn->len;

    memset(insn, 0, sizeof *insn);
    memset(o, 0, sizeof *o);
    o->insn = insn;
    o->len = insn->len = (uint8_t)(len ? len : 1);
    o->fn = dec == X86_DEC_TOO_LONG ? op_raise_gp : op_raise_ud;
}

/* Decode up to @max instructions from @b->bytes[0, n); n reaches to the end of
 * what may be fetched if @whole. Return: how many were decoded; 0: the first
 * needs more bytes. Sets b->nbytes. */
static unsigned decode_some(struct interp *in, struct block *b, unsigned n,
                            unsigned max, struct x86_insn *insns)
{
    unsigned at = 0, k = 0;

    while (k < max && at < n) {
        struct op *o = &b->ops[k];
        enum x86_dec dec =
            x86_decode(b->bytes + at, n - at, b->mode, &insns[k]);

        if (dec == X86_DEC_MORE)
            break;
        k++;
        if (dec != X86_DEC_OK) {
            op_bad(o, &insns[k - 1], dec);
            at += o->len;
            break;
        }
        block_op(in, &insns[k - 1], o);
        at += o->len;
        if (ends_block(&insns[k - 1]))
            break;
    }
    b->nops = (uint8_t)k;
    b->nbytes = b->nbytes1 = (uint8_t)(at < n ? at : n);
    return k;
}

/* The first instruction reaches past @f->room: page end or CS's limit.
 * Decode it alone, with the bytes of the next page. */
static int decode_straddle(struct interp *in, struct block *b,
                           const struct fetch *f, struct x86_insn *insns)
{
    struct x86_cpu *cpu = in->cpu;
    unsigned n1 = (unsigned)f->room, n2 = X86_INSN_MAX_BYTES - n1;
    uint64_t next = f->lin + n1;
    const uint8_t *src2;
    gpa_t a = {0};

    if (!in->mode64) {
        uint64_t left = cpu->seg[X86_SEG_CS].limit - cpu->rip - (n1 - 1);

        next = (uint32_t)next;
        if (left < n2)
            n2 = (unsigned)left;
        if (!n2)
            return x86_raise_err(cpu, X86_VEC_GP, 0);
    } else if (!x86_canonical(next)) {
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    }
    if (fetch_page(in, next, &src2, &a))
        return X86_FAULT;
    if (src2)
        for (unsigned i = 0; i < n2; i++)
            b->bytes[n1 + i] = (uint8_t)host_ld(src2 + i, 1);
    else
        x86_phys_read(cpu, a, b->bytes + n1, n2);
    if (!decode_some(in, b, n1 + n2, 1, insns))
        return x86_raise_err(cpu, X86_VEC_GP, 0); /* past CS's limit */
    b->src2 = src2;
    b->nbytes1 = (uint8_t)n1;
    if (b->nbytes <= n1) { /* #UD was clear from the first page's bytes */
        b->src2 = NULL;
        b->nbytes1 = b->nbytes;
    }
    if (!src2)
        b->src = NULL;
    return 0;
}

/* Decode at @f into @b, whose ops and @insns have room for @max. */
static int decode_at(struct interp *in, struct block *b, const struct fetch *f,
                     unsigned max, struct x86_insn *insns)
{
    unsigned n =
        f->room < BLOCK_BYTES_MAX ? (unsigned)f->room : BLOCK_BYTES_MAX;

    in->st.block_decodes++;
    b->src = f->src;
    b->src2 = NULL;
    b->mode = in->mode;
    b->victim = 0;
    memset(b->link, 0, sizeof b->link);
    if (f->src)
        for (unsigned i = 0; i < n; i++)
            b->bytes[i] = (uint8_t)host_ld(f->src + i, 1);
    else
        x86_phys_read(in->cpu, f->gpa, b->bytes, n);
    if (decode_some(in, b, n, max, insns))
        return 0;
    return decode_straddle(in, b, f, insns);
}

/* ---- the cached block at rip ---- */

static bool same_key(struct interp *in, const struct block *b,
                     const struct fetch *f)
{
    const uint8_t *src2;
    gpa_t a;

    if (b->src != f->src || b->mode != in->mode || b->nbytes1 > f->room)
        return false;
    if (!b->src2)
        return true;
    return b->nbytes1 == f->room &&
           !fetch_page(in, f->lin + f->room, &src2, &a) && src2 == b->src2;
}

static struct block *find(struct interp *in, const struct fetch *f)
{
    struct block **p = bucket(in, f->src), *b;

    while ((b = *p)) {
        if (same_key(in, b, f)) {
            if (LIKELY(block_fresh(b)))
                return b;
            in->st.block_stale++;
            *p = b->next;
            continue;
        }
        p = &b->next;
    }
    return NULL;
}

static struct block *get_one(struct interp *in, const struct fetch *f)
{
    struct block *b = in->one;

    b->ops = (struct op *)(void *)(b + 1);
    if (decode_at(in, b, f, 1, (struct x86_insn *)(void *)(b->ops + 1)))
        return NULL;
    b->ops[0].insn = (struct x86_insn *)(void *)(b->ops + 1);
    return b;
}

static struct block *get(struct interp *in, const struct fetch *f)
{
    struct x86_insn insns[BLOCK_OPS_MAX];
    struct op ops[BLOCK_OPS_MAX];
    struct block *b, **head;
    struct x86_insn *keep;

    in->st.block_lookups++;
    b = find(in, f);
    if (b)
        return b;
    if (in->arena_used + BLOCK_ROOM > in->arena_bytes)
        block_drop_all(in);
    b = (struct block *)(void *)(in->arena + in->arena_used);
    b->ops = ops;
    if (decode_at(in, b, f, BLOCK_OPS_MAX, insns))
        return NULL;
    if (!b->src)
        return get_one(in, f); /* its second page is not RAM */
    arena_take(in, sizeof *b);
    b->ops = arena_take(in, sizeof *ops * b->nops);
    keep = arena_take(in, sizeof *keep * b->nops);
    memcpy(b->ops, ops, sizeof *ops * b->nops);
    memcpy(keep, insns, sizeof *keep * b->nops);
    for (unsigned i = 0; i < b->nops; i++)
        b->ops[i].insn = &keep[i];
    head = bucket(in, b->src);
    b->next = *head;
    *head = b;
    return b;
}

struct block *block_get(struct interp *in)
{
    struct fetch f;

    if (fetch_open(in, &f))
        return NULL;
    return f.src ? get(in, &f) : get_one(in, &f);
}

struct block *block_get_one(struct interp *in)
{
    struct block *b;
    struct fetch f;

    if (fetch_open(in, &f))
        return NULL;
    /* at a page's end: the translator comes here for each straddling one */
    if (f.src && f.room < X86_INSN_MAX_BYTES)
        return get(in, &f);
    b = f.src ? find(in, &f) : NULL;
    return b ? b : get_one(in, &f);
}
