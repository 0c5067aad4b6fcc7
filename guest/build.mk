# SPDX-License-Identifier: Apache-2.0
# The default guest: o/guest/{vmlinuz,initrd.img} from Debian's packages and our
# static init. `make guest`; `make guest-generic` and `make guest-rt` for the
# other kernels of the tests, in o/guest/generic and o/guest/rt.
GUEST_CC     ?= gcc
GUEST_CFLAGS := -std=gnu17 -Os -static -s -fno-asynchronous-unwind-tables \
                -ffunction-sections -fdata-sections -Wl,--gc-sections $(WARN)
GUEST_INIT_C := $(wildcard guest/init/*.c)
GUEST_IN     := tools/mkguest.sh guest/modules.list o/guest/init o/guest/mkcpio

o/guest/init: $(GUEST_INIT_C) guest/init/init.h
	@mkdir -p $(@D)
	$(GUEST_CC) $(GUEST_CFLAGS) -o $@ $(GUEST_INIT_C)

o/guest/mkcpio: tools/mkcpio.c
	@mkdir -p $(@D)
	cc -std=gnu17 -O1 $(WARN) -o $@ $<

o/guest/initrd.img: $(GUEST_IN)
	@tools/mkguest.sh cloud o/guest o/guest/init o/guest/mkcpio
o/guest/vmlinuz: o/guest/initrd.img ;
o/guest/generic/initrd.img: $(GUEST_IN)
	@mkdir -p $(@D)
	@tools/mkguest.sh generic $(@D) o/guest/init o/guest/mkcpio
o/guest/rt/initrd.img: $(GUEST_IN)
	@mkdir -p $(@D)
	@tools/mkguest.sh rt $(@D) o/guest/init o/guest/mkcpio

guest: o/guest/initrd.img
guest-generic: o/guest/generic/initrd.img
guest-rt: o/guest/rt/initrd.img
.PHONY: guest guest-generic guest-rt
