#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Looking at translated code: perf's map, names of kernel code, block records
# and what tools/btdump.py makes of them.
cd "$(dirname "$0")/../.." || exit 2
: "${DOPPEL:=./doppel}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"; [ -n "$pid" ] && rm -f "/tmp/perf-$pid.map"' EXIT

verdict() { # name, whether, what to show
    if [ "$2" = 0 ]; then
        echo "ok $1"
    else
        echo "$3" | head -n 5
        echo "FAIL $1"
    fi
}

# The kernel is linked at 0xffffffff81000000 and not moved. The second line is
# out of order, the third one no code.
printf '%s\n' 'ffffffff81000000 T whole_kernel' 'ffffffff80000000 t before' \
    'ffffffff81000001 D no_code' 'rubbish' >"$tmp/symbols"
timeout 100 $DOPPEL run --engine bt --timeout 90 --verbose --perf-map \
    --symbols "$tmp/symbols" --dump-block all --dump-to "$tmp/blocks" \
    --append 'nokaslr doppel.exec="echo here-$((2*3))"' \
    </dev/null >"$tmp/out" 2>"$tmp/err"
if grep -q 'use --engine interp' "$tmp/err"; then
    echo "skip looking at code: this host cannot run translated code"
    exit 0
fi
grep -q here-6 "$tmp/out"
verdict "a guest that is looked at runs" $? "$(tail -n 3 "$tmp/err")"
pid=$(sed -n 's/.*runs, process \([0-9]*\)$/\1/p' "$tmp/err" | tail -n 1)
map=/tmp/perf-$pid.map
bad=$(grep -vE '^[0-9a-f]+ [0-9a-f]+ 0x[0-9a-f]+( [A-Za-z_0-9.]+\+0x[0-9a-f]+)?( \(cold\))?$' "$map" | head -n 3)
[ -s "$map" ] && [ -z "$bad" ]
verdict "perf's map has lines as perf reads them" $? "$bad"
grep -q ' 0xffffffff810[0-9a-f]* whole_kernel+0x' "$map" && ! grep -q no_code "$map"
verdict "kernel code has its symbol's name" $? "$(head -n 2 "$map")"
blocks=$(grep -c '^block ' "$tmp/blocks")
ends=$(grep -c '^end$' "$tmp/blocks")
[ "$blocks" -gt 1000 ] && [ "$blocks" = "$ends" ]
verdict "every block has a record" $? "$blocks blocks, $ends ends"
# of a block in the middle
va=$(sed -n 's/^block va=\(ffffffff81[0-9a-f]*\) .*/\1/p' "$tmp/blocks" | sed -n 500p)
python3 tools/btdump.py "$tmp/blocks" "$va" >"$tmp/text" 2>&1
grep -q "^== $va" "$tmp/text" && grep -q "guest $va  live" "$tmp/text" &&
    grep -q -- '-- hot' "$tmp/text" && ! grep -q Traceback "$tmp/text"
verdict "btdump shows a block" $? "$(tail -n 3 "$tmp/text")"
timeout 100 $DOPPEL run --engine bt --timeout 90 --dump-block "$va" \
    --append 'nokaslr doppel.exec=true' </dev/null >"$tmp/out" 2>"$tmp/err"
grep -q "^block va=$va " "$tmp/err" && ! grep '^block ' "$tmp/err" | grep -qv "va=$va "
verdict "one address, to stderr" $? "$(grep '^block' "$tmp/err")"
exit 0
