#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each tiny guest here, by what auto takes and by the interpreter, and under QEMU
# TCG. Here every check must hold. Under TCG too, but for those that
# tcg_differs.txt lists; one listed that holds fails.
cd "$(dirname "$0")/../.." || exit 2
doppel=${DOPPEL:-./doppel}
make --no-print-directory -s tiny-guests || exit 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

here() { # guest, extra options
    $doppel run -k "o/guest/tests/$1.elf" -m 128 -c 2 --debug-exit 0xf4 \
        --timeout 120 $2 >"$out/here" 2>&1 </dev/null
    status=$?
    tr -d '\r' <"$out/here" | grep -E '^(ok|FAIL|skip) ' | sed "s/ / $1$3: /"
    if [ $status = 33 ]; then
        echo "ok $1$3 ends well"
    else
        echo "FAIL $1$3: status $status: $(tail -n 1 "$out/here")"
    fi
}

tcg() {
    timeout 60 qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 128 -M q35 \
        -kernel "o/guest/tests/$1.elf" -display none -serial stdio \
        -monitor none -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 \
        </dev/null 2>/dev/null | tr -d '\r' >"$out/tcg"
    if ! grep -q '^done' "$out/tcg"; then
        echo "FAIL tcg $1: did not end"
        return
    fi
    grep -E '^(ok|FAIL) ' "$out/tcg" | while read -r verdict name; do
        if grep -qF "$1|$name|" tests/guest/tcg_differs.txt; then
            case $verdict in
            ok) echo "FAIL tcg $1: $name: listed as different, but is not" ;;
            FAIL) echo "ok tcg $1: $name: differs as listed" ;;
            esac
        else
            echo "$verdict tcg $1: $name"
        fi
    done
}

for g in guest/tests/*.c; do
    g=$(basename "$g" .c)
    [ "$g" = lib ] && continue
    here "$g" "" ""
    here "$g" "--engine interp" " interpreted"
    here "$g" "--mem scatter --cpu v2" " scattered, v2"
    here "$g" "--selftest-thaw 50" " thawed"
    here "$g" "--engine interp --selftest-thaw 50" " interpreted, thawed"
    tcg "$g"
done
