// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"
int doctor_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return 125;
}
