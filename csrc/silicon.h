/* What csrc/silicon.c and csrc/silicon_live.c share: the instructions that this CPU can be asked to run. */
#ifndef EMU_SILICON_H
#define EMU_SILICON_H

#include "emulator.h"

enum { UNIT_AVX512F, UNIT_AVX512_BF16, UNIT_AVX512_VNNI, UNIT_AVX512_FP16, UNIT_AMX_BF16, UNIT_AMX_INT8 };

typedef struct {                /* how many of what, and where */
    int64_t count;
    int m, n, k;                /* of a tile: rows and columns of D, and K in 32-bit pieces */
    const unsigned char *a, *b, *c;
    unsigned char *d;
} live_work;

typedef struct {
    const char *name;
    int unit;
    void (*run)(const live_work *);
} live_instruction;

extern const live_instruction emu_live_instructions[];      /* ends with a name of NULL */

#endif
