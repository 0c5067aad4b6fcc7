// SPDX-License-Identifier: Apache-2.0
/* The monitor role: one process per VM, started by core, jailed. */
#ifndef DOPPEL_MONITOR_MONITOR_H
#define DOPPEL_MONITOR_MONITOR_H

/** monitor_main() - receive the configuration, build the VM, close the jail,
 * run the guest, report how it ended
 * @sock: ABI_SOCK_FD; takes
 * Return: the process's exit status; core judges by the report, not by it. */
int monitor_main(int sock);

#endif
