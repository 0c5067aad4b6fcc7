// SPDX-License-Identifier: Apache-2.0
/* The PC's wiring, without an engine. */
#include "machine/pc/pc.h"

#include "base/bits.h"
#include "base/test.h"

static struct pc *make(void)
{
    struct pc_conf conf = {
        .ram_bytes = 2 * MIB, .ram_fd = -1, .ncpus = 2, .debug_exit_port = -1};
    struct err e = {{0}};
    struct pc *pc = NULL;

    CHECK_EQ(pc_create(&conf, &pc, &e), 0);
    return pc;
}

static bool posted(struct pc *pc, unsigned cpu, unsigned vec)
{
    struct kick *k = &pc_cpu(pc, cpu)->kick;

    return atomic_load(&k->posted[vec >> 6]) >> (vec & 63) & 1;
}

/* Only the APICs' megabyte is a message; the rest must do nothing. */
TEST(msi_addresses)
{
    static const uint64_t elsewhere[] = {0,
                                         0x1000,
                                         0xfed00000,
                                         0xfef00000,
                                         UINT64_C(0x1fee00000),
                                         UINT64_MAX & ~3U};
    struct pc *pc = make();
    struct vm *vm = pc_vm(pc);
    uint32_t word = 1;

    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++) {
        irq_msi_send(&vm->msi, elsewhere[i], 0x40);
        irq_msi_send(&vm->msi, elsewhere[i] | 0xff000, 0x40);
    }
    CHECK(!posted(pc, 0, 0x40) && !posted(pc, 1, 0x40));
    CHECK_EQ(mem_read(vm->mem, gpa(0x1000), &word, sizeof word), 0);
    CHECK_EQ(word, 0);
    irq_msi_send(&vm->msi, 0xfee01000, 0x40);
    CHECK(!posted(pc, 0, 0x40) && posted(pc, 1, 0x40));
    irq_msi_send(&vm->msi, 0xfee7f000, 0x41); /* nobody has this id */
    CHECK(!posted(pc, 0, 0x41) && !posted(pc, 1, 0x41));
    pc_destroy(pc);
}

TEST_MAIN(CASE(msi_addresses))
