// SPDX-License-Identifier: Apache-2.0
/*
 * Faults that the host raises in translated code: division, unmasked floating
 * point, alignment of vector operands. The instruction's beginning is found in
 * the block's map, spilled registers are put back, and the interpreter runs
 * the instruction and raises what the guest is to see.
 *
 * The guest's RSP is anything, so handlers run on an alternate stack that is
 * disarmed meanwhile, and return only by sigreturn.
 */
#include "engine/bt/zone.h"

#include "engine/interp/vec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#    define SS_AUTODISARM (1U << 31)
#endif
#define STACK_BYTES 65536
#define ROW_MAX     16 /* faults in a row that C does not hear of */

static struct bt *bt_here(uint64_t rip)
{
    struct bt *bt;

    asm volatile("rdgsbase %0" : "=r"(bt));
    if (!bt || rip < (uintptr_t)bt->rx ||
        rip >= (uintptr_t)bt->rx + bt->code_bytes)
        return NULL;
    return bt;
}

static greg_t *reg_of(ucontext_t *uc, unsigned r)
{
    static const int idx[16] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

    return &uc->uc_mcontext.gregs[idx[r]];
}

/* The line of the block's map for @rip, in translated code. */
static const struct bt_map *map_of(const struct bt *bt, uint64_t rip,
                                   struct bt_block **b)
{
    uint32_t off = (uint32_t)(rip - (uintptr_t)bt->rx);
    const struct bt_map *m, *end;

    *b = bt_block_of_code((struct bt *)bt, off);
    if (!*b || !(*b)->nmap)
        return NULL;
    m = &bt->maps[(*b)->map];
    end = m + (*b)->nmap;
    while (m + 1 < end && m[1].host <= off)
        m++;
    return m;
}

/* Have the interpreter run the instruction. */
static void guest_fault(struct bt *bt, const struct bt_block *b,
                        const struct bt_map *m, ucontext_t *uc)
{
    if (m->s1 != X86_R11) {
        bt->home[X86_R11] = (uint64_t)*reg_of(uc, X86_R11);
        bt->home[X86_R10] = (uint64_t)*reg_of(uc, X86_R10);
        *reg_of(uc, m->s1) = (greg_t)bt->home[m->s1];
        *reg_of(uc, m->s2) = (greg_t)bt->home[m->s2];
    }
    for (unsigned i = 0; i < 2; i++)
        if (m->x[i] != 0xff)
            *reg_of(uc, m->x[i]) = (greg_t)bt->home[m->x[i]];
    if (m->tmp != 0xff)
        *reg_of(uc, m->tmp) = (greg_t)bt->slot[0];
    bt->st.host_faults++;
    bt->fault.va = b->va + m->off;
    bt->site = 0;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)bt_fault_gate;
}

/* A page that isn't there, or may not be written: only zones have such. A fault
 * of the guest's own comes as #GP or #SS, without an address.
 * Return: false: translated code's it is not. */
static bool fault(int signo, const siginfo_t *info, ucontext_t *uc)
{
    uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    uint64_t at = (uintptr_t)info->si_addr;
    /* What isn't canonical for the guest may be so for a host of 57 bits. */
    bool page = signo == SIGSEGV && !(at >> 47) &&
                (info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR);
    struct bt *bt = bt_here(rip);
    bool again = false;
    const struct bt_map *m;
    struct bt_block *b;

    if (!bt)
        return false;
    m = map_of(bt, rip, &b);
    if (!m || (page && !bt_zones_have(bt->part, at)))
        return false;
    /* Whatever a guest does to its page tables, faults without end are no way
     * to keep requests waiting. */
    if (page && atomic_load(&bt->req))
        again = ++bt->zone_row % ROW_MAX == 0;
    if (page && !again &&
        bt_zones_fault(bt, at, uc->uc_mcontext.gregs[REG_ERR] & 2,
                       (uint64_t)*reg_of(uc, m->s2)))
        return true;
    bt->zone_failed = page && !again ? (uint32_t)(b - bt->blocks) + 1 : 0;
    guest_fault(bt, b, m, uc);
    return true;
}

static void on_signal(int signo, siginfo_t *info, void *ucontext)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    if (interp_vec_signal(signo, ucontext))
        return;
    if (fault(signo, info, ucontext))
        return;
    sigaction(signo, &dfl, NULL);
    if (info->si_code <= 0)
        raise(signo);
}

int bt_signal_init(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    int r = interp_vec_init();

    if (r)
        return r;
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGFPE, &sa, NULL) || sigaction(SIGILL, &sa, NULL) ||
        sigaction(SIGSEGV, &sa, NULL) || sigaction(SIGBUS, &sa, NULL))
        return -errno;
    return 0;
}

void bt_signal_thread(struct bt *bt)
{
    stack_t ss = {.ss_size = STACK_BYTES, .ss_flags = (int)SS_AUTODISARM};

    if (bt->altstack && pthread_equal(bt->thread, pthread_self()))
        return;
    ss.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ss.ss_sp == MAP_FAILED)
        return;
    sigaltstack(&ss, NULL);
    bt->altstack = true;
}
