// SPDX-License-Identifier: Apache-2.0
/*
 * Zones: guest memory mapped into the monitor at a fixed distance from its
 * guest addresses, so that translated code reaches it without a look-up.
 *
 * The guest's address space is cut into 256 zones of 1 TiB, by address bits
 * 40-47. A zone that is in use has a reservation of host addresses, 1 TiB and
 * a guard on each side; what is to be added to a guest address stands in a
 * table that translated code reads (BT_ZONE). The distance of zones not in use
 * leads to a reservation where nothing is ever mapped. So whatever number a
 * guest takes for an address, what is touched is mapped for it, or faults.
 *
 * What is mapped is a copy of page tables, as a TLB is: it is filled by faults
 * of the host, and dropped when the guest flushes. The kernel's half is one
 * for all vCPUs; user address spaces have their own for each vCPU and slot of
 * its TLB (view.c), once they have run for long enough to gain by it.
 */
#ifndef DOPPEL_ENGINE_BT_ZONE_H
#define DOPPEL_ENGINE_BT_ZONE_H

#include "engine/bt/priv.h"

/** bt_zones_make() - reserve address space; without any, nothing is zoned */
void bt_zones_make(struct engine_part *part);
/** bt_zones_reset() - nothing is mapped; @vm's memory from now on */
void bt_zones_reset(struct engine_part *part, struct vm *vm);
/** bt_zones_begin() - @bt's tables, all leading nowhere */
void bt_zones_begin(struct bt *bt);
/** bt_zones_look() - whether kernel code may use zones now: bt->zoned[1] */
void bt_zones_look(struct bt *bt);
/** bt_zones_tick() - user code has run; called some hundred times a second
 * @ran: host TSC since the last call, about
 * Whether its address space is zoned now: bt->zoned[0]. */
void bt_zones_tick(struct bt *bt, uint64_t ran);
/** bt_zones_view() - CR3 was written; the slot's view is the current one
 * @same: its entries in the TLB are still good */
void bt_zones_view(struct bt *bt, bool same);
/** bt_zones_have() - whether @host lies in a reservation or its guards */
bool bt_zones_have(const struct engine_part *part, uint64_t host);
/** bt_zones_fault() - the host faulted at @host in translated code
 * @distance: what it had added to the guest's address, if that is known
 * Return: whether it is mapped now: the access may go again. */
bool bt_zones_fault(struct bt *bt, uint64_t host, bool write,
                    uint64_t distance);
/** bt_zones_pin() - the instruction at @va faulted for nothing
 * Return: whether it is to be translated anew, with look-ups. */
bool bt_zones_pin(struct bt *bt, uint64_t va);
bool bt_zones_pinned(const struct bt *bt, uint64_t va);
/** bt_zones_drop() - what is held of @va's page of 2^@shift bytes or more */
void bt_zones_drop(struct bt *bt, uint64_t va, unsigned shift);
/** bt_zones_late() - the drops of user pages that waited; before user code runs
 * and before another view is taken */
void bt_zones_late(struct bt *bt);
/** bt_zones_sync() - drop what the page tables say no longer, of a half */
void bt_zones_sync(struct bt *bt, bool upper);
/** bt_zones_root() - CR3 was written, or more than a page was flushed: the
 * kernel's pages that are not global stay while all roots agree on them and the
 * page tables are as they were. A write of CR3 that flushes nothing may lead to
 * a PCID that has never held them. */
void bt_zones_root(struct bt *bt);
/** bt_zones_revoke() - no page may be written unseen: @gpa's, or @all */
void bt_zones_revoke(struct engine_part *part, gpa_t gpa, bool all);

#endif
