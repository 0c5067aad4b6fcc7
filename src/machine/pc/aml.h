// SPDX-License-Identifier: Apache-2.0
/*
 * A small writer of ACPI Machine Language: terms are appended to a buffer;
 * packages (scopes, devices, buffers, ...) are opened and closed and get their
 * length at the close. What does not fit sets `full` and is dropped.
 * Source: ACPI 6.5 ch. 20 (AML encoding), 6.4 (resource descriptors).
 */
#ifndef DOPPEL_MACHINE_PC_AML_H
#define DOPPEL_MACHINE_PC_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH_MAX 8

struct aml {
    uint8_t *buf; /* borrows */
    size_t len, room;
    bool full;
    unsigned depth;
    size_t open[AML_DEPTH_MAX]; /* where the open packages' lengths go */
};

/* Names are four characters, or a path as AML_ROOT takes it. */
void aml_scope(struct aml *a, const char *root_name); /* \NAME */
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, uint8_t count);
/** aml_end() - close what was opened last (not a template) */
void aml_end(struct aml *a);

/** aml_name() - Name (@name, ...): the object follows */
void aml_name(struct aml *a, const char *name);
/** aml_root_name() - Name (\@name, ...) */
void aml_root_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
/** aml_eisaid() - an EISA id such as "PNP0A03" as an integer */
void aml_eisaid(struct aml *a, const char *id);

/** aml_template() .. aml_template_end() - a resource template: a buffer */
void aml_template(struct aml *a);
void aml_template_end(struct aml *a);
void aml_res_io(struct aml *a, uint16_t port, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq);
void aml_res_memory(struct aml *a, uint32_t start, uint32_t len);
/* Windows that a bridge hands on, both ends included. */
void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_memory_window(struct aml *a, uint32_t first, uint32_t last);

#endif
