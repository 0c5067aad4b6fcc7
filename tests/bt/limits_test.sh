#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Counters, not clocks, guard the translator's speed: fixed amounts of work in a
# guest, and limits on trips to C, instructions that are called out, code size
# (limits.txt). `limits_test.sh -v` also prints what was measured.
cd "$(dirname "$0")/../.." || exit 2
: "${DOPPEL:=./doppel}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
make --no-print-directory -s o/bt/work.cpio || exit 2

# work KIND COUNT: its counters in $tmp/KIND, as `name value`
work() {
    timeout 120 $DOPPEL run --engine bt --timeout 100 --stats \
        --initrd o/bt/work.cpio --append "mitigations=off nokaslr norandmaps
        doppel.exec=\"/bt/work $1 $2\"" </dev/null >"$tmp/out" 2>"$tmp/err" &&
        { [ "$1" = boot ] || grep -q "did $1" "$tmp/out"; } || {
            if grep -q 'use --engine interp' "$tmp/err"; then
                echo "skip counters: this host cannot run translated code"
                exit 0
            fi
            echo "FAIL $1: did not end well: $(tail -n 1 "$tmp/err")"
            return
        }
    sed -n 's/^doppel: stats: \([a-z_]* [0-9]*\)$/\1/p' "$tmp/err" | awk '
        { print; v[$1] = $2 }
        /^quick_[a-z]* / && $1 != "quick_ops" { quick += $2 }
        END {
            print "quick", quick
            if (!v["guest_bytes"]) exit
            print "hot_ratio", v["hot_bytes"] / v["guest_bytes"]
            print "all_ratio", (v["hot_bytes"] + v["cold_bytes"]) / v["guest_bytes"]
        }' >"$tmp/$1"
}

sed 's/#.*//' tests/bt/limits.txt | awk 'NF == 4 { print $1, $2 }' | uniq >"$tmp/works"
while read -r kind count; do
    work "$kind" "$count"
done <"$tmp/works"

sed 's/#.*//' tests/bt/limits.txt | awk 'NF == 4' | while read -r kind count what limit; do
    [ -s "$tmp/$kind" ] && [ -s "$tmp/boot" ] || continue
    awk -v kind="$kind" -v n="$count" -v what="$what" -v limit="$limit" -v verbose="$1" '
        $1 == what { v[FILENAME] = $2; there = 1 }
        END {
            got = kind == "boot" ? v[ARGV[2]] : (v[ARGV[1]] - v[ARGV[2]]) / n
            verdict = there && got <= limit + 0 ? "ok" : "FAIL"
            printf "%s %s: %s at most %s%s\n", verdict, kind, what, limit,
                verdict == "FAIL" || verbose ? sprintf(" (%.6g)", got) : ""
        }' "$tmp/$kind" "$tmp/boot"
done
exit 0
