# vec*: the vector stubs and their table, generated from the instruction table.
VEC_GEN := $(O)/gen/engine/interp
GEN_H   += $(VEC_GEN)/vec_forms.h
LIB_OBJ += $(O)/src/engine/interp/vec_call.o $(VEC_GEN)/vec_stubs.o

$(VEC_GEN)/vec_forms.h: o/host/engine/interp/vec_stub_gen
	@mkdir -p $(@D)
	$< forms > $@.tmp && mv $@.tmp $@

$(VEC_GEN)/vec_stubs.S: o/host/engine/interp/vec_stub_gen
	@mkdir -p $(@D)
	$< stubs > $@.tmp && mv $@.tmp $@

$(VEC_GEN)/vec_stubs.o: $(VEC_GEN)/vec_stubs.S
	$(CC) -c -o $@ $<

# Million instructions a second in hand-made loops.
$(O)/bench/interp/mips: $(O)/bench/interp/mips.o $(O)/libdoppel.a
	$(CC) $(LDFLAGS) -o $@ $(O)/bench/interp/mips.o $(O)/libdoppel.a $(LDLIBS)
