/* The methods of emulator/exact/gaudi.py, under the names they have there; [GAUDI] is the source named there. A significand
 * is an integer with its leading bit in the hidden bit's place, a sum a 64-bit integer. */
#include "dot_groups.h"

/* The product of k = i in products of digits of `width` bits: |sig| * 2^0, 2^width ... cut toward zero to multiples of 2^-up
 * of their whole's last bit (up < 0: to multiples of 2^-up). */
static int64_t cut_product(const job *j, const plane *a, const plane *b, size_t i, int width, int up)
{
    uint64_t x = magnitude_of(a->sig[i]), y = magnitude_of(b->sig[i]), mask = (UINT64_C(1) << width) - 1, sum = 0;
    for (int p = 0; p <= j->a.row.frac_bits; p += width)
        for (int q = 0; q <= j->b.row.frac_bits; q += width) {
            uint64_t part = (x >> p & mask) * (y >> q & mask);
            int left = up + p + q;
            sum += left >= 0 ? part << left : left > -64 ? part >> -left : 0;
        }
    return (a->sig[i] < 0) != (b->sig[i] < 0) ? -(int64_t)sum : (int64_t)sum;
}

static int top_of(const plane *a, const plane *b, size_t start, size_t stop, int top)
{
    for (size_t i = start; i < stop; i++) {
        int claim = a->claim[i] + b->claim[i];
        top = claim > top ? claim : top;
    }
    return top;
}

/* Gaudi 3: C and the products of digits in one fused sum [GAUDI]. */
static uint32_t digit_chain(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    unsigned seen = special(j, c_code) | (a->kinds | b->kinds ? specials(j, a, b, start, stop, false) : 0);
    if (seen)
        return special_code(j, seen);
    number c = decode(&j->d, c_code);
    int top = top_of(a, b, start, stop, j->row->floor), frac = j->row->frac;
    if (c.sig && c.exp + 23 > top)
        top = c.exp + 23;
    int64_t sum = (int64_t)round_shift(false, c.sig, top - frac - c.exp, EMU_ROUND_RZ, 0, 0);
    sum = c.negative ? -sum : sum;
    for (size_t i = start; i < stop; i++)
        if (a->sig[i] && b->sig[i])
            sum += cut_product(j, a, b, i, 8, frac - j->product_frac - (top - a->claim[i] - b->claim[i]));
    number total = {magnitude_of(sum), top - frac, sum < 0, FINITE};
    uint64_t code = encode(&j->d, total, j->row->rounding, EMU_OVERFLOW_INFINITY, j->row->precision, 0, 0);
    return code == j->d.sign ? 0 : (uint32_t)code;
}

/* x * 2^x_exp + y * 2^y_exp, rounded once to nearest; below 2^53 both. The larger is raised to bit 61 and ends in 8 zeros or
 * more: the smaller loses bits, which are jammed into its last one, only if it lies 9 places down or more; the difference then
 * loses at most one leading place, and no boundary of rounding lies between it and the truth. */
static uint32_t add_nearest(const job *j, int64_t x, int x_exp, int64_t y, int y_exp)
{
    if (!x || !y)
        return x ? nearest(j, x, x_exp) : nearest(j, y, y_exp);
    int x_up = 62 - bit_length(magnitude_of(x)), y_up = 62 - bit_length(magnitude_of(y));
    uint64_t high = magnitude_of(x) << x_up, low = magnitude_of(y) << y_up;
    int exp = x_exp - x_up, other = y_exp - y_up;
    bool negative = x < 0, differ = negative != (y < 0);
    if (exp < other || (exp == other && high < low)) {
        uint64_t swap = high;
        int swap_exp = exp;
        high = low;
        low = swap;
        exp = other;
        other = swap_exp;
        negative = y < 0;
    }
    int right = exp - other < 63 ? exp - other : 63;
    low = low >> right | ((low & ((UINT64_C(1) << right) - 1)) != 0);
    int64_t sum = (int64_t)(differ ? high - low : high + low);
    return sum ? nearest(j, negative ? -sum : sum, exp) : 0;
}

/* Gaudi 2: the sum of the products, then C, and one rounding [GAUDI]. */
static uint32_t sum_then_c(const job *j, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c_code)
{
    if (!(c_code & 0x7F800000))
        c_code &= 0x80000000;
    unsigned seen = special(j, c_code) | (a->kinds | b->kinds ? specials(j, a, b, start, stop, false) : 0);
    if (seen)
        return special_code(j, seen);
    number c = decode(&j->d, c_code);
    int top = top_of(a, b, start, stop, NOTHING), frac = j->row->frac;
    int64_t sum = 0;
    bool negative = true;                               /* every product has a minus sign, be it a zero */
    for (size_t i = start; i < stop; i++) {
        negative = negative && signbit(a->value[i]) != signbit(b->value[i]);
        if (a->sig[i] && b->sig[i])
            sum += cut_product(j, a, b, i, j->a.row.frac_bits == 23 ? 12 : 24,
                               frac - j->product_frac - (top - a->claim[i] - b->claim[i]));
    }
    if (!sum && !c.sig)
        return negative && c.negative ? 0x80000000 : 0;
    uint32_t code = add_nearest(j, sum, top - frac, c.negative ? -(int64_t)c.sig : (int64_t)c.sig, c.exp);
    return code & 0x7F800000 ? code : code & 0x80000000;
}

/* --- rows ---------------------------------------------------------------------------------------------------------- */

/* Widened to float32: the leading bit moves up, as far as the exponent stays `least` or above. */
static void widen(const format *f, number x, int least, plane *to, size_t i)
{
    int up = f->row.frac_bits + 1 - bit_length(x.sig), room = x.exp + f->row.frac_bits - least;
    int left = x.kind != FINITE || !x.sig ? 0 : up < room ? up : room;
    left = left > 0 ? left : 0;
    int32_t sig = (int32_t)(x.sig << left);
    to->sig[i] = x.negative ? -sig : sig;
    to->claim[i] = sig ? x.exp - left + f->row.frac_bits : NOTHING;
    to->value[i] = x.negative ? -1.0f : 1.0f;           /* the sign of a zero too */
}

static void enter_gaudi3(const job *j, const format *f, number x, plane *to, size_t i)
{
    (void)j;
    widen(f, x, -126, to, i);
}

/* What is subnormal in float32 is zero; FP8 has no exponent below -14. */
static void enter_gaudi2(const job *j, const format *f, number x, plane *to, size_t i)
{
    if (x.kind == FINITE && bit_length(x.sig) - 1 + x.exp < -126)
        x.sig = 0;
    widen(f, x, j->a.row.bits == 8 ? -14 : -126, to, i);
}

int gaudi_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
               void *d)
{
    job j;
    int status = describe_groups(&j, row, k);
    if (status)
        return status;
    bool third = row->method == EMU_METHOD_DIGIT_CHAIN;
    if (row->rounding > EMU_ROUND_RO || (!third && row->rounding != EMU_ROUND_RNE))
        return EMU_NOT_IEEE;
    if (row->frac < 23 || row->frac + 2 + bit_length(j.terms) > 53 || row->floor < -1000 || row->floor > 1000)
        return EMU_TOO_WIDE;
    j.group = third ? digit_chain : sum_then_c;
    j.enter = third ? enter_gaudi3 : enter_gaudi2;
    return run_groups(&j, batch, m, n, a, b, c, d);
}
