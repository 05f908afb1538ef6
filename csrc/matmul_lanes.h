/* The kernels, one output column per lane. A file that includes this has defined LANES and
 *
 *     REGISTER                     the constraint letter of a vector register, for asm
 *     bytes_max(x, y)              of unsigned bytes
 *     ints_max(x, y)               of signed 32-bit integers
 *     round_half(x)                floats rounded to the nearest float16, ties to even; 65536 or more from 65520 on
 *     multiply_add(x, y, z)        x * y + z of floats, rounded once or twice: all are exact here
 *     cut(x)                       doubles below 2^52 to integers, toward zero, which is the rounding in force
 *     fma_floats, fma_doubles      of (x, y, z): rounded once, in the direction in force
 *
 * All else is GCC's vector extension: a * b of floats is one multiplication per lane and rounds in the direction in force;
 * float to int truncates. */
#include "matmul.h"

#define VECTOR(size) __attribute__((vector_size(size), may_alias))    /* the same memory is read as floats and as bits */
typedef float floats VECTOR(4 * LANES);
typedef int32_t ints VECTOR(4 * LANES);
typedef uint32_t words VECTOR(4 * LANES);
typedef uint8_t bytes VECTOR(4 * LANES);
typedef double doubles VECTOR(4 * LANES);
typedef int64_t longs VECTOR(4 * LANES);
typedef float half_floats VECTOR(2 * LANES);
typedef int32_t half_ints VECTOR(2 * LANES);
typedef uint32_t quad VECTOR(16);

enum { WIDTH = 4 * LANES };

#define EXPONENT ((words){0} + 0x7f800000u)
#define SIZE ((words){0} + 0x7fffffffu)
#define TRUNCATED(x) ((words)__builtin_convertvector(x, ints))
#define ROUNDED(x) __builtin_convertvector((ints)(x), floats)

/* Four sums a step forward. The asm makes the compiler add in this order: it would sooner build a tree, and spill it. */
#define KEEP(x) __asm__("" : "+" REGISTER((x)[0]), "+" REGISTER((x)[1]), "+" REGISTER((x)[2]), "+" REGISTER((x)[3]))

/* --- operands into planes ------------------------------------------------------------------------------------------ */

/* `count` codes, `stride` bytes apart. A stride that the compiler knows lets it use vectors. */
#define READ(type, stride) \
    for (size_t i = 0; i < count; i++) { \
        type code; \
        __builtin_memcpy(&code, from + (int64_t)i * (stride), sizeof code); \
        to[i] = code; \
    }
static void read_line(const unsigned char *restrict from, int64_t stride, int width, size_t count, uint32_t *restrict to)
{
    if (width == 1 && stride == 1)
        READ(uint8_t, 1)
    else if (width == 1)
        READ(uint8_t, stride)
    else if (width == 2 && stride == 2)
        READ(uint16_t, 2)
    else if (width == 2)
        READ(uint16_t, stride)
    else if (stride == 4)
        READ(uint32_t, 4)
    else
        READ(uint32_t, stride)
}

typedef struct { words top, under, special; } found;        /* claims: the largest, the complement of the smallest */
#define NOTHING ((found){.under = ~SIZE})

typedef struct { words magnitude, sign, most, rebias, unit, lift; } splitter;

/* A reader in all lanes. The asm keeps the compiler from making each one anew for every vector. */
#define HOLD(x) __asm__("" : "+" REGISTER(x))
static inline splitter in_lanes(const reader *f)
{
    const words zero = {0};
    splitter is = {.magnitude = zero + f->magnitude, .sign = zero + f->sign, .most = zero + f->most,
                              .rebias = zero + f->rebias, .unit = zero + (1u << 23), .lift = zero + (1u << 23) + f->rebias};
    HOLD(is.magnitude);
    HOLD(is.sign);
    HOLD(is.most);
    HOLD(is.rebias);
    HOLD(is.unit);
    HOLD(is.lift);
    return is;
}

/* Codes into floats, exactly, and into the exponent fields they claim; 0 claims none. What a float cannot say (NaN, an
 * infinity, a subnormal of float32's own exponent range, a scale that leaves it) becomes 0 and special.
 * The fields are moved to float32's places and rebiased. A subnormal gets the exponent field of emin, which it claims, and
 * then loses the hidden bit that came with it, by an exact subtraction. A scale is added to the exponent. */
static inline __attribute__((always_inline)) floats split(const reader *f, const splitter *is,
                                                          const uint32_t *from, const int32_t *scale, words *claim,
                                                          found *seen)
{
    words codes, size, moved, bits, bad;
    __builtin_memcpy(&codes, from, sizeof codes);
    if (f->integer) {
        words up = codes << (32 - f->move);
        *claim = (words){0};
        return f->integer < 0 ? ROUNDED((ints)up >> (32 - f->move)) : ROUNDED(up >> (32 - f->move));
    }
    size = codes & is->magnitude;
    moved = f->pad ? size >> f->pad << f->move : size << f->move;
    words subnormal = (words)((ints)moved < (ints)is->unit), there = (words)(moved != 0);
    bits = moved + is->rebias + (subnormal & is->unit);
    words value = (words)((floats)bits - (floats)(subnormal & is->lift));
    words field = bits >> 23;
    bad = (words)((ints)size > (ints)is->most);
    if (f->nan != UINT32_MAX)
        bad |= (words)((codes & (is->magnitude | is->sign)) == f->nan);
    if (f->smallest)
        bad |= (words)((ints)moved < (int32_t)(f->smallest << f->move)) & there;
    if (f->scaled) {
        ints by;
        __builtin_memcpy(&by, scale, sizeof by);
        field = (words)((ints)field + by);
        bad |= (words)(by == NAN_SCALE) | (there & ((words)((ints)field < 16) | (words)((ints)field > 254)));
        value += (words)by << 23;
    }
    there &= ~bad;
    field &= there;
    seen->special |= bad;
    seen->top = (words)ints_max((ints)seen->top, (ints)field);
    seen->under = (words)ints_max((ints)seen->under, (ints)~(field | (~there & SIZE)));
    *claim = field;
    return (floats)((value & there) | (codes & is->sign) << f->sign_up);
}

static inline panel bounds(const found *seen)
{
    panel to = {.top = 0, .least = INT32_MAX};
    for (int lane = 0; lane < LANES; lane++) {
        to.top = (int)seen->top[lane] > to.top ? (int)seen->top[lane] : to.top;
        to.least = (int)~seen->under[lane] < to.least ? (int)~seen->under[lane] : to.least;
    }
    if (!to.top)
        return (panel){0};
    to.least = to.least > to.top - SPAN ? to.least : to.top - SPAN;
    to.top -= 127;
    to.least -= 127;
    return to;
}

/* Exponent fields into claim bytes; which bytes lay too low. */
static inline bytes rebase(bytes *claims, size_t count, const panel *of)
{
    int first = of->top + 127 - SPAN;
    bytes lost = {0}, down = lost + (uint8_t)of->top, least = lost + (uint8_t)(first > 1 ? first : 1);
    if (of->least + 127 > first || first < 1) {     /* none does */
        for (size_t i = 0; i < count; i++)
            claims[i] = (claims[i] - down) & (bytes)(claims[i] != 0);
        return lost;
    }
    for (size_t i = 0; i < count; i++) {
        bytes kept = (bytes)(bytes_max(claims[i], least) == claims[i]);
        lost |= ~kept & (bytes)(claims[i] != 0);
        claims[i] = (claims[i] - down) & kept;
    }
    return lost;
}

static panel take_a(const reader *f, int rows, int depth, int terms, int limit, const uint32_t *codes,
                    const int32_t *scales, float *value, uint32_t *claim)
{
    enum { MOST = 2 * CHUNK };
    const splitter is = in_lanes(f);
    size_t deep = (size_t)depth, of = (size_t)terms;
    found all = NOTHING;
    uint64_t special = 0;
    bool hot = false;
    float line[MOST];
    uint32_t claims[MOST];
    for (size_t row = 0; row < (size_t)rows; row++) {
        found seen = {.top = all.top, .under = all.under};
        for (size_t k = 0; k < deep; k += LANES) {
            words field;
            floats x = split(f, &is, codes + row * CODES(deep) + k, scales + row * CODES(deep) + k, &field, &seen);
            field |= field << 8;
            field |= field << 16;
            __builtin_memcpy(line + k, &x, sizeof x);
            __builtin_memcpy(claims + k, &field, sizeof field);
        }
        uint32_t bad = 0;
        for (int lane = 0; lane < LANES; lane++)
            bad |= seen.special[lane];
        special |= (uint64_t)(bad != 0) << row;
        all = seen;
        for (size_t k = 0; k < deep; k += of) {
            quad sum = {0};
            for (size_t i = k; i < k + of; i += 4) {
                size_t to = k * ROWS + row * of + i - k;
                quad bits;
                __builtin_memcpy(&bits, line + i, sizeof bits);
                sum += (bits & 0x7fffff) | 0x800000;        /* the significand in units of 2^-23, or more */
                __builtin_memcpy(value + to, line + i, sizeof bits);
                __builtin_memcpy(claim + to, claims + i, sizeof bits);
            }
            hot |= sum[0] + sum[1] + sum[2] + sum[3] > (uint32_t)limit << 23;
        }
    }
    panel to = bounds(&all);
    bytes lost = rebase((bytes *)claim, deep * ROWS / LANES, &to);
    to.redo = special;
    to.hot = hot;
    uint8_t any = 0;
    for (int i = 0; i < 4 * LANES; i++)
        any |= lost[i];
    if (any)
        for (size_t row = 0; row < (size_t)rows; row++)
            for (size_t k = 0; k < deep; k += of)
                for (size_t i = (k * ROWS + row * of); i < (k * ROWS + row * of) + of; i++)
                    to.redo |= (uint64_t)(!claim[i] && value[i] != 0) << row;
    return to;
}

static panel take_b(const reader *f, int depth, const uint32_t *codes, const int32_t *scales, float *value, uint8_t *claim)
{
    const splitter is = in_lanes(f);
    found seen[4] = {NOTHING, NOTHING, NOTHING, NOTHING};
    for (size_t k = 0; k < (size_t)depth; k++) {
        words packed = {0};
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            words field;
            size_t at = k * WIDTH + v * LANES;
            *(floats *)(value + at) = split(f, &is, codes + at, scales + at, &field, &seen[v]);
            packed |= field << (8 * v);
        }
        ((words *)claim)[k] = packed;
    }
    found all = seen[0];
    for (int v = 1; v < 4; v++) {
        all.top = (words)ints_max((ints)all.top, (ints)seen[v].top);
        all.under = (words)ints_max((ints)all.under, (ints)seen[v].under);
    }
    panel to = bounds(&all);
    bytes lost = rebase((bytes *)claim, (size_t)depth, &to);
    for (int v = 0; v < 4; v++)
        for (int lane = 0; lane < LANES; lane++)
            to.redo |= (uint64_t)(seen[v].special[lane] || lost[4 * lane + v]) << (v * LANES + lane);
    return to;
}

/* --- the chain of fused sums ---------------------------------------------------------------------------------------
 * Why it is exact. E is the alignment exponent of exact.fused_sum, F = frac.
 *  - A product of significands of p and q bits has p + q <= 24 bits, so a float holds it. The caller has seen that its
 *    exponent stays below 126. If it is flushed because it is below 2^-126, it is also below 2^(E-F), because the caller
 *    chose low >= F - 126 and E >= low: the specification cuts it to zero too.
 *  - s = 2^(F-E) and 2^(E-F) are normal floats: low <= E <= 127 and low >= F - 126. Scaling by s changes an exponent
 *    alone; what is flushed there is below 1 and would be cut to 0.
 *  - Conversion to int32 then cuts the magnitude toward zero to a multiple of 2^(E-F): the rule of the specification.
 *    |product * s| < 4 * 2^F and |c * s| < 2 * 2^F.
 *  - The sum: wrapping int32 additions are exact if the total fits (see `hot`).
 *  - int32 to float rounds toward zero to 24 bits, and times 2^(E-F) is exact: its last bit is at least 2^(E-F) >= 2^-126,
 *    and |sum| < 2^127 by the caller's bound.
 *  - E: a product's claim comes through the claim bytes (matmul.h). C claims its exponent field, if that is at least
 *    `low`; the caller sees to it for the first C, and sums keep it: a nonzero sum is a multiple of 2^(E-F), where
 *    E >= low + F or C was all there is and stays as it is. A zero C has a field of 0 and claims less than low, so it
 *    loses. If nothing is left, E = low and the sum is 0, as with any other E. The floor of F32 rows lies below low. */

/* 2^exponent, as the bits of a float */
static inline words power(int exponent) { return (words){0} + ((uint32_t)(exponent + 127) << 23); }

/* What a chain holds in registers throughout. */
typedef struct { words low, one, least, floor; bytes clear; } constants;

static inline constants constants_of(const tile *t)
{
    words low = (words){0} + (uint32_t)(t->low + 127) * (1u << 23);
    return (constants){low, power(t->frac - t->low), power(t->emin) - low, power(t->floor) - low,
                       (bytes){0} + (uint8_t)t->clear};
}

/* Where the row of A lies that a group multiplies; of pairs, each lane has its own, and A lies as B does. */
static inline __attribute__((always_inline)) size_t line_of(const tile *t, size_t group, size_t row, bool pairs)
{
    return (group * (pairs ? WIDTH : ROWS) + row) * (size_t)t->terms;
}

/* Element i of it, for vector v of columns. */
static inline __attribute__((always_inline)) floats left(const float *a, size_t i, int v, bool pairs)
{
    if (pairs)
        return ((const floats *)a)[4 * i + (size_t)v];
    return a[i] - (floats){0};
}

/* The largest claim of a group's products, for all columns: a byte of 0 is `low` or no product. */
static inline __attribute__((always_inline)) words claims_of(const tile *t, size_t group, size_t row, const bytes *clear,
                                                             bool pairs)
{
    size_t terms = (size_t)t->terms;
    const uint32_t *a = t->a_claim + (pairs ? 0 : line_of(t, group, row, false));
    const bytes *own = (const bytes *)((const uint8_t *)t->a_claim + line_of(t, group, 0, true));
    const bytes *b = (const bytes *)(t->b_claim + group * terms * WIDTH);
    bytes claims = *clear;
    for (size_t k = 0; k < terms; k += 4)
        for (size_t i = k; i < k + 4; i++)
            claims = bytes_max(claims, b[i] + (pairs ? own[i] : (bytes)((words){0} + a[i])));
    return (words)(claims - *clear);
}

/* E - low, in the place of a float's exponent, and C's share of the sum. half: C claims at least emin if it is not zero,
 * and E has its floor. */
static inline __attribute__((always_inline)) void align(const constants *is, words claims, const floats *c, bool half,
                                                        words *top, words *sum)
{
    for (int v = 0; v < 4; v++) {
        words field = (v < 3 ? claims << (23 - 8 * v) : claims >> 1) & EXPONENT, bits = (words)c[v];
        words own = (bits & EXPONENT) - is->low;
        if (half)
            own = (words)ints_max((ints)own, (ints)(((words)((bits & SIZE) != 0) & (is->least - is->floor)) + is->floor));
        top[v] = (words)ints_max((ints)field, (ints)own);
        sum[v] = TRUNCATED(c[v] * (floats)(is->one - top[v]));
    }
}

/* The sum, normalised and rounded, becomes the next C. Into F16 it is first rounded to odd: 24 bits and a sticky one stand
 * for the whole sum, of which 11 are kept. */
static inline __attribute__((always_inline)) void finish(const constants *is, const words *top, const words *sum, bool half,
                                                         floats *c, words *bad)
{
    for (int v = 0; v < 4; v++) {
        floats x = ROUNDED(sum[v]);
        if (half)
            x = (floats)((words)x | ((words)(TRUNCATED(x) != sum[v]) & 1u));
        x *= (floats)(power(127) - is->one + top[v]);           /* 1 / s: the exponent fields add up to 2 * 127 */
        if (half) {
            x = round_half(x);
            *bad |= (words)((ints)((words)x & SIZE) >= (ints)power(16));
        }
        c[v] = x;
    }
}

/* The products of one group join the sum.
 * hot: 16 of them alone fit in int32, because no product of two significands below 2 of at most 11 bits is above
 * (2 - 2^-10)^2 * 2^25, and 16 of those are 2^31 - 2^21. With C, or with a second run of 16, the sum may not fit; then the
 * signs say so, and the tile is given up. Not hot: the caller knows that all of it fits. */
static inline __attribute__((always_inline)) void add_products(const tile *t, size_t group, size_t row, const floats *s,
                                                               bool hot, bool pairs, words *sum, words *bad)
{
    size_t terms = (size_t)t->terms, run = hot && terms > RUN ? RUN : terms;
    const float *a = t->a + line_of(t, group, row, pairs);
    const floats *b = (const floats *)(t->b + group * terms * WIDTH);
    for (size_t start = 0; start < terms; start += run) {
        words part[4] = {{0}};
        for (int v = 0; v < 4 && !hot; v++)
            part[v] = sum[v];
        for (size_t k = start; k < start + run; k += 4)
            for (size_t i = k; i < k + 4; i++) {
                for (int v = 0; v < 4; v++)
                    part[v] += TRUNCATED(b[4 * i + v] * left(a, i, v, pairs) * s[v]);
                KEEP(part);
            }
        for (int v = 0; v < 4; v++) {
            words total = part[v];
            if (hot) {
                total += sum[v];
                *bad |= (sum[v] ^ total) & (part[v] ^ total) & ~SIZE;
            }
            sum[v] = total;
        }
    }
}

static inline bool any(words bad)
{
    uint32_t all = 0;
    for (int lane = 0; lane < LANES; lane++)
        all |= bad[lane];
    return all;
}

static inline __attribute__((always_inline)) bool chain_any(const tile *t, bool hot, bool half, bool pairs)
{
    const constants is = constants_of(t);
    words bad = {0};
    for (size_t group = (size_t)t->first; group < (size_t)(t->first + t->groups); group++)
        for (size_t row = 0; row < (size_t)t->rows; row++) {
            floats *c = (floats *)(t->c + row * WIDTH), s[4];
            words top[4], sum[4];
            align(&is, claims_of(t, group, row, &is.clear, pairs), c, half, top, sum);
            for (int v = 0; v < 4; v++)
                s[v] = (floats)(is.one - top[v]);
            add_products(t, group, row, s, hot, pairs, sum, &bad);
            finish(&is, top, sum, half, c, &bad);
        }
    return any(bad);
}

static bool chain(const tile *t) { return chain_any(t, false, false, false); }
static bool chain_hot(const tile *t) { return chain_any(t, true, false, false); }
static bool chain_half(const tile *t) { return chain_any(t, true, true, false); }
static bool pairs_chain(const tile *t) { return chain_any(t, true, false, true); }
static bool pairs_half(const tile *t) { return chain_any(t, true, true, true); }

/* The sum of `count` products for four vectors of columns. Exact: every partial sum fits in a float's 24 bits. */
static inline __attribute__((always_inline)) void sum_of(const float *a, const float *b, size_t count, bool pairs,
                                                         floats *sum)
{
    floats part[4] = {{0}};
    for (size_t k = 0; k < count; k += 4)
        for (size_t i = k; i < k + 4; i++) {
            for (int v = 0; v < 4; v++)
                part[v] = multiply_add(((const floats *)b)[4 * i + v], left(a, i, v, pairs), part[v]);
            KEEP(part);
        }
    for (int v = 0; v < 4; v++)
        sum[v] = part[v];
}

/* The same where no product can be cut: narrow formats, whose products are all multiples of 2^lowest, and
 * E <= frac + lowest. Their sum then fits in a float's 24 bits (the caller has seen to it), so it is exact in any order. So
 * is C, cut. One addition toward zero rounds as the specification does, and makes +0 of a zero, as the sum is never -0. The
 * other float arithmetic is that of `chain`. True: some E was larger, and the tile is not to be used. */
static bool chain_whole(const tile *t)
{
    const constants is = constants_of(t);
    const ints most = (ints)(power(t->frac + t->lowest) - is.low);
    words bad = {0};
    for (size_t group = 0; group < (size_t)t->groups; group++)
        for (size_t row = 0; row < (size_t)t->rows; row++) {
            floats *c = (floats *)(t->c + row * WIDTH), sums[4];
            size_t terms = (size_t)t->terms;
            words top[4], sum[4];
            align(&is, claims_of(t, group, row, &is.clear, false), c, false, top, sum);
            sum_of(t->a + line_of(t, group, row, false), t->b + group * terms * WIDTH, terms, false, sums);
            for (int v = 0; v < 4; v++) {
                c[v] = sums[v] + ROUNDED(sum[v]) * (floats)(power(127) - is.one + top[v]);
                bad |= (words)((ints)top[v] > most);
            }
        }
    return any(bad);
}

/* --- the other methods --------------------------------------------------------------------------------------------- */

/* fp8_through_f16's last step. Into F16 by way of float, which is as good as rounding once: 24 >= 2 * 11 + 2 bits
 * (Figueroa 1995, doi 10.1145/221332.221334). No float here is subnormal: see the caller. */
static bool add(const tile *t, const float *part, bool half)
{
    const floats *x = (const floats *)part;
    floats *c = (floats *)t->c;
    words bad = {0};
    for (size_t i = 0; i < (size_t)t->rows * 4; i++) {
        c[i] += x[i];
        if (half) {
            c[i] = round_half(c[i]);
            bad |= (words)((ints)((words)c[i] & SIZE) >= (ints)power(16));
        }
    }
    return any(bad);
}

/* With .satfinite the sum of one instruction and C is clamped: it left 32 bits if its sign is neither's. */
static inline __attribute__((always_inline)) void integers_any(const tile *t, bool pairs)
{
    size_t terms = (size_t)t->terms;
    for (size_t group = 0; group < (size_t)t->groups; group++)
        for (size_t row = 0; row < (size_t)t->rows; row++) {
            floats sum[4];
            words *c = (words *)(t->c + row * WIDTH);
            sum_of(t->a + line_of(t, group, row, pairs), t->b + group * terms * WIDTH, terms, pairs, sum);
            for (int v = 0; v < 4; v++) {
                words part = TRUNCATED(sum[v]), total = c[v] + part;
                if (t->saturate) {
                    words over = (words)((ints)((c[v] ^ total) & (part ^ total)) < 0);
                    total = (total & ~over) | (((words)((ints)c[v] >> 31) ^ SIZE) & over);
                }
                c[v] = total;
            }
        }
}

static void integers(const tile *t) { integers_any(t, false); }
static void pairs_integers(const tile *t) { integers_any(t, true); }

/* exact_groups. The sum of 16 products of E2M1 is a multiple of 1/4 up to 576. Times its scales (8 bits) and 2^(F-E),
 * F = frac <= 35, it is below 2^(F+11) and exact in a double, as is C; cut to integers, all of them add up without error.
 * Times 2^(E-F) that is exact, and the conversion to float rounds toward zero, subnormals included. */
static inline __attribute__((always_inline)) bool groups_any(const tile *t, bool pairs)
{
    size_t terms = (size_t)t->terms, lines = pairs ? WIDTH : ROWS;
    const ints none = (ints){0} - (1 << 20);
    longs bad = {0};
    for (size_t group = 0; group < (size_t)t->groups; group++)
        for (size_t row = 0; row < (size_t)t->rows; row++) {
            float *c = t->c + row * WIDTH;
            floats sums[4 * MOST_GROUPS];
            ints top[4];
            for (int v = 0; v < 4; v++) {
                ints bits = ((ints *)c)[v], field = (bits >> 23) & 255, there = (bits & (ints)SIZE) != 0;
                top[v] = ints_max(((ints_max(field, (ints){0} + 1) - 127) & there) | (none & ~there), (ints){0} + t->floor);
            }
            for (size_t q = 0; q < terms; q++) {
                size_t at = group * terms + q;
                const int32_t *claim = t->a_block.claim + at * lines + row;
                const uint32_t *some = t->a_block.some + at * lines + row;
                sum_of(t->a + (at * lines + row) * RUN, t->b + at * RUN * WIDTH, RUN, pairs, sums + 4 * q);
                for (int v = 0; v < 4; v++) {
                    words both = *some - (words){0};
                    ints sum = *claim - (ints){0};
                    if (pairs) {
                        both = ((const words *)some)[v];
                        sum = ((const ints *)claim)[v];
                    }
                    ints there = (both & ((words *)(t->b_block.some + at * WIDTH))[v]) != 0;
                    sum += ((ints *)(t->b_block.claim + at * WIDTH))[v];
                    top[v] = ints_max(top[v], (sum & there) | (none & ~there));
                }
            }
            for (size_t h = 0; h < 8; h++) {
                longs wide = __builtin_convertvector(((half_ints *)top)[h], longs);
                doubles s = (doubles)((1023 + t->frac - wide) << 52), unit = (doubles)((1023 - t->frac + wide) << 52);
                doubles total = (doubles){0} + cut(__builtin_convertvector(((half_floats *)c)[h], doubles) * s);
                for (size_t q = 0; q < terms; q++) {
                    size_t at = group * terms + q;
                    const double *of_a = t->a_block.scale + at * lines + row;
                    doubles scale = *of_a - (doubles){0};
                    if (pairs)
                        scale = ((const doubles *)of_a)[h];
                    scale *= ((doubles *)(t->b_block.scale + at * WIDTH))[h];
                    total += cut(__builtin_convertvector(((half_floats *)(sums + 4 * q))[h], doubles) * scale * s);
                }
                total *= unit;
                bad |= (total >= 0x1p128) | (total <= -0x1p128);
                ((half_floats *)c)[h] = __builtin_convertvector(total, half_floats) + 0.0f;     /* -0 becomes +0 */
            }
        }
    int64_t any = 0;
    for (int lane = 0; lane < LANES / 2; lane++)
        any |= bad[lane];
    return any;
}

static bool groups(const tile *t) { return groups_any(t, false); }
static bool pairs_groups(const tile *t) { return groups_any(t, true); }

/* One fused multiply-add after another. Two rows at a time: eight sums hide the latency of a step. */
#define FUSED_KERNEL(name, type, vectors, step) \
    static inline __attribute__((always_inline)) void name##_of(const type *a, const vectors *b, vectors *d, size_t rows, \
                                                                size_t depth) \
    { \
        vectors sum[2][4]; \
        for (size_t i = 0; i < 4 * rows; i++) \
            sum[i / 4][i % 4] = d[i]; \
        for (size_t k = 0; k < depth; k++) \
            for (size_t row = 0; row < rows; row++) { \
                vectors x = a[row * depth + k] - (vectors){0}; \
                for (int v = 0; v < 4; v++) \
                    sum[row][v] = step(x, b[4 * k + (size_t)v], sum[row][v]); \
            } \
        for (size_t i = 0; i < 4 * rows; i++) \
            d[i] = sum[i / 4][i % 4]; \
    } \
    static void name(const void *a, const void *b, void *d, int rows, int depth) \
    { \
        size_t row = 0, deep = (size_t)depth, count = (size_t)rows; \
        for (; row + 2 <= count; row += 2) \
            name##_of((const type *)a + row * deep, b, (vectors *)d + 4 * row, 2, deep); \
        if (row < count) \
            name##_of((const type *)a + row * deep, b, (vectors *)d + 4 * row, 1, deep); \
    }
FUSED_KERNEL(chain_floats, float, floats, fma_floats)
FUSED_KERNEL(chain_doubles, double, doubles, fma_doubles)

#define COMMON_KERNELS .width = WIDTH, .read_line = read_line, .take_a = take_a, .take_b = take_b, .chain = chain, \
    .chain_hot = chain_hot, .chain_half = chain_half, .chain_whole = chain_whole, .add = add, .integers = integers, .groups = groups, \
    .fused_floats = chain_floats, .fused_doubles = chain_doubles, .pairs_chain = pairs_chain, .pairs_half = pairs_half, \
    .pairs_integers = pairs_integers, .pairs_groups = pairs_groups
