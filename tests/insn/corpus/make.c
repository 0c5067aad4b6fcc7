// SPDX-License-Identifier: Apache-2.0
/*
 * Cases by number: which form, its bytes, a start state that suits it. The
 * same seed and number give the same case. Also says which forms are left out.
 */
#include "tests/insn/corpus/make.h"

#include <string.h>

/* ---- which forms ---- */

struct left_out {
    const char *form; /* a form's name, or a mnemonic */
    const char *why;
};

static const struct left_out left_out[] = {
#define LEFT_OUT(form, why) {#form, why},
#include "tests/insn/corpus/left_out.def"
#undef LEFT_OUT
};

const char *corpus_left_out(const struct x86_cpuid *cpuid, unsigned form)
{
    const struct x86_form_info *fi = x86_form_info(form);

    if (fi->attr & XA_NO64)
        return "not in 64-bit mode (#UD there: the junk bytes check it)";
    if (!x86_cpuid_has(cpuid, fi->feat) && !(fi->attr & (XA_NOPIF | XA_ALTIF)))
        return "the level does not show its feature";
    for (size_t i = 0; i < ARRAY_LEN(left_out); i++)
        if (!strcmp(left_out[i].form, fi->name) ||
            !strcmp(left_out[i].form, x86_op_name(fi->op)))
            return left_out[i].why;
    return NULL;
}

void corpus_maker_init(struct corpus_maker *m, const struct x86_cpuid *cpuid,
                       const uint64_t *pattern, uint64_t seed)
{
    m->cpuid = cpuid;
    m->pattern = pattern;
    m->seed = seed;
    m->nforms = 0;
    memcpy(m->shadow, pattern, CORPUS_BYTES);
    for (unsigned f = 1; f < X86_FORM_COUNT; f++)
        if (!corpus_left_out(cpuid, f))
            m->form[m->nforms++] = (uint16_t)f;
}

/* ---- what cannot be asked of Linux ---- */

/* INT 80h is a system call. */
static bool forbidden(const struct x86_insn *i)
{
    return i->op == X86_OP_INT && (i->imm & 0xff) == 0x80;
}

/* ---- one case ---- */

static uint64_t pick_rip(struct rnd *r)
{
    unsigned pct = rnd_n(r, 100);

    if (pct < 85) /* amid INT3s */
        return CORPUS_CODE + 0x400 + rnd_n(r, 64);
    if (pct < 93) /* across two pages */
        return CORPUS_CODE + 4096 - rnd_n(r, 16);
    return CORPUS_CODE + CORPUS_CODE_BYTES - 1 - rnd_n(r, 16);
}

static void pick_state(struct rnd *r, struct corpus_case *c)
{
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] =
            rnd_pct(r, 12) ? CORPUS_DATA + rnd_n(r, CORPUS_BYTES) : rnd_int(r);
    c->rflags = rnd_flags(r);
    c->rip = pick_rip(r);
    c->fs_base = rnd_pct(r, 70) ? rnd_n(r, 1 << 20) : rnd_u64(r) >> 17;
    c->gs_base = rnd_pct(r, 70) ? rnd_n(r, 1 << 20)
                                : rnd_u64(r) | UINT64_C(0xffff800000000000);
    rnd_xstate(r, rnd_n(r, RND_FLAVORS), c->xs);
    c->npatches = 0;
}

static bool pick_bytes(struct corpus_maker *m, struct rnd *r, uint64_t index,
                       uint8_t *code)
{
    unsigned form = m->form[index % m->nforms];

    if (index / m->nforms % 12 == 11) {
        corpus_junk(r, form, code);
        return true;
    }
    return corpus_encode(r, form, code);
}

/* TDCALL, SEAMRET, SEAMOPS, SEAMCALL: hosts with trust domains answer #GP, not
 * #UD (SDM vol. 3 "SEAM"); the guest has none. */
static bool trust_domain(const struct x86_insn *i)
{
    return i->map == X86_MAP_0F && i->opcode == 0x01 && i->modrm >= 0xcc &&
           i->modrm <= 0xcf && (i->prefix & X86_PFX_OSZ);
}

/* Decode as the interpreter will. Return: false: not for this host. */
static bool judge(struct corpus_maker *m, struct corpus_case *c,
                  struct corpus_job *job)
{
    memset(&job->insn, 0, sizeof job->insn);
    switch (x86_decode(c->code, CORPUS_INSN_ROOM, X86_MODE_64, &job->insn)) {
    case X86_DEC_OK:
        job->ud = false;
        job->form = job->insn.form;
        return !corpus_left_out(m->cpuid, job->form) && !forbidden(&job->insn);
    case X86_DEC_UD:
        /* the host has more VEX and EVEX instructions than the table */
        if (job->insn.enc != X86_ENC_LEGACY && job->insn.form == 0)
            return false;
        if (trust_domain(&job->insn))
            return false;
        break;
    default:
        break;
    }
    job->ud = true;
    job->form = X86_FORM_INVALID;
    return true;
}

bool corpus_make(struct corpus_maker *m, uint64_t index, struct corpus_case *c,
                 struct corpus_job *job)
{
    struct rnd r = {.s = m->seed * UINT64_C(0x2545f4914f6cdd1d) + index};

    rnd_u64(&r);
    job->index = index;
    job->lin = 0;
    if (!pick_bytes(m, &r, index, c->code))
        return false;
    pick_state(&r, c);
    if (!judge(m, c, job))
        return false;
    c->ncode = job->insn.len;
    if (!job->ud)
        corpus_aim(m, &r, c, job);
    for (uint32_t i = 0; i < c->npatches; i++)
        m->shadow[c->patch[i].at] = m->pattern[c->patch[i].at];
    /* displacements may have changed what it is */
    return judge(m, c, job) && job->insn.len == c->ncode;
}
