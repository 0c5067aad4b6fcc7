// SPDX-License-Identifier: Apache-2.0
/*
 * IN, OUT, INS, OUTS: rights by IOPL and the TSS's I/O map, then the port bus
 * through the input gate. Source: Intel SDM vol. 1 chapter 19.
 */
#include "engine/interp/string.h"

#include "cpu/x86/phys.h"

static uint32_t port_in(struct interp *in, uint16_t port, unsigned size)
{
    uint32_t v;

    if (UNLIKELY(in->slow))
        x86_check_io_bp(in->cpu, port, size, false);
    interp_leave(in);
    v = x86_pio_in(in->cpu, port, size);
    interp_enter(in);
    return v;
}

static void port_out(struct interp *in, uint16_t port, unsigned size,
                     uint32_t val)
{
    if (UNLIKELY(in->slow))
        x86_check_io_bp(in->cpu, port, size, true);
    interp_leave(in);
    x86_pio_out(in->cpu, port, val, size);
    interp_enter(in);
}

int op_in(struct interp *in, const struct op *o)
{
    const struct x86_opnd *d = &o->insn->opnd[0];
    uint64_t port;

    (void)opnd_rd(in, o, 1, &port);
    if (x86_io_check(in->cpu, (uint16_t)port, d->size))
        return X86_FAULT;
    reg_wr(in->cpu, X86_RAX, d->size, port_in(in, (uint16_t)port, d->size));
    return OP_STOP;
}

int op_out(struct interp *in, const struct op *o)
{
    const struct x86_opnd *s = &o->insn->opnd[1];
    uint64_t port;

    (void)opnd_rd(in, o, 0, &port);
    if (x86_io_check(in->cpu, (uint16_t)port, s->size))
        return X86_FAULT;
    port_out(in, (uint16_t)port, s->size,
             (uint32_t)reg_rd(in->cpu, X86_RAX, s->size));
    return OP_STOP;
}

/* The store must be possible before the port is read: a read can't be undone.
 */
int op_ins(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint16_t port = (uint16_t)cpu->gpr[X86_RDX];
    unsigned size = o->insn->opnd[0].size;
    uint64_t lin;
    struct str s;

    if (x86_io_check(cpu, port, size))
        return X86_FAULT;
    str_open(in, o, size, &s);
    while (s.count) {
        if (str_lin(in, X86_SEG_ES, str_off(in, &s, X86_RDI), size, true,
                    &lin) ||
            x86_lin_probe(cpu, lin, size, X86_LIN_WRITE))
            return X86_FAULT;
        if (mem_st(in, lin, size, 0, port_in(in, port, size)) < 0)
            return X86_FAULT;
        str_step(in, &s, X86_RDI, 1);
        str_done(in, &s, 1);
        if (str_pause(in, &s))
            return OP_AGAIN;
    }
    return OP_STOP;
}

int op_outs(struct interp *in, const struct op *o)
{
    struct x86_cpu *cpu = in->cpu;
    uint16_t port = (uint16_t)cpu->gpr[X86_RDX];
    unsigned size = o->insn->opnd[1].size;
    uint64_t lin, v;
    struct str s;

    if (x86_io_check(cpu, port, size))
        return X86_FAULT;
    str_open(in, o, size, &s);
    while (s.count) {
        if (str_lin(in, o->seg, str_off(in, &s, X86_RSI), size, false, &lin) ||
            mem_ld(in, lin, size, op_lin_flags(o), &v))
            return X86_FAULT;
        port_out(in, port, size, (uint32_t)v);
        str_step(in, &s, X86_RSI, 1);
        str_done(in, &s, 1);
        if (str_pause(in, &s))
            return OP_AGAIN;
    }
    return OP_STOP;
}
