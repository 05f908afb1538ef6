/* The methods of emulator/exact/documented.py, under the names they have there; [ARM], [POWER] and [QEMU] are the sources
 * named there. A sum of two is taken in integers of 128 bits, a jammed bit standing for what falls off; where the compiler
 * has no such integers, these rows are refused. */
#include <stdlib.h>

#include "dot.h"

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 wide;

typedef struct {            /* a number (number.h) of more bits; the sig of a NaN is its fraction field in D's format */
    wide sig;
    int exp;
    uint8_t negative, kind;
} big;

typedef struct {            /* what one call needs */
    const emu_row *row;
    format a, b, d, scale;
    size_t k;               /* of one instruction */
} work;

static big widen(number x)
{
    return (big){x.sig, x.exp, x.negative, x.kind};
}

static int wide_length(wide x)
{
    uint64_t high = (uint64_t)(x >> 64);
    return high ? 64 + bit_length(high) : bit_length((uint64_t)x);
}

static big times(big x, big y)
{
    big product = {x.sig * y.sig, x.exp + y.exp, x.negative ^ y.negative, x.kind | y.kind};
    if (product.kind & NOT_A_NUMBER || (product.kind == INF && !product.sig))
        return (big){.kind = NOT_A_NUMBER};
    return product;
}

/* The leading bit goes to 125. What falls off is jammed: never from a number of at most 106 bits that comes with it there. */
static big raised(big x)
{
    int left = 126 - wide_length(x.sig);
    x.sig <<= left;
    x.exp -= left;
    return x;
}

/* x + y. Of at most 106 bits each, one loses bits only if it is 20 places below the other; then their difference has its
 * leading bit at 124 or above, and the jammed bit lies far below all that is kept of it. */
static big plus(big x, big y)
{
    if ((x.kind | y.kind) & NOT_A_NUMBER || (x.kind & y.kind & INF && x.negative != y.negative))
        return (big){.kind = NOT_A_NUMBER};
    if (x.kind || y.kind)
        return x.kind ? x : y;
    if (!x.sig || !y.sig) {
        big other = x.sig ? x : y;
        if (!other.sig)
            other.negative = x.negative && y.negative;
        return other;
    }
    x = raised(x);
    y = raised(y);
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        big swap = x;
        x = y;
        y = swap;
    }
    int right = x.exp - y.exp < 127 ? x.exp - y.exp : 127;
    wide low = y.sig >> right | ((y.sig & (((wide)1 << right) - 1)) != 0);
    x.sig = x.negative == y.negative ? x.sig + low : x.sig - low;
    if (!x.sig)
        x.negative = 0;
    return x;
}

/* The code of x rounded once. Of more than 62 bits the others are jammed: D has at most 53. */
static uint64_t rounded(const format *f, big x, int mode)
{
    int right = wide_length(x.sig) - 62;
    if (right > 0) {
        x.sig = x.sig >> right | ((x.sig & (((wide)1 << right) - 1)) != 0);
        x.exp += right;
    }
    number y = {(uint64_t)x.sig, x.exp, x.negative, x.kind};
    return encode(f, y, mode, EMU_OVERFLOW_INFINITY, f->row.frac_bits, 0, 0);
}

static uint64_t quieted(const format *f, big x)
{
    return f->nan_code | (uint64_t)x.sig | (x.negative ? f->sign : 0);
}

/* A number of f; a NaN's fraction field as `to` would have it. */
static big take(const format *f, const format *to, uint64_t code)
{
    big x = widen(decode(f, code));
    if (x.kind == NOT_A_NUMBER && f->inf_code)
        x.sig = (wide)((code & f->magnitude) - f->inf_code) << (to->row.frac_bits - f->row.frac_bits);
    return x;
}

/* The first NaN of `nans`, else the default one, where the sum is NaN; else the sum rounded to nearest. */
static uint64_t nearest(const format *f, big total, const big *nans, int count)
{
    if (total.kind != NOT_A_NUMBER)
        return rounded(f, total, EMU_ROUND_RNE);
    for (int i = 0; i < count; i++)
        if (nans[i].kind == NOT_A_NUMBER)
            return quieted(f, nans[i]);
    return f->nan_code;
}

static big flushed(const format *f, big x)
{
    if (x.kind == FINITE && wide_length(x.sig) - 1 + x.exp < f->emin)
        x.sig = 0;
    return x;
}

static big to_odd(const format *f, big x)
{
    if (x.kind == NOT_A_NUMBER)
        return x;
    return widen(decode(f, rounded(f, flushed(f, x), EMU_ROUND_RO)));
}

static uint64_t odd_pairs(const work *w, const big *a, const big *b, uint64_t c)
{
    big sum = flushed(&w->d, take(&w->d, &w->d, c));
    for (size_t i = 0; i < w->k; i += 2) {
        big first = to_odd(&w->d, times(flushed(&w->a, a[i]), flushed(&w->b, b[i])));
        big second = to_odd(&w->d, times(flushed(&w->a, a[i + 1]), flushed(&w->b, b[i + 1])));
        sum = to_odd(&w->d, plus(sum, to_odd(&w->d, plus(first, second))));
    }
    return nearest(&w->d, sum, NULL, 0);
}

static uint64_t fused_pairs(const work *w, const big *a, const big *b, uint64_t c)
{
    for (size_t i = 0; i < w->k; i += 2) {
        uint64_t pair = nearest(&w->d, plus(times(a[i], b[i]), times(a[i + 1], b[i + 1])), NULL, 0);
        c = nearest(&w->d, plus(take(&w->d, &w->d, c), take(&w->d, &w->d, pair)), NULL, 0);
    }
    return c;
}

/* Several products are a fixed-point number: see `check`. */
static uint64_t scaled_sum(const work *w, const big *a, const big *b, uint64_t c, big scale)
{
    const int unit = w->a.emin - w->a.row.frac_bits + w->b.emin - w->b.row.frac_bits;
    big total = times(a[0], b[0]);
    if (w->k > 1) {
        wide sum = 0;                                   /* modulo 2^128: two's complement */
        big infinite = {0};
        total = (big){.exp = unit, .negative = 1};
        for (size_t i = 0; i < w->k; i++) {
            big product = times(a[i], b[i]);
            if (product.kind)
                infinite = infinite.kind ? plus(infinite, product) : product;
            else
                sum += product.negative ? 0 - (product.sig << (product.exp - unit)) : product.sig << (product.exp - unit);
            total.negative &= product.negative;
        }
        if (infinite.kind)
            total = infinite;
        else if (sum) {
            total.negative = (uint8_t)(sum >> 127);
            total.sig = total.negative ? 0 - sum : sum;
        }
    }
    return nearest(&w->d, plus(times(total, scale), take(&w->d, &w->d, c)), NULL, 0);
}

static uint64_t arm_fma(const work *w, const big *a, const big *b, uint64_t c)
{
    for (size_t i = 0; i < w->k; i++) {
        const big nans[] = {take(&w->d, &w->d, c), a[i], b[i]}, product = times(a[i], b[i]);
        const wide quiet = (wide)1 << (w->d.row.frac_bits - 1);
        big ordered[6];
        int count = 0;
        bool invalid = product.kind == NOT_A_NUMBER && !((a[i].kind | b[i].kind) & NOT_A_NUMBER);
        if (!(invalid && nans[0].kind == NOT_A_NUMBER && nans[0].sig & quiet))
            for (int pass = 0; pass < 2; pass++)        /* the signalling ones, then the quiet ones */
                for (int n = 0; n < 3; n++)
                    if (nans[n].kind == NOT_A_NUMBER && !(nans[n].sig & quiet) == !pass)
                        ordered[count++] = nans[n];
        c = nearest(&w->d, plus(product, nans[0]), ordered, count);
    }
    return c;
}

static uint64_t power_pairs(const work *w, const big *a, const big *b, uint64_t c)
{
    const big invalid = {.sig = (wide)1 << (w->d.row.frac_bits - 1), .kind = NOT_A_NUMBER};
    for (size_t i = 0; i < w->k; i += 2) {
        big even = times(a[i], b[i]), odd = times(a[i + 1], b[i + 1]);
        const big nans[] = {a[i], a[i + 1], b[i + 1], odd.kind == NOT_A_NUMBER ? invalid : odd, b[i]};
        const big both[] = {take(&w->d, &w->d, nearest(&w->d, plus(even, odd), nans, 5)), take(&w->d, &w->d, c)};
        c = nearest(&w->d, plus(both[0], both[1]), both, 2);
    }
    return c;
}

static uint64_t power_fma(const work *w, const big *a, const big *b, uint64_t c)
{
    for (size_t i = 0; i < w->k; i++) {
        const big nans[] = {a[i], take(&w->d, &w->d, c), b[i]};
        c = nearest(&w->d, plus(times(a[i], b[i]), nans[1]), nans, 3);
    }
    return c;
}

static uint64_t compute(const work *w, const big *a, const big *b, uint64_t c, big scale)
{
    switch (w->row->method) {
    case EMU_METHOD_ODD_PAIRS: return odd_pairs(w, a, b, c);
    case EMU_METHOD_FUSED_PAIRS: return fused_pairs(w, a, b, c);
    case EMU_METHOD_SCALED_SUM: return scaled_sum(w, a, b, c, scale);
    case EMU_METHOD_ARM_FMA: return arm_fma(w, a, b, c);
    case EMU_METHOD_POWER_PAIRS: return power_pairs(w, a, b, c);
    default: return power_fma(w, a, b, c);
    }
}

static int check(work *w, const emu_row *row)
{
    bool pairs = row->method == EMU_METHOD_ODD_PAIRS || row->method == EMU_METHOD_FUSED_PAIRS
              || row->method == EMU_METHOD_POWER_PAIRS;
    *w = (work){.row = row, .k = (size_t)row->k};
    if (row->k < 1 || (pairs && row->k % 2) || !row->a.is_float || !row->b.is_float || !row->d.is_float
        || memcmp(&row->c, &row->d, sizeof row->c) || !describe(&row->a, &w->a) || !describe(&row->b, &w->b)
        || !describe(&row->d, &w->d) || !w->d.inf_code || !w->d.sign || row->d.low_pad)
        return EMU_BAD_ROW;
    if (row->block && (row->block != row->k || !row->scale.is_float || !describe(&row->scale, &w->scale)
                       || row->scale.specials != EMU_SPECIALS_EXPONENT || row->method != EMU_METHOD_SCALED_SUM))
        return EMU_BAD_ROW;
    if (row->d.frac_bits > 52 || row->a.frac_bits > row->d.frac_bits || row->b.frac_bits > row->d.frac_bits)
        return EMU_TOO_WIDE;
    int span = w->a.emax + w->b.emax + 2 - (w->a.emin - row->a.frac_bits + w->b.emin - row->b.frac_bits);
    if (row->method == EMU_METHOD_SCALED_SUM && row->k > 1 && span + bit_length((uint64_t)row->k) > 100)
        return EMU_TOO_WIDE;
    return EMU_DONE;
}

int documented_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b,
                    const void *c, const void *scale_a, const void *scale_b, void *d)
{
    work w;
    int status = check(&w, row);
    if (!status && (k < 1 || k % row->k || k > PTRDIFF_MAX / 64 || batch < 0 || m < 0 || n < 0
                    || (row->block && (!scale_a || !scale_b))))
        status = EMU_BAD_SHAPE;
    if (status || !batch || !m || !n)
        return status;
    size_t rows = (size_t)m, columns = (size_t)n, depth = (size_t)k, steps = depth / w.k;
    big *x = malloc(depth * sizeof *x), *y = malloc(columns * depth * sizeof *y);
    for (size_t p = 0; x && y && p < (size_t)batch; p++) {
        for (size_t i = 0; i < columns * depth; i++)
            y[i] = take(&w.b, &w.d, load(b, w.b.bytes, p * columns * depth + i));
        for (size_t i = p * rows; i < (p + 1) * rows; i++) {
            for (size_t j = 0; j < depth; j++)
                x[j] = take(&w.a, &w.d, load(a, w.a.bytes, i * depth + j));
            for (size_t col = 0; col < columns; col++) {
                uint64_t code = load(c, w.d.bytes, i * columns + col);
                for (size_t s = 0; s < steps; s++) {
                    big scale = {.sig = 1};
                    if (row->block)
                        scale = times(widen(decode(&w.scale, load(scale_a, w.scale.bytes, i * steps + s))),
                                      widen(decode(&w.scale, load(scale_b, w.scale.bytes, (p * columns + col) * steps + s))));
                    code = compute(&w, x + s * w.k, y + col * depth + s * w.k, code, scale);
                }
                store(d, w.d.bytes, i * columns + col, code);
            }
        }
    }
    status = x && y ? EMU_DONE : EMU_NO_MEMORY;
    free(x);
    free(y);
    return status;
}
#else
int documented_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b,
                    const void *c, const void *scale_a, const void *scale_b, void *d)
{
    (void)row, (void)batch, (void)m, (void)n, (void)k, (void)a, (void)b, (void)c, (void)scale_a, (void)scale_b, (void)d;
    return EMU_TOO_WIDE;
}
#endif
