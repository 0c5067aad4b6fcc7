# SPDX-License-Identifier: Apache-2.0
# Seeds of the loaders' fuzzers, in o/corpus/{bzimage,elf,multiboot,initrd}.
boot-seeds: o/host/boot/seeds_gen
	@mkdir -p o/corpus
	o/host/boot/seeds_gen o/corpus
.PHONY: boot-seeds
