// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions in translated code: those that are a few loads are made
 * inline; for others, which the quick gate may run (quick_sys.c), it is said
 * which. What no rule here names is called out. Flags stay as they are.
 * Source: Intel SDM vol. 2.
 */
#include "engine/bt/front.h"

#include "cpu/x86/cpuid.h"

static bool user(const struct bt_tr *t)
{
    return t->b->mode & BT_MODE_CPL3;
}

/* ---- which ---- */

static bool mov_from_cr(const struct x86_insn *insn)
{
    const struct x86_opnd *d = &insn->opnd[0], *s = &insn->opnd[1];

    if (d->kind != X86_OPND_GPR || s->kind != X86_OPND_CR || d->size != 8)
        return false;
    return s->reg == 0 || s->reg == 2 || s->reg == 3 || s->reg == 4;
}

static bool mov_from_sreg(const struct x86_insn *insn)
{
    const struct x86_opnd *d = &insn->opnd[0], *s = &insn->opnd[1];

    return d->kind == X86_OPND_GPR && s->kind == X86_OPND_SEG &&
           s->reg <= X86_SEG_GS;
}

unsigned bt_kind_after(const struct bt_tr *t, unsigned i)
{
    unsigned op = t->insn[i].op;

    if (user(t) || (op != X86_OP_STAC && op != X86_OP_CLAC))
        return t->kind[i];
    return op == X86_OP_CLAC && (t->b->mode & BT_MODE_SMAP) ? TLB_SUP
                                                            : TLB_SUPAC;
}

enum bt_how bt_how_system(const struct bt_tr *t, const struct x86_insn *insn)
{
    uint32_t mode = t->b->mode;
    bool inl = false;

    switch (insn->op) {
    case X86_OP_RDTSC:
    case X86_OP_RDTSCP:
        inl = t->bt->tsc_inline && !(user(t) && (mode & BT_MODE_TSD));
        break;
    case X86_OP_MOV:
        inl = (!user(t) && mov_from_cr(insn)) || mov_from_sreg(insn);
        break;
    case X86_OP_RDFSBASE:
    case X86_OP_RDGSBASE:
        inl = mode & BT_MODE_FSGS;
        break;
    case X86_OP_CLD:
        inl = true;
        break;
    case X86_OP_CLI:
    case X86_OP_STI:
    case X86_OP_SWAPGS:
    case X86_OP_STAC:
    case X86_OP_CLAC:
        inl = !user(t);
        break;
    default:
        break;
    }
    return inl ? HOW_SYSTEM : HOW_CALLOUT;
}

/* The quick gate checks no privilege of these. */
static enum bt_quick_op supervisor_op(const struct x86_insn *insn)
{
    switch (insn->op) {
    case X86_OP_POPF:
        return insn->opsize == 8 ? BT_Q_POPF : BT_Q_NONE;
    case X86_OP_SYSRET:
        return insn->opsize == 8 ? BT_Q_SYSRET : BT_Q_NONE;
    case X86_OP_IRET:
        return insn->opsize == 8 ? BT_Q_IRET : BT_Q_NONE;
    case X86_OP_MOV:
        return insn->opnd[0].kind == X86_OPND_CR && insn->opnd[0].reg == 3
                   ? BT_Q_CR3
                   : BT_Q_NONE;
    default:
        return BT_Q_NONE;
    }
}

static enum bt_quick_op quick_op(const struct bt_tr *t,
                                 const struct x86_insn *insn)
{
    bool fsgs = t->b->mode & BT_MODE_FSGS;

    switch (insn->op) {
    case X86_OP_SYSCALL:
        return BT_Q_SYSCALL;
    case X86_OP_WRFSBASE:
        return fsgs ? BT_Q_WRFSBASE : BT_Q_NONE;
    case X86_OP_WRGSBASE:
        return fsgs ? BT_Q_WRGSBASE : BT_Q_NONE;
    default:
        return user(t) ? BT_Q_NONE : supervisor_op(insn);
    }
}

void bt_quick_site(const struct bt_tr *t, const struct x86_insn *insn,
                   struct bt_site *s)
{
    unsigned feat = x86_form_info(insn->form)->feat;

    if (feat != X86_FEAT_BASE && !x86_cpuid_has(t->bt->cpu->cpuid, feat))
        return;
    s->quick = (uint8_t)quick_op(t, insn);
    s->len = insn->len;
    s->reg = (uint8_t)(insn->nopnds ? insn->opnd[0].reg : 0);
    if (s->quick == BT_Q_CR3)
        s->reg = insn->opnd[1].reg;
    s->size = (uint8_t)(insn->nopnds ? insn->opnd[0].size : 0);
}

/* ---- emission ---- */

/* mov r, [r+disp] */
static void load_field(struct emit *e, unsigned r, size_t disp)
{
    e8(e, 0x48 | (r >> 3) << 2 | r >> 3);
    e8(e, 0x8b);
    e8(e, 0x80 | (r & 7) << 3 | (r & 7));
    if ((r & 7) == X86_RSP)
        e8(e, 0x24);
    e32(e, (uint32_t)disp);
}

/* r = the field of struct x86_cpu at @disp */
static void load_cpu(struct emit *e, unsigned r, size_t disp)
{
    e_load(e, r, BT_CPU);
    load_field(e, r, disp);
}

/* mov r32, r32: the upper half becomes 0 */
static void cut32(struct emit *e, unsigned r)
{
    if (r >= 8)
        e8(e, 0x45);
    e8(e, 0x8b);
    e8(e, 0xc0 | (r & 7) << 3 | (r & 7));
}

/* rorx d, s, 32 (of RAX to RDI) */
static void swap_halves(struct emit *e, unsigned d, unsigned s)
{
    e8(e, 0xc4);
    e8(e, 0xe3);
    e8(e, 0xfb);
    e8(e, 0xf0);
    e8(e, 0xc0 | d << 3 | s);
    e8(e, 32);
}

static void rdtsc(struct emit *e, bool aux)
{
    if (aux) { /* what is before it has been done */
        e8(e, 0x0f), e8(e, 0xae), e8(e, 0xe8);
        load_cpu(e, X86_RCX, offsetof(struct x86_cpu, msr.tsc_aux));
        cut32(e, X86_RCX);
    }
    e8(e, 0x0f), e8(e, 0x31);
    swap_halves(e, X86_RDX, X86_RDX);
    e_lea(e, X86_RAX, X86_RAX, X86_RDX, 0, 0, true);
    e_load(e, X86_RDX, BT_TSCOFF);
    e_lea(e, X86_RAX, X86_RAX, X86_RDX, 0, 0, true);
    swap_halves(e, X86_RDX, X86_RAX);
    cut32(e, X86_RDX);
    cut32(e, X86_RAX);
}

static size_t cr_field(unsigned n)
{
    switch (n) {
    case 0:
        return offsetof(struct x86_cpu, cr0);
    case 2:
        return offsetof(struct x86_cpu, cr2);
    case 3:
        return offsetof(struct x86_cpu, cr3);
    default:
        return offsetof(struct x86_cpu, cr4);
    }
}

static void rdbase(struct emit *e, const struct x86_insn *insn)
{
    const struct x86_opnd *d = &insn->opnd[0];

    e_load(e, d->reg, insn->op == X86_OP_RDFSBASE ? BT_FSBASE : BT_GSBASE);
    if (d->size == 4)
        cut32(e, d->reg);
}

/* movzx r32, word [b+disp]; with @low: mov r16, word [b+disp] */
static void load_word(struct emit *e, unsigned r, unsigned b, size_t disp,
                      bool low)
{
    if (low)
        e8(e, 0x66);
    if (r >= 8 || b >= 8)
        e8(e, 0x40 | (r >> 3) << 2 | b >> 3);
    if (low)
        e8(e, 0x8b);
    else
        e8(e, 0x0f), e8(e, 0xb7);
    e8(e, 0x80 | (r & 7) << 3 | (b & 7));
    if ((b & 7) == X86_RSP)
        e8(e, 0x24);
    e32(e, (uint32_t)disp);
}

static void mov(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned r = insn->opnd[0].reg, n = insn->opnd[1].reg;
    unsigned b = r == t->s1 ? t->s2 : t->s1;
    struct emit *e = &t->e;

    if (insn->opnd[1].kind == X86_OPND_CR) {
        load_cpu(e, r, cr_field(n));
        return;
    }
    if (bt_at_home(t, r))
        e_load(e, r, BT_HOME(r));
    e_load(e, b, BT_CPU);
    if (b == t->s2)
        t->s2_has = 0;
    load_word(e, r, b,
              offsetof(struct x86_cpu, seg) + n * sizeof(struct x86_seg) +
                  offsetof(struct x86_seg, sel),
              insn->opnd[0].size == 2);
}

/* mov qword gs:[disp], imm */
static void gs_put(struct emit *e, unsigned disp, uint32_t imm)
{
    e8(e, 0x65), e8(e, 0x48), e8(e, 0xc7);
    e8(e, 0x04), e8(e, 0x25);
    e32(e, disp);
    e32(e, imm);
}

static void swapgs(struct bt_tr *t)
{
    struct emit *e = &t->e;

    e_load(e, t->s1, BT_GSBASE);
    e_load(e, t->s2, BT_KGSBASE);
    e_save(e, t->s1, BT_KGSBASE);
    e_save(e, t->s2, BT_GSBASE);
    if (t->b->mode & BT_MODE_ZONE) {
        e_mov(e, t->s1, t->s2);
        bt_zone_of(t, t->s1);
        e_lea(e, t->s2, t->s1, t->s2, 0, 0, true);
        e_save(e, t->s2, BT_SEGHOST(1));
    }
    t->s2_has = 0;
}

/* When an interrupt may wait the interpreter runs it, with its shadow. */
static void sti(struct bt_tr *t)
{
    struct emit *e = &t->e;
    bool held = t->held;
    uint32_t site, go;

    bt_unhold(t);
    site = bt_site_new(t, t->va[t->at]);
    if (!t->live[t->at + 1]) {
        e_gs_cmp0(e, BT_IRQW - 4);
        bt_cold_new(t, COLD_LEAVE, e_jcc(e, CC_NE), site, BT_G_CALLOUT);
    } else {
        e_save(e, X86_RCX, SLOT_CX);
        e8(e, 0x65), e8(e, 0x8b); /* mov ecx, gs:[irqw] */
        e8(e, 0x0c), e8(e, 0x25);
        e32(e, BT_IRQW);
        go = e_jrcxz(e);
        e_load(e, X86_RCX, SLOT_CX);
        bt_cold_new(t, COLD_LEAVE, e_jmp(e), site, BT_G_CALLOUT);
        e_patch8(e, go);
        e_load(e, X86_RCX, SLOT_CX);
    }
    gs_put(e, BT_IFL, (uint32_t)X86_FL_IF);
    t->bt->sites[site].next = e->at;
    if (held)
        bt_hold(t);
}

/* pdep dst, src, gs:[disp] */
static void pdep(struct emit *e, unsigned dst, unsigned src, unsigned disp)
{
    e8(e, 0x65), e8(e, 0xc4);
    e8(e, (dst < 8 ? 0x80 : 0) | 0x40 | 0x20 | 2);
    e8(e, 0x80 | (~src & 15) << 3 | 3);
    e8(e, 0xf5);
    e8(e, 0x04 | (dst & 7) << 3), e8(e, 0x25);
    e32(e, disp);
}

/* rorx d, rax, 8 */
static void turn_rax(struct emit *e, unsigned d)
{
    e8(e, 0xc4);
    e8(e, (d < 8 ? 0x80 : 0) | 0x40 | 0x20 | 3);
    e8(e, 0xfb);
    e8(e, 0xf0);
    e8(e, 0xc0 | (d & 7) << 3);
    e8(e, 8);
}

void bt_rflags(struct bt_tr *t)
{
    unsigned w = t->s1 == X86_RAX ? t->s2 : t->s1;
    unsigned keep = w == t->s1 ? t->s2 : t->s1;
    struct emit *e = &t->e;

    if (keep != X86_RAX)
        e_mov(e, keep, X86_RAX);
    t->s2_has = 0;
    e8(e, 0x9f);                           /* lahf */
    e8(e, 0x0f), e8(e, 0x90), e8(e, 0xc0); /* seto al */
    turn_rax(e, w);
    e_pext(e, w, w, BT_FLPEXT);
    pdep(e, w, w, BT_FLPDEP);
    load_cpu(e, X86_RAX, offsetof(struct x86_cpu, rflags));
    e_lea(e, w, w, X86_RAX, 0, 0, true);
    e_load(e, X86_RAX, BT_IFL);
    e_lea(e, w, w, X86_RAX, 0, 0, true);
    e_load(e, X86_RAX, BT_ACL);
    e_lea(e, w, w, X86_RAX, 0, 0, true);
    e_load(e, X86_RAX, BT_DFL);
    e_lea(e, w, w, X86_RAX, 0, 0, true);
    e_save(e, w, SLOT_TGT);
    if (keep != X86_RAX)
        e_mov(e, X86_RAX, keep);
}

/* What follows makes accesses of another kind; C is told. */
static void set_ac(struct bt_tr *t, const struct x86_insn *insn)
{
    unsigned kind = bt_kind_after(t, t->at);
    struct emit *e = &t->e;

    gs_put(e, BT_ACL, insn->op == X86_OP_STAC ? (uint32_t)X86_FL_AC : 0);
    if (kind == bt_kind(t))
        return;
    e_gs_imm(e, offsetof(struct bt, mode), bt_mode_of(t, kind));
    t->kind_now = (uint8_t)kind;
    t->s2_has = 0;
}

void bt_system(struct bt_tr *t)
{
    const struct x86_insn *insn = &t->insn[t->at];
    struct emit *e = &t->e;

    switch (insn->op) {
    case X86_OP_RDTSC:
    case X86_OP_RDTSCP:
        rdtsc(e, insn->op == X86_OP_RDTSCP);
        break;
    case X86_OP_MOV:
        mov(t, insn);
        break;
    case X86_OP_CLD:
        gs_put(e, BT_DFL, 0);
        break;
    case X86_OP_CLI:
        gs_put(e, BT_IFL, 0);
        break;
    case X86_OP_STI:
        sti(t);
        break;
    case X86_OP_SWAPGS:
        swapgs(t);
        break;
    case X86_OP_STAC:
    case X86_OP_CLAC:
        set_ac(t, insn);
        break;
    default:
        rdbase(e, insn);
        break;
    }
}
