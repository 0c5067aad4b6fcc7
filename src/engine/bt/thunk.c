// SPDX-License-Identifier: Apache-2.0
/*
 * Code that all blocks share, at the beginning of the code memory: what an
 * indirect jump meets where the branch cache has nothing for it, and what a
 * check by the stack's page tries when it fails.
 */
#include "engine/bt/emit.h"
#include "engine/bt/layout.h"
#include "engine/bt/priv.h"

/* cmove r11, gs:[r10*8 + disp] */
static void cmove(struct emit *e, unsigned disp)
{
    static const uint8_t op[] = {0x65, 0x4e, 0x0f, 0x44, 0x1c, 0xd5};

    for (unsigned i = 0; i < sizeof op; i++)
        e8(e, op[i]);
    e32(e, disp);
}

/* Frames that lie on two pages drive each other's page out: the other is taken
 * from the first-level TLB, if it is there, and the check, whose address is in
 * BT_JT, made again. BT_VA: what it looks for, BT_SITE. Flags are dead. The
 * page that stands already is not the answer: the window goes beyond its end.
 */
static void stack_page(struct emit *e, unsigned k, bool write)
{
    unsigned stk = (unsigned)BT_STK(k);
    unsigned key = write ? BT_TLB_W(k) : BT_TLB_R(k);
    uint32_t none, same;

    e_load(e, X86_R11, BT_VA);
    e_pext(e, X86_R10, X86_R11, BT_TLBMASK);
    e_gsx_op(e, 0x03, X86_R11, X86_R10, key);
    e_cmp_imm(e, X86_R11, 4095);
    none = e_jcc(e, CC_A);
    e_gsx_op(e, 0x8b, X86_R11, X86_R10, key);
    e_gs_op(e, 0x3b, X86_R11, stk + (write ? BT_STK_W : BT_STK_R));
    same = e_jcc(e, CC_E);
    e_save(e, X86_R11, stk + BT_STK_R);
    if (!write) { /* the other key, where it is this page's, too */
        e_gsx_op(e, 0x3b, X86_R11, X86_R10, BT_TLB_W(k));
        e_mov_imm(e, X86_R11, BT_STK_NONE);
        cmove(e, BT_TLB_W(k));
    }
    e_save(e, X86_R11, stk + BT_STK_W);
    e_gsx_op(e, 0x8b, X86_R11, X86_R10, BT_TLB_HOST(k));
    e_save(e, X86_R11, stk + BT_STK_DELTA);
    e_jmp_gs(e, BT_JT);
    e_patch32(e, none, e->at);
    e_patch32(e, same, e->at);
    e_jmp_gs(e, BT_GATE(BT_G_MISS));
}

void bt_thunks(struct emit *e)
{
    e->at = BT_THUNK;
    e_save(e, X86_R11, BT_RIP);
    e_jmp_gs(e, BT_GATE(BT_G_IB));
    e->at = BT_THUNK_CF;
    e_carry_back(e, X86_R10);
    e_patch32(e, e_jmp(e), BT_THUNK);
    for (unsigned k = 0; k < 3; k++)
        for (unsigned w = 0; w < 2; w++) {
            e->at = BT_STK_THUNK(k, w);
            stack_page(e, k, w);
        }
}
