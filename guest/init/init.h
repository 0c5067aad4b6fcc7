// SPDX-License-Identifier: Apache-2.0
/* The default guest's PID 1: what its files share. */
#ifndef DOPPEL_GUEST_INIT_H
#define DOPPEL_GUEST_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/** say() - one line on the console: `init: ...` */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** read_file() - the start of a small file, NUL-terminated
 * Return: its length, or -1 (then @buf is ""). */
ssize_t read_file(const char *path, char *buf, size_t size);

/** modules_load() - load what /lib/modules/doppel.list names for the ACPI and
 * PCI devices that are there */
void modules_load(void);

/** button_open() - a netlink socket that hears of ACPI events, or -1.
 * Source: Linux drivers/acpi/event.c (generic netlink family acpi_event). */
int button_open(void);
/** button_pressed() - read one message: was it the power button? */
bool button_pressed(int fd);

/** cmdline_get() - the value of @key on the kernel's command line, quoted as
 * the kernel understands quotes
 * Return: false when it is not there. */
bool cmdline_get(const char *key, char *out, size_t size);

/** root_switch() - make the device that doppel.root= names the root, if there
 * is one; what fails is told on the console */
void root_switch(void);

/** power_down() - end all processes, unmount, then reboot(@how); no return */
void power_down(int how) __attribute__((noreturn));

#endif
