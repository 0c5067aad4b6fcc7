# SPDX-License-Identifier: Apache-2.0
# Real programs of Debian, timed natively and in guests: `make bench-real`.
o/bench/real/real: bench/real/real.c bench/real/rows.c bench/real/rows.h
	@mkdir -p $(@D)
	cc -std=gnu17 -O2 -static $(WARN) -D_GNU_SOURCE -o $@ $(filter %.c,$^)
o/bench/real/loop.py: bench/real/loop.py
	@mkdir -p $(@D)
	cp $< $@
o/bench/real.cpio: o/bench/real/real o/bench/real/loop.py o/guest/mkcpio
	printf 'dir /bench 755\nfile /bench/real o/bench/real/real 755\nfile /bench/loop.py o/bench/real/loop.py 644\n' | \
	    o/guest/mkcpio > $@.tmp && mv $@.tmp $@

bench-real-programs: o/bench/real.cpio o/bench/runner
bench-real:
	@sh tools/deps.sh bench
	@$(MAKE) --no-print-directory -s doppel guest guest-debian bench-real-programs
	@sh bench/real/run.sh
.PHONY: bench-real-programs bench-real
