# SPDX-License-Identifier: Apache-2.0
# The benchmark program (static: it runs natively and as it is in a guest), and
# what runs it in several places by turns.
BENCH_SUITE_C := $(wildcard bench/suite/*.c)

o/bench/suite: $(BENCH_SUITE_C) bench/suite/suite.h
	@mkdir -p $(@D)
	cc -std=gnu17 -O2 -static -pthread $(WARN) -D_GNU_SOURCE -o $@ $(BENCH_SUITE_C)

o/bench/suite.cpio: o/bench/suite o/guest/mkcpio
	printf 'dir /bench 755\nfile /bench/suite o/bench/suite 755\n' | \
	    o/guest/mkcpio > $@.tmp && mv $@.tmp $@

o/bench/runner: bench/runner.c
	@mkdir -p $(@D)
	cc -std=gnu17 -O2 $(WARN) -D_GNU_SOURCE -o $@ $< -lm

bench-programs: o/bench/suite.cpio o/bench/runner
.PHONY: bench-programs
