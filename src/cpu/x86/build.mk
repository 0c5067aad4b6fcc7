# Headers generated from the instruction table.
GEN_H += $(O)/gen/cpu/x86/insn_ops.h $(O)/gen/cpu/x86/decode_tables.h

$(O)/gen/cpu/x86/insn_ops.h: o/host/cpu/x86/decode_gen
	@mkdir -p $(@D)
	$< ops > $@.tmp && mv $@.tmp $@

$(O)/gen/cpu/x86/decode_tables.h: o/host/cpu/x86/decode_gen
	@mkdir -p $(@D)
	$< tables > $@.tmp && mv $@.tmp $@

# The differential test asks the host CPU, and Zydis where it is installed.
DECODE_DIFF_OBJ := $(O)/tests/insn/cpu_probe.o $(O)/tests/insn/zydis_check.o
$(O)/test/cpu/x86/decode_diff_test: $(DECODE_DIFF_OBJ)
LDLIBS_src/cpu/x86/decode_diff_test = $(DECODE_DIFF_OBJ) \
        $(if $(wildcard /usr/include/Zydis/Zydis.h),-lZydis -lZycore)
CFLAGS_src/cpu/x86/decode_diff_test := -I.
CFLAGS_tests/insn/cpu_probe := -I.
CFLAGS_tests/insn/zydis_check := -I.

# ns per decoded instruction: $(O)/bench/decode [file [offset [bytes]]]
$(O)/bench/decode/decode: $(O)/bench/decode/decode.o $(O)/libdoppel.a
	$(CC) $(LDFLAGS) -o $@ $(O)/bench/decode/decode.o $(O)/libdoppel.a $(LDLIBS)
