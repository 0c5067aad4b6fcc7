// SPDX-License-Identifier: Apache-2.0
/*
 * Faults inside stubs. A SIMD exception that the guest unmasked arrives as
 * SIGFPE, an instruction that the host lacks as SIGILL, with the program
 * counter in the stubs' section. The rule: the handler reads and writes the
 * interrupted thread's saved registers and nothing else; it points rip at a
 * lone RET, so that the stub returns to vec_call.S with the signal's number in
 * r9, where the host's MXCSR is put back and the guest's flags are read.
 */
#include "engine/interp/vec.h"

#include "engine/interp/vec_int.h"

#include <errno.h>
#include <ucontext.h>

bool interp_vec_signal(int signo, void *ucontext)
{
    ucontext_t *uc = ucontext;
    greg_t *r = uc->uc_mcontext.gregs;
    uint64_t rip = (uint64_t)r[REG_RIP];

    if (rip < (uintptr_t)vec_stubs || rip >= (uintptr_t)vec_stubs_end)
        return false;
    r[REG_RIP] = (greg_t)(uintptr_t)vec_stubs; /* stub 0 is RET */
    r[REG_R9] = signo;
    return true;
}

/* Not ours: the default action, when the instruction runs again. */
static void on_signal(int signo, siginfo_t *info, void *ucontext)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    if (interp_vec_signal(signo, ucontext))
        return;
    sigaction(signo, &dfl, NULL);
    if (info->si_code <= 0) /* sent by someone: it won't happen again */
        raise(signo);
}

int interp_vec_init(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGFPE, &sa, NULL) || sigaction(SIGILL, &sa, NULL))
        return -errno;
    return 0;
}
