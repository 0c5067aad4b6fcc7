#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Other builds: no warning from gcc or clang; the unit tests under the address
# and undefined behaviour sanitizers, and those with threads under tsan.
cd "$(dirname "$0")/../.." || exit 2

# build NAME OPTION... : the log's first complaint is the verdict
build() {
    name=$1
    shift
    if make --no-print-directory -s -j2 "$@" >"o/build-$name.log" 2>&1 &&
        ! grep -q 'warning:' "o/build-$name.log"; then
        echo "ok $name builds without a warning"
    else
        echo "FAIL $name builds without a warning: $(grep -m1 -E 'warning:|error:|Error' "o/build-$name.log")"
        return 1
    fi
}

# run NAME PROGRAM...: their cases, each named after the build
run() {
    name=$1
    shift
    for t in "$@"; do
        log=o/$name/$(basename "$t").log
        timeout 280 "$t" >"$log" 2>&1 </dev/null
        status=$?
        n=$(grep -c '^ok ' "$log")
        if [ $status = 0 ] && ! grep -qE 'ERROR: .*Sanitizer|WARNING: ThreadSan|runtime error' "$log"; then
            echo "ok $(basename "$t") under $name, $n cases"
        else
            grep -E -m3 '^FAIL|ERROR:|WARNING:|runtime error' "$log"
            echo "FAIL $(basename "$t") under $name: status $status"
        fi
    done
}

# What takes minutes under a sanitizer and touches no memory of its own.
slow='decode_diff_test|corpus_test|vec_native_test|transfer_prop_test'
threads='vm/clock_test vm/mem_test dev/virtio-blk/virtio_blk_test host/block/raw_test host/chr/chr_stdio_test
    engine/interp/interp_sys_test cpu/x86/lapic_test'

# not `doppel`: the other tests run what the link at the root names
build clang CC=clang O=o/clang o/clang/doppel unit-tests
build asan MODE=asan unit-tests &&
    run asan $(find o/asan/test -name '*_test' -type f | grep -vE "$slow" | sort)
build tsan MODE=tsan $(for t in $threads; do echo "o/tsan/test/$t"; done) &&
    run tsan $(for t in $threads; do echo "o/tsan/test/$t"; done)
