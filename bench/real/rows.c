// SPDX-License-Identifier: Apache-2.0
/*
 * The rows. Programs' files are read before the time is taken, so that no row
 * measures a disk; nothing is run before, so that a row holds what a first run
 * costs (a translator's translation too).
 */
#include "rows.h"

#include <stddef.h>

#define SRC     "/usr/src/doppel"
#define READ(x) "cat " x " >/dev/null; "

/* what the openssl rows print: `+F:n:name:bytes per second`; for rsa
 * `+F2:n:bits:signatures per second:...` */
#define SSL(name, args, field, scale)                                          \
    {                                                                          \
        name, 1,                                                               \
            READ("/usr/bin/openssl /usr/lib/x86_64-linux-gnu/libcrypto*"),     \
            "openssl speed -mr -seconds 1 " args, NULL,                        \
            "awk -F: '/^.F/ {printf \"%.6f\\n\", " scale " / $" field          \
            "}' /tmp/result"                                                   \
    }

const struct real_row real_rows[] = {
    {"python", 20,
     READ("/usr/bin/python3 /usr/lib/python3*/*.py "
          "/usr/lib/python3*/__pycache__/* /usr/lib/x86_64-linux-gnu/*.so*"),
     "i=0; while [ $i -lt 20 ]; do python3 -c pass; i=$((i + 1)); done", NULL,
     NULL},
    {"pyloop", 1, NULL, "python3 /bench/loop.py", "python3 /bench/loop.py",
     NULL},
    {"gcc", 1,
     READ("/usr/lib/gcc/x86_64-linux-gnu/*/cc1 /usr/bin/*-as "
          "/usr/bin/*gcc* /usr/include/*.h /usr/include/*/*.h "
          "/usr/include/*/*/*.h") "cp -r " SRC "/lua*/src /tmp/lua",
     "cd /tmp/lua && gcc -O2 -c lparser.c", "sha256sum </tmp/lua/lparser.o",
     NULL},
    {"sqlite-tx", 200000, READ("/usr/bin/sqlite3"),
     "sqlite3 /tmp/one.db 'create table t(a integer primary key, b text, c); "
     "begin; with recursive n(i) as (select 1 union all select i + 1 from n "
     "where i < 200000) insert into t select i, hex(i * 7919), i % 97 from n; "
     "create index tc on t(c, b); commit; select sum(c), count(*) from t'",
     "sqlite3 /tmp/one.db 'select sum(length(b)), sum(c) from t where c > 50'",
     NULL},
    {"sqlite-many", 10000,
     "sqlite3 /tmp/many.db 'create table t(a integer primary key, b text)'; "
     "i=0; while [ $i -lt 10000 ]; do echo \"insert into t values($i, "
     "'text$i');\"; i=$((i + 1)); done >/tmp/many.sql",
     "sqlite3 /tmp/many.db </tmp/many.sql",
     "sqlite3 /tmp/many.db 'select sum(a), count(b) from t'", NULL},
    {"git", 1,
     READ("/usr/bin/git") "mkdir /tmp/g && cp -r " SRC "/* /tmp/g/ && cp -r "
                          "/usr/lib/python3.11 /usr/include /tmp/g/; true",
     "cd /tmp/g && git init -q . && git add . && git commit -q -m first",
     "cd /tmp/g && git rev-parse HEAD^{tree}", NULL},
    {"tar", 4,
     "mkdir /tmp/x; cp -r /usr/lib/python3.11 /usr/share/perl "
     "/usr/lib/gcc/x86_64-linux-gnu/12/plugin /usr/include /tmp/x/; true",
     "cd /tmp && tar --sort=name --mtime=@0 -cf x.tar x && mkdir y && tar -xf "
     "x.tar -C y && tar --sort=name --mtime=@0 -cf x.tar x && tar -tvf x.tar",
     "sha256sum </tmp/x.tar", NULL},
    {"shell", 1000, READ("/bin/true"),
     "i=0; while [ $i -lt 500 ]; do /bin/true; x=$(echo $i); i=$((i + 1)); "
     "done; echo $x",
     NULL, NULL},
    {"awk", 1, READ("/usr/bin/mawk") "seq 1200000 >/tmp/seq",
     "mawk '{ n[$1 % 1000] += $1; s = s substr($1, 1, 1); if (length(s) > 60) "
     "s = \"\" } /77/ { k++ } END { for (i in n) t += n[i]; print t, k, s }' "
     "/tmp/seq >/tmp/awked",
     "cat /tmp/awked", NULL},
    {"sort", 1,
     "mawk 'BEGIN { x = 1; for (i = 0; i < 400000; i++) { x = (x * 16807) % "
     "2147483647; print x, i } }' >/tmp/unsorted",
     "sort /tmp/unsorted >/tmp/sorted && sort -n -r -k2 /tmp/sorted >/tmp/back",
     "cat /tmp/sorted /tmp/back | sha256sum", NULL},
    {"+7z", 1, READ("/usr/bin/7zz"), "7zz b 1 -mmt1 -md18", NULL,
     "awk '/^Tot:/ {printf \"%.6f\\n\", 1000 / $4}' /tmp/result"},
    SSL("+aes", "-evp aes-128-cbc -bytes 8192", "4", "1e9"),
    SSL("+sha256", "-evp sha256 -bytes 8192", "4", "1e9"),
    SSL("+rsa", "rsa2048", "4", "1e9"),
    {0},
};
