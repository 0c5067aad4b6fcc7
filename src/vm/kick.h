// SPDX-License-Identifier: Apache-2.0
/*
 * What other threads may ask of a vCPU: a posted-interrupt bitmap, as VT-d's
 * posted interrupts have it, and one word of requests with a kick. Only the
 * vCPU's own thread takes them out; only it touches IRR, ISR and PPR.
 *
 * The vCPU's thread reads `request` at each block boundary (interp) or is
 * interrupted by the engine's kick (bt, kvm), and sleeps on it in HLT (futex).
 */
#ifndef DOPPEL_VM_KICK_H
#define DOPPEL_VM_KICK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* struct kick.request bits */
#define KICK_POSTED 0x01U /* vectors stand in posted[] */
#define KICK_NMI    0x02U
#define KICK_INIT   0x04U
#define KICK_SIPI   0x08U /* start-up vector in sipi_vector */
#define KICK_EXTINT 0x10U /* the 8259's INTR line is high (a level) */
#define KICK_TIMER  0x20U /* the local APIC's timer deadline has passed */
#define KICK_PARK   0x40U /* stop at the next instruction boundary */
#define KICK_EXIT   0x80U /* leave vcpu_run for good */

struct kick {
    _Atomic uint32_t request;
    _Atomic uint64_t posted[4];     /* bit v of 256: vector v was posted */
    _Atomic uint64_t posted_tmr[4]; /* ... and it was level-triggered */
    _Atomic uint32_t sipi_vector;
    _Atomic uint32_t sleeping; /* its thread waits on request */
    void (*wake)(void *ctx);   /* engine's kick; NULL: polling is enough */
    void *ctx;
};

void kick_init(struct kick *k);

/** kick_request() - set request bits, wake or interrupt the vCPU.
 * Thread: any. */
void kick_request(struct kick *k, uint32_t bits);

/** kick_clear() - take request bits back (EXTINT's line went low; handled) */
void kick_clear(struct kick *k, uint32_t bits);

/** kick_post() - post interrupt @vector. Thread: any. */
void kick_post(struct kick *k, uint8_t vector, bool level);

static inline uint32_t kick_pending(const struct kick *k)
{
    return atomic_load_explicit(&k->request, memory_order_acquire);
}

/** kick_wait() - sleep until a request bit of @mask is set
 * @timeout_ns: at most this long; UINT64_MAX: for ever. Thread: vcpu.
 * Return: the request word. */
uint32_t kick_wait(struct kick *k, uint32_t mask, uint64_t timeout_ns);

#endif
