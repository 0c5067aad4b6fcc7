# quick.c runs while the guest's vector registers are live in the host's.
CFLAGS_src/engine/bt/quick := -mgeneral-regs-only -fno-stack-protector \
    -fno-tree-loop-distribute-patterns
LIB_OBJ += $(O)/src/engine/bt/gate.o
