/* convert: one number format to another. Three ways to one result: a table over all codes of a source of 8 bits or fewer,
 * lanes (convert_round.h) where binary32 or binary64 hold the source, and one number after the other for the rest. */
#include "convert.h"
#include "isa.h"

#define CONVERT_LANES emu_convert_lanes_portable
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

/* The code of one number, and in *event which counter it belongs to, EMU_COUNTS for none. */
static uint64_t convert_one(const conversion *c, uint64_t code, uint32_t random, int *event)
{
    const emu_conversion *how = c->how;
    const format *to = &c->to;
    number x = decode(&c->from, code);
    bool negative = x.negative && !how->ignores_sign, came = x.sig != 0;
    bool bare = to->row.specials == EMU_SPECIALS_EXPONENT;
    *event = EMU_COUNTS;
    if (x.kind != FINITE) {
        *event = x.kind == INF ? EMU_COUNT_INFINITE + negative : EMU_COUNT_NAN;
        return x.kind == INF ? how->infinity[negative] : how->nan[negative];
    }
    if (how->daz && c->from.row.is_float && c->from.row.specials != EMU_SPECIALS_EXPONENT
        && !(x.sig >> c->from.row.frac_bits))
        x.sig = 0;
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
        code = (uint64_t)magnitude << to->row.low_pad;
        if (code <= to->max_code)
            return code | (negative ? to->sign : 0);
    }
    *event = EMU_COUNT_OVER + negative;
    return how->over[negative];
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

/* --- a table ------------------------------------------------------------------------------------------------------ */

static void by_table(const conversion *c, int64_t n, const uint8_t *x, void *y, bool count, int64_t counts[EMU_COUNTS])
{
    enum { FIELD = 10 };                            /* bits of a packed counter: more than a block can count */
    uint64_t code[256], tally[256];
    for (int i = 0; i < 256; i++) {
        int event;
        code[i] = convert_one(c, (uint64_t)i & (UINT64_MAX >> (64 - c->from.row.bits)), 0, &event);
        tally[i] = event < EMU_COUNTS ? UINT64_C(1) << (FIELD * event) : 0;
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
    for (int64_t i = 0; count && i < n; i += CONVERT_BLOCK) {
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

/* From which lane on a number needs more than a bound and a sign, or a counter; 0 if any may. */
static uint64_t calm_below(const lanes *p, const conversion *c, bool count)
{
    const emu_conversion *how = c->how;
    int frac = p->bits == 32 ? 23 : 52, bias = p->bits == 32 ? 127 : 1023;
    uint64_t infinity = (uint64_t)(2 * bias + 1) << frac, max = c->to.max_code, sign = c->to.sign;
    if (how->zero[0] || p->normal)
        return 0;
    if (c->to.emax > bias)
        return infinity;
    if (!count && how->over[0] == max && how->infinity[0] == max && how->over[1] == (max | sign)
        && how->infinity[1] == (max | sign))
        return infinity + 1;                        /* the bound makes of infinities what it should: all but NaN */
    return (uint64_t)(c->to.emax + bias) << frac;   /* what is below 2^emax does not round beyond it */
}

static bool in_lanes(lanes *p, const conversion *c, int bits, bool integers, bool count)
{
    const emu_conversion *how = c->how;
    const emu_format *to = &c->to.row;
    int frac = bits == 32 ? 23 : 52, bias = bits == 32 ? 127 : 1023;
    bool bare = to->specials == EMU_SPECIALS_EXPONENT, stochastic = how->rounding >= EMU_ROUND_SR;
    *p = (lanes){.bits = bits, .to_bytes = c->to.bytes, .mode = how->rounding, .cut = frac - to->frac_bits,
                 .first = c->to.emin + bias, .bare = bare, .low_pad = to->low_pad, .max = c->to.max_code >> to->low_pad,
                 .normal = how->ftz && !bare ? UINT64_C(1) << to->frac_bits : 0, .sign = c->to.sign,
                 .to_sign = c->to.sign ? bits - bit_length(c->to.sign) : 0,
                 .random_bits = how->random_bits + (how->rounding == EMU_ROUND_SRB),
                 .sees_sign = !how->ignores_sign, .refuses_sign = !c->to.sign};
    if (!enters(p, &c->from, bits, integers) || p->cut < 0 || p->first < 1 || p->first > 2 * bias || to->bits > bits
        || (stochastic && p->random_bits > bits - 4))
        return false;
    if (how->daz && c->from.row.is_float)           /* the smallest normal number of the source, in a lane */
        p->least = (uint64_t)(c->from.emin + bias) << frac;
    p->watch = (UINT64_C(1) << (bits - 1)) - 1;
    if (p->sees_sign && p->refuses_sign)
        p->watch |= UINT64_C(1) << (bits - 1);
    p->last = c->to.emax + bias + 1;
    p->nearest = how->rounding == EMU_ROUND_RNE && to->frac_bits >= 1 && p->cut >= 1 && c->to.bytes <= 4
                 && p->first >= to->frac_bits + 2 && p->last + p->cut < 2 * bias;
    memcpy(p->nan, how->nan, sizeof p->nan);
    memcpy(p->infinity, how->infinity, sizeof p->infinity);
    memcpy(p->over, how->over, sizeof p->over);
    memcpy(p->zero, how->zero, sizeof p->zero);
    p->calm = calm_below(p, c, count);
    return true;
}

static lanes_kernel *best_kernel(int isa)
{
#ifdef EMU_AVX512
    if (isa >= EMU_ISA_AVX512)
        return emu_convert_lanes_avx512;
#endif
#ifdef EMU_AVX2
    if (isa >= EMU_ISA_AVX2)
        return emu_convert_lanes_avx2;
#endif
    (void)isa;
    return emu_convert_lanes_portable;
}

int emu_convert(const emu_conversion *how, int64_t n, const void *x, const uint32_t *random, void *y, int64_t *counts)
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
        by_table(&c, n, x, y, counts != NULL, counts ? counts : unread);
    else if (in_lanes(&p, &c, 32, isa == EMU_ISA_PORTABLE, counts != NULL)
             || in_lanes(&p, &c, 64, isa == EMU_ISA_PORTABLE, counts != NULL))
        best_kernel(isa)(&p, n, x, random, y, counts != NULL, counts ? counts : unread);
    else
        each(&c, n, x, random, y, counts ? counts : unread);
    return EMU_DONE;
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

void emu_pack(int bits, int64_t n, const uint8_t *codes, uint8_t *packed)
{
    uint32_t mask = (1u << bits) - 1, pending = 0;
    int held = 0;
    int64_t i = 0;
    for (; bits == 4 && i + 1 < n; i += 2)          /* the common width, in a loop that vectorises */
        packed[i / 2] = (uint8_t)((codes[i] & 15) | codes[i + 1] << 4);
    for (packed += i / 2; i < n; i++) {
        pending |= (codes[i] & mask) << held;
        for (held += bits; held >= 8; held -= 8, pending >>= 8)
            *packed++ = (uint8_t)pending;
    }
    if (held)
        *packed = (uint8_t)pending;
}

void emu_unpack(int bits, int64_t n, const uint8_t *packed, uint8_t *codes)
{
    uint32_t mask = (1u << bits) - 1, pending = 0;
    int held = 0;
    int64_t i = 0;
    for (; bits == 4 && i + 1 < n; i += 2) {
        codes[i] = packed[i / 2] & 15;
        codes[i + 1] = packed[i / 2] >> 4;
    }
    for (packed += i / 2; i < n; i++) {
        if (held < bits) {
            pending |= (uint32_t)*packed++ << held;
            held += 8;
        }
        codes[i] = (uint8_t)(pending & mask);
        pending >>= bits;
        held -= bits;
    }
}
