#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Translated code in lock-step with the interpreter (--check): the tiny guests,
# and the first part of a kernel's boot; tests/soak.sh boots it whole. One block
# that differs ends a run with status 125.
# (guest/tests/tlb.c is not among them: it uses entries that it should have
# flushed, as a CPU may and the reference, which has none, does not.)
cd "$(dirname "$0")/../.." || exit 2
doppel=${DOPPEL:-./doppel}
make --no-print-directory -s tiny-guests || exit 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

if ! $doppel run --engine bt -k o/guest/tests/gates.elf --debug-exit 0xf4 \
    --timeout 60 >"$out/log" 2>&1 </dev/null && [ $? = 125 ]; then
    echo "skip lock-step: $(tail -n 1 "$out/log")"
    exit 0
fi

differs() { grep -m 1 'does not do what' "$out/log"; }

tiny() { # guest
    $doppel run --engine bt --check -k "o/guest/tests/$1.elf" -m 128 -c 2 \
        --debug-exit 0xf4 --timeout 120 >"$out/log" 2>&1 </dev/null
    status=$?
    share=$(sed -n 's/.*executed blocks (\([0-9]*\).*/\1/p' "$out/log")
    if [ $status != 33 ]; then
        echo "FAIL $1: status $status: $(differs || tail -n 1 "$out/log")"
    elif [ "${share:-0}" -lt 99 ]; then
        echo "FAIL $1: checked ${share:-no} % of its blocks, not 99"
    else
        echo "ok $1 in lock-step"
    fi
}

for g in apic devices gates paging priv simd smp; do
    tiny $g
done

timeout 80 $doppel run --engine bt --check --timeout "${CHECK_SECONDS:-50}" -m 128M \
    --append 'loglevel=7 doppel.exec="echo up-$((6*7))"' >"$out/log" 2>&1 </dev/null
status=$?
if [ $status != 0 ] && [ $status != 124 ]; then
    echo "FAIL kernel: status $status: $(differs || tail -n 1 "$out/log")"
elif ! grep -q 'Linux version' "$out/log"; then
    echo "FAIL kernel: does not begin: $(tail -n 1 "$out/log")"
else
    echo "ok kernel in lock-step as far as it came"
fi

if $doppel run --check --timeout 5 >"$out/log" 2>&1 </dev/null; then
    echo "FAIL --check without --engine bt is taken"
elif grep -q 'give it with --engine bt' "$out/log"; then
    echo "ok --check needs --engine bt"
else
    echo "FAIL --check without --engine bt: $(tail -n 1 "$out/log")"
fi
