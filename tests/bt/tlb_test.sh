#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The TLB's rules by random operations (guest/tests/tlb.c), under the interpreter
# and the translator, without zones and with zones for all: each access is
# checked inside, and all must have come by the same hash. STEPS, SEEDS.
cd "$(dirname "$0")/../.." || exit 2
make --no-print-directory -s o/guest/tests/tlb.elf || exit 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

model() { # name, engine, seed, options
    ./doppel run --engine "$2" -k o/guest/tests/tlb.elf -m 128 \
        --debug-exit 0xf4 --timeout 600 $4 \
        --append "seed=$3 steps=${STEPS:-200000}" 2>&1 </dev/null |
        tr -d '\r' >"$out/$1"
    if grep -q '^ok every access was legal' "$out/$1"; then
        echo "ok tlb $1, seed $3 $4: $(grep '^accesses' "$out/$1")"
    else
        echo "FAIL tlb $1, seed $3 $4: $(grep -m 1 -E 'FAIL|doppel' "$out/$1")"
    fi
}

hash_of() {
    sed -n 's/^hash //p' "$out/$1"
}

for seed in ${SEEDS:-1 2 3}; do
    model interp interp "$seed" ""
    model bt bt "$seed" "--zones off"
    model zones bt "$seed" "--zones now"
    for name in bt zones; do
        # what was loaded unasked (zones: neighbours; IRET: what its #PF was
        # about) may be older than a walk would be: legal, but no equal hash
        n=$(sed -n 's/^accesses .* unasked \([0-9]*\) .*/\1/p' "$out/$name")
        all=$(sed -n 's/^accesses \([0-9]*\) .*/\1/p' "$out/$name")
        if [ "${n:-0}" -gt 0 ]; then
            [ "$n" -lt $((all / 20000 + 10)) ] && echo "ok tlb seed $seed: $name, $n unasked: no hash" ||
                echo "FAIL tlb seed $seed: $name: $n translations that nobody asked for"
            continue
        fi
        [ -n "$(hash_of $name)" ] && [ "$(hash_of interp)" = "$(hash_of $name)" ] &&
            echo "ok tlb seed $seed: $name has the interpreter's hash, $(hash_of $name)" ||
            echo "FAIL tlb seed $seed: hashes $(hash_of interp) and $(hash_of $name)"
    done
done
model bt bt 4 "--mem scatter"
