/* convert: one number format to another. Three ways to one result: a table over all codes of a source of 8 bits or fewer,
 * lanes (convert_round.h) where binary32 or binary64 hold the source, and one number after the other for the rest. Where
 * numbers are ordinary, strips (convert_strips.h) are a short cut for the first two. */
#include <math.h>
#include <stdlib.h>

#include "convert.h"
#include "isa.h"

#define ISA portable
#include "convert_lanes.h"

typedef struct {
    const emu_conversion *how;
    format from, to;
} conversion;

/* The rest, `shift` bits of it, goes up if adding this carries. All bits below those a stochastic mode reads are zero. */
static uint64_t rounding_bias(const emu_conversion *how, bool negative, uint64_t code, uint64_t *rest, int shift,
                              uint32_t random)
{
    uint64_t mask = (UINT64_C(1) << shift) - 1, word = random;
    int given = how->random_bits;
    switch (how->rounding) {
    case EMU_ROUND_RNE: return (mask >> 1) + (code & 1);
    case EMU_ROUND_RNA: return (mask >> 1) + 1;
    case EMU_ROUND_RD: return negative ? mask : 0;
    case EMU_ROUND_RU: return negative ? 0 : mask;
    case EMU_ROUND_RO: return code & 1 ? 0 : mask;
    case EMU_ROUND_SRB: word = 2 * word + 1; given++; break;
    case EMU_ROUND_SR: case EMU_ROUND_SRC: break;
    default: return 0;
    }
    if (shift < given)
        return word >> (given - shift);
    int grain = shift - given;
    if (how->rounding == EMU_ROUND_SRC && grain) {
        uint64_t under = (UINT64_C(1) << grain) - 1, first = *rest >> grain;
        first += ((*rest & under) + (under >> 1) + (first & 1)) >> grain;
        if (first >> given)                         /* the fraction rounds to 1: up, whatever is drawn */
            return mask;
        *rest = first << grain;
    }
    return word << grain;
}

/* The code of one number, and in *event which counter it belongs to, EMU_COUNTS for none. `came`: it was no zero. */
static uint64_t settle(const conversion *c, number x, bool came, uint32_t random, int *event)
{
    const emu_conversion *how = c->how;
    const format *to = &c->to;
    bool negative = x.negative && !how->ignores_sign, bare = to->row.specials == EMU_SPECIALS_EXPONENT;
    *event = EMU_COUNTS;
    if (x.kind != FINITE) {
        *event = x.kind == INF ? EMU_COUNT_INFINITE + negative : EMU_COUNT_NAN;
        return x.kind == INF ? how->infinity[negative] : how->nan[negative];
    }
    if (!x.sig) {
        *event = came && !bare ? EMU_COUNT_FLUSHED : EMU_COUNTS;
        return how->zero[negative];
    }
    int exponent = bit_length(x.sig) - 1 + x.exp, kept = to->row.frac_bits;
    if (exponent <= to->emax && !(negative && !to->sign)) {
        exponent = exponent > to->emin ? exponent : to->emin;
        int shift = exponent - kept - x.exp;
        int64_t magnitude = (int64_t)(exponent - to->emin - bare) * (INT64_C(1) << kept);
        if (shift > 63) {                           /* far below half the smallest number, and still not zero */
            x.sig = x.sig >> (shift - 63 < 63 ? shift - 63 : 63) | 1;
            shift = 63;
        }
        if (shift <= 0)
            magnitude += (int64_t)(x.sig << -shift);
        else {
            magnitude += (int64_t)(x.sig >> shift);
            uint64_t rest = x.sig & ((UINT64_C(1) << shift) - 1);
            if (rest) {
                uint64_t bias = rounding_bias(how, negative, (uint64_t)magnitude, &rest, shift, random);
                magnitude += (int64_t)((rest + bias) >> shift);
            }
        }
        if (bare && magnitude < 0)
            magnitude = 0;
        if (how->ftz && !bare && magnitude >> kept == 0)
            magnitude = 0;
        if (!magnitude && !bare) {
            *event = EMU_COUNT_FLUSHED;
            return how->zero[negative];
        }
        uint64_t code = (uint64_t)magnitude << to->row.low_pad;
        if (code <= to->max_code)
            return code | (negative ? to->sign : 0);
    }
    *event = EMU_COUNT_OVER + negative;
    return how->over[negative];
}

static uint64_t convert_one(const conversion *c, uint64_t code, uint32_t random, int *event)
{
    number x = decode(&c->from, code);
    bool came = x.sig != 0;
    if (c->how->daz && x.kind == FINITE && c->from.row.is_float && c->from.row.specials != EMU_SPECIALS_EXPONENT
        && !(x.sig >> c->from.row.frac_bits))
        x.sig = 0;
    return settle(c, x, came, random, event);
}

static void each(const conversion *c, int64_t n, const void *x, const uint32_t *random, void *y, int64_t counts[EMU_COUNTS])
{
    for (int64_t i = 0; i < n; i++) {
        int event;
        uint64_t code = load(x, c->from.bytes, (size_t)i);
        store(y, c->to.bytes, (size_t)i, convert_one(c, code, random ? random[i] : 0, &event));
        if (event < EMU_COUNTS)
            counts[event]++;
    }
}

static const convert_kernels *best_kernels(int isa)
{
#ifdef EMU_AVX512
    if (isa >= EMU_ISA_AVX512)
        return &emu_convert_avx512;
#endif
#ifdef EMU_AVX2
    if (isa >= EMU_ISA_AVX2)
        return &emu_convert_avx2;
#endif
    (void)isa;
    return &emu_convert_portable;
}

static bool is_ieee(const emu_format *f, int bits, int exp_bits)
{
    return f->is_float && f->is_signed && f->specials == EMU_SPECIALS_IEEE && f->bits == bits && f->exp_bits == exp_bits
           && f->frac_bits == bits - 1 - exp_bits && f->bias == (1 << (exp_bits - 1)) - 1 && !f->low_pad;
}

static bool is_far(const conversion *c, int64_t n)
{
    return n * (c->from.bytes + c->to.bytes) >= 1 << 22;
}

/* --- a table ------------------------------------------------------------------------------------------------------ */

/* To binary32 in strips, which the table helps out where a magnitude is no number. Not for a format whose NaN is where
 * others have -0. */
static bool bytes_in_strips(lanes *p, const conversion *c, int64_t n, const uint64_t code[256], uint32_t table[256])
{
    const emu_format *from = &c->from.row;
    *p = (lanes){.from_bytes = 1, .to_bytes = 4, .take = TAKE_BYTE, .seen = 0x7FFFFFFF,
                 .far = is_far(c, n), .up = 16 - from->bits, .narrower = 5 - from->exp_bits, .table = table};
    if (!is_ieee(&c->to.row, 32, 8) || !from->is_float || !from->is_signed || from->low_pad || p->narrower < 0
        || abs(from->bias) > 64 || c->how->ftz || c->how->daz || code[c->from.sign] != c->to.sign)
        return false;
    for (int i = 0; i < 256; i++)
        table[i] = (uint32_t)code[i];
    p->times = ldexpf(1, 15 - from->bias);
    p->ordinary = table[c->from.max_code] + 1;
    return true;
}

static void by_table(const conversion *c, int64_t n, const uint8_t *x, void *y, int64_t *counts, int isa)
{
    enum { FIELD = 10 };                            /* bits of a packed counter: more than a block can count */
    lanes p;
    uint64_t code[256], tally[256];
    uint32_t singles[256];
    for (int i = 0; i < 256; i++) {
        int event;
        code[i] = convert_one(c, (uint64_t)i & (UINT64_MAX >> (64 - c->from.row.bits)), 0, &event);
        tally[i] = event < EMU_COUNTS ? UINT64_C(1) << (FIELD * event) : 0;
    }
    if (!counts && isa > EMU_ISA_PORTABLE && bytes_in_strips(&p, c, n, code, singles)) {
        best_kernels(isa)->lanes(&p, n, x, NULL, y, false, NULL);
        return;
    }
#define LOOK_UP(TYPE)                                                                                                     \
    do {                                                                                                                  \
        TYPE narrow[256];                                                                                                 \
        for (int i = 0; i < 256; i++)                                                                                     \
            narrow[i] = (TYPE)code[i];                                                                                    \
        for (int64_t i = 0; i < n; i++)                                                                                   \
            memcpy((unsigned char *)y + (size_t)i * sizeof(TYPE), &narrow[x[i]], sizeof(TYPE));                           \
    } while (0)
    switch (c->to.bytes) {
    case 1: LOOK_UP(uint8_t); break;
    case 2: LOOK_UP(uint16_t); break;
    case 4: LOOK_UP(uint32_t); break;
    default: LOOK_UP(uint64_t);
    }
#undef LOOK_UP
    for (int64_t i = 0; counts && i < n; i += CONVERT_BLOCK) {
        uint64_t sum = 0;
        for (int64_t j = i; j < n && j < i + CONVERT_BLOCK; j++)
            sum += tally[x[j]];
        for (int e = 0; e < EMU_COUNTS; e++)
            counts[e] += (int64_t)(sum >> (FIELD * e) & ((1 << FIELD) - 1));
    }
}

/* --- lanes -------------------------------------------------------------------------------------------------------- */

/* How codes of `from` enter lanes of `bits` bits (load, from_mask ...); false if they cannot, or only through arithmetic
 * in floating point, which `integers` forbids. */
static bool enters(lanes *p, const format *from, int bits, bool integers)
{
    int frac = bits == 32 ? 23 : 52, bias = bits == 32 ? 127 : 1023, width = from->bytes * 8;
    const emu_format *f = &from->row;
    p->from_bytes = from->bytes;
    if (!f->is_float) {
        p->load = f->is_signed ? LOAD_INT : LOAD_UINT;
        return !integers && f->bits == width && width >= 16 && width <= bits / 2;
    }
    if (bits == 32 && is_ieee(f, 64, 11)) {
        p->load = LOAD_ODD;
        return !integers;
    }
    if (f->specials != EMU_SPECIALS_IEEE || !f->is_signed || f->exp_bits + f->frac_bits + f->low_pad + 1 != width
        || width > bits)
        return false;
    p->from_mask = from->magnitude | from->sign;
    p->from_sign = from->sign;
    p->from_inf = from->inf_code;
    p->up = frac - f->frac_bits;
    p->rebias = bias - f->bias;
    if (width == bits && !p->rebias && f->frac_bits + f->low_pad == frac) {
        p->load = f->low_pad ? LOAD_MASKED : LOAD_AS_IT_IS;
        return true;
    }
    if (f->low_pad || width < 16 || p->up < 0)
        return false;
    int exponent_bits = bits - 1 - frac;
    if (!p->rebias && f->exp_bits == exponent_bits && width == 16) {
        p->load = LOAD_SHIFT;
        return true;
    }
    /* normal numbers must stay normal, at both ends, and so must the lowest bit of a subnormal */
    p->load = LOAD_REBIAS;
    return !integers && f->exp_bits < exponent_bits && p->rebias - f->frac_bits >= 1
           && p->rebias + (1 << f->exp_bits) < 1 << exponent_bits;
}

/* From which lane on a number needs more than a bound and a sign; 0 if any may. Where the bound makes of infinities what it
 * should, only NaN does, but to be counted. */
static uint64_t calm_below(const lanes *p, const conversion *c, bool count)
{
    const emu_conversion *how = c->how;
    int frac = p->bits == 32 ? 23 : 52, bias = p->bits == 32 ? 127 : 1023;
    uint64_t infinity = (uint64_t)(2 * bias + 1) << frac, max = c->to.max_code, sign = c->to.sign;
    if (how->zero[0] || p->normal)
        return 0;
    if (c->to.emax > bias)
        return infinity;
    if (how->over[0] == max && how->over[1] == (max | sign))
        return infinity + (!count && how->infinity[0] == max && how->infinity[1] == (max | sign));
    return (uint64_t)(c->to.emax + bias) << frac;   /* what is below 2^emax does not round beyond it */
}

static bool in_lanes(lanes *p, const conversion *c, int bits, bool integers, bool count)
{
    const emu_conversion *how = c->how;
    const emu_format *to = &c->to.row;
    int frac = bits == 32 ? 23 : 52, bias = bits == 32 ? 127 : 1023;
    bool bare = to->specials == EMU_SPECIALS_EXPONENT, stochastic = how->rounding >= EMU_ROUND_SR;
    bool lower = bare && c->to.emin + bias == 0;
    *p = (lanes){.bits = bits, .to_bytes = c->to.bytes, .mode = how->rounding, .cut = frac - to->frac_bits,
                 .first = c->to.emin + bias + lower, .bare = bare, .lower = lower, .low_pad = to->low_pad,
                 .max = c->to.max_code >> to->low_pad,
                 .normal = how->ftz && !bare ? UINT64_C(1) << to->frac_bits : 0, .sign = c->to.sign,
                 .to_sign = c->to.sign ? bits - bit_length(c->to.sign) : 0,
                 .random_bits = how->random_bits + (how->rounding == EMU_ROUND_SRB),
                 .sees_sign = !how->ignores_sign, .refuses_sign = !c->to.sign};
    if (!enters(p, &c->from, bits, integers) || p->cut < 0 || p->first < 1 || p->first > 2 * bias || to->bits > bits
        || (stochastic && p->random_bits > bits - 4))
        return false;
    /* Odd ones are as good where two bits or more are cut, and where what is beyond binary32 is beyond the target. */
    if (p->load == LOAD_ODD && (stochastic || how->daz || p->cut < 2
                                || c->to.emax + (how->rounding != EMU_ROUND_RNE) > bias))
        return false;
    if (how->daz && c->from.row.is_float)           /* the smallest normal number of the source, in a lane */
        p->least = (uint64_t)(c->from.emin + bias) << frac;
    p->watch = (UINT64_C(1) << (bits - 1)) - 1;
    if (p->sees_sign && p->refuses_sign)
        p->watch |= UINT64_C(1) << (bits - 1);
    p->last = c->to.emax + bias + 1;
    p->nearest = how->rounding == EMU_ROUND_RNE && to->frac_bits >= 1 && p->cut >= 1 && c->to.bytes <= 4
                 && p->first >= to->frac_bits + 2 && p->last + p->cut < 2 * bias;
    bool exponents = p->first == 1 && p->last == 2 * bias + 1 && to->specials == EMU_SPECIALS_IEEE && to->is_signed
                     && to->bits == bits - p->cut + to->low_pad;
    p->same = exponents && !p->cut && !p->least;
    p->same_exponents = exponents && p->cut && how->rounding == EMU_ROUND_RNE && (to->bits == 16 || to->bits == 32);
    memcpy(p->nan, how->nan, sizeof p->nan);
    memcpy(p->infinity, how->infinity, sizeof p->infinity);
    memcpy(p->over, how->over, sizeof p->over);
    memcpy(p->zero, how->zero, sizeof p->zero);
    p->calm = calm_below(p, c, count);
    uint64_t within = (uint64_t)(p->last - 1) << frac;          /* the last exponent, where rounding may overflow */
    p->unbounded = p->calm < within ? p->calm : within;
    return true;
}

/* How strips do what these lanes would, if they can. */
static void choose_strips(lanes *p, const conversion *c)
{
    const emu_conversion *how = c->how;
    const emu_format *from = &c->from.row, *to = &c->to.row;
    const uint32_t infinity = 0x7F800000;
    bool narrow = p->bits == 32, nearest = how->rounding == EMU_ROUND_RNE;
    bool infinite = how->over[0] == c->to.inf_code && how->over[1] == (c->to.inf_code | c->to.sign);
    if (p->least || !p->calm)
        return;
    p->seen = narrow ? (uint32_t)p->watch : 0x7FFFFFFF;
    p->ordinary = narrow ? (uint32_t)MIN(p->unbounded, infinity) : infinity;
    if (is_ieee(from, 32, 8))
        p->take = TAKE_SINGLE;
    else if (is_ieee(from, 64, 11))
        p->take = narrow ? TAKE_ODD : TAKE_DOUBLE;
    else if (is_ieee(from, 16, 8))
        p->take = TAKE_BRAIN;
    else if (p->load == LOAD_REBIAS && narrow && from->bits == 16 && from->exp_bits == 5)
        p->take = TAKE_HALF;
    p->times = p->take == TAKE_HALF ? ldexpf(1, 15 - from->bias) : 1;
    if (narrow ? p->same : p->take == TAKE_DOUBLE && nearest && is_ieee(to, 32, 8))
        p->give = GIVE_SINGLE;
    else if (p->same && p->take == TAKE_SINGLE)
        p->give = GIVE_DOUBLE;
    else if (narrow && nearest && is_ieee(to, 16, 8))
        p->give = GIVE_BRAIN;
    else if (narrow && nearest && is_ieee(to, 16, 5) && infinite) {
        p->give = GIVE_HALF;
        p->ordinary = infinity;
    } else if (narrow && p->nearest && !p->low_pad) {
        p->give = GIVE_NEAREST;
        p->ordinary = (uint32_t)MIN(p->calm, infinity + 1);
    } else
        p->take = TAKE_NOTHING;
}

int emu_convert(const emu_conversion *how, int64_t n, const void *x, const uint32_t *random, void *y, int64_t *counts,
                int every)
{
    conversion c = {.how = how};
    lanes p;
    int64_t unread[EMU_COUNTS] = {0};
    int isa = emu_isa_now();
    bool stochastic = how->rounding >= EMU_ROUND_SR;
    if (!describe(&how->from, &c.from) || !describe(&how->to, &c.to) || !how->to.is_float || how->rounding < 0
        || how->rounding > EMU_ROUND_SRC || (stochastic && (!random || how->random_bits < 1 || how->random_bits > 32)))
        return EMU_BAD_ROW;
    if (isa < 0)
        return EMU_BAD_ISA;
    if (c.from.bytes == 1 && !stochastic && n >= 256)
        by_table(&c, n, x, y, counts, isa);
    else if (in_lanes(&p, &c, 32, isa == EMU_ISA_PORTABLE, counts != NULL)
             || in_lanes(&p, &c, 64, isa == EMU_ISA_PORTABLE, counts != NULL)) {
        p.far = is_far(&c, n);
        if (!counts || !every)
            choose_strips(&p, &c);
        best_kernels(isa)->lanes(&p, n, x, random, y, counts != NULL, counts ? counts : unread);
    } else
        each(&c, n, x, random, y, counts ? counts : unread);
    return EMU_DONE;
}

/* --- blocks ------------------------------------------------------------------------------------------------------- */

static const emu_format BINARY64 = {1, 64, 1, 11, 52, 1023, EMU_SPECIALS_IEEE, 0};

typedef struct {
    uint64_t sig;                   /* of at most 40 bits; 0 for infinity */
    int exp;
} divisor;

/* False if it is none: no positive number or infinity, or wider. */
static bool take_apart(const format *binary64, double value, divisor *d)
{
    uint64_t code;
    memcpy(&code, &value, sizeof code);
    number x = decode(binary64, code);
    int zeros = x.kind == FINITE && x.sig ? bit_length(x.sig & (0 - x.sig)) - 1 : 0;
    *d = (divisor){x.kind == FINITE ? x.sig >> zeros : 0, x.exp + zeros};
    return !x.negative && (x.kind == INF || d->sig) && d->sig >> 40 == 0 && x.exp > -700 && x.exp < 500;
}

/* Are all of them divisors for certain? The last 13 of 53 bits are zero, and the exponent is far from its ends. */
static bool ordinary(int64_t n, const double *divisors)
{
    uint64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t code;
        memcpy(&code, &divisors[i], sizeof code);
        bad |= (code & 0x1FFF) | (uint64_t)((code >> 52) - (1023 - 400) > 800);
    }
    return !bad;
}

/* x / d to 45 bits or more, and a last one that says whether there are others: all that a rounding reads. */
static number over(number x, divisor d)
{
    if (x.kind != FINITE || !x.sig || !d.sig)
        return x.kind == FINITE ? (number){.negative = x.negative} : x;
    int up = 61 - bit_length(x.sig);                /* settle takes 62 bits */
    uint64_t sig = x.sig << up, quotient = sig / d.sig, rest = sig % d.sig;
    int more = 61 - bit_length(quotient) < 24 ? 61 - bit_length(quotient) : 24;
    quotient = quotient << more | (rest << more) / d.sig;
    x.sig = quotient << 1 | ((rest << more) % d.sig != 0);
    x.exp -= up + more + 1 + d.exp;
    return x;
}

static void each_over(const conversion *c, int64_t n, int64_t size, const void *x, const double *divisors,
                      const uint32_t *random, void *y, int64_t counts[EMU_COUNTS])
{
    format binary64;
    divisor d = {0};
    describe(&BINARY64, &binary64);
    for (int64_t i = 0; i < n; i++) {
        int event;
        if (i % size == 0)
            take_apart(&binary64, divisors[i / size], &d);
        number quotient = over(decode(&c->from, load(x, c->from.bytes, (size_t)i)), d);
        uint64_t code = settle(c, quotient, quotient.sig != 0, random ? random[i] : 0, &event);
        store(y, c->to.bytes, (size_t)i, code);
        if (event < EMU_COUNTS)
            counts[event]++;
    }
}

/* May x be multiplied by 1 / divisor in binary32? All are powers of two, whose inverse binary32 has. The product is exact
 * but for numbers below 2^-126, and those are, as is what binary32 makes of them, less than what a mode that is not
 * directed can tell from zero: less than 2^-34 of the target's smallest number. And but for those that become infinite:
 * an infinity is treated alike. */
static bool by_powers(const conversion *c, int64_t blocks, const double *divisors)
{
    const emu_conversion *how = c->how;
    int mode = how->rounding, frac = c->to.row.frac_bits;
    if (how->over[0] != how->infinity[0] || how->over[1] != how->infinity[1] || mode == EMU_ROUND_RD
        || mode == EMU_ROUND_RU || mode == EMU_ROUND_RO || c->to.emin - frac < -90)
        return false;
    bool all = true;
    for (int64_t i = 0; all && i < blocks; i++) {
        uint64_t code;
        memcpy(&code, &divisors[i], sizeof code);
        uint64_t field = code >> 52;
        all &= (code << 12 == 0) & ((field - (1023 - 127) <= 2 * 127) | (field == 2047));
    }
    return all;
}

/* May codes of a target with seven numbers above zero come from comparisons? Where each begins: for nearest half-way from
 * the one below, itself for the even one of the two. */
static bool few(lanes *p, const conversion *c)
{
    const emu_conversion *how = c->how;
    uint64_t max = c->to.max_code, sign = c->to.sign;
    if (max != 7 || sign != 8 || how->rounding > EMU_ROUND_RZ || how->ftz || how->zero[0] || how->zero[1] != sign
        || how->over[0] != max || how->infinity[0] != max || how->over[1] != (max | sign) || how->infinity[1] != (max | sign))
        return false;
    bool nearest = how->rounding != EMU_ROUND_RZ;
    double value[9] = {0};
    for (int j = 1; j <= 7; j++) {
        number x = decode(&c->to, (uint64_t)j);
        value[j] = ldexp((double)x.sig, x.exp);
    }
    value[8] = c->to.row.frac_bits ? 2 * value[7] - value[6] : 2 * value[7];
    for (int j = 1; j <= 8; j++) {
        double below = value[j - 1], here = value[j];
        p->begin[j & 7] = nearest ? (below + here) / 2 : here;
        p->open[j & 7] = how->rounding == EMU_ROUND_RNE && j & 1;
    }
    return true;
}

/* Are quotients and remainders of binary64 far from the ends of its range? Zeros, infinities and NaN may be there. */
static bool moderate(int64_t n, const void *x, int64_t blocks, const double *divisors)
{
    bool all = true;
    for (int64_t i = 0; i < blocks; i++)
        all &= (divisors[i] > 0x1p-400) & ((divisors[i] < 0x1p400) | (divisors[i] == INFINITY));
    uint64_t beyond = 0;
    for (int64_t i = 0; i < n && all; i++) {
        uint64_t code;
        memcpy(&code, (const unsigned char *)x + i * 8, sizeof code);
        code <<= 1;
        uint64_t field = (code >> 53) - (1023 - 400);
        beyond |= (uint64_t)(field > 800) & (uint64_t)(code != 0) & (uint64_t)(code >> 53 != 2047);
    }
    return all && !beyond;
}

int emu_convert_over(const emu_conversion *how, int64_t n, int64_t size, const void *x, const double *divisors,
                     const uint32_t *random, void *y, int64_t *counts)
{
    conversion c = {.how = how}, wide;
    lanes p;
    int64_t unread[EMU_COUNTS] = {0}, blocks = size > 0 ? (n + size - 1) / size : 0;
    int isa = emu_isa_now();
    bool stochastic = how->rounding >= EMU_ROUND_SR, count = counts != NULL;
    divisor unused;
    if (!describe(&how->from, &c.from) || !describe(&how->to, &c.to) || !how->from.is_float || !how->to.is_float
        || how->from.frac_bits > 52 || how->daz || how->rounding < 0 || how->rounding > EMU_ROUND_SRC
        || (stochastic && (!random || how->random_bits < 1 || how->random_bits > 32)))
        return EMU_BAD_ROW;
    if (isa < 0)
        return EMU_BAD_ISA;
    if (n < 0 || size < 1)
        return EMU_BAD_SHAPE;
    wide = c;
    describe(&BINARY64, &wide.from);
    for (int64_t i = ordinary(blocks, divisors) ? blocks : 0; i < blocks; i++)
        if (!take_apart(&wide.from, divisors[i], &unused))
            return EMU_BAD_ROW;
    bool binary64 = is_ieee(&how->from, 64, 11), binary32 = is_ieee(&how->from, 32, 8);
    if (isa > EMU_ISA_PORTABLE && (binary32 || (binary64 && moderate(n, x, blocks, divisors)))
        && ((binary32 && by_powers(&c, blocks, divisors) && in_lanes(&p, &c, 32, false, count))
            || in_lanes(&p, &wide, 64, false, count))) {
        p.divisor = divisors;
        p.per = size;
        p.wide = binary64;
        p.few = p.bits == 64 && binary32 && few(&p, &c);
        if (p.bits == 32 && !count)                 /* multiplying is faster still */
            choose_strips(&p, &c);
        best_kernels(isa)->lanes(&p, n, x, random, y, count, count ? counts : unread);
    } else
        each_over(&c, n, size, x, divisors, random, y, count ? counts : unread);
    return EMU_DONE;
}

int emu_amax(int bytes, int64_t blocks, int64_t size, const void *x, void *amax)
{
    int isa = emu_isa_now();
    if (isa < 0)
        return EMU_BAD_ISA;
    if (blocks < 0 || size < 0 || (bytes != 4 && bytes != 8))
        return EMU_BAD_SHAPE;
    best_kernels(isa)->amax(bytes, blocks, size, x, amax);
    return EMU_DONE;
}

int emu_above(int bytes, int64_t blocks, int64_t size, int64_t count, const void *x, const void *bounds, uint8_t *y)
{
    int isa = emu_isa_now();
    if (isa < 0)
        return EMU_BAD_ISA;
    if (blocks < 0 || size < 0 || count < 0 || count > 255 || (bytes != 4 && bytes != 8))
        return EMU_BAD_SHAPE;
    best_kernels(isa)->above(bytes, blocks, size, count, x, bounds, y);
    return EMU_DONE;
}

int emu_convert_by_powers(const emu_conversion *how, int64_t blocks, int64_t size, const float *x, uint32_t up,
                          const uint8_t *scale_of, const double *divisor_of, const uint32_t *random, void *y, uint8_t *scales)
{
    enum { ELEMENTS = 1 << 15, MOST = 1024 };       /* which stay in the cache between their two uses */
    const uint32_t infinity = 0x7F800000;
    const int bytes = how->to.bits > 32 ? 8 : how->to.bits > 16 ? 4 : how->to.bits > 8 ? 2 : 1;
    const int64_t fit = size > 0 ? ELEMENTS / size : 0, each = fit < 1 ? 1 : fit < MOST ? fit : MOST;
    for (int64_t i = 0; i < blocks; i += each) {
        int64_t count = blocks - i < each ? blocks - i : each;
        uint32_t amax[MOST], largest = 0;
        double divisors[MOST];
        int status = emu_amax(4, count, size, x + i * size, amax);
        if (status)
            return status;
        for (int64_t b = 0; b < count; b++) {
            uint8_t scale = scale_of[amax[b] < infinity ? (amax[b] + up) >> 23 : 256];
            largest = largest > amax[b] ? largest : amax[b];
            scales[i + b] = scale;
            divisors[b] = divisor_of[scale];
        }
        if (largest > infinity)
            return EMU_BAD_ROW;
        status = emu_convert_over(how, count * size, size, x + i * size, divisors, random ? random + i * size : NULL,
                                  (unsigned char *)y + i * size * bytes, NULL);
        if (status)
            return status;
    }
    return EMU_DONE;
}

void emu_scaled(int64_t n, int64_t size, const uint8_t *x, const float *values, const float *zeros, const float *scales,
                float factor, float *y)
{
    for (int64_t i = 0, block = 0; i < n; i += size, block++) {
        int64_t end = n - i < size ? n - i : size;
        float zero = zeros ? zeros[block] : 0, scale = scales[block];
        for (int64_t j = i; j < i + end; j++)
            y[j] = (values[x[j]] - zero) * scale * factor;
    }
}

#define ERRORS(REAL, FROM, DECODED, MAGNITUDE)                                                                            \
    for (int64_t i = 0; i < blocks; i++) {                                                                                \
        REAL sum = 0, value[64], lost[64];                                                                                \
        for (int64_t at = i * size, end = at + size, n; at < end; at += n) {                                              \
            n = end - at < 64 ? end - at : 64;                                                                            \
            for (int64_t j = 0; j < n; j++)                                                                               \
                value[j] = values[y[at + j]];                                                                             \
            for (int64_t j = 0; j < n; j++) {                                                                             \
                REAL d = (DECODED) - (REAL)((const FROM *)x)[at + j];                                                     \
                lost[j] = squared ? d * d : MAGNITUDE(d);                                                                 \
            }                                                                                                             \
            for (int64_t j = 0; j < n; j++)                                                                               \
                sum += lost[j];                                                                                           \
        }                                                                                                                 \
        errors[i] = sum;                                                                                                  \
    }

void emu_errors(int bytes, int64_t blocks, int64_t size, const void *x, const uint8_t *y, const double *values,
                const double *scales, int squared, double *errors)
{
    if (bytes == 4)
        ERRORS(double, float, value[j] * scales[i], fabs)
    else
        ERRORS(double, double, value[j] * scales[i], fabs)
}

void emu_errors_32(int64_t blocks, int64_t size, const float *x, const uint8_t *y, const float *values, const float *scales,
                   float factor, float divisor, int squared, float *errors)
{
    ERRORS(float, float, value[j] * scales[i] * factor / divisor, fabsf)
}
#undef ERRORS

/* --- packing ------------------------------------------------------------------------------------------------------ */

/* Eight codes lie in a word, a byte each, or side by side in its low bits: neighbours are brought together, or apart, first
 * in pairs, then in fours, then all. */
static uint64_t together(uint64_t x, int bits)
{
    const uint64_t one = 0x00FF00FF00FF00FF, two = 0x0000FFFF0000FFFF, four = 0x00000000FFFFFFFF;
    x = (x & one) | (x & ~one) >> (8 - bits);
    x = (x & two) | (x & ~two) >> (16 - 2 * bits);
    return (x & four) | (x & ~four) >> (32 - 4 * bits);
}

static uint64_t apart(uint64_t x, int bits)
{
    const uint64_t four = ((uint64_t)1 << 4 * bits) - 1, two = (((uint64_t)1 << 2 * bits) - 1) * 0x100000001,
                   one = (((uint64_t)1 << bits) - 1) * 0x1000100010001;
    x = (x & four) | (x & four << 4 * bits) << (32 - 4 * bits);
    x = (x & two) | (x & two << 2 * bits) << (16 - 2 * bits);
    return (x & one) | (x & one << bits) << (8 - bits);
}

/* The first byte lies lowest. */
static ALWAYS_INLINE uint64_t first_bytes(const uint8_t *from, int64_t bytes)
{
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)from[i] << 8 * i;
    return x;
}

static ALWAYS_INLINE void put_bytes(uint8_t *to, int64_t bytes, uint64_t x)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(x >> 8 * i);
}

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

void emu_pack(int bits, int64_t n, const uint8_t *restrict codes, uint8_t *restrict packed)
{
    const uint64_t mask = (((uint64_t)1 << bits) - 1) * 0x0101010101010101;
    if (bits == 4)                                  /* the common width, in a loop that vectorises */
        for (; n >= 2; n -= 2, codes += 2)
            *packed++ = (uint8_t)((codes[0] & 15) | codes[1] << 4);
    for (; n * bits >= 64; n -= 8, codes += 8, packed += bits)      /* what is stored too much is not the last */
        put_bytes(packed, 8, together(first_bytes(codes, 8) & mask, bits));
    for (; n > 0; n -= 8, codes += 8, packed += bits)
        put_bytes(packed, least(bits, (n * bits + 7) / 8), together(first_bytes(codes, least(n, 8)) & mask, bits));
}

void emu_unpack(int bits, int64_t n, const uint8_t *restrict packed, uint8_t *restrict codes)
{
    if (bits == 4)
        for (; n >= 2; n -= 2, codes += 2, packed++) {
            codes[0] = *packed & 15;
            codes[1] = *packed >> 4;
        }
    for (; n * bits >= 64; n -= 8, codes += 8, packed += bits)
        put_bytes(codes, 8, apart(first_bytes(packed, 8), bits));
    for (; n > 0; n -= 8, codes += 8, packed += bits)
        put_bytes(codes, least(n, 8), apart(first_bytes(packed, least(bits, (n * bits + 7) / 8)), bits));
}
