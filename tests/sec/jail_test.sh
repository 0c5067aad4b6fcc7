#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The monitor's jail around real guests:
#  - a forbidden call ends the monitor alone, and core says so;
#  - where no namespace can be had (as in a container) seccomp stands alone;
#  - each line of the seccomp list is used by one of the guests run here.
#   jail_test.sh [OBJDIR]
cd "$(dirname "$0")/../.." || exit 2
O=${1:-$(dirname "$(readlink doppel)" 2>/dev/null)}
O=${O:-o/release}
DOPPEL=$O/doppel
AUDIT=$O/test/seccomp-audit
SIMD=o/guest/tests/simd.elf
T=$(mktemp -d /tmp/doppel-sec-XXXXXX)
trap 'rm -rf "$T"' EXIT
passed=0 failed=0 skipped=0

ok() { echo "ok $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
monitor_of() { # VM's name
    for p in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -q "^doppel: $1 " &&
            echo "${p#/proc/}"
    done
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}

if [ -n "$(nm "$DOPPEL" 2>/dev/null | grep -E '__(a|t)san_init')" ]; then
    skip jail "a sanitizer's run-time does not live under the filter"
    finish
fi

# --- forbidden calls, from a monitor with a whole machine ---------------------
for call in open execve socket ptrace mmap-exec mprotect-exec io-uring; do
    "$DOPPEL" run -k "$SIMD" -m 16 --selftest-jail $call >"$T/out" 2>"$T/err" </dev/null
    status=$?
    [ $status = 125 ] && grep -q 'seccomp list does not allow' "$T/err" &&
        ok "kills $call" || fail "kills $call" "status $status: $(cat "$T/err")"
done

# --- a host without namespaces ------------------------------------------------
# A user namespace whose own limit of user namespaces is 0, and no capability.
bare() {
    unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces &&
        exec setpriv --bounding-set=-all --inh-caps=-all \
            --securebits=+noroot,+noroot_locked "$@"' sh "$@"
}
if bare true 2>/dev/null; then
    bare "$DOPPEL" doctor >"$T/out" 2>&1
    grep 'cannot have' "$T/out" | grep -q 'user namespace' &&
        ok "doctor names the missing layers" || fail "doctor names the missing layers" "$(cat "$T/out")"
    bare "$DOPPEL" run -k "$SIMD" -m 16 --debug-exit 0xf4 >"$T/out" 2>&1 </dev/null
    status=$?
    [ $status = 33 ] && ok "runs without namespaces" || fail "runs without namespaces" "status $status: $(cat "$T/out")"
    bare "$DOPPEL" run -k "$SIMD" -m 16 --selftest-jail open >"$T/out" 2>&1 </dev/null
    [ $? = 125 ] && grep -q 'seccomp list' "$T/out" &&
        ok "seccomp stands alone" || fail "seccomp stands alone" "$(cat "$T/out")"
else
    skip "without namespaces" "unshare or setpriv cannot set the scene here"
fi

# --- every line of the list is used --------------------------------------------
# Many CPUs thawed: their state is a block that grows past what brk serves.
"$AUDIT" run "$T/counts" --no-vdso -- "$DOPPEL" run --seccomp-audit -k "$SIMD" \
    -m 16 -c 64 --engine interp --selftest-thaw 50 --debug-exit 0xf4 \
    --timeout 120 >"$T/out" 2>&1 </dev/null
status=$?
if [ $status = 77 ]; then
    skip "seccomp list" "$(cat "$T/out")"
    finish
fi
[ $status = 33 ] && ok "audit of a tiny guest" || fail "audit of a tiny guest" "status $status: $(cat "$T/out")"
# The translator has signal handlers on stacks of their own.
"$AUDIT" run "$T/counts" --no-vdso -- "$DOPPEL" run --seccomp-audit -k "$SIMD" \
    -m 16 --engine bt --debug-exit 0xf4 --timeout 120 >"$T/out" 2>&1 </dev/null
status=$?
[ $status = 33 ] && ok "audit of a translated guest" ||
    fail "audit of a translated guest" "status $status: $(cat "$T/out")"
if [ ! -f o/guest/vmlinuz ]; then
    skip "seccomp list" "no default guest (make guest)"
    finish
fi

# A Debian kernel with two CPUs and a disk, thawed now and then; its commands
# are written when the prompt is there.
truncate -s 8M "$T/disk"
mkfifo "$T/in"
"$AUDIT" run "$T/counts" -- "$DOPPEL" run --seccomp-audit -c 2 --disk "$T/disk" \
    --selftest-thaw 200 --name "audit-$$" --timeout 200 <"$T/in" >"$T/out" 2>"$T/err" &
pid=$!
exec 3>"$T/in"
for _ in $(seq 200); do
    grep -q 'root@' "$T/out" && break
    kill -0 $pid 2>/dev/null || break
    sleep 1
done
# Stopped and continued, waits begin again.
mon=$(monitor_of "audit-$$")
[ -n "$mon" ] && kill -STOP "$mon" && sleep 0.2 && kill -CONT "$mon"
sleep 0.2
echo 'dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=fsync; dd if=/dev/vda of=/dev/null bs=64k; blkdiscard /dev/vda; poweroff' >&3
wait $pid
status=$?
exec 3>&-
[ $status = 0 ] && ok "audit of a Debian boot" || fail "audit of a Debian boot" "status $status: $(tail -3 "$T/out") $(cat "$T/err")"
"$AUDIT" check "$T/counts" && ok "each line of the list is used" ||
    fail "each line of the list is used" "see above"
finish
