// SPDX-License-Identifier: Apache-2.0
/* What fast.c and fast_alu.c share: kinds and operand shapes of arithmetic. */
#ifndef DOPPEL_ENGINE_INTERP_FAST_H
#define DOPPEL_ENGINE_INTERP_FAST_H

#include "engine/interp/priv.h"

enum alu_kind {
    ALU_K_ADD,
    ALU_K_OR,
    ALU_K_ADC,
    ALU_K_SBB,
    ALU_K_AND,
    ALU_K_SUB,
    ALU_K_XOR,
    ALU_K_CMP,
    ALU_K_TEST
};

/* Destination, source: register, immediate, memory. */
enum shape {
    SHAPE_RR,
    SHAPE_RI,
    SHAPE_RM,
    SHAPE_MR,
    SHAPE_MI,
    SHAPES
};

/** fast_alu_handler() - the handler of @k with operands of @shape < SHAPES */
op_fn fast_alu_handler(enum alu_kind k, enum shape shape);

#endif
