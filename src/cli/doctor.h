// SPDX-License-Identifier: Apache-2.0
/* The verb doctor: what this host offers, what for, and what auto picks. */
#ifndef DOPPEL_CLI_DOCTOR_H
#define DOPPEL_CLI_DOCTOR_H

/** doctor_main() - @argv: the words behind the verb; Return: exit status */
int doctor_main(int argc, char **argv);

#endif
