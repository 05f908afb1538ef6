/* One block in lanes of BITS bits: included twice by convert_lanes.h. Method: the bits of the source's own significand are
 * added to a rounding bias and shifted. A carry out of the fraction is the next exponent, so the sum is the code. */

static inline LANE NAME(bits_of)(REAL value)
{
    LANE bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline REAL NAME(real_of)(LANE bits)
{
    REAL value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Choices without a branch, for the vectoriser. A condition is 0 or 1. */
#define ALL(condition) (0 - (LANE)(condition))
#define PICK(condition, yes, no) (((yes) & ALL(condition)) | ((no) & ~ALL(condition)))
#undef MIN
#define MIN(x, y) ((x) < (y) ? (x) : (y))
#define MAX(x, y) ((x) > (y) ? (x) : (y))

#ifdef __GNUC__                     /* a lane of the caller's array: of another type, at any address */
typedef LANE __attribute__((may_alias, aligned(1))) NAME(unaligned);
#else
typedef LANE NAME(unaligned);
#endif

/* x: codes of the source. lane: the same numbers as binary32 or binary64, exactly. Returns the largest lane & watch. */
#define EACH(TYPE, EXPRESSION)                                                                                            \
    for (int i = 0; i < n; i++) {                                                                                         \
        TYPE code;                                                                                                        \
        memcpy(&code, x + (size_t)i * sizeof code, sizeof code);                                                          \
        LANE made = EXPRESSION, seen = made & watch;                                                                      \
        lane[i] = made;                                                                                                   \
        worst = MAX(worst, seen);                                                                                         \
    }                                                                                                                     \
    return worst

static inline LANE NAME(rebiased)(const lanes *p, LANE code)
{
    const LANE infinity = ((LANE)1 << (BITS - 1)) - ((LANE)1 << FRAC);
    LANE magnitude = (code & ((LANE)p->from_sign - 1)) << p->up;
    LANE sign = code & (LANE)p->from_sign ? (LANE)1 << (BITS - 1) : 0;
    LANE normal = magnitude + ((LANE)p->rebias << FRAC);
    /* A subnormal's fraction under the smallest normal exponent e is 2^e too much. Both numbers of the subtraction lie in
     * [2^e, 2^(e+1)], on one grid that has zero on it: the difference is exact (Sterbenz), and no subnormal of the lane. */
    LANE least = (LANE)(p->rebias + 1) << FRAC;
    LANE subnormal = NAME(bits_of)(NAME(real_of)(least + magnitude) - NAME(real_of)(least)) & (((LANE)1 << (BITS - 1)) - 1);
    LANE finite = magnitude >> FRAC ? normal : subnormal;
    return sign | (magnitude >= (LANE)p->from_inf << p->up ? magnitude | infinity : finite);
}

static LANE NAME(load)(const lanes *p, int n, const unsigned char *x, NAME(unaligned) *restrict lane)
{
    const LANE mask = (LANE)p->from_mask, watch = (LANE)p->watch;
    LANE worst = 0;
    switch (p->load) {
    case LOAD_AS_IT_IS: case LOAD_MASKED: EACH(LANE, code & mask);
    case LOAD_SHIFT: EACH(uint16_t, (LANE)code << p->up);
#if BITS == 64
    case LOAD_REBIAS:
        if (p->from_bytes == 4) { EACH(uint32_t, NAME(rebiased)(p, code)); }
        EACH(uint16_t, NAME(rebiased)(p, code));
    case LOAD_INT:
        if (p->from_bytes == 4) { EACH(int32_t, NAME(bits_of)(code)); }
        EACH(int16_t, NAME(bits_of)(code));
    default:
        if (p->from_bytes == 4) { EACH(uint32_t, NAME(bits_of)(code)); }
        EACH(uint16_t, NAME(bits_of)(code));
#else
#ifdef CONVERT_IN_FLOAT
    case LOAD_ODD:
        odd_lanes(p->far, n, x, (float *)lane);
        return watch;
#endif
    case LOAD_REBIAS: EACH(uint16_t, NAME(rebiased)(p, code));
    case LOAD_INT: EACH(int16_t, NAME(bits_of)(code));
    default: EACH(uint16_t, NAME(bits_of)(code));
#endif
    }
}
#undef EACH

/* How a sign bit of the lane becomes the target's. */
#define SIGN(x) ((x) >> to_sign & sign)

/* lane: numbers. magnitude: their codes, rounded, without sign and pads and however large. Returns the largest x & watch
 * seen. `mode`, `uniform` (the lane has no exponent below the target's first) and `lower` (uniform, but for the target's
 * smallest number) are constants where this is called, and it is inlined there. */
static ALWAYS_INLINE LANE NAME(round)(const lanes *p, const int mode, const bool uniform, const bool lower, int n,
                                      const NAME(unaligned) *lane, const LANE *restrict draw, LANE *restrict magnitude)
{
    const bool stochastic = mode == EMU_ROUND_SR || mode == EMU_ROUND_SRB || mode == EMU_ROUND_SRC;
    const LANE one = (LANE)(p->bits / BITS);            /* gcc 12 vectorises 64-bit shifts of variables, not of constants */
    const LANE hidden = (LANE)1 << FRAC, top = (LANE)1 << (BITS - 1);
    const LANE first = (LANE)p->first, places = (LANE)p->cut + first, below = p->bare ? 0 : ~(LANE)0;
    const LANE watch = (LANE)p->watch, given = (LANE)p->random_bits, bare = (LANE)p->bare << FRAC, sees = p->sees_sign;
    LANE worst = 0;
    for (int i = 0; i < n; i++) {
        LANE x = lane[i] & (top - 1), seen = lane[i] & watch;
        worst = MAX(worst, seen);

        /* Numbers from the target's first exponent up share a grid of lane bits: x - base is the code << cut. Below it, the
         * significand alone counts, and for each exponent below one more bit is cut. Subnormals have exponent 1. */
        LANE exponent = x >> FRAC;
        LANE floor = uniform ? 1 : MIN(MAX(exponent, 1), first);
        LANE total = x + hidden - (floor << FRAC);
        if (!uniform)
            total = (total - bare) & (ALL(exponent >= first) | below);
        if (lower)                                      /* half the smallest normal number is code 0, and nothing is below */
            total = PICK(exponent != 0, x, (2 * x - hidden) & ALL(2 * x >= hidden));
        LANE shift = places - floor, s = MIN(shift, BITS - 1);

        /* mask: the bits cut. With s at its cap, total is less than half of 1 << s, as it would be for any greater s. */
        LANE mask = (one << s) - 1, bias = 0;
        if (stochastic) {
            /* Bits lost to the cap are below all that a comparison with `given` random bits reads: given < BITS - 3. */
            LANE lost = MIN(shift - s, BITS - 1);
            LANE sticky = (LANE)((total & ((one << lost) - 1)) != 0) & (mode == EMU_ROUND_SRC);
            total = (total >> lost) | sticky;
            LANE r = mode == EMU_ROUND_SRB ? 2 * draw[i] + 1 : draw[i];
            LANE fine = ALL(s < given);                 /* more random bits than bits cut: the lowest decide nothing */
            LANE grain = (s - given) & ~fine;
            bias = (r << grain) >> ((given - s) & fine);
            if (mode == EMU_ROUND_SRC) {                /* the fraction rounded to nearest even at `given` bits first */
                LANE under = (one << grain) - 1;
                total += (under >> 1) + ((total >> grain) & under & 1);
            }
        } else if (mode == EMU_ROUND_RNE)
            bias = (mask >> 1) + ((total >> s) & mask & 1);
        else if (mode == EMU_ROUND_RNA)
            bias = (mask >> 1) + (mask & 1);
        else if (mode == EMU_ROUND_RD)
            bias = mask & ALL(lane[i] >> (BITS - 1) & sees);
        else if (mode == EMU_ROUND_RU)
            bias = mask & ~ALL(lane[i] >> (BITS - 1) & sees);
        else if (mode == EMU_ROUND_RO)
            bias = mask & ~ALL((total >> s) & 1);
        magnitude[i] = (total + bias) >> s;
    }
    return worst;
}

/* Codes into the bytes of the target's array. */
#define EACH(TYPE, EXPRESSION)                                                                                            \
    for (int i = 0; i < n; i++) {                                                                                         \
        TYPE code = (TYPE)(EXPRESSION);                                                                                   \
        memcpy(y + (size_t)i * sizeof code, &code, sizeof code);                                                          \
    }                                                                                                                     \
    return
#define EACH_SIZE(EXPRESSION)                                                                                             \
    switch (p->to_bytes) {                                                                                                \
    case 1: EACH(uint8_t, EXPRESSION);                                                                                    \
    case 2: EACH(uint16_t, EXPRESSION);                                                                                   \
    case 4: EACH(uint32_t, EXPRESSION);                                                                                   \
    default: EACH(uint64_t, EXPRESSION);                                                                                  \
    }

static void NAME(store)(const lanes *p, int n, const LANE *code_of, unsigned char *y)
{
    EACH_SIZE(code_of[i])
}

/* Where nothing in a block is out of the ordinary: a bound and a sign make the code. */
static void NAME(finish)(const lanes *p, int n, const NAME(unaligned) *lane, const LANE *magnitude, unsigned char *y)
{
    const LANE bound = (LANE)p->max, sign = (LANE)p->sign, keep = p->zero[1] != 0;
    const int pad = p->low_pad, to_sign = p->to_sign;
    EACH_SIZE(MIN(magnitude[i], bound) << pad | (SIGN(lane[i]) & ALL((magnitude[i] | keep) != 0)))
}
#undef EACH
#undef EACH_SIZE

static void NAME(tally)(const lanes *p, int n, const NAME(unaligned) *lane, const LANE *magnitude, int64_t counts[EMU_COUNTS])
{
    const LANE max = (LANE)p->max, sees = p->sees_sign;
    LANE flushed = 0, over = 0, minus = 0;
    for (int i = 0; i < n; i++) {
        LANE beyond = magnitude[i] > max;
        flushed += (magnitude[i] == 0) & (lane[i] << 1 != 0);
        over += beyond;
        minus += beyond & sees & lane[i] >> (BITS - 1);
    }
    counts[EMU_COUNT_FLUSHED] += p->bare ? 0 : (int64_t)flushed;
    counts[EMU_COUNT_OVER] += (int64_t)(over - minus);
    counts[EMU_COUNT_OVER + 1] += (int64_t)minus;
}

/* The codes of any block, lane by lane in place of its magnitudes; and the counters. */
static void NAME(settle)(const lanes *p, int n, const NAME(unaligned) *lane, LANE *magnitude, int64_t counts[EMU_COUNTS])
{
    const LANE top = (LANE)1 << (BITS - 1), infinity = top - ((LANE)1 << FRAC);
    const LANE max = (LANE)p->max, normal = (LANE)p->normal, sign = (LANE)p->sign, below = p->bare ? 0 : 1;
    const LANE sees = p->sees_sign, refuses = p->refuses_sign;
    const LANE over0 = (LANE)p->over[0], over1 = (LANE)p->over[1], zero0 = (LANE)p->zero[0], zero1 = (LANE)p->zero[1];
    const LANE inf0 = (LANE)p->infinity[0], inf1 = (LANE)p->infinity[1];
    const LANE nan0 = (LANE)p->nan[0], nan1 = (LANE)p->nan[1];
    const int pad = p->low_pad, to_sign = p->to_sign;
    LANE over = 0, minus_over = 0, infinite = 0, minus_infinite = 0, nans = 0, flushed = 0;
    for (int i = 0; i < n; i++) {
        LANE x = lane[i] & (top - 1), negative = lane[i] >> (BITS - 1) & sees;
        LANE found = magnitude[i] & ALL(magnitude[i] >= normal);
        LANE finite = x < infinity, infinite_x = x == infinity, nan = x > infinity;
        LANE beyond = (LANE)(found > max) | (negative & refuses & (x != 0));
        LANE zero = (LANE)(x == 0) | ((found == 0) & below);
        LANE code = found << pad | SIGN(lane[i]);
        code = PICK(zero, PICK(negative, zero1, zero0), code);
        code = PICK(beyond, PICK(negative, over1, over0), code);
        code = PICK(infinite_x, PICK(negative, inf1, inf0), code);
        magnitude[i] = PICK(nan, PICK(negative, nan1, nan0), code);
        over += beyond & finite;
        minus_over += beyond & finite & negative;
        infinite += infinite_x;
        minus_infinite += infinite_x & negative;
        nans += nan;
        flushed += zero & (x != 0) & (beyond ^ 1) & below;
    }
    const LANE found[EMU_COUNTS] = {over - minus_over, minus_over, infinite - minus_infinite, minus_infinite, nans,
                                    flushed};
    for (int e = 0; e < EMU_COUNTS; e++)
        counts[e] += (int64_t)found[e];
}

/* What daz leaves: subnormals of the source become zeros. */
static void NAME(flush)(const lanes *p, int n, LANE *lane, int64_t counts[EMU_COUNTS])
{
    const LANE least = (LANE)p->least, top = (LANE)1 << (BITS - 1);
    LANE flushed = 0;
    for (int i = 0; i < n; i++) {
        LANE x = lane[i] & (top - 1), small = x < least;
        flushed += small & (x != 0);
        lane[i] &= ~ALL(small) | top;
    }
    counts[EMU_COUNT_FLUSHED] += p->bare ? 0 : (int64_t)flushed;
}

/* To nearest even where the target's exponents are the lane's own (bfloat16 and tfloat32 from binary32): on the code as it
 * is, sign and all. Half the last place, less one, and the parity are added; a carry out of the fraction is the next
 * exponent, and beyond the last one an infinity. False, with rubbish in y, if some lane & watch is not calm. */
static bool NAME(cut)(const lanes *p, int n, const NAME(unaligned) *lane, unsigned char *y)
{
    const int cut = p->cut, pad = p->low_pad;
    const LANE watch = (LANE)p->watch, half = ((LANE)1 << (cut - 1)) - 1;
    LANE worst = 0;
#define EACH(TYPE)                                                                                                        \
    for (int i = 0; i < n; i++) {                                                                                         \
        LANE x = lane[i], seen = x & watch;                                                                               \
        TYPE code = (TYPE)((x + half + (x >> cut & 1)) >> cut << pad);                                                    \
        memcpy(y + (size_t)i * sizeof code, &code, sizeof code);                                                          \
        worst = MAX(worst, seen);                                                                                         \
    }                                                                                                                     \
    break
    switch (p->to_bytes) {
    case 2: EACH(uint16_t);
    default: EACH(uint32_t);
    }
#undef EACH
    return worst < (LANE)p->unbounded;
}

#ifdef CONVERT_IN_FLOAT
/* Round to nearest even by one addition of the processor, straight to the target's bytes; false, with rubbish in y, if the
 * block holds what is out of the ordinary. Why it is exact: let t be the exponent of x, at least the target's first and at
 * most one above its last, and magic 2^(t + cut), cut >= 1. Then x < 2^(t + 1) <= magic, and from magic to twice magic the
 * lane's numbers are as far apart as the target's at t: 2^(t - fraction bits). So the sum is x rounded to that grid, ties
 * to even (IEEE 754-2019, 4.3.1); magic is an even multiple, and with a fraction bit the parity is the code's. An x beyond
 * the last exponent makes a greater sum than any within: the bound catches it. A subnormal of the lane is less than half
 * the grid at `first` and becomes 0, also where the processor takes it for 0. */
static bool NAME(nearest)(const lanes *p, int n, const NAME(unaligned) *lane, unsigned char *y, bool count,
                          int64_t counts[EMU_COUNTS])
{
    const LANE top = (LANE)1 << (BITS - 1), exponents = top - ((LANE)1 << FRAC), watch = (LANE)p->watch;
    const LANE first = (LANE)p->first << FRAC, last = (LANE)p->last << FRAC, cut = (LANE)p->cut, lift = cut << FRAC;
    const LANE base = first >> cut, bound = (LANE)p->max, sign = (LANE)p->sign, keep = p->zero[1] != 0;
    const LANE sees = p->sees_sign;
    const int pad = p->low_pad, to_sign = p->to_sign;
    LANE worst = 0, flushed = 0, over = 0, minus = 0;
#define EACH(TYPE, COUNT)                                                                                                 \
    for (int i = 0; i < n; i++) {                                                                                         \
        LANE x = lane[i] & (top - 1), seen = lane[i] & watch;                                                             \
        LANE t = MIN(MAX(x & exponents, first), last), magic = t + lift;                                                  \
        LANE sum = NAME(bits_of)(NAME(real_of)(x) + NAME(real_of)(magic));                                                \
        LANE any = sum - magic + (t >> cut) - base, found = MIN(any, bound);                                              \
        TYPE code = (TYPE)(found << pad | (SIGN(lane[i]) & ALL((found | keep) != 0)));                                    \
        memcpy(y + (size_t)i * sizeof code, &code, sizeof code);                                                          \
        worst = MAX(worst, seen);                                                                                         \
        if (COUNT) {                                                                                                      \
            LANE beyond = any > bound;                                                                                    \
            flushed += (found == 0) & (x != 0);                                                                           \
            over += beyond;                                                                                               \
            minus += beyond & sees & lane[i] >> (BITS - 1);                                                               \
        }                                                                                                                 \
    }
#define EACH_COUNTED(TYPE)                                                                                                \
    if (count) {                                                                                                          \
        EACH(TYPE, true)                                                                                                  \
    } else {                                                                                                              \
        EACH(TYPE, false)                                                                                                 \
    }                                                                                                                     \
    break
    switch (p->to_bytes) {
    case 1: EACH_COUNTED(uint8_t);
    case 2: EACH_COUNTED(uint16_t);
    default: EACH_COUNTED(uint32_t);
    }
#undef EACH
#undef EACH_COUNTED
    if (worst >= (LANE)p->calm)
        return false;
    counts[EMU_COUNT_FLUSHED] += (int64_t)flushed;
    counts[EMU_COUNT_OVER] += (int64_t)(over - minus);
    counts[EMU_COUNT_OVER + 1] += (int64_t)minus;
    return true;
}
#endif

static void NAME(block)(const lanes *p, int n, const unsigned char *x, const uint32_t *random, unsigned char *y,
                        bool count, int64_t counts[EMU_COUNTS])
{
    LANE room[CONVERT_BLOCK], draw[CONVERT_BLOCK], magnitude[CONVERT_BLOCK], worst = 0;
    const NAME(unaligned) *lane = (const NAME(unaligned) *)x;
    if (p->same && !count && NAME(load)(p, n, x, (NAME(unaligned) *)y) < (LANE)p->unbounded)
        return;
    if (p->load != LOAD_AS_IT_IS || p->least) {
        NAME(load)(p, n, x, room);
        lane = room;
    }
    if (p->least)
        NAME(flush)(p, n, room, counts);
    if (p->same_exponents && !count && NAME(cut)(p, n, lane, y))
        return;
#ifdef CONVERT_IN_FLOAT
    if (p->nearest && NAME(nearest)(p, n, lane, y, count, counts))
        return;
#endif
    for (int i = 0; random && i < n; i++)
        draw[i] = random[i];
#define MODE(mode)                                                                                                        \
    case mode:                                                                                                            \
        worst = p->lower                     ? NAME(round)(p, mode, true, true, n, lane, draw, magnitude)                 \
                : p->first == 1 && !p->bare ? NAME(round)(p, mode, true, false, n, lane, draw, magnitude)                 \
                                            : NAME(round)(p, mode, false, false, n, lane, draw, magnitude);               \
        break
    switch (p->mode) {
        MODE(EMU_ROUND_RNE);
        MODE(EMU_ROUND_RNA);
        MODE(EMU_ROUND_RZ);
        MODE(EMU_ROUND_RD);
        MODE(EMU_ROUND_RU);
        MODE(EMU_ROUND_RO);
        MODE(EMU_ROUND_SR);
        MODE(EMU_ROUND_SRB);
        MODE(EMU_ROUND_SRC);
    }
#undef MODE
    if (worst < (LANE)p->calm) {
        if (count)
            NAME(tally)(p, n, lane, magnitude, counts);
        NAME(finish)(p, n, lane, magnitude, y);
        return;
    }
    NAME(settle)(p, n, lane, magnitude, counts);
    NAME(store)(p, n, magnitude, y);
}
#undef ALL
#undef PICK
#undef MAX
#undef SIGN
