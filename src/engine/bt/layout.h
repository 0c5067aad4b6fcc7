// SPDX-License-Identifier: Apache-2.0
/*
 * Where things lie from the GS base on while a vCPU runs translated code:
 * offsets into struct bt (priv.h), for the assembler and the emitted code.
 */
#ifndef DOPPEL_ENGINE_BT_LAYOUT_H
#define DOPPEL_ENGINE_BT_LAYOUT_H

#define BT_SELF      0x00
#define BT_CPU       0x08
#define BT_HOST_RSP  0x10
#define BT_JT        0x18 /* where an indirect jump goes */
#define BT_RIP       0x20 /* guest target of a jump that missed */
#define BT_SITE      0x28 /* u32 */
#define BT_REASON    0x2c /* u32 */
#define BT_VA        0x30 /* guest address of a TLB miss */
#define BT_REQ       0x38 /* 0, or BT_REQ_SET: leave translated code */
#define BT_FSBASE    0x40
#define BT_GSBASE    0x48
#define BT_TLBMASK   0x50 /* pext: address bits that select a TLB entry */
#define BT_HIMASK    0x58 /* pext: address bits above the page offset */
#define BT_TSCOFF    0x60 /* guest TSC minus the host's */
#define BT_LFLAGS    0x68 /* quick gate: lahf and seto */
#define BT_LGPR      0x70 /* quick gate: 16 registers */
#define BT_SLOT(i)   (0xf0 + 8 * (i))  /* 8 spilled registers */
#define BT_GATE(i)   (0x130 + 8 * (i)) /* 8 addresses in gate.S */
#define BT_XSAVE     0x170             /* address of the guest's vector state */
#define BT_VEC       0x178 /* u32: 1: it is in the host's registers */
#define BT_IBMASK(k) (0x180 + 8 * (k)) /* pext: bits that select an entry */
#define BT_HOME(r)   (0x1a0 + 8 * (r)) /* guest registers kept in memory */
#define BT_WIN(i)    (0x220 + 8 * (i)) /* 16: where checked windows lie */
/* Stack page of a kind: keys for reads and writes, host minus guest address;
 * the user's lies in the pages of its address space. */
#define BT_STK(k)    ((k) ? 0x2a0 + 24 * ((k)-1) : 0x1000)
#define BT_HERE      0x1018 /* ... and its own address */
#define BT_STK_R     0
#define BT_STK_W     8
#define BT_STK_DELTA 16

/* Of the guest's state while translated code runs (bt_sys_in, bt_sys_out) */
#define BT_IFL     0x300 /* RFLAGS.IF, where it is in RFLAGS, or 0 */
#define BT_ACL     0x308 /* the same of AC */
#define BT_KGSBASE 0x310 /* IA32_KERNEL_GS_BASE */
#define BT_IRQW    0x318 /* u32: not 0: setting IF may let an interrupt in */
#define BT_X87     0x31c /* u32: 0: x87 is as FNINIT leaves it */
#define BT_FLPEXT  0x320 /* what LAHF and SETO AL left, turned by 8 bits */
#define BT_FLPDEP  0x328 /* ... and where RFLAGS has it */

#define BT_DFL     0x330 /* RFLAGS.DF, as IFL */

/* What is to be added to addresses of a zone (zone.h): by address bits 40-47;
 * the user's lie in the pages of its address space. */
#define BT_ZONE_SUP  0x800
#define BT_ZONE_USER 0x1800
#define BT_ZONE(k)   ((k) ? BT_ZONE_SUP : BT_ZONE_USER)

/* Zones: host addresses of the bases of FS (0) and GS (1). */
#define BT_SEGHOST(i) (0x380 + 8 * (i))

/* SYSCALL and kin without C: sys.S */
#define BT_MODE_NOW 0x390 /* u32: mode word of the code that runs */
#define BT_LATE     0x394 /* u32: not 0: C is wanted before user code */
#define BT_ZONED(k) (0x398 + 4 * (k)) /* u32: mode bit; 0: user's code */
#define BT_PF       0x3a0 /* u32: not 0: IRET may go back to what faulted */
#define BT_SYS_KIND 0x3a4 /* u32: the kernel's, AC clear; 0: C looks */
#define BT_SYS_TLB  0x3a8 /* what its tables lie behind the user's */
#define BT_SYS_IB   0x3b0
/* IRET to user code: selectors (CS, SS), address of CS's descriptor, the two as
 * they were, how far apart they are, and what they say */
#define BT_IRET_SEL   0x3b8 /* u32 */
#define BT_IRET_CS    0x3c0
#define BT_IRET_SSOFF 0x3c8
#define BT_IRET_CSRAW 0x3d0
#define BT_IRET_SSRAW 0x3d8
#define BT_IRET_CSSEG 0x3e0
#define BT_IRET_SSSEG 0x3f8

/* Offsets into struct x86_cpu */
#define X_RFLAGS      136
#define X_ES          192
#define X_CS          216
#define X_SS          240
#define X_DS          264
#define X_FS          288
#define X_GS          312
#define X_CPL         468
#define X_NMI_BLOCKED 471
#define X_NMI_PENDING 472
#define X_STAR        568
#define X_LSTAR       576
#define X_FMASK       592

#define BT_LOOP(i)    (0x340 + 8 * (i)) /* 6: of a loop that runs: loop.c */

/* The first-level TLB: per kind of access, keys for reads, for writes, host
 * minus guest address; in each, the page with the lower half's entries comes
 * first. Then the branch caches: host addresses of indirect entries. */
#define BT_TLB_N       16384
#define BT_TLB_KIND    0x60000
#define BT_TLB_R(k)    (0x2000 + BT_TLB_KIND * (k))
#define BT_TLB_W(k)    (0x22000 + BT_TLB_KIND * (k))
#define BT_TLB_HOST(k) (0x42000 + BT_TLB_KIND * (k))
#define BT_IB_USER_N   131072
#define BT_IB_N        131072
#define BT_IB(k)       (0x122000 + 0x100000 * (k))

/* Direct jumps to other pages: of the user's half, of the kernel's (far.c) */
#define BT_FAR_N   131072
#define BT_FAR(k)  (0x422000 + 0x100000 * (k))

#define BT_REQ_SET 0x8000000000000000

/* Gates: why translated code was left. */
#define BT_G_CALLOUT 0 /* run site's instruction by the interpreter */
#define BT_G_MISS    1 /* site's access missed the TLB at BT_VA */
#define BT_G_LINK    2 /* direct jump to site's address: find it, link it */
#define BT_G_IB      3 /* indirect jump to BT_RIP missed; no site */
#define BT_G_LEAVE   4 /* a request stands; site's address is next */
/* Ways to gates 5 to 7, whose number they have: sys.S */
#define BT_W_SYSCALL 5
#define BT_W_SYSRET  6
#define BT_W_IRET    7
/* ... of the quick gate to the full one: */
#define BT_G_AGAIN 5 /* begin site's instruction again */
#define BT_G_FAULT 6 /* site's access faulted: cpu->exc */

#endif
