// SPDX-License-Identifier: Apache-2.0
/*
 * From a decoded instruction to its handler, and the checks that stand before
 * many of them: CPUID features when the block is decoded, CPL, mode and control
 * register bits when it runs.
 */
#include "engine/interp/ops.h"

#include "cpu/x86/control.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/insn.h"
#include "engine/interp/vec.h"

/* ---- handlers of their own ---- */

int op_raise_ud(struct interp *in, const struct op *o)
{
    (void)o;
    return x86_raise(in->cpu, X86_VEC_UD);
}

int op_raise_gp(struct interp *in, const struct op *o)
{
    (void)o;
    return x86_raise_err(in->cpu, X86_VEC_GP, 0);
}

int op_nop(struct interp *in, const struct op *o)
{
    (void)in;
    (void)o;
    return OP_NEXT;
}

/* x87, MMX, SSE, AVX, and the instructions that save their state. */
int op_vec(struct interp *in, const struct op *o)
{
    in->lin_stop = false;
    if (interp_vec_gate(in->cpu, o->insn) || interp_vec_exec(in->cpu, o->insn))
        return X86_FAULT;
    return in->lin_stop ? OP_STOP : OP_NEXT;
}

/* ---- checks by attribute ---- */

#define GATED (XA_PRIV | XA_PRIVUD | XA_PROT | XA_UMIP | XA_TSD)

static bool real_or_v86(const struct x86_cpu *cpu)
{
    return !(cpu->cr0 & X86_CR0_PE) || (cpu->rflags & X86_FL_VM);
}

int op_gated(struct interp *in, const struct op *o)
{
    uint64_t attr = x86_form_info(o->insn->form)->attr;
    struct x86_cpu *cpu = in->cpu;

    if ((attr & XA_PROT) && real_or_v86(cpu))
        return x86_raise(cpu, X86_VEC_UD);
    if ((attr & XA_PRIV) && cpu->cpl != 0)
        return attr & XA_PRIVUD ? x86_raise(cpu, X86_VEC_UD)
                                : x86_raise_err(cpu, X86_VEC_GP, 0);
    if ((attr & XA_UMIP) && x86_umip_check(cpu))
        return X86_FAULT;
    if ((attr & XA_TSD) && cpu->cpl != 0 && (cpu->cr4 & X86_CR4_TSD))
        return x86_raise_err(cpu, X86_VEC_GP, 0);
    return op_generic(o->insn)(in, o);
}

/* ---- the table ---- */

static op_fn mov_fn(const struct x86_insn *insn)
{
    unsigned d = insn->opnd[0].kind, s = insn->opnd[1].kind;

    if (d == X86_OPND_CR || s == X86_OPND_CR)
        return op_mov_cr;
    if (d == X86_OPND_DR || s == X86_OPND_DR)
        return op_mov_dr;
    if (d == X86_OPND_SEG)
        return op_mov_sreg;
    if (s == X86_OPND_SEG)
        return op_mov_from_sreg;
    return op_mov;
}

/* clang-format off */
static const op_fn table[X86_OP_COUNT] = {
    [X86_OP_ADD] = op_rmw2, [X86_OP_OR] = op_rmw2, [X86_OP_ADC] = op_rmw2,
    [X86_OP_SBB] = op_rmw2, [X86_OP_AND] = op_rmw2, [X86_OP_SUB] = op_rmw2,
    [X86_OP_XOR] = op_rmw2, [X86_OP_CMP] = op_cmp, [X86_OP_TEST] = op_test,
    [X86_OP_ROL] = op_rotate, [X86_OP_ROR] = op_rotate, [X86_OP_RCL] = op_rmw2,
    [X86_OP_RCR] = op_rmw2, [X86_OP_SHL] = op_rmw2, [X86_OP_SHR] = op_rmw2,
    [X86_OP_SAR] = op_rmw2, [X86_OP_INC] = op_rmw1, [X86_OP_DEC] = op_rmw1,
    [X86_OP_NEG] = op_rmw1, [X86_OP_NOT] = op_rmw1, [X86_OP_XADD] = op_xadd,
    [X86_OP_XCHG] = op_xchg, [X86_OP_CMPXCHG] = op_cmpxchg,
    [X86_OP_CMPXCHG8B] = op_cmpxchg8b, [X86_OP_CMPXCHG16B] = op_cmpxchg16b,

    [X86_OP_MUL] = op_mul, [X86_OP_IMUL] = op_imul, [X86_OP_DIV] = op_div,
    [X86_OP_IDIV] = op_idiv, [X86_OP_AAM] = op_aam, [X86_OP_AAD] = op_aad,
    [X86_OP_AAA] = op_aaa, [X86_OP_AAS] = op_aas, [X86_OP_DAA] = op_daa,
    [X86_OP_DAS] = op_das,

    [X86_OP_BT] = op_bt, [X86_OP_BTS] = op_bt, [X86_OP_BTR] = op_bt,
    [X86_OP_BTC] = op_bt, [X86_OP_BSF] = op_bit_scan,
    [X86_OP_BSR] = op_bit_scan, [X86_OP_TZCNT] = op_bit_scan,
    [X86_OP_LZCNT] = op_bit_scan, [X86_OP_POPCNT] = op_bit_scan,
    [X86_OP_SHLD] = op_shd, [X86_OP_SHRD] = op_shd,
    [X86_OP_ANDN] = op_bmi2src, [X86_OP_BEXTR] = op_bmi2src,
    [X86_OP_BZHI] = op_bmi2src, [X86_OP_PDEP] = op_bmi2src,
    [X86_OP_PEXT] = op_bmi2src, [X86_OP_BLSR] = op_bls,
    [X86_OP_BLSMSK] = op_bls, [X86_OP_BLSI] = op_bls, [X86_OP_RORX] = op_rorx,
    [X86_OP_SHLX] = op_shiftx, [X86_OP_SHRX] = op_shiftx,
    [X86_OP_SARX] = op_shiftx, [X86_OP_MULX] = op_mulx,
    [X86_OP_ADCX] = op_adx, [X86_OP_ADOX] = op_adx, [X86_OP_CRC32] = op_crc32,

    [X86_OP_MOVZX] = op_movzx, [X86_OP_MOVSX] = op_movsx,
    [X86_OP_MOVSXD] = op_movsx, [X86_OP_MOVBE] = op_movbe,
    [X86_OP_MOVNTI] = op_mov, [X86_OP_MOVDIRI] = op_mov,
    [X86_OP_MOVDIR64B] = op_movdir64b,
    [X86_OP_BSWAP] = op_bswap, [X86_OP_LEA] = op_lea, [X86_OP_XLAT] = op_xlat,
    [X86_OP_CBW] = op_cbw, [X86_OP_CWD] = op_cwd, [X86_OP_LAHF] = op_lahf,
    [X86_OP_SAHF] = op_sahf, [X86_OP_CLC] = op_flag, [X86_OP_STC] = op_flag,
    [X86_OP_CMC] = op_flag, [X86_OP_CLD] = op_flag, [X86_OP_STD] = op_flag,
    [X86_OP_SALC] = op_salc, [X86_OP_LDS] = op_load_far,
    [X86_OP_LES] = op_load_far, [X86_OP_LFS] = op_load_far,
    [X86_OP_LGS] = op_load_far, [X86_OP_LSS] = op_load_far,
    [X86_OP_BOUND] = op_bound, [X86_OP_ARPL] = op_arpl,
#define CC(cc)                                                                 \
    [X86_OP_J##cc] = op_jcc, [X86_OP_SET##cc] = op_setcc,                      \
    [X86_OP_CMOV##cc] = op_cmov
    CC(O), CC(NO), CC(B), CC(AE), CC(E), CC(NE), CC(BE), CC(A), CC(S), CC(NS),
    CC(P), CC(NP), CC(L), CC(GE), CC(LE), CC(G),
#undef CC

    [X86_OP_PUSH] = op_push, [X86_OP_POP] = op_pop, [X86_OP_PUSHA] = op_pusha,
    [X86_OP_POPA] = op_popa, [X86_OP_PUSHF] = op_pushf,
    [X86_OP_POPF] = op_popf, [X86_OP_ENTER] = op_enter,
    [X86_OP_LEAVE] = op_leave,

    [X86_OP_JCXZ] = op_jcxz, [X86_OP_LOOP] = op_loop,
    [X86_OP_LOOPE] = op_loop, [X86_OP_LOOPNE] = op_loop,
    [X86_OP_JMP] = op_jmp, [X86_OP_CALL] = op_call, [X86_OP_RET] = op_ret,
    [X86_OP_JMPF] = op_jmpf, [X86_OP_CALLF] = op_callf,
    [X86_OP_RETF] = op_retf, [X86_OP_INT] = op_int_n, [X86_OP_INT3] = op_int3,
    [X86_OP_INT1] = op_int1, [X86_OP_INTO] = op_into, [X86_OP_IRET] = op_iret,
    [X86_OP_SYSCALL] = op_syscall, [X86_OP_SYSRET] = op_sysret,
    [X86_OP_SYSENTER] = op_sysenter, [X86_OP_SYSEXIT] = op_sysexit,

    [X86_OP_MOVS] = op_movs, [X86_OP_STOS] = op_stos, [X86_OP_LODS] = op_lods,
    [X86_OP_CMPS] = op_cmps, [X86_OP_SCAS] = op_scas, [X86_OP_INS] = op_ins,
    [X86_OP_OUTS] = op_outs, [X86_OP_IN] = op_in, [X86_OP_OUT] = op_out,

    [X86_OP_LMSW] = op_lmsw, [X86_OP_SMSW] = op_smsw, [X86_OP_CLTS] = op_clts,
    [X86_OP_SGDT] = op_sgdt, [X86_OP_SIDT] = op_sgdt, [X86_OP_LGDT] = op_lgdt,
    [X86_OP_LIDT] = op_lgdt, [X86_OP_SLDT] = op_sldt, [X86_OP_STR] = op_sldt,
    [X86_OP_LLDT] = op_lldt, [X86_OP_LTR] = op_lldt, [X86_OP_VERR] = op_ver,
    [X86_OP_VERW] = op_ver, [X86_OP_LAR] = op_lar, [X86_OP_LSL] = op_lar,
    [X86_OP_INVLPG] = op_invlpg, [X86_OP_INVPCID] = op_invpcid,
    [X86_OP_WBINVD] = op_wbinvd, [X86_OP_INVD] = op_wbinvd,
    [X86_OP_WBNOINVD] = op_wbinvd, [X86_OP_XGETBV] = op_xgetbv,
    [X86_OP_XSETBV] = op_xsetbv, [X86_OP_SWAPGS] = op_swapgs,
    [X86_OP_HLT] = op_hlt, [X86_OP_CLI] = op_cli, [X86_OP_STI] = op_sti,
    [X86_OP_CLAC] = op_clac, [X86_OP_STAC] = op_clac,

    [X86_OP_CPUID] = op_cpuid, [X86_OP_RDTSC] = op_rdtsc,
    [X86_OP_RDTSCP] = op_rdtscp, [X86_OP_RDPID] = op_rdpid,
    [X86_OP_RDPMC] = op_rdpmc, [X86_OP_RDMSR] = op_rdmsr,
    [X86_OP_WRMSR] = op_wrmsr, [X86_OP_RDRAND] = op_rdrand,
    [X86_OP_RDSEED] = op_rdrand, [X86_OP_RDFSBASE] = op_fsgsbase,
    [X86_OP_RDGSBASE] = op_fsgsbase, [X86_OP_WRFSBASE] = op_fsgsbase,
    [X86_OP_WRGSBASE] = op_fsgsbase, [X86_OP_CLFLUSH] = op_clflush,
    [X86_OP_CLFLUSHOPT] = op_clflush, [X86_OP_CLWB] = op_clflush,
    [X86_OP_LFENCE] = op_fence, [X86_OP_MFENCE] = op_fence,
    [X86_OP_SFENCE] = op_fence, [X86_OP_SERIALIZE] = op_fence,
    [X86_OP_PAUSE] = op_pause, [X86_OP_RDPKRU] = op_pkru,
    [X86_OP_WRPKRU] = op_pkru,

    [X86_OP_NOP] = op_nop, [X86_OP_ENDBR64] = op_nop,
    [X86_OP_ENDBR32] = op_nop, [X86_OP_PREFETCHW] = op_nop,
    [X86_OP_PREFETCHWT1] = op_nop, [X86_OP_PREFETCHNTA] = op_nop,
    [X86_OP_PREFETCHT0] = op_nop, [X86_OP_PREFETCHT1] = op_nop,
    [X86_OP_PREFETCHT2] = op_nop, [X86_OP_CLDEMOTE] = op_nop,
};
/* clang-format on */

op_fn op_generic(const struct x86_insn *insn)
{
    if (interp_vec_has(insn->form))
        return op_vec;
    if (insn->op == X86_OP_MOV)
        return mov_fn(insn);
    return table[insn->op] ? table[insn->op] : op_raise_ud;
}

/* Those whose #UD conditions come before the privilege check, which cpu/x86
 * makes in the right order. */
static bool checks_itself(op_fn fn)
{
    return fn == op_mov_cr || fn == op_mov_dr || fn == op_sysret ||
           fn == op_xsetbv;
}

void op_select(struct interp *in, const struct x86_insn *insn, struct op *o)
{
    const struct x86_form_info *info = x86_form_info(insn->form);
    uint64_t gates;
    op_fn fast;

    if (info->feat != X86_FEAT_BASE &&
        !x86_cpuid_has(in->cpu->cpuid, info->feat)) {
        if (info->attr & XA_NOPIF) {
            o->fn = op_nop;
            return;
        }
        if (!(info->attr & XA_ALTIF)) {
            o->fn = op_raise_ud;
            return;
        }
        o->cc = OP_ALT;
    }
    if (info->attr & XA_UD) {
        o->fn = op_raise_ud;
        return;
    }
    gates = info->attr & GATED;
    if (in->mode64)
        gates &= ~XA_PROT;
    o->fn = op_generic(insn);
    if (gates && !checks_itself(o->fn))
        o->fn = op_gated;
    if (gates || o->cc == OP_ALT)
        return;
    fast = op_fast(insn, o, in->mode64);
    if (fast)
        o->fn = fast;
    else
        o->size = insn->opsize;
}
