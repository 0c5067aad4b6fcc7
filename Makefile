# SPDX-License-Identifier: Apache-2.0
# Doppel's one Makefile. `make help` lists the targets.
# MODE: release (default) debug asan ubsan tsan cov fuzz; CC: gcc or clang.

MODE    ?= release
O       := o/$(MODE)
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

ifeq ($(MODE),fuzz)
CC := clang
endif

CPPFLAGS += -Isrc -I$(O)/gen -D_GNU_SOURCE -DDOPPEL_VERSION='"$(VERSION)"' \
            -DDOPPEL_PREFIX='"$(PREFIX)"'
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion \
        -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough \
        -Wformat=2 -Wundef -Wvla -Wwrite-strings -Wpointer-arith \
        -Wmissing-noreturn
CFLAGS_COMMON := -std=gnu17 -g -fno-strict-aliasing -fwrapv -pthread -MMD -MP \
        -fstack-protector-strong -ftrivial-auto-var-init=zero -fPIE $(WARN) \
        $(if $(WERROR),-Werror)
CFLAGS_release := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
CFLAGS_debug   := -O1 -DDOPPEL_DEBUG
CFLAGS_asan    := -O1 -DDOPPEL_DEBUG -fsanitize=address,undefined -fno-omit-frame-pointer
CFLAGS_ubsan   := -O1 -DDOPPEL_DEBUG -fsanitize=undefined -fno-sanitize-recover=undefined
# tsan's calls hide initialisations from gcc's flow analysis
CFLAGS_tsan    := -O1 -DDOPPEL_DEBUG -fsanitize=thread -Wno-maybe-uninitialized
CFLAGS_cov     := -O0 -DDOPPEL_DEBUG --coverage
CFLAGS_fuzz    := -O1 -DDOPPEL_DEBUG -DDOPPEL_FUZZ -fsanitize=fuzzer-no-link,address,undefined
LDFLAGS_asan   := -fsanitize=address,undefined
LDFLAGS_ubsan  := -fsanitize=undefined
LDFLAGS_tsan   := -fsanitize=thread
LDFLAGS_cov    := --coverage
LDFLAGS_fuzz   := -fsanitize=address,undefined
# clang before 16 wants to be told that zero initialisation stays.
ifneq ($(shell $(CC) --version 2>/dev/null | grep -E 'clang version ([0-9]|1[0-5])\.'),)
CFLAGS_COMMON += -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang
endif
CFLAGS  += $(CFLAGS_COMMON) $(CFLAGS_$(MODE))
LDFLAGS += -pthread -pie -Wl,-z,relro,-z,now $(LDFLAGS_$(MODE))
LDLIBS  += -llz4 -lz -llzma

# Extra rules and flags of single folders; each may add to GEN_H, LIB_OBJ and
# CFLAGS_<file>. Included first so that generated headers are known.
GEN_H   :=
all: doppel
-include $(sort $(wildcard src/*/build.mk src/*/*/build.mk guest/build.mk tests/build.mk bench/build.mk bench/real/build.mk fuzz/build.mk))

SRC      := $(sort $(shell find src -name '*.c'))
TEST_SRC := $(filter %_test.c,$(SRC))
FUZZ_SRC := $(filter %_fuzz.c,$(SRC))
GEN_SRC  := $(filter %_gen.c,$(SRC))
MAIN_SRC := src/cli/main.c
LIB_SRC  := $(filter-out $(TEST_SRC) $(FUZZ_SRC) $(GEN_SRC) $(MAIN_SRC) src/base/test.c,$(SRC))
LIB_OBJ  += $(LIB_SRC:%.c=$(O)/%.o)
LIB      := $(O)/libdoppel.a
TESTS    := $(TEST_SRC:src/%.c=$(O)/test/%)
FUZZERS  := $(FUZZ_SRC:src/%.c=$(O)/fuzz/%)

doppel: $(O)/doppel FORCE
	@ln -sfn $< $@
FORCE:

$(O)/doppel: $(O)/src/cli/main.o $(LIB)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(O)/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$*) -c -o $@ $<

$(O)/%.o: %.S | $(GEN_H)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Host-side generators: src/**/foo_gen.c -> o/host/foo_gen
o/host/%: src/%.c
	@mkdir -p $(@D)
	cc -std=gnu17 -O1 -g -Isrc -D_GNU_SOURCE $(WARN) -MMD -MP -o $@ $<

# Unit tests: src/**/foo_test.c -> o/MODE/test/**/foo_test
$(O)/test/%: $(O)/src/%.o $(O)/src/base/test.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(O)/src/$*.o $(O)/src/base/test.o $(LIB) $(LDLIBS) $(LDLIBS_src/$*)

# Fuzzers: src/**/foo_fuzz.c -> o/fuzz/fuzz/**/foo_fuzz (make MODE=fuzz fuzzers)
$(O)/fuzz/%: $(O)/src/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(O)/src/$*.o $(LIB) $(LDLIBS)

unit-tests: $(TESTS)
fuzzers: $(FUZZERS)

# ---- what people type ----

run:
	@sh tools/deps.sh run
	@$(MAKE) --no-print-directory -s doppel guest
	@./doppel run

# Scripts that cross folders, named tests/AREA/NAME_test.sh.
TEST_SCRIPTS := $(sort $(wildcard tests/*/*_test.sh))

test:
	@sh tools/deps.sh test
	@$(MAKE) --no-print-directory -s -j2 doppel guest guest-generic test-programs
	@tests/run.sh o/test-logs $(TESTS) $(TEST_SCRIPTS)

test-programs: unit-tests

# The full counts, resumable; writes docs/STATUS.md.
soak:
	@sh tools/deps.sh test
	@$(MAKE) --no-print-directory -s -j2 doppel guest guest-generic guest-rt test-programs
	@[ "$$(id -u)" != 0 ] || $(MAKE) --no-print-directory -s guest-debian bench-real-programs
	@sh tests/soak.sh

# Every planted fault of tests/mutants must be found.
mutants:
	@sh tools/deps.sh test
	@sh tests/mutants.sh

bench:
	@sh tools/deps.sh bench
	@$(MAKE) --no-print-directory -s doppel guest bench-programs
	@sh bench/run.sh
	@$(MAKE) --no-print-directory -s bench-real

help:
	@echo 'make            build ./doppel'
	@echo 'make run        install what is missing, build, boot Debian to a shell'
	@echo 'make test       the tests, 15 minutes at most'
	@echo 'make soak       the full counts; writes docs/STATUS.md'
	@echo 'make mutants    find every planted fault of tests/mutants'
	@echo 'make bench      ratios to native and to QEMU TCG'
	@echo 'make bench-real the same for programs of Debian in a guest'
	@echo 'make install    PREFIX=/usr/local, DESTDIR='
	@echo 'MODE=debug|asan|ubsan|tsan|cov and CC=clang go with each'

layers:
	@sh tools/layers.sh

clean:
	rm -rf o doppel

.PHONY: all unit-tests fuzzers layers clean run test test-programs soak mutants bench help FORCE
# Keep what pattern rules make on the way.
.PRECIOUS: $(O)/%.o o/host/%
-include $(shell find $(O) o/host -name '*.d' 2>/dev/null)
