#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run every fuzzer: tests/fuzz/fuzz_test.sh [SECONDS each, default 4] [NAME...].
# Seeds are made by tests/corpus/*/seeds.sh and the loaders' generator; what is
# found worth keeping stays in o/corpus. Clang with address and undefined
# behaviour sanitizers. One line each: executions and edges covered.
cd "$(dirname "$0")/../.." || exit 2
seconds=${1:-4}
[ $# -gt 0 ] && shift
if ! make --no-print-directory -s -j2 MODE=fuzz fuzzers boot-seeds >o/fuzz-build.log 2>&1; then
    echo "FAIL the fuzzers build: $(grep -m1 -E 'error|Error' o/fuzz-build.log)"
    exit 1
fi
for s in tests/corpus/*/seeds.sh; do
    name=$(basename "$(dirname "$s")")
    sh "$s" "o/corpus/$name" >/dev/null || echo "FAIL seeds of $name"
done

one() {
    name=$(basename "$1" _fuzz)
    log=o/fuzz/$name.log
    mkdir -p "o/corpus/$name" o/fuzz/crash
    "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 \
        -artifact_prefix="o/fuzz/crash/$name-" -print_final_stats=1 \
        "o/corpus/$name" >"$log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    if [ $status = 0 ]; then
        echo "ok fuzz $name: $runs executions, $edges edges"
    else
        echo "FAIL fuzz $name: $(grep -m1 -E 'ERROR|SUMMARY|runtime error' "$log") ($log)"
    fi
}

n=0
for f in $(find o/fuzz/fuzz -name '*_fuzz' -type f -perm -u+x | sort); do
    if [ $# -gt 0 ]; then
        case " $* " in *" $(basename "$f" _fuzz) "*) ;; *) continue ;; esac
    fi
    one "$f" &
    n=$((n + 1))
    [ $((n % 2)) = 0 ] && wait
done
wait
