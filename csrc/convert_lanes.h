/* The kernels of convert over lanes, plain C that the compiler turns into whatever vectors the including file is compiled
 * for. That file defines ISA, the end of the names of the functions made here, and may define CONVERT_IN_FLOAT: rounding
 * in floating point where that is proven exact, else all is done in integers. */
#include "convert.h"

#define FOR_ISA(name) FOR(name, ISA)
#define FOR(name, isa) FOR_(name, isa)
#define FOR_(name, isa) name##_##isa

#ifdef CONVERT_IN_FLOAT
#include <immintrin.h>
#include <math.h>
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

#ifdef CONVERT_IN_FLOAT
/* To odd: what is inexact, and even after rounding to nearest, takes its odd neighbour on the side of the remainder. The
 * remainder of a division rounded to nearest is a double, so the fma is exact; the exponents are far from their ends. */
static ALWAYS_INLINE void over_64(int n, const unaligned_32 *restrict x, double divisor, uint64_t *restrict lane)
{
    for (int i = 0; isinf(divisor) && i < n; i++)
        lane[i] = bits_of_64(real_of_32(x[i]) / divisor);
    for (int i = 0; !isinf(divisor) && i < n; i++) {
        double number = real_of_32(x[i]), quotient = number / divisor, rest = fma(-quotient, divisor, number);
        uint64_t code = bits_of_64(quotient), left_over = bits_of_64(rest), twice = left_over << 1;
        uint64_t back = (left_over ^ code) >> 63, even = ~code & 1;                     /* toward zero, or away */
        uint64_t inexact = (twice | (0 - twice)) >> 63 & (((x[i] & 0x7FFFFFFF) - 0x7F800000) >> 31);
        lane[i] = code + ((1 - 2 * back) & (0 - (inexact & even)));
    }
}

static ALWAYS_INLINE void over_32(int n, const unaligned_32 *restrict x, double divisor, uint32_t *restrict lane)
{
    const float factor = (float)(1 / divisor);
    for (int i = 0; i < n; i++)
        lane[i] = bits_of_32(real_of_32(x[i]) * factor);
}
#endif

/* The floating-point environment is the caller's: with CONVERT_IN_FLOAT it is put aside, for rounding to nearest. */
void FOR_ISA(emu_convert_lanes)(const lanes *p, int64_t n, const unsigned char *x, const uint32_t *random,
                                unsigned char *y, bool count, int64_t counts[EMU_COUNTS])
{
#ifdef CONVERT_IN_FLOAT
    unsigned environment = _mm_getcsr();
    uint32_t narrow[CONVERT_BLOCK];
    uint64_t wide[CONVERT_BLOCK];
    int64_t at = 0, left = p->per;                  /* the divisor, and to how many more numbers it belongs */
    _mm_setcsr(0x1F80);
#endif
    for (int64_t i = 0; i < n; i += CONVERT_BLOCK) {
        int block = n - i < CONVERT_BLOCK ? (int)(n - i) : CONVERT_BLOCK;
        const uint32_t *bits = random ? random + i : NULL;
        const unsigned char *from = x + i * p->from_bytes;
#ifdef CONVERT_IN_FLOAT
        for (int j = 0, run; p->divisor && j < block; j += run) {
            run = left < block - j ? (int)left : block - j;
            const unaligned_32 *numbers = (const unaligned_32 *)x + i + j;
            if (p->bits == 32 && run == 32)         /* the common sizes, as constants */
                over_32(32, numbers, p->divisor[at], narrow + j);
            else if (p->bits == 32)
                over_32(run, numbers, p->divisor[at], narrow + j);
            else if (run == 16)
                over_64(16, numbers, p->divisor[at], wide + j);
            else
                over_64(run, numbers, p->divisor[at], wide + j);
            from = p->bits == 32 ? (const unsigned char *)narrow : (const unsigned char *)wide;
            left -= run;
            if (!left) {
                at++;
                left = p->per;
            }
        }
#endif
        if (p->bits == 32)
            block_32(p, block, from, bits, y + i * p->to_bytes, count, counts);
        else
            block_64(p, block, from, bits, y + i * p->to_bytes, count, counts);
    }
#ifdef CONVERT_IN_FLOAT
    _mm_setcsr(environment);
#endif
}

/* Codes without their signs order as the magnitudes do, infinities and NaN last. */
void FOR_ISA(emu_amax)(int bytes, int64_t blocks, int64_t size, const void *x, void *amax)
{
#define AMAX(TYPE, SIGNED, SIZE)                                                                                          \
    for (int64_t i = 0; i < blocks; i++) {                                                                                \
        const TYPE *from = (const TYPE *)x + i * (SIZE);                                                                  \
        SIGNED top = 0;                                                                                                   \
        for (int64_t j = 0; j < (SIZE); j++) {                                                                            \
            SIGNED magnitude = (SIGNED)(from[j] & ((TYPE)-1 >> 1));                                                       \
            top = top > magnitude ? top : magnitude;                                                                      \
        }                                                                                                                 \
        ((TYPE *)amax)[i] = (TYPE)top;                                                                                    \
    }
    if (bytes == 8)
        AMAX(unaligned_64, int64_t, size)
    else if (size == 32)
        AMAX(unaligned_32, int32_t, 32)
    else if (size == 16)
        AMAX(unaligned_32, int32_t, 16)
    else
        AMAX(unaligned_32, int32_t, size)
#undef AMAX
}
