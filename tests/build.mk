# The instruction corpus (tests/insn/corpus). native.c's signal handler runs
# with a strange FS base and flags: nothing may be woven into it.
CORPUS_OBJ := $(patsubst %,$(O)/tests/insn/corpus/%.o,native guest state encode aim make diff)
$(O)/test/engine/interp/corpus_test: $(CORPUS_OBJ)
LDLIBS_src/engine/interp/corpus_test = $(CORPUS_OBJ) $(LIB) $(LDLIBS)
CFLAGS_src/engine/interp/corpus_test := -I.
$(foreach f,guest state encode aim make diff,$(eval CFLAGS_tests/insn/corpus/$f := -I.))
CFLAGS_tests/insn/corpus/native := -I. -fno-sanitize=all -fno-stack-protector \
        -fno-profile-arcs -fno-test-coverage -U_FORTIFY_SOURCE

# The same cases, and random blocks, through the translator.
FORMS_OBJ := $(filter-out %/native.o,$(CORPUS_OBJ))
$(O)/test/engine/bt/forms_test: $(FORMS_OBJ)
LDLIBS_src/engine/bt/forms_test = $(FORMS_OBJ) $(LIB) $(LDLIBS)
CFLAGS_src/engine/bt/forms_test := -I.

# What tests/bt/limits_test.sh runs in a guest.
o/bt/work: tests/bt/work.c
	@mkdir -p $(@D)
	cc -std=gnu17 -O2 -static $(WARN) -D_GNU_SOURCE -o $@ $<
o/bt/work.cpio: o/bt/work o/guest/mkcpio
	printf 'dir /bt 755\nfile /bt/work o/bt/work 755\n' | \
	    o/guest/mkcpio > $@.tmp && mv $@.tmp $@
test-programs: o/bt/work.cpio
BLOCKS := vm state asm make flow flags diff run excuse small
BLOCKS_OBJ := $(patsubst %,$(O)/tests/bt/%.o,$(addprefix blocks_,$(BLOCKS)))
$(foreach t,blocks_test blocks_hand_test,\
    $(eval $(O)/test/engine/bt/$t: $(BLOCKS_OBJ) $(FORMS_OBJ)) \
    $(eval LDLIBS_src/engine/bt/$t = $$(BLOCKS_OBJ) $$(FORMS_OBJ) $$(LIB) $$(LDLIBS)) \
    $(eval CFLAGS_src/engine/bt/$t := -I.))
$(foreach f,$(BLOCKS),$(eval CFLAGS_tests/bt/blocks_$f := -I.))
# Only what is listed stands in translated code.
EMITTED_OBJ := $(patsubst %,$(O)/tests/bt/%.o,emitted emitted_mem emitted_val)
$(O)/test/engine/bt/emitted_test: $(EMITTED_OBJ) $(FORMS_OBJ)
LDLIBS_src/engine/bt/emitted_test = $(EMITTED_OBJ) $(FORMS_OBJ) $(LIB) $(LDLIBS)
CFLAGS_src/engine/bt/emitted_test := -I.
CFLAGS_tests/bt/emitted := -I.
CFLAGS_tests/bt/emitted_mem := -I.
CFLAGS_tests/bt/emitted_val := -I.
# Programs for which pages a supervisor reaches.
$(O)/test/engine/bt/ac_test: $(O)/tests/bt/ac_make.o
LDLIBS_src/engine/bt/ac_test = $(O)/tests/bt/ac_make.o $(LIB) $(LDLIBS)
CFLAGS_src/engine/bt/ac_test := -I.
CFLAGS_tests/bt/ac_make := -I.
# What zones map, against a model.
$(O)/test/engine/bt/zone_test: $(FORMS_OBJ)
LDLIBS_src/engine/bt/zone_test = $(FORMS_OBJ) $(LIB) $(LDLIBS)
CFLAGS_src/engine/bt/zone_test := -I.
