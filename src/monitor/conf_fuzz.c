// SPDX-License-Identifier: Apache-2.0
/* Fuzz the configuration's decoder: the first byte is how many descriptors
 * came, the rest is the packet. Seeds: tests/corpus/conf (conf_seed.sh). */
#include "monitor/conf.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct monitor_conf conf;
    struct err e;
    int fds[ABI_FDS_MAX];
    unsigned nfds;

    if (size < 1)
        return 0;
    nfds = data[0] % (ABI_FDS_MAX + 1);
    for (unsigned i = 0; i < nfds; i++)
        fds[i] = 1000 + (int)i; /* never used: decoding opens nothing */
    if (monitor_conf_decode(data + 1, size - 1, fds, nfds, &conf, &e) == 0 &&
        (conf.cpus < 1 || conf.cpus > ABI_CPUS_MAX ||
         conf.ram_bytes < ABI_RAM_BYTES_MIN ||
         conf.ninitrds > ABI_INITRDS_MAX || conf.ndisks > ABI_DISKS_MAX ||
         strlen(conf.cmdline) >= ABI_CMDLINE_BYTES))
        __builtin_trap();
    return 0;
}
