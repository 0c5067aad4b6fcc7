// SPDX-License-Identifier: Apache-2.0
/*
 * What nearly every handler does: registers, effective addresses, loads,
 * stores, read-modify-writes and the stack; the fast ways, inline.
 *
 * An aligned access of up to 8 bytes inside a page is one host access of that
 * size, hence single-copy atomic (SDM vol. 3A 8.1.1). The tag compare is made
 * with the page of the access's last byte in the slot of its first: an access
 * that crosses a page never matches.
 */
#ifndef DOPPEL_ENGINE_INTERP_ACCESS_H
#define DOPPEL_ENGINE_INTERP_ACCESS_H

#include "cpu/x86/paging.h"
#include "cpu/x86/segmentation.h"
#include "engine/interp/priv.h"

#define PAGE_MASK (~UINT64_C(0xfff))

typedef uint16_t ANY_ALIGN host16_t;
typedef uint32_t ANY_ALIGN host32_t;
typedef uint64_t ANY_ALIGN host64_t;

/* ---- host memory ---- */

/* One host instruction each, in program order: asm, so that no compiler splits,
 * joins or repeats it, and no sanitizer takes the guest's races for ours. */
static ALWAYS_INLINE uint64_t host_ld(const uint8_t *p, unsigned size)
{
    uint64_t v;

    switch (size) {
    case 8:
        asm volatile("movq %1, %0" : "=r"(v) : "m"(*(const host64_t *)p));
        break;
    case 4:
        asm volatile("movl %1, %k0" : "=r"(v) : "m"(*(const host32_t *)p));
        break;
    case 2:
        asm volatile("movzwl %1, %k0" : "=r"(v) : "m"(*(const host16_t *)p));
        break;
    default:
        asm volatile("movzbl %1, %k0" : "=r"(v) : "m"(*p));
        break;
    }
    return v;
}

static ALWAYS_INLINE void host_st(uint8_t *p, unsigned size, uint64_t val)
{
    switch (size) {
    case 8:
        asm volatile("movq %1, %0" : "=m"(*(host64_t *)p) : "re"(val));
        break;
    case 4:
        asm volatile("movl %k1, %0" : "=m"(*(host32_t *)p) : "r"(val));
        break;
    case 2:
        asm volatile("movw %w1, %0" : "=m"(*(host16_t *)p) : "r"(val));
        break;
    default:
        asm volatile("movb %b1, %0" : "=m"(*p) : "q"(val));
        break;
    }
}

/* ---- registers ---- */

static ALWAYS_INLINE uint64_t size_mask(unsigned size)
{
    return ~UINT64_C(0) >> (64 - 8 * size);
}

static ALWAYS_INLINE uint64_t reg_rd(const struct x86_cpu *cpu, unsigned r,
                                     unsigned size)
{
    switch (size) {
    case 8:
        return cpu->gpr[r];
    case 4:
        return (uint32_t)cpu->gpr[r];
    case 2:
        return (uint16_t)cpu->gpr[r];
    default:
        return (uint8_t)(cpu->gpr[r & 15] >> (r & REG_HIGH ? 8 : 0));
    }
}

static ALWAYS_INLINE void reg_wr(struct x86_cpu *cpu, unsigned r, unsigned size,
                                 uint64_t v)
{
    switch (size) {
    case 8:
        cpu->gpr[r] = v;
        break;
    case 4:
        cpu->gpr[r] = (uint32_t)v;
        break;
    case 2:
        cpu->gpr[r] = (cpu->gpr[r] & ~UINT64_C(0xffff)) | (uint16_t)v;
        break;
    default:
        if (r & REG_HIGH)
            cpu->gpr[r & 15] = (cpu->gpr[r & 15] & ~UINT64_C(0xff00)) |
                               (uint64_t)(uint8_t)v << 8;
        else
            cpu->gpr[r] = (cpu->gpr[r] & ~UINT64_C(0xff)) | (uint8_t)v;
        break;
    }
}

/* ---- effective addresses ---- */

/** op_off() - the memory operand's effective address, before its segment */
uint64_t op_off(const struct interp *in, const struct op *o);
/** op_lin_at() - the linear address of effective address @off in its segment */
int op_lin_at(struct interp *in, const struct op *o, uint64_t off,
              unsigned size, bool write, uint64_t *lin);
int op_lin_gen(struct interp *in, const struct op *o, unsigned size, bool write,
               uint64_t *lin);

/** op_lin() - the memory operand's linear address
 * @size, @write: of the access, for the limit check. Return: 0 or fault. */
static ALWAYS_INLINE int op_lin(struct interp *in, const struct op *o,
                                unsigned size, bool write, uint64_t *lin)
{
    const struct x86_cpu *cpu = in->cpu;

    switch (o->ea) {
    case EA_BASE:
        *lin = cpu->gpr[o->base] + (uint64_t)(int64_t)o->disp;
        return 0;
    case EA_INDEX:
        *lin = cpu->gpr[o->base] + (cpu->gpr[o->index] << o->scale) +
               (uint64_t)(int64_t)o->disp;
        return 0;
    case EA_RIP:
        *lin = cpu->rip + o->len + (uint64_t)(int64_t)o->disp;
        return 0;
    default:
        return op_lin_gen(in, o, size, write, lin);
    }
}

static ALWAYS_INLINE unsigned op_lin_flags(const struct op *o)
{
    return o->seg == X86_SEG_SS ? X86_LIN_STACK : 0;
}

/* ---- loads and stores ---- */

static ALWAYS_INLINE struct tlb_ent *tlb_slot(struct interp *in, uint64_t lin)
{
    return &in->tlb[tlb_index(in, lin)];
}

static ALWAYS_INLINE uint64_t tlb_tag(const struct interp *in, uint64_t lin,
                                      unsigned size)
{
    return ((lin + size - 1) & PAGE_MASK) | in->gen[lin >> 63];
}

/** mem_ld() - load @size (1 2 4 8) bytes at @lin, zero-extended
 * @flags: X86_LIN_STACK or 0. Return: 0 or X86_FAULT. */
static ALWAYS_INLINE int mem_ld(struct interp *in, uint64_t lin, unsigned size,
                                unsigned flags, uint64_t *val)
{
    const struct tlb_ent *e = tlb_slot(in, lin);

    if (LIKELY(e->r == tlb_tag(in, lin, size))) {
        *val = host_ld(e->host + (lin & 0xfff), size);
        return 0;
    }
    return mem_ld_slow(in, lin, size, flags, val);
}

/** mem_st() - store; Return: 0, OP_STOP (the running block's page was written)
 * or X86_FAULT (nothing was written). */
static ALWAYS_INLINE int mem_st(struct interp *in, uint64_t lin, unsigned size,
                                unsigned flags, uint64_t val)
{
    const struct tlb_ent *e = tlb_slot(in, lin);

    if (LIKELY(e->w == tlb_tag(in, lin, size))) {
        host_st(e->host + (lin & 0xfff), size, val);
        return UNLIKELY(e->host == in->code_page) ? OP_STOP : OP_NEXT;
    }
    return mem_st_slow(in, lin, size, flags, val);
}

/** rmw_open() - begin a read-modify-write: raises what the write would raise */
static ALWAYS_INLINE int rmw_open(struct interp *in, uint64_t lin,
                                  unsigned size, unsigned flags, struct rmw *m)
{
    const struct tlb_ent *e = tlb_slot(in, lin);

    if (LIKELY(e->w == tlb_tag(in, lin, size))) {
        m->host = e->host + (lin & 0xfff);
        m->size = size;
        m->watched = false;
        m->split = false;
        return 0;
    }
    return rmw_open_slow(in, lin, size, flags, m);
}

static ALWAYS_INLINE uint64_t rmw_read(struct interp *in, struct rmw *m)
{
    return LIKELY(m->host != NULL) ? host_ld(m->host, m->size)
                                   : rmw_read_slow(in, m);
}

/** rmw_write() - end it with a plain store. Return: 0 or OP_STOP. */
static ALWAYS_INLINE int rmw_write(struct interp *in, struct rmw *m,
                                   uint64_t val)
{
    if (LIKELY(m->host && !m->watched)) {
        host_st(m->host, m->size, val);
        return UNLIKELY((uint8_t *)((uintptr_t)m->host & PAGE_MASK) ==
                        in->code_page)
                   ? OP_STOP
                   : OP_NEXT;
    }
    return rmw_write_slow(in, m, val);
}

/** rmw_xchg() - end it with a compare-exchange against *old, atomically
 * *old is the value found when it fails (false). *r: 0 or OP_STOP. */
bool rmw_cas(struct interp *in, struct rmw *m, uint64_t *old, uint64_t val,
             int *r);
/** rmw_close() - end it without a write (the split lock is released) */
void rmw_close(struct interp *in, struct rmw *m);

/* ---- the stack ---- */

int stack_lin(struct interp *in, uint64_t off, unsigned size, bool write,
              uint64_t *lin);

/** stack_push() - store below rSP, then move rSP; Return: as mem_st */
static ALWAYS_INLINE int stack_push(struct interp *in, unsigned size,
                                    uint64_t val)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t mask, sp, lin;
    int r;

    if (LIKELY(in->mode64)) {
        lin = cpu->gpr[X86_RSP] - size;
        r = mem_st(in, lin, size, X86_LIN_STACK, val);
        if (LIKELY(r >= 0))
            cpu->gpr[X86_RSP] = lin;
        return r;
    }
    mask = x86_stack_mask(cpu);
    sp = (cpu->gpr[X86_RSP] - size) & mask;
    r = stack_lin(in, sp, size, true, &lin);
    if (r)
        return r;
    r = mem_st(in, lin, size, X86_LIN_STACK, val);
    if (r >= 0)
        cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~mask) | sp;
    return r;
}

/** stack_peek() - load at rSP + @skip; rSP stays */
static ALWAYS_INLINE int stack_peek(struct interp *in, uint64_t skip,
                                    unsigned size, uint64_t *val)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t lin;
    int r;

    if (LIKELY(in->mode64))
        return mem_ld(in, cpu->gpr[X86_RSP] + skip, size, X86_LIN_STACK, val);
    r = stack_lin(in, (cpu->gpr[X86_RSP] + skip) & x86_stack_mask(cpu), size,
                  false, &lin);
    if (r)
        return r;
    return mem_ld(in, lin, size, X86_LIN_STACK, val);
}

/** stack_drop() - rSP += @n in the stack's width */
static ALWAYS_INLINE void stack_drop(struct interp *in, uint64_t n)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t mask;

    if (LIKELY(in->mode64)) {
        cpu->gpr[X86_RSP] += n;
        return;
    }
    mask = x86_stack_mask(cpu);
    cpu->gpr[X86_RSP] =
        (cpu->gpr[X86_RSP] & ~mask) | ((cpu->gpr[X86_RSP] + n) & mask);
}

/* ---- branches ---- */

/** branch_to() - set rip to a near target of @opsize
 * Return: OP_JUMP; X86_FAULT: #GP(0), not canonical or past CS's limit. */
static ALWAYS_INLINE int branch_to(struct interp *in, uint64_t target,
                                   unsigned opsize)
{
    struct x86_cpu *cpu = in->cpu;

    if (LIKELY(in->mode64)) {
        if (UNLIKELY(!x86_canonical(target)))
            return x86_raise_err(cpu, X86_VEC_GP, 0);
        cpu->rip = target;
        return OP_JUMP;
    }
    target &= opsize == 2 ? 0xffff : 0xffffffff;
    if (UNLIKELY(target > cpu->seg[X86_SEG_CS].limit))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    cpu->rip = target;
    return OP_JUMP;
}

/* Advance past @o without a jump, outside 64-bit mode within 32 bits. */
static ALWAYS_INLINE uint64_t rip_next(const struct interp *in,
                                       const struct op *o)
{
    uint64_t rip = in->cpu->rip + o->len;

    return in->mode64 ? rip : (uint32_t)rip;
}

#endif
