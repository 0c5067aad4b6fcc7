# SPDX-License-Identifier: Apache-2.0
# The default guest: o/guest/{vmlinuz,initrd.img} from Debian's packages and our
# static init. `make guest`; `make guest-generic` and `make guest-rt` for the
# other kernels of the tests, in o/guest/generic and o/guest/rt; `make
# guest-debian` (as root) for a disk with Debian's programs, in o/guest/debian.
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
o/guest/debian/disk.img: tools/mkdebian.sh
	@sh tools/deps.sh debian
	@tools/mkdebian.sh $(@D)
guest-debian: o/guest/debian/disk.img
.PHONY: guest guest-generic guest-rt guest-debian

# Tiny guests (Multiboot): guest/tests/NAME.c, guest/ends/NAME.c -> o/guest/...elf
TINY_LIB    := start lib
TINY        := $(filter-out $(TINY_LIB:%=tests/%),$(patsubst guest/%.c,%,$(wildcard guest/tests/*.c guest/ends/*.c)))
TINY_CFLAGS := -std=gnu17 -O2 -ffreestanding -nostdlib -fno-pic -no-pie -mno-red-zone \
               -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables \
               -fcf-protection=none -mcmodel=small -Wall -Wextra

$(TINY:%=o/guest/%.o) o/guest/tests/lib.o: o/guest/%.o: guest/%.c guest/tests/lib.h
	@mkdir -p $(@D)
	$(GUEST_CC) $(TINY_CFLAGS) -Iguest/tests -c -o $@ $<
o/guest/tests/tlb.o: guest/tests/tlb_model.h
o/guest/tests/start.o: guest/tests/start.S
	@mkdir -p $(@D)
	$(GUEST_CC) -c -o $@ $<
# QEMU's Multiboot loader takes 32-bit ELF files only.
$(TINY:%=o/guest/%.elf): o/guest/%.elf: o/guest/%.o $(TINY_LIB:%=o/guest/tests/%.o) guest/tests/link.ld
	ld -m elf_x86_64 -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments -T guest/tests/link.ld \
	    -o $@.64 o/guest/$*.o $(TINY_LIB:%=o/guest/tests/%.o)
	objcopy -O elf32-i386 $@.64 $@ && rm $@.64

tiny-guests: $(TINY:%=o/guest/%.elf)
.PHONY: tiny-guests
