// SPDX-License-Identifier: Apache-2.0
/*
 * Programs: jumps, loops, calls, system instructions, stores into the
 * program's own code, with the instructions of blocks_make.c between them.
 */
#include "tests/bt/blocks_make.h"

#include <string.h>

/* ---- control flow ---- */

static void jump(struct mk *m, unsigned short_op, unsigned target)
{
    uint8_t b[6];
    struct blk_item *it;
    bool cc = (short_op & 0xf0) == 0x70;

    if (rnd_pct(&m->r, 50)) {
        b[0] = (uint8_t)short_op;
        it = mk_add(m, b, 2);
        it->fix = BLK_FIX_REL8;
        it->at = 1;
    } else if (cc) {
        b[0] = 0x0f;
        b[1] = (uint8_t)(short_op + 0x10);
        it = mk_add(m, b, 6);
        it->fix = BLK_FIX_REL32;
        it->at = 2;
    } else {
        b[0] = 0xe9;
        it = mk_add(m, b, 5);
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
        mk_add(m, "\x67\xe3", 3)->fix = BLK_FIX_REL8;
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
    it = mk_add(m, b, nop + 4 + nimm);
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
        mk_add(m, "\x0f\x85\0\0\0\0", 6)->fix = BLK_FIX_REL32;
        m->p->item[m->p->n - 1].at = 2;
        m->p->item[m->p->n - 1].target = (uint16_t)top;
    }
    m->loop = false;
}

/* mov ecx, n; top: one instruction; loop top */
static void loop_rcx(struct mk *m)
{
    unsigned top, n;

    mk_set_reg(m, X86_RCX, 1 + rnd_n(&m->r, 9));
    top = n = m->p->n;
    mk_some_form(m);
    if (m->p->n != n + 1 || !(m->known >> X86_RCX & 1))
        return;
    mk_add(m,
           rnd_pct(&m->r, 70)   ? "\xe2"
           : rnd_pct(&m->r, 50) ? "\xe1"
                                : "\xe0",
           2)
        ->fix = BLK_FIX_REL8;
    m->p->item[m->p->n - 1].at = 1;
    m->p->item[m->p->n - 1].target = (uint16_t)top;
    mk_forget(m, X86_RCX);
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
    it = mk_add(m, b, i.len);
    blk_aim(it, &i, r, X86_REG_NONE, 0,
            (int64_t)rnd_n(&m->r, rnd_pct(&m->r, 80) ? 64 : 5000) - 32);
}

/* A pointer that moves by a constant, a counter in a register. */
static void stream_loop(struct mk *m)
{
    static const int8_t strides[] = {1,  2,   4,  8,  8,   16,  24,
                                     64, 127, -1, -8, -16, -64, -128};
    int by = strides[rnd_n(&m->r, ARRAY_LEN(strides))];
    unsigned p = rnd_pct(&m->r, 85) ? mk_any_reg_but_rsp(m) : X86_RSP, c, d,
             top;
    unsigned n = 1 + rnd_n(&m->r, 3);
    uint64_t lin;
    uint8_t b[4];

    c = d = p;
    while (c == p)
        c = mk_any_reg_but_rsp(m);
    while (d == p || d == c)
        d = mk_any_reg_but_rsp(m);
    do
        lin = mk_pick_lin(m, 8);
    while (!mk_near(m, lin));
    mk_set_reg(m, p, lin);
    mk_set_reg(m, c, 1 + rnd_n(&m->r, 400));
    top = m->p->n;
    while (n--)
        stream_access(m, p, d);
    b[0] = (uint8_t)(0x48 | p >> 3);
    b[1] = 0x83;
    b[2] = (uint8_t)(0xc0 | (p & 7));
    b[3] = (uint8_t)by;
    mk_add(m, b, 4);
    if (rnd_pct(&m->r, 30))
        stream_access(m, p, d);
    b[0] = (uint8_t)(0x48 | c >> 3); /* dec */
    b[1] = 0xff;
    b[2] = (uint8_t)(0xc8 | (c & 7));
    mk_add(m, b, 3)->always = true;
    mk_add(m, "\x0f\x85\0\0\0\0", 6)->fix = BLK_FIX_REL32;
    m->p->item[m->p->n - 1].at = 2;
    m->p->item[m->p->n - 1].target = (uint16_t)top;
    mk_forget(m, p);
    mk_forget(m, c);
    mk_forget(m, d);
}

/* An item's address into a register. */
static void load_item(struct mk *m, unsigned r, unsigned target)
{
    uint8_t b[10] = {(uint8_t)(0x48 | r >> 3), (uint8_t)(0xb8 | (r & 7))};
    struct blk_item *it = mk_add(m, b, 10);

    it->fix = BLK_FIX_ABS64;
    it->at = 2;
    it->target = (uint16_t)target;
    mk_forget(m, r);
}

/* jmp or call, by a register, a cell, or PUSH and RET. Targets are filled in
 * when they are known. */
static void indirect(struct mk *m, bool call, unsigned target)
{
    unsigned pct = rnd_n(&m->r, 100), r = mk_any_reg_but_rsp(m);
    uint8_t b[3] = {(uint8_t)(0x40 | r >> 3), 0xff,
                    (uint8_t)((call ? 0xd0 : 0xe0) | (r & 7))};

    if (pct < 55) {
        load_item(m, r, target);
        if (r > 7 || rnd_pct(&m->r, 30))
            mk_add(m, b, 3);
        else
            mk_add(m, b + 1, 2);
    } else if (pct < 85 || call) {
        with_cell(m, call ? "\xff\x15" : "\xff\x25", 2,
                  new_cell(m, target, true), NULL, 0);
    } else {
        with_cell(m, "\xff\x35", 2, new_cell(m, target, true), NULL, 0);
        mk_add(m, "\xc3", 1);
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
        struct blk_item *it = mk_add(m, "\xe8\0\0\0\0", 5);

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
    unsigned r = mk_any_reg_but_rsp(m), at = m->p->n;
    uint8_t b[16] = {(uint8_t)(0x48 | r >> 3), 0xc7, (uint8_t)(0xc0 | (r & 7))};
    uint32_t imm = (uint32_t)rnd_u64(&m->r);
    bool ahead = rnd_pct(&m->r, 70), byte = rnd_pct(&m->r, 50);
    struct blk_item *it;

    if (!ahead)
        mk_add(m, b, 7);
    with_cell(m, byte ? "\xc6\x05" : "\xc7\x05", 2, 0, &imm, byte ? 1 : 4);
    it = &m->p->item[m->p->n - 1];
    it->fix = BLK_FIX_RIPITEM;
    it->off = (uint8_t)(3 + (byte ? rnd_n(&m->r, 4) : 0));
    it->target = (uint16_t)at;
    if (!ahead) {
        mk_forget(m, r);
        return;
    }
    at = m->p->n - 1;
    steps(m, rnd_n(&m->r, 4));
    m->p->item[at].target = (uint16_t)m->p->n;
    mk_add(m, b, 7)->always = true;
    mk_forget(m, r);
}

/* ---- system ---- */

static void wrbase(struct mk *m, bool gs)
{
    uint8_t b[5] = {0xf3, 0x48, 0x0f, 0xae, (uint8_t)(gs ? 0xd8 : 0xd0)};
    uint64_t v = gs ? m->p->gs_base : m->p->fs_base;

    if (rnd_pct(&m->r, 20))
        v = rnd_int(&m->r);
    mk_set_reg(m, X86_RAX, v);
    mk_add(m, b, 5);
}

/* mov dr/cr and MSRs that change nothing that the rest needs */
static void privileged(struct mk *m)
{
    static const uint32_t msrs[] = {0xc0000103, 0xc0000102, 0xc0000100,
                                    0x174,      0xc0000081, 0x123456};

    switch (rnd_n(&m->r, 8)) {
    case 0:
        mk_add(m, "\x0f\x20\xd0", 3); /* mov rax, cr2 */
        mk_forget(m, X86_RAX);
        break;
    case 1:
        mk_add(m, "\x0f\x22\xd3", 3); /* mov cr2, rbx */
        break;
    case 2:
        mk_add(m, "\x0f\x06", 2); /* clts */
        break;
    case 3:
        mk_set_reg(m, X86_RAX, mk_pick_lin(m, 1));
        mk_add(m, "\x0f\x01\x38", 3); /* invlpg [rax] */
        break;
    case 4:
        mk_adds(m, "\x0f\x20\xd8\x0f\x22\xd8",
                6); /* mov rax,cr3; mov cr3,rax */
        mk_forget(m, X86_RAX);
        break;
    case 5:
        mk_adds(m, "\x0f\x20\xc0\x48\x83\xf0\x08\x0f\x22\xc0", 10); /* CR0.TS */
        mk_forget(m, X86_RAX);
        break;
    default:
        mk_set_reg(m, X86_RCX, msrs[rnd_n(&m->r, ARRAY_LEN(msrs))]);
        mk_add(m, "\x0f\x32", 2); /* rdmsr */
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
    mk_add(m, b, 9);
    mk_forget(m, high ? X86_R11 : X86_RDX);
}

static void kernel_only(struct mk *m)
{
    switch (rnd_n(&m->r, 12)) {
    case 0:
        load_gs(m);
        mk_add(m, "\x0f\x01\xf8", 3); /* swapgs */
        if (rnd_pct(&m->r, 70))
            load_gs(m);
        if (rnd_pct(&m->r, 50))
            mk_add(m, "\x0f\x01\xf8", 3);
        break;
    case 1:
        mk_add(m, "\xfa", 1); /* cli */
        break;
    case 2:
    case 3:
        mk_add(m, "\xfb", 1); /* sti */
        break;
    case 4:
    case 5:
        mk_add(m, "\x0f\x01\xcb", 3); /* stac */
        break;
    case 6:
    case 7:
        mk_add(m, "\x0f\x01\xca", 3); /* clac */
        break;
    case 8:
        mk_add(m, "\xf4", 1); /* hlt */
        break;
    case 9:                                        /* iretq to the next item */
        mk_adds(m, "\x6a\x18\x54\x9c\x6a\x10", 6); /* push ss rsp rflags cs */
        with_cell(m, "\xff\x35", 2, new_cell(m, m->p->n + 2, true), NULL, 0);
        mk_add(m, "\x48\xcf", 2);
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
        mk_add(m, "\x9c", 1); /* pushfq; popfq */
        mk_add(m, "\x9d", 1);
        break;
    case 1:
        mk_adds(m, "\x9c\x58\x50\x9d",
                4); /* pushfq; pop rax; push rax; popfq */
        mk_forget(m, X86_RAX);
        break;
    case 2:
        mk_adds(m, "\x9c\x58", 2); /* pushfq; pop rax */
        mk_forget(m, X86_RAX);
        break;
    case 3:
        mk_add(m, "\x9f", 1);
        mk_forget(m, X86_RAX);
        break;
    case 4:
        mk_add(m, "\x9e", 1);
        break;
    case 5:
        mk_add(m, "\xf5", 1);
        break;
    case 6:
        mk_add(m, "\xf8", 1);
        break;
    case 7:
        mk_add(m, "\xf9", 1);
        break;
    case 8:
        mk_add(m, "\xfc", 1);
        break;
    default:
        mk_add(m, rnd_pct(&m->r, 30) ? "\xfd" : "\xfc", 1);
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
        mk_add(m, "\xcc", 1);
    } else if (pct < 87) {
        mk_add(m, "\x0f\x0b", 2);
    } else if (pct < 91) {
        mk_add(m, "\xcd\x80", 2);
    } else if (pct < 94 && !m->p->kernel) {
        mk_add(m, "\x0f\x05", 2); /* syscall */
        m->known &= (uint16_t) ~(1U << X86_RCX | 1U << X86_R11);
    } else {
        mk_add(m, "\x0f\xa2", 2); /* cpuid */
        m->known &= (uint16_t)~0xfU;
    }
}

/* ---- programs ---- */

static void step(struct mk *m)
{
    unsigned pct = rnd_n(&m->r, 1000);

    if (!mk_room(m))
        return;
    if (pct < 660)
        mk_some_form(m);
    else if (pct < 700)
        mk_bump(m);
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
        mk_pushes(m);
    else if (pct < 942)
        mk_stack_edge(m);
    else if (pct < 975)
        mk_set_reg(m, mk_any_reg_but_rsp(m),
                   rnd_pct(&m->r, 70) ? mk_pick_lin(m, 8) : rnd_n(&m->r, 300));
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
            mk_some_form(m);
        if (pct < 85)
            mk_add(m, "\xc3", 1)->always = true;
        else
            mk_add(m, "\xc2\x08", 3)->always = true;
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
        unsigned r = mk_any_reg_but_rsp(m);

        p->known |= (uint16_t)(1U << r);
        p->gpr[r] = rnd_pct(&m->r, 65) ? mk_pick_lin(m, 8) : rnd_n(&m->r, 300);
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
    mk_add(&m, "\xf4", 1)->always = true;
    p->item[0].org = org;
    functions(&m);
    resolve(&m);
}
