/* Which instruction sets the kernels may use: what was compiled, what the CPU has, and what the caller allows. */
#ifndef EMU_ISA_H
#define EMU_ISA_H

#include "emulator.h"

/* The best of them now, an EMU_ISA_...; -1 if EMULATOR_ISA names none of them. */
int emu_isa_now(void);

#endif
