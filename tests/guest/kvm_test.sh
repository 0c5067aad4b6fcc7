#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tiny guests under --engine kvm, and every call to KVM failing in turn.
# Every check must hold where the host's KVM runs guest code; where it only
# interprets, those of kvm_differs.txt may fail (not must: some depend on
# timing).   kvm_test.sh [OBJDIR]
cd "$(dirname "$0")/../.." || exit 2
O=${1:-$(dirname "$(readlink doppel)" 2>/dev/null)}
O=${O:-o/release}
DOPPEL=$O/doppel
LIST=tests/guest/kvm_differs.txt
make --no-print-directory -s tiny-guests || exit 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0 skipped=0

ok() { echo "ok $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1"; failed=$((failed + 1)); }
skip() { echo "skip $1"; skipped=$((skipped + 1)); }
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}

kind=$("$DOPPEL" doctor --json | sed -n 's/.*"kvm": {"state": "\([a-z]*\)".*/\1/p')
case $kind in
real | emulating) ;;
*)
    skip "kvm: no usable /dev/kvm here"
    finish
    ;;
esac

listed() { # guest, check
    [ $kind = emulating ] && grep -qF "$1|$2|" $LIST
}

guest() { # guest, its options, label
    start=$(date +%s%N)
    "$DOPPEL" run --engine kvm -k "o/guest/tests/$1.elf" -m 128 -c 2 \
        --debug-exit 0xf4 --timeout 20 --stats $2 >"$out/out" 2>"$out/err" </dev/null
    status=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    tr -d '\r' <"$out/out" | grep -E '^(ok|FAIL) ' >"$out/checks"
    differ=0
    while read -r verdict name; do
        if [ "$verdict" = ok ]; then
            ok "kvm $1$3: $name"
        elif listed "$1" "$name"; then
            ok "kvm $1$3: $name: differs as listed"
            differ=$((differ + 1))
        else
            fail "kvm $1$3: $name"
        fi
    done <"$out/checks"
    entries=$(sed -n 's/.*stats: entries //p' "$out/err")
    if [ $status = 33 ]; then
        ok "kvm $1$3 ends well: $ms ms, ${entries:-?} entries"
    elif [ $status = 35 ] && [ $differ -gt 0 ]; then
        ok "kvm $1$3 ends with $differ listed differences: $ms ms, ${entries:-?} entries"
    elif [ $status = 125 ] && listed "$1" '*' &&
        grep -q "kvm: the host's KVM cannot emulate the instruction" "$out/err"; then
        ok "kvm $1$3 stops as listed: $(sed -n 's/.*at RIP/RIP/p' "$out/err")"
    else
        fail "kvm $1$3: status $status: $(tail -n 1 "$out/err")"
    fi
}

for g in guest/tests/*.c; do
    g=$(basename "$g" .c)
    [ "$g" = lib ] && continue
    guest "$g" "" ""
done
guest devices "--selftest-thaw 20" " thawed"
guest smp "--selftest-thaw 20" " thawed"

# --- what it refuses -----------------------------------------------------------
refuse() { # words of the sentence, options
    "$DOPPEL" run --engine kvm -k o/guest/tests/devices.elf -m 128 \
        --debug-exit 0xf4 --timeout 20 $2 >"$out/out" 2>"$out/err" </dev/null
    status=$?
    [ $status = 125 ] && grep -q -e "$1" "$out/err" && ok "kvm refuses $2" ||
        fail "kvm refuses $2: status $status: $(tail -n 1 "$out/err")"
}
refuse 'mem scatter' '--mem scatter'
refuse 'clock virtual' '--clock virtual'

# --- auto takes a KVM that runs code, never one that interprets ------------------
taken=$("$DOPPEL" doctor | sed -n 's/^--engine auto takes \([a-z]*\).*/\1/p')
case $kind:$taken in
real:kvm) ok "auto takes kvm" ;;
emulating:kvm | *:) fail "auto takes '$taken' on a KVM that is $kind" ;;
*) ok "auto takes $taken on a KVM that is $kind" ;;
esac
if [ $kind = emulating ]; then
    "$DOPPEL" run --engine kvm -k o/guest/tests/devices.elf -m 128 \
        --debug-exit 0xf4 --timeout 20 2>&1 >"$out/out" </dev/null |
        grep -q 'so --engine kvm is slow' && ok "kvm by name warns" ||
        fail "kvm by name does not warn"
fi

# --- each call to KVM fails once --------------------------------------------------
cc -std=gnu17 -O1 -D_GNU_SOURCE -o "$out/fault" tests/guest/kvm_fault.c || exit 2
one_fault() { # which
    timeout 30 "$out/fault" "$1" "$DOPPEL" run --engine kvm \
        -k o/guest/tests/devices.elf -m 16 --debug-exit 0xf4 --timeout 20 \
        >"$out/out" 2>"$out/err" </dev/null
    status=$?
}
one_fault 0
if [ $status = 77 ]; then
    skip "kvm calls that fail: ptrace is not allowed here"
    finish
fi
total=$(sed -n 's/^kvm_fault: calls \([0-9]*\),.*/\1/p' "$out/err")
[ $status = 33 ] && [ "${total:-0}" -gt 40 ] && ok "kvm under the tracer: $total calls" ||
    fail "kvm under the tracer: status $status, $total calls"
n=0 reported=0 without=0
while [ $n -lt 60 ] && [ $n -lt "${total:-0}" ]; do
    n=$((n + 1))
    one_fault $n
    said=$(grep '^doppel: ' "$out/err" | grep -c 'kvm: .*\(Bad file descriptor\|lacks .*use --engine\|another version\|-9 bytes\)')
    if [ $status = 125 ] && [ "$said" = 1 ]; then
        reported=$((reported + 1))
    elif [ $status = 33 ]; then
        without=$((without + 1))
    else
        fail "kvm call $n fails: status $status: $(cat "$out/err")"
    fi
done
[ $((reported + without)) = $n ] && [ $without -le 4 ] &&
    ok "kvm calls that fail: $n, $reported end with one sentence and status 125, $without are done without" ||
    fail "kvm calls that fail: $n, $reported reported, $without unseen"
finish
