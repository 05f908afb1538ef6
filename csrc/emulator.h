/* The C library: tensor-core arithmetic bit for bit, in plain C11, usable on its own. A row says which arithmetic an
 * instruction runs; its fields are those of emulator/record.py. One dot product, 1 * 1 + 1, on sm_90:
 *
 *     #include <stdio.h>
 *     #include "emulator.h"
 *     int main(void) {
 *         const emu_format f16 = {1, 16, 1, 5, 10, 15, EMU_SPECIALS_IEEE, 0};
 *         const emu_format f32 = {1, 32, 1, 8, 23, 127, EMU_SPECIALS_IEEE, 0};
 *         const emu_row m16n8k16 = {.method = EMU_METHOD_CHAIN, .k = 16, .terms = 16, .frac = 25, .floor = -133,
 *             .precision = 23, .rounding = EMU_ROUND_RZ, .a = f16, .b = f16, .c = f32, .d = f32};
 *         const uint16_t a[16] = {0x3c00}, b[16] = {0x3c00};
 *         uint32_t c = 0x3f800000, d = 0;
 *         int status = emu_dots(&m16n8k16, 1, 1, 1, 16, a, b, &c, NULL, NULL, &d);
 *         return printf("%s %08x\n", emu_why(status), (unsigned)d) < 0;        // prints: done 40000000
 *     }
 *
 *     cc -std=c11 -O3 -ffp-contract=off -Icsrc example.c csrc/dot*.c -lm
 *
 * What stands between the two `cffi` lines is also what Python sees: setup.py reads it from here.
 * Keep to declarations, enums, structs and `#define NAME integer` there; no other preprocessor lines. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

#define EMU_VERSION 3                /* rises when anything declared here changes its meaning */

int emu_version(void);               /* the EMU_VERSION that the library was compiled with */
const char *emu_parts(void);         /* the parts compiled in, as words: "portable avx2 avx512 avx512fp16 live" */

/* Each enum in the order of the Python table it repeats. */
enum {                               /* exact.METHODS */
    EMU_METHOD_CHAIN, EMU_METHOD_EXACT_GROUPS, EMU_METHOD_FP8_THROUGH_F16, EMU_METHOD_SIMT_F32, EMU_METHOD_SIMT_F16,
    EMU_METHOD_FMA_CHAIN, EMU_METHOD_INTEGER, EMU_METHOD_XOR_POPC, EMU_METHOD_AND_POPC,
    EMU_METHOD_TWO_CHAINS, EMU_METHOD_ODD_THEN_EVEN,
    EMU_METHOD_EXACT_SUMS, EMU_METHOD_FLUSHED_PAIRS, EMU_METHOD_CUT_THEN_FLOOR, EMU_METHOD_EVEN_AND_ODD,
    EMU_METHOD_DIGIT_CHAIN, EMU_METHOD_SUM_THEN_C,
    EMU_METHOD_ODD_PAIRS, EMU_METHOD_FUSED_PAIRS, EMU_METHOD_SCALED_SUM, EMU_METHOD_ARM_FMA, EMU_METHOD_POWER_PAIRS,
    EMU_METHOD_POWER_FMA
};
enum {                               /* rounding.MODES */
    EMU_ROUND_RNE, EMU_ROUND_RNA, EMU_ROUND_RZ, EMU_ROUND_RD, EMU_ROUND_RU, EMU_ROUND_RO, EMU_ROUND_SR,
    EMU_ROUND_SRB, EMU_ROUND_SRC
};
enum {                               /* rounding.OVERFLOWS */
    EMU_OVERFLOW_INFINITY, EMU_OVERFLOW_SATURATE, EMU_OVERFLOW_IEEE, EMU_OVERFLOW_ERROR,
    EMU_OVERFLOW_PROPAGATE
};
enum {                               /* formats.SPECIALS */
    EMU_SPECIALS_IEEE, EMU_SPECIALS_FN, EMU_SPECIALS_FNUZ, EMU_SPECIALS_FINITE, EMU_SPECIALS_EXPONENT
};

typedef struct {                     /* formats.Float or formats.Integer, as record.FORMAT_FIELDS */
    int32_t is_float, bits, is_signed, exp_bits, frac_bits, bias, specials, low_pad;
} emu_format;

typedef struct {                     /* instructions.Instruction, as record.FIELDS */
    int32_t method, k, terms, frac, floor, precision, rounding, saturate, block;
    emu_format a, b, c, d, scale;
} emu_row;

enum {                               /* what emu_dots returns; emu_why says it in words */
    EMU_DONE,
    EMU_NO_MEMORY,
    EMU_BAD_SHAPE,                   /* k no multiple of row->k, a negative size, scales missing */
    EMU_BAD_ROW,                     /* no instruction, a D without NaN or fraction, a format of over 64 or 15 exponent bits */
    EMU_TOO_WIDE,                    /* a row whose significands need more than 31 bits, or whose sums more than 62 */
    EMU_NOT_IEEE,                    /* a method of IEEE steps, on formats in which the host computes no such step */
    EMU_BAD_ISA,                     /* EMULATOR_ISA, or the name given to emu_limit_isa, is none of the four */
    EMU_NOT_HERE                     /* an instruction that this CPU has not, or this library was not compiled for */
};
const char *emu_why(int status);     /* the end of a sentence: "the C engine cannot do this row: ..." */

/* D = A B + C by the instruction of that row, for `batch` independent products. All arrays are contiguous codes of 1, 2,
 * 4 or 8 bytes, the fewest that hold the format's bits; bits above those are ignored. a is (batch, m, k), b (batch, n, k),
 * that is columns of B, c and d (batch, m, n), and where the row is block scaled scale_a (batch, m, k / block) and scale_b
 * (batch, n, k / block). k is a multiple of row->k: the instruction is repeated along it, each D being the next one's C.
 * A row that it cannot do exactly it does not do at all. It keeps no state and restores the floating-point environment. */
int emu_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b,
             const void *c, const void *scale_a, const void *scale_b, void *d);

/* --- whole matrix products --- */

typedef struct {                     /* element (i, j) of product p is the code at codes + p * next + i * down + j * across, */
    void *codes;                     /* in bytes */
    int64_t next, down, across;
} emu_matrix;

/* `batch` times D = A B + C for a (m, k), b (k, n), c and d (m, n), any strides, with the same bits as emu_dots but fast:
 * where a kernel for the row exists, and the operands let it be exact, tile by tile; the rest goes through emu_dots. k is
 * any: what is missing of the last instruction is zero. c may be NULL for zeros, and may be d. Scales are (m, k / block) and
 * (k / block, n), rounded up. D must have the format of C if k is more than one instruction. Any number of threads may
 * call it for parts of one product. */
int emu_matmul(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const emu_matrix *a,
               const emu_matrix *b, const emu_matrix *c, const emu_matrix *scale_a, const emu_matrix *scale_b,
               const emu_matrix *d);

/* The same for one instruction on contiguous operands: a (m, k), b (k, n), c (or NULL) and d (m, n), scale_a (m, k / block)
 * and scale_b (k / block, n) or NULL. */
int emu_tile(const emu_row *row, int64_t m, int64_t n, const void *a, const void *b, const void *c, const void *scale_a,
             const void *scale_b, void *d);

/* emu_dots of `count` rows: m = n = 1. */
int emu_rows(const emu_row *row, int64_t count, int64_t k, const void *a, const void *b, const void *c,
             const void *scale_a, const void *scale_b, void *d);

/* The kernels that emu_matmul and emu_rows pick from: "portable", "avx2", "avx512" or "avx512fp16"; each only where it was compiled and
 * the CPU has it. The environment variable EMULATOR_ISA, and emu_limit_isa after it, set the highest allowed. */
enum { EMU_ISA_PORTABLE, EMU_ISA_AVX2, EMU_ISA_AVX512, EMU_ISA_AVX512FP16 };
const char *emu_isa(void);           /* the one in use; "" if EMULATOR_ISA names none */
int emu_limit_isa(const char *name);

/* --- this CPU's own instructions, to compare with --- */

/* The names of the instructions that emu_live runs here, i = 0, 1, ...; NULL after the last one. They are Intel's mnemonics;
 * vcvtps2ph has its immediate behind it, vcvtps2ph_4 being the one that rounds as MXCSR says. */
const char *emu_live_name(int i);

/* Runs an instruction `count` times with that MXCSR. Vectors: a, b, c and d hold a ZMM register for each, a YMM for the
 * 16-bit side of a conversion from or to 32 bits; c is the accumulator, or the first operand of vfmadd; b and c are NULL where
 * the instruction takes none. Tiles: a (count, m, k), b (count, k, n), c and d (count, m, n), all of 32-bit pieces, that is
 * of pairs or quadruples of elements in a and b; m, n, k <= 16. */
int emu_live(const char *name, uint32_t mxcsr, int64_t count, int m, int n, int k, const void *a, const void *b,
             const void *c, void *d);

/* --- conversions --- */

typedef struct {                     /* a conversion: rounding.Policy with its consequences for these two formats */
    emu_format from, to;
    int32_t rounding, random_bits;   /* EMU_ROUND_SR, SRB, SRC read the low 1 to 32 random_bits of a word per element */
    int32_t ftz, daz;                /* a subnormal result, a subnormal input becomes a zero of its sign */
    int32_t ignores_sign;            /* the number counts as positive, also a NaN */
    uint64_t nan[2], infinity[2];    /* the codes for a NaN and an infinity that came, [1] with a minus sign */
    uint64_t over[2], zero[2];       /* for a number beyond the largest (in an unsigned format: below zero), for a zero */
} emu_conversion;

enum {                               /* the counters of emu_convert; OVER and INFINITE are two each, [1] with a minus sign */
    EMU_COUNT_OVER,                  /* finite, and beyond the largest number after rounding */
    EMU_COUNT_INFINITE = 2,          /* came as an infinity */
    EMU_COUNT_NAN = 4,               /* came as a NaN */
    EMU_COUNT_FLUSHED,               /* came as another number than zero and became zero */
    EMU_COUNTS
};

/* y[i] = x[i] in another format, for n codes; arrays are as for emu_dots, random as many uint32_t or NULL where the mode
 * reads none. counts: EMU_COUNTS counters to add to, or NULL; without `every` what the policy does not refuse may go uncounted.
 * Returns EMU_BAD_ROW for formats or a rounding that it does not know, and has then done nothing. */
int emu_convert(const emu_conversion *how, int64_t n, const void *x, const uint32_t *random, void *y, int64_t *counts,
                int every);

/* The largest magnitude of each of `blocks` runs of `size` numbers, binary32 (bytes = 4) or binary64 (bytes = 8): the code
 * without its sign, so that a NaN is larger than an infinity; 0 for an empty run. */
int emu_amax(int bytes, int64_t blocks, int64_t size, const void *x, void *amax);

/* y[i]: how many of its run's bounds, `count` to each (at most 255), x[i] is above. Both are binary32 (bytes = 4) or binary64
 * (bytes = 8); a NaN is above none. */
int emu_above(int bytes, int64_t blocks, int64_t size, int64_t count, const void *x, const void *bounds, uint8_t *y);

/* As emu_convert, y[i] = x[i] / divisors[i / size] rounded once, x being floating point and how->daz 0. Divisors are
 * positive, within 2^500, of at most 40 significant bits; or infinity, which makes zeros of numbers, not counted, and may not
 * meet another. EMU_BAD_ROW for others. */
int emu_convert_over(const emu_conversion *how, int64_t n, int64_t size, const void *x, const double *divisors,
                     const uint32_t *random, void *y, int64_t *counts);

/* That of whole blocks of binary32, whose scales follow from their amax (its code): scale_of[(amax + up) >> 23] of 257, the
 * last for infinities, and with it divisor_of[scale] of 256. EMU_BAD_ROW if there is a NaN. */
int emu_convert_by_powers(const emu_conversion *how, int64_t blocks, int64_t size, const float *x, uint32_t up,
                          const uint8_t *scale_of, const double *divisor_of, const uint32_t *random, void *y, uint8_t *scales);

/* y[i] = (values[x[i]] - zeros[i / size]) * scales[i / size] * factor in binary32, operation by operation; zeros may be
 * NULL. */
void emu_scaled(int64_t n, int64_t size, const uint8_t *x, const float *values, const float *zeros, const float *scales,
                float factor, float *y);

/* errors[i] = the sum over block i, in ascending order, of |d| or d * d, d being values[y] * scales[i] - x in binary64; x is
 * binary32 (bytes = 4) or binary64 (bytes = 8). emu_errors_32: all in binary32, values[y] * scales[i] * factor / divisor - x. */
void emu_errors(int bytes, int64_t blocks, int64_t size, const void *x, const uint8_t *y, const double *values,
                const double *scales, int squared, double *errors);
void emu_errors_32(int64_t blocks, int64_t size, const float *x, const uint8_t *y, const float *values, const float *scales,
                   float factor, float divisor, int squared, float *errors);

/* totals[p] += terms[i * places + p] for i = 0 to steps - 1, each sum rounded by `to`, a conversion from binary64, and back by
 * `back`, from that format. totals: numbers of the format, to begin with and at the end; codes: those of the end, untouched
 * if there are no steps. lost: NULL, or Kahan's correction, as long as totals; then each step is four operations. random: a
 * word for each operation and place, or NULL. Formats have so few bits and exponents that binary64 keeps two sums apart. */
int emu_accumulate(const emu_conversion *to, const emu_conversion *back, int64_t steps, int64_t places, const double *terms,
                   const uint32_t *random, double *totals, double *lost, void *codes, int64_t *counts);

/* words[i] = word (start + i) of the stream of Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405) with that
 * key: word w is output w % 4 for the 128-bit counter w / 4. */
void emu_philox4x32(uint64_t key, uint64_t start, int64_t n, uint32_t *words);

/* Codes of 1 to 8 bits, a byte each, into a stream of bits, the first in the lowest bits, and back. The stream has
 * (n * bits + 7) / 8 bytes; bits of a byte above the code are ignored. */
void emu_pack(int bits, int64_t n, const uint8_t *codes, uint8_t *packed);
void emu_unpack(int bits, int64_t n, const uint8_t *packed, uint8_t *codes);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
