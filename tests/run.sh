#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run test programs and add up: tests/run.sh LOG_DIR PROGRAM...
# A program prints `ok NAME`, `FAIL NAME` or `skip NAME: why` lines; one that
# crashes, times out or prints none counts as one failure. Two run at a time.
# The last line is `N passed, N failed, N skipped`.
set -u
logs=$1
shift
mkdir -p "$logs"
rm -f "$logs"/*.log
: "${TEST_TIMEOUT:=600}"

# One program: its log, one line of summary, what failed or was skipped.
one() {
    prog=$1
    log=$logs/$(echo "$prog" | sed 's,^o/[^/]*/test/,,; s,/,.,g').log
    start=$(date +%s)
    timeout -k 10 "$TEST_TIMEOUT" "$prog" >"$log" 2>&1 </dev/null
    rc=$?
    bad=$(grep -c '^FAIL ' "$log")
    good=$(grep -c '^ok ' "$log")
    skipped=$(grep -c '^skip ' "$log")
    if [ $rc != 0 ] && { [ "$bad" = 0 ] || [ $rc -ge 124 ]; }; then
        echo "FAIL $prog: ended with status $rc" >>"$log"
    elif [ $((good + bad + skipped)) = 0 ]; then
        echo "FAIL $prog: said nothing" >>"$log"
    fi
    printf '%4ss %4s ok  %s\n' $(($(date +%s) - start)) "$good" "$prog"
    grep -h -B4 '^FAIL ' "$log"
    grep -h '^skip ' "$log"
}

running=0
for prog in "$@"; do
    rm -f "$logs/$(echo "$prog" | sed 's,^o/[^/]*/test/,,; s,/,.,g').log"
    one "$prog" &
    running=$((running + 1))
    if [ $running -ge 2 ]; then
        wait
        running=0
    fi
done
wait

set -- "$logs"/*.log
passed=$(cat "$@" | grep -c '^ok ')
failed=$(cat "$@" | grep -c '^FAIL ')
skipped=$(cat "$@" | grep -c '^skip ')
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
