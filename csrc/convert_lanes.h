/* The kernel of convert over lanes, plain C that the compiler turns into whatever vectors the including file is compiled
 * for. That file defines CONVERT_LANES, the name of the function made here, and may define CONVERT_IN_FLOAT: rounding in
 * floating point where that is proven exact, else all is done in integers. */
#include "convert.h"

#ifdef CONVERT_IN_FLOAT
#include <immintrin.h>
#endif

#define LANE uint32_t
#define REAL float
#define BITS 32
#define FRAC 23
#define NAME(name) name##_32
#include "convert_round.h"
#undef LANE
#undef REAL
#undef BITS
#undef FRAC
#undef NAME

#define LANE uint64_t
#define REAL double
#define BITS 64
#define FRAC 52
#define NAME(name) name##_64
#include "convert_round.h"

/* The floating-point environment is the caller's: with CONVERT_IN_FLOAT it is put aside, for rounding to nearest. */
void CONVERT_LANES(const lanes *p, int64_t n, const unsigned char *x, const uint32_t *random, unsigned char *y,
                   bool count, int64_t counts[EMU_COUNTS])
{
#ifdef CONVERT_IN_FLOAT
    unsigned environment = _mm_getcsr();
    _mm_setcsr(0x1F80);
#endif
    for (int64_t i = 0; i < n; i += CONVERT_BLOCK) {
        int block = n - i < CONVERT_BLOCK ? (int)(n - i) : CONVERT_BLOCK;
        const uint32_t *bits = random ? random + i : NULL;
        if (p->bits == 32)
            block_32(p, block, x + i * p->from_bytes, bits, y + i * p->to_bytes, count, counts);
        else
            block_64(p, block, x + i * p->from_bytes, bits, y + i * p->to_bytes, count, counts);
    }
#ifdef CONVERT_IN_FLOAT
    _mm_setcsr(environment);
#endif
}
