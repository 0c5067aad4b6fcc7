// SPDX-License-Identifier: Apache-2.0
/*
 * Masked loads and stores and gathers: only selected elements are accessed.
 * Runs of neighbouring elements are one access.
 * Source: Intel SDM vol. 2 MASKMOVQ, MASKMOVDQU, VMASKMOV, VPMASKMOV, VGATHER.
 */
#include "engine/interp/vec_int.h"

#include "cpu/x86/exceptions.h"

/* A masked operand: @n elements of @size bytes at @ea; bit i of @sel selects
 * element i. */
struct masked {
    uint64_t ea;
    unsigned n, size;
    uint32_t sel;
    uint8_t *data;
};

enum masked_act {
    MASKED_READ,
    MASKED_PROBE_W,
    MASKED_WRITE
};

/* In 64-bit mode the address of the whole is cut to the address size, not that
 * of each element (observed on Intel). */
static int masked_lin(struct x86_cpu *cpu, const struct x86_insn *insn,
                      const struct masked *m, size_t off, size_t len,
                      bool write, gva_t *lin)
{
    if (x86_mode(cpu) != X86_MODE_64)
        return vec_lin(cpu, insn, m->ea + off, len, write, lin);
    if (vec_lin(cpu, insn, m->ea, len, write, lin))
        return X86_FAULT;
    lin->v += off;
    return 0;
}

static int masked_run(struct x86_cpu *cpu, const struct x86_insn *insn,
                      const struct masked *m, enum masked_act act)
{
    unsigned i = 0;

    while (i < m->n) {
        unsigned first = i, err = 0;
        gva_t lin;
        while (i < m->n && (m->sel >> i & 1))
            i++;
        if (i == first) {
            i++;
            continue;
        }
        size_t off = (size_t)first * m->size, len = (i - first) * m->size;
        if (masked_lin(cpu, insn, m, off, len, act != MASKED_READ, &lin))
            return X86_FAULT;
        if (act == MASKED_READ)
            err = vec_read(cpu, insn, lin, m->data + off, len) != 0;
        else if (act == MASKED_PROBE_W)
            err = vec_probe_w(cpu, insn, lin, len) != 0;
        else
            err = vec_write(cpu, insn, lin, m->data + off, len) != 0;
        if (err)
            return X86_FAULT;
    }
    return 0;
}

/* MASKMOVQ and MASKMOVDQU check the whole operand, whatever the mask, its upper
 * half first (observed on Intel; SDM vol. 2 leaves it open), then store the
 * selected bytes. */
static int masked_store_whole(struct x86_cpu *cpu, const struct x86_insn *insn,
                              const struct masked *m)
{
    for (unsigned at = m->n; at; at -= 8) {
        gva_t lin;
        if (vec_lin(cpu, insn, m->ea + at - 8, 8, true, &lin) ||
            vec_align_check(cpu, insn, lin, 8) ||
            vec_probe_w(cpu, insn, lin, 8))
            return X86_FAULT;
    }
    for (unsigned at = 0; at < m->n; at += 8) {
        const struct masked half = {.ea = m->ea + at,
                                    .n = 8,
                                    .size = 1,
                                    .sel = m->sel >> at & 0xff,
                                    .data = m->data + at};
        if (masked_run(cpu, insn, &half, MASKED_WRITE))
            return X86_FAULT;
    }
    return 0;
}

/* VMASKMOV checks the selected elements alone: that the range from the first to
 * the last is canonical; in a store then its first byte and its last (observed
 * on Intel: CR2). */
static int masked_check(struct x86_cpu *cpu, const struct x86_insn *insn,
                        const struct masked *m, bool write)
{
    unsigned first = (unsigned)__builtin_ctz(m->sel);
    unsigned end = 32 - (unsigned)__builtin_clz(m->sel);
    size_t len = (size_t)(end - first) * m->size;
    gva_t lin;

    if (x86_mode(cpu) != X86_MODE_64)
        return 0;
    if (vec_lin(cpu, insn, m->ea, len, write, &lin))
        return X86_FAULT;
    lin.v += (uint64_t)first * m->size;
    if (vec_range_check(cpu, insn, lin, len))
        return X86_FAULT;
    if (!write)
        return 0;
    return vec_probe_w(cpu, insn, lin, 1) ||
                   vec_probe_w(cpu, insn, gva(lin.v + len - 1), 1)
               ? X86_FAULT
               : 0;
}

static int masked_store(struct x86_cpu *cpu, const struct x86_insn *insn,
                        const struct masked *m)
{
    if (!m->sel)
        return 0;
    if (masked_check(cpu, insn, m, true) ||
        masked_run(cpu, insn, m, MASKED_PROBE_W))
        return X86_FAULT;
    return masked_run(cpu, insn, m, MASKED_WRITE);
}

/* The top bits of @n elements. */
static uint32_t sel_of(const uint8_t *mask, unsigned n, unsigned size)
{
    uint32_t sel = 0;

    for (unsigned i = 0; i < n; i++)
        sel |= (uint32_t)(mask[(i + 1) * size - 1] >> 7) << i;
    return sel;
}

int vec_maskmovq(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    uint64_t data, mask;

    if (vec_x87_pending(cpu))
        return X86_FAULT;
    data = vec_mmx_get(cpu, insn->opnd[0].reg);
    mask = vec_mmx_get(cpu, insn->opnd[1].reg);
    struct masked m = {.ea = cpu->gpr[X86_RDI],
                       .n = 8,
                       .size = 1,
                       .sel = sel_of((const uint8_t *)&mask, 8, 1),
                       .data = (uint8_t *)&data};
    vec_mmx_enter(cpu); /* even if the store faults (observed) */
    return masked_store_whole(cpu, insn, &m);
}

int vec_maskmovdqu(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    struct masked m = {.ea = cpu->gpr[X86_RDI],
                       .n = 16,
                       .size = 1,
                       .sel = sel_of(vec_xmm(cpu, insn->opnd[1].reg), 16, 1),
                       .data = vec_xmm(cpu, insn->opnd[0].reg)};

    return masked_store_whole(cpu, insn, &m);
}

static void ymm_get(struct x86_cpu *cpu, unsigned r, uint8_t v[32])
{
    memcpy(v, vec_xmm(cpu, r), 16);
    memcpy(v + 16, vec_ymmh(cpu, r), 16);
}

static void ymm_put(struct x86_cpu *cpu, unsigned r, const uint8_t v[32])
{
    memcpy(vec_xmm(cpu, r), v, 16);
    memcpy(vec_ymmh(cpu, r), v + 16, 16);
    vec_avx_used(cpu);
}

int vec_vmaskmov(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    bool wide = insn->op == X86_OP_VMASKMOVPD || insn->op == X86_OP_VPMASKMOVQ;
    bool store = insn->opnd[0].kind == X86_OPND_MEM;
    unsigned bytes = insn->vex_l ? 32 : 16, size = wide ? 8 : 4;
    uint8_t data[32] = {0}, mask[32];

    ymm_get(cpu, insn->opnd[1].reg, mask);
    struct masked m = {.ea = vec_ea(cpu, insn),
                       .n = bytes / size,
                       .size = size,
                       .sel = sel_of(mask, bytes / size, size),
                       .data = data};
    if (store) {
        ymm_get(cpu, insn->opnd[2].reg, data);
        return masked_store(cpu, insn, &m);
    }
    if (m.sel && (masked_check(cpu, insn, &m, false) ||
                  masked_run(cpu, insn, &m, MASKED_READ)))
        return X86_FAULT;
    ymm_put(cpu, insn->opnd[0].reg, data);
    return 0;
}

/* One gather: sizes of an index and of an element, and how many. */
struct gather {
    unsigned isize, size, n;
    uint8_t index[32], data[32], mask[32];
};

static int gather_one(struct x86_cpu *cpu, const struct x86_insn *insn,
                      struct gather *g, unsigned i)
{
    const uint8_t *ix = g->index + (size_t)i * g->isize;
    uint64_t off =
        g->isize == 8 ? fx_get64(ix) : (uint64_t)(int64_t)(int32_t)fx_get32(ix);
    gva_t lin;

    if (vec_lin(cpu, insn, vec_ea(cpu, insn) + (off << insn->scale), g->size,
                false, &lin))
        return X86_FAULT;
    return vec_read(cpu, insn, lin, g->data + (size_t)i * g->size, g->size);
}

/* The three registers differ: the decoder sees to it. */
int vec_gather(struct x86_cpu *cpu, const struct x86_insn *insn)
{
    unsigned dst = insn->opnd[0].reg, mask = insn->opnd[2].reg;
    unsigned bytes = insn->vex_l ? 32 : 16;
    struct gather g = {.isize = insn->opcode & 1 ? 8 : 4,
                       .size = insn->rex & 8 ? 8 : 4};
    int err = 0;

    g.n = bytes / (g.isize > g.size ? g.isize : g.size);
    ymm_get(cpu, insn->index, g.index);
    ymm_get(cpu, dst, g.data);
    ymm_get(cpu, mask, g.mask);
    uint32_t sel = sel_of(g.mask, bytes / g.size, g.size);
    size_t used = (size_t)g.n * g.size;
    bool any = false; /* an element was loaded */
    unsigned i = 0;
    for (; i < g.n; i++) {
        if (!(sel >> i & 1))
            continue;
        err = gather_one(cpu, insn, &g, i);
        if (err)
            break;
        any = true;
    }
    /* After a fault the mask says what is left to do, spread over each
     * element of the vector length, used or not; what is above that length
     * becomes zero, in the data once an element was written (observed). */
    memset(g.mask, 0, sizeof(g.mask));
    for (; err && i < bytes / g.size; i++)
        memset(g.mask + (size_t)i * g.size, sel >> i & 1 ? 0xff : 0, g.size);
    size_t keep = err ? bytes : used;
    if (any || !err)
        memset(g.data + keep, 0, sizeof(g.data) - keep);
    ymm_put(cpu, dst, g.data);
    ymm_put(cpu, mask, g.mask);
    /* A trap that is due from the elements loaded goes before the fault; RF is
     * set then (SDM vol. 2 VGATHER). */
    if (err && any && (cpu->rflags & X86_FL_TF)) {
        cpu->rflags |= X86_FL_RF;
        return x86_raise_db(cpu, X86_DR6_BS);
    }
    return err ? X86_FAULT : 0;
}
