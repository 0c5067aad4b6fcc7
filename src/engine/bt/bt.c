// SPDX-License-Identifier: Apache-2.0
/*
 * The translator as an engine: code memory is made before the jail, mapped
 * twice (to write, to execute; never both), a slice for each vCPU.
 */
#include "engine/bt/bt.h"

#include "base/log.h"
#include "cpu/x86/insn.h"
#include "engine/bt/check.h"
#include "engine/bt/look.h"
#include "engine/bt/priv.h"
#include "engine/bt/zone.h"
#include "vm/clock.h"
#include "vm/mem.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLICE_BYTES    (UINT64_C(128) << 20)
#define CELLS_BYTES    ((size_t)BT_CELLS_MAX * 8)

#define AT(field, off) _Static_assert(offsetof(struct bt, field) == (off), "")
AT(cpu, BT_CPU);
AT(host_rsp, BT_HOST_RSP);
AT(jt, BT_JT);
AT(rip, BT_RIP);
AT(site, BT_SITE);
AT(reason, BT_REASON);
AT(va, BT_VA);
AT(req, BT_REQ);
AT(fsbase, BT_FSBASE);
AT(gsbase, BT_GSBASE);
AT(tlbmask, BT_TLBMASK);
AT(himask, BT_HIMASK);
AT(ibmask[0], BT_IBMASK(0));
AT(tscoff, BT_TSCOFF);
AT(lflags, BT_LFLAGS);
AT(ifl, BT_IFL);
AT(acl, BT_ACL);
AT(dfl, BT_DFL);
AT(kgsbase, BT_KGSBASE);
AT(irqw, BT_IRQW);
AT(flpext, BT_FLPEXT);
AT(flpdep, BT_FLPDEP);
AT(lgpr, BT_LGPR);
AT(slot, BT_SLOT(0));
AT(gate, BT_GATE(0));
AT(xsave, BT_XSAVE);
AT(vec, BT_VEC);
AT(x87, BT_X87);
AT(tlb[0].r, BT_TLB_R(0));
AT(tlb[1].w, BT_TLB_W(1));
AT(tlb[2].delta, BT_TLB_HOST(2));
AT(home, BT_HOME(0));
AT(win, BT_WIN(0));
AT(stk_user, BT_STK(0));
AT(here, BT_HERE);
AT(stk_sup[1], BT_STK(2));
AT(ib_user, BT_IB(0));
AT(zone_sup, BT_ZONE(1));
AT(seghost[1], BT_SEGHOST(1));
AT(zone_user, BT_ZONE(0));
AT(ib_sup[1], BT_IB(2));
AT(far_user, BT_FAR(0));
AT(far_sup, BT_FAR(1));
_Static_assert(offsetof(struct x86_cpu, gpr) == 0, "");
AT(mode, BT_MODE_NOW);
AT(zone_late_n, BT_LATE);
AT(zoned, BT_ZONED(0));
AT(pf_known, BT_PF);
AT(sys_kind, BT_SYS_KIND);
AT(sys_tlb, BT_SYS_TLB);
AT(sys_ib, BT_SYS_IB);
AT(iret.sel, BT_IRET_SEL);
AT(iret.cs_at, BT_IRET_CS);
AT(iret.ss_off, BT_IRET_SSOFF);
AT(iret.cs_raw, BT_IRET_CSRAW);
AT(iret.ss_raw, BT_IRET_SSRAW);
AT(iret.cs, BT_IRET_CSSEG);
AT(iret.ss, BT_IRET_SSSEG);
#define X_AT(field, off)                                                       \
    _Static_assert(offsetof(struct x86_cpu, field) == (off), "")
X_AT(rflags, X_RFLAGS);
X_AT(seg[X86_SEG_ES], X_ES);
X_AT(seg[X86_SEG_CS], X_CS);
X_AT(seg[X86_SEG_SS], X_SS);
X_AT(seg[X86_SEG_DS], X_DS);
X_AT(seg[X86_SEG_FS], X_FS);
X_AT(seg[X86_SEG_GS], X_GS);
X_AT(cpl, X_CPL);
X_AT(nmi_blocked, X_NMI_BLOCKED);
X_AT(nmi_pending, X_NMI_PENDING);
X_AT(msr.star, X_STAR);
X_AT(msr.lstar, X_LSTAR);
X_AT(msr.fmask, X_FMASK);
_Static_assert(BT_MODE_KIND == 3 && BT_MODE_CPL3 == 4 && BT_MODE_ZONE == 1024 &&
                   sizeof(struct x86_seg) == 24 &&
                   offsetof(struct x86_seg, limit) == 8 &&
                   offsetof(struct x86_seg, attr) == 12 &&
                   offsetof(struct x86_seg, sel) == 16,
               "sys.S");

bool bt_host_ok(char *why, size_t n)
{
    unsigned a, b = 0, c = 0, d;
    const char *lacks = NULL;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_BMI2))
        lacks = "BMI2";
    else if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) ||
             !(c & bit_AVX))
        lacks = "AVX and XSAVE";
    else if (!(getauxval(AT_HWCAP2) & 2))
        lacks = "FSGSBASE, or the kernel does not allow it";
    if (!lacks) {
        snprintf(why, n, "translates x86-64 to x86-64");
        return true;
    }
    snprintf(why, n, "the host CPU lacks %s", lacks);
    return false;
}

static bool host_adx(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_ADX);
}

/* SDM vol. 2A, CPUID leaf 7: "fast short REP MOV", "fast short STOSB" */
static void host_fast_rep(struct engine_part *p)
{
    unsigned a, b, c, d, max;

    if (!__get_cpuid_count(7, 0, &max, &b, &c, &d))
        return;
    p->fsrm = d >> 4 & 1;
    if (max && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        p->fsrs = a >> 11 & 1;
}

/* Whether the host lets a process map memory to write and to execute. */
static bool exec_ok(char *why, size_t n)
{
    int fd = memfd_create("doppel-probe", MFD_CLOEXEC);
    void *p = MAP_FAILED;
    int err;

    if (fd >= 0 && ftruncate(fd, 4096) == 0)
        p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    err = errno;
    if (p != MAP_FAILED)
        munmap(p, 4096);
    else
        snprintf(why, n, "executable memory is refused (%s)", strerror(err));
    if (fd >= 0)
        close(fd);
    return p != MAP_FAILED;
}

static void probe(struct engine_probe *p)
{
    p->usable =
        bt_host_ok(p->why, sizeof p->why) && exec_ok(p->why, sizeof p->why);
}

#define HUGE_PAGE (UINT64_C(2) << 20)

/* Address space for @n bytes that huge pages may lie in. Flat code misses the
 * host's TLB more than its caches. Return: NULL: none. */
static uint8_t *reserve(size_t n, int prot)
{
    uint8_t *p = mmap(NULL, n + HUGE_PAGE, prot,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    return p + (-(uintptr_t)p & (HUGE_PAGE - 1));
}

/* The memory of all code, to be mapped twice. perf reads its map only for
 * memory that it takes for anonymous: then mappings are made of mappings. */
static int code_memory(struct engine_part *part, size_t n)
{
    bool perf = bt_look_maps(part->look);

    part->fd = perf ? -1 : memfd_create("doppel-code", MFD_CLOEXEC);
    if (!perf && (part->fd < 0 || ftruncate(part->fd, (off_t)n)))
        return -errno;
    part->rw = reserve(n, PROT_NONE);
    if (!part->rw ||
        mmap(part->rw, n, PROT_READ | PROT_WRITE,
             MAP_FIXED | (perf ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED),
             part->fd, 0) == MAP_FAILED)
        return -errno;
    madvise(part->rw, n, MADV_HUGEPAGE);
    return 0;
}

static int map_to_run(struct engine_part *part, uint8_t *to)
{
    void *p;

    if (part->fd >= 0) {
        p = mmap(to, part->slice, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED,
                 part->fd, 0);
        if (p == MAP_FAILED)
            return -errno;
        madvise(to, part->slice, MADV_HUGEPAGE);
        return 0;
    }
    p = mremap(part->rw, 0, part->slice, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (p == MAP_FAILED || mprotect(p, part->slice, PROT_READ | PROT_EXEC))
        return -errno;
    return 0;
}

/* The code is followed by its cells, at a distance that it knows. */
static int part_map(struct engine_part *part)
{
    int r = code_memory(part, part->slice);

    if (r)
        return r;
    part->rx = mmap(NULL, part->slice + CELLS_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (part->rx == MAP_FAILED)
        return -errno;
    r = map_to_run(part, part->rx);
    if (part->fd >= 0)
        close(part->fd);
    part->fd = -1;
    return r;
}

static int init(const struct engine_host *host, struct engine_part **part,
                struct err *e)
{
    struct engine_part *p;
    char why[120];
    int r;

    if (!bt_host_ok(why, sizeof why))
        return err_set(e, -ENOTSUP, "bt: %s: use --engine interp", why);
    p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, -ENOMEM, "bt: out of memory");
    p->ncpus = host->ncpus;
    p->slice = SLICE_BYTES;
    p->check = host->check;
    p->adx = host_adx();
    host_fast_rep(p);
    p->zones_how = host->zones;
    pthread_mutex_init(&p->queue, NULL);
    r = bt_look_create(host->look, &p->look, e);
    if (r) {
        free(p);
        return r;
    }
    r = part_map(p);
    if (r) {
        bt_look_destroy(p->look);
        free(p);
        return err_set(e, r,
                       "bt: executable memory for translated code is refused "
                       "(%s): use --engine interp",
                       strerror(-r));
    }
    r = bt_views_make(p);
    if (r)
        return err_set(e, r, "bt: memory for vCPUs: %s", strerror(-r));
    r = bt_cache_make(p, e);
    if (r)
        return r;
    bt_zones_make(p);
    r = bt_signal_init();
    if (r)
        return err_set(e, r, "bt: signal handlers: %s", strerror(-r));
    *part = p;
    return 0;
}

static void check_add(struct bt_check_stats *sum, const struct bt *bt)
{
    const uint64_t *from = (const uint64_t *)(const void *)&bt->chk->st;
    uint64_t *to = (uint64_t *)(void *)sum;

    for (unsigned i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static void last_words(const struct engine_part *part)
{
    struct bt_check_stats sum = part->checked;

    if (!part->check)
        return;
    for (unsigned i = 0; i < part->ncpus; i++)
        if (part->bt[i] && part->bt[i]->chk)
            check_add(&sum, part->bt[i]);
    bt_check_say(&sum);
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    struct bt *bt = bt_of(v);

    if (!v)
        return;
    if (bt->part) {
        pthread_mutex_lock(&bt->part->queue);
        bt->part->bt[bt->cpu->index] = NULL;
        pthread_mutex_unlock(&bt->part->queue);
    }
    if (bt->chk)
        check_add(&bt->part->checked, bt);
    bt_check_destroy(bt);
    bt->cpu->kick.wake = NULL;
    interp_engine.vcpu_destroy((struct engine_vcpu *)(void *)bt->in);
    memset(bt, 0, sizeof *bt);
}

static void wake(void *ctx)
{
    bt_post(ctx);
}

static void leaving(void *outer)
{
    bt_vec_save(outer);
}

static int vcpu_create(struct vm *vm, void *arch, struct engine_vcpu **out,
                       struct err *e)
{
    struct engine_part *part = vm->engine;
    struct engine_vcpu *iv = NULL;
    struct x86_cpu *cpu = arch;
    struct bt *bt;
    int r;

    if (!part || cpu->index >= part->ncpus)
        return err_set(e, -EINVAL, "bt: vCPU %u was not asked for", cpu->index);
    bt = bt_view_of(part, cpu->index, 0);
    bt->cpu = cpu;
    r = interp_engine.vcpu_create(vm, arch, &iv, e);
    if (r)
        return r;
    bt->in = (struct interp *)(void *)iv;
    bt->in->outer = bt;
    bt->in->leaving = leaving;
    bt->part = part;
    bt->self = (uintptr_t)bt;
    bt->xsave = cpu->xsave.b;
    memcpy(bt->gate, bt_gate_table, sizeof bt->gate);
    if (cpu->index == 0 || part->vm != vm) {
        bt_cache_reset(part);
        bt_zones_reset(part, vm);
    }
    part->vm = vm;
    bt_cache_join(bt);
    bt->check = part->check;
    if (bt->check)
        r = bt_check_create(bt, e);
    if (r) {
        vcpu_destroy((struct engine_vcpu *)(void *)bt);
        return r;
    }
    bt_tlb_init(bt);
    bt_zones_begin(bt);
    cpu->lin = &bt->lin;
    cpu->kick.ctx = bt;
    cpu->kick.wake = wake;
    part->bt[cpu->index] = bt;
    mem_set_listener(vm->mem, (struct mem_listener){bt_listen, part});
    mem_set_revoke(vm->mem, bt_revoke, part);
    *out = (struct engine_vcpu *)(void *)bt;
    return 0;
}

static void vcpu_flush(struct engine_vcpu *v)
{
    struct bt *bt = bt_of(v);

    interp_engine.vcpu_flush((struct engine_vcpu *)(void *)bt->in);
    bt_cache_flush(bt);
    bt_tlb_flush(bt);
}

static void vcpu_revoke(struct engine_vcpu *v, gpa_t at, bool all)
{
    struct bt *bt = bt_of(v);

    tlb_revoke_ask(bt->in, at, all);
    bt_post(bt);
    tlb_revoke_wait(bt->in);
}

static const char *vcpu_stat(const struct engine_vcpu *v, unsigned i,
                             uint64_t *value)
{
    static const char *const names[] = {
#define STAT(name, help) #name,
#include "engine/bt/stats.def"
#undef STAT
    };
    /* the second level */
    static const char *const interp_names[] = {
#define STAT(name, help) "interp." #name,
#include "engine/interp/stats.def"
#undef STAT
    };
    const struct bt *bt = (const struct bt *)(const void *)v;

    if (i < ARRAY_LEN(names)) {
        memcpy(value, (const uint8_t *)&bt->st + i * sizeof *value,
               sizeof *value);
        return names[i];
    }
    i -= (unsigned)ARRAY_LEN(names);
    if (i < ARRAY_LEN(interp_names)) {
        interp_engine.vcpu_stat(
            (const struct engine_vcpu *)(const void *)bt->in, i, value);
        return interp_names[i];
    }
    i -= (unsigned)ARRAY_LEN(interp_names);
    if (i >= X86_OP_COUNT)
        return bt_check_stat(bt, i - X86_OP_COUNT, value);
    *value = bt->callouts[i];
    return x86_op_name((enum x86_op)i);
}

const struct engine_ops bt_engine = {
    .name = "bt",
    .init = init,
    .probe = probe,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = bt_run,
    .vcpu_flush = vcpu_flush,
    .vcpu_revoke = vcpu_revoke,
    .last_words = last_words,
    .vcpu_stat = vcpu_stat,
};
