// SPDX-License-Identifier: Apache-2.0
/*
 * Devices with an 8-bit data bus on a wider bus: the bus controller splits an
 * access of 2, 4 or 8 bytes into byte cycles at rising addresses (ISA bus;
 * Intel 82371SB data sheet, "ISA data swap"). A device's callbacks use these.
 */
#ifndef DOPPEL_VM_BUS8_H
#define DOPPEL_VM_BUS8_H

#include <stdint.h>

/** bus8_read() - @size byte cycles from @off on, gathered little endian */
static inline uint64_t bus8_read(uint8_t (*read)(void *dev, uint64_t off),
                                 void *dev, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < size; i++)
        val |= (uint64_t)read(dev, off + i) << (8 * i);
    return val;
}

/** bus8_write() - @size byte cycles from @off on */
static inline void
bus8_write(void (*write)(void *dev, uint64_t off, uint8_t val), void *dev,
           uint64_t off, uint64_t val, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        write(dev, off + i, (uint8_t)(val >> (8 * i)));
}

#endif
