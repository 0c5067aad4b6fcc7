// SPDX-License-Identifier: Apache-2.0
/*
 * The translator engine: guest x86-64 code is rewritten to host x86-64 code
 * with guest registers and flags in the host's. docs/translator.md explains
 * it. What it does not translate, the interpreter runs on the same state.
 */
#ifndef DOPPEL_ENGINE_BT_BT_H
#define DOPPEL_ENGINE_BT_BT_H

#include "engine/engine.h"

extern const struct engine_ops bt_engine;

#endif
