# SPDX-License-Identifier: Apache-2.0
# The command line: doppel with a monitor that plays a script instead of a
# machine (tests of core alone).
DOUBLE_OBJ := $(patsubst %.c,$(O)/%.o,$(filter-out %_test.c %_fuzz.c %_gen.c \
              src/base/test.c,$(wildcard src/base/*.c src/core/*.c src/cli/*.c))) \
              $(O)/src/monitor/conf.o $(O)/src/monitor/jail.o \
              $(O)/src/monitor/jail_selftest.o $(O)/src/monitor/landlock.o \
              $(O)/src/monitor/seccomp.o $(O)/src/monitor/engine_choice.o

$(O)/test/doppel-double: $(DOUBLE_OBJ) $(O)/tests/cli/double.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^

# Counts which lines of the seccomp list a run uses (tests/sec).
$(O)/test/seccomp-audit: $(O)/tests/sec/seccomp_audit.o \
                         $(O)/src/monitor/seccomp.o $(O)/src/base/err.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^
