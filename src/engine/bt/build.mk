# What may run while the guest's vector registers are live in the host's: no
# vector registers, none of libc's memory functions. tests/bt/novec_test.sh
# looks at the objects.
BT_NOLOOP := $(if $(findstring clang,$(CC)),-fno-builtin-memset \
    -fno-builtin-memcpy,-fno-tree-loop-distribute-patterns)
BT_NOVEC := -mgeneral-regs-only $(BT_NOLOOP) -include src/engine/interp/novec.h
BT_QUICK_SRC := $(addprefix src/engine/bt/,quick.c quick_fault.c quick_str.c \
    quick_sys.c quick_xsave.c)
BT_NOVEC_SRC := $(filter-out %_test.c %_fuzz.c %_gen.c,$(wildcard src/cpu/x86/*.c)) \
    $(addprefix src/engine/interp/,access.c alu.c block.c fast.c fast_alu.c \
        op_arith.c op_bit.c op_branch.c op_io.c op_misc.c op_mov.c op_muldiv.c \
        op_stack.c op_string.c op_sys.c run.c select.c tlb.c writers.c) \
    $(filter-out %_test.c %_fuzz.c %_gen.c %/bt.c %/signal.c %/check.c \
        %/check_diff.c $(BT_QUICK_SRC),$(wildcard src/engine/bt/*.c)) \
    src/vm/mem.c src/vm/clock.c src/vm/kick.c
$(foreach f,$(BT_NOVEC_SRC:.c=),$(eval CFLAGS_$(f) += $(BT_NOVEC)))
$(foreach f,$(BT_QUICK_SRC:.c=),$(eval CFLAGS_$(f) := -mgeneral-regs-only \
    -fno-stack-protector $(BT_NOLOOP)))
LIB_OBJ += $(addprefix $(O)/src/engine/bt/,gate.o sys.o vec.o)
# objects of other flags must not stay
$(patsubst %.c,$(O)/%.o,$(BT_NOVEC_SRC) $(BT_QUICK_SRC)): src/engine/bt/build.mk

bt-novec-list:
	@echo $(BT_NOVEC_SRC) $(BT_QUICK_SRC)
.PHONY: bt-novec-list
