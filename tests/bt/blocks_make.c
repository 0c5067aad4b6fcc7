// SPDX-License-Identifier: Apache-2.0
/*
 * Single instructions of programs: mostly what compilers emit, some of every
 * form that the corpus has, aimed at the data pages through registers whose
 * values are known.
 */
#include "tests/bt/blocks_make.h"

#include "tests/insn/corpus/make.h"

#include <string.h>

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

struct blk_item *mk_add(struct mk *m, const void *bytes, unsigned len)
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
void mk_adds(struct mk *m, const char *bytes, unsigned len)
{
    while (len) {
        struct x86_insn i;

        if (x86_decode((const uint8_t *)bytes, len, X86_MODE_64, &i) !=
            X86_DEC_OK)
            return;
        mk_add(m, bytes, i.len);
        bytes += i.len;
        len -= i.len;
    }
}

bool mk_room(const struct mk *m)
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

unsigned mk_any_reg_but_rsp(struct mk *m)
{
    unsigned r = any_reg(m);

    return r == X86_RSP ? X86_R11 : r;
}

void mk_forget(struct mk *m, unsigned r)
{
    m->known &= (uint16_t) ~(1U << r);
}

static void learn(struct mk *m, unsigned r, uint64_t v)
{
    m->known |= (uint16_t)(1U << r);
    m->val[r] = v;
}

/* mov r, imm64, or lea r, [rip + ...] */
void mk_set_reg(struct mk *m, unsigned r, uint64_t v)
{
    uint8_t b[16] = {(uint8_t)(0x48 | r >> 3), (uint8_t)(0xb8 | (r & 7))};

    if (v - blk_data(m->p) < 2 * BLK_DATA_BYTES && rnd_pct(&m->r, 40)) {
        struct blk_item *it;

        b[0] = (uint8_t)(0x48 | (r >> 3) << 2);
        b[1] = 0x8d;
        b[2] = (uint8_t)(5 | (r & 7) << 3);
        it = mk_add(m, b, 7);
        it->fix = BLK_FIX_RIP;
        it->at = 3;
        it->lin = v;
    } else {
        memcpy(b + 2, &v, 8);
        mk_add(m, b, 10);
    }
    learn(m, r, v);
}

/* ---- addresses ---- */

/* Where an access of @size bytes shall go. */
uint64_t mk_pick_lin(struct mk *m, unsigned size)
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

bool mk_near(const struct mk *m, uint64_t v)
{
    return v - (blk_data(m->p) - 0x10000) < 0x20000 + BLK_DATA_BYTES;
}

static int pick_known(struct mk *m, bool pointer)
{
    uint8_t r[16];
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        if ((m->known >> i & 1) && mk_near(m, m->val[i]) == pointer)
            r[n++] = (uint8_t)i;
    return n ? r[rnd_n(&m->r, n)] : -1;
}

/* Aim the operand at @size bytes somewhere. */
static void aim(struct mk *m, struct blk_item *it, const struct x86_insn *i,
                unsigned size)
{
    uint64_t lin = mk_pick_lin(m, size), base = seg_base(m, i), v = 0;
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

/* A register that is far from what is meant: a zone's end may be between, or
 * all of the address space. Return: the displacement. */
static int64_t far_reg(struct mk *m, unsigned reg, uint64_t lin)
{
    static const int64_t edge[] = {1 << 20,          -(1 << 20), INT32_MAX,
                                   INT32_MIN,        1 << 30,    -(1 << 30),
                                   INT32_MAX / 4 * 3};
    int64_t by = (int32_t)rnd_u64(&m->r);

    if (rnd_pct(&m->r, 50))
        by = edge[rnd_n(&m->r, ARRAY_LEN(edge))];
    if (rnd_pct(&m->r, 50) && by < INT32_MAX - 64 && by > INT32_MIN + 64)
        by += (int64_t)rnd_n(&m->r, 128) - 64;
    mk_set_reg(m, reg, lin - (uint64_t)by);
    return by;
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
        mk_add(m, rnd_pct(&m->r, 60) ? "\xfd" : "\xfc", 1); /* std, cld */
    for (unsigned k = 0; k < i->nopnds; k++) {
        unsigned kind = i->opnd[k].kind, size = i->opnd[k].size;

        if (kind == X86_OPND_STRDST)
            mk_set_reg(m, X86_RDI, mk_pick_lin(m, size));
        if (kind == X86_OPND_STRSRC)
            mk_set_reg(m, X86_RSI, mk_pick_lin(m, size) - seg_base(m, i));
        if (kind == X86_OPND_STRSRC && (m->known >> X86_RDI & 1) &&
            rnd_pct(&m->r, 30)) /* overlapping */
            mk_set_reg(m, X86_RSI,
                       m->val[X86_RDI] + rnd_n(&m->r, 64) - 32 -
                           seg_base(m, i));
        if ((kind == X86_OPND_STRDST || kind == X86_OPND_STRSRC) &&
            (i->prefix & (X86_PFX_REP | X86_PFX_REPNE)))
            mk_set_reg(m, X86_RCX,
                       rnd_pct(&m->r, 95) ? rnd_n(&m->r, 40)
                                          : rnd_n(&m->r, 5000));
        if (kind == X86_OPND_XLAT)
            mk_set_reg(m, X86_RBX, mk_pick_lin(m, 1) - 128);
    }
    if (x86_form_info(i->form)->attr & XA_RDI)
        mk_set_reg(m, X86_RDI, mk_pick_lin(m, 16));
    if ((i->op == X86_OP_DIV || i->op == X86_OP_IDIV) && rnd_pct(&m->r, 70)) {
        mk_add(m, "\x31\xd2", 2); /* xor edx, edx */
        mk_forget(m, X86_RDX);
    }
    if (i->op == X86_OP_LEAVE && rnd_pct(&m->r, 90))
        mk_set_reg(m, X86_RBP, mk_pick_lin(m, 8));
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
    unsigned far = X86_REG_NONE;
    uint8_t b[CORPUS_INSN_ROOM];
    struct blk_item *it;
    struct x86_insn i;
    int64_t by = 0;

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
            mk_set_reg(m, mk_any_reg_but_rsp(m), mk_pick_lin(m, 8));
        if (i.has_modrm && mem_size(&i) && rnd_pct(&m->r, 3)) {
            far = mk_any_reg_but_rsp(m);
            by =
                far_reg(m, far, mk_pick_lin(m, mem_size(&i)) - seg_base(m, &i));
        }
        m->known &= (uint16_t)~w;
        break;
    }
    it = mk_add(m, b, i.len < 15 ? i.len : 15);
    if (i.len < 15 && i.form && mem_size(&i)) {
        uint64_t lin = mk_pick_lin(m, mem_size(&i)) - seg_base(m, &i);

        if (far != X86_REG_NONE)
            blk_aim(it, &i, far, X86_REG_NONE, 0, by);
        else if (i.has_modrm)
            aim(m, it, &i, mem_size(&i));
        else if (i.disp_len == 8)
            memcpy(it->b + i.len - 8, &lin, 8);
    }
}

void mk_some_form(struct mk *m)
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

    mk_add(m, r < 8 ? b + 1 : b, r < 8 ? 1 : 2);
    if (pop)
        mk_forget(m, r);
}

void mk_pushes(struct mk *m)
{
    unsigned n = 1 + rnd_n(&m->r, 8), regs[8];

    for (unsigned i = 0; i < n; i++) {
        regs[i] = rnd_pct(&m->r, 97) ? mk_any_reg_but_rsp(m) : X86_RSP;
        push_pop(m, false, regs[i]);
    }
    for (unsigned k = rnd_n(&m->r, 3); k; k--)
        mk_some_form(m);
    for (unsigned i = n; i-- > 0;)
        push_pop(m, true, rnd_pct(&m->r, 90) ? regs[i] : mk_any_reg_but_rsp(m));
}

/* RSP near the end of a page. */
void mk_stack_edge(struct mk *m)
{
    static const uint8_t page[] = {2, 2, 3, 6, 7, 5, 1};
    uint64_t v = blk_data(m->p) + page[rnd_n(&m->r, sizeof page)] * 4096U;

    mk_set_reg(m, X86_RSP,
               v + 8 * (uint64_t)rnd_n(&m->r, 12) - 32 -
                   (rnd_pct(&m->r, 20) ? rnd_n(&m->r, 8) : 0));
}

/* A constant added to a pointer: the translator follows these. In 16 bits it
 * may not, in 32 the upper half goes. */
void mk_bump(struct mk *m)
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
        mk_add(m, b, low == 4 ? 5 : 4);
    } else if (rnd_pct(&m->r, 30)) {
        v = m->val[r] + (sub ? UINT64_MAX : 1);
        b[1] = 0xff;
        b[2] = (uint8_t)(inc_dec[sub] | low);
        mk_add(m, b, 3);
    } else {
        b[2] = (uint8_t)((sub ? 0xe8 : 0xc0) | low);
        mk_add(m, b, 4);
    }
    learn(m, (unsigned)r, size ? v : (uint32_t)v);
}
