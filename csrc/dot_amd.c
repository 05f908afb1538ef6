/* The methods of emulator/exact/amd.py, under the names they have there; [XMMA] is the source named there. Operands are
 * taken apart once per row into planes. Sums are 64-bit integers; where the addends of CDNA1's sum without error lie too far
 * apart for that, it is a long fixed-point number; CDNA2's steps are the host's own float. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "dot.h"

#ifdef __FAST_MATH__
#error "-ffast-math would change the IEEE steps"
#endif

enum { NOTHING = -(1 << 20) };          /* the exponent of a zero: with any other added to it, still below all others */
enum { MOST = 64 };                     /* terms of a group */
enum { DIGITS = 40 };                   /* of 32 bits, in a long fixed-point number */
enum { SUM_FRAC = 31 };                 /* CDNA3: fraction bits of the normalised sum, and one more of the products' sum */
enum { PLUS_INF = 1, MINUS_INF = 2, INVALID = 4 };

typedef struct {            /* one row of A or one column of B */
    _Alignas(double)        /* planes follow operands in memory */
    int32_t *sig, *claim;   /* the signed significand, and the exponent of its hidden bit */
    float *value;           /* the number, or +0 where flushed_pairs has it so */
    uint8_t *kind, kinds;   /* kinds: all of the row or-ed */
} plane;

typedef struct {
    const emu_row *row;
    format a, b, d;
    size_t k, terms;        /* k of the call: a multiple of row->k */
    int product_frac;
} job;

static int64_t floor_shift(int64_t x, int right)
{
    right = right < 63 ? right : 63;
    return x < 0 ? ~(~x >> right) : x >> right;
}

static uint32_t nearest(const job *j, int64_t sig, int exp)
{
    number x = {(uint64_t)(sig < 0 ? -sig : sig), exp, sig < 0, FINITE};
    return (uint32_t)encode(&j->d, x, EMU_ROUND_RNE, EMU_OVERFLOW_INFINITY, 23, 0, 0);
}

/* --- infinities and NaN, which are decided first ------------------------------------------------------------------- */

/* Those among the products of k = start..stop-1; one of 2^(emax + 1) or more is infinite if `in_range` says so. */
static unsigned specials(const job *j, const plane *a, const plane *b, size_t start, size_t stop, bool in_range)
{
    unsigned seen = 0;
    for (size_t i = start; i < stop; i++) {
        int kind = a->kind[i] | b->kind[i];
        bool negative = (a->sig[i] < 0) != (b->sig[i] < 0);
        int64_t sig = (int64_t)a->sig[i] * b->sig[i];
        if (kind & NOT_A_NUMBER || (kind && !sig))
            return INVALID;
        int lead = bit_length((uint64_t)(sig < 0 ? -sig : sig)) - 1 + a->claim[i] + b->claim[i] - j->product_frac;
        if (kind || (in_range && sig && lead > j->d.emax))
            seen |= negative ? MINUS_INF : PLUS_INF;
    }
    return seen;
}

static unsigned special(const job *j, uint32_t c)
{
    uint64_t magnitude = c & j->d.magnitude;
    return magnitude <= j->d.max_code ? 0 : magnitude > j->d.inf_code ? INVALID : c & j->d.sign ? MINUS_INF : PLUS_INF;
}

static uint32_t special_code(const job *j, unsigned seen)
{
    if (seen != PLUS_INF && seen != MINUS_INF)
        return (uint32_t)j->d.all_ones_nan;
    return (uint32_t)(j->d.inf_code | (seen == MINUS_INF ? j->d.sign : 0));
}

/* --- CDNA1 --------------------------------------------------------------------------------------------------------- */

/* Digits below 2^32 again; what goes beyond the last one: 0, or -1 for a negative number, then in two's complement. */
static int64_t carry(int64_t *digit)
{
    int64_t over = 0;
    for (int i = 0; i < DIGITS; i++) {
        int64_t whole = digit[i] + over;
        over = floor_shift(whole, 32);
        digit[i] = whole & UINT32_MAX;
    }
    return over;
}

/* The n addends sig * 2^exp, |sig| < 2^31, summed and rounded. None has bits below 2^low. */
static uint32_t long_sum(const job *j, size_t n, const int64_t *sig, const int *exp, int low)
{
    int64_t digit[DIGITS] = {0};
    for (size_t i = 0; i < n; i++)
        if (sig[i]) {
            uint64_t size = (uint64_t)(sig[i] < 0 ? -sig[i] : sig[i]) << (exp[i] - low) % 32;
            int64_t *at = digit + (exp[i] - low) / 32, sign = sig[i] < 0 ? -1 : 1;
            at[0] += sign * (int64_t)(size & UINT32_MAX);
            at[1] += sign * (int64_t)(size >> 32);
        }
    bool negative = carry(digit) != 0;
    if (negative) {
        for (int i = 0; i < DIGITS; i++)
            digit[i] = -digit[i];
        carry(digit);
    }
    int top = DIGITS - 1;
    while (top > 1 && !digit[top])
        top--;
    uint64_t size = (uint64_t)digit[top] << 32 | (uint64_t)digit[top - 1], below = 0;
    for (int i = 0; i < top - 1; i++)
        below |= (uint64_t)digit[i];
    /* If anything is below, size has 33 bits or more: 24 to keep, one half, and a last one that jams what is below. */
    number x = {size >> 1 | (size & 1) | (below != 0), low + 32 * (top - 1) + 1, negative, FINITE};
    if (!below)
        x = (number){size, low + 32 * (top - 1), negative, FINITE};
    return (uint32_t)encode(&j->d, x, EMU_ROUND_RNE, EMU_OVERFLOW_INFINITY, 23, 0, 0);
}

/* `terms` products and C without error, rounded once to nearest [XMMA]. */
static uint32_t exact_sums(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    unsigned seen = special(j, c_code) | (a->kinds | b->kinds ? specials(j, a, b, start, stop, false) : 0);
    if (seen)
        return special_code(j, seen);
    number c = decode(&j->d, c_code);
    int64_t sig[MOST + 1], sum = 0;
    int exp[MOST + 1], low = INT32_MAX, high = INT32_MIN;       /* bits of all addends: below 2^high */
    size_t n = stop - start;
    for (size_t i = 0; i <= n; i++) {
        sig[i] = i < n ? (int64_t)a->sig[start + i] * b->sig[start + i] : c.negative ? -(int64_t)c.sig : (int64_t)c.sig;
        exp[i] = i < n ? a->claim[start + i] + b->claim[start + i] - j->product_frac : c.exp;
        if (sig[i]) {
            low = exp[i] < low ? exp[i] : low;
            high = exp[i] + 31 > high ? exp[i] + 31 : high;
        }
    }
    if (high <= low)
        return 0;
    if (high - low > 62 - 7)                            /* 7: MOST + 1 addends */
        return long_sum(j, n + 1, sig, exp, low);
    for (size_t i = 0; i <= n; i++)
        sum += sig[i] ? sig[i] * (INT64_C(1) << (exp[i] - low)) : 0;
    return nearest(j, sum, low);
}

/* --- CDNA2 --------------------------------------------------------------------------------------------------------- */

static float flushed(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

/* Each step in F32, to nearest, and flushed [XMMA]: a subnormal sum is exact, so it matters not when. */
static uint32_t flushed_pairs(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    float part[MOST], c;
    size_t n = stop - start;
    for (size_t i = 0; i < n; i++)
        part[i] = flushed(a->value[start + i] * b->value[start + i]);
    for (; n > 1; n /= 2)
        for (size_t i = 0; i < n / 2; i++)
            part[i] = flushed(part[2 * i] + part[2 * i + 1]);
    memcpy(&c, &c_code, sizeof c);
    c = flushed(c + part[0]);
    memcpy(&c_code, &c, sizeof c);
    return isnan(c) ? (uint32_t)j->d.all_ones_nan : c_code;
}

/* --- CDNA3 --------------------------------------------------------------------------------------------------------- */

/* The products of every `step`-th k, cut toward zero `frac` bits below their largest exponent, in units of that bit. */
static int64_t cut_sum(const job *j, const plane *a, const plane *b, size_t start, size_t stop, size_t step, int *top)
{
    int64_t sum = 0, lead = INT64_C(1) << (j->row->frac - j->product_frac);
    *top = NOTHING;
    for (size_t i = start; i < stop; i += step) {
        int claim = a->claim[i] + b->claim[i];
        *top = claim > *top ? claim : *top;
    }
    for (size_t i = start; i < stop; i += step) {
        int64_t sig = (int64_t)a->sig[i] * b->sig[i] * lead;
        int cut = *top - a->claim[i] - b->claim[i];
        cut = cut < 63 ? cut : 63;
        sum += sig < 0 ? -(-sig >> cut) : sig >> cut;
    }
    return sum;
}

/* The products' sum in units of 2^(top - frac) and C: floored, added, normalised, floored, rounded to nearest [XMMA]. */
static uint32_t onto_c(const job *j, int64_t dot, int top, const number *c)
{
    int frac = j->row->frac, least = j->row->floor, claim = c->sig ? c->exp + 23 : least;
    int common = top > claim ? top : claim;
    common = common > least ? common : least;
    int64_t c_sig = c->negative ? -(int64_t)c->sig : (int64_t)c->sig;
    int64_t up = INT64_C(1) << (SUM_FRAC + 1 - frac);
    int64_t sum = floor_shift(dot * up, common - top);
    sum += floor_shift(c_sig * (INT64_C(1) << (frac - 23)), common - claim) * up;
    if (!sum)
        return 0;
    int unit = common - SUM_FRAC - 1, exponent = bit_length((uint64_t)(sum < 0 ? -sum : sum)) - 1 + unit;
    int drop = (exponent > least ? exponent : least) - SUM_FRAC - unit;
    return drop > 0 ? nearest(j, floor_shift(sum, drop), unit + drop) : nearest(j, sum, unit);
}

static uint32_t cut_then_floor(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    number c = decode(&j->d, c_code);
    int top;
    int64_t dot = cut_sum(j, a, b, start, stop, 1, &top);
    if (a->kinds | b->kinds | c.kind || top >= j->d.emax) {
        unsigned seen = special(j, c_code) | specials(j, a, b, start, stop, true);
        if (seen)
            return special_code(j, seen);
    }
    return onto_c(j, dot, top, &c);
}

/* FP8: two sums, floored at the larger exponent; a C far below them is nothing [XMMA]. */
static uint32_t even_and_odd(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    number c = decode(&j->d, c_code);
    if (a->kinds | b->kinds | c.kind) {
        unsigned seen = special(j, c_code) | specials(j, a, b, start, stop, false);
        if (seen)
            return special_code(j, seen);
    }
    int even_top, odd_top;
    int64_t even = cut_sum(j, a, b, start, stop, 2, &even_top), odd = cut_sum(j, a, b, start + 1, stop, 2, &odd_top);
    int top = even_top > odd_top ? even_top : odd_top, least = j->row->floor;
    int common = top > least ? top : least, claim = c.sig ? c.exp + 23 : least;
    if (claim < common - j->row->frac - 1)
        c.sig = 0;
    return onto_c(j, floor_shift(even, top - even_top) + floor_shift(odd, top - odd_top), top, &c);
}

/* --- rows, planes, and the call ------------------------------------------------------------------------------------ */

typedef uint32_t method(const job *, const plane *, const plane *, size_t, size_t, uint32_t);

static method *method_of(int which)
{
    switch (which) {
    case EMU_METHOD_EXACT_SUMS: return exact_sums;
    case EMU_METHOD_FLUSHED_PAIRS: return flushed_pairs;
    case EMU_METHOD_CUT_THEN_FLOOR: return cut_then_floor;
    default: return even_and_odd;
    }
}

/* Fills in j; anything but EMU_DONE is why not. */
static int check(job *j, const emu_row *row, int64_t k)
{
    static const emu_format BINARY32 = {1, 32, 1, 8, 23, 127, EMU_SPECIALS_IEEE, 0};
    *j = (job){.row = row, .k = (size_t)k};
    bool cuts = row->method == EMU_METHOD_CUT_THEN_FLOOR || row->method == EMU_METHOD_EVEN_AND_ODD;
    if (row->k < 1 || row->terms < 1 || !row->a.is_float || !row->b.is_float || !describe(&row->a, &j->a)
        || !describe(&row->b, &j->b) || !describe(&row->d, &j->d))
        return EMU_BAD_ROW;
    if (memcmp(&row->c, &BINARY32, sizeof BINARY32) || memcmp(&row->d, &BINARY32, sizeof BINARY32)
        || row->rounding != EMU_ROUND_RNE || FLT_EVAL_METHOD != 0)
        return EMU_NOT_IEEE;
    if (k < 1 || k % row->k || k > PTRDIFF_MAX / 16)
        return EMU_BAD_SHAPE;
    j->terms = (size_t)(row->terms < row->k ? row->terms : row->k);
    j->product_frac = j->a.row.frac_bits + j->b.row.frac_bits;
    int low = j->a.emin + j->b.emin - j->product_frac, high = j->a.emax + j->b.emax;
    bool narrow = row->a.frac_bits <= 11 && row->b.frac_bits <= 11 && low > -450 && high < 450 && j->terms <= MOST;
    if (row->method == EMU_METHOD_FLUSHED_PAIRS && (row->k % row->terms || (row->terms & (row->terms - 1))
                                                     || low < -300 || high > 300 || j->a.emin < -126 || j->b.emin < -126))
        return EMU_BAD_ROW;
    if (!narrow || (cuts && (row->frac < 23 || row->frac < j->product_frac || row->frac > SUM_FRAC || row->floor < -150
                             || row->floor > 0)))
        return EMU_TOO_WIDE;
    return EMU_DONE;
}

static void take_apart(const job *j, const format *f, const void *codes, size_t which, plane *to)
{
    to->kinds = 0;
    for (size_t i = 0; i < j->k; i++) {
        number x = decode(f, load(codes, f->bytes, which * j->k + i));
        bool subnormal = x.kind == FINITE && !(x.sig >> f->row.frac_bits);
        to->sig[i] = x.negative ? -(int32_t)x.sig : (int32_t)x.sig;
        to->claim[i] = x.sig ? x.exp + f->row.frac_bits : NOTHING;
        to->value[i] = x.kind == NOT_A_NUMBER ? NAN : x.kind == INF ? (x.negative ? -INFINITY : INFINITY)
                     : subnormal ? 0 : ldexpf((float)to->sig[i], x.exp);
        to->kind[i] = x.kind;
        to->kinds |= x.kind;
    }
}

/* `count` planes in one piece of memory; NULL where there is none. */
static plane *planes(size_t count, size_t k)
{
    plane *all = malloc(count * (sizeof *all + k * 13));
    if (!all)
        return NULL;
    int32_t *at = (int32_t *)(all + count);
    for (size_t i = 0; i < count; i++, at += 3 * k)
        all[i] = (plane){.sig = at, .claim = at + k, .value = (float *)(at + 2 * k)};
    for (size_t i = 0; i < count; i++)
        all[i].kind = (uint8_t *)at + i * k;
    return all;
}

int amd_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
             void *d)
{
    job j;
    int status = check(&j, row, k);
    if (!status && (batch < 0 || m < 0 || n < 0))
        status = EMU_BAD_SHAPE;
    if (status || !batch || !m || !n)
        return status;
    method *run = method_of(row->method);
    bool flushes = row->method == EMU_METHOD_FLUSHED_PAIRS;
    size_t rows = (size_t)m, columns = (size_t)n, tile = (size_t)row->k, panel = j.k < 65536 ? 65536 / j.k : 1;
    panel = panel < columns ? panel : columns;
    plane *x = planes(1, j.k), *y = planes(panel, j.k);
    if (!x || !y)
        status = EMU_NO_MEMORY;
    fenv_t kept;                                        /* as in emu_dots */
    fegetenv(&kept);
    fesetenv(FE_DFL_ENV);
    for (size_t p = 0; !status && p < (size_t)batch; p++)
        for (size_t left = 0; left < columns; left += panel) {
            size_t width = columns - left < panel ? columns - left : panel;
            for (size_t col = 0; col < width; col++)
                take_apart(&j, &j.b, b, p * columns + left + col, &y[col]);
            for (size_t i = p * rows; i < (p + 1) * rows; i++) {
                take_apart(&j, &j.a, a, i, x);
                for (size_t col = 0; col < width; col++) {
                    size_t at = i * columns + left + col;
                    uint32_t code = (uint32_t)load(c, 4, at);
                    for (size_t first = 0; first < j.k; first += tile) {
                        if (flushes && !(code & 0x7F800000))
                            code = 0;                   /* C comes in as +0 */
                        for (size_t start = first, stop; start < first + tile; start = stop) {
                            stop = first + tile - start < j.terms ? first + tile : start + j.terms;
                            code = run(&j, x, &y[col], start, stop, code);
                        }
                    }
                    store(d, 4, at, code);
                }
            }
        }
    fesetenv(&kept);
    free(x);
    free(y);
    return status;
}
