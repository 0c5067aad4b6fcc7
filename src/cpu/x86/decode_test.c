// SPDX-License-Identifier: Apache-2.0
/* Unit vectors of the decoder. */
#include "base/test.h"
#include "cpu/x86/insn.h"
TEST(t)
{
    struct x86_insn i;
    char s[80];
    static const char *const hex[] = {"4889442408", "c5f877", "c4e27d90048d00000000", "f348a5", "670fb64410f0", "d9c9", "660f3a63c112", "f2480f38f1c3", "e800000000"};
    for (unsigned k = 0; k < ARRAY_LEN(hex); k++) {
        uint8_t b[16]; unsigned n = (unsigned)strlen(hex[k]) / 2, v;
        for (unsigned j = 0; j < n; j++) { sscanf(hex[k] + 2 * j, "%2x", &v); b[j] = (uint8_t)v; }
        int r = x86_decode(b, n, X86_MODE_64, &i);
        if (r == 0) x86_disasm(&i, 0x1000, s, sizeof(s)); else sprintf(s, "=%d", r);
        printf("%s %u/%u %s\n", hex[k], i.len, n, s);
    }
}
TEST_MAIN(CASE(t))
