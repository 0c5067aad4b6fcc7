// SPDX-License-Identifier: Apache-2.0
/* Unit vectors of the decoder. */
#include "base/test.h"
#include "cpu/x86/insn.h"
TEST(t)
{
    struct x86_insn i;
    CHECK_EQ(x86_decode((const uint8_t *)"\x48\x89\x44\x24\x08", 5, X86_MODE_64, &i), X86_DEC_OK);
    CHECK_EQ(i.len, 5);
    printf("%s %s\n", x86_form_info(i.form)->name, x86_op_name(i.op));
}
TEST_MAIN(CASE(t))
