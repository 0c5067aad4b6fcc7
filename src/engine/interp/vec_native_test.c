// SPDX-License-Identifier: Apache-2.0
/*
 * Every vector form of the table, encoded with random operands and run on
 * random state twice: by interp_vec_exec() and by this CPU itself, from memory
 * that may be executed. Registers, flags, MXCSR, the x87 environment, memory
 * and the exception must agree. Forms that the CPU lacks must be #UD both ways.
 * Guest linear addresses are this process's own.
 */
#include "engine/interp/vec.h"

#include "base/test.h"
#include "cpu/x86/exceptions.h"
#include "cpu/x86/insn.h"
#include "engine/interp/vec_int.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

/* --- running natively --- */

/* What the CPU starts from and ends with; the assembler knows the offsets. */
struct nat {
    uint64_t gpr[16]; /* rsp isn't loaded */
    uint64_t rflags;
    uint64_t host_rsp;
    void *code;
    uint32_t host_mxcsr;
    int signo;
    int trapno;
    uint8_t pad[28];
    uint8_t xs[X86_XSAVE_BYTES] ALIGNED(64);
};
_Static_assert(offsetof(struct nat, xs) == 192, "assembler below");

struct nat nat ALIGNED(64);
void nat_run(void);
void nat_back(void);

__asm__(".text\n"
        ".globl nat_run, nat_back\n"
        "nat_run:\n"
        "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "  stmxcsr nat+152(%rip)\n"
        "  movq %rsp, nat+136(%rip)\n"
        "  movl $7, %eax; xorl %edx, %edx\n"
        "  xrstor64 nat+192(%rip)\n"
        "  leaq nat(%rip), %rdi\n"
        "  pushq 128(%rdi); popfq\n"
        "  movq 0(%rdi), %rax; movq 8(%rdi), %rcx; movq 16(%rdi), %rdx\n"
        "  movq 24(%rdi), %rbx; movq 40(%rdi), %rbp; movq 48(%rdi), %rsi\n"
        "  movq 64(%rdi), %r8; movq 72(%rdi), %r9; movq 80(%rdi), %r10\n"
        "  movq 88(%rdi), %r11; movq 96(%rdi), %r12; movq 104(%rdi), %r13\n"
        "  movq 112(%rdi), %r14; movq 120(%rdi), %r15\n"
        "  movq 56(%rdi), %rdi\n"
        "  jmp *nat+144(%rip)\n"
        "nat_back:\n"
        "  movq %rdi, nat+56(%rip)\n"
        "  leaq nat(%rip), %rdi\n"
        "  movq %rax, 0(%rdi); movq %rcx, 8(%rdi); movq %rdx, 16(%rdi)\n"
        "  movq %rbx, 24(%rdi); movq %rbp, 40(%rdi); movq %rsi, 48(%rdi)\n"
        "  movq %r8, 64(%rdi); movq %r9, 72(%rdi); movq %r10, 80(%rdi)\n"
        "  movq %r11, 88(%rdi); movq %r12, 96(%rdi); movq %r13, 104(%rdi)\n"
        "  movq %r14, 112(%rdi); movq %r15, 120(%rdi)\n"
        "  movq nat+136(%rip), %rsp\n"
        "  pushfq; popq 128(%rdi)\n"
        "  pushq $0x202; popfq\n" /* AC may be set */
        "  movl $7, %eax; xorl %edx, %edx\n"
        "  movq $0, 192+512(%rdi)\n"
        "  xsave64 192(%rdi)\n"
        "  fninit; vzeroupper; ldmxcsr 152(%rdi)\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "  ret\n");

static uint8_t *code_page; /* executable */
static uint8_t *data_page; /* followed by what can't be touched */
#define DATA_BYTES  4096
#define GUARD_BYTES (16 * MIB)

static void nat_signal(int signo, siginfo_t *info, void *ucontext)
{
    greg_t *r = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    uint64_t rip = (uint64_t)r[REG_RIP];

    (void)info;
    if (interp_vec_signal(signo, ucontext))
        return;
    if (rip < (uintptr_t)code_page || rip >= (uintptr_t)code_page + 4096)
        _exit(99);
    nat.signo = signo;
    nat.trapno = (int)r[REG_TRAPNO];
    r[REG_RIP] = (greg_t)(uintptr_t)nat_back;
}

static bool nat_init(void)
{
    static const int sigs[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
    struct sigaction sa = {.sa_sigaction = nat_signal,
                           .sa_flags = SA_SIGINFO | SA_NODEFER};

    code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_page = mmap(NULL, DATA_BYTES + GUARD_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code_page == MAP_FAILED || data_page == MAP_FAILED)
        return false;
    if (mprotect(data_page, DATA_BYTES, PROT_READ | PROT_WRITE))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(sigs); i++)
        sigaction(sigs[i], &sa, NULL);
    return __builtin_cpu_supports("avx");
}

/* --- the guest's memory: this process's data page --- */

static int lin_check(struct x86_cpu *cpu, gva_t va, size_t len, unsigned flags)
{
    uint64_t base = (uintptr_t)data_page;

    /* the rule of the interpreter's access layer */
    if ((cpu->rflags & X86_FL_AC) && !(flags & X86_LIN_NOALIGN) && len <= 8 &&
        !(len & (len - 1)) && (va.v & (len - 1)))
        return x86_raise_err(cpu, X86_VEC_AC, 0);
    if (va.v >= base && va.v + len <= base + DATA_BYTES)
        return 0;
    return x86_raise_pf(cpu, va, flags & X86_LIN_WRITE ? 6 : 4);
}

static int lin_read(void *ctx, gva_t va, void *buf, size_t len, unsigned flags)
{
    if (lin_check(ctx, va, len, flags))
        return X86_FAULT;
    memcpy(buf, (const void *)(uintptr_t)va.v, len);
    return 0;
}

static int lin_write(void *ctx, gva_t va, const void *buf, size_t len,
                     unsigned flags)
{
    if (lin_check(ctx, va, len, flags))
        return X86_FAULT;
    memcpy((void *)(uintptr_t)va.v, buf, len);
    return 0;
}

static int lin_probe(void *ctx, gva_t va, size_t len, unsigned flags)
{
    return lin_check(ctx, va, len, flags);
}

static const struct x86_lin_ops lin_ops = {
    .read = lin_read, .write = lin_write, .probe = lin_probe};

/* --- random state --- */

static uint64_t rng_state = 88172645463325252u;

static uint64_t rnd(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

/* Bits that make arithmetic interesting: small numbers, infinities, NaNs,
 * denormals, in single, double or integer. */
static uint64_t rnd_bits(void)
{
    static const uint64_t special[] = {
        0x3ff0000000000000, 0x7ff0000000000000, 0xfff8000000000000,
        0x7ff4000000000001, 0x0000000000000001, 0x8000000000000000,
        0x4008000000000000, 0xc3e0000000000000, 0x3f8000003f800000,
        0x7f80000000000001, 0x7fa0000140400000, 0x00000001c0a00000,
        0x0010000000000000, 0x7fefffffffffffff, 0x3ca0000000000000,
        0x0080000000800000, 0x7f7fffff00400000, 0xffffffffffffffff,
    };

    switch (rnd() % 4) {
    case 0:
        return special[rnd() % ARRAY_LEN(special)];
    case 1:
        return rnd() & 0x0f0f0f0f;
    case 2: { /* a moderate double */
        double d = (double)(int64_t)(rnd() % 4000) - 2000.0;
        uint64_t v;
        d /= 16;
        memcpy(&v, &d, 8);
        return v;
    }
    default:
        return rnd();
    }
}

static void rnd_x87(uint8_t *b, bool unmask)
{
    unsigned fcw = 0x37f;

    if (rnd() % 2)
        fcw = (0x7f | (unsigned)(rnd() % 16) << 8);
    if (unmask)
        fcw &= ~(unsigned)(rnd() & 0x3f);
    fx_put16(b + FX_FCW, fcw);
    unsigned fsw = (unsigned)rnd() & 0x7f7f;
    if (rnd() % 4)
        fsw &= ~(unsigned)~fcw & 0x7f7f; /* nothing pending, mostly */
    fx_put16(b + FX_FSW, fsw);
    b[FX_FTW] = rnd() % 3 ? 0xff : (uint8_t)rnd();
    fx_put16(b + FX_FOP, rnd() & 0x7ff);
    fx_put64(b + FX_FIP, rnd() % 2 ? rnd() & 0x7fffffffffff : rnd() & 0xffff);
    fx_put64(b + FX_FDP, rnd() & 0x7fffffffffff);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *st = b + FX_ST + 16 * i;
        static const uint16_t exps[] = {0,      1,      0x3fff, 0x4005, 0x7fff,
                                        0xffff, 0xc001, 0x403e, 0x3bff, 0x43fe};
        uint64_t man = rnd() % 3 ? rnd() | BIT(63) : rnd_bits();
        if (rnd() % 4 == 0)
            man = BIT(63);
        memset(st, 0, 16);
        fx_put64(st, man);
        fx_put16(st + 8, rnd() % 3 ? 0x3ff8 + (unsigned)(rnd() % 16)
                                   : exps[rnd() % ARRAY_LEN(exps)]);
    }
}

static void rnd_state(struct x86_cpu *cpu, bool unmask)
{
    uint8_t *b = cpu->xsave.b;

    memset(b, 0, sizeof(cpu->xsave.b));
    rnd_x87(b, unmask);
    for (unsigned i = 0; i < 32; i++) {
        fx_put64(b + FX_XMM + 8 * i, rnd_bits());
        fx_put64(b + X86_XSAVE_AVX_OFFSET + 8 * i, rnd_bits());
    }
    uint32_t mx = MXCSR_INIT;
    if (rnd() % 2)
        mx = 0x1f80 | ((uint32_t)rnd() & 0xe07f);
    if (unmask)
        mx &= ~((uint32_t)rnd() & 0x1f80);
    fx_put32(b + FX_MXCSR, mx);
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = rnd_bits();
    cpu->rflags = X86_FL_ONE | X86_FL_IF | (rnd() & X86_FL_ARITH);
}

/* --- encoding a form --- */

struct enc {
    uint8_t b[16];
    unsigned n;
    bool mem;
    unsigned base_off; /* of the memory operand in the data page */
};

static bool is_ot(const struct x86_form_info *fi, const char *letters)
{
    for (unsigned k = 0; k < fi->nopnds; k++) {
        const char *n = x86_ot_name(fi->opnd[k].type);
        if (n[0] == 'S' && n[1] == 'T') {
            if (n[2] == 'i' && strchr(letters, 's'))
                return true;
        } else if (n[0] == 'V' && n[1] == 'M') {
            if (strchr(letters, 'v'))
                return true;
        } else if (n[0] != 'A' && strchr(letters, n[0])) {
            return true;
        }
    }
    return false;
}

static bool mem_possible(const struct x86_form_info *fi)
{
    if (fi->spec & (XS_REG | XS_RM_GIVEN))
        return false;
    return (fi->spec & XS_MEM) || is_ot(fi, "MEWQv") ||
           (is_ot(fi, "R") && strchr(x86_ot_name(fi->opnd[0].type), 'M')) ||
           strstr(fi->name, "PINSR");
}

static bool mem_only(const struct x86_form_info *fi)
{
    return (fi->spec & XS_MEM) || is_ot(fi, "Mv");
}

static bool is_vector_form(const struct x86_form_info *fi)
{
    switch (fi->cls) {
    case X86_CLS_X87:
    case X86_CLS_MMX:
    case X86_CLS_SSE:
    case X86_CLS_AVX:
    case X86_CLS_GATHER:
        return true;
    default:
        return fi->feat == X86_FEAT_FXSR || fi->feat == X86_FEAT_XSAVEOPT ||
               fi->feat == X86_FEAT_XSAVEC || strcmp(fi->name, "XSAVE") == 0 ||
               strcmp(fi->name, "XRSTOR") == 0;
    }
}

/* A register number that isn't rsp (stack) or rbx (data). */
static unsigned rnd_gpr(void)
{
    unsigned r;

    do
        r = rnd() % 16;
    while (r == X86_RSP || r == X86_RBX);
    return r;
}

static void put(struct enc *e, unsigned byte)
{
    e->b[e->n++] = (uint8_t)byte;
}

static void encode_head(const struct x86_form_info *fi, struct enc *e,
                        unsigned r, unsigned x, unsigned b)
{
    static const uint8_t pfx[] = {0, 0, 0x66, 0xf3, 0xf2, 0, 0, 0};
    unsigned p = XS_GET_PFX(fi->spec), map = fi->spec & XS_MAP_MASK;
    unsigned w = fi->spec & XS_W1 ? 1 : fi->spec & XS_W0 ? 0 : rnd() & 1;

    if (fi->spec & XS_VEX) {
        unsigned l = fi->spec & XS_L1 ? 1 : fi->spec & XS_L0 ? 0 : rnd() & 1;
        unsigned v = is_ot(fi, "H") ? rnd() & 15 : 0;
        put(e, 0xc4);
        put(e, (r ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map);
        put(e, w << 7 | (~v & 15) << 3 | l << 2 | (p ? p - 1 : 0));
        put(e, fi->opcode);
        return;
    }
    if (fi->cls == X86_CLS_X87 && rnd() % 4 == 0)
        put(e, 0x66);
    if (pfx[p])
        put(e, pfx[p]);
    if (w || r || x || b)
        put(e, 0x40 | w << 3 | r << 2 | x << 1 | b);
    if (map != X86_MAP_1B)
        put(e, 0x0f);
    if (map == X86_MAP_0F38)
        put(e, 0x38);
    if (map == X86_MAP_0F3A)
        put(e, 0x3a);
    put(e, fi->opcode);
}

/* Registers: general ones avoid rsp and rbx. Memory: [rbx + disp32], gathers
 * with a vector index. */
static void encode(const struct x86_form_info *fi, bool mem, struct enc *e)
{
    bool vec_reg = is_ot(fi, "VP"), vec_rm = is_ot(fi, "WUQN");
    unsigned reg = vec_reg ? rnd() % 16 : rnd_gpr();
    unsigned rm = vec_rm ? rnd() % 16 : rnd_gpr();
    unsigned index = rnd() % 16, x = 0;
    bool gather = is_ot(fi, "v");

    memset(e, 0, sizeof(*e));
    e->mem = mem;
    if (fi->spec & XS_R_GIVEN)
        reg = XS_GET_REG(fi->spec) | (rnd() & 8);
    if (fi->cls == X86_CLS_X87)
        rm &= 7;
    if (fi->spec & XS_RM_GIVEN)
        rm = XS_GET_RM(fi->spec);
    if (mem) {
        rm = gather ? 4 : X86_RBX;
        x = gather ? index >> 3 : 0;
    }
    encode_head(fi, e, reg >> 3, x, mem ? 0 : rm >> 3);
    if (strcmp(fi->name, "FWAIT") == 0)
        return;
    if (strcmp(fi->name, "EMMS") == 0 || strncmp(fi->name, "VZERO", 5) == 0)
        return;
    put(e, (mem ? 0x80U : 0xc0U) | (reg & 7) << 3 | (rm & 7));
    if (gather)
        put(e, (unsigned)(rnd() & 3) << 6 | (index & 7) << 3 | X86_RBX);
    if (mem) {
        unsigned off = 64 * (unsigned)(rnd() % 8);
        off += rnd() % 4 ? 0 : (unsigned)(rnd() % 64);
        e->base_off = off;
        fx_put32(e->b + e->n, off);
        e->n += 4;
    }
    if (is_ot(fi, "IL"))
        put(e, (unsigned)rnd() & 0xff);
}

/* --- comparing --- */

static void cpu_setup(struct x86_cpu *cpu)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->lin = &lin_ops;
    cpu->lin_ctx = cpu;
    cpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_MP | X86_CR0_AM;
    cpu->cr4 =
        X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE | X86_CR4_PAE;
    cpu->xcr0 = 7;
    cpu->efer = X86_EFER_LMA | X86_EFER_LME;
    cpu->cpl = 3;
    for (unsigned i = 0; i < 6; i++) {
        cpu->seg[i].limit = 0xffffffff;
        cpu->seg[i].attr = 0xc0f3;
    }
    cpu->seg[X86_SEG_CS].attr = 0xa0fb;
}

/* Memory that the special forms expect. */
static void mem_setup(const struct x86_form_info *fi, struct x86_cpu *cpu,
                      const struct enc *e, const struct x86_insn *insn)
{
    uint8_t *p = data_page + e->base_off;

    for (unsigned i = 0; i < DATA_BYTES; i += 8)
        fx_put64(data_page + i, rnd_bits());
    cpu->gpr[X86_RBX] = (uintptr_t)data_page;
    if (fi->attr & XA_RDI)
        cpu->gpr[X86_RDI] =
            (uintptr_t)data_page + (rnd() % 4 ? rnd() % 64 : DATA_BYTES - 8);
    if (fi->cls == X86_CLS_GATHER)
        for (unsigned i = 0; i < 4; i++) {
            unsigned r = insn->index;
            uint64_t far = rnd() % 8 ? 0xff : 0xfffff; /* may fault */
            uint64_t v = rnd() & (fi->opcode & 1 ? far : far << 32 | far);
            fx_put64(i < 2 ? vec_xmm(cpu, r) + 8 * i
                           : vec_ymmh(cpu, r) + 8 * (i - 2),
                     v);
        }
    if (strcmp(fi->name, "LDMXCSR") == 0 || strcmp(fi->name, "VLDMXCSR") == 0)
        fx_put32(p, (uint32_t)rnd() & (rnd() % 4 ? 0xffff : 0x1ffff));
    if (strcmp(fi->name, "FXRSTOR") == 0 || strcmp(fi->name, "XRSTOR") == 0) {
        rnd_x87(p, true);
        fx_put32(p + FX_MXCSR,
                 (uint32_t)rnd() & (rnd() % 8 ? 0xffff : 0x1ffff));
    }
    if (strcmp(fi->name, "FRSTOR") == 0 || strcmp(fi->name, "FLDENV") == 0)
        fx_put16(p, rnd() & 0x1f7f); /* else mostly unmasked */
    if (strncmp(fi->name, "XSAVE", 5) == 0 || strcmp(fi->name, "XRSTOR") == 0) {
        memset(p + 512, 0, 64);
        p[512] = (uint8_t)(rnd() & (rnd() % 8 ? 7 : 15));
        if (rnd() % 2)
            fx_put64(p + 520, BIT(63) | (rnd() & (rnd() % 8 ? 7 : 15)));
        if (rnd() % 8 == 0)
            p[520 + rnd() % 56] |= 1;
        cpu->gpr[X86_RAX] = rnd() & 7;
        cpu->gpr[X86_RDX] = 0;
    }
}

static unsigned vector_of(int trapno)
{
    return (unsigned)trapno;
}

/* What differs between interpreter and CPU, or NULL. */
static const char *differ(const struct x86_cpu *cpu, bool ud, int ret,
                          const uint8_t *mem_interp)
{
    const uint8_t *a = cpu->xsave.b, *b = nat.xs;

    if (ud || ret) {
        unsigned v = ud ? X86_VEC_UD : cpu->exc.vector;
        if (!nat.signo)
            return "exception where the CPU has none";
        if (vector_of(nat.trapno) != v)
            return "exception vector";
    } else if (nat.signo) {
        return "no exception where the CPU has one";
    }
    for (unsigned i = 0; i < 16; i++)
        if (i != X86_RSP && cpu->gpr[i] != nat.gpr[i])
            return "general register";
    if ((cpu->rflags ^ nat.rflags) & X86_FL_ARITH)
        return "flags";
    if (memcmp(a + FX_MXCSR, b + FX_MXCSR, 4) != 0)
        return "MXCSR";
    if (memcmp(a, b, FX_FOP) != 0)
        return "FCW, FSW or tags";
    if (memcmp(a + FX_FOP, b + FX_FOP, 2) != 0)
        return "FOP";
    if (memcmp(a + FX_FIP, b + FX_FIP, 8) != 0)
        return "FIP";
    if (memcmp(a + FX_FDP, b + FX_FDP, 8) != 0)
        return "FDP";
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a + FX_ST + 16 * i, b + FX_ST + 16 * i, 10) != 0)
            return "ST register";
    if (memcmp(a + FX_XMM, b + FX_XMM, 256) != 0)
        return "XMM register";
    if (memcmp(a + X86_XSAVE_AVX_OFFSET, b + X86_XSAVE_AVX_OFFSET, 256) != 0)
        return "YMM upper half";
    if (memcmp(mem_interp, data_page, DATA_BYTES) != 0)
        return "memory";
    return NULL;
}

static void report(const char *what, const struct enc *e,
                   const struct x86_insn *insn, const struct x86_cpu *cpu,
                   const struct x86_cpu *before, int ret,
                   const uint8_t *mem_interp)
{
    char text[128];

    x86_disasm(insn, 0, text, sizeof(text));
    printf("%s (", text);
    for (unsigned i = 0; i < e->n; i++)
        printf("%02x", e->b[i]);
    printf("): %s; interp ret %d vec %u, cpu signal %d vec %d\n", what, ret,
           cpu->exc.vector, nat.signo, nat.trapno);
    printf("  rflags %" PRIx64 " -> %" PRIx64 " cpu %" PRIx64 "\n",
           before->rflags, cpu->rflags, nat.rflags);
    for (unsigned i = 0; i < 832; i += 8) {
        uint64_t v = fx_get64(cpu->xsave.b + i), n = fx_get64(nat.xs + i);
        if (v != n && i / 64 != 8)
            printf("  xsave+%u: was %016" PRIx64 " is %016" PRIx64
                   " cpu %016" PRIx64 "\n",
                   i, fx_get64(before->xsave.b + i), v, n);
    }
    for (unsigned i = 0; i < 16; i++)
        if (cpu->gpr[i] != nat.gpr[i] && i != X86_RSP)
            printf("  r%u: was %016" PRIx64 " is %016" PRIx64 " cpu %016" PRIx64
                   "\n",
                   i, before->gpr[i], cpu->gpr[i], nat.gpr[i]);
    for (unsigned i = 0; i < DATA_BYTES; i += 8) {
        uint64_t v = fx_get64(mem_interp + i), n = fx_get64(data_page + i);
        if (v != n)
            printf("  mem+%u: is %016" PRIx64 " cpu %016" PRIx64 "\n", i, v, n);
    }
}

static unsigned n_run, n_form, n_fault;

/* One instruction, both ways. Returns false on a difference. */
static bool run_both(const struct x86_form_info *fi, const struct enc *e,
                     const struct x86_insn *insn)
{
    static struct x86_cpu cpu, before;
    static uint8_t mem_before[DATA_BYTES], mem_interp[DATA_BYTES];

    cpu_setup(&cpu);
    rnd_state(&cpu, rnd() % 3 == 0);
    mem_setup(fi, &cpu, e, insn);
    if (rnd() % 4 == 0)
        cpu.rflags |= X86_FL_AC;
    vec_x87_canon(&cpu);
    memset(cpu.xsave.b + 512, 0, 64);
    cpu.xsave.b[512] = 7;
    cpu.rip = (uintptr_t)code_page;
    before = cpu;
    memcpy(mem_before, data_page, DATA_BYTES);

    int ret = interp_vec_gate(&cpu, insn);
    if (!ret)
        ret = interp_vec_exec(&cpu, insn);
    memcpy(mem_interp, data_page, DATA_BYTES);
    memcpy(data_page, mem_before, DATA_BYTES);

    memcpy(nat.gpr, before.gpr, sizeof(nat.gpr));
    nat.rflags = before.rflags;
    memcpy(nat.xs, before.xsave.b, sizeof(nat.xs));
    nat.signo = 0;
    nat.trapno = 0;
    nat.code = code_page;
    memcpy(code_page, e->b, e->n);
    code_page[e->n] = 0xff; /* jmp [code_page + 64], aligned for AC's sake */
    code_page[e->n + 1] = 0x25;
    fx_put32(code_page + e->n + 2, 64 - (e->n + 6));
    fx_put64(code_page + 64, (uintptr_t)nat_back);
    nat_run();
    n_run++;
    n_fault += ret != 0;

    /* XRSTOR may have loaded some when it finds a reserved MXCSR bit */
    if (strcmp(fi->name, "XRSTOR") == 0 && ret &&
        cpu.exc.vector == (unsigned)nat.trapno)
        return true;
    const char *what = differ(&cpu, false, ret, mem_interp);
    if (what)
        report(what, e, insn, &cpu, &before, ret, mem_interp);
    return what == NULL;
}

/* Per shape; VEC_RUNS in the environment for more, VEC_SEED for others. */
static unsigned runs_per_shape(void)
{
    const char *n = getenv("VEC_RUNS");

    return n ? (unsigned)atoi(n) : 40;
}

static void try_form(unsigned form, bool mem)
{
    const struct x86_form_info *fi = x86_form_info(form);
    unsigned tried = 0;
    unsigned runs = runs_per_shape();

    if (fi->cls == X86_CLS_SYSTEM || fi->cls == X86_CLS_GATHER)
        runs *= 10;

    for (unsigned i = 0; i < 4 * runs && tried < runs; i++) {
        struct enc e;
        struct x86_insn insn;
        encode(fi, mem, &e);
        memset(&insn, 0, sizeof(insn));
        if (x86_decode(e.b, e.n, X86_MODE_64, &insn) != X86_DEC_OK ||
            insn.form != form || insn.len != e.n)
            continue;
        tried++;
        if (!run_both(fi, &e, &insn)) {
            test_failures++;
            return;
        }
    }
    if (tried == 0) {
        printf("%s%s: no encoding found\n", fi->name, mem ? " mem" : "");
        test_failures++;
    }
    n_form++;
}

static void try_forms(unsigned cls, bool rest)
{
    if (!nat_init())
        SKIP("needs executable memory and AVX");
    n_run = n_form = n_fault = 0;
    if (getenv("VEC_SEED"))
        rng_state ^= strtoull(getenv("VEC_SEED"), NULL, 0) * 0x9e3779b97f4a7c15;
    for (unsigned f = 1; f < X86_FORM_COUNT; f++) {
        const struct x86_form_info *fi = x86_form_info(f);
        if (!is_vector_form(fi) ||
            (rest ? fi->cls != X86_CLS_SYSTEM : fi->cls != cls))
            continue;
        if (!mem_only(fi))
            try_form(f, false);
        if (mem_possible(fi))
            try_form(f, true);
    }
    printf("  %u shapes, %u runs, %u exceptions\n", n_form, n_run, n_fault);
}

TEST(every_vector_form_has_a_way)
{
    unsigned gaps = 0;

    for (unsigned f = 1; f < X86_FORM_COUNT; f++)
        if (is_vector_form(x86_form_info(f)) && !interp_vec_has(f)) {
            printf("  nothing runs %s\n", x86_form_info(f)->name);
            gaps++;
        }
    CHECK_EQ(gaps, 0);
}

TEST(x87_as_the_cpu)
{
    try_forms(X86_CLS_X87, false);
}

TEST(mmx_as_the_cpu)
{
    try_forms(X86_CLS_MMX, false);
}

TEST(sse_as_the_cpu)
{
    try_forms(X86_CLS_SSE, false);
}

TEST(avx_as_the_cpu)
{
    try_forms(X86_CLS_AVX, false);
}

TEST(gathers_as_the_cpu)
{
    try_forms(X86_CLS_GATHER, false);
}

TEST(saves_as_the_cpu)
{
    try_forms(0, true);
}

TEST_MAIN(CASE(every_vector_form_has_a_way), CASE(x87_as_the_cpu),
          CASE(mmx_as_the_cpu), CASE(sse_as_the_cpu), CASE(avx_as_the_cpu),
          CASE(gathers_as_the_cpu), CASE(saves_as_the_cpu))
