// SPDX-License-Identifier: Apache-2.0
/*
 * Who may write a page: for each page that the TLB holds write rights to, the
 * addresses it has them at, so that taking the rights away needs no search. Few
 * addresses a page; when another comes, one loses its rights, which the next
 * store there gets again: the oldest of the lower half, since the kernel's own
 * mapping stays while users' come and go.
 *
 * Any thread may ask for a page's rights; the vCPU gives them up at its next
 * block boundary, or before it touches guest memory again.
 */
#include "engine/interp/priv.h"

#include "vm/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define PAGE        (~UINT64_C(0xfff))
#define SET_BITS    12
#define WAYS        4
#define UPPER       PCID_SLOTS /* as a slot's number */
#define REQUEST_MAX 16

/* Rights at @lin, under that PCID's slot; host NULL: none. */
struct writer {
    const uint8_t *host;
    uint64_t lin;
    unsigned slot;
};

struct tlb_writers {
    struct writer set[1U << SET_BITS][WAYS];
    pthread_mutex_t lock; /* the requests */
    gpa_t at[REQUEST_MAX];
    unsigned n; /* more than REQUEST_MAX: everything */
};

static struct writer *set_of(struct tlb_writers *t, const uint8_t *host)
{
    return t->set[(uint64_t)(uintptr_t)host * UINT64_C(0x9e3779b97f4a7c15) >>
                  (64 - SET_BITS)];
}

static void give_up(struct interp *in, struct writer *w)
{
    if (!w->host)
        return;
    for (unsigned k = 0; k < TLB_NONE; k++) {
        struct tlb_ent *e =
            &in->tables[k * TLB_ENTRIES + tlb_index_in(w->slot, w->lin)];

        if (e->host == w->host)
            e->w = 0;
    }
    if (in->unwrite)
        in->unwrite(in->outer, w->lin, w->slot, w->host);
    w->host = NULL;
}

void tlb_writer_note(struct interp *in, const uint8_t *host, uint64_t lin)
{
    struct writer *set = set_of(in->writers, host);
    struct writer w = {host, lin & PAGE, lin >> 63 ? UPPER : in->pcid_cur};
    unsigned at = WAYS - 1;

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].host == host && set[i].lin == w.lin && set[i].slot == w.slot)
            return;
    while (at > 0 && set[at].host && set[at].slot == UPPER)
        at--;
    if (set[at].host && set[at].slot == UPPER)
        at = WAYS - 1;
    give_up(in, &set[at]);
    for (; at > 0; at--)
        set[at] = set[at - 1];
    set[0] = w;
}

void tlb_unwrite(struct interp *in, const uint8_t *host)
{
    struct writer *set = set_of(in->writers, host);

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].host == host)
            give_up(in, &set[i]);
}

/* ---- requests ---- */

void tlb_revoke_ask(struct interp *in, gpa_t at, bool all)
{
    struct tlb_writers *t = in->writers;

    pthread_mutex_lock(&t->lock);
    if (all || t->n >= REQUEST_MAX)
        t->n = REQUEST_MAX + 1;
    else
        t->at[t->n++] = at;
    atomic_store(&in->attn, 1);
    pthread_mutex_unlock(&t->lock);
}

/* Either the vCPU sees attn set, or we see it not running (both are
 * sequentially consistent). */
void tlb_revoke_wait(struct interp *in)
{
    while (atomic_load(&in->running) && atomic_load(&in->attn))
        nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
}

void tlb_revoke_take(struct interp *in)
{
    struct tlb_writers *t = in->writers;
    uint32_t word;

    pthread_mutex_lock(&t->lock);
    if (t->n > REQUEST_MAX)
        tlb_flush_all(in);
    else
        for (unsigned i = 0; i < t->n; i++) {
            uint8_t *host =
                mem_tlb_page(in->cpu->vm->mem, t->at[i], MEM_READ, &word);

            if (host)
                tlb_unwrite(in, host);
        }
    t->n = 0;
    atomic_store(&in->attn, 0);
    pthread_mutex_unlock(&t->lock);
}

int tlb_writers_init(struct interp *in)
{
    in->writers = calloc(1, sizeof *in->writers);
    if (!in->writers)
        return -ENOMEM;
    pthread_mutex_init(&in->writers->lock, NULL);
    return 0;
}

void tlb_writers_fini(struct interp *in)
{
    if (!in->writers)
        return;
    pthread_mutex_destroy(&in->writers->lock);
    free(in->writers);
}
