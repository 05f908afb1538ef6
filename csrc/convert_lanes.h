/* The kernels of convert over lanes, plain C that the compiler turns into whatever vectors the including file is compiled
 * for. That file defines ISA, the end of the names of the functions made here, and may define CONVERT_IN_FLOAT: rounding
 * in floating point where that is proven exact, else all is done in integers. */
#include "convert.h"

#define FOR_ISA(name) FOR(name, ISA)
#define FOR(name, isa) FOR_(name, isa)
#define FOR_(name, isa) name##_##isa

#ifdef CONVERT_IN_FLOAT
#include "convert_strips.h"
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
#define OVER(n, NUMBER)                                                                                                   \
    for (int i = 0; isinf(divisor) && i < (n); i++)                                                                       \
        lane[i] = bits_of_64((NUMBER) / divisor);                                                                         \
    for (int i = 0; !isinf(divisor) && i < (n); i++) {                                                                    \
        double number = (NUMBER), quotient = number / divisor, rest = fma(-quotient, divisor, number);                    \
        uint64_t code = bits_of_64(quotient), left_over = bits_of_64(rest), twice = left_over << 1;                       \
        uint64_t back = (left_over ^ code) >> 63, even = ~code & 1;                     /* toward zero, or away */        \
        uint64_t finite = ((bits_of_64(number) << 1) - ((uint64_t)0x7FF << 53)) >> 63;                                    \
        lane[i] = code + ((1 - 2 * back) & (0 - ((twice | (0 - twice)) >> 63 & finite & even)));                          \
    }

static ALWAYS_INLINE void over_64(int n, const unaligned_32 *restrict x, double divisor, uint64_t *restrict lane)
{
    OVER(n, real_of_32(x[i]))
}

static void wide_over_64(int n, const unaligned_64 *restrict x, double divisor, uint64_t *restrict lane)
{
    OVER(n, real_of_64(x[i]))
}
#undef OVER

static ALWAYS_INLINE void over_32(int n, const unaligned_32 *restrict x, double divisor, uint32_t *restrict lane)
{
    const float factor = (float)(1 / divisor);
    for (int i = 0; i < n; i++)
        lane[i] = bits_of_32(real_of_32(x[i]) * factor);
}

/* over_32 may make a zero or an infinity of a number: what those counters lack. */
static void beyond_32(int n, const unaligned_32 *restrict x, const uint32_t *restrict lane, int64_t counts[EMU_COUNTS])
{
    uint32_t zeros = 0, infinite = 0, minus = 0;
    for (int i = 0; i < n; i++) {
        uint32_t m = x[i] & 0x7FFFFFFF, found = lane[i] & 0x7FFFFFFF, beyond = (found == 0x7F800000) & (m < 0x7F800000);
        zeros += (found == 0) & (m != 0);
        infinite += beyond;
        minus += beyond & x[i] >> 31;
    }
    const int32_t plus = (int32_t)(infinite - minus);
    counts[EMU_COUNT_FLUSHED] += zeros;
    counts[EMU_COUNT_OVER] += plus;
    counts[EMU_COUNT_OVER + 1] += minus;
    counts[EMU_COUNT_INFINITE] -= plus;
    counts[EMU_COUNT_INFINITE + 1] -= minus;
}

/* Codes of at most 16 by counting how many of seven numbers a magnitude has reached. first: where they begin in this block,
 * after what is beyond the largest. top: of all magnitudes, in each place. */
static ALWAYS_INLINE void reached(int n, const unaligned_32 *restrict x, const int32_t first[8], uint32_t *restrict code,
                                  int32_t *restrict top, const bool count, uint32_t events[EMU_COUNTS])
{
#ifdef __AVX512F__
    if (n == 16 && !count) {                        /* by halving: the fourth, one of two, one of four */
        const __m512i one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2), six = _mm512_set1_epi32(6);
        const __m512i firsts = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)first));
        const __m512i number = _mm512_loadu_si512(x), m = _mm512_and_si512(number, _mm512_set1_epi32(0x7FFFFFFF));
        __m512i at = _mm512_mask_mov_epi32(two, _mm512_cmpge_epi32_mask(m, _mm512_set1_epi32(first[4])), six);
        __mmask16 above = _mm512_cmpge_epi32_mask(m, _mm512_permutexvar_epi32(at, firsts));
        at = _mm512_sub_epi32(at, one);
        at = _mm512_mask_add_epi32(at, above, at, two);
        above = _mm512_cmpge_epi32_mask(m, _mm512_permutexvar_epi32(at, firsts));
        at = _mm512_mask_mov_epi32(_mm512_sub_epi32(at, one), above, at);
        const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(number, 28), _mm512_set1_epi32(8));
        _mm512_storeu_si512(code, _mm512_or_si512(at, sign));
        _mm512_storeu_si512(top, _mm512_max_epi32(_mm512_loadu_si512(top), m));
        return;
    }
#endif
    const int32_t a = first[1], b = first[2], c = first[3], d = first[4], e = first[5], f = first[6], g = first[7];
    const int32_t h = first[0];
    uint32_t over = 0, minus_over = 0, infinite = 0, minus_infinite = 0, flushed = 0;
    for (int i = 0; i < n; i++) {
        int32_t m = (int32_t)(x[i] & 0x7FFFFFFF);
        int32_t found = (m >= a) + (m >= b) + (m >= c) + (m >= d) + (m >= e) + (m >= f) + (m >= g);
        code[i] = (uint32_t)found | (x[i] >> 28 & 8);
        top[i] = m > top[i] ? m : top[i];
        if (count) {
            uint32_t all = m == 0x7F800000, beyond = (m >= h) & (all ^ 1), negative = x[i] >> 31;
            over += beyond;
            minus_over += beyond & negative;
            infinite += all;
            minus_infinite += all & negative;
            flushed += (found == 0) & (m != 0);
        }
    }
    events[EMU_COUNT_OVER] += over - minus_over;
    events[EMU_COUNT_OVER + 1] += minus_over;
    events[EMU_COUNT_INFINITE] += infinite - minus_infinite;
    events[EMU_COUNT_INFINITE + 1] += minus_infinite;
    events[EMU_COUNT_FLUSHED] += flushed;
}

/* The codes of numbers without a NaN, over divisors that leave the least of those beginnings a normal binary32; else
 * false. The products are exact: a beginning has 3 bits and a divisor 40. Of a binary64 in the range of binary32 the code,
 * rebiased and cut, is the binary32 at or below it; so the first one at or above, or right above, is had by an addition. */
static ALWAYS_INLINE bool by_comparing(const lanes *p, int64_t start, int n, const unaligned_32 *x, unsigned char *y,
                                       const bool count, int64_t counts[EMU_COUNTS])
{
    const uint64_t rebias = (uint64_t)(1023 - 127) << 52;
    const double *divisor = p->divisor + start / p->per;
    const int64_t blocks = (start + n - 1) / p->per - start / p->per + 1;
    int bad = 0;
    for (int64_t b = 0; b < blocks; b++)
        bad |= (p->begin[1] * divisor[b] < 0x1p-126) | (count & (divisor[b] == INFINITY));
    if (bad)
        return false;
    int32_t first[CONVERT_BLOCK + 16][8];
    for (int64_t b = 0; b < blocks; b++)
        for (int j = 0; j < 8; j++) {
            uint64_t up = (1 << 29) - 1 + p->open[j] - rebias;
            int64_t code = (int64_t)((bits_of_64(p->begin[j] * divisor[b]) + up) >> 29);
            first[b][j] = (int32_t)MIN(code, 0x7F800000);
        }
    uint32_t codes[CONVERT_BLOCK], events[EMU_COUNTS] = {0};
    int32_t top[16] = {0};
    int64_t left = p->per - start % p->per;
    for (int64_t i = 0, b = 0; i < n; b++, left = p->per) {
        const int64_t end = MIN(n, i + left);
        for (; i + 16 <= end; i += 16) {
            __builtin_prefetch(x + i + AHEAD / 4);
            reached(16, x + i, first[b], codes + i, top, count, events);
        }
        reached((int)(end - i), x + i, first[b], codes + i, top, count, events);
        i = end;
    }
    for (int i = 0; i < 16; i++)
        bad |= top[i] > 0x7F800000;
    if (bad)
        return false;
    for (int i = 0; i < n; i++)
        y[i] = (unsigned char)codes[i];
    for (int e = 0; e < EMU_COUNTS; e++)
        counts[e] += events[e];
    return true;
}
#endif

/* The floating-point environment is the caller's: with CONVERT_IN_FLOAT it is put aside, for rounding to nearest. */
static void all_lanes(const lanes *p, int64_t n, const unsigned char *x, const uint32_t *random, unsigned char *y,
                      bool count, int64_t counts[EMU_COUNTS])
{
#ifdef CONVERT_IN_FLOAT
    unsigned environment = _mm_getcsr();
    uint32_t narrow[CONVERT_BLOCK];
    uint64_t wide[CONVERT_BLOCK];
    _mm_setcsr(0x1F80);
#endif
    for (int64_t i = 0; i < n; i += CONVERT_BLOCK) {
        int block = n - i < CONVERT_BLOCK ? (int)(n - i) : CONVERT_BLOCK;
        const uint32_t *bits = random ? random + i : NULL;
        const unsigned char *from = x + i * p->from_bytes;
        unsigned char *to = y + i * p->to_bytes;
#ifdef CONVERT_IN_FLOAT
        const unaligned_32 *over = (const unaligned_32 *)x + i;
        if (p->few && (count ? by_comparing(p, i, block, over, y + i, true, counts)
                             : by_comparing(p, i, block, over, y + i, false, counts)))
            continue;
        int64_t at = p->divisor ? i / p->per : 0, left = p->divisor ? p->per - i % p->per : 0;
        for (int j = 0, run; p->divisor && j < block; j += run, at++, left = p->per) {
            run = left < block - j ? (int)left : block - j;
            if (p->wide)
                wide_over_64(run, (const unaligned_64 *)x + i + j, p->divisor[at], wide + j);
            else if (p->bits == 32 && run == 32)         /* the common sizes, as constants */
                over_32(32, over + j, p->divisor[at], narrow + j);
            else if (p->bits == 32)
                over_32(run, over + j, p->divisor[at], narrow + j);
            else if (run == 16)
                over_64(16, over + j, p->divisor[at], wide + j);
            else
                over_64(run, over + j, p->divisor[at], wide + j);
            if (count && p->bits == 32 && !p->bare && !isinf(p->divisor[at]))
                beyond_32(run, over + j, narrow + j, counts);
            from = p->bits == 32 ? (const unsigned char *)narrow : (const unsigned char *)wide;
        }
        const int whole = block & ~15;
        if (p->take && in_strips(p, whole, from, to)) {
            from += whole * p->from_bytes;
            to += whole * p->to_bytes;
            block -= whole;
        }
        for (int j = 0; p->table && j < block; j++)
            memcpy(to + j * 4, &p->table[from[j]], 4);
        if (!block || p->table)
            continue;
#endif
        if (p->bits == 32)
            block_32(p, block, from, bits, to, count, counts);
        else
            block_64(p, block, from, bits, to, count, counts);
    }
#ifdef CONVERT_IN_FLOAT
    _mm_setcsr(environment);
    _mm_sfence();                                   /* what was written past the cache is there for all */
#endif
}

/* Codes without their signs order as the magnitudes do, infinities and NaN last. */
static void amax_of(int bytes, int64_t blocks, int64_t size, const void *x, void *amax)
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

static void above(int bytes, int64_t blocks, int64_t size, int64_t count, const void *x, const void *bounds, uint8_t *y)
{
#define COUNTED(LANE, BITS, SIZE)                                                                                         \
    do {                                                                                                                  \
        LANE found[64] = {0};                                                                                             \
        for (int64_t b = 0; b < count; b++)                                                                               \
            for (int64_t k = 0; k < (SIZE); k++)                                                                          \
                found[k] += real_of_##BITS(from[j + k]) > real_of_##BITS(bound[b]);                                       \
        for (int64_t k = 0; k < (SIZE); k++)                                                                              \
            to[j + k] = (uint8_t)found[k];                                                                                \
    } while (0)
#define ABOVE(LANE, BITS)                                                                                                 \
    for (int64_t i = 0; i < blocks; i++) {                                                                                \
        const unaligned_##BITS *from = (const unaligned_##BITS *)x + i * size;                                            \
        const unaligned_##BITS *bound = (const unaligned_##BITS *)bounds + i * count;                                     \
        uint8_t *to = y + i * size;                                                                                       \
        int64_t j = 0;                                                                                                    \
        for (; j + 64 <= size; j += 64)                                                                                   \
            COUNTED(LANE, BITS, 64);                                                                                      \
        COUNTED(LANE, BITS, size - j);                                                                                    \
    }
    if (bytes == 8)
        ABOVE(uint64_t, 64)
    else
        ABOVE(uint32_t, 32)
#undef ABOVE
#undef COUNTED
}

const convert_kernels FOR_ISA(emu_convert) = {all_lanes, amax_of, above};
