# Headers generated from the instruction table.
GEN_H += $(O)/gen/cpu/x86/insn_ops.h $(O)/gen/cpu/x86/decode_tables.h

$(O)/gen/cpu/x86/insn_ops.h: o/host/cpu/x86/decode_gen
	@mkdir -p $(@D)
	$< ops > $@.tmp && mv $@.tmp $@

$(O)/gen/cpu/x86/decode_tables.h: o/host/cpu/x86/decode_gen
	@mkdir -p $(@D)
	$< tables > $@.tmp && mv $@.tmp $@
