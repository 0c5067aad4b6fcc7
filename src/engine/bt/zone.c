// SPDX-License-Identifier: Apache-2.0
/*
 * Zones (zone.h): their reservations, the tables that lead to them, who uses
 * them and who rather not.
 */
#include "engine/bt/zone_priv.h"

#include "vm/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#    define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define KERNEL_ZONES 8 /* kept free of users */
#define PIN_AFTER    8 /* faults for nothing */
/* Host TSC in user code, before an address space is zoned: some 100 ms. */
#define HOT_TSC     (UINT64_C(1) << 28)
#define CREDIT      2000 /* faults that it may have; more with each tick */
#define CREDIT_TICK 60
#define REST_TICKS  25   /* when it had more */
#define MAPS_OTHER  4096 /* mappings that are not zones' */
#define MAPS_VCPU   256

/* ---- reservations ---- */

static uint8_t *reserve(void)
{
    uint8_t *p = mmap(NULL, ZONE_BYTES + 2 * ZONE_GUARD + BIG, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    p += ZONE_GUARD;
    return p + (-(uintptr_t)p & (BIG - 1)); /* as huge pages are aligned */
}

/* Mappings that the host lets a process have. */
static uint32_t maps_max(void)
{
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    uint32_t n = 0;
    char s[16];
    ssize_t len = fd < 0 ? 0 : read(fd, s, sizeof s);

    for (ssize_t i = 0; i < len && s[i] >= '0' && s[i] <= '9'; i++)
        n = n < 1000000 ? 10 * n + (uint32_t)(s[i] - '0') : n;
    if (fd >= 0)
        close(fd);
    return len > 0 ? n : 65530;
}

/* Share what is left of them. */
static bool maps_share(struct zones *z, unsigned ncpus)
{
    uint32_t max = maps_max(), rest = MAPS_OTHER + MAPS_VCPU * ncpus;

    if (max < rest + 8192)
        return false;
    max -= rest;
    z->entries_max = max / 8 * 3 < ENTRIES_MAX ? max / 8 * 3 : ENTRIES_MAX;
    z->cuts_max = (max - 2 * z->entries_max) / 2;
    return true;
}

void bt_zones_make(struct engine_part *part)
{
    struct zones *z;

    if (part->check)
        return;
    z = calloc(1, sizeof *z);
    if (!z || !maps_share(z, part->ncpus)) {
        free(z);
        return;
    }
    pthread_mutex_init(&z->lock, NULL);
    z->fd = -1;
    z->nowhere = reserve();
    while (z->nowhere && z->nzones < ZONES_MAX) {
        z->zone[z->nzones].base = reserve();
        if (!z->zone[z->nzones].base)
            break;
        z->nzones++;
    }
    if (z->nzones < KERNEL_ZONES) {
        free(z);
        return;
    }
    part->zones = z;
}

void zone_unmap(uint8_t *at, uint64_t n)
{
    if (mmap(at, n, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        abort();
}

void bt_zones_reset(struct engine_part *part, struct vm *vm)
{
    struct zones *z = part->zones;

    if (!z)
        return;
    pthread_mutex_lock(&z->lock);
    for (unsigned i = 0; i < z->nzones; i++)
        if (z->zone[i].win) {
            zone_unmap(z->zone[i].base, ZONE_BYTES);
            z->zone[i].win = 0;
        }
    zone_map_reset(z);
    if (z->fd >= 0)
        close(z->fd);
    z->mem = vm->mem;
    z->ram = mem_linear_hva(vm->mem);
    free(z->shut);
    z->shut = calloc(mem_ram_bytes(vm->mem) / 4096 / 64 + 1, 8);
    z->fd = z->ram && z->shut ? mem_dup_fd(vm->mem) : -1;
    pthread_mutex_unlock(&z->lock);
}

static void nowhere(struct bt *bt, uint64_t table[256])
{
    for (unsigned i = 0; i < 256; i++)
        table[i] = zone_nowhere(bt->part->zones, i);
}

void bt_zones_begin(struct bt *bt)
{
    if (!bt->part->zones)
        return;
    nowhere(bt, bt->zone_sup);
    for (unsigned i = 0; i < PCID_SLOTS; i++)
        nowhere(bt, bt_view_of(bt->part, bt->cpu->index, i)->zone_user);
}

static struct zone *zone_of(struct zones *z, unsigned win, unsigned guest)
{
    for (unsigned i = 0; i < z->nzones; i++)
        if (z->zone[i].win == win + 1 && z->zone[i].guest == guest)
            return &z->zone[i];
    return NULL;
}

uint8_t *zone_host(struct zones *z, unsigned win, uint64_t va)
{
    struct zone *q = zone_of(z, win, zone_guest(va));

    return q ? q->base + (va & (ZONE_BYTES - 1)) : NULL;
}

static uint64_t *table_of(struct bt *bt, unsigned win)
{
    return win == ZONE_KERNEL ? bt->zone_sup : bt->view->zone_user;
}

/* A reservation for the zone, if there is one left. Return: whether. */
static bool take(struct bt *bt, unsigned win, unsigned guest)
{
    struct zones *z = bt->part->zones;
    struct zone *q = zone_of(z, win, guest);
    unsigned first = win == ZONE_KERNEL ? 0 : KERNEL_ZONES, n = 0;

    for (unsigned i = 0; i < z->nzones; i++)
        n += z->zone[i].win == win + 1;
    if (!q && win != ZONE_KERNEL && n == ZONE_USER_MAX)
        return false;
    for (unsigned i = first; i < z->nzones && !q; i++)
        if (!z->zone[i].win) {
            q = &z->zone[i];
            q->win = (uint16_t)(win + 1);
            q->guest = (uint8_t)guest;
        }
    if (q)
        table_of(bt, win)[guest] = (uintptr_t)q->base - zone_base(guest);
    return q != NULL;
}

/* Distances stay as they are, so it may be done under any vCPU. */
void zone_win_unmap(struct zones *z, unsigned win)
{
    zone_entries_forget(z, win);
    for (unsigned i = 0; i < z->nzones; i++)
        if (z->zone[i].win == win + 1)
            zone_unmap(z->zone[i].base, ZONE_BYTES);
    z->tables -= z->win[win].tables;
    z->win[win].tables = 0;
}

/* Only the vCPU whose window it is runs code that may hold its distances. */
void zone_win_drop(struct bt *bt, unsigned win)
{
    struct zones *z = bt->part->zones;

    zone_win_unmap(z, win);
    for (unsigned i = 0; i < z->nzones; i++)
        if (z->zone[i].win == win + 1)
            z->zone[i].win = 0;
    nowhere(bt, table_of(bt, win));
}

void zone_unmap_all(struct zones *z)
{
    for (unsigned win = 0; win < ZONE_WINS; win++)
        if (z->win[win].tables)
            zone_win_unmap(z, win);
}

/* ---- who uses them ---- */

static bool may_use(const struct bt *bt)
{
    const struct x86_cpu *cpu = bt->cpu;
    const struct zones *z = bt->part->zones;

    return z && z->fd >= 0 && bt->part->zones_how != ENGINE_ZONES_OFF &&
           (cpu->cr4 & X86_CR4_PGE) && (cpu->cr0 & X86_CR0_WP) &&
           (cpu->efer & X86_EFER_LMA);
}

static void user_switch(struct bt *bt, bool on)
{
    struct bt_view *v = &bt->views[bt->at];

    v->zoned = bt->zoned[0] = on ? BT_MODE_ZONE : 0;
    v->hot = 0;
    v->credit = CREDIT;
    bt_ib_flush_view(bt, bt->at);
}

static void user_on(struct bt *bt)
{
    bt->views[bt->at].root = bt->cpu->cr3 & X86_PTE_ADDR;
    user_switch(bt, true);
    bt->st.zone_users++;
}

static void user_off(struct bt *bt)
{
    struct zones *z = bt->part->zones;

    pthread_mutex_lock(&z->lock);
    zone_win_drop(bt, zone_win_of(bt, 0));
    pthread_mutex_unlock(&z->lock);
    user_switch(bt, false);
}

/* The user's as tests want it. */
static void user_look(struct bt *bt, bool on)
{
    on = on && bt->part->zones_how == ENGINE_ZONES_NOW;
    if (on != (bt->views[bt->at].zoned != 0))
        (on ? user_on : user_off)(bt);
}

void bt_zones_look(struct bt *bt)
{
    bool on = may_use(bt);

    if (UNLIKELY(bt->part->zones_how != ENGINE_ZONES_AUTO)) {
        if (bt->part->zones)
            user_look(bt, on);
    } else if (on && bt->part->zones->top_drops >= TOP_DROPS) {
        on = false;
    }
    if (on == (bt->zoned[1] != 0))
        return;
    bt->zoned[1] = on ? BT_MODE_ZONE : 0;
    bt_ib_flush(bt, TLB_SUP);
    bt_ib_flush(bt, TLB_SUPAC);
    if (on)
        bt_zones_root(bt);
}

void bt_zones_view(struct bt *bt, bool same)
{
    struct bt_view *v = &bt->views[bt->at];
    uint64_t root = bt->cpu->cr3 & X86_PTE_ADDR;

    if (!bt->part->zones)
        return;
    if (v->root != root) { /* another address space */
        v->root = root;
        v->hot = 0;
        v->rest = 0;
        if (v->zoned)
            user_off(bt);
    } else if (!same && v->zoned) {
        bt_zones_sync(bt, false);
    }
    bt->zoned[0] = v->zoned;
}

void bt_zones_tick(struct bt *bt, uint64_t ran)
{
    struct bt_view *v = &bt->views[bt->at];

    if (!may_use(bt) || bt->part->zones_how != ENGINE_ZONES_AUTO)
        return;
    if (v->rest) {
        v->rest--;
    } else if (!v->zoned) {
        v->hot += ran;
        if (v->hot >= HOT_TSC)
            user_on(bt);
    } else if (v->credit < 0) {
        user_off(bt);
        v->rest = REST_TICKS;
        bt->st.zone_rests++;
    } else if (v->credit < CREDIT) {
        v->credit += CREDIT_TICK;
    }
}

/* ---- faults ---- */

bool bt_zones_have(const struct engine_part *part, uint64_t host)
{
    const struct zones *z = part->zones;
    uint64_t n = ZONE_BYTES + 2 * ZONE_GUARD;

    if (!z)
        return false;
    for (unsigned i = 0; i < z->nzones; i++)
        if (host + ZONE_GUARD - (uintptr_t)z->zone[i].base < n)
            return true;
    return host + ZONE_GUARD - (uintptr_t)z->nowhere < n;
}

/* A zone without a reservation: does the root have anything there?
 * Return: whether it has one now. */
static bool miss(struct bt *bt, uint64_t distance)
{
    struct zones *z = bt->part->zones;
    bool user = bt->mode & BT_MODE_CPL3;
    unsigned guest;
    uint64_t e[2];

    bt->st.zone_nowhere++;
    if (distance == bt->seghost[0]) /* an access by FS, by GS */
        distance -= bt->fsbase;
    else if (distance == bt->seghost[1])
        distance -= bt->gsbase;
    guest = zone_guest((uintptr_t)z->nowhere - distance);
    if (zone_nowhere(z, guest) != distance || user != (guest < 128) ||
        mem_read(z->mem, gpa((bt->cpu->cr3 & X86_PTE_ADDR) + 16 * guest), e,
                 sizeof e) ||
        !((e[0] | e[1]) & X86_PTE_P))
        return false;
    return take(bt, user ? zone_win_of(bt, 0) : ZONE_KERNEL, guest);
}

bool bt_zones_fault(struct bt *bt, uint64_t host, bool write, uint64_t distance)
{
    struct zones *z = bt->part->zones;
    unsigned user = zone_win_of(bt, 0);
    bool ok = false;

    pthread_mutex_lock(&z->lock);
    for (unsigned i = 0; i < z->nzones; i++) {
        const struct zone *q = &z->zone[i];
        uint64_t off = host - (uintptr_t)q->base;
        unsigned win = q->win - 1U;

        if (off >= ZONE_BYTES)
            continue;
        if (q->win && (win == ZONE_KERNEL || win == user))
            ok = zone_map_fault(bt, win, zone_base(q->guest) + off, write);
        break;
    }
    bt->zone_lost =
        host - (uintptr_t)z->nowhere < ZONE_BYTES && !miss(bt, distance);
    pthread_mutex_unlock(&z->lock);
    if (bt->zone_whole) /* takes its time: not under the lock */
        (void)madvise(bt->zone_whole, BIG, MADV_COLLAPSE);
    bt->zone_whole = NULL;
    bt->views[bt->at].credit -= bt->mode & BT_MODE_CPL3 ? 1 : 0;
    bt->st.zone_fails += !ok;
    return ok;
}

static unsigned pin_of(uint64_t va)
{
    return (unsigned)(va * UINT64_C(0x9e3779b97f4a7c15) >> 52) & (PINS - 1);
}

bool bt_zones_pin(struct bt *bt, uint64_t va)
{
    struct zones *z = bt->part->zones;
    unsigned i = pin_of(va);
    bool now = false;

    if (bt->part->zones_how == ENGINE_ZONES_NOW && !bt->zone_lost)
        return false;
    pthread_mutex_lock(&z->lock);
    if (z->pin[i] != va) {
        z->pin[i] = va;
        z->pin_faults[i] = 0;
    }
    if (z->pin_faults[i] < PIN_AFTER)
        now = ++z->pin_faults[i] == PIN_AFTER;
    pthread_mutex_unlock(&z->lock);
    bt->st.zone_pins += now;
    return now;
}

bool bt_zones_pinned(const struct bt *bt, uint64_t va)
{
    const struct zones *z = bt->part->zones;
    unsigned i = pin_of(va);

    return z && z->pin[i] == va && z->pin_faults[i] == PIN_AFTER;
}
