// SPDX-License-Identifier: Apache-2.0
/* What the files of this folder share. */
#ifndef DOPPEL_DEV_PCI_PCI_INTERNAL_H
#define DOPPEL_DEV_PCI_PCI_INTERNAL_H

#include "dev/pci/pci.h"

struct pci_bus {
    struct vm *vm;
    struct pci_bus_conf conf;
    pthread_mutex_t lock;
    uint32_t config_address; /* CF8 */
    uint8_t reset_control;   /* CF9 */
    struct bus_region pio;
    struct bus_region ecam;
    bool ecam_mapped;
    struct pci_dev *dev[PCI_FUNCTIONS];
    unsigned blocked; /* BARs that wait for another region to go away */
    struct pci_dev host;
};

extern const struct state_desc pci_dev_state;

static inline uint16_t pci_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *p)
{
    return (uint32_t)pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

static inline void pci_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void pci_put32(uint8_t *p, uint32_t v)
{
    pci_put16(p, (uint16_t)v);
    pci_put16(p + 2, (uint16_t)(v >> 16));
}

/* Map, move or unmap BARs after a change of BARs or the command register. */
void pci_decode_update(struct pci_dev *dev);
void pci_decode_off(struct pci_dev *dev);
/* Pass on what a change of command or MSI-X control allows. @force: set the
 * line even if it seems unchanged (after a state load). */
void pci_irq_update(struct pci_dev *dev, bool force);
void pci_dev_reset(struct pci_dev *dev);
/* Mirror command and MSI-X control for other threads. */
void pci_mirror(struct pci_dev *dev);

#endif
