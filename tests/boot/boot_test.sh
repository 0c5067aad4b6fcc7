#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Real kernels: Debian's cloud and generic kernels to init and off, by what auto
# takes and by the interpreter, with little memory, several CPUs, scattered
# memory, rebuilt while they run; console, disk, statuses, signals, exact
# repetition. What a user would do.
cd "$(dirname "$0")/../.." || exit 2
doppel=${DOPPEL:-./doppel}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
make --no-print-directory -s tiny-guests || exit 2
generic="-k o/guest/generic/vmlinuz --initrd o/guest/generic/initrd.img"
log='console=ttyS0 quiet mitigations=off'

ok() { echo "ok $1"; }
fail() {
    echo "FAIL $1: $2"
    tail -n 5 "$tmp/err" 2>/dev/null | sed 's/^/  /'
}

# guest NAME STATUS EXPECT 'COMMAND in the guest' OPTION...: EXPECT is a word
# that the output must hold
guest() {
    name=$1 want=$2 expect=$3 cmd=$4
    shift 4
    timeout 200 $doppel run --timeout 180 --append "doppel.exec=\"$cmd\"" "$@" \
        >"$tmp/out" 2>"$tmp/err" </dev/null
    status=$?
    if [ $status != "$want" ]; then
        fail "$name" "status $status, not $want: $(tail -n 1 "$tmp/out")"
    elif ! grep -qF "$expect" "$tmp/out"; then
        fail "$name" "no '$expect' in: $(tail -n 2 "$tmp/out")"
    elif grep -qE 'Oops|BUG:|Call Trace|soft lockup|rcu_.*stall' "$tmp/out"; then
        fail "$name" "the kernel complains: $(grep -m1 -E 'Oops|BUG:|Call Trace|lockup|stall' "$tmp/out")"
    else
        ok "$name"
    fi
}

kernels() {
    guest "cloud kernel" 0 "here-6" 'echo here-$((2*3)); dmesg -n 1'
    guest "cloud kernel, 128 MiB" 0 "here-6" 'echo here-$((2*3))' -m 128M
    guest "cloud kernel, 4 CPUs" 0 "cpus-4" 'echo cpus-$(grep -c ^processor /proc/cpuinfo)' -c 4
    guest "cloud kernel, interpreted" 0 "here-6" 'echo here-$((2*3))' --engine interp
    guest "cloud kernel, interpreted, 2 CPUs" 0 "cpus-2" \
        'echo cpus-$(grep -c ^processor /proc/cpuinfo)' --engine interp -c 2
    guest "cloud kernel, CPU level v2" 0 "none" 'grep -m1 -o avx2 /proc/cpuinfo || echo none' --cpu v2
    guest "cloud kernel, RAM above 4 GiB" 0 "big" \
        'set -- $(grep MemTotal /proc/meminfo); [ $2 -gt 3000000 ] && echo big' -m 3300M
    guest "cloud kernel, scattered memory" 0 "here-6" 'echo here-$((2*3))' --mem scatter
    timeout 200 $doppel run --timeout 180 $generic -m 128M </dev/null \
        --append "$log doppel.exec=\"uname -r\"" >"$tmp/out" 2>"$tmp/err"
    status=$?
    if [ $status = 0 ] && grep -q 'amd64' "$tmp/out" && ! grep -q cloud "$tmp/out"; then
        ok "generic kernel, 128 MiB"
    else
        fail "generic kernel, 128 MiB" "status $status"
    fi
}

thaw() {
    guest "state rebuilt while a kernel boots" 0 "here-6" 'echo here-$((2*3))' \
        --selftest-thaw 20 --stats --mem scatter -c 2
    thaws
    guest "the same, interpreted" 0 "here-6" 'echo here-$((2*3))' \
        --selftest-thaw 20 --stats --engine interp
    thaws
}

thaws() {
    n=$(sed -n 's/^doppel: stats: thaws //p' "$tmp/err")
    if [ "${n:-0}" -ge 5 ]; then
        ok "rebuilt $n times"
    else
        fail "rebuilt often" "only ${n:-0} times"
    fi
}

repetition() {
    for i in 1 2; do
        timeout 200 $doppel run --clock virtual --seed 7 --stats </dev/null \
            --append 'doppel.exec="head -c 8 /dev/urandom | md5sum"' \
            >"$tmp/out$i" 2>"$tmp/err$i"
        sed -n 's/.*state_hash //p' "$tmp/err$i" >"$tmp/hash$i"
    done
    if [ -s "$tmp/hash1" ] && cmp -s "$tmp/hash1" "$tmp/hash2" &&
        cmp -s "$tmp/out1" "$tmp/out2"; then
        ok "two runs with one seed are equal, state hash $(cat "$tmp/hash1")"
    else
        fail "two runs with one seed" "$(cat "$tmp/hash1" "$tmp/hash2")"
    fi
}

# Wait until file $1 holds $2, at most $3 seconds.
wait_for() {
    i=0
    while ! grep -q "$2" "$1" 2>/dev/null; do
        sleep 0.2
        i=$((i + 1))
        [ $i -gt $(($3 * 5)) ] && return 1
    done
}

# 64 KiB into the guest and back out, raw, every byte value.
console() {
    head -c 65536 /dev/urandom >"$tmp/paste"
    want=$(sha256sum <"$tmp/paste" | cut -d' ' -f1)
    : >"$tmp/out"
    { wait_for "$tmp/out" READY 60; cat "$tmp/paste"; sleep 5; } |
        timeout 200 $doppel run --timeout 180 --append "doppel.exec=\"stty raw -echo crtscts; echo READY; head -c 65536 >/tmp/p; sha256sum </tmp/p; echo BEGIN; cat /tmp/p; sync\"" \
            >"$tmp/out" 2>"$tmp/err"
    if grep -q "$want" "$tmp/out"; then
        ok "64 KiB into the guest"
    else
        fail "64 KiB into the guest" "$(tail -c 200 "$tmp/out" | tr -dc 'a-z0-9 -')"
    fi
    # what stands behind BEGIN\n
    at=$(grep -abo BEGIN "$tmp/out" | head -n 1 | cut -d: -f1)
    back=$(tail -c +$((at + 7)) "$tmp/out" | head -c 65536 | sha256sum | cut -d' ' -f1)
    if [ "$back" = "$want" ]; then
        ok "64 KiB out of the guest"
    else
        fail "64 KiB out of the guest" "other bytes"
    fi
    # lines typed (pasted) into a program that reads lines
    i=0
    while [ $i -lt 900 ]; do
        echo "line $i of a text that somebody pastes into a terminal, 70 columns"
        i=$((i + 1))
    done >"$tmp/lines"
    want=$(sha256sum <"$tmp/lines" | cut -d' ' -f1)
    : >"$tmp/out"
    { wait_for "$tmp/out" READY 60; cat "$tmp/lines"; printf '\004'; sleep 8; } |
        timeout 200 $doppel run --timeout 180 --append "doppel.exec=\"stty -echo; echo READY; cat >/tmp/p; sha256sum </tmp/p\"" \
            >"$tmp/out" 2>"$tmp/err"
    if grep -q "$want" "$tmp/out"; then
        ok "64 KiB of lines pasted"
    else
        fail "64 KiB of lines pasted" "$(tail -n 2 "$tmp/out")"
    fi
    # a reader that begins long after the guest has powered off
    timeout 100 $doppel run --timeout 80 --append 'doppel.exec="yes yyyyyyy | head -c 100000; echo LAST"' \
        </dev/null 2>"$tmp/err" | { sleep 15; cat; } >"$tmp/out"
    if [ "$(grep -c yyyyyyy "$tmp/out")" = 12500 ] && grep -q LAST "$tmp/out"; then
        ok "a slow reader gets all"
    else
        fail "a slow reader gets all" "$(wc -c <"$tmp/out") bytes"
    fi
}

disk() {
    truncate -s 96M "$tmp/disk"
    mkfs.ext4 -q -F "$tmp/disk" 2>/dev/null
    guest "ext4 on /dev/vda" 0 "written" 'mkdir /m; mount -t ext4 /dev/vda /m && head -c 30000000 /dev/urandom >/m/x && cd /m && sha256sum x >sum && cd / && umount /m && echo written' --disk "$tmp/disk"
    if fsck.ext4 -fn "$tmp/disk" >"$tmp/err" 2>&1; then
        ok "fsck finds it clean"
    else
        fail "fsck finds it clean" "status $?"
    fi
    debugfs -R 'dump x '"$tmp/x" "$tmp/disk" 2>/dev/null
    debugfs -R 'cat sum' "$tmp/disk" 2>/dev/null | sed "s, x\$, $tmp/x," >"$tmp/sum"
    if sha256sum -c --status "$tmp/sum" 2>/dev/null; then
        ok "the host reads the same bytes"
    else
        fail "the host reads the same bytes" "sums differ"
    fi
    guest "the guest reads them again" 0 "x: OK" 'mkdir /m; mount -t ext4 -o ro /dev/vda /m; cd /m; sha256sum -c sum' --disk "$tmp/disk,ro" --mem scatter --selftest-thaw 500
}

statuses() {
    guest "power-off by the guest" 0 "" 'poweroff'
    guest "--no-reboot ends at a reset" 0 "" 'reboot' --no-reboot
    guest "--timeout" 124 "waiting" 'echo waiting; sleep 1000' --timeout 8
    for e in "triple 123" "pvpanic 123" "reset 123"; do
        set -- $e
        timeout 60 $doppel run --timeout 40 -m 32 -k "o/guest/ends/$1.elf" \
            >"$tmp/out" 2>"$tmp/err" </dev/null
        status=$?
        if [ $status = "$2" ] && [ "$(wc -l <"$tmp/err")" = 1 ]; then
            ok "a guest that ends by $1: $(cat "$tmp/err")"
        else
            fail "a guest that ends by $1" "status $status"
        fi
    done
    n=$(grep -c READY "$tmp/out")
    if [ "$n" = 3 ]; then
        ok "it was started three times"
    else
        fail "it was started three times" "$n times"
    fi
}

# What the caller closed must not become one of our files.
descriptors() {
    truncate -s 1M "$tmp/disk"
    before=$(sha256sum <"$tmp/disk")
    timeout 60 $doppel run --timeout 40 -m 64 -k o/guest/tests/gates.elf \
        --debug-exit 0xf4 --disk "$tmp/disk" 2>"$tmp/err" <&- >&-
    status=$?
    if [ $status = 33 ] && [ "$before" = "$(sha256sum <"$tmp/disk")" ]; then
        ok "closed standard descriptors leave a disk alone"
    else
        fail "closed standard descriptors leave a disk alone" "status $status"
    fi
}

signals() {
    for sig in TERM INT HUP; do
        : >"$tmp/out"
        $doppel run --append 'doppel.exec="echo READY; sleep 1000"' \
            >"$tmp/out" 2>"$tmp/err" </dev/null &
        pid=$!
        wait_for "$tmp/out" READY 60
        kill -$sig $pid
        wait $pid
        status=$?
        if [ $status = 0 ]; then
            ok "SIG$sig is the power button"
        else
            fail "SIG$sig is the power button" "status $status"
        fi
    done
    # a guest that does not listen to its power button
    : >"$tmp/out"
    $doppel run -m 32 -k o/guest/ends/spin.elf >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    wait_for "$tmp/out" READY 60
    kill -TERM $pid
    sleep 0.5
    kill -TERM $pid
    wait $pid
    status=$?
    if [ $status = 143 ]; then
        ok "a second SIGTERM ends it"
    else
        fail "a second SIGTERM ends it" "status $status"
    fi
    : >"$tmp/out"
    $doppel run --name doomed --append 'doppel.exec="echo READY; sleep 1000"' \
        >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    wait_for "$tmp/out" READY 60
    monitor=$(pgrep -P $pid | head -n 1)
    kill -9 $pid
    sleep 1
    # a zombie is gone: whoever inherited it may not reap
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$monitor/stat" 2>/dev/null)
    if [ -n "$monitor" ] && [ "${state:-Z}" = Z ]; then
        ok "kill -9 of core ends everything"
    else
        fail "kill -9 of core ends everything" "process $monitor is left"
    fi
}

if [ $# -gt 0 ]; then
    "$@"
    exit
fi
kernels
thaw
repetition
console
disk
statuses
descriptors
signals
