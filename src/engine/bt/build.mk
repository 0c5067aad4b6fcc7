# What may run while the guest's vector registers are live in the host's: no
# vector registers, none of libc's memory functions. tests/bt/novec_test.sh
# looks at the objects.
BT_NOLOOP := $(if $(findstring clang,$(CC)),-fno-builtin-memset \
    -fno-builtin-memcpy,-fno-tree-loop-distribute-patterns)
BT_NOVEC := -mgeneral-regs-only $(BT_NOLOOP) -include src/engine/interp/novec.h
BT_NOVEC_SRC := $(filter-out %_test.c %_fuzz.c %_gen.c,$(wildcard src/cpu/x86/*.c)) \
    $(addprefix src/engine/interp/,access.c alu.c block.c fast.c fast_alu.c \
        op_arith.c op_bit.c op_branch.c op_io.c op_misc.c op_mov.c op_muldiv.c \
        op_stack.c op_string.c op_sys.c run.c select.c tlb.c) \
    $(addprefix src/engine/bt/,run.c cache.c tlb.c) \
    src/vm/mem.c src/vm/clock.c src/vm/kick.c
$(foreach f,$(BT_NOVEC_SRC:.c=),$(eval CFLAGS_$(f) += $(BT_NOVEC)))
CFLAGS_src/engine/bt/quick := -mgeneral-regs-only -fno-stack-protector \
    $(BT_NOLOOP)
CFLAGS_src/engine/bt/quick_str := $(CFLAGS_src/engine/bt/quick)
LIB_OBJ += $(O)/src/engine/bt/gate.o
# objects of other flags must not stay
$(BT_NOVEC_SRC:%.c=$(O)/%.o) $(O)/src/engine/bt/quick.o \
    $(O)/src/engine/bt/quick_str.o: src/engine/bt/build.mk

bt-novec-list:
	@echo $(BT_NOVEC_SRC) src/engine/bt/quick.c src/engine/bt/quick_str.c
.PHONY: bt-novec-list
