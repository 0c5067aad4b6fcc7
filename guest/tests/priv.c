// SPDX-License-Identifier: Apache-2.0
/* Privilege: what ring 3 may not do, I/O permissions, system calls, UMIP,
 * canonical addresses. Source: Intel SDM vol. 3A 5.9, vol. 1 19.5. */
#include "lib.h"

#define USER_TRIES(name, text)                                                 \
    static void name(void *p)                                                  \
    {                                                                          \
        (void)p;                                                               \
        __asm__ volatile(text); /* basic: changes call-clobbered registers */  \
    }
USER_TRIES(t_hlt, "hlt")
USER_TRIES(t_cli, "cli")
USER_TRIES(t_sti, "sti")
USER_TRIES(t_lgdt, "lgdt (%rsp)")
USER_TRIES(t_lidt, "lidt (%rsp)")
USER_TRIES(t_ltr, "xor %eax, %eax; ltr %ax")
USER_TRIES(t_cr0, "mov %cr0, %rax")
USER_TRIES(t_cr3, "mov %rax, %cr3")
USER_TRIES(t_dr7, "mov %dr7, %rax")
USER_TRIES(t_rdmsr, "mov $0x10, %ecx; rdmsr")
USER_TRIES(t_wrmsr, "mov $0x10, %ecx; wrmsr")
USER_TRIES(t_invlpg, "invlpg (%rsp)")
USER_TRIES(t_wbinvd, "wbinvd")
USER_TRIES(t_clts, "clts")
USER_TRIES(t_swapgs, "swapgs")
USER_TRIES(t_in, "inb $0x80, %al")
USER_TRIES(t_out, "outb %al, $0x80")
USER_TRIES(t_int14, "int $14")
USER_TRIES(t_int3, "int3")
USER_TRIES(t_ud2, "ud2")
USER_TRIES(t_sgdt, "sgdt -64(%rsp)")
USER_TRIES(t_smsw, "smsw %eax")
USER_TRIES(t_canon, "mov $0x800000000000, %rax; mov (%rax), %al")
USER_TRIES(t_canon_ss, "mov $0x800000001000, %rcx; xchg %rcx, %rsp; push %rax")
USER_TRIES(t_nop, "nop")
USER_TRIES(t_popf, "push $0x3202; popf; pushf; pop %rax; test $0x3200, %eax; "
                   "jz 1f; ud2; 1:")

static void gp(const char *name, void (*fn)(void *))
{
    struct caught c;
    int v = catch_user(fn, NULL, &c);

    check(name, v == 13 && c.error == 0 && (c.cs & 3) == 3);
}

static void refused(void)
{
    static const struct {
        const char *name;
        void (*fn)(void *);
    } t[] = {
        {"user HLT", t_hlt},       {"user CLI", t_cli},
        {"user STI", t_sti},       {"user LGDT", t_lgdt},
        {"user LIDT", t_lidt},     {"user LTR", t_ltr},
        {"user MOV CR0", t_cr0},   {"user MOV CR3", t_cr3},
        {"user MOV DR7", t_dr7},   {"user RDMSR", t_rdmsr},
        {"user WRMSR", t_wrmsr},   {"user INVLPG", t_invlpg},
        {"user WBINVD", t_wbinvd}, {"user CLTS", t_clts},
        {"user SWAPGS", t_swapgs}, {"user IN", t_in},
        {"user OUT", t_out},       {"non-canonical read", t_canon},
    };
    struct caught c;

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        gp(t[i].name, t[i].fn);
    check("user NOP", catch_user(t_nop, NULL, &c) == -1);
    check("user UD2", catch_user(t_ud2, NULL, &c) == 6);
    check("user INT3 passes its gate", catch_user(t_int3, NULL, &c) == 3);
    /* QEMU 7.2 gives 16 * n + 2; SDM vol. 3A 6.13: the index is n */
    check("user INT 14 is #GP with the gate's index",
          catch_user(t_int14, NULL, &c) == 13 && c.error == (14 << 3 | 2));
    /* QEMU 7.2 raises #GP; SDM vol. 3A 6.15 (interrupt 12): #SS(0) */
    check("non-canonical push is #SS",
          catch_user(t_canon_ss, NULL, &c) == 12 && c.error == 0);
    check("user POPF changes neither IF nor IOPL",
          catch_user(t_popf, NULL, &c) == -1);
}

static void io_bitmap(void)
{
    struct caught c;

    tss.bitmap[0x80 / 8] &= (uint8_t) ~(1 << (0x80 % 8));
    check("the I/O bitmap permits a port", catch_user(t_in, NULL, &c) == -1);
    tss.bitmap[0x80 / 8] |= 1 << (0x80 % 8);
    check("and refuses it again", catch_user(t_in, NULL, &c) == 13);
}

static void umip(void)
{
    uint32_t r[4];
    struct caught c;

    cpuid(7, 0, r);
    check("user SGDT without UMIP", catch_user(t_sgdt, NULL, &c) == -1);
    if (!(r[2] >> 2 & 1))
        return;
    CR_WRITE(4, CR_READ(4) | 1 << 11);
    gp("user SGDT with UMIP", t_sgdt);
    gp("user SMSW with UMIP", t_smsw);
    CR_WRITE(4, CR_READ(4) & ~(1ULL << 11));
}

/* SYSCALL from ring 3 and back by SYSRET. */
extern char syscall_entry[];
uint64_t seen_rcx, seen_r11, saved_user_rsp;
__asm__(".globl syscall_entry\n"
        "syscall_entry:\n"
        "  mov %rcx, seen_rcx(%rip)\n"
        "  mov %r11, seen_r11(%rip)\n"
        "  sysretq\n");

USER_TRIES(t_syscall, "mov $0x8d7, %eax; push %rax; popf; syscall")

static void fast_calls(void)
{
    struct caught c;

    wrmsr(0xc0000081, 0x001b000800000000ULL); /* CS 8/0x10; user 0x1b+16 */
    wrmsr(0xc0000082, (uint64_t)syscall_entry);
    wrmsr(0xc0000084, 0x200 | 0x100);
    check("SYSCALL and SYSRET", catch_user(t_syscall, NULL, &c) == -1);
    check_eq("R11 holds the flags", seen_r11 & 0xcd5, 0x8d5 & 0xcd5);
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ULL);
    check("SYSCALL without SCE is #UD", catch_user(t_syscall, NULL, &c) == 6);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
}

static void bad_msr(void *p)
{
    (void)p;
    rdmsr(0x3fffffff);
}
static void bad_lstar(void *p)
{
    (void)p;
    wrmsr(0xc0000082, 1ULL << 47);
}
static void bad_cr4(void *p)
{
    (void)p;
    CR_WRITE(4, CR_READ(4) | 1ULL << 40);
}
static void bad_cr0(void *p)
{
    (void)p;
    CR_WRITE(0, CR_READ(0) & ~1ULL); /* PG without PE */
}
static void pae_off(void *p)
{
    (void)p;
    CR_WRITE(4, CR_READ(4) & ~0x20ULL);
}

static void control(void)
{
    /* QEMU 7.2 ignores both; SDM vol. 2B WRMSR, RDMSR: #GP(0) */
    check("unknown MSR", catch (bad_msr, NULL, NULL) == 13);
    check("non-canonical LSTAR", catch (bad_lstar, NULL, NULL) == 13);
    if (under_tcg()) {
        /* it takes these values and runs astray; SDM vol. 3A 2.5: #GP(0) */
        print("skip reserved bits of CR0 and CR4: TCG does not check them\n");
        return;
    }
    check("reserved bit of CR4", catch (bad_cr4, NULL, NULL) == 13);
    check("PG without PE", catch (bad_cr0, NULL, NULL) == 13);
    check("PAE stays on in long mode", catch (pae_off, NULL, NULL) == 13);
}

int test_main(void)
{
    refused();
    io_bitmap();
    umip();
    fast_calls();
    control();
    return failures();
}
