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
#define BT_ZONE(k) ((k) ? 0x800 : 0x1800)

/* Zones: host addresses of the bases of FS (0) and GS (1). */
#define BT_SEGHOST(i) (0x380 + 8 * (i))

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

#define BT_REQ_SET     0x8000000000000000

/* Gates: why translated code was left. */
#define BT_G_CALLOUT 0 /* run site's instruction by the interpreter */
#define BT_G_MISS    1 /* site's access missed the TLB at BT_VA */
#define BT_G_LINK    2 /* direct jump to site's address: find it, link it */
#define BT_G_IB      3 /* indirect jump to BT_RIP missed; no site */
#define BT_G_LEAVE   4 /* a request stands; site's address is next */
/* ... of the quick gate to the full one: */
#define BT_G_AGAIN 5 /* begin site's instruction again */
#define BT_G_FAULT 6 /* site's access faulted: cpu->exc */

#endif
