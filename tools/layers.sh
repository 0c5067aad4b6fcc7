#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Refuse includes against the layers of layers.txt. Exit status 1 on a finding.
cd "$(dirname "$0")/.." || exit 2
find src -name '*.[ch]' -o -name '*.def' -path 'src/*' | sort | xargs awk '
BEGIN {
    while ((getline line < "layers.txt") > 0) {
        if (line ~ /^#/ || line !~ /:/) continue
        folder = line; sub(/:.*/, "", folder)
        may = line; sub(/^[^:]*:/, "", may)
        allow[folder] = " " may " "
    }
}
function layer_of(path,   d) { # the longest listed folder that holds path
    d = path; sub(/^src\//, "", d)
    while (sub(/\/[^\/]*$/, "", d))
        if (d in allow) return d
    return ""
}
function permitted(from, to,   n, words, i) {
    if (to == from || index(from "/", to "/") == 1) return 1
    n = split(allow[from], words, " ")
    for (i = 1; i <= n; i++)
        if (to == words[i] || index(to "/", words[i] "/") == 1) return 1
    return 0
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    inc = $0; sub(/^[^"]*"/, "", inc); sub(/".*/, "", inc)
    if (inc ~ /^tests\// && FILENAME ~ /_(test|fuzz)\.c$/) next
    from = layer_of(FILENAME)
    to = layer_of("src/" inc)
    if (from == "") { print FILENAME ": its folder is not in layers.txt"; bad = 1; next }
    if (to == "") { print FILENAME ": include \"" inc "\" is no path from src/"; bad = 1; next }
    if (!permitted(from, to)) {
        print FILENAME ":" FNR ": " from " must not include " inc " (" to ")"; bad = 1
    }
}
END { exit bad }'
