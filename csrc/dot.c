/* Every method of emulator/exact.py, each under its own name there, where its sources are cited. An operand is taken apart
 * once per row into planes, which all columns then share; a fused sum is a sum of 64-bit integers; an IEEE step is the
 * host's own. This is the portable and readable form: one element of D after another. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "number.h"

#ifdef __FAST_MATH__
#error "compile without -ffast-math: the IEEE steps below are the compiler's"
#endif

enum { NOTHING = -(1 << 24) };      /* the claim of a zero: below every floor, alone or with another claim added */
enum { LEAST_FLOOR = -(1 << 20) };  /* of a row */

typedef struct {            /* one row of A or one column of B */
    int32_t *sig;           /* signed; with its block's scale in it: products commute, so that changes nothing */
    int32_t *claim;         /* what it adds to the claim of its products in the alignment */
    uint8_t *kind;
    uint8_t kinds;          /* all of the row, or-ed: most rows are finite, and say so at once */
    double *value;          /* for the IEEE steps, instead of the other three */
} operand;

typedef struct {            /* what one call needs: the row, and what follows from it */
    const emu_row *row;
    format a, b, c, d, scale, f64;
    size_t k;               /* of the call, a multiple of row->k */
    bool scaled, ieee;
    int shift;              /* an addend is sig * 2^(claim + shift - frac): its sig moves left by shift before it is cut */
    int64_t *sig;           /* the addends of one fused sum */
    int32_t *claim;
} job;

/* One instruction: the k from `start` on, with the C of that code and format. */
typedef uint64_t method(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c);

/* --- the fused sum ------------------------------------------------------------------------------------------------------ */

enum { POSITIVE = 1, NEGATIVE = 2, INVALID = 4 };     /* infinities of either sign, NaN */

/* The infinities and NaN among products start..end-1. */
static unsigned specials(const operand *a, const operand *b, size_t start, size_t end)
{
    unsigned seen = 0;
    if (!(a->kinds | b->kinds))
        return 0;
    for (size_t i = start; i < end; i++) {
        int kind = a->kind[i] | b->kind[i];
        if (kind & NOT_A_NUMBER || (kind && (!a->sig[i] || !b->sig[i])))
            return INVALID;
        if (kind)
            seen |= (a->sig[i] < 0) == (b->sig[i] < 0) ? POSITIVE : NEGATIVE;
    }
    return seen;
}

/* exact.fused_sum and exact._finish: the n addends in j and C, aligned, cut toward zero, added, rounded. `seen` decides first. */
static uint64_t fused_sum(const job *j, size_t n, unsigned seen, const format *c_format, uint64_t c_code)
{
    const int64_t *sig = j->sig;
    const int32_t *claim = j->claim;
    number c = decode(c_format, c_code), total = {.kind = INF};
    if (c.kind)
        seen |= c.kind == NOT_A_NUMBER ? INVALID : c.negative ? NEGATIVE : POSITIVE;
    if (seen) {
        if (seen != POSITIVE && seen != NEGATIVE)
            return j->d.all_ones_nan;
        total.sig = 1;
        total.negative = seen == NEGATIVE;
        return encode(&j->d, total, j->row->rounding, EMU_OVERFLOW_INFINITY, j->row->precision, 0, 0);
    }

    int top = j->row->floor;
    if (c.sig && c.exp + c_format->row.frac_bits > top)
        top = c.exp + c_format->row.frac_bits;
    for (size_t i = 0; i < n; i++)
        top = claim[i] > top ? claim[i] : top;
    int unit = top - j->row->frac;

    /* Nothing claims more than top, so that no shift to the left overflows (see `check`). A shift to the right of a magnitude
     * cuts toward zero; by 63 it leaves nothing of one below 2^63. */
    int64_t sum = (int64_t)round_shift(false, c.sig, unit - c.exp, EMU_ROUND_RZ, 0, 0);
    sum = c.negative ? -sum : sum;
    int left = j->shift > 0 ? j->shift : 0, right = top - (j->shift < 0 ? j->shift : 0);
    for (size_t i = 0; i < n; i++) {
        int cut = right - claim[i] < 63 ? right - claim[i] : 63;
        int64_t addend = (int64_t)((uint64_t)(sig[i] < 0 ? -sig[i] : sig[i]) << left >> cut);
        sum += sig[i] < 0 ? -addend : addend;
    }
    total = (number){(uint64_t)(sum < 0 ? -sum : sum), unit, sum < 0, FINITE};
    uint64_t code = encode(&j->d, total, j->row->rounding, EMU_OVERFLOW_INFINITY, j->row->precision, 0, 0);
    return code & j->d.magnitude ? code : 0;
}

/* The products start..end-1 become addends. */
static void products(const job *j, const operand *a, const operand *b, size_t start, size_t end)
{
    for (size_t i = start; i < end; i++) {
        j->sig[i - start] = (int64_t)a->sig[i] * b->sig[i];
        j->claim[i - start] = a->claim[i] + b->claim[i];
    }
}

static uint64_t chain(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    size_t stop = start + (size_t)j->row->k, terms = (size_t)j->row->terms;
    for (size_t end; start < stop; start = end) {
        end = stop - start < terms ? stop : start + terms;
        products(j, a, b, start, end);
        c = fused_sum(j, end - start, specials(a, b, start, end), c_format, c);
        c_format = &j->d;
    }
    return c;
}

static uint64_t exact_groups(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    size_t groups = (size_t)j->row->k / 16;
    for (size_t g = 0; g < groups; g++) {
        size_t first = start + 16 * g;
        int64_t sum = 0, any = 0;
        for (size_t i = first; i < first + 16; i++) {
            int64_t product = (int64_t)a->sig[i] * b->sig[i];
            sum += product;
            any |= product;
        }
        j->sig[g] = sum;
        j->claim[g] = any ? a->claim[first] + b->claim[first] : NOTHING;
    }
    return fused_sum(j, groups, specials(a, b, start, start + 16 * groups), c_format, c);
}

/* --- steps that are IEEE operations --------------------------------------------------------------------------------------
 * The host's own fma and fmaf (IEEE 754-2019, 5.4.1; C11, 7.12.13.1) are one rounding in the direction in force, in hardware
 * or not, and with -ffp-contract=off and FLT_EVAL_METHOD 0 each + and * is one rounding too. A float travels in a double,
 * which holds it exactly. Which NaN the host makes does not matter: every NaN leaves as the canonical one. */

static double to_double(const job *j, const format *f, uint64_t code)
{
    uint64_t bits = encode(&j->f64, decode(f, code), EMU_ROUND_RNE, EMU_OVERFLOW_IEEE, 52, 0, 0);    /* exact: see `check` */
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t from_double(const job *j, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    number x = decode(&j->f64, bits);
    return x.kind == NOT_A_NUMBER ? j->d.all_ones_nan
                                  : encode(&j->d, x, EMU_ROUND_RNE, EMU_OVERFLOW_IEEE, j->d.row.frac_bits, 0, 0);
}

/* The planes of each instruction hold k mod 4 in {0, 1} first, then {2, 3}: see `place`. */
static uint64_t fp8_through_f16(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    size_t half = (size_t)j->row->k / 2;
    uint64_t partial = 0;
    for (int i = 0; i < 2; i++, start += half) {
        products(j, a, b, start, start + half);
        partial = fused_sum(j, half, specials(a, b, start, start + half), &j->d, partial);
    }
    double x = to_double(j, &j->d, partial), y = to_double(j, c_format, c);
    if (j->d.row.frac_bits == 23)
        return from_double(j, (float)x + (float)y);
    return from_double(j, x + y);                   /* exact, so that the one rounding is that of from_double */
}

static uint64_t simt_f32(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    float total = 0;
    for (size_t i = start; i < start + (size_t)j->row->k; i++)
        total = fmaf((float)a->value[i], (float)b->value[i], total);
    return from_double(j, total + (float)to_double(j, c_format, c));
}

static uint64_t simt_f16(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    float total = (float)to_double(j, c_format, c);
    for (size_t i = start; i < start + (size_t)j->row->k; i += 2) {
        float pair = (float)a->value[i] * (float)b->value[i];
        total = fmaf((float)a->value[i + 1], (float)b->value[i + 1], pair) + total;
    }
    return from_double(j, total);
}

static uint64_t fma_chain(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    double total = to_double(j, c_format, c);
    for (size_t i = start; i < start + (size_t)j->row->k; i++)
        total = fma(a->value[i], b->value[i], total);
    return from_double(j, total);
}

/* --- integers ------------------------------------------------------------------------------------------------------------ */

static uint64_t integer_result(const job *j, int64_t sum, const format *c_format, uint64_t c_code)
{
    number c = decode(c_format, c_code);
    int bits = j->d.row.bits, is_signed = !!j->d.row.is_signed;
    int64_t total = sum + (c.negative ? -(int64_t)c.sig : (int64_t)c.sig);
    int64_t max = (INT64_C(1) << (bits - is_signed)) - 1, min = is_signed ? -max - 1 : 0;
    if (j->row->saturate)
        total = total < min ? min : total > max ? max : total;
    return (uint64_t)total & (UINT64_MAX >> (64 - bits));
}

static uint64_t integer(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    int64_t sum = 0;
    for (size_t i = start; i < start + (size_t)j->row->k; i++)
        sum += (int64_t)a->sig[i] * b->sig[i];
    return integer_result(j, sum, c_format, c);
}

static uint64_t xor_popc(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    int64_t sum = 0;
    for (size_t i = start; i < start + (size_t)j->row->k; i++)
        sum += a->sig[i] != b->sig[i];
    return integer_result(j, sum, c_format, c);
}

static uint64_t and_popc(const job *j, const operand *a, const operand *b, size_t start, const format *c_format, uint64_t c)
{
    int64_t sum = 0;
    for (size_t i = start; i < start + (size_t)j->row->k; i++)
        sum += a->sig[i] & b->sig[i];
    return integer_result(j, sum, c_format, c);
}

static method *const METHODS[] = {
    [EMU_METHOD_CHAIN] = chain, [EMU_METHOD_EXACT_GROUPS] = exact_groups, [EMU_METHOD_FP8_THROUGH_F16] = fp8_through_f16,
    [EMU_METHOD_SIMT_F32] = simt_f32, [EMU_METHOD_SIMT_F16] = simt_f16, [EMU_METHOD_FMA_CHAIN] = fma_chain,
    [EMU_METHOD_INTEGER] = integer, [EMU_METHOD_XOR_POPC] = xor_popc, [EMU_METHOD_AND_POPC] = and_popc,
};

/* --- what this file can do ----------------------------------------------------------------------------------------------- */

const char *emu_why(int status)
{
    switch (status) {
    case EMU_DONE: return "done";
    case EMU_NO_MEMORY: return "there is not enough memory";
    case EMU_BAD_SHAPE: return "the sizes do not fit: k must be a multiple of the row's k, and block scaled rows need scales";
    case EMU_BAD_ROW: return "the row describes no instruction";
    case EMU_TOO_WIDE: return "its exact sum may need more than 62 bits, or its numbers lie too far apart";
    case EMU_NOT_IEEE: return "it takes IEEE steps in a format or rounding in which the host computes none";
    default: return "of an unknown reason";
    }
}

/* Does a float (frac 23, top 127) or double (52, 1023) hold every number of f? */
static bool held(const format *f, int frac, int top)
{
    return f->row.is_float && f->row.frac_bits <= frac && f->emax <= top && f->emin - f->row.frac_bits >= 1 - top - frac;
}

/* Exponent of the last bit of the smallest number. */
static int lowest(const format *f)
{
    return f->emin - f->row.frac_bits;
}

/* Fills in j; anything but EMU_DONE is why not. */
static int check(job *j, const emu_row *row, int64_t k)
{
    static const emu_format BINARY64 = {1, 64, 1, 11, 52, 1023, EMU_SPECIALS_IEEE, 0};
    format *a = &j->a, *b = &j->b, *c = &j->c, *d = &j->d, *scale = &j->scale;
    int method = row->method;
    if (method < 0 || method > EMU_METHOD_AND_POPC || row->k < 1 || row->rounding < 0 || row->rounding > EMU_ROUND_SR)
        return EMU_BAD_ROW;
    if (k < 1 || k % row->k)
        return EMU_BAD_SHAPE;
    describe(&BINARY64, &j->f64);
    if (!describe(&row->a, a) || !describe(&row->b, b) || !describe(&row->c, c) || !describe(&row->d, d))
        return EMU_TOO_WIDE;
    j->row = row;
    j->k = (size_t)k;

    if (method >= EMU_METHOD_INTEGER) {
        int sum = a->row.bits + b->row.bits + bit_length((uint64_t)row->k);
        if (row->a.is_float || row->b.is_float || row->c.is_float || row->d.is_float)
            return EMU_BAD_ROW;
        return sum > 62 || a->row.bits > 31 || b->row.bits > 31 || c->row.bits > 32 || d->row.bits > 32 ? EMU_TOO_WIDE : EMU_DONE;
    }

    if (!row->a.is_float || !row->b.is_float || !row->c.is_float || !row->d.is_float || !d->all_ones_nan)
        return EMU_BAD_ROW;
    bool f32_in = held(a, 23, 127) && held(b, 23, 127) && held(c, 23, 127);
    bool f32_out = row->d.bits == 32 && row->d.frac_bits == 23 && held(d, 23, 127) && d->inf_code && d->sign;
    bool f64_out = row->d.bits == 64 && row->d.frac_bits == 52 && held(d, 52, 1023) && d->inf_code && d->sign;
    j->ieee = method == EMU_METHOD_SIMT_F32 || method == EMU_METHOD_SIMT_F16 || method == EMU_METHOD_FMA_CHAIN;
    if ((j->ieee || method == EMU_METHOD_FP8_THROUGH_F16) && FLT_EVAL_METHOD != 0)
        return EMU_NOT_IEEE;
    switch (method) {
    case EMU_METHOD_SIMT_F32: return f32_in && f32_out ? EMU_DONE : EMU_NOT_IEEE;
    case EMU_METHOD_SIMT_F16: return row->k % 2 ? EMU_BAD_ROW : f32_in && held(d, 23, 127) ? EMU_DONE : EMU_NOT_IEEE;
    case EMU_METHOD_FMA_CHAIN: {
        bool f64_in = held(a, 52, 1023) && held(b, 52, 1023) && held(c, 52, 1023);
        bool direction = row->rounding == EMU_ROUND_RNE || (row->rounding >= EMU_ROUND_RZ && row->rounding <= EMU_ROUND_RU);
        return f64_in && f64_out && direction ? EMU_DONE : EMU_NOT_IEEE;
    }
    case EMU_METHOD_FP8_THROUGH_F16: {
        int high = c->emax > d->emax ? c->emax : d->emax, low = lowest(c) < lowest(d) ? lowest(c) : lowest(d);
        bool exact = held(c, 52, 1023) && held(d, 52, 1023) && high - low + 2 <= 53;
        if (row->k % 4)
            return EMU_BAD_ROW;
        if (!(f32_out && held(c, 23, 127)) && !(exact && d->row.frac_bits != 23))
            return EMU_NOT_IEEE;
    }
    }

    /* A fused sum. Products of what is in the planes have `wide` bits, a sum of 16 of them four more; `lead` is the place
     * of the last bit of a product below what it claims. */
    bool groups = method == EMU_METHOD_EXACT_GROUPS;
    j->scaled = row->block && method != EMU_METHOD_FP8_THROUGH_F16;
    if (row->terms < 1 || row->frac < 0 || row->frac > 60 || row->precision < 0 || row->block < 0
        || (row->block && row->k % row->block) || (groups && (!row->block || row->k % 16)))
        return EMU_BAD_ROW;
    if (j->scaled && (!describe(&row->scale, scale) || !row->scale.is_float))
        return EMU_BAD_ROW;
    /* an infinite scale would take its sign from the sum of a group, and the planes know only products */
    if (groups && scale->inf_code)
        return EMU_TOO_WIDE;
    int a_bits = 1 + a->row.frac_bits + (groups ? a->emax - a->emin : 0) + (j->scaled ? 1 + scale->row.frac_bits : 0);
    int b_bits = 1 + b->row.frac_bits + (groups ? b->emax - b->emin : 0) + (j->scaled ? 1 + scale->row.frac_bits : 0);
    int below = groups ? 2 * scale->row.frac_bits - lowest(a) - lowest(b) : a->row.frac_bits + b->row.frac_bits;
    j->shift = row->frac - below;
    int addend = a_bits + b_bits + (groups ? 4 : 0) + (j->shift > 0 ? j->shift : 0);
    int addends = groups ? row->k / 16 : row->k;
    if (a_bits > 31 || b_bits > 31 || row->floor < LEAST_FLOOR || row->floor > -LEAST_FLOOR
        || (addend > row->frac + 1 ? addend : row->frac + 1) + bit_length((uint64_t)addends + 1) > 62)
        return EMU_TOO_WIDE;
    return EMU_DONE;
}
