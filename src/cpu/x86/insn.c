// SPDX-License-Identifier: Apache-2.0
/* The instruction table as data: form facts and names. See insn.h. */
#include "cpu/x86/insn.h"

/* clang-format off */
#define R(ot)  { X86_OT_##ot, X86_ACC_R }
#define W(ot)  { X86_OT_##ot, X86_ACC_W }
#define RW(ot) { X86_OT_##ot, X86_ACC_R | X86_ACC_W }

enum {
#define FLG(name, r, w, u) FLR_##name = (r), FLW_##name = (w), FLU_##name = (u),
#include "cpu/x86/insn_flags.def"
#undef FLG
};

#define COUNT(...)                                                             \
    (sizeof((const struct x86_form_opnd[]){{0, 0}, ##__VA_ARGS__}) /           \
     sizeof(struct x86_form_opnd) - 1)

const struct x86_form_info x86_forms[X86_FORM_COUNT] = {
    [X86_FORM_INVALID] = {.name = "INVALID"},
#define INSN(form, op_, opc, spec_, cls_, feat_, fl, attr_, ...)               \
    [X86_FORM_##form] = {                                                      \
        .name = #form, .op = X86_OP_##op_, .opcode = (opc),                    \
        .cls = X86_CLS_##cls_, .feat = X86_FEAT_##feat_,                       \
        .nopnds = COUNT(__VA_ARGS__), .spec = (spec_),                         \
        .attr = (attr_) | ((spec_)&XS_VEX ? XA_PROT : 0),                      \
        .fl_read = FLR_##fl, .fl_written = FLW_##fl, .fl_undef = FLU_##fl,     \
        .opnd = {__VA_ARGS__},                                                 \
    },
#include "cpu/x86/insn.def"
#undef INSN
};

static const char *const ot_names[X86_OT_COUNT] = {
    "none",
#define OT(code, slot, size) #code,
#include "cpu/x86/insn_opnd.def"
#undef OT
};

static const char *const feat_names[X86_FEAT_COUNT] = {
#define F(x) #x,
    X86_FEAT_LIST(F)
#undef F
};

static const char *const op_names[X86_OP_COUNT] = {
    "INVALID",
#define OP(name) #name,
    X86_OP_LIST(OP)
#undef OP
};
/* clang-format on */

const char *x86_op_name(enum x86_op op)
{
    return op_names[op < X86_OP_COUNT ? op : X86_OP_INVALID];
}

const char *x86_feat_name(enum x86_feat feat)
{
    return feat < X86_FEAT_COUNT ? feat_names[feat] : "";
}

const char *x86_ot_name(enum x86_ot ot)
{
    return ot < X86_OT_COUNT ? ot_names[ot] : "";
}
