// SPDX-License-Identifier: Apache-2.0
/*
 * Makes programs: mostly what compilers emit, some of every form that the
 * corpus has, aimed at the data pages through registers whose values are
 * known; jumps, loops, calls, strings, system instructions, stores into the
 * program's own code.
 */
#include "tests/bt/blocks.h"

#include "tests/insn/corpus/make.h"

#include <string.h>

struct mk {
    struct blk_prog *p;
    const struct blk_forms *f;
    struct rnd r;
    uint16_t known; /* registers with a known value, as far as one can tell */
    uint64_t val[16];
    bool loop;  /* within one */
    bool heavy; /* on R10 and R11 */
    unsigned fn[2];
};

/* ---- forms ---- */

static bool is_common(unsigned op)
{
    static const uint16_t ops[] = {
        X86_OP_MOV,    X86_OP_ADD,     X86_OP_SUB,      X86_OP_CMP,
        X86_OP_TEST,   X86_OP_LEA,     X86_OP_AND,      X86_OP_OR,
        X86_OP_XOR,    X86_OP_INC,     X86_OP_DEC,      X86_OP_SHL,
        X86_OP_SHR,    X86_OP_SAR,     X86_OP_MOVZX,    X86_OP_MOVSX,
        X86_OP_MOVSXD, X86_OP_IMUL,    X86_OP_NEG,      X86_OP_NOT,
        X86_OP_PUSH,   X86_OP_POP,     X86_OP_XCHG,     X86_OP_ADC,
        X86_OP_SBB,    X86_OP_BT,      X86_OP_BTS,      X86_OP_CMPXCHG,
        X86_OP_XADD,   X86_OP_CBW,     X86_OP_CWD,      X86_OP_MUL,
        X86_OP_ROL,    X86_OP_SETE,    X86_OP_SETB,     X86_OP_SETL,
        X86_OP_CMOVE,  X86_OP_CMOVB,   X86_OP_CMOVL,    X86_OP_BSF,
        X86_OP_TZCNT,  X86_OP_POPCNT,  X86_OP_ANDN,     X86_OP_SHLX,
        X86_OP_RORX,   X86_OP_MULX,    X86_OP_BSWAP,    X86_OP_LEAVE,
        X86_OP_MOVUPS, X86_OP_MOVAPS,  X86_OP_MOVDQU,   X86_OP_MOVDQA,
        X86_OP_MOVQ,   X86_OP_MOVD,    X86_OP_PXOR,     X86_OP_PADDD,
        X86_OP_MOVSS,  X86_OP_MOVSD,   X86_OP_ADDSD,    X86_OP_MULSD,
        X86_OP_PSHUFD, X86_OP_PCMPEQB, X86_OP_PMOVMSKB, X86_OP_VMOVDQU};

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (ops[i] == op)
            return true;
    return false;
}

/* Made by hand below, or nothing that a program survives. */
static bool left_to_hand(const struct x86_form_info *fi)
{
    switch (fi->op) {
    case X86_OP_CPUID:
    case X86_OP_XGETBV:
    case X86_OP_RDFSBASE:
    case X86_OP_RDGSBASE:
    case X86_OP_CLFLUSH:
    case X86_OP_CLFLUSHOPT:
    case X86_OP_CLWB:
    case X86_OP_LAR:
    case X86_OP_LSL:
    case X86_OP_VERR:
    case X86_OP_VERW:
    case X86_OP_CLD:
    case X86_OP_STD:
    case X86_OP_PUSHF:
    case X86_OP_LAHF:
    case X86_OP_SAHF:
        return false;
    default:
        return fi->cls == X86_CLS_SYSTEM || fi->cls == X86_CLS_BRANCH ||
               fi->cls == X86_CLS_GATHER;
    }
}

void blk_forms_init(struct blk_forms *f, const struct x86_cpuid *cpuid)
{
    f->ncommon = f->nany = 0;
    for (unsigned i = 1; i < X86_FORM_COUNT; i++) {
        const struct x86_form_info *fi = x86_form_info(i);

        if (corpus_left_out(cpuid, i) || left_to_hand(fi))
            continue;
        f->any[f->nany++] = (uint16_t)i;
        if (is_common(fi->op))
            f->common[f->ncommon++] = (uint16_t)i;
    }
}

/* ---- items ---- */

static struct blk_item *add(struct mk *m, const void *bytes, unsigned len)
{
    struct blk_prog *p = m->p;
    struct blk_item *it = &p->item[p->n < BLK_ITEMS - 1 ? p->n++ : p->n - 1];

    memset(it, 0, sizeof *it);
    memcpy(it->b, bytes, len);
    it->len = (uint8_t)len;
    it->org = ~0U;
    return it;
}

/* One item for each instruction. */
static void adds(struct mk *m, const char *bytes, unsigned len)
{
    while (len) {
        struct x86_insn i;

        if (x86_decode((const uint8_t *)bytes, len, X86_MODE_64, &i) !=
            X86_DEC_OK)
            return;
        add(m, bytes, i.len);
        bytes += i.len;
        len -= i.len;
    }
}

static bool room(const struct mk *m)
{
    return m->p->n + 48 < BLK_ITEMS && m->p->ncells + 4 < BLK_CELLS;
}

/* More often those that translated code treats specially. */
static unsigned any_reg(struct mk *m)
{
    static const uint8_t often[] = {10, 11, 10, 11, 10, 11, 1, 0};

    if (rnd_pct(&m->r, 35))
        return often[rnd_n(&m->r, sizeof often)];
    return rnd_n(&m->r, 16);
}

static unsigned any_reg_but_rsp(struct mk *m)
{
    unsigned r = any_reg(m);

    return r == X86_RSP ? X86_R11 : r;
}

static void forget(struct mk *m, unsigned r)
{
    m->known &= (uint16_t) ~(1U << r);
}

static void learn(struct mk *m, unsigned r, uint64_t v)
{
    m->known |= (uint16_t)(1U << r);
    m->val[r] = v;
}

/* mov r, imm64, or lea r, [rip + ...] */
static void set_reg(struct mk *m, unsigned r, uint64_t v)
{
    uint8_t b[16] = {(uint8_t)(0x48 | r >> 3), (uint8_t)(0xb8 | (r & 7))};

    if (v - blk_data(m->p) < 2 * BLK_DATA_BYTES && rnd_pct(&m->r, 40)) {
        struct blk_item *it;

        b[0] = (uint8_t)(0x48 | (r >> 3) << 2);
        b[1] = 0x8d;
        b[2] = (uint8_t)(5 | (r & 7) << 3);
        it = add(m, b, 7);
        it->fix = BLK_FIX_RIP;
        it->at = 3;
        it->lin = v;
    } else {
        memcpy(b + 2, &v, 8);
        add(m, b, 10);
    }
    learn(m, r, v);
}

/* ---- addresses ---- */

/* Where an access of @size bytes shall go. */
static uint64_t pick_lin(struct mk *m, unsigned size)
{
    static const uint8_t edge[] = {2, 2, 2, 1, 3, 4, 5, 6, 6, 7};
    static const uint8_t rw[] = {1, 2, 5, 6};
    uint64_t data = blk_data(m->p);
    unsigned pct = rnd_n(&m->r, 1000), off, pow2 = 64;

    while (pow2 > size && pow2 > 1)
        pow2 /= 2;
    if (pct < 800) {
        off = rw[rnd_n(&m->r, 4)] * 4096U + rnd_n(&m->r, 4096 - 64);
        if (rnd_pct(&m->r, 85))
            off &= ~(pow2 - 1);
        return data + off;
    }
    if (pct < 880)
        return data + edge[rnd_n(&m->r, sizeof edge)] * 4096U -
               rnd_n(&m->r, size + 2);
    if (pct < 920) /* lazy */
        return data + 3 * 4096U + (rnd_n(&m->r, 4096) & ~(pow2 - 1));
    if (pct < 950) /* read-only */
        return data + 4 * 4096U + (rnd_n(&m->r, 4096) & ~(pow2 - 1));
    if (pct < 965)
        return data + rnd_n(&m->r, BLK_DATA_BYTES);
    if (pct < 978) /* the other half's: not allowed, or by SMAP */
        return (data == BLK_UDATA ? BLK_KDATA : BLK_UDATA) +
               rnd_n(&m->r, BLK_DATA_BYTES);
    if (pct < 986) /* code, at times the program itself */
        return blk_code(m->p) + rnd_n(&m->r, BLK_CODE_BYTES);
    if (pct < 991)
        return BIT(47) + (rnd_u64(&m->r) & 0x3fffffffffffffff);
    if (pct < 996)
        return UINT64_MAX - rnd_n(&m->r, size + 8);
    return BLK_SYS + 0x11000 + rnd_n(&m->r, 4096); /* the kernel's */
}

static uint64_t seg_base(const struct mk *m, const struct x86_insn *i)
{
    if (i->seg == X86_SEG_FS)
        return m->p->fs_base;
    return i->seg == X86_SEG_GS ? m->p->gs_base : 0;
}

static bool near(const struct mk *m, uint64_t v)
{
    return v - (blk_data(m->p) - 0x10000) < 0x20000 + BLK_DATA_BYTES;
}

static int pick_known(struct mk *m, bool pointer)
{
    uint8_t r[16];
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        if ((m->known >> i & 1) && near(m, m->val[i]) == pointer)
            r[n++] = (uint8_t)i;
    return n ? r[rnd_n(&m->r, n)] : -1;
}

/* Aim the operand at @size bytes somewhere. */
static void aim(struct mk *m, struct blk_item *it, const struct x86_insn *i,
                unsigned size)
{
    uint64_t lin = pick_lin(m, size), base = seg_base(m, i), v = 0;
    unsigned pct = rnd_n(&m->r, 100), scale = rnd_n(&m->r, 4);
    int b = pick_known(m, true), x = pick_known(m, false);

    if (pct < 3)
        return;
    if (pct < 15 && blk_aim_rip(it, i, lin - base))
        return;
    if (pct < 20 &&
        blk_aim(it, i, X86_REG_NONE, X86_REG_NONE, 0, (int64_t)(lin - base)))
        return;
    if (b < 0)
        return;
    v = m->val[b];
    if (rnd_pct(&m->r, 35)) /* a short displacement */
        lin = v + base + rnd_n(&m->r, 256) - 128;
    if (x >= 0 && x != X86_RSP && pct < 50 &&
        blk_aim(it, i, (unsigned)b, (unsigned)x, scale,
                (int64_t)(lin - base - v - (m->val[x] << scale))))
        return;
    blk_aim(it, i, (unsigned)b, X86_REG_NONE, 0, (int64_t)(lin - base - v));
}

/* ---- single instructions ---- */

static uint32_t written(const struct x86_insn *i)
{
    uint64_t a = x86_form_info(i->form)->attr;
    uint32_t w = 0;

    for (unsigned k = 0; k < i->nopnds; k++) {
        const struct x86_opnd *o = &i->opnd[k];

        if (o->kind == X86_OPND_GPR && (o->access & X86_ACC_W))
            w |= 1U << o->reg;
        if (o->kind == X86_OPND_STRDST)
            w |= 1U << X86_RDI | 1U << X86_RCX;
        if (o->kind == X86_OPND_STRSRC)
            w |= 1U << X86_RSI | 1U << X86_RCX;
    }
    if (a & XA_WA)
        w |= 1U << X86_RAX;
    if (a & XA_WC)
        w |= 1U << X86_RCX;
    if (a & XA_WD)
        w |= 1U << X86_RDX;
    if (a & XA_WB)
        w |= 1U << X86_RBX;
    if (a & XA_WBP)
        w |= 1U << X86_RBP;
    if (a & XA_WR11)
        w |= 1U << X86_R11;
    if (i->op == X86_OP_LEAVE)
        w |= 1U << X86_RBP | 1U << X86_RSP;
    return w;
}

static unsigned mem_size(const struct x86_insn *i)
{
    for (unsigned k = 0; k < i->nopnds; k++)
        if (i->opnd[k].kind == X86_OPND_MEM)
            return i->opnd[k].size ? i->opnd[k].size : 64;
    return 0;
}

/* Replace an implicit pointer that is not known by one that is. */
static void aim_implicit(struct mk *m, const struct x86_insn *i)
{
    if (x86_form_info(i->form)->cls == X86_CLS_STRING && rnd_pct(&m->r, 25))
        add(m, rnd_pct(&m->r, 60) ? "\xfd" : "\xfc", 1); /* std, cld */
    for (unsigned k = 0; k < i->nopnds; k++) {
        unsigned kind = i->opnd[k].kind, size = i->opnd[k].size;

        if (kind == X86_OPND_STRDST)
            set_reg(m, X86_RDI, pick_lin(m, size));
        if (kind == X86_OPND_STRSRC)
            set_reg(m, X86_RSI, pick_lin(m, size) - seg_base(m, i));
        if (kind == X86_OPND_STRSRC && (m->known >> X86_RDI & 1) &&
            rnd_pct(&m->r, 30)) /* overlapping */
            set_reg(m, X86_RSI,
                    m->val[X86_RDI] + rnd_n(&m->r, 64) - 32 - seg_base(m, i));
        if ((kind == X86_OPND_STRDST || kind == X86_OPND_STRSRC) &&
            (i->prefix & (X86_PFX_REP | X86_PFX_REPNE)))
            set_reg(m, X86_RCX,
                    rnd_pct(&m->r, 95) ? rnd_n(&m->r, 40) : rnd_n(&m->r, 5000));
        if (kind == X86_OPND_XLAT)
            set_reg(m, X86_RBX, pick_lin(m, 1) - 128);
    }
    if (x86_form_info(i->form)->attr & XA_RDI)
        set_reg(m, X86_RDI, pick_lin(m, 16));
    if ((i->op == X86_OP_DIV || i->op == X86_OP_IDIV) && rnd_pct(&m->r, 70)) {
        add(m, "\x31\xd2", 2); /* xor edx, edx */
        forget(m, X86_RDX);
    }
    if (i->op == X86_OP_LEAVE && rnd_pct(&m->r, 90))
        set_reg(m, X86_RBP, pick_lin(m, 8));
}

/* An x87 instruction leaves pointers that a save would show: deviations. */
static bool shows_pointers(struct mk *m, const struct x86_form_info *fi)
{
    switch (fi->op) {
    case X86_OP_FNSTENV:
    case X86_OP_FNSAVE:
    case X86_OP_FXSAVE:
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
        m->p->saves = true;
        return m->p->x87;
    default:
        if (fi->cls != X86_CLS_X87)
            return false;
        if (m->p->saves)
            return true;
        m->p->x87 = true;
        return false;
    }
}

/* R10 and R11 more often than encodings are random. Return: false: that is
 * another form. */
static bool rename_some(struct mk *m, unsigned f, uint8_t *b,
                        struct x86_insn *i)
{
    unsigned reg = X86_REG_NONE, rm = X86_REG_NONE;

    if (m->heavy ? rnd_pct(&m->r, 20) : rnd_pct(&m->r, 85))
        return true;
    if (!(x86_form_info(f)->spec & XS_R_GIVEN) && rnd_pct(&m->r, 70))
        reg = X86_R10 + rnd_n(&m->r, 2);
    if (rnd_pct(&m->r, 50))
        rm = X86_R10 + rnd_n(&m->r, 2);
    if (!blk_rename(b, i, reg, rm))
        return true;
    memset(i, 0, sizeof *i);
    return x86_decode(b, CORPUS_INSN_ROOM, X86_MODE_64, i) == X86_DEC_OK &&
           i->form == f;
}

static void form(struct mk *m, unsigned f)
{
    const struct x86_form_info *fi = x86_form_info(f);
    uint8_t b[CORPUS_INSN_ROOM];
    struct blk_item *it;
    struct x86_insn i;

    if (shows_pointers(m, fi))
        return;
    for (unsigned try = 0;; try++) {
        uint32_t w;

        if (try == 8 || !corpus_encode(&m->r, f, b))
            return;
        memset(&i, 0, sizeof i);
        if (x86_decode(b, sizeof b, X86_MODE_64, &i) != X86_DEC_OK) {
            if (rnd_pct(&m->r, 95))
                continue;
            if (m->p->saves)
                continue;
            m->p->x87 = true; /* who knows, when a run goes on in its middle */
            i.len = 15;       /* #UD */
            break;
        }
        if (!rename_some(m, f, b, &i))
            continue;
        w = written(&i);
        if (((w & m->known) || (w >> X86_RSP & 1)) && rnd_pct(&m->r, 92))
            continue;
        if ((i.prefix & X86_PFX_LOCK || i.len > 11) && rnd_pct(&m->r, 80))
            continue;
        aim_implicit(m, &i);
        if (mem_size(&i) && pick_known(m, true) < 0)
            set_reg(m, any_reg_but_rsp(m), pick_lin(m, 8));
        m->known &= (uint16_t)~w;
        break;
    }
    it = add(m, b, i.len < 15 ? i.len : 15);
    if (i.len < 15 && i.form && mem_size(&i)) {
        uint64_t lin = pick_lin(m, mem_size(&i)) - seg_base(m, &i);

        if (i.has_modrm)
            aim(m, it, &i, mem_size(&i));
        else if (i.disp_len == 8)
            memcpy(it->b + i.len - 8, &lin, 8);
    }
}

static void some_form(struct mk *m)
{
    const struct blk_forms *f = m->f;

    if (rnd_pct(&m->r, 72))
        form(m, f->common[rnd_n(&m->r, f->ncommon)]);
    else
        form(m, f->any[rnd_n(&m->r, f->nany)]);
}

/* ---- pushes and pops ---- */

static void push_pop(struct mk *m, bool pop, unsigned r)
{
    uint8_t b[2] = {0x41, (uint8_t)((pop ? 0x58 : 0x50) | (r & 7))};

    add(m, r < 8 ? b + 1 : b, r < 8 ? 1 : 2);
    if (pop)
        forget(m, r);
}

static void pushes(struct mk *m)
{
    unsigned n = 1 + rnd_n(&m->r, 8), regs[8];

    for (unsigned i = 0; i < n; i++) {
        regs[i] = rnd_pct(&m->r, 97) ? any_reg_but_rsp(m) : X86_RSP;
        push_pop(m, false, regs[i]);
    }
    for (unsigned k = rnd_n(&m->r, 3); k; k--)
        some_form(m);
    for (unsigned i = n; i-- > 0;)
        push_pop(m, true, rnd_pct(&m->r, 90) ? regs[i] : any_reg_but_rsp(m));
}

/* RSP near the end of a page. */
static void stack_edge(struct mk *m)
{
    static const uint8_t page[] = {2, 2, 3, 6, 7, 5, 1};
    uint64_t v = blk_data(m->p) + page[rnd_n(&m->r, sizeof page)] * 4096U;

    set_reg(m, X86_RSP,
            v + 8 * (uint64_t)rnd_n(&m->r, 12) - 32 -
                (rnd_pct(&m->r, 20) ? rnd_n(&m->r, 8) : 0));
}

/* A constant added to a pointer: the translator follows these. In 16 bits it
 * may not, in 32 the upper half goes. */
static void bump(struct mk *m)
{
    static const uint8_t inc_dec[] = {0xc0, 0xc8};
    int r = pick_known(m, true), by = (int)rnd_n(&m->r, 256) - 128;
    unsigned low, size = rnd_n(&m->r, 10);
    uint8_t b[5] = {0x48, 0x83, 0, (uint8_t)by};
    bool sub = rnd_pct(&m->r, 30);
    uint64_t v;

    if (r < 0)
        return;
    low = (unsigned)r & 7;
    b[0] = (uint8_t)((size ? 0x48 : 0x40) | r >> 3);
    v = m->val[r] + (uint64_t)(int64_t)(sub ? -by : by);
    if (rnd_pct(&m->r, 30)) { /* lea r, [r + by] */
        v = m->val[r] + (uint64_t)(int64_t)by;
        b[0] = (uint8_t)(b[0] | (r >> 3) << 2);
        b[1] = 0x8d;
        b[2] = (uint8_t)(0x40 | low << 3 | low);
        if (low == 4) {
            b[3] = 0x24;
            b[4] = (uint8_t)by;
        }
        add(m, b, low == 4 ? 5 : 4);
    } else if (rnd_pct(&m->r, 30)) {
        v = m->val[r] + (sub ? UINT64_MAX : 1);
        b[1] = 0xff;
        b[2] = (uint8_t)(inc_dec[sub] | low);
        add(m, b, 3);
    } else {
        b[2] = (uint8_t)((sub ? 0xe8 : 0xc0) | low);
        add(m, b, 4);
    }
    learn(m, (unsigned)r, size ? v : (uint32_t)v);
}

/* ---- control flow ---- */

static void jump(struct mk *m, unsigned short_op, unsigned target)
{
    uint8_t b[6];
    struct blk_item *it;
    bool cc = (short_op & 0xf0) == 0x70;

    if (rnd_pct(&m->r, 50)) {
        b[0] = (uint8_t)short_op;
        it = add(m, b, 2);
        it->fix = BLK_FIX_REL8;
        it->at = 1;
    } else if (cc) {
        b[0] = 0x0f;
        b[1] = (uint8_t)(short_op + 0x10);
        it = add(m, b, 6);
        it->fix = BLK_FIX_REL32;
        it->at = 2;
    } else {
        b[0] = 0xe9;
        it = add(m, b, 5);
        it->fix = BLK_FIX_REL32;
        it->at = 1;
    }
    it->target = (uint16_t)target;
}

static void steps(struct mk *m, unsigned n);

/* A jump over what comes next; a conditional one mostly. */
static void forward(struct mk *m)
{
    unsigned pct = rnd_n(&m->r, 100), at = m->p->n, before;

    if (pct < 5 && rnd_pct(&m->r, 30)) { /* jecxz */
        add(m, "\x67\xe3", 3)->fix = BLK_FIX_REL8;
        m->p->item[at].at = 2;
    } else if (pct < 5)
        jump(m, 0xe3, 0);
    else
        jump(m, pct < 20 ? 0xeb : 0x70 + rnd_n(&m->r, 16), 0);
    before = m->known;
    steps(m, 1 + rnd_n(&m->r, 5));
    m->known &= (uint16_t)before;
    m->p->item[at].target = (uint16_t)m->p->n;
}

static unsigned new_cell(struct mk *m, uint64_t v, bool item)
{
    unsigned i = m->p->ncells;

    if (i == BLK_CELLS)
        return 0;
    m->p->cell[i] = (struct blk_cell){v, item};
    m->p->ncells++;
    return i;
}

/* An instruction with [rip + cell] as its operand. */
static struct blk_item *with_cell(struct mk *m, const char *op, unsigned nop,
                                  unsigned cell, const void *imm, unsigned nimm)
{
    uint8_t b[16];
    struct blk_item *it;

    memcpy(b, op, nop);
    memset(b + nop, 0, 4);
    if (nimm)
        memcpy(b + nop + 4, imm, nimm);
    it = add(m, b, nop + 4 + nimm);
    it->fix = BLK_FIX_RIP;
    it->at = (uint8_t)nop;
    it->lin = blk_cells(m->p) + 8 * (uint64_t)cell;
    return it;
}

/* A loop with its counter in memory that nothing else is aimed at. */
static void loop(struct mk *m)
{
    uint32_t n =
        rnd_pct(&m->r, 85) ? 2 + rnd_n(&m->r, 5) : rnd_n(&m->r, 60) + 1;
    unsigned cell, top;

    if (m->loop)
        return;
    m->loop = true;
    cell = new_cell(m, 0, false);
    with_cell(m, "\xc7\x05", 2, cell, &n, 4)->always = true;
    top = m->p->n;
    steps(m, 1 + rnd_n(&m->r, 8));
    with_cell(m, "\xff\x0d", 2, cell, NULL, 0)->always = true;
    jump(m, 0x75, top);
    if (m->p->item[m->p->n - 1].fix == BLK_FIX_REL8) { /* may be far */
        m->p->n--;
        add(m, "\x0f\x85\0\0\0\0", 6)->fix = BLK_FIX_REL32;
        m->p->item[m->p->n - 1].at = 2;
        m->p->item[m->p->n - 1].target = (uint16_t)top;
    }
    m->loop = false;
}

/* mov ecx, n; top: one instruction; loop top */
static void loop_rcx(struct mk *m)
{
    unsigned top, n;

    set_reg(m, X86_RCX, 1 + rnd_n(&m->r, 9));
    top = n = m->p->n;
    some_form(m);
    if (m->p->n != n + 1 || !(m->known >> X86_RCX & 1))
        return;
    add(m,
        rnd_pct(&m->r, 70)   ? "\xe2"
        : rnd_pct(&m->r, 50) ? "\xe1"
                             : "\xe0",
        2)
        ->fix = BLK_FIX_REL8;
    m->p->item[m->p->n - 1].at = 1;
    m->p->item[m->p->n - 1].target = (uint16_t)top;
    forget(m, X86_RCX);
}

/* Accesses by @r in a loop: what a copy, a fill, a sum would do. */
static void stream_access(struct mk *m, unsigned r, unsigned data)
{
    static const char *const ops[] = {
        "\x48\x8b\x00",     "\x48\x89\x00", "\x44\x89\x00",
        "\x48\x03\x00",     "\x40\x88\x00", "\x48\x31\x00",
        "\x48\x0f\xb6\x00", "\x48\x3b\x00", "\x48\x0f\x10\x00"};
    const char *op = ops[rnd_n(&m->r, ARRAY_LEN(ops))];
    struct blk_item *it;
    struct x86_insn i;
    uint8_t b[16];

    memset(b, 0, sizeof b);
    memcpy(b, op, strlen(op) + 1);
    memset(&i, 0, sizeof i);
    x86_decode(b, sizeof b, X86_MODE_64, &i);
    blk_rename(b, &i, data, X86_REG_NONE);
    memset(&i, 0, sizeof i);
    x86_decode(b, sizeof b, X86_MODE_64, &i);
    it = add(m, b, i.len);
    blk_aim(it, &i, r, X86_REG_NONE, 0,
            (int64_t)rnd_n(&m->r, rnd_pct(&m->r, 80) ? 64 : 5000) - 32);
}

/* A pointer that moves by a constant, a counter in a register. */
static void stream_loop(struct mk *m)
{
    static const int8_t strides[] = {1,  2,   4,  8,  8,   16,  24,
                                     64, 127, -1, -8, -16, -64, -128};
    int by = strides[rnd_n(&m->r, ARRAY_LEN(strides))];
    unsigned p = rnd_pct(&m->r, 85) ? any_reg_but_rsp(m) : X86_RSP, c, d, top;
    unsigned n = 1 + rnd_n(&m->r, 3);
    uint64_t lin;
    uint8_t b[4];

    c = d = p;
    while (c == p)
        c = any_reg_but_rsp(m);
    while (d == p || d == c)
        d = any_reg_but_rsp(m);
    do
        lin = pick_lin(m, 8);
    while (!near(m, lin));
    set_reg(m, p, lin);
    set_reg(m, c, 1 + rnd_n(&m->r, 400));
    top = m->p->n;
    while (n--)
        stream_access(m, p, d);
    b[0] = (uint8_t)(0x48 | p >> 3);
    b[1] = 0x83;
    b[2] = (uint8_t)(0xc0 | (p & 7));
    b[3] = (uint8_t)by;
    add(m, b, 4);
    if (rnd_pct(&m->r, 30))
        stream_access(m, p, d);
    b[0] = (uint8_t)(0x48 | c >> 3); /* dec */
    b[1] = 0xff;
    b[2] = (uint8_t)(0xc8 | (c & 7));
    add(m, b, 3)->always = true;
    add(m, "\x0f\x85\0\0\0\0", 6)->fix = BLK_FIX_REL32;
    m->p->item[m->p->n - 1].at = 2;
    m->p->item[m->p->n - 1].target = (uint16_t)top;
    forget(m, p);
    forget(m, c);
    forget(m, d);
}

/* An item's address into a register. */
static void load_item(struct mk *m, unsigned r, unsigned target)
{
    uint8_t b[10] = {(uint8_t)(0x48 | r >> 3), (uint8_t)(0xb8 | (r & 7))};
    struct blk_item *it = add(m, b, 10);

    it->fix = BLK_FIX_ABS64;
    it->at = 2;
    it->target = (uint16_t)target;
    forget(m, r);
}

/* jmp or call, by a register, a cell, or PUSH and RET. Targets are filled in
 * when they are known. */
static void indirect(struct mk *m, bool call, unsigned target)
{
    unsigned pct = rnd_n(&m->r, 100), r = any_reg_but_rsp(m);
    uint8_t b[3] = {(uint8_t)(0x40 | r >> 3), 0xff,
                    (uint8_t)((call ? 0xd0 : 0xe0) | (r & 7))};

    if (pct < 55) {
        load_item(m, r, target);
        if (r > 7 || rnd_pct(&m->r, 30))
            add(m, b, 3);
        else
            add(m, b + 1, 2);
    } else if (pct < 85 || call) {
        with_cell(m, call ? "\xff\x15" : "\xff\x25", 2,
                  new_cell(m, target, true), NULL, 0);
    } else {
        with_cell(m, "\xff\x35", 2, new_cell(m, target, true), NULL, 0);
        add(m, "\xc3", 1);
    }
}

/* Forward by an indirect jump. */
static void indirect_forward(struct mk *m)
{
    unsigned at = m->p->n, cells = m->p->ncells, before;

    indirect(m, false, BLK_ITEMS);
    before = m->known;
    steps(m, rnd_n(&m->r, 3));
    m->known &= (uint16_t)before;
    for (unsigned i = at; i < m->p->n; i++)
        if (m->p->item[i].target == BLK_ITEMS)
            m->p->item[i].target = (uint16_t)m->p->n;
    for (unsigned i = cells; i < m->p->ncells; i++)
        if (m->p->cell[i].item && m->p->cell[i].v == BLK_ITEMS)
            m->p->cell[i].v = m->p->n;
}

/* Functions stand at the end: BLK_ITEMS + 1, + 2 until they are made. */
static void call(struct mk *m)
{
    unsigned target = BLK_ITEMS + 1 + rnd_n(&m->r, 2);

    if (rnd_pct(&m->r, 60)) {
        struct blk_item *it = add(m, "\xe8\0\0\0\0", 5);

        it->fix = BLK_FIX_REL32;
        it->at = 1;
        it->target = (uint16_t)target;
    } else {
        indirect(m, true, target);
    }
    m->known &= 0xf038; /* as if the others were the callee's */
}

/* ---- own code ---- */

/* A store into the immediate of a MOV that comes later, or (in a loop) that
 * came before. */
static void patch_code(struct mk *m)
{
    unsigned r = any_reg_but_rsp(m), at = m->p->n;
    uint8_t b[16] = {(uint8_t)(0x48 | r >> 3), 0xc7, (uint8_t)(0xc0 | (r & 7))};
    uint32_t imm = (uint32_t)rnd_u64(&m->r);
    bool ahead = rnd_pct(&m->r, 70), byte = rnd_pct(&m->r, 50);
    struct blk_item *it;

    if (!ahead)
        add(m, b, 7);
    with_cell(m, byte ? "\xc6\x05" : "\xc7\x05", 2, 0, &imm, byte ? 1 : 4);
    it = &m->p->item[m->p->n - 1];
    it->fix = BLK_FIX_RIPITEM;
    it->off = (uint8_t)(3 + (byte ? rnd_n(&m->r, 4) : 0));
    it->target = (uint16_t)at;
    if (!ahead) {
        forget(m, r);
        return;
    }
    at = m->p->n - 1;
    steps(m, rnd_n(&m->r, 4));
    m->p->item[at].target = (uint16_t)m->p->n;
    add(m, b, 7)->always = true;
    forget(m, r);
}

/* ---- system ---- */

static void wrbase(struct mk *m, bool gs)
{
    uint8_t b[5] = {0xf3, 0x48, 0x0f, 0xae, (uint8_t)(gs ? 0xd8 : 0xd0)};
    uint64_t v = gs ? m->p->gs_base : m->p->fs_base;

    if (rnd_pct(&m->r, 20))
        v = rnd_int(&m->r);
    set_reg(m, X86_RAX, v);
    add(m, b, 5);
}

/* mov dr/cr and MSRs that change nothing that the rest needs */
static void privileged(struct mk *m)
{
    static const uint32_t msrs[] = {0xc0000103, 0xc0000102, 0xc0000100,
                                    0x174,      0xc0000081, 0x123456};

    switch (rnd_n(&m->r, 8)) {
    case 0:
        add(m, "\x0f\x20\xd0", 3); /* mov rax, cr2 */
        forget(m, X86_RAX);
        break;
    case 1:
        add(m, "\x0f\x22\xd3", 3); /* mov cr2, rbx */
        break;
    case 2:
        add(m, "\x0f\x06", 2); /* clts */
        break;
    case 3:
        set_reg(m, X86_RAX, pick_lin(m, 1));
        add(m, "\x0f\x01\x38", 3); /* invlpg [rax] */
        break;
    case 4:
        adds(m, "\x0f\x20\xd8\x0f\x22\xd8", 6); /* mov rax,cr3; mov cr3,rax */
        forget(m, X86_RAX);
        break;
    case 5:
        adds(m, "\x0f\x20\xc0\x48\x83\xf0\x08\x0f\x22\xc0", 10); /* CR0.TS */
        forget(m, X86_RAX);
        break;
    default:
        set_reg(m, X86_RCX, msrs[rnd_n(&m->r, ARRAY_LEN(msrs))]);
        add(m, "\x0f\x32", 2); /* rdmsr */
        m->known &= (uint16_t)~5U;
        break;
    }
}

/* mov rdx or r11, gs:[...] */
static void load_gs(struct mk *m)
{
    bool high = rnd_pct(&m->r, 50);
    uint8_t b[9] = {0x65, high ? 0x4c : 0x48, 0x8b, high ? 0x1c : 0x14, 0x25};
    uint32_t disp = (uint32_t)(blk_data(m->p) + 4096 + rnd_n(&m->r, 512) * 8);

    memcpy(b + 5, &disp, 4);
    add(m, b, 9);
    forget(m, high ? X86_R11 : X86_RDX);
}

static void kernel_only(struct mk *m)
{
    switch (rnd_n(&m->r, 12)) {
    case 0:
        load_gs(m);
        add(m, "\x0f\x01\xf8", 3); /* swapgs */
        if (rnd_pct(&m->r, 70))
            load_gs(m);
        if (rnd_pct(&m->r, 50))
            add(m, "\x0f\x01\xf8", 3);
        break;
    case 1:
        add(m, "\xfa", 1); /* cli */
        break;
    case 2:
    case 3:
        add(m, "\xfb", 1); /* sti */
        break;
    case 4:
    case 5:
        add(m, "\x0f\x01\xcb", 3); /* stac */
        break;
    case 6:
    case 7:
        add(m, "\x0f\x01\xca", 3); /* clac */
        break;
    case 8:
        add(m, "\xf4", 1); /* hlt */
        break;
    case 9:                                     /* iretq to the next item */
        adds(m, "\x6a\x18\x54\x9c\x6a\x10", 6); /* push ss rsp rflags cs */
        with_cell(m, "\xff\x35", 2, new_cell(m, m->p->n + 2, true), NULL, 0);
        add(m, "\x48\xcf", 2);
        break;
    default:
        privileged(m);
        break;
    }
}

static void flag_mix(struct mk *m)
{
    switch (rnd_n(&m->r, 10)) {
    case 0:
        add(m, "\x9c", 1); /* pushfq; popfq */
        add(m, "\x9d", 1);
        break;
    case 1:
        adds(m, "\x9c\x58\x50\x9d", 4); /* pushfq; pop rax; push rax; popfq */
        forget(m, X86_RAX);
        break;
    case 2:
        adds(m, "\x9c\x58", 2); /* pushfq; pop rax */
        forget(m, X86_RAX);
        break;
    case 3:
        add(m, "\x9f", 1);
        forget(m, X86_RAX);
        break;
    case 4:
        add(m, "\x9e", 1);
        break;
    case 5:
        add(m, "\xf5", 1);
        break;
    case 6:
        add(m, "\xf8", 1);
        break;
    case 7:
        add(m, "\xf9", 1);
        break;
    case 8:
        add(m, "\xfc", 1);
        break;
    default:
        add(m, rnd_pct(&m->r, 30) ? "\xfd" : "\xfc", 1);
        break;
    }
}

static void special(struct mk *m)
{
    unsigned pct = rnd_n(&m->r, 100);

    if (m->p->kernel && pct < 55) {
        kernel_only(m);
    } else if (pct < 75) {
        flag_mix(m);
    } else if (pct < 80) {
        wrbase(m, rnd_pct(&m->r, 50));
    } else if (pct < 84) {
        add(m, "\xcc", 1);
    } else if (pct < 87) {
        add(m, "\x0f\x0b", 2);
    } else if (pct < 91) {
        add(m, "\xcd\x80", 2);
    } else if (pct < 94 && !m->p->kernel) {
        add(m, "\x0f\x05", 2); /* syscall */
        m->known &= (uint16_t) ~(1U << X86_RCX | 1U << X86_R11);
    } else {
        add(m, "\x0f\xa2", 2); /* cpuid */
        m->known &= (uint16_t)~0xfU;
    }
}

/* ---- programs ---- */

static void step(struct mk *m)
{
    unsigned pct = rnd_n(&m->r, 1000);

    if (!room(m))
        return;
    if (pct < 660)
        some_form(m);
    else if (pct < 700)
        bump(m);
    else if (pct < 780)
        forward(m);
    else if (pct < 810)
        loop(m);
    else if (pct < 815)
        loop_rcx(m);
    else if (pct < 830 && !m->loop)
        stream_loop(m);
    else if (pct < 860)
        call(m);
    else if (pct < 885)
        indirect_forward(m);
    else if (pct < 900)
        patch_code(m);
    else if (pct < 935)
        pushes(m);
    else if (pct < 942)
        stack_edge(m);
    else if (pct < 975)
        set_reg(m, any_reg_but_rsp(m),
                rnd_pct(&m->r, 70) ? pick_lin(m, 8) : rnd_n(&m->r, 300));
    else
        special(m);
}

static void steps(struct mk *m, unsigned n)
{
    while (n--)
        step(m);
}

/* Where the main part begins: often near a page's end. */
static uint32_t pick_org(struct mk *m)
{
    if (rnd_pct(&m->r, 60))
        return rnd_n(&m->r, 2048);
    return 4096 - rnd_n(&m->r, 200);
}

static void functions(struct mk *m)
{
    static const uint16_t org[2] = {2 * 4096 + 64, 3 * 4096 - 40};
    unsigned second = rnd_n(&m->r, 2);

    for (unsigned k = 0; k < 2; k++) {
        unsigned pct = rnd_n(&m->r, 100);

        m->fn[k] = m->p->n;
        m->known = m->p->known & 0xf038;
        for (unsigned n = 1 + rnd_n(&m->r, 4); n; n--)
            some_form(m);
        if (pct < 85)
            add(m, "\xc3", 1)->always = true;
        else
            add(m, "\xc2\x08", 3)->always = true;
        if (k == 0)
            m->p->item[m->fn[0]].org = org[second];
    }
}

static void start_state(struct mk *m)
{
    struct blk_prog *p = m->p;

    p->known = 0;
    p->fs_base = rnd_pct(&m->r, 80) ? rnd_n(&m->r, 1 << 16) : rnd_int(&m->r);
    p->gs_base = rnd_pct(&m->r, 80) ? rnd_n(&m->r, 1 << 16)
                                    : rnd_u64(&m->r) | 0xffff800000000000;
    if (p->fs_base >> 47)
        p->fs_base &= BIT(46) - 1;
    p->kernel_gs = rnd_n(&m->r, 1 << 16);
    for (unsigned k = 3 + rnd_n(&m->r, 4); k; k--) {
        unsigned r = any_reg_but_rsp(m);

        p->known |= (uint16_t)(1U << r);
        p->gpr[r] = rnd_pct(&m->r, 65) ? pick_lin(m, 8) : rnd_n(&m->r, 300);
    }
    p->known |= 1U << X86_RSP;
    p->gpr[X86_RSP] = blk_data(p) + (rnd_pct(&m->r, 50) ? 4096U : 5 * 4096U) +
                      2048 + rnd_n(&m->r, 4096) / 8 * 8;
    m->known = p->known;
    memcpy(m->val, p->gpr, sizeof m->val);
}

/* Functions' and ends' numbers in place of the marks. */
static void resolve(struct mk *m)
{
    for (unsigned i = 0; i < m->p->n; i++)
        if (m->p->item[i].target > BLK_ITEMS)
            m->p->item[i].target =
                (uint16_t)m->fn[m->p->item[i].target - BLK_ITEMS - 1];
    for (unsigned i = 0; i < m->p->ncells; i++)
        if (m->p->cell[i].item && m->p->cell[i].v > BLK_ITEMS)
            m->p->cell[i].v = m->fn[m->p->cell[i].v - BLK_ITEMS - 1];
}

void blk_make(const struct blk_forms *f, uint64_t seed, struct blk_prog *p)
{
    struct mk m = {.p = p, .f = f};
    uint32_t org;

    m.r.s = seed * UINT64_C(0x2545f4914f6cdd1d);
    rnd_u64(&m.r);
    p->seed = seed;
    p->n = p->ncells = 0;
    p->x87 = p->saves = false;
    p->kernel = rnd_pct(&m.r, 50);
    p->runs = 1 + rnd_n(&m.r, BLK_RUNS);
    p->ts = rnd_pct(&m.r, 6);
    m.heavy = rnd_pct(&m.r, 25);
    start_state(&m);
    org = pick_org(&m);
    steps(&m, 2 + rnd_n(&m.r, rnd_pct(&m.r, 20) ? 60 : 22));
    p->end = p->n;
    add(&m, "\xf4", 1)->always = true;
    p->item[0].org = org;
    functions(&m);
    resolve(&m);
}
