// SPDX-License-Identifier: Apache-2.0
/*
 * Looking at translated code from outside: perf's map of it (`START SIZE NAME`
 * in hex, one line for a block's hot part, one for its cold part) and records
 * of blocks, which tools/btdump.py and tools/bt-prof.py read. Nothing here
 * changes what is emitted. Thread: any, one at a time under its own lock; the
 * guest's vector registers must have been saved.
 */
#ifndef DOPPEL_ENGINE_BT_LOOK_H
#define DOPPEL_ENGINE_BT_LOOK_H

#include "base/err.h"
#include "engine/engine.h"

struct bt;
struct bt_block;
struct bt_tr;
struct bt_look;

/* A stretch of code memory. */
struct bt_span {
    uint32_t at, end; /* code offsets */
};

/** bt_look_create() - take the descriptors over, read the symbols
 * @l: borrows; NULL or with nothing asked: *out is NULL
 * Thread: main, before the jail. Return: 0, -ENOMEM, -EFBIG, -errno. */
int bt_look_create(const struct engine_look *l, struct bt_look **out,
                   struct err *e);
void bt_look_destroy(struct bt_look *look);

/** bt_look_maps() - whether perf is to see code memory as anonymous */
bool bt_look_maps(const struct bt_look *look);

/** bt_look_block() - a block was translated, its code is complete: count it,
 * and show it to whom looks */
void bt_look_block(const struct bt_tr *t, struct bt_span hot,
                   struct bt_span cold);

/** bt_look_copy() - the same of a copy, which is shown to perf alone
 * bt_look_wants: whether a record of the block at @va is asked for. */
void bt_look_copy(struct bt *bt, const struct bt_block *b);
bool bt_look_wants(const struct bt_look *look, uint64_t va);

/** bt_look_name() - the nearest symbol at or below @va, as NAME+0xOFF
 * Return: @out, empty when there is none. */
const char *bt_look_name(const struct bt_look *look, uint64_t va, char *out,
                         size_t n);

#endif
