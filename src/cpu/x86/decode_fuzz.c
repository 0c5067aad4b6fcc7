// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzzer of decoder and disassembler: any bytes get an answer, the same one
 * from any amount of bytes that suffices, "more" from every smaller amount.
 */
#include "cpu/x86/insn.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check(const uint8_t *b, size_t n, enum x86_mode mode)
{
    struct x86_insn a, c;
    char text[128];
    uint8_t longer[64] = {0};

    /* stale contents of the result must not matter */
    memset(&a, 0, sizeof(a));
    memset(&c, n > 0 ? b[n - 1] : 0xff, sizeof(c));
    enum x86_dec r = x86_decode(b, n, mode, &a);
    require(a.len <= X86_INSN_MAX_BYTES && a.len <= n);
    if (r == X86_DEC_MORE)
        return;
    memcpy(longer, b, n < sizeof(longer) ? n : sizeof(longer));
    require(x86_decode(longer, sizeof(longer), mode, &c) == r);
    require(c.len == a.len);
    if (r == X86_DEC_OK) {
        require(a.form == c.form && a.nopnds == c.nopnds);
        require(a.imm == c.imm && a.disp == c.disp);
        require(a.len > 0 && a.nopnds <= X86_OPNDS);
        require(x86_form_info(a.form)->op == a.op);
        x86_disasm(&a, 0xfffffffffffffff0, text, sizeof(text));
        require(strlen(text) < sizeof(text) - 1);
    }
    for (size_t k = 0; k < a.len; k++)
        require(x86_decode(b, k, mode, &c) == X86_DEC_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(data, size, X86_MODE_16);
    check(data, size, X86_MODE_32);
    check(data, size, X86_MODE_64);
    return 0;
}
