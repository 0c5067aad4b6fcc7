// SPDX-License-Identifier: Apache-2.0
/* Paging: permissions, error codes, A and D, large pages, INVLPG, global
 * pages, PCID, WP, NX, SMEP, SMAP. Source: Intel SDM vol. 3A ch. 4. */
#include "lib.h"

#define VA    0x8000000000ULL /* far from the identity map */
#define ERR_P 1
#define ERR_W 2
#define ERR_U 4
#define ERR_R 8
#define ERR_I 16

static volatile uint8_t frame_a[4096] __attribute__((aligned(4096)));
static volatile uint8_t frame_b[4096] __attribute__((aligned(4096)));

static void do_read(void *p)
{
    (void)*(volatile uint8_t *)p;
}
static void do_write(void *p)
{
    *(volatile uint8_t *)p = 1;
}
static void do_exec(void *p)
{
    __asm__ volatile("call *%0" : : "r"(p) : "memory");
}
static void do_read_ac(void *p)
{
    __asm__ volatile("stac");
    (void)*(volatile uint8_t *)p;
    __asm__ volatile("clac");
}

static volatile uint64_t *map(uint64_t bits)
{
    volatile uint64_t *pte = map_4k(VA, (uint64_t)frame_a, bits);

    invlpg(VA);
    return pte;
}

/* @want: the error code, or -1 for no fault */
static void expect(const char *name, void (*fn)(void *), bool user, int want)
{
    struct caught c;
    int v = user ? catch_user(fn, (void *)VA, &c) : catch (fn, (void *)VA, &c);

    if (want < 0)
        check_eq(name, (uint64_t)(int64_t)v, (uint64_t)-1);
    else
        check(name, v == 14 && c.error == (uint64_t)want && c.cr2 == VA);
}

static void permissions(void)
{
    frame_a[0] = 0xc3; /* ret */
    map(0);
    expect("not present read", do_read, false, 0);
    expect("not present write", do_write, false, ERR_W);
    expect("not present user", do_read, true, ERR_U);
    expect("not present fetch", do_exec, false, ERR_I);
    map(PTE_P);
    expect("read only read", do_read, false, -1);
    expect("read only write", do_write, false, ERR_P | ERR_W);
    expect("supervisor page, user read", do_read, true, ERR_P | ERR_U);
    CR_WRITE(0, CR_READ(0) & ~0x10000ULL);
    expect("WP clear: supervisor writes", do_write, false, -1);
    CR_WRITE(0, CR_READ(0) | 0x10000ULL);
    map(PTE_P | PTE_U);
    expect("user read", do_read, true, -1);
    expect("user write, read only", do_write, true, ERR_P | ERR_W | ERR_U);
    frame_a[0] = 0xc3;
    expect("user fetch", do_exec, true, -1);
    map(PTE_P | PTE_U | PTE_W | PTE_NX);
    expect("NX user fetch", do_exec, true, ERR_P | ERR_U | ERR_I);
    expect("NX supervisor fetch", do_exec, false, ERR_P | ERR_I);
    expect("NX read", do_read, true, -1);
    *pte_of(VA) |= 1ULL << 51; /* beyond MAXPHYADDR */
    invlpg(VA);
    /* QEMU 7.2 with -cpu max shows 52 bits or checks none of these two */
    expect("reserved bit", do_read, false, ERR_P | ERR_R);
}

static void accessed_dirty(void)
{
    volatile uint64_t *pte = map(PTE_P | PTE_W);

    do_read((void *)VA);
    check_eq("A is set by a read", *pte & (PTE_A | PTE_D), PTE_A);
    do_write((void *)VA);
    check_eq("D is set by a write", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    pte = map(PTE_P | PTE_W);
    do_write((void *)VA);
    check_eq("a write sets both", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    pte = map(PTE_P);
    catch (do_write, (void *)VA, NULL);
    check_eq("a refused write sets no D", *pte & PTE_D, 0);
    pd[1000] &= ~(PTE_A | PTE_D);
    flush_all();
    do_read((void *)(1000ULL << 21));
    check_eq("A in a large page", pd[1000] & (PTE_A | PTE_D), PTE_A);
}

static void supervisor_guards(void)
{
    uint32_t r[4];

    cpuid(7, 0, r);
    frame_a[0] = 0xc3;
    map(PTE_P | PTE_W | PTE_U);
    if (r[1] >> 7 & 1) {
        CR_WRITE(4, CR_READ(4) | 1ULL << 20);
        /* our own code lies in user pages: make it supervisor's */
        expect("SMEP refuses a user page's code", do_exec, false,
               ERR_P | ERR_I);
        CR_WRITE(4, CR_READ(4) & ~(1ULL << 20));
        expect("without SMEP it runs", do_exec, false, -1);
    }
}

/* SMAP wants the rest of memory to be supervisor's. */
static void smap(void)
{
    uint32_t r[4];

    cpuid(7, 0, r);
    if (!(r[1] >> 20 & 1))
        return;
    CR_WRITE(4, CR_READ(4) | 1ULL << 21);
    expect("SMAP refuses a user page", do_read, false, ERR_P);
    expect("SMAP with AC set", do_read_ac, false, -1);
    CR_WRITE(4, CR_READ(4) & ~(1ULL << 21));
}

static void identity_user(bool on)
{
    for (unsigned i = 0; i < 2048; i++)
        pd[i] = on ? pd[i] | PTE_U : pd[i] & ~PTE_U;
    flush_all();
}

static void large_pages(void)
{
    volatile uint64_t *big = &pdpt[5]; /* 5 GiB, nothing there yet */
    uint32_t r[4];

    cpuid(0x80000001, 0, r);
    if (r[3] >> 26 & 1) {
        *big = 0 | PTE_P | PTE_W | PTE_PS;
        invlpg(5ULL << 30);
        frame_b[7] = 0x42;
        check_eq("1 GiB page",
                 *(volatile uint8_t *)((5ULL << 30) + (uint64_t)&frame_b[7]),
                 0x42);
        check_eq("1 GiB page A", *big & PTE_A, PTE_A);
        *big = 1ULL << 20 | PTE_P | PTE_PS; /* reserved bit of a 1 GiB page */
        invlpg(5ULL << 30);
        struct caught c;
        int v = catch (do_read, (void *)(5ULL << 30), &c);
        check("1 GiB page, reserved bit",
              v == 14 && c.error == (ERR_P | ERR_R));
        *big = 0;
        invlpg(5ULL << 30);
    }
}

static void translations_stay(void)
{
    volatile uint64_t *pte;

    frame_a[1] = 0xaa;
    frame_b[1] = 0xbb;
    pte = map(PTE_P | PTE_W);
    check_eq("first mapping", ((volatile uint8_t *)VA)[1], 0xaa);
    *pte = (uint64_t)frame_b | PTE_P | PTE_W;
    invlpg(VA);
    check_eq("INVLPG shows the second", ((volatile uint8_t *)VA)[1], 0xbb);
    *pte = (uint64_t)frame_a | PTE_P | PTE_W;
    flush_all();
    check_eq("MOV CR3 shows the first", ((volatile uint8_t *)VA)[1], 0xaa);
    /* an upgrade needs no flush: the walk is done again before a fault */
    *pte = (uint64_t)frame_a | PTE_P;
    invlpg(VA);
    do_read((void *)VA);
    *pte |= PTE_W;
    check_eq("upgrade without a flush",
             (uint64_t)(int64_t) catch (do_write, (void *)VA, NULL),
             (uint64_t)-1);
}

static void global_and_pcid(void)
{
    uint32_t r[4];
    volatile uint64_t *pte;
    struct {
        uint64_t pcid, va;
    } d = {1, VA};

    cpuid(1, 0, r);
    if (!(r[2] >> 17 & 1)) {
        print("skip PCID: not shown\n");
        return;
    }
    CR_WRITE(4, CR_READ(4) | 1ULL << 17 | 1ULL << 7); /* PCIDE, PGE */
    pte = map(PTE_P | PTE_W);
    CR_WRITE(3, (uint64_t)pml4 | 1);
    frame_a[2] = 1;
    frame_b[2] = 2;
    check_eq("PCID 1", ((volatile uint8_t *)VA)[2], 1);
    CR_WRITE(3, (uint64_t)pml4 | 2 | 1ULL << 63);
    *pte = (uint64_t)frame_b | PTE_P | PTE_W;
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(0ULL) : "memory");
    d.pcid = 2;
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(1ULL) : "memory");
    check_eq("PCID 2 after INVPCID 1", ((volatile uint8_t *)VA)[2], 2);
    CR_WRITE(3, (uint64_t)pml4 | 1 | 1ULL << 63);
    check_eq("PCID 1 after INVPCID 0", ((volatile uint8_t *)VA)[2], 2);
    d.pcid = 4096;
    struct caught c;
    int v;
    {
        void bad(void *p)
        {
            __asm__ volatile("invpcid (%0), %1"
                             :
                             : "r"(p), "r"(0ULL)
                             : "memory");
        }
        v = catch (bad, &d, &c);
    }
    check("INVPCID with a bad PCID is #GP", v == 13);
    CR_WRITE(3, (uint64_t)pml4);
    CR_WRITE(4, CR_READ(4) & ~(1ULL << 17));
}

int test_main(void)
{
    permissions();
    accessed_dirty();
    large_pages();
    translations_stay();
    global_and_pcid();
    pml4[0] |= PTE_U;
    identity_user(false);
    map(PTE_P | PTE_W | PTE_U);
    supervisor_guards();
    smap();
    return failures();
}
