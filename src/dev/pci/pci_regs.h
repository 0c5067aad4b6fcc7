// SPDX-License-Identifier: Apache-2.0
/*
 * PCI configuration space: the registers of a type 0 header and of the MSI-X
 * capability. Source: PCI Local Bus 3.0, 6.1, 6.2, 6.8.2; class codes: app. D.
 */
#ifndef DOPPEL_DEV_PCI_PCI_REGS_H
#define DOPPEL_DEV_PCI_PCI_REGS_H

#include "base/bits.h"

/* Type 0 header, byte offsets. */
#define PCI_VENDOR_ID        0x00
#define PCI_DEVICE_ID        0x02
#define PCI_COMMAND          0x04
#define PCI_STATUS           0x06
#define PCI_REVISION         0x08
#define PCI_CLASS_PROG       0x09
#define PCI_CACHE_LINE       0x0c
#define PCI_LATENCY          0x0d
#define PCI_HEADER_TYPE      0x0e
#define PCI_BAR0             0x10
#define PCI_SUBSYS_VENDOR_ID 0x2c
#define PCI_SUBSYS_ID        0x2e
#define PCI_CAP_PTR          0x34
#define PCI_INT_LINE         0x3c
#define PCI_INT_PIN          0x3d
#define PCI_HEADER_END       0x40

/* PCI_COMMAND */
#define PCI_CMD_IO       0x0001
#define PCI_CMD_MEM      0x0002
#define PCI_CMD_MASTER   0x0004
#define PCI_CMD_PARITY   0x0040
#define PCI_CMD_SERR     0x0100
#define PCI_CMD_INTX_OFF 0x0400

/* PCI_STATUS */
#define PCI_STATUS_INTX 0x0008
#define PCI_STATUS_CAPS 0x0010

/* BAR type bits */
#define PCI_BAR_IS_IO    0x1
#define PCI_BAR_IS_64    0x4
#define PCI_BAR_IO_MASK  0x3U
#define PCI_BAR_MEM_MASK 0xfU

/* Capability ids */
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

/* MSI-X capability: offsets into it, and bits of the control word */
#define PCI_MSIX_CTRL          2
#define PCI_MSIX_TABLE         4
#define PCI_MSIX_PBA           8
#define PCI_MSIX_CAP_BYTES     12
#define PCI_MSIX_CTRL_MASK_ALL 0x4000
#define PCI_MSIX_CTRL_ENABLE   0x8000

/* MSI-X table entries: four dwords */
#define PCI_MSIX_ENTRY_BYTES  16
#define PCI_MSIX_ENTRY_MASKED 0x1

/* Classes: base class, sub-class, programming interface */
#define PCI_CLASS_STORAGE_OTHER 0x018000
#define PCI_CLASS_HOST_BRIDGE   0x060000

#define PCI_DEVFN(slot, fn)     ((unsigned)(slot) << 3 | (unsigned)(fn))

#endif
