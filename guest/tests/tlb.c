// SPDX-License-Identifier: Apache-2.0
/*
 * The TLB's rules by random operations: page tables that change without notice,
 * PCIDs that are used again, loads of CR3 that flush nothing, every kind of
 * INVPCID, global pages, upper halves of processes' own, 4K, 2M and 1G pages,
 * rights of user and supervisor with WP, SMEP, SMAP and AC, code that changes.
 *
 * A model remembers each translation that an access may have cached, until an
 * operation that must drop it. What an access does must be what the tables say
 * now or what such a translation says; a fault must be what the tables say now
 * (a walk comes before it), and drops what is cached there, of a large page
 * this piece at least. Where nothing can be cached, accessed and dirty bits
 * must have been set. Translations that no access has used may be cached, too,
 * as long as the tables say so (SDM vol. 3A 4.10.2.3): a journal of changes and
 * flushes tells what they have said. Command line: seed=N steps=N. Prints a
 * hash of all that the operations determine. Source: Intel SDM vol.
 * 3A 4.6, 4.7, 4.8, 4.10.
 */
#include "tlb_model.h"

/* ---- accesses ---- */

/* All are entered with the address in RDI and a value in RSI. */
__asm__(".text\n"
        "go_sup:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, go_rsp(%rip)\n"
        "mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi\n"
        "call *%rax\n"
        "go_back:\n"
        "mov go_rsp(%rip), %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        "go_user:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, go_rsp(%rip)\n"
        "push $0x33; push $0; push $2; push $0x2b; push %rdi\n"
        "mov %rsi, %rdi; mov %rdx, %rsi\n"
        "iretq\n"
        "s_read: mov (%rdi), %rax; ret\n"
        "s_write: mov %rsi, 8(%rdi); ret\n"
        "s_xchg: mov %rsi, %rax; xchg %rax, 8(%rdi); ret\n"
        "s_exec: add $0x40, %rdi; call *%rdi; ret\n"
        "s_cross: mov 4092(%rdi), %rax; ret\n"
        "h_read: mov (%rdi), %rax; ret\n"
        "h_write: mov %rsi, 8(%rdi); ret\n"
        "h_xchg: mov %rsi, %rax; xchg %rax, 8(%rdi); ret\n"
        "h_cross: mov 4092(%rdi), %rax; ret\n"
        "a_read: stac; mov (%rdi), %rax; clac; ret\n"
        "a_write: stac; mov %rsi, 8(%rdi); clac; ret\n"
        "a_xchg: mov %rsi, %rax; stac; xchg %rax, 8(%rdi); clac; ret\n"
        "a_exec: add $0x40, %rdi; stac; call *%rdi; clac; ret\n"
        "a_cross: stac; mov 4092(%rdi), %rax; clac; ret\n"
        ".balign 512\n"
        "user_stubs:\n"
        "u_read: mov (%rdi), %rax; int $0x70\n"
        "u_write: mov %rsi, 8(%rdi); int $0x70\n"
        "u_xchg: mov %rsi, %rax; xchg %rax, 8(%rdi); int $0x70\n"
        "u_exec: add $0x80, %rdi; jmp *%rdi\n"
        "u_cross: mov 4092(%rdi), %rax; int $0x70\n"
        "u_push: lea 16(%rdi), %rsp; push %rsi; int $0x70\n"
        "u_pop: mov %rdi, %rsp; pop %rax; int $0x70\n"
        "v_read: mov (%rdi), %rax; int $0x70\n"
        "v_write: mov %rsi, 8(%rdi); int $0x70\n"
        "v_xchg: mov %rsi, %rax; xchg %rax, 8(%rdi); int $0x70\n"
        "v_cross: mov 4092(%rdi), %rax; int $0x70\n"
        "v_push: lea 16(%rdi), %rsp; push %rsi; int $0x70\n"
        "v_pop: mov %rdi, %rsp; pop %rax; int $0x70\n"
        ".local go_rsp\n"
        ".comm go_rsp, 8, 8\n");
uint64_t go_sup(const char *stub, uint64_t va, uint64_t val);
uint64_t go_user(const char *stub, uint64_t va, uint64_t val);
extern char go_back[], user_stubs[];
extern char s_read[], s_write[], s_xchg[], s_exec[], s_cross[];
extern char h_read[], h_write[], h_xchg[], h_cross[];
extern char a_read[], a_write[], a_xchg[], a_exec[], a_cross[];
extern char u_read[], u_write[], u_xchg[], u_exec[], u_cross[];
extern char u_push[], u_pop[];
extern char v_read[], v_write[], v_xchg[], v_cross[], v_push[], v_pop[];

/* The upper half's have code of their own, which a translator may make for it.
 */
static const char *const stub_of[5][HOWS] = {
    {s_read, s_write, s_xchg, s_exec, s_cross, NULL, NULL},
    {a_read, a_write, a_xchg, a_exec, a_cross, NULL, NULL},
    {u_read, u_write, u_xchg, u_exec, u_cross, u_push, u_pop},
    {h_read, h_write, h_xchg, s_exec, h_cross, NULL, NULL},
    {v_read, v_write, v_xchg, u_exec, v_cross, v_push, v_pop},
};
static const char *const how_name[] = {"read",  "write", "xchg", "exec",
                                       "cross", "push",  "pop"};
static const char *const who_name[] = {"sup", "sup+ac", "user"};

static struct {
    bool armed, faulted;
    uint64_t error, cr2;
} go;

static void leave(struct frame *f)
{
    f->rip = (uint64_t)go_back;
    f->cs = 0x08;
    f->ss = 0x10;
    f->rflags = 2;
}

static void on_fault(struct frame *f)
{
    go.faulted = true;
    go.error = f->error;
    go.cr2 = CR_READ(2);
    if (!go.armed) {
        print("FAIL unexpected page fault at ");
        print_hex(f->rip);
        print(" cr2 ");
        print_hex(go.cr2);
        print("\n");
        finish(1);
    }
    leave(f);
}

/* Return: what it read; go.faulted. */
static uint64_t access(enum how how, enum who who, uint64_t va, uint64_t val)
{
    unsigned i = va >> 63 && who != SUPAC ? (who == SUP ? 3 : 4) : who;
    const char *stub = stub_of[i][how];
    uint64_t v;

    go.faulted = false;
    go.armed = true;
    if (who == USER)
        v = go_user((const char *)(CODE + ((uint64_t)stub & 4095)), va, val);
    else
        v = go_sup(stub, va, val);
    go.armed = false;
    return v;
}

/* ---- what was seen ---- */

static uint64_t n_access, n_fault, n_stale, n_walk, n_op[16];

static void mix(uint64_t v)
{
    hash = (hash ^ v) * 0x100000001b3ULL;
}

/* The last operations, shown when something is wrong. */
#define LOG 64
static struct {
    const char *what;
    uint64_t step, a, b;
    uint16_t pcid;
} log[LOG];
static unsigned nlog;

static void remember(const char *what, uint64_t a, uint64_t b)
{
    unsigned i = nlog++ % LOG;

    log[i].what = what;
    log[i].step = step;
    log[i].a = a;
    log[i].b = b;
    log[i].pcid = pcid;
}

static void show_log(void)
{
    for (unsigned i = nlog > LOG ? nlog - LOG : 0; i < nlog; i++) {
        print("  ");
        print_hex(log[i % LOG].step);
        print(" pcid ");
        print_hex(log[i % LOG].pcid);
        print(" ");
        print(log[i % LOG].what);
        print(" ");
        print_hex(log[i % LOG].a);
        print(" ");
        print_hex(log[i % LOG].b);
        print("\n");
    }
}

static void show_xl(const char *what, const struct xl *x)
{
    print(what);
    print(x->present ? " " : " not present");
    if (x->reserved)
        print(" reserved");
    if (x->present) {
        print_hex(x->pa);
        print(x->shift == 12 ? " 4K" : x->shift == 21 ? " 2M" : " 1G");
        print(x->user ? " U" : " S");
        print(x->write ? "W" : "R");
        print(x->nx ? "-" : "X");
        print(x->global ? " G" : "");
        print(x->dirty ? " D" : "");
    }
    print("\n");
}

static void __attribute__((noreturn))
bad(const char *what, enum how how, enum who who, uint64_t va, uint64_t got,
    const struct xl *now)
{
    print("FAIL ");
    print(what);
    print(": step ");
    print_hex(step);
    print(" ");
    print(who_name[who]);
    print(" ");
    print(how_name[how]);
    print(" at ");
    print_hex(va);
    print(go.faulted ? " fault " : " got ");
    print_hex(go.faulted ? go.error : got);
    print(" root ");
    print_hex(root);
    print(" pcid ");
    print_hex(pcid);
    print(" cr4 ");
    print_hex(cr4);
    print(" cr0 ");
    print_hex(cr0);
    print(" cr2 ");
    print_hex(go.cr2);
    print("\n");
    show_xl("  now", now);
    for (unsigned i = 0; i < nrecs; i++)
        if (usable(&recs[i], va))
            show_xl(recs[i].gone ? "  gone" : "  may be cached", &recs[i].x);
    for (unsigned f = 0; f < FRAMES; f++)
        if (*(volatile uint64_t *)(POOL + ((uint64_t)f << 12) + 8) ==
            (0x57ULL << 56 | step)) {
            print("  its value is in ");
            print_hex(POOL + ((uint64_t)f << 12));
            print("\n");
        }
    show_log();
    finish(1);
}

static unsigned frame_of(const struct xl *x, uint64_t va)
{
    return (unsigned)((x->pa + (va & ((1ULL << x->shift) - 1)) - POOL) >> 12);
}

static volatile uint8_t *frame_at(unsigned f)
{
    return (volatile uint8_t *)(POOL + ((uint64_t)f << 12));
}

/* Whether an access by translation @x, which permits it, gives @got. */
static bool explains(const struct xl *x, enum how how, enum who who,
                     uint64_t va, uint64_t val, uint64_t got)
{
    unsigned f = frame_of(x, va);

    if (f >= FRAMES)
        return false;
    switch (how) {
    case RD:
    case POP:
        return got == (0x1d00000000ULL | f);
    case EX:
        return (uint32_t)got == (code_id[f] | (who == USER ? 1U << 31 : 0));
    case WR:
    case PUSH:
    case XCHG:
        return *(volatile uint64_t *)(frame_at(f) + 8) == val;
    default:
        return false;
    }
}

struct asked {
    enum how how;
    enum who who;
    uint64_t va, val, got;
    bool tail; /* of a read that crosses: the second page's half */
};

static bool fits_access(const struct xl *x, const void *arg)
{
    const struct asked *a = arg;

    return permits(x, a->how, a->who) && (!writes(a->how) || x->dirty) &&
           explains(x, a->how, a->who, a->va, a->val, a->got);
}

static bool fits_half(const struct xl *x, const void *arg)
{
    const struct asked *a = arg;
    uint32_t f = frame_of(x, a->va);

    return permits(x, RD, a->who) && a->got == (a->tail ? f : ~f);
}

static uint64_t n_unasked;

/* What faults first. Of two instructions a stale translation may give the one
 * and be gone before the other. */
static uint64_t first_byte(enum how how, enum who who, uint64_t va)
{
    if (how == EX)
        return va + (who == USER ? 0x80 : 0x40);
    return how == RD || how == POP ? va : va + 8;
}

/* The legal outcomes of an access that does not cross. */
static void judge(enum how how, enum who who, uint64_t va, uint64_t val,
                  uint64_t got, const struct xl *now, bool d_before)
{
    bool ok = now->present && permits(now, how, who), any = false;
    bool ever = false, d_after;

    for (unsigned i = 0; i < nrecs && !any; i++)
        if (usable(&recs[i], va)) {
            ever = true;
            any = !recs[i].gone;
        }
    if (!ever) { /* the same on every machine */
        n_walk++;
        mix(ok ? (how == RD || how == EX ? got : 1) : go.error);
    }
    d_after = now->present && (*used[nused - 1] & PTE_D);
    if (go.faulted) {
        n_fault++;
        if (ok || go.error != fault_code(now, how, who) ||
            (go.cr2 != first_byte(how, who, va) &&
             !(how == EX && any && go.cr2 == first_byte(how, who, va) + 5)))
            bad("fault", how, who, va, got, now);
        if (now->present && d_after != d_before)
            bad("dirty after a fault", how, who, va, got, now);
        for (unsigned i = 0; i < nrecs; i++)
            if (recs[i].pcid == pcid && !recs[i].x.global &&
                covers(&recs[i], va))
                recs[i].gone = !tcg && recs[i].x.shift == 12;
        if (!tcg)
            happens((struct event){.drops = f_fault, .old = va, .pcid = pcid});
        return;
    }
    if (!writes(how) && now->present && d_after != d_before)
        bad("dirty after a read", how, who, va, got, now);
    if (ok && explains(now, how, who, va, val, got)) {
        struct xl x = *now;

        if (!any && !unasked(va, fits_access,
                             &(struct asked){how, who, va, val, got, false})) {
            walk(va, &x);
            for (unsigned i = 0; i < nused; i++)
                if (!(*used[i] & PTE_A))
                    bad("not accessed", how, who, va, got, now);
            if (writes(how) && !d_after)
                bad("not dirty", how, who, va, got, now);
        }
        x.dirty = d_before || writes(how);
        note(&x);
        return;
    }
    for (unsigned i = 0; i < nrecs; i++) {
        const struct rec *r = &recs[i];

        if (usable(r, va) && !r->gone && permits(&r->x, how, who) &&
            (!writes(how) || r->x.dirty) &&
            explains(&r->x, how, who, va, val, got)) {
            n_stale++;
            if (ok)
                note(now);
            return;
        }
    }
    if (unasked(va, fits_access,
                &(struct asked){how, who, va, val, got, false})) {
        n_unasked++;
        if (ok)
            note(now);
        return;
    }
    bad("illegal", how, who, va, got, now);
}

/* One half of a read that crosses pages: 4 bytes, or the fault. */
static bool half_ok(uint64_t va, enum who who, uint32_t got, bool tail,
                    const struct xl *now)
{
    bool ok = now->present && permits(now, RD, who);

    if (ok && (got == (tail ? frame_of(now, va) : ~frame_of(now, va))))
        return true;
    for (unsigned i = 0; i < nrecs; i++) {
        const struct rec *r = &recs[i];
        uint32_t f = frame_of(&r->x, va);

        if (usable(r, va) && !r->gone && permits(&r->x, RD, who) &&
            got == (tail ? f : ~f)) {
            n_stale++;
            return true;
        }
    }
    if (unasked(
            va, fits_half,
            &(struct asked){.who = who, .va = va, .got = got, .tail = tail})) {
        n_unasked++;
        return true;
    }
    return false;
}

/* What a read that crosses may have walked. When the records are full they are
 * forgotten, so this comes after judging. */
static void note_both(enum who who, const struct xl now[2])
{
    for (unsigned i = 0; i < 2; i++)
        if (now[i].present && permits(&now[i], RD, who))
            note(&now[i]);
}

/* @va: the first of two pages. */
static void judge_cross(enum who who, uint64_t va, uint64_t got,
                        const struct xl now[2])
{
    if (!go.faulted) {
        if (!half_ok(va, who, (uint32_t)got, false, &now[0]) ||
            !half_ok(va + 4096, who, (uint32_t)(got >> 32), true, &now[1]))
            bad("illegal", CROSS, who, va, got, &now[0]);
        note_both(who, now);
        return;
    }
    n_fault++;
    unsigned k = go.cr2 == va + 4092 ? 0 : 1;
    if ((k && go.cr2 != va + 4096) ||
        (now[k].present && permits(&now[k], RD, who)) ||
        go.error != fault_code(&now[k], RD, who))
        bad("fault", CROSS, who, va, go.cr2, &now[k]);
    note_both(who, now);
    for (unsigned i = 0; i < nrecs; i++)
        if (recs[i].pcid == pcid && !recs[i].x.global &&
            covers(&recs[i], va + 4096 * k))
            recs[i].gone = !tcg && recs[i].x.shift == 12;
    if (!tcg)
        happens((struct event){
            .drops = f_fault, .old = va + 4096 * k, .pcid = pcid});
}

/* ---- operations ---- */

/* Mostly one of a few that change slowly. */
static uint64_t pick_va(void)
{
    static uint64_t last[8];
    uint64_t va;

    if (rng(8) && last[0])
        return last[rng(8)];
    va = (rng(2) ? HIGH : LOW) + ((uint64_t)rng(2) << 30) +
         ((uint64_t)(32 + rng(4)) << 21) + ((uint64_t)page_of[rng(4)] << 12);
    for (unsigned i = 0; i < 8; i++)
        if (!last[i])
            last[i] = va;
    if (rng(4) == 0)
        last[rng(8)] = va;
    return va;
}

static void op_access(void)
{
    uint64_t va = pick_va(), val = 0x57ULL << 56 | step, got;
    enum who who = (enum who)rng(3);
    enum how how;
    struct xl now[2];
    bool d;

    walk(va, now);
    if (rng(8)) /* mostly somebody who may */
        who = now->user ? (rng(2) ? USER : SUPAC) : SUP;
    how = (enum how)rng(who == USER ? HOWS : PUSH);
    if (how == EX && now->nx && rng(4))
        how = RD;
    if (who == SUPAC && !has_smap)
        who = SUP;
    if (how == CROSS && (va >> 12 & 511) == 511)
        how = RD;
    mix(va ^ who ^ (uint64_t)how << 4);
    n_access++;
    remember(how_name[how], va, who);
    if (how == CROSS) {
        walk(va + 4096, &now[1]);
        walk(va, &now[0]);
        got = access(how, who, va, val);
        judge_cross(who, va, got, now);
        return;
    }
    d = now->dirty;
    got = access(how, who, va, val);
    judge(how, who, va, val, got, now, d);
}

static uint64_t rights(void)
{
    if (rng(3))
        return PTE_P | PTE_W | PTE_U | PTE_A;
    return (rng(8) ? PTE_P : 0) | (rng(4) ? PTE_W : 0) | (rng(3) ? PTE_U : 0) |
           (rng(5) ? 0 : PTE_NX) | (rng(2) ? PTE_A : 0);
}

static uint64_t leaf_rights(void)
{
    return rights() | (rng(2) ? PTE_D : 0) | (rng(3) ? 0 : PTE_G) |
           (rng(40) || tcg ? 0 : 1ULL << 51);
}

static uint64_t *table(unsigned r, unsigned h, unsigned i)
{
    return tabs[r][h][i];
}

/* Change an entry of any level, of any root, and tell nobody. */
static void op_change(void)
{
    uint64_t va = pick_va();
    unsigned r = rng(2) ? root : rng(ROOTS), h = va >> 63;
    unsigned g = va >> 30 & 1, j = va >> 21 & 3, k = rng(4);
    uint64_t *pt = table(r, h, 3 + g * 4 + j), *pd2 = table(r, h, 1 + g), v;
    volatile uint64_t *at;

    for (unsigned i = 0; i < 4; i++)
        if (rng(4) && page_of[i] == (va >> 12 & 511))
            k = i;
    switch (rng(16)) {
    case 0:
        at = &roots[r][h ? 384 : 1];
        v = (uint64_t)table(h && r == 3 ? 2 : r, h, 0) | rights() | PTE_P;
        break;
    case 1:
        at = &table(r, h, 0)[g];
        v = has_1g && rng(4) == 0 ? PTE_PS | leaf_rights()
                                  : (uint64_t)pd2 | rights() | PTE_P;
        break;
    case 2:
    case 3:
        at = &pd2[32 + j];
        v = rng(3) == 0
                ? PTE_PS | leaf_rights() | (POOL + ((uint64_t)rng(4) << 21))
                : (uint64_t)pt | rights() | PTE_P;
        break;
    case 4: /* accessed, dirty */
        at = &pt[page_of[k]];
        v = *at & ~(rng(2) ? PTE_A : PTE_A | PTE_D);
        break;
    case 5: /* more rights */
        at = &pt[page_of[k]];
        v = (*at | PTE_W | PTE_U) & ~PTE_NX;
        break;
    case 6: /* fewer */
        at = &pt[page_of[k]];
        v = *at & ~(rng(2) ? PTE_W : PTE_U);
        break;
    default:
        at = &pt[page_of[k]];
        v = (POOL + ((uint64_t)(rng(24) * 85) << 12)) | leaf_rights();
        break;
    }
    remember("entry", (uint64_t)at, v);
    happens((struct event){.at = at, .old = *at});
    *at = v;
    mix(v & ~(PTE_A | PTE_D));
}

static void cr3_load(unsigned r, uint16_t id, bool keep)
{
    happens((struct event){.old = root, .pcid = pcid});
    root = r;
    pcid = cr4 & CR4_PCIDE ? id : 0;
    remember(keep ? "cr3 keep" : "cr3", r, pcid);
    CR_WRITE(3, (uint64_t)roots[r] | pcid | (keep ? NOFLUSH : 0));
    if (!keep)
        forget(f_pcid, 0, pcid);
}

static void op_cr3(void)
{
    bool keep = (cr4 & CR4_PCIDE) && rng(3);

    /* more PCIDs than anyone caches; some roots and PCIDs go together */
    if (rng(2)) {
        unsigned r = rng(ROOTS);
        cr3_load(r, (uint16_t)(r + 1), keep);
    } else {
        cr3_load(rng(ROOTS), (uint16_t)(rng(8) ? rng(14) : 4095 - rng(3)),
                 keep);
    }
}

static void op_invlpg(void)
{
    uint64_t va = pick_va() + rng(4096);

    remember("invlpg", va, 0);
    invlpg(va);
    forget(f_page, va, pcid);
}

static void do_invpcid(uint64_t type, uint64_t id, uint64_t va)
{
    struct {
        uint64_t pcid, va;
    } d = {id, va};

    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void op_invpcid(void)
{
    uint64_t type = rng(8) < 5 ? 0 : rng(4), va = pick_va();
    uint16_t id = (uint16_t)(rng(3) ? rng(6) : pcid);

    if (!has_invpcid)
        return;
    if (!(cr4 & CR4_PCIDE))
        id = 0;
    remember("invpcid", va, type << 16 | id);
    do_invpcid(type, type < 2 ? id : 0, va);
    forget(type == 0   ? f_pcid_page
           : type == 1 ? f_pcid
           : type == 2 ? f_all
                       : f_nonglobal,
           va, id);
}

static void cr4_set(uint64_t v)
{
    uint64_t changed = v ^ cr4;

    if (changed & v & CR4_PCIDE)
        cr3_load(root, 0, false);
    if (changed & ~v & CR4_PCIDE) /* what is left in CR3 would be PWT, PCD */
        cr3_load(root, 0, false);
    remember("cr4", v, cr4);
    CR_WRITE(4, v);
    cr4 = v;
    if ((changed & (CR4_PGE | CR4_SMEP)) || (changed & ~v & CR4_PCIDE))
        forget(f_all, 0, 0);
    pcid = 0 + (cr4 & CR4_PCIDE ? pcid : 0);
}

static void op_flush_all(void)
{
    cr4_set(cr4 ^ CR4_PGE);
    cr4_set(cr4 ^ CR4_PGE);
}

static void op_control(void)
{
    switch (rng(8)) {
    case 0:
    case 1:
        cr4_set(cr4 ^ CR4_PGE);
        break;
    case 2:
        if (has_pcid)
            cr4_set(cr4 ^ CR4_PCIDE);
        break;
    case 3:
        if (has_smep)
            cr4_set(cr4 ^ CR4_SMEP);
        break;
    case 4:
    case 5:
        if (has_smap)
            cr4_set(cr4 ^ CR4_SMAP);
        break;
    default:
        cr0 ^= CR0_WP;
        CR_WRITE(0, cr0);
        break;
    }
    /* most of the time everything is on */
    if (has_pcid && !(cr4 & CR4_PCIDE) && rng(2))
        cr4_set(cr4 | CR4_PCIDE);
    if (!(cr4 & CR4_PGE) && rng(2))
        cr4_set(cr4 | CR4_PGE);
}

/* Code in a frame: `mov $id, %eax; ret` at 0x40, `mov $id, %eax; int $0x70` at
 * 0x80, with bit 31 set. */
static void code_set(unsigned f, uint32_t id)
{
    volatile uint8_t *p = frame_at(f);

    code_id[f] = id;
    p[0x40] = p[0x80] = 0xb8;
    *(volatile uint32_t *)(p + 0x41) = id;
    p[0x45] = 0xc3;
    *(volatile uint32_t *)(p + 0x81) = id | 1U << 31;
    p[0x85] = 0xcd;
    p[0x86] = 0x70;
}

static void op_code(void)
{
    unsigned f = rng(24) * 85;

    code_set(f,
             code_id[f] + (1U << 12) >= 1U << 31 ? f : code_id[f] + (1U << 12));
}

/* ---- the run ---- */

static void one(void)
{
    uint32_t k = rng(1000);
    unsigned i;

    if (k < 720)
        i = 0, op_access();
    else if (k < 840)
        i = 1, op_change();
    else if (k < 920)
        i = 2, op_cr3();
    else if (k < 955)
        i = 3, op_invlpg();
    else if (k < 980)
        i = 4, op_invpcid();
    else if (k < 995)
        i = 5, op_code();
    else
        i = 6, op_control();
    n_op[i]++;
}

static void setup_tables(void)
{
    for (unsigned i = 0; i < 2048; i++)
        pd[i] &= ~PTE_U;
    for (unsigned r = 0; r < ROOTS; r++) {
        roots[r][0] = pml4[0];
        roots[r][2] = (uint64_t)stub_tabs[0] | PTE_P | PTE_W | PTE_U;
        for (unsigned h = 0; h < 2; h++) {
            roots[r][h ? 384 : 1] =
                (uint64_t)table(h && r == 3 ? 2 : r, h, 0) | 7;
            for (unsigned g = 0; g < 2; g++) {
                table(r, h, 0)[g] = (uint64_t)table(r, h, 1 + g) | 7;
                for (unsigned j = 0; j < 4; j++)
                    table(r, h, 1 + g)[32 + j] =
                        (uint64_t)table(r, h, 3 + g * 4 + j) | 7;
            }
        }
    }
    stub_tabs[0][0] = (uint64_t)stub_tabs[1] | 7;
    stub_tabs[1][0] = (uint64_t)stub_tabs[2] | 7;
    stub_tabs[2][0] = ((uint64_t)user_stubs & ~4095ULL) | 7;
}

static void setup_frames(void)
{
    for (unsigned f = 0; f < FRAMES; f++) {
        volatile uint8_t *p = frame_at(f);

        *(volatile uint64_t *)p = 0x1d00000000ULL | f;
        *(volatile uint32_t *)(p + 4092) = ~f;
        code_set(f, f);
    }
}

static void setup_cpu(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    has_pcid = r[2] >> 17 & 1;
    cpuid(7, 0, r);
    has_smep = r[1] >> 7 & 1;
    has_invpcid = r[1] >> 10 & 1;
    has_smap = r[1] >> 20 & 1;
    cpuid(0x80000001, 0, r);
    has_1g = r[3] >> 26 & 1;
    tcg = under_tcg();
    cr0 = CR_READ(0);
    cr4 = CR_READ(4);
    cr4_set(cr4 | CR4_PGE);
    cr3_load(0, 0, false);
    if (has_pcid)
        cr4_set(cr4 | CR4_PCIDE);
    if (has_smap)
        cr4_set(cr4 | CR4_SMAP);
}

static uint64_t option(const char *line, const char *name, uint64_t none)
{
    for (; *line; line++) {
        const char *a = line, *b = name;
        uint64_t v = 0;

        while (*b && *a == *b)
            a++, b++;
        if (*b)
            continue;
        for (; *a >= '0' && *a <= '9'; a++)
            v = v * 10 + (uint64_t)(*a - '0');
        return v;
    }
    return none;
}

static void say(const char *name, uint64_t v)
{
    char s[21], *p = s + 20;

    *p = 0;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    print(name);
    print(p);
}

int test_main(void)
{
    const uint32_t *mb = (const uint32_t *)(uint64_t) * (uint32_t *)mb_info;

    if (mb && (mb[0] & 4)) {
        const char *line = (const char *)(uint64_t)mb[4];

        seed = option(line, "seed=", seed);
        steps = option(line, "steps=", steps);
    }
    rng_state = seed * 0x9e3779b97f4a7c15ULL;
    on_vector(14, on_fault);
    on_vector(0x70, leave);
    setup_tables();
    setup_frames();
    setup_cpu();
    for (step = 0; step < steps; step++)
        one();
    say("accesses ", n_access);
    say(" faults ", n_fault);
    say(" walked ", n_walk);
    say(" stale ", n_stale);
    say(" unasked ", n_unasked);
    say(" changes ", n_op[1]);
    say(" cr3 ", n_op[2]);
    say(" invlpg ", n_op[3]);
    say(" invpcid ", n_op[4]);
    print("\nhash ");
    print_hex(hash);
    print("\n");
    check("every access was legal", n_access > 0);
    return failures();
}
