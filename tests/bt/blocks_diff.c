// SPDX-License-Identifier: Apache-2.0
/*
 * What two engines left at an exit, compared item by item and printed. Known
 * deviations are listed here and in docs/translator.md, and nowhere else.
 */
#include "tests/bt/blocks.h"

#include "cpu/x86/paging.h"
#include "engine/interp/vec_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const gpr_name[16] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* ---- comparing ---- */

/* Flags that the interrupted code overwrites before it reads them are not kept
 * over its faults. */
static uint64_t dead_flags(const struct blk_vm *v, const struct blk_exit *x)
{
    switch (x->vector) {
    case X86_VEC_BP:
    case X86_VEC_OF:
    case X86_VEC_DB:
        return 0;
    default:
        return X86_FL_ARITH & ~blk_flags_live(v, x->rip);
    }
}

static const char *differ_exit(const struct blk_vm *a,
                               const struct blk_exit *xa,
                               const struct blk_exit *xb, char *text, size_t n)
{
    uint64_t mask = ~UINT64_C(0);

    if (xa->end != xb->end || xa->reason != xb->reason)
        return "how it ended";
    if (xa->end != BLK_END_FAULT)
        return xa->rip == xb->rip ? NULL : "rip";
    if (xa->vector != xb->vector) {
        snprintf(text, n, "%u at %" PRIx64 ", not %u at %" PRIx64, xb->vector,
                 xb->rip, xa->vector, xa->rip);
        return "vector";
    }
    if (xa->rip != xb->rip)
        return "interrupted rip";
    if (xa->error != xb->error)
        return "error code";
    if (xa->cs != xb->cs || xa->ss != xb->ss)
        return "interrupted selectors";
    if (xa->rsp != xb->rsp)
        return "interrupted rsp";
    mask &= ~dead_flags(a, xa);
    if ((xa->rflags ^ xb->rflags) & mask) {
        snprintf(text, n, "%" PRIx64 " of %" PRIx64,
                 (xa->rflags ^ xb->rflags) & mask, mask);
        return "interrupted rflags";
    }
    return NULL;
}

static const char *differ_xstate(const uint8_t *a, const uint8_t *b, char *text,
                                 size_t n)
{
    static const struct {
        const char *name;
        uint16_t at, len;
    } items[] = {
        {"MXCSR", FX_MXCSR, 4}, {"FCW", FX_FCW, 2},
        {"FSW", FX_FSW, 2},     {"x87 tags", FX_FTW, 1},
        {"XMM", FX_XMM, 256},   {"YMM upper half", X86_XSAVE_AVX_OFFSET, 256}};

    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a + FX_ST + 16 * (size_t)i, b + FX_ST + 16 * (size_t)i,
                   10) != 0) {
            snprintf(text, n, "number %u", i);
            return "ST or MMX register";
        }
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        for (unsigned k = 0; k < items[i].len; k++)
            if (a[items[i].at + k] != b[items[i].at + k]) {
                snprintf(text, n, "byte %u", k);
                return items[i].name;
            }
    return NULL;
}

static const char *differ_system(const struct x86_cpu *a,
                                 const struct x86_cpu *b, char *text, size_t n)
{
    for (unsigned i = 0; i < 6; i++) {
        snprintf(text, n, "%u", i);
        if (a->seg[i].sel != b->seg[i].sel ||
            a->seg[i].base != b->seg[i].base ||
            a->seg[i].attr != b->seg[i].attr)
            return "segment register";
    }
    *text = 0;
    if (a->cr0 != b->cr0 || a->cr2 != b->cr2 || a->cr3 != b->cr3 ||
        a->cr4 != b->cr4 || a->xcr0 != b->xcr0)
        return "control register";
    if (a->cpl != b->cpl || a->shadow != b->shadow)
        return "CPL or interrupt shadow";
    if (memcmp(&a->msr, &b->msr, sizeof a->msr) != 0)
        return "MSR";
    if (memcmp(a->dr, b->dr, sizeof a->dr) != 0 || a->dr6 != b->dr6 ||
        a->dr7 != b->dr7)
        return "debug register";
    if (a->event.valid != b->event.valid || a->activity != b->activity)
        return "event or activity";
    return NULL;
}

const char *blk_differ(const struct blk_vm *a, const struct blk_vm *b,
                       const struct blk_exit *xa, const struct blk_exit *xb,
                       char *text, size_t n)
{
    const struct x86_cpu *ca = blk_vm_cpu((struct blk_vm *)(uintptr_t)a);
    const struct x86_cpu *cb = blk_vm_cpu((struct blk_vm *)(uintptr_t)b);
    const char *what;

    *text = 0;
    what = differ_exit(a, xa, xb, text, n);
    if (what)
        return what;
    for (unsigned i = 0; i < 16; i++)
        if (ca->gpr[i] != cb->gpr[i]) {
            snprintf(text, n, "%s", gpr_name[i]);
            return "general register";
        }
    if (xa->end != BLK_END_FAULT && ca->rflags != cb->rflags) {
        snprintf(text, n, "%" PRIx64, ca->rflags ^ cb->rflags);
        return "rflags";
    }
    what = differ_xstate(ca->xsave.b, cb->xsave.b, text, n);
    return what ? what : differ_system(ca, cb, text, n);
}

/* The interrupt stack holds frames, whose dead flags differ. */
static bool compared(unsigned page)
{
    return page != 0xe;
}

/* CPUs may walk ahead: tables' entries are Accessed or not (SDM vol. 3A 4.8).
 * The translator looks a store's page up before a floating-point exception
 * may prevent the store: Dirty then stands without one. It never lacks. */
static bool same_byte(unsigned page, unsigned i, uint8_t a, uint8_t b)
{
    if (page < 0xc && i % 8 == 0) {
        a |= 0x20 | (b & 0x40);
        b |= 0x20;
    }
    return a == b;
}

static bool same_page(unsigned page, const uint8_t *a, const uint8_t *b)
{
    if (memcmp(a, b, 4096) == 0)
        return true;
    for (unsigned i = 0; i < 4096; i++)
        if (!same_byte(page, i, a[i], b[i]))
            return false;
    return true;
}

const char *blk_differ_memory(const struct blk_vm *a, const struct blk_vm *b,
                              char *text, size_t n)
{
    for (unsigned page = 1; page < 0x41; page++) {
        const uint8_t *pa = blk_vm_page(a, page), *pb = blk_vm_page(b, page);

        if (!compared(page) || same_page(page, pa, pb))
            continue;
        for (unsigned i = 0; i < 4096; i++)
            if (!same_byte(page, i, pa[i], pb[i])) {
                snprintf(text, n, "guest-physical %x: %02x, not %02x",
                         page * 4096 + i, pb[i], pa[i]);
                break;
            }
        return "memory";
    }
    return NULL;
}

/* ---- printing ---- */

static void print_item(const struct blk_item *it)
{
    struct x86_insn i;
    char text[128] = "?", hex[40];
    unsigned n = 0;

    if (x86_decode(it->b, it->len, X86_MODE_64, &i) == X86_DEC_OK)
        x86_disasm(&i, it->addr, text, sizeof text);
    for (unsigned k = 0; k < it->len && n < 36; k++)
        n += (unsigned)snprintf(hex + n, sizeof hex - n, "%02x", it->b[k]);
    printf("    %16" PRIx64 "  %-24s %s\n", it->addr, hex, text);
}

void blk_print(const struct blk_prog *p)
{
    printf("  program of seed %" PRIu64 ", %s, %u run%s%s\n", p->seed,
           p->kernel ? "kernel" : "user", p->runs, p->runs > 1 ? "s" : "",
           p->ts ? ", CR0.TS" : "");
    for (unsigned i = 0; i < p->n; i++)
        if (!p->item[i].drop)
            print_item(&p->item[i]);
    for (unsigned i = 0; i < p->ncells; i++)
        if (p->cell[i].item)
            printf("    cell %" PRIx64 " = %" PRIx64 "\n", blk_cells(p) + 8 * i,
                   p->item[p->cell[i].v].addr);
}

void blk_print_code(const struct blk_vm *v, uint64_t va, unsigned count)
{
    while (count--) {
        struct blk_item it = {.addr = va, .len = 15};
        struct x86_insn i;

        memset(it.b, BLK_FILL, 15);
        if (!blk_vm_fetch(v, va, it.b, 15) ||
            x86_decode(it.b, 15, X86_MODE_64, &i) != X86_DEC_OK)
            return;
        it.len = i.len;
        print_item(&it);
        va += i.len;
    }
}

static void print_two(const char *name, uint64_t a, uint64_t b)
{
    printf("    %-8s %016" PRIx64, name, a);
    if (a != b)
        printf("  BUT %016" PRIx64, b);
    printf("\n");
}

static void print_xstate(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 0; i < X86_XSAVE_AVX_OFFSET + 256; i += 8) {
        char name[16];

        if (memcmp(a + i, b + i, i == FX_MXCSR ? 4 : 8) == 0 ||
            (i >= 416 && i < 576) || i == 8 || i == 16)
            continue;
        snprintf(name, sizeof name, "xs+%u", i);
        print_two(name, fx_get64(a + i), fx_get64(b + i));
    }
}

void blk_print_states(struct blk_vm *a, struct blk_vm *b,
                      const struct blk_exit *xa, const struct blk_exit *xb)
{
    static const char *const ends[] = {"fault", "HLT", "budget", "lost"};
    const struct x86_cpu *ca = blk_vm_cpu(a), *cb = blk_vm_cpu(b);

    printf("  interpreter: %s, vector %u error %x;  translator: %s, vector %u "
           "error %x\n",
           ends[xa->end], xa->vector, xa->error, ends[xb->end], xb->vector,
           xb->error);
    print_two("rip", xa->rip, xb->rip);
    print_two("rflags", xa->rflags, xb->rflags);
    print_two("rsp", xa->rsp, xb->rsp);
    print_two("cs ss", (uint64_t)xa->cs << 16 | xa->ss,
              (uint64_t)xb->cs << 16 | xb->ss);
    for (unsigned i = 0; i < 16; i++)
        print_two(gpr_name[i], ca->gpr[i], cb->gpr[i]);
    print_two("cr0", ca->cr0, cb->cr0);
    print_two("cr2", ca->cr2, cb->cr2);
    print_two("fs", ca->seg[X86_SEG_FS].base, cb->seg[X86_SEG_FS].base);
    print_two("gs", ca->seg[X86_SEG_GS].base, cb->seg[X86_SEG_GS].base);
    print_two("kgs", ca->msr.kernel_gs_base, cb->msr.kernel_gs_base);
    print_xstate(ca->xsave.b, cb->xsave.b);
}
