#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What runs while a guest's vector registers are live in the host's must not
# touch them: neither itself nor through libc's memory functions.
cd "$(dirname "$0")/../.." || exit 2
O=${O:-o/release}
bad=0
for src in $(make -s --no-print-directory O="$O" bt-novec-list); do
    obj=$O/${src%.c}.o
    [ -f "$obj" ] || { echo "FAIL $obj is not built"; bad=1; continue; }
    if objdump -d "$obj" | grep -qE '%[xyz]?mm[0-9]'; then
        echo "FAIL $obj uses vector registers"; bad=1
    fi
    if nm -u "$obj" | grep -qwE '(__)?mem(cpy|move|set|cmp)(_chk)?'; then
        echo "FAIL $obj calls a memory function of libc"; bad=1
    fi
done
[ $bad = 0 ] && echo "ok no vector registers"
exit $bad
