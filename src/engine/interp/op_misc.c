// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID, time stamps, MSRs, random numbers, FS and GS bases, cache hints,
 * fences. Source: Intel SDM vol. 2.
 */
#include "engine/interp/ops.h"

#include "cpu/x86/control.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/msr.h"

int op_cpuid(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint32_t r[4];

    (void)o;
    x86_cpuid_query(cpu, (uint32_t)cpu->gpr[X86_RAX],
                    (uint32_t)cpu->gpr[X86_RCX], r);
    cpu->gpr[X86_RAX] = r[0];
    cpu->gpr[X86_RBX] = r[1];
    cpu->gpr[X86_RCX] = r[2];
    cpu->gpr[X86_RDX] = r[3];
    return OP_NEXT;
}

/* ---- time stamps, counters ---- */

static void edx_eax(struct x86_cpu *cpu, uint64_t v)
{
    cpu->gpr[X86_RAX] = (uint32_t)v;
    cpu->gpr[X86_RDX] = v >> 32;
}

int op_rdtsc(struct interp *in, const struct op *o)
{
    uint64_t v;

    (void)o;
    sys_begin(in);
    if (x86_rdtsc(in->cpu, &v))
        return X86_FAULT;
    edx_eax(in->cpu, v);
    return OP_NEXT;
}

int op_rdtscp(struct interp *in, const struct op *o)
{
    uint32_t aux;
    uint64_t v;

    (void)o;
    sys_begin(in);
    if (x86_rdtscp(in->cpu, &v, &aux))
        return X86_FAULT;
    edx_eax(in->cpu, v);
    in->cpu->gpr[X86_RCX] = aux;
    return OP_NEXT;
}

int op_rdpid(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];

    in->cpu->gpr[d->reg] = in->cpu->msr.tsc_aux;
    return OP_NEXT;
}

int op_rdpmc(struct interp *in, const struct op *o)
{
    uint64_t v;

    (void)o;
    if (x86_rdpmc(in->cpu, (uint32_t)in->cpu->gpr[X86_RCX], &v))
        return X86_FAULT;
    edx_eax(in->cpu, v);
    return OP_NEXT;
}

/* ---- MSRs ---- */

int op_rdmsr(struct interp *in, const struct op *o)
{
    uint64_t v;

    (void)o;
    sys_begin(in);
    if (x86_rdmsr(in->cpu, (uint32_t)in->cpu->gpr[X86_RCX], &v))
        return X86_FAULT;
    edx_eax(in->cpu, v);
    return OP_NEXT;
}

int op_wrmsr(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint64_t v = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];

    (void)o;
    sys_begin(in);
    if (x86_wrmsr(cpu, (uint32_t)cpu->gpr[X86_RCX], v))
        return X86_FAULT;
    return sys_end(in, OP_STOP);
}

/* ---- random numbers ---- */

/* The host's RDRAND; it may run dry for a moment. */
static bool host_random(uint64_t *v)
{
    bool ok = false;

    for (unsigned i = 0; i < 16 && !ok; i++)
        asm volatile("rdrand %0" : "=r"(*v), "=@ccc"(ok));
    return ok;
}

/* Virtual clock: a fixed sequence (SplitMix64; Steele, Lea, Flood, OOPSLA
 * 2014), so that runs repeat. Else the host CPU's, or, on one that has none,
 * the same sequence from a seed of the host kernel's. */
static uint64_t random_value(struct interp *in)
{
    uint64_t z;

    if (in->host_rdrand && host_random(&z))
        return z;
    z = (in->rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* RDRAND, RDSEED: always successful. */
int op_rdrand(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    struct x86_cpu *cpu = in->cpu;
    uint64_t v = input_value(&cpu->vm->gate, INPUT_RANDOM, cpu->index, 0,
                             random_value(in), cpu->icount);

    reg_wr(cpu, d->reg, d->size, v);
    cpu->rflags = (cpu->rflags & ~X86_FL_ARITH) | X86_FL_CF;
    return OP_NEXT;
}

/* ---- RDFSBASE RDGSBASE WRFSBASE WRGSBASE ---- */

int op_fsgsbase(struct interp *in, const struct op *o)
{
    const struct x86_opnd *p = &o->insn->opnd[0];
    unsigned op = o->insn->op;
    struct x86_cpu *cpu = in->cpu;
    bool fs = op == X86_OP_RDFSBASE || op == X86_OP_WRFSBASE;
    struct x86_seg *seg = &cpu->seg[fs ? X86_SEG_FS : X86_SEG_GS];
    uint64_t v;

    if (!(cpu->cr4 & X86_CR4_FSGSBASE))
        return x86_raise(cpu, X86_VEC_UD);
    if (op == X86_OP_RDFSBASE || op == X86_OP_RDGSBASE) {
        reg_wr(cpu, p->reg, p->size, seg->base);
        return OP_NEXT;
    }
    v = reg_rd(cpu, p->reg, p->size);
    if (!x86_canonical(v))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    seg->base = v;
    return OP_NEXT;
}

/* ---- caches, fences, hints ---- */

/* CLFLUSH and kin: faults as a load of a byte does. */
int op_clflush(struct interp *in, const struct op *o)
{
    uint64_t lin;

    if (op_lin(in, o, 1, false, &lin))
        return X86_FAULT;
    return x86_lin_probe(in->cpu, lin, 1, X86_LIN_READ | op_lin_flags(o));
}

int op_fence(struct interp *in, const struct op *o)
{
    (void)in;
    (void)o;
    atomic_thread_fence(memory_order_seq_cst);
    return OP_NEXT;
}

int op_pause(struct interp *in, const struct op *o)
{
    (void)in;
    (void)o;
    __builtin_ia32_pause();
    return OP_NEXT;
}

int op_pkru(struct interp *in, const struct op *o)
{
    uint64_t v;

    if (o->insn->op == X86_OP_WRPKRU)
        return x86_wrpkru(in->cpu, (uint32_t)in->cpu->gpr[X86_RAX])
                   ? X86_FAULT
                   : sys_end(in, OP_STOP);
    if (x86_rdpkru(in->cpu, &v))
        return X86_FAULT;
    edx_eax(in->cpu, v);
    return OP_NEXT;
}
