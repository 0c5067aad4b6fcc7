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

# The man page: its template with the option table filled in.
$(O)/doppel.1: docs/doppel.1.in o/host/cli/man_gen
	@mkdir -p $(@D)
	o/host/cli/man_gen $(VERSION) < $< > $@.tmp && mv $@.tmp $@
man: $(O)/doppel.1

# PREFIX and DESTDIR as everywhere. The default guest is installed when it was
# made; without it `doppel run` says how to make it.
INSTALL ?= install
install: $(O)/doppel $(O)/doppel.1
	@$(MAKE) --no-print-directory install-built MODE=$(MODE) O=$(O)

install-built:
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	$(INSTALL) -m 755 $(O)/doppel $(DESTDIR)$(PREFIX)/bin/doppel
	$(INSTALL) -m 644 $(O)/doppel.1 $(DESTDIR)$(PREFIX)/share/man/man1/doppel.1
	@if [ -f o/guest/vmlinuz ] && [ -f o/guest/initrd.img ]; then \
	    set -x; \
	    $(INSTALL) -d $(DESTDIR)$(PREFIX)/share/doppel && \
	    $(INSTALL) -m 644 o/guest/vmlinuz o/guest/initrd.img \
	        $(DESTDIR)$(PREFIX)/share/doppel; \
	else \
	    echo "install: no default guest in o/guest (make guest makes it)"; \
	fi

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/doppel \
	      $(DESTDIR)$(PREFIX)/share/man/man1/doppel.1 \
	      $(DESTDIR)$(PREFIX)/share/doppel/vmlinuz \
	      $(DESTDIR)$(PREFIX)/share/doppel/initrd.img
.PHONY: man install install-built uninstall

test-programs: $(O)/test/doppel-double $(O)/test/seccomp-audit $(O)/doppel.1 \
               o/guest/tests/simd.elf
