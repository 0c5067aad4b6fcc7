// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory accesses that the inline ways of access.h don't finish: TLB
 * misses, page crossings, MMIO, pages whose writes are reported, alignment
 * checks, breakpoints; and the linear-memory hooks for cpu/x86.
 *
 * An access that crosses pages has both translated before either is touched.
 * LOCK inside a page is the host's own locked instruction, whatever the
 * alignment. LOCK across two pages, which lie at unrelated host addresses, is
 * made atomic only against others of its kind, by the VM's split lock.
 */
#include "engine/interp/access.h"

#include "cpu/x86/phys.h"
#include "vm/mem.h"

/* ---- leaving the engine ---- */

/* Between leave and enter this thread touches no guest page by TLB, so that
 * vcpu_revoke need not wait for a device's callback. */
void interp_leave(struct interp *in)
{
    interp_clock_sync(in);
    if (in->leaving)
        in->leaving(in->outer);
    atomic_store(&in->running, 0);
}

void interp_enter(struct interp *in)
{
    atomic_store(&in->running, 1);
    if (UNLIKELY(atomic_load(&in->attn)))
        tlb_revoke_take(in);
    in->check = true;
    if (in->vclock)
        in->stop_at = 0; /* a timer may have been armed */
}

static uint64_t mmio_ld(struct interp *in, gpa_t a, unsigned size)
{
    uint64_t v = 0;

    interp_leave(in);
    if (a.v & (size - 1))
        x86_phys_read(in->cpu, a, &v, size);
    else
        v = x86_mmio_read(in->cpu, a, size);
    interp_enter(in);
    return v;
}

static void mmio_st(struct interp *in, gpa_t a, unsigned size, uint64_t v)
{
    v &= size_mask(size);
    interp_leave(in);
    if (a.v & (size - 1))
        x86_phys_write(in->cpu, a, &v, size);
    else
        x86_mmio_write(in->cpu, a, v, size);
    interp_enter(in);
}

/* ---- checks before translation ---- */

static int access_check(struct interp *in, uint64_t lin, size_t size,
                        unsigned flags)
{
    struct x86_cpu *cpu = in->cpu;

    /* #AC also when a later byte is not canonical (observed on Intel) */
    if ((cpu->rflags & X86_FL_AC) && (cpu->cr0 & X86_CR0_AM) && cpu->cpl == 3 &&
        !(flags & (X86_LIN_IMPLICIT | X86_LIN_NOALIGN)) && size <= 8 &&
        !(size & (size - 1)) && (lin & (size - 1)) &&
        !x86_lin_check(cpu, gva(lin), 1, flags))
        return x86_raise_err(cpu, X86_VEC_AC, 0);
    return x86_lin_check(cpu, gva(lin), size, flags);
}

static void note_bp(struct interp *in, uint64_t lin, size_t size, bool write)
{
    if (UNLIKELY(in->slow))
        x86_check_data_bp(in->cpu, lin, size, write);
}

static bool is_code(const struct interp *in, const uint8_t *host)
{
    return (const uint8_t *)((uintptr_t)host & PAGE_MASK) == in->code_page;
}

/* ---- pieces: accesses of any length ---- */

#define PIECES_MAX 3

struct pieces {
    unsigned n;
    struct {
        struct xlat x;
        size_t len;
    } p[PIECES_MAX];
};

/* Translate all of [lin, lin+len), at most two page boundaries. */
static int pieces_open(struct interp *in, uint64_t lin, size_t len,
                       unsigned flags, struct pieces *ps)
{
    ps->n = 0;
    while (len && ps->n < PIECES_MAX) {
        size_t room = 4096 - (lin & 0xfff);
        size_t here = len < room ? len : room;

        if (tlb_xlat(in, lin, flags, &ps->p[ps->n].x))
            return X86_FAULT;
        ps->p[ps->n++].len = here;
        lin += here;
        len -= here;
    }
    return 0;
}

static void pieces_read(struct interp *in, const struct pieces *ps, void *buf)
{
    uint8_t *to = buf;

    for (unsigned i = 0; i < ps->n; i++) {
        if (ps->p[i].x.host) {
            memcpy(to, ps->p[i].x.host, ps->p[i].len);
        } else {
            interp_leave(in);
            x86_phys_read(in->cpu, ps->p[i].x.gpa, to, ps->p[i].len);
            interp_enter(in);
        }
        to += ps->p[i].len;
    }
}

/* Return: OP_NEXT, or OP_STOP when the running block's page was written. */
static int pieces_write(struct interp *in, const struct pieces *ps,
                        const void *buf)
{
    const uint8_t *from = buf;
    int r = OP_NEXT;

    for (unsigned i = 0; i < ps->n; i++) {
        const struct xlat *x = &ps->p[i].x;

        if (x->host && is_code(in, x->host))
            r = OP_STOP;
        if (x->host && x->direct) {
            memcpy(x->host, from, ps->p[i].len);
        } else {
            in->st.slow_stores++;
            interp_leave(in);
            x86_phys_write(in->cpu, x->gpa, from, ps->p[i].len);
            interp_enter(in);
        }
        from += ps->p[i].len;
    }
    return r;
}

/* ---- loads ---- */

int mem_ld_slow(struct interp *in, uint64_t lin, unsigned size, unsigned flags,
                uint64_t *val)
{
    struct pieces ps;
    struct xlat x;

    if (access_check(in, lin, size, flags))
        return X86_FAULT;
    flags |= X86_LIN_READ;
    if ((lin & 0xfff) + size > 4096) {
        if (pieces_open(in, lin, size, flags, &ps))
            return X86_FAULT;
        *val = 0;
        pieces_read(in, &ps, val);
    } else {
        if (tlb_xlat(in, lin, flags, &x))
            return X86_FAULT;
        *val = x.host ? host_ld(x.host, size) : mmio_ld(in, x.gpa, size);
    }
    note_bp(in, lin, size, false);
    return 0;
}

/* ---- stores ---- */

/* Store into a RAM page whose writes are reported, as one host store. */
static void watched_st(struct interp *in, gpa_t a, unsigned size, uint64_t val)
{
    struct mem *mem = in->cpu->vm->mem;
    struct mem_iov iov;

    in->st.slow_stores++;
    if (mem_get(mem, a, size, MEM_WRITE, &iov, 1) != 1)
        return;
    host_st(iov.hva, size, val);
    interp_leave(in);
    mem_put(mem, &iov, 1, true);
    interp_enter(in);
}

int mem_st_slow(struct interp *in, uint64_t lin, unsigned size, unsigned flags,
                uint64_t val)
{
    struct pieces ps;
    struct xlat x;
    int r;

    if (access_check(in, lin, size, flags))
        return X86_FAULT;
    flags |= X86_LIN_WRITE;
    if ((lin & 0xfff) + size > 4096) {
        if (pieces_open(in, lin, size, flags, &ps))
            return X86_FAULT;
        r = pieces_write(in, &ps, &val);
        note_bp(in, lin, size, true);
        return r;
    }
    if (tlb_xlat(in, lin, flags, &x))
        return X86_FAULT;
    note_bp(in, lin, size, true);
    if (!x.host) {
        in->st.slow_stores++;
        mmio_st(in, x.gpa, size, val);
        return OP_NEXT;
    }
    if (x.direct)
        host_st(x.host, size, val);
    else
        watched_st(in, x.gpa, size, val);
    return is_code(in, x.host) ? OP_STOP : OP_NEXT;
}

/* ---- read-modify-write ---- */

static void split_lock(struct interp *in, bool take)
{
    struct x86_topology *topo = in->cpu->topo;
    uint32_t zero = 0;

    if (!topo)
        return;
    if (!take) {
        atomic_store(&topo->split_lock, 0);
        return;
    }
    while (!atomic_compare_exchange_weak(&topo->split_lock, &zero, 1)) {
        zero = 0;
        __builtin_ia32_pause();
    }
}

int rmw_open_slow(struct interp *in, uint64_t lin, unsigned size,
                  unsigned flags, struct rmw *m)
{
    bool lock = flags & RMW_LOCK;
    struct pieces ps;

    flags &= ~RMW_LOCK;
    if (access_check(in, lin, size, flags))
        return X86_FAULT;
    flags |= X86_LIN_WRITE;
    if (pieces_open(in, lin, size, flags, &ps))
        return X86_FAULT;
    note_bp(in, lin, size, true);
    m->lin = lin;
    m->size = size;
    m->flags = flags;
    m->gpa = ps.p[0].x.gpa;
    m->host = ps.n == 1 ? ps.p[0].x.host : NULL;
    m->watched = m->host && !ps.p[0].x.direct;
    m->split = lock && !m->host;
    if (m->split)
        split_lock(in, true);
    return 0;
}

uint64_t rmw_read_slow(struct interp *in, struct rmw *m)
{
    unsigned flags = (m->flags & ~X86_LIN_WRITE) | X86_LIN_READ;
    struct pieces ps;
    uint64_t v = 0;

    /* A page that may be written may be read: this cannot fault. */
    if (pieces_open(in, m->lin, m->size, flags, &ps))
        return 0;
    if (ps.n == 1 && !ps.p[0].x.host)
        return mmio_ld(in, ps.p[0].x.gpa, m->size);
    pieces_read(in, &ps, &v);
    return v;
}

int rmw_write_slow(struct interp *in, struct rmw *m, uint64_t val)
{
    struct pieces ps;
    int r = OP_NEXT;

    if (m->host) {
        watched_st(in, m->gpa, m->size, val);
        return is_code(in, m->host) ? OP_STOP : OP_NEXT;
    }
    if (!pieces_open(in, m->lin, m->size, m->flags, &ps)) {
        if (ps.n == 1 && !ps.p[0].x.host)
            mmio_st(in, ps.p[0].x.gpa, m->size, val);
        else
            r = pieces_write(in, &ps, &val);
    }
    rmw_close(in, m);
    return r;
}

void rmw_close(struct interp *in, struct rmw *m)
{
    if (m->split)
        split_lock(in, false);
    m->split = false;
}

static bool host_cas(uint8_t *p, unsigned size, uint64_t *old, uint64_t val)
{
    bool ok;

    switch (size) {
    case 8:
        asm volatile("lock cmpxchgq %[v], %[m]"
                     : [m] "+m"(*(host64_t *)(void *)p), "+a"(*old), "=@ccz"(ok)
                     : [v] "r"(val)
                     : "memory");
        break;
    case 4:
        asm volatile("lock cmpxchgl %k[v], %[m]"
                     : [m] "+m"(*(host32_t *)(void *)p), "+a"(*old), "=@ccz"(ok)
                     : [v] "r"(val)
                     : "memory");
        *old = (uint32_t)*old;
        break;
    case 2:
        asm volatile("lock cmpxchgw %w[v], %[m]"
                     : [m] "+m"(*(host16_t *)(void *)p), "+a"(*old), "=@ccz"(ok)
                     : [v] "r"(val)
                     : "memory");
        *old = (uint16_t)*old;
        break;
    default:
        asm volatile("lock cmpxchgb %b[v], %[m]"
                     : [m] "+m"(*p), "+a"(*old), "=@ccz"(ok)
                     : [v] "q"(val)
                     : "memory");
        *old = (uint8_t)*old;
        break;
    }
    return ok;
}

bool rmw_cas(struct interp *in, struct rmw *m, uint64_t *old, uint64_t val,
             int *r)
{
    struct mem *mem = in->cpu->vm->mem;
    struct mem_iov iov;
    bool ok;

    if (!m->host) { /* the split lock is held: nobody of our kind came between
                     */
        *r = rmw_write_slow(in, m, val);
        return true;
    }
    *r = is_code(in, m->host) ? OP_STOP : OP_NEXT;
    if (!m->watched)
        return host_cas(m->host, m->size, old, val);
    in->st.slow_stores++;
    if (mem_get(mem, m->gpa, m->size, MEM_WRITE, &iov, 1) != 1)
        return true;
    ok = host_cas(iov.hva, m->size, old, val);
    interp_leave(in);
    mem_put(mem, &iov, 1, ok);
    interp_enter(in);
    return ok;
}

/* ---- effective addresses, stack ---- */

uint64_t op_off(const struct interp *in, const struct op *o)
{
    const struct x86_cpu *cpu = in->cpu;
    uint64_t off = (uint64_t)(int64_t)o->disp;

    if (o->base < 16)
        off += cpu->gpr[o->base];
    else if (o->base == X86_REG_RIP)
        off += cpu->rip + o->len;
    else if (o->index == X86_REG_NONE)
        off = (uint64_t)o->insn->disp; /* moffs may have 64 bits */
    if (o->index != X86_REG_NONE)
        off += cpu->gpr[o->index] << o->scale;
    return off & size_mask(o->adsize);
}

int op_lin_gen(struct interp *in, const struct op *o, unsigned size, bool write,
               uint64_t *lin)
{
    return op_lin_at(in, o, op_off(in, o), size, write, lin);
}

int op_lin_at(struct interp *in, const struct op *o, uint64_t off,
              unsigned size, bool write, uint64_t *lin)
{
    gva_t va;

    if (in->mode64) {
        *lin = off;
        if (o->seg >= X86_SEG_FS)
            *lin += in->cpu->seg[o->seg].base;
        return 0;
    }
    if (x86_seg_check(in->cpu, o->seg, off, size, write, &va))
        return X86_FAULT;
    *lin = va.v;
    return 0;
}

int stack_lin(struct interp *in, uint64_t off, unsigned size, bool write,
              uint64_t *lin)
{
    gva_t va;

    if (x86_seg_check(in->cpu, X86_SEG_SS, off, size, write, &va))
        return X86_FAULT;
    *lin = va.v;
    return 0;
}

/* ---- cpu->lin ---- */

static int lin_open(struct interp *in, uint64_t lin, size_t len, unsigned flags,
                    struct pieces *ps)
{
    if (len > 8192)
        return x86_raise_err(in->cpu, X86_VEC_GP, 0);
    if (access_check(in, lin, len, flags))
        return X86_FAULT;
    return pieces_open(in, lin, len, flags, ps);
}

/* The entry that serves [lin, +len) with @flags, if the TLB has it. */
static const struct tlb_ent *lin_hit(struct interp *in, uint64_t lin,
                                     size_t len, unsigned flags)
{
    const struct tlb_ent *e;

    if (in->kind == TLB_NONE || len == 0 || len > 4096)
        return NULL;
    e = tlb_ent_of(in, tlb_kind_of(in, flags), lin);
    if ((flags & X86_LIN_WRITE ? e->w : e->r) !=
        tlb_tag(in, lin, (unsigned)len))
        return NULL;
    return e;
}

static int lin_read(void *ctx, gva_t va, void *buf, size_t len, unsigned flags)
{
    struct interp *in = ctx;
    const struct tlb_ent *e;
    struct pieces ps;

    flags &= ~X86_LIN_WRITE;
    e = lin_hit(in, va.v, len, flags);
    if (LIKELY(e)) {
        memcpy(buf, e->host + (va.v & 0xfff), len);
        return 0;
    }
    if (lin_open(in, va.v, len, flags, &ps))
        return X86_FAULT;
    pieces_read(in, &ps, buf);
    if (!(flags & X86_LIN_IMPLICIT))
        note_bp(in, va.v, len, false);
    return 0;
}

static int lin_write(void *ctx, gva_t va, const void *buf, size_t len,
                     unsigned flags)
{
    struct interp *in = ctx;
    const struct tlb_ent *e;
    struct pieces ps;

    flags |= X86_LIN_WRITE;
    e = lin_hit(in, va.v, len, flags);
    if (LIKELY(e)) {
        memcpy(e->host + (va.v & 0xfff), buf, len);
        in->lin_stop |= e->host == in->code_page;
        return 0;
    }
    if (lin_open(in, va.v, len, flags, &ps))
        return X86_FAULT;
    if (pieces_write(in, &ps, buf) == OP_STOP)
        in->lin_stop = true;
    if (!(flags & X86_LIN_IMPLICIT))
        note_bp(in, va.v, len, true);
    return 0;
}

static int lin_probe(void *ctx, gva_t va, size_t len, unsigned flags)
{
    struct pieces ps;

    return lin_open(ctx, va.v, len, flags, &ps);
}

const struct x86_lin_ops interp_lin_ops = {
    .read = lin_read,
    .write = lin_write,
    .probe = lin_probe,
    .flush = tlb_lin_flush,
    .root = tlb_lin_root,
    .mode = tlb_lin_mode,
};
