/* The methods of emulator/exact/amd.py, under the names they have there; [XMMA] is the source named there. Sums are 64-bit
 * integers; where the addends of CDNA1's sum without error lie too far apart for that, it is a long fixed-point number;
 * CDNA2's steps are the host's own float. */
#include "dot_groups.h"

enum { DIGITS = 40 };                   /* of 32 bits, in a long fixed-point number */
enum { SUM_FRAC = 31 };                 /* CDNA3: fraction bits of the normalised sum, and one more of the products' sum */

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
            uint64_t size = magnitude_of(sig[i]) << (exp[i] - low) % 32;
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
    int unit = common - SUM_FRAC - 1, exponent = bit_length(magnitude_of(sum)) - 1 + unit;
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

/* --- rows ---------------------------------------------------------------------------------------------------------- */

static void enter(const job *j, const format *f, number x, plane *to, size_t i)
{
    (void)j;
    to->sig[i] = x.negative ? -(int32_t)x.sig : (int32_t)x.sig;
    to->claim[i] = x.sig ? x.exp + f->row.frac_bits : NOTHING;
}

/* What flushed_pairs reads: a normal number, or +0. */
static void enter_flushed(const job *j, const format *f, number x, plane *to, size_t i)
{
    uint64_t bits = (uint64_t)(x.exp + 1023) << 52;
    double power;                                       /* 2^exp: from its bits, as ldexp takes its time */
    memcpy(&power, &bits, sizeof power);
    enter(j, f, x, to, i);
    to->value[i] = x.kind == NOT_A_NUMBER ? NAN : x.kind == INF ? (x.negative ? -INFINITY : INFINITY)
                 : x.sig >> f->row.frac_bits ? (float)(to->sig[i] * power) : 0;
}

static uint32_t flushed_c(uint32_t c)
{
    return c & 0x7F800000 ? c : 0;
}

int amd_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
             void *d)
{
    job j;
    int status = describe_groups(&j, row, k);
    if (status)
        return status;
    if (row->rounding != EMU_ROUND_RNE)
        return EMU_NOT_IEEE;
    j.enter = enter;
    bool narrow = row->a.frac_bits <= 11 && row->b.frac_bits <= 11, cuts = false;
    switch (row->method) {
    case EMU_METHOD_EXACT_SUMS: j.group = exact_sums; break;
    case EMU_METHOD_FLUSHED_PAIRS:
        j.group = flushed_pairs;
        j.enter = enter_flushed;
        j.enter_c = flushed_c;
        if (row->k % row->terms || (row->terms & (row->terms - 1)) || j.a.emin < -126 || j.b.emin < -126 || j.a.emax > 127
            || j.b.emax > 127)
            return EMU_BAD_ROW;
        break;
    default:
        j.group = row->method == EMU_METHOD_CUT_THEN_FLOOR ? cut_then_floor : even_and_odd;
        cuts = true;
    }
    if (!narrow || (cuts && (row->frac < 23 || row->frac < j.product_frac || row->frac > SUM_FRAC || row->floor < -150
                             || row->floor > 0)))
        return EMU_TOO_WIDE;
    return run_groups(&j, batch, m, n, a, b, c, d);
}
