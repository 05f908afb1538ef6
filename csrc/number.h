/* A code taken apart, one rounding, and back: field arithmetic in 64-bit integers. The names are those of emulator/exact.py,
 * which says what each function means. Codes of at most 64 bits; exponents within some 2^17. */
#ifndef EMU_NUMBER_H
#define EMU_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "emulator.h"

enum { FINITE = 0, INF = 1, NOT_A_NUMBER = 2 };  /* kinds; as bits, so that a row of them can be or-ed */
#define NO_CODE UINT64_MAX                       /* where exact.py raises: overflow="error", or a NaN that has no code */

typedef struct {                    /* (-1)^negative * sig * 2^exp; the sig of an infinity is 1, that of a NaN 0 */
    uint64_t sig;
    int32_t exp;
    uint8_t negative, kind;
} number;

typedef struct {                    /* an emu_format and what follows from it; a code of 0 stands for "has none" */
    emu_format row;
    int bytes, emin, emax;
    uint64_t magnitude, sign, max_code, inf_code, nan_code, all_ones_nan;
} format;

/* --- formats and their codes in memory ---------------------------------------------------------------------------- */

/* The format that a row describes; false if there is none, or none whose arithmetic fits here. */
static inline bool describe(const emu_format *row, format *f)
{
    *f = (format){.row = *row, .bytes = row->bits <= 8 ? 1 : row->bits <= 16 ? 2 : row->bits <= 32 ? 4 : 8};
    if (row->bits < 1 || row->bits > 64)
        return false;
    if (!row->is_float)
        return true;
    int least = row->specials == EMU_SPECIALS_IEEE || row->specials == EMU_SPECIALS_EXPONENT ? 2 : 1;
    if (row->exp_bits < least || row->exp_bits > 15 || row->frac_bits < 0 || row->frac_bits > 62 || row->low_pad < 0
        || row->low_pad > 62 || row->exp_bits + row->frac_bits + row->low_pad > 63
        || row->exp_bits + row->frac_bits + row->low_pad + !!row->is_signed > row->bits
        || row->bias < -65536 || row->bias > 65536 || row->specials < 0 || row->specials > EMU_SPECIALS_EXPONENT
        || (row->specials == EMU_SPECIALS_EXPONENT && (row->frac_bits || row->is_signed)))
        return false;
    uint64_t unit = UINT64_C(1) << row->low_pad, ones = (UINT64_C(1) << (row->exp_bits + row->frac_bits)) - 1;
    uint64_t infinity = ones + 1 - (UINT64_C(1) << row->frac_bits);
    f->magnitude = ones * unit;
    f->sign = row->is_signed ? (ones + 1) * unit : 0;
    f->emin = (row->specials != EMU_SPECIALS_EXPONENT) - row->bias;
    switch (row->specials) {
    case EMU_SPECIALS_IEEE:
        f->max_code = (infinity - 1) * unit;
        f->inf_code = infinity * unit;
        f->nan_code = (infinity + (UINT64_C(1) << row->frac_bits >> 1)) * unit;
        f->all_ones_nan = f->magnitude;
        break;
    case EMU_SPECIALS_FN:
    case EMU_SPECIALS_EXPONENT:
        f->max_code = (ones - 1) * unit;
        f->nan_code = f->all_ones_nan = f->magnitude;
        break;
    default:
        f->max_code = f->magnitude;
        f->nan_code = f->all_ones_nan = row->specials == EMU_SPECIALS_FNUZ ? f->sign : 0;
    }
    int field = (int)(f->max_code / unit >> row->frac_bits);
    f->emax = field - row->bias > f->emin ? field - row->bias : f->emin;
    return true;
}

/* memcpy, because the caller's array may be of another type (float), and at any address. */
static inline uint64_t load(const void *codes, int bytes, size_t i)
{
    const unsigned char *at = (const unsigned char *)codes + i * (size_t)bytes;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (bytes) {
    case 1: return *at;
    case 2: memcpy(&two, at, 2); return two;
    case 4: memcpy(&four, at, 4); return four;
    default: memcpy(&eight, at, 8); return eight;
    }
}

static inline void store(void *codes, int bytes, size_t i, uint64_t code)
{
    unsigned char *at = (unsigned char *)codes + i * (size_t)bytes;
    uint16_t two = (uint16_t)code;
    uint32_t four = (uint32_t)code;
    switch (bytes) {
    case 1: *at = (unsigned char)code; break;
    case 2: memcpy(at, &two, 2); break;
    case 4: memcpy(at, &four, 4); break;
    default: memcpy(at, &code, 8);
    }
}

/* --- codes and numbers -------------------------------------------------------------------------------------------- */

static inline number decode(const format *f, uint64_t code)
{
    number x = {0};
    if (!f->row.is_float) {
        uint64_t mask = UINT64_MAX >> (64 - f->row.bits);
        x.negative = f->row.is_signed && code >> (f->row.bits - 1) & 1;
        x.sig = (x.negative ? 0 - code : code) & mask;
        return x;
    }
    uint64_t magnitude = code & f->magnitude;
    x.negative = (code & f->sign) != 0;
    if (magnitude > f->max_code || (f->row.specials == EMU_SPECIALS_FNUZ && x.negative && !magnitude)) {
        bool infinite = f->inf_code && magnitude == f->inf_code;
        x.sig = infinite;
        x.kind = infinite ? INF : NOT_A_NUMBER;
        return x;
    }
    magnitude >>= f->row.low_pad;
    int field = (int)(magnitude >> f->row.frac_bits);
    if (f->row.specials == EMU_SPECIALS_EXPONENT) {
        x.sig = 1;
        x.exp = field + f->emin;
        return x;
    }
    uint64_t hidden = UINT64_C(1) << f->row.frac_bits;
    x.sig = (magnitude & (hidden - 1)) | (field ? hidden : 0);
    x.exp = f->emin - f->row.frac_bits + (field ? field - 1 : 0);
    return x;
}

static inline int bit_length(uint64_t x)
{
#ifdef __GNUC__
    return x ? 64 - __builtin_clzll(x) : 0;
#else
    int bits = 0;
    for (int step = 32; step; step /= 2)
        if (x >> step) {
            bits += step;
            x >>= step;
        }
    return bits + (x != 0);
#endif
}

/* sig * 2^-shift rounded to an integer, by comparing what is cut off with one half. Shifted left, it must fit. */
static inline uint64_t round_shift(bool negative, uint64_t sig, int shift, int mode, uint64_t random, int random_bits)
{
    if (shift <= 0 || !sig)
        return sig ? sig << -shift : 0;
    uint64_t kept = shift < 64 ? sig >> shift : 0, rest = shift < 64 ? sig - (kept << shift) : sig;
    if (!rest)
        return kept;
    uint64_t half = shift <= 64 ? UINT64_C(1) << (shift - 1) : 0;     /* 0: one half is above any rest */
    switch (mode) {
    case EMU_ROUND_RNE: return kept + (half && (rest > half || (rest == half && kept & 1)));
    case EMU_ROUND_RNA: return kept + (half && rest >= half);
    case EMU_ROUND_RD: return kept + negative;
    case EMU_ROUND_RU: return kept + !negative;
    case EMU_ROUND_RO: return kept | 1;
    case EMU_ROUND_SR: {
        int below = shift - random_bits;                              /* the rest is cut to random_bits bits */
        uint64_t first = below >= 64 ? 0 : below >= 0 ? rest >> below : rest << -below;
        return kept + (first + random >= UINT64_C(1) << random_bits);
    }
    default: return kept;
    }
}

/* The code of x, rounded once to `precision` fraction bits or those of the format. */
static inline uint64_t encode(const format *f, number x, int mode, int overflow, int precision, uint64_t random,
                              int random_bits)
{
    if (x.kind == NOT_A_NUMBER || (x.negative && !f->sign && x.sig))
        return f->nan_code ? f->nan_code : NO_CODE;
    uint64_t magnitude = f->max_code + 1;
    int exponent = x.sig ? bit_length(x.sig) - 1 + x.exp : f->emin;
    if (x.kind == FINITE && exponent <= f->emax) {
        exponent = exponent > f->emin ? exponent : f->emin;
        int kept = precision < f->row.frac_bits ? precision : f->row.frac_bits;
        uint64_t sig = round_shift(x.negative, x.sig, exponent - kept - x.exp, mode, random, random_bits);
        magnitude = ((uint64_t)(exponent - f->emin) << f->row.frac_bits) + (sig << (f->row.frac_bits - kept));
        if (f->row.specials == EMU_SPECIALS_EXPONENT && magnitude)    /* code 0 is already a normal number */
            magnitude--;
        magnitude <<= f->row.low_pad;
    }
    uint64_t sign = x.negative && (magnitude || f->row.specials != EMU_SPECIALS_FNUZ) ? f->sign : 0;
    if (magnitude <= f->max_code)
        return sign | magnitude;
    bool back = mode == EMU_ROUND_RZ || mode == EMU_ROUND_RO || mode == (x.negative ? EMU_ROUND_RU : EMU_ROUND_RD);
    if (overflow == EMU_OVERFLOW_ERROR)
        return NO_CODE;
    if (overflow == EMU_OVERFLOW_SATURATE || (overflow == EMU_OVERFLOW_IEEE && back && x.kind != INF))
        return sign | f->max_code;
    if (f->inf_code)
        return sign | f->inf_code;
    if (f->nan_code)
        return f->nan_code | (f->row.specials == EMU_SPECIALS_FNUZ ? 0 : sign);
    return sign | f->max_code;
}

/* The exact product; the caller knows that it fits. */
static inline number multiply(number x, number y)
{
    uint64_t sig = x.sig * y.sig;
    uint8_t negative = x.negative ^ y.negative, kind = x.kind | y.kind;
    if (kind & NOT_A_NUMBER || (kind == INF && !sig))
        return (number){.kind = NOT_A_NUMBER};
    return kind ? (number){1, 0, negative, INF} : (number){sig, x.exp + y.exp, negative, FINITE};
}

#endif
