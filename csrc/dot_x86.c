/* The methods of emulator/exact/x86.py, under the names they have there; [SDM] is the source named there. Float32 codes are
 * taken apart, multiplied, added and rounded as 64-bit integers, a jammed bit standing for what falls off. */
#include <stdlib.h>

#include "dot.h"

static const uint32_t SIGN = UINT32_C(1) << 31, INFINITE = UINT32_C(0xFF) << 23, QUIET = UINT32_C(1) << 22;

static bool is_nan(uint32_t x)
{
    return (x & ~SIGN) > INFINITE;
}

static bool is_zero(uint32_t x)
{
    return !(x & ~SIGN);
}

/* The first NaN, made quiet; else the NaN of an invalid operation; else the infinity. */
static uint32_t special(uint32_t x, uint32_t y, uint32_t z)
{
    if (is_nan(x) || is_nan(y) || is_nan(z))
        return (is_nan(x) ? x : is_nan(y) ? y : z) | QUIET;
    bool product = (x & ~SIGN) == INFINITE || (y & ~SIGN) == INFINITE, addend = (z & ~SIGN) == INFINITE;
    uint32_t sign = (x ^ y) & SIGN;
    if (product && (is_zero(x) || is_zero(y) || (addend && (z & SIGN) != sign)))
        return SIGN | INFINITE | QUIET;
    return product ? sign | INFINITE : z;
}

/* exact.x86._step of float32 codes, none of them subnormal: x * y + z, to nearest, flushed. A significand has its leading
 * bit at 62 here, and 15 zeros or more below its last: jamming the lower one loses bits only if it is shifted by 16 or more,
 * and then the difference loses at most one leading place. */
static uint32_t fma_flushed(uint32_t x, uint32_t y, uint32_t z)
{
    int x_exp = x >> 23 & 0xFF, y_exp = y >> 23 & 0xFF, z_exp = z >> 23 & 0xFF;
    if (x_exp == 0xFF || y_exp == 0xFF || z_exp == 0xFF)
        return special(x, y, z);
    uint32_t sign = (x ^ y) & SIGN, z_sign = z & SIGN, hidden = UINT32_C(1) << 23, frac = hidden - 1;
    if (!x_exp || !y_exp)                               /* a zero: only two zeros have a sign to choose */
        return z_exp || sign == z_sign ? z : 0;
    uint64_t sum = (uint64_t)((x & frac) | hidden) * ((y & frac) | hidden) << 15;
    uint64_t other = (uint64_t)((z & frac) | hidden) << 39;
    int exp = x_exp + y_exp - 126;                      /* biased, of bit 62 */
    if (!(sum >> 62)) {
        sum <<= 1;
        exp--;
    }
    if (z_exp) {
        if (exp < z_exp || (exp == z_exp && sum < other)) {
            uint64_t swap = sum;
            sum = other;
            other = swap;
            int swap_exp = exp;
            exp = z_exp;
            z_exp = swap_exp;
            uint32_t swap_sign = sign;
            sign = z_sign;
            z_sign = swap_sign;
        }
        int right = exp - z_exp < 63 ? exp - z_exp : 63;
        other = other >> right | ((other & ((UINT64_C(1) << right) - 1)) != 0);
        sum = sign == z_sign ? sum + other : sum - other;
        if (!sum)
            return 0;                                   /* exact cancellation */
    }
    int left = 64 - bit_length(sum);                    /* the leading bit goes to 63; then 40 bits are rounded off */
    sum <<= left;
    exp += 1 - left;
    uint64_t kept = sum >> 40, rest = sum & ((UINT64_C(1) << 40) - 1), half = UINT64_C(1) << 39;
    kept += rest > half || (rest == half && kept & 1);
    if (kept >> 24)
        exp++;                                          /* and the fraction is zero */
    if (exp < 1)
        return sign;
    return sign | (exp > 254 ? INFINITE : (uint32_t)exp << 23 | ((uint32_t)kept & frac));
}

static uint32_t two_chains(const uint32_t *a, const uint32_t *b, size_t k, uint32_t c)
{
    const uint32_t one = UINT32_C(127) << 23;
    uint32_t even = 0, odd = 0;
    for (size_t i = 0; i < k; i += 2) {
        even = fma_flushed(a[i], b[i], even);
        odd = fma_flushed(a[i + 1], b[i + 1], odd);
    }
    return fma_flushed(c, one, fma_flushed(even, one, odd));
}

static uint32_t odd_then_even(const uint32_t *a, const uint32_t *b, size_t k, uint32_t c)
{
    for (size_t i = 0; i < k; i += 2)
        c = fma_flushed(a[i], b[i], fma_flushed(a[i + 1], b[i + 1], c));
    return c;
}

/* A number as a float32; a subnormal counts as a zero of its sign. */
static uint32_t widen(const format *f, const format *to, uint64_t code)
{
    uint64_t magnitude = code & f->magnitude;
    if (magnitude > f->inf_code)
        return (code & f->sign ? SIGN : 0) | INFINITE | (uint32_t)(magnitude - f->inf_code) << (23 - f->row.frac_bits);
    uint32_t wide = (uint32_t)encode(to, decode(f, code), EMU_ROUND_RNE, EMU_OVERFLOW_IEEE, 23, 0, 0);
    return wide & INFINITE ? wide : wide & SIGN;
}

static bool is_single(const format *f)
{
    return f->row.exp_bits == 8 && f->row.frac_bits == 23 && f->row.bias == 127 && f->inf_code && f->sign && !f->row.low_pad;
}

/* Does float32 hold every number of f, and every NaN? */
static bool widens(const format *f)
{
    return f->inf_code && f->sign && !f->row.low_pad && f->row.frac_bits <= 23 && f->emax <= 127
        && f->emin - f->row.frac_bits >= -149;
}

int x86_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
             void *d)
{
    format of_a, of_b, of_c, of_d;
    if (row->k < 2 || row->k % 2 || !row->a.is_float || !row->b.is_float || !row->c.is_float || !row->d.is_float
        || !describe(&row->a, &of_a) || !describe(&row->b, &of_b) || !describe(&row->c, &of_c) || !describe(&row->d, &of_d))
        return EMU_BAD_ROW;
    if (!widens(&of_a) || !widens(&of_b) || !widens(&of_c) || !is_single(&of_d))
        return EMU_NOT_IEEE;
    if (k < 1 || k % row->k || k > PTRDIFF_MAX / 16 || batch < 0 || m < 0 || n < 0)
        return EMU_BAD_SHAPE;
    if (!batch || !m || !n)
        return EMU_DONE;

    /* Columns in panels that stay in the cache; the rows of A are widened again for each panel. */
    size_t rows = (size_t)m, columns = (size_t)n, depth = (size_t)k, step = (size_t)row->k;
    size_t panel = depth < 65536 ? 65536 / depth : 1;
    panel = panel < columns ? panel : columns;
    uint32_t *x = malloc(depth * sizeof *x), *y = malloc(panel * depth * sizeof *y);
    for (size_t p = 0; x && y && p < (size_t)batch; p++)
        for (size_t left = 0; left < columns; left += panel) {
            size_t width = columns - left < panel ? columns - left : panel;
            for (size_t i = 0; i < width * depth; i++)
                y[i] = widen(&of_b, &of_d, load(b, of_b.bytes, (p * columns + left) * depth + i));
            for (size_t i = p * rows; i < (p + 1) * rows; i++) {
                for (size_t j = 0; j < depth; j++)
                    x[j] = widen(&of_a, &of_d, load(a, of_a.bytes, i * depth + j));
                for (size_t col = 0; col < width; col++) {
                    size_t at = i * columns + left + col;
                    uint32_t sum = widen(&of_c, &of_d, load(c, of_c.bytes, at));
                    for (size_t start = 0; start < depth; start += step) {
                        const uint32_t *from_a = x + start, *from_b = y + col * depth + start;
                        sum = row->method == EMU_METHOD_TWO_CHAINS ? two_chains(from_a, from_b, step, sum)
                                                                   : odd_then_even(from_a, from_b, step, sum);
                    }
                    store(d, of_d.bytes, at, sum);
                }
            }
        }
    int status = x && y ? EMU_DONE : EMU_NO_MEMORY;
    free(x);
    free(y);
    return status;
}
