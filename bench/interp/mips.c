// SPDX-License-Identifier: Apache-2.0
/*
 * How many million instructions a second the interpreter does in hand-made
 * loops: one JSON line per loop. See README.md.
 */
#include "engine/interp/testvm.h"

#include <time.h>

struct loop {
    const char *name;
    const char *code;
    size_t len;
};

#define LOOP(n, s)                                                             \
    {                                                                          \
        n, s, sizeof(s) - 1                                                    \
    }

/* Endless; rdi 0x200000 (4 KiB pages), rsi 0x300000, rcx 2^63, r8 a counter. */
static const struct loop loops[] = {
    /* add rax,rcx; xor rdx,rax; lea rbx,[rax+rdx*4]; sub rax,7; inc r8 */
    LOOP("alu", "\x48\x01\xc8\x48\x31\xc2\x48\x8d\x1c\x90\x48\x83\xe8\x07"
                "\x49\xff\xc0\xeb\xed"),
    /* mov rax,[rdi]; mov [rdi+8],rax; add [rdi+16],rax; movzx ecx,byte[rdi] */
    LOOP("memory", "\x48\x8b\x07\x48\x89\x47\x08\x48\x01\x47\x10\x0f\xb6\x0f"
                   "\xeb\xf0"),
    /* call f; jmp L; f: push rbx; mov rbx,rsp; pop rbx; ret */
    LOOP("call", "\xe8\x02\x00\x00\x00\xeb\xf9\x53\x48\x89\xe3\x5b\xc3"),
    /* inc r8; test r8b,3; jz a; test r8b,1; jz b; a: nop; b: jmp L */
    LOOP("branch", "\x49\xff\xc0\x41\xf6\xc0\x03\x74\x06\x41\xf6\xc0\x01\x74"
                   "\x01\x90\xeb\xee"),
    /* add rdi,0x1000; and rdi,0x3ff000; or rdi,0x200000; mov rax,[rdi] */
    LOOP("pages", "\x48\x81\xc7\x00\x10\x00\x00\x48\x81\xe7\x00\xf0\x3f\x00"
                  "\x48\x81\xcf\x00\x00\x20\x00\x48\x8b\x07\xeb\xe6"),
    /* mov ecx,512; mov rdi,rsi; rep stosq; jmp L */
    LOOP("rep stosq 4K", "\xb9\x00\x02\x00\x00\x48\x89\xf7\xf3\x48\xab"
                         "\xeb\xf3"),
    /* imul rax,rcx; shl rax,cl; bt eax,3; setc dl; cmovc rbx,rax; xchg ebx,edx;
     * lock inc dword [rdi] */
    LOOP("mixed", "\x48\x0f\xaf\xc1\x48\xd3\xe0\x0f\xba\xe0\x03\x0f\x92\xc2"
                  "\x48\x0f\x42\xd8\x87\xda\xf0\xff\x07\xeb\xe7"),
};

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(void)
{
    struct tvm *t = tvm_create();

    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        uint64_t n = 20000000, before;
        double best = 0;

        for (unsigned run = 0; run < 3; run++) {
            double s = now_s(), mips;

            tvm_poke(t, TVM_CODE, loops[i].code, loops[i].len);
            t->cpu->rip = TVM_CODE;
            t->cpu->gpr[X86_RDI] = 0x200000;
            t->cpu->gpr[X86_RSI] = 0x300000;
            t->cpu->gpr[X86_RSP] = TVM_STACK;
            before = t->cpu->icount;
            if (tvm_run(t, n) != EXIT_BUDGET)
                return 1;
            mips = (double)(t->cpu->icount - before) / (now_s() - s) / 1e6;
            if (mips > best)
                best = mips;
        }
        printf("{\"name\":\"interp %s\",\"value\":%.1f,\"unit\":\"MIPS\"}\n",
               loops[i].name, best);
    }
    tvm_destroy(t);
    return 0;
}
