// SPDX-License-Identifier: Apache-2.0
/*
 * Lock-step checking: what is compared, and how a difference is shown. All of
 * the vCPU's architectural state but what translated code keeps no account of:
 * the instruction count, the shadow of STI, RF (it is gone with the next
 * instruction), the pointers of x87 (FIP, FDP).
 */
#include "engine/bt/check.h"

#include "base/log.h"
#include "cpu/x86/paging.h"

#include <inttypes.h>
#include <stdio.h>

#define FIELD(name, member)                                                    \
    {                                                                          \
        name, offsetof(struct x86_cpu, member),                                \
            sizeof(((struct x86_cpu *)0)->member)                              \
    }
#define SEG(name, s)                                                           \
    FIELD(name " selector", s.sel), FIELD(name " base", s.base),               \
        FIELD(name " limit", s.limit), FIELD(name " attributes", s.attr)
#define XSAVE(name, at, n)                                                     \
    {                                                                          \
        name, offsetof(struct x86_cpu, xsave.b) + (at), n                      \
    }

static const struct field {
    const char *name;
    size_t at, n;
} fields[] = {
    FIELD("rax", gpr[0]),
    FIELD("rcx", gpr[1]),
    FIELD("rdx", gpr[2]),
    FIELD("rbx", gpr[3]),
    FIELD("rsp", gpr[4]),
    FIELD("rbp", gpr[5]),
    FIELD("rsi", gpr[6]),
    FIELD("rdi", gpr[7]),
    FIELD("r8", gpr[8]),
    FIELD("r9", gpr[9]),
    FIELD("r10", gpr[10]),
    FIELD("r11", gpr[11]),
    FIELD("r12", gpr[12]),
    FIELD("r13", gpr[13]),
    FIELD("r14", gpr[14]),
    FIELD("r15", gpr[15]),
    FIELD("rip", rip),
    FIELD("cr0", cr0),
    FIELD("cr2", cr2),
    FIELD("cr3", cr3),
    FIELD("cr4", cr4),
    FIELD("efer", efer),
    FIELD("xcr0", xcr0),
    SEG("es", seg[0]),
    SEG("cs", seg[1]),
    SEG("ss", seg[2]),
    SEG("ds", seg[3]),
    SEG("fs", seg[4]),
    SEG("gs", seg[5]),
    SEG("tr", tr),
    SEG("ldtr", ldtr),
    FIELD("gdtr base", gdtr.base),
    FIELD("gdtr limit", gdtr.limit),
    FIELD("idtr base", idtr.base),
    FIELD("idtr limit", idtr.limit),
    FIELD("dr0", dr[0]),
    FIELD("dr1", dr[1]),
    FIELD("dr2", dr[2]),
    FIELD("dr3", dr[3]),
    FIELD("dr6", dr6),
    FIELD("dr7", dr7),
    FIELD("pkru", pkru),
    FIELD("cpl", cpl),
    FIELD("activity", activity),
    FIELD("nmi blocking", nmi_blocked),
    FIELD("tsc offset", tsc_offset),
    FIELD("pending event", event.valid),
    FIELD("pending traps", db_pending),
    FIELD("star", msr.star),
    FIELD("lstar", msr.lstar),
    FIELD("cstar", msr.cstar),
    FIELD("fmask", msr.fmask),
    FIELD("kernel gs base", msr.kernel_gs_base),
    FIELD("tsc aux", msr.tsc_aux),
    FIELD("other msrs", msr),
    XSAVE("fcw", 0, 2),
    XSAVE("fsw", 2, 2),
    XSAVE("ftw", 4, 1),
    XSAVE("mxcsr", 24, 4),
    XSAVE("st0", 32, 10),
    XSAVE("st1", 48, 10),
    XSAVE("st2", 64, 10),
    XSAVE("st3", 80, 10),
    XSAVE("st4", 96, 10),
    XSAVE("st5", 112, 10),
    XSAVE("st6", 128, 10),
    XSAVE("st7", 144, 10),
    XSAVE("xmm0", 160, 16),
    XSAVE("xmm1", 176, 16),
    XSAVE("xmm2", 192, 16),
    XSAVE("xmm3", 208, 16),
    XSAVE("xmm4", 224, 16),
    XSAVE("xmm5", 240, 16),
    XSAVE("xmm6", 256, 16),
    XSAVE("xmm7", 272, 16),
    XSAVE("xmm8", 288, 16),
    XSAVE("xmm9", 304, 16),
    XSAVE("xmm10", 320, 16),
    XSAVE("xmm11", 336, 16),
    XSAVE("xmm12", 352, 16),
    XSAVE("xmm13", 368, 16),
    XSAVE("xmm14", 384, 16),
    XSAVE("xmm15", 400, 16),
};

/* The part of XSAVE that must be equal, as one piece when it is. */
#define VEC_AT  24U
#define VEC_END 416U
#define YMM_AT  576U

static bool field_differs(const struct bt *bt, const struct field *f)
{
    return memcmp((const uint8_t *)&bt->chk->cpu + f->at,
                  (const uint8_t *)bt->cpu + f->at, f->n) != 0;
}

/* Upper half @i of a YMM register: zero unless XSTATE_BV says that it's there.
 */
static void ymm(const struct x86_cpu *cpu, unsigned i, uint8_t out[16])
{
    if (cpu->xsave.b[512] & X86_XCR0_AVX)
        memcpy(out, cpu->xsave.b + YMM_AT + 16 * (size_t)i, 16);
    else
        memset(out, 0, 16);
}

static bool ymm_differs(const struct bt *bt, unsigned i)
{
    uint8_t a[16], b[16];

    ymm(&bt->chk->cpu, i, a);
    ymm(bt->cpu, i, b);
    return memcmp(a, b, 16) != 0;
}

static uint64_t flags_differ(const struct bt *bt, uint64_t live)
{
    uint64_t count = ~(X86_FL_ARITH | X86_FL_RF) | live;

    return (bt->chk->cpu.rflags ^ bt->cpu->rflags) & count;
}

/* Nearly always all is equal: a few long comparisons. */
static bool all_equal(const struct bt *bt, uint64_t live)
{
    const struct x86_cpu *a = &bt->chk->cpu, *b = bt->cpu;

    return !flags_differ(bt, live) && a->rip == b->rip && a->cpl == b->cpl &&
           a->nmi_blocked == b->nmi_blocked && a->activity == b->activity &&
           a->event.valid == b->event.valid && a->db_pending == b->db_pending &&
           !memcmp(a->gpr, b->gpr, sizeof a->gpr) &&
           !memcmp(&a->cr0, &b->cr0,
                   offsetof(struct x86_cpu, cpl) -
                       offsetof(struct x86_cpu, cr0)) &&
           !memcmp(&a->msr, &b->msr, sizeof a->msr) &&
           !memcmp(a->xsave.b, b->xsave.b, 5) &&
           !memcmp(a->xsave.b + VEC_AT, b->xsave.b + VEC_AT,
                   VEC_END - VEC_AT) &&
           (a->xsave.b[512] & X86_XCR0_AVX) ==
               (b->xsave.b[512] & X86_XCR0_AVX) &&
           (!(a->xsave.b[512] & X86_XCR0_AVX) ||
            !memcmp(a->xsave.b + YMM_AT, b->xsave.b + YMM_AT, 256));
}

/* ---- memory ---- */

/* A and D bits that the reference's page walk set, and A bits that translated
 * code's did when it looked whether a window could be used. */
static bool walks_differ(const struct bt *bt, uint64_t at, uint64_t before,
                         uint64_t a, uint64_t b)
{
    if (a == before && b == (a | X86_PTE_A))
        return true;
    return ((a ^ b) & ~(X86_PTE_A | X86_PTE_D)) == 0 &&
           mem_view_marked(bt->chk->vm.mem, gpa(at));
}

/* The next 8 bytes of a copied page that differ, at *off. */
static bool page_differs(const struct bt *bt, const struct mem_view_page *p,
                         unsigned *off)
{
    for (; *off < MEM_PAGE_BYTES; *off += 8) {
        uint64_t a, b, before;

        memcpy(&a, p->copy + *off, 8);
        memcpy(&b, p->base + *off, 8);
        if (a == b)
            continue;
        memcpy(&before, p->before + *off, 8);
        if (!walks_differ(bt, p->gpa.v + *off, before, a, b))
            return true;
    }
    return false;
}

static bool memory_differs(const struct bt *bt)
{
    const struct mem *view = bt->chk->vm.mem;

    for (unsigned i = 0; i < mem_view_count(view); i++) {
        struct mem_view_page p;
        unsigned off = 0;

        mem_view_page(view, i, &p);
        if (memcmp(p.copy, p.base, MEM_PAGE_BYTES) &&
            page_differs(bt, &p, &off))
            return true;
    }
    return false;
}

bool bt_check_differ(struct bt *bt, uint64_t live, const char **what)
{
    const char *name = NULL;

    if (UNLIKELY(!all_equal(bt, live))) {
        for (unsigned i = 0; i < ARRAY_LEN(fields) && !name; i++)
            if (field_differs(bt, &fields[i]))
                name = fields[i].name;
        if (!name && flags_differ(bt, live))
            name = "rflags";
        for (unsigned i = 0; i < 16 && !name; i++)
            if (ymm_differs(bt, i))
                name = "the upper half of a ymm register";
    }
    if (!name && memory_differs(bt))
        name = "memory";
    *what = name;
    return name != NULL;
}

/* ---- showing ---- */

#define SAY(...) log_line(LOG_ERR, "bt", __VA_ARGS__)

static void say_code(const struct bt_block *b)
{
    unsigned at = 0;

    for (unsigned i = 0; i < b->ninsns && at < b->len; i++) {
        char text[96], hex[40] = "";
        struct x86_insn insn;

        if (x86_decode(b->src + at, b->len - at, X86_MODE_64, &insn) !=
            X86_DEC_OK)
            break;
        for (unsigned k = 0; k < insn.len; k++)
            snprintf(hex + 2 * k, sizeof hex - 2 * k, "%02x", b->src[at + k]);
        x86_disasm(&insn, b->va + at, text, sizeof text);
        SAY("  0x%" PRIx64 "  %-30s %s", b->va + at, hex, text);
        at += insn.len;
    }
}

/* Up to 16 bytes, the highest first. */
static const char *value(const uint8_t *p, size_t n, char out[40])
{
    size_t k = n > 16 ? 16 : n;

    for (size_t i = 0; i < k; i++)
        snprintf(out + 2 * i, 3, "%02x", p[k - 1 - i]);
    return out;
}

static void say_field(const char *name, const uint8_t *start, const uint8_t *a,
                      const uint8_t *b, size_t n)
{
    char t[3][40];

    SAY("  %-16s before %s, interpreter %s, translated %s", name,
        value(start, n, t[0]), value(a, n, t[1]), value(b, n, t[2]));
}

static void say_fields(const struct bt *bt, uint64_t live)
{
    const struct bt_check *c = bt->chk;
    const uint8_t *s = (const uint8_t *)&c->start;
    const uint8_t *a = (const uint8_t *)&c->cpu, *b = (const uint8_t *)bt->cpu;
    uint8_t y[3][16];

    for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
        if (field_differs(bt, &fields[i]))
            say_field(fields[i].name, s + fields[i].at, a + fields[i].at,
                      b + fields[i].at, fields[i].n);
    if (flags_differ(bt, live))
        SAY("  %-16s before %06" PRIx64 ", interpreter %06" PRIx64
            ", translated %06" PRIx64 " (of those that count: %06" PRIx64 ")",
            "rflags", c->start.rflags, c->cpu.rflags, bt->cpu->rflags,
            flags_differ(bt, live));
    for (unsigned i = 0; i < 16; i++)
        if (ymm_differs(bt, i)) {
            char name[24];

            ymm(&c->start, i, y[0]);
            ymm(&c->cpu, i, y[1]);
            ymm(bt->cpu, i, y[2]);
            snprintf(name, sizeof name, "ymm%u, upper", i);
            say_field(name, y[0], y[1], y[2], 16);
        }
}

#define SAY_MEMORY_MAX 16

static void say_memory(const struct bt *bt)
{
    const struct mem *view = bt->chk->vm.mem;
    unsigned said = 0;

    for (unsigned i = 0; i < mem_view_count(view); i++) {
        struct mem_view_page p;

        mem_view_page(view, i, &p);
        for (unsigned off = 0;
             said < SAY_MEMORY_MAX && page_differs(bt, &p, &off); off += 8) {
            char name[24];

            snprintf(name, sizeof name, "[0x%" PRIx64 "]", p.gpa.v + off);
            say_field(name, p.before + off, p.copy + off, p.base + off, 8);
            said++;
        }
    }
}

static void say_state(const char *who, const struct x86_cpu *cpu)
{
    const uint64_t *g = cpu->gpr;

    SAY("%s: rip 0x%" PRIx64 " rflags 0x%" PRIx64 " cpl %u", who, cpu->rip,
        cpu->rflags, cpu->cpl);
    SAY("  rax %016" PRIx64 " rcx %016" PRIx64 " rdx %016" PRIx64
        " rbx %016" PRIx64,
        g[0], g[1], g[2], g[3]);
    SAY("  rsp %016" PRIx64 " rbp %016" PRIx64 " rsi %016" PRIx64
        " rdi %016" PRIx64,
        g[4], g[5], g[6], g[7]);
    SAY("  r8  %016" PRIx64 " r9  %016" PRIx64 " r10 %016" PRIx64
        " r11 %016" PRIx64,
        g[8], g[9], g[10], g[11]);
    SAY("  r12 %016" PRIx64 " r13 %016" PRIx64 " r14 %016" PRIx64
        " r15 %016" PRIx64,
        g[12], g[13], g[14], g[15]);
}

static const char *stop_name(enum bt_check_stop stop)
{
    switch (stop) {
    case CHECK_DONE:
        return "and went on";
    case CHECK_FAULT:
        return "and then faulted";
    case CHECK_EXTERNAL:
        return "up to one that cannot run twice";
    case CHECK_FULL:
        return "up to one that writes too many pages";
    }
    return "";
}

void bt_check_report(struct bt *bt, uint64_t live, const char *why)
{
    const struct bt_check *c = bt->chk;
    const struct x86_exc *e = &c->cpu.exc, *f = &bt->cpu->exc;

    SAY("%s", why);
    SAY("block at 0x%" PRIx64 ", mode 0x%x, %u instructions; the interpreter "
        "ran %u %s",
        c->va, bt->blocks[c->block].mode, c->n, c->k, stop_name(c->stop));
    say_code(&bt->blocks[c->block]);
    SAY("before it %u instructions of this one:", c->last.k);
    say_code(&bt->blocks[c->last.block]);
    if (c->stop == CHECK_FAULT)
        SAY("exceptions: interpreter vector %u error 0x%x cr2 0x%" PRIx64
            ", translated, if any, vector %u error 0x%x cr2 0x%" PRIx64,
            e->vector, e->error, e->cr2, f->vector, f->error, f->cr2);
    SAY("what differs:");
    say_fields(bt, live);
    say_memory(bt);
    say_state("before", &c->start);
    say_state("interpreter", &c->cpu);
    say_state("translated", bt->cpu);
}
