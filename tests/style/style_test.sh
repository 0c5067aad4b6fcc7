#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the house style can be checked by a machine: layers, SPDX lines, format,
# sizes of files, headers that compile alone, commit messages, forbidden words.
cd "$(dirname "$0")/../.." || exit 2

verdict() { # name, findings
    if [ -z "$2" ]; then
        echo "ok $1"
    else
        echo "$2" | head -n 10
        echo "FAIL $1"
    fi
}

sources=$(git ls-files 'src/*.[chS]' 'guest/*.[chS]' 'bench/*.[ch]' 'tools/*.c' 'tests/*.[ch]')
verdict "includes obey the layers" "$(sh tools/layers.sh 2>&1)"
verdict "every source names its licence" "$(for f in $sources; do
    head -n 1 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$f"
done)"
if command -v clang-format >/dev/null; then
    verdict "clang-format changes nothing" "$(echo "$sources" | grep '\.[ch]$' |
        xargs clang-format --dry-run 2>&1 | sed -n 's/:.*warning: code should.*//p' | sort | uniq -c)"
else
    echo "skip clang-format changes nothing: no clang-format"
fi
verdict "no file of more than 1000 lines" "$(wc -l $(echo "$sources" | grep '\.[ch]$') |
    awk '$2 != "total" && $1 > 1000')"
make --no-print-directory -s doppel >/dev/null 2>&1 # makes the generated headers
verdict "every header compiles alone" "$(for h in $(git ls-files 'src/*.h'); do
    echo "#include \"${h#src/}\"" |
        cc -std=gnu17 -D_GNU_SOURCE -Isrc -Io/release/gen -fsyntax-only -x c - 2>&1 |
        grep -m1 -E 'error' && echo "in $h"
done)"
verdict "public headers guard themselves" "$(for h in $(git ls-files 'src/*.h'); do
    grep -q '^#ifndef DOPPEL_' "$h" || echo "$h"
done)"
verdict "no gcc attribute outside base/cc.h" "$(git grep -n '__attribute__' -- 'src/*.[ch]' | grep -v '^src/base/cc.h')"
verdict "commit messages have an area and at most 72 columns" "$(git log --no-merges --format=%s | awk '
    length($0) > 90 || $0 !~ /^[^ ]+(, [^ ]+)*: /')"
