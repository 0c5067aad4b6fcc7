// SPDX-License-Identifier: Apache-2.0
/*
 * What KVM must know of the machine that was built: where its RAM lies and what
 * its CPUID answers; see priv.h. Thread: main, vCPUs not running.
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#include "base/log.h"
#include "cpu/x86/cpuid.h"
#include "engine/kvm/priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HIGH_BASE (UINT64_C(1) << 32)

/* Feature bits that are ours, whatever KVM says: the local APIC, its timer,
 * MSRs that come to us, what CPUID must say of a hypervisor. */
static const struct shown {
    uint32_t leaf, sub;
    uint8_t reg; /* EAX EBX ECX EDX */
    uint32_t ours;
} shown[KVM_SHOWN_REGS] = {
    {1, 0, 2, 1U << 21 | 1U << 24 | 1U << 27 | 1U << 31},
    {1, 0, 3, 1U << 7 | 1U << 9 | 1U << 12 | 1U << 14},
    {7, 0, 1, 1U << 1},
    {7, 0, 2, 0},
    {7, 0, 3, 1U << 26 | 1U << 27 | 1U << 29 | 1U << 31},
    {0xd, 1, 0, 0},
    {0x80000001U, 0, 2, 0},
    {0x80000001U, 0, 3, 0},
};

#define SUPPORTED_MAX 256

int kvm_supported(struct engine_part *part, int kvm, struct err *e)
{
    AUTO_FREE struct kvm_cpuid2 *c =
        calloc(1, sizeof *c + SUPPORTED_MAX * sizeof c->entries[0]);
    int r;

    if (!c)
        return err_set(e, -ENOMEM, "kvm: no memory for CPUID");
    c->nent = SUPPORTED_MAX;
    r = kvm_call(part, kvm, KVM_GET_SUPPORTED_CPUID, c);
    if (r < 0)
        return err_set(e, r, "kvm: what CPUID can show: %s", strerror(-r));
    for (unsigned i = 0; i < ARRAY_LEN(shown); i++) {
        part->can_show[i] = shown[i].ours;
        for (uint32_t k = 0; k < c->nent && k < SUPPORTED_MAX; k++) {
            const struct kvm_cpuid_entry2 *en = &c->entries[k];
            const uint32_t regs[4] = {en->eax, en->ebx, en->ecx, en->edx};

            if (en->function == shown[i].leaf && en->index == shown[i].sub)
                part->can_show[i] |= regs[shown[i].reg];
        }
    }
    return 0;
}

/* Cut @regs of a leaf to what KVM runs. Return: whether bits were lost. */
static bool cut(const struct engine_part *part, uint32_t leaf, uint32_t sub,
                uint32_t regs[4])
{
    bool lost = false;

    for (unsigned i = 0; i < ARRAY_LEN(shown); i++) {
        uint32_t *reg = &regs[shown[i].reg];

        if (shown[i].leaf != leaf || shown[i].sub != sub)
            continue;
        lost = lost || (*reg & ~part->can_show[i]);
        *reg &= part->can_show[i];
    }
    return lost;
}

static int set_slot(struct engine_part *part, uint32_t slot, uint64_t gpa,
                    uint64_t bytes, const uint8_t *hva)
{
    struct kvm_userspace_memory_region r = {.slot = slot,
                                            .guest_phys_addr = gpa,
                                            .memory_size = bytes,
                                            .userspace_addr = (uintptr_t)hva};

    return kvm_call(part, part->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);
}

int kvm_map_ram(struct engine_part *part, struct vm *vm, struct err *e)
{
    uint64_t low = mem_low_bytes(vm->mem), high = mem_high_bytes(vm->mem);
    const uint8_t *hva = mem_linear_hva(vm->mem);
    int r;

    if (!hva)
        return err_set(e, -ENOTSUP,
                       "kvm: the hardware wants RAM in one piece: leave out "
                       "--mem scatter or use --engine interp");
    r = set_slot(part, 0, 0, low, hva);
    if (r >= 0 && high)
        r = set_slot(part, 1, HIGH_BASE, high, hva + low);
    if (r < 0)
        return err_set(e, r, "kvm: %" PRIu64 " MiB of guest RAM: %s",
                       (low + high) >> 20, strerror(-r));
    kvm_all_dirty(vm);
    return 0;
}

void kvm_unmap_ram(struct engine_part *part)
{
    /* A slot that isn't there is refused, which is as well. */
    (void)set_slot(part, 0, 0, 0, NULL);
    (void)set_slot(part, 1, HIGH_BASE, 0, NULL);
}

void kvm_all_dirty(struct vm *vm)
{
    uint64_t low = mem_low_bytes(vm->mem), high = mem_high_bytes(vm->mem);
    uint32_t word;

    for (uint64_t a = 0; a < low; a += MEM_PAGE_BYTES)
        (void)mem_tlb_page(vm->mem, gpa(a), MEM_WRITE, &word);
    for (uint64_t a = 0; a < high; a += MEM_PAGE_BYTES)
        (void)mem_tlb_page(vm->mem, gpa(HIGH_BASE + a), MEM_WRITE, &word);
}

int kvm_set_cpuid(struct engine_vcpu *v, struct err *e)
{
    const struct x86_cpuid *c = v->cpu->cpuid;
    struct kvm_cpuid_block b;
    bool lost = false;
    int r;

    memset(&b, 0, sizeof b);
    for (unsigned i = 0; i < c->n; i++) {
        const struct x86_cpuid_leaf *l = &c->leaf[i];
        struct kvm_cpuid_entry2 *to = &b.entry[i];
        uint32_t regs[4];

        x86_cpuid_query(v->cpu, l->leaf, l->sub < 0 ? 0 : (uint32_t)l->sub,
                        regs);
        lost |= cut(v->part, l->leaf, l->sub < 0 ? 0 : (uint32_t)l->sub, regs);
        to->function = l->leaf;
        to->index = l->sub < 0 ? 0 : (uint32_t)l->sub;
        to->flags = l->sub < 0 ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        to->eax = regs[0];
        to->ebx = regs[1];
        to->ecx = regs[2];
        to->edx = regs[3];
    }
    b.nent = c->n;
    if (lost && !v->part->told)
        log_warn("kvm", "this host's KVM lacks features of the chosen CPU "
                        "level, which the guest does not see then");
    v->part->told |= lost;
    if (memcmp(&b, &v->cpuid, sizeof b) == 0)
        return 0;
    r = kvm_call(v->part, v->fd, KVM_SET_CPUID2, &b);
    if (r >= 0)
        v->cpuid = b;
    return r < 0 ? err_set(e, r, "kvm: CPUID of vCPU %u: %s", v->cpu->index,
                           strerror(-r))
                 : 0;
}
