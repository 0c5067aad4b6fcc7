#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every planted fault must be found. Each tests/mutants/NN-name.patch begins
# with `# found by: TEST...` (unit tests, as paths below o/MODE/test). The patch
# is applied to a copy of the tree, the tests are built and run there, and one
# of them must fail. Unpatched, all of them must pass. `tests/mutants.sh NAME...`
# runs only the patches whose names contain NAME.
set -u
cd "$(dirname "$0")/.." || exit 2
copy=o/mutants/tree
mkdir -p "$copy" o/mutants/logs

# The tracked files as they are in the work tree; unchanged ones keep their
# time, so that a second run builds little.
git ls-files -c -o --exclude-standard | while read -r f; do
    [ -f "$f" ] || continue
    if ! cmp -s "$f" "$copy/$f"; then
        mkdir -p "$copy/$(dirname "$f")"
        cp "$f" "$copy/$f"
    fi
done
top=$PWD

build() { # tests -> their programs, quietly
    # shellcheck disable=SC2086
    (cd "$copy" && make -s -j2 $(for t in $1; do echo "o/release/test/$t"; done)) \
        >"$2" 2>&1
}

run() { # tests, log: whether all pass
    for t in $1; do
        (cd "$top" && timeout 300 "$copy/o/release/test/$t") >>"$2" 2>&1 ||
            return 1
    done
}

wanted() {
    [ -z "$names" ] && return 0
    for n in $names; do
        case $1 in *"$n"*) return 0 ;; esac
    done
    return 1
}

names=$*
found=0
missed=0
all=
for patch in tests/mutants/*.patch; do
    all="$all $(sed -n '1s/^# found by: *//p' "$patch")"
done
all=$(echo "$all" | tr ' ' '\n' | sort -u | tr '\n' ' ')
if ! build "$all" o/mutants/logs/unpatched || ! run "$all" o/mutants/logs/unpatched; then
    echo "FAIL the tests do not pass without a fault: o/mutants/logs/unpatched"
    exit 1
fi
for patch in tests/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    wanted "$name" || continue
    by=$(sed -n '1s/^# found by: *//p' "$patch")
    log=o/mutants/logs/$name
    files=$(sed -n 's,^+++ b/,,p' "$patch")
    if ! patch -s -d "$copy" -p1 <"$patch" >"$log" 2>&1; then
        echo "FAIL $name: the patch does not apply"
        missed=$((missed + 1))
    elif ! build "$by" "$log"; then
        echo "FAIL $name: does not build (a fault must be semantic)"
        missed=$((missed + 1))
    elif run "$by" "$log"; then
        echo "FAIL $name: not found by $by"
        missed=$((missed + 1))
    else
        echo "ok $name: found by $by"
        found=$((found + 1))
    fi
    for f in $files; do # take the fault out again
        cp "$f" "$copy/$f"
    done
    rm -f "$copy"/src/*.rej "$copy"/src/*.orig
done
echo "$found passed, $missed failed"
[ "$missed" = 0 ] && [ "$found" -gt 0 ]
