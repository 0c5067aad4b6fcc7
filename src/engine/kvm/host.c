// SPDX-License-Identifier: Apache-2.0
/*
 * What the kvm engine takes from the host before the jail: one VM, its vCPUs
 * and their shared pages, the filter of MSRs; see kvm.h. Thread: main.
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#include "cpu/x86/msr.h"
#include "engine/kvm/priv.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Hosts without unrestricted guest mode want four pages of guest-physical room
 * for real mode; between the local APICs and the firmware nothing answers. */
#define IDENTITY_MAP_GPA UINT64_C(0xfeffc000)
#define TSS_GPA          0xfeffd000UL
#define INDEX_LIST_MAX   1024

static int real_ioctl(void *ctx, int fd, unsigned long req, void *arg)
{
    (void)ctx;
    return ioctl(fd, req, arg);
}

int kvm_call(struct engine_part *part, int fd, unsigned long req, void *arg)
{
    int r = part->sys.ioctl(part->sys.ctx, fd, req, arg);

    return r < 0 ? -errno : r;
}

/* A plain number as the argument. */
static int call_n(struct engine_part *part, int fd, unsigned long req,
                  unsigned long n)
{
    return kvm_call(part, fd, req, (void *)n);
}

/* What must be there; Linux 5.10 has all of it. */
static int check_caps(struct engine_part *part, int kvm, struct err *e)
{
    static const struct {
        unsigned long cap;
        int least;
        const char *what;
    } need[] = {
        {KVM_CAP_USER_MEMORY, 1, "memory slots"},
        {KVM_CAP_SYNC_REGS, (int)KVM_SYNC_X86_VALID_FIELDS,
         "registers shared in kvm_run"},
        {KVM_CAP_IMMEDIATE_EXIT, 1, "immediate_exit"},
        {KVM_CAP_X86_USER_SPACE_MSR, 1, "MSR exits"},
        {KVM_CAP_X86_MSR_FILTER, 1, "an MSR filter"},
        {KVM_CAP_XSAVE, 1, "XSAVE state"},
        {KVM_CAP_XCRS, 1, "XCR0"},
        {KVM_CAP_DEBUGREGS, 1, "debug registers"},
        {KVM_CAP_USER_NMI, 1, "NMIs"},
    };

    if (call_n(part, kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return err_set(e, -ENOTSUP, "kvm: /dev/kvm is of another version");
    for (size_t i = 0; i < ARRAY_LEN(need); i++) {
        int has = call_n(part, kvm, KVM_CHECK_EXTENSION, need[i].cap);

        if (has < 0 || (has & need[i].least) != need[i].least)
            return err_set(e, -ENOTSUP,
                           "kvm: this host's KVM lacks %s (Linux 5.10 has "
                           "it): use --engine auto",
                           need[i].what);
    }
    return 0;
}

/* ---- MSRs ---- */

/* Which MSRs KVM runs by itself and their values travel: those of the list
 * that this host's KVM has. */
static int choose_msrs(struct engine_part *part, int kvm, struct err *e)
{
    static const uint32_t wanted[] = {
        X86_MSR_SYSENTER_CS, X86_MSR_SYSENTER_ESP, X86_MSR_SYSENTER_EIP,
        X86_MSR_PAT,         X86_MSR_STAR,         X86_MSR_LSTAR,
        X86_MSR_CSTAR,       X86_MSR_FMASK,        X86_MSR_KERNEL_GS_BASE,
        X86_MSR_TSC_AUX,     X86_MSR_SPEC_CTRL,
    };
    AUTO_FREE struct kvm_msr_list *list =
        calloc(1, sizeof *list + INDEX_LIST_MAX * sizeof list->indices[0]);
    int r;

    _Static_assert(ARRAY_LEN(wanted) <= KVM_STATE_MSRS, "room for all");
    if (!list)
        return err_set(e, -ENOMEM, "kvm: no memory for the list of MSRs");
    list->nmsrs = INDEX_LIST_MAX;
    r = kvm_call(part, kvm, KVM_GET_MSR_INDEX_LIST, list);
    if (r < 0)
        return err_set(e, r, "kvm: the list of MSRs: %s", strerror(-r));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        for (uint32_t k = 0; k < list->nmsrs && k < INDEX_LIST_MAX; k++)
            if (list->indices[k] == wanted[i])
                part->msr[part->nmsrs++] = wanted[i];
    return 0;
}

/* All others come to us; also those that KVM would refuse. */
static int filter_msrs(struct engine_part *part, struct err *e)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_INVAL |
                                          KVM_MSR_EXIT_REASON_UNKNOWN |
                                          KVM_MSR_EXIT_REASON_FILTER}};
    struct kvm_msr_filter f = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    /* EFER and the segment bases travel with the segments. */
    uint8_t high = 1, bases = 3, one[KVM_STATE_MSRS];
    unsigned n = 0;
    int r = kvm_call(part, part->vm_fd, KVM_ENABLE_CAP, &cap);

    if (r < 0)
        return err_set(e, r, "kvm: MSR exits: %s", strerror(-r));
    for (unsigned i = 0; i < part->nmsrs; i++) {
        one[i] = 1;
        if (part->msr[i] - X86_MSR_EFER < 8)
            high |= (uint8_t)(1U << (part->msr[i] - X86_MSR_EFER));
        else if (part->msr[i] - X86_MSR_FS_BASE < 8)
            bases |= (uint8_t)(1U << (part->msr[i] - X86_MSR_FS_BASE));
        else
            f.ranges[n++] =
                (struct kvm_msr_filter_range){both, 1, part->msr[i], &one[i]};
    }
    f.ranges[n++] = (struct kvm_msr_filter_range){both, 8, X86_MSR_EFER, &high};
    f.ranges[n++] =
        (struct kvm_msr_filter_range){both, 8, X86_MSR_FS_BASE, &bases};
    r = kvm_call(part, part->vm_fd, KVM_X86_SET_MSR_FILTER, &f);
    return r < 0 ? err_set(e, r, "kvm: the MSR filter: %s", strerror(-r)) : 0;
}

uint64_t *kvm_msr_at(struct x86_cpu *cpu, uint32_t index)
{
    struct x86_msrs *m = &cpu->msr;

    switch (index) {
    case X86_MSR_SYSENTER_CS:
        return &m->sysenter_cs;
    case X86_MSR_SYSENTER_ESP:
        return &m->sysenter_esp;
    case X86_MSR_SYSENTER_EIP:
        return &m->sysenter_eip;
    case X86_MSR_PAT:
        return &m->pat;
    case X86_MSR_STAR:
        return &m->star;
    case X86_MSR_LSTAR:
        return &m->lstar;
    case X86_MSR_CSTAR:
        return &m->cstar;
    case X86_MSR_FMASK:
        return &m->fmask;
    case X86_MSR_KERNEL_GS_BASE:
        return &m->kernel_gs_base;
    case X86_MSR_TSC_AUX:
        return &m->tsc_aux;
    case X86_MSR_SPEC_CTRL:
        return &m->spec_ctrl;
    default:
        return NULL;
    }
}

/* ---- the VM and its vCPUs ---- */

static int create_vcpu(struct engine_part *part, unsigned i, struct err *e)
{
    struct engine_vcpu *v = &part->vcpu[i];
    void *p;

    v->part = part;
    v->pid = getpid();
    v->fd = call_n(part, part->vm_fd, KVM_CREATE_VCPU, i);
    if (v->fd < 0)
        return err_set(e, v->fd, "kvm: vCPU %u: %s", i, strerror(-v->fd));
    p = mmap(NULL, part->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd,
             0);
    if (p == MAP_FAILED)
        return err_set(e, -errno, "kvm: vCPU %u's shared page: %s", i,
                       strerror(errno));
    v->run = p;
    v->run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
    return 0;
}

static int create_vm(struct engine_part *part, int kvm, struct err *e)
{
    uint64_t identity = IDENTITY_MAP_GPA;
    int r;

    part->vm_fd = call_n(part, kvm, KVM_CREATE_VM, 0);
    if (part->vm_fd < 0)
        return err_set(e, part->vm_fd, "kvm: no VM: %s",
                       strerror(-part->vm_fd));
    r = kvm_call(part, part->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (r >= 0)
        r = call_n(part, part->vm_fd, KVM_SET_TSS_ADDR, TSS_GPA);
    if (r < 0)
        return err_set(e, r, "kvm: room for real mode: %s", strerror(-r));
    r = call_n(part, kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (r < (int)sizeof(struct kvm_run))
        return err_set(e, r < 0 ? r : -ENOTSUP,
                       "kvm: a vCPU's shared page has %d bytes", r);
    part->run_bytes = (size_t)r;
    return 0;
}

/* A KVM may take the offset and not use it (observed: PVM): set one, ask. */
static void choose_tsc(struct engine_part *part)
{
    uint64_t offset = UINT64_C(0x123456789), got = 0;
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
                                   .attr = KVM_VCPU_TSC_OFFSET,
                                   .addr = (uintptr_t)&offset};
    int fd = part->vcpu[0].fd;

    part->tsc_by = KVM_TSC_MSR;
    if (kvm_call(part, fd, KVM_HAS_DEVICE_ATTR, &attr) < 0 ||
        kvm_call(part, fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
        return;
    attr.addr = (uintptr_t)&got;
    if (kvm_call(part, fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
        return;
    part->tsc_by = got == offset ? KVM_TSC_OFFSET : KVM_TSC_HOSTS;
}

void kvm_part_destroy(struct engine_part *part)
{
    if (!part)
        return;
    for (unsigned i = 0; i < part->ncpus; i++) {
        if (part->vcpu[i].run)
            munmap(part->vcpu[i].run, part->run_bytes);
        if (part->vcpu[i].fd >= 0)
            close(part->vcpu[i].fd);
    }
    if (part->vm_fd >= 0)
        close(part->vm_fd);
    free(part);
}

int kvm_part_create(const struct engine_host *host, const struct kvm_sys *sys,
                    struct engine_part **out, struct err *e)
{
    struct engine_part *part;
    int r;

    if (host->kvm_fd < 0)
        return err_set(e, -ENOTSUP, "kvm: no /dev/kvm was handed over");
    if (!host->ncpus || host->ncpus > X86_CPUS_MAX)
        return err_set(e, -EINVAL, "kvm: %u vCPUs", host->ncpus);
    part = calloc(1, sizeof *part);
    if (!part)
        return err_set(e, -ENOMEM, "kvm: out of memory");
    part->sys = sys ? *sys : (struct kvm_sys){.ioctl = real_ioctl};
    part->vm_fd = -1;
    part->ncpus = host->ncpus;
    for (unsigned i = 0; i < part->ncpus; i++)
        part->vcpu[i].fd = -1;
    r = check_caps(part, host->kvm_fd, e);
    r = r ? r : choose_msrs(part, host->kvm_fd, e);
    r = r ? r : kvm_supported(part, host->kvm_fd, e);
    r = r ? r : create_vm(part, host->kvm_fd, e);
    r = r ? r : filter_msrs(part, e);
    for (unsigned i = 0; i < part->ncpus && !r; i++)
        r = create_vcpu(part, i, e);
    if (r) {
        kvm_part_destroy(part);
        return r;
    }
    choose_tsc(part);
    *out = part;
    return 0;
}
