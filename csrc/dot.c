/* The methods of emulator/exact/nvidia.py, under the names they have there, and the door to those of the other vendors;
 * [KM], [XMMA], [TC5] and [PTX] are the sources named there. Operands are taken apart once per row into planes that all
 * columns share; a fused sum is a sum of 64-bit integers; an IEEE step is the host's own. This is the portable and readable
 * form: one element of D after another. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "dot.h"

#ifdef __FAST_MATH__
#error "-ffast-math would change the IEEE steps"
#endif

enum { FLOOR = -(1 << 20) };            /* of any row: no floor is lower, and none above -FLOOR */
enum { NOTHING = -(1 << 24) };          /* the claim of a zero: below every floor, whatever claim is added to it */

typedef struct {            /* one row of A or one column of B */
    _Alignas(double)        /* planes follow operands in memory */
    double *value;          /* for the IEEE methods; lies where sig and claim lie for the others */
    int32_t *sig, *claim;   /* the signed significand, and the exponent it claims in the alignment; its scale is in both */
    uint8_t *kind, kinds;   /* kinds: all of the row or-ed, as most rows are finite throughout */
} operand;

typedef struct {            /* one element of D: what one instruction reads for it */
    const operand *a, *b;
    size_t start, stop;     /* its k */
    const format *c_format;
    uint64_t c;
} element;

typedef struct {            /* what one call needs: the row, and what follows from it */
    const emu_row *row;
    format a, b, c, d, scale, f64;
    size_t k;               /* of the call: a multiple of row->k */
    size_t terms;           /* addends of one fused sum beside C */
    bool ieee, groups, scaled;
    int64_t lead;           /* an addend of the sum aligned to E is sig * lead * 2^(claim - E - drop): */
    int drop;               /* claim <= E, so it is cut by a shift to the right alone */
    int64_t *sig;           /* the addends: sig times lead */
    int32_t *claim;
} job;

/* --- the fused sum ------------------------------------------------------------------------------------------------ */

enum { PLUS_INF = 1, MINUS_INF = 2, INVALID = 4 };

/* The infinities and NaN among the products of k = start..stop-1. */
static unsigned specials(const element *e, size_t start, size_t stop)
{
    const operand *a = e->a, *b = e->b;
    unsigned seen = 0;
    for (size_t i = a->kinds | b->kinds ? start : stop; i < stop; i++) {
        int kind = a->kind[i] | b->kind[i];
        if (kind & NOT_A_NUMBER || (kind && (!a->sig[i] || !b->sig[i])))
            return INVALID;
        if (kind)
            seen |= (a->sig[i] < 0) == (b->sig[i] < 0) ? PLUS_INF : MINUS_INF;
    }
    return seen;
}

/* The products of k = start..stop-1 become the addends of j; the largest claim among them and the floor. */
static int products(const job *j, const element *e, size_t start, size_t stop)
{
    const operand *a = e->a, *b = e->b;
    int64_t lead = j->lead;
    int top = j->row->floor;
    for (size_t i = start; i < stop; i++) {
        int claim = a->claim[i] + b->claim[i];
        j->sig[i - start] = (int64_t)a->sig[i] * b->sig[i] * lead;
        j->claim[i - start] = claim;
        top = claim > top ? claim : top;
    }
    return top;
}

/* exact.fused_sum and exact._finish: the n addends of j, claiming at most `top`, and C, are aligned, cut toward zero and
 * summed without error [KM][XMMA]. Infinities and NaN, `seen` among the products, are decided first [XMMA][TC5]. */
static uint64_t fused_sum(const job *j, size_t n, int top, unsigned seen, const format *c_format, uint64_t c_code)
{
    number c = decode(c_format, c_code), total;
    if (c.kind)
        seen |= c.kind == NOT_A_NUMBER ? INVALID : c.negative ? MINUS_INF : PLUS_INF;
    if (seen) {
        if (seen != PLUS_INF && seen != MINUS_INF)
            return j->d.all_ones_nan;
        total = (number){1, 0, seen == MINUS_INF, INF};
    } else {
        if (c.sig && c.exp + c_format->row.frac_bits > top)
            top = c.exp + c_format->row.frac_bits;
        int unit = top - j->row->frac, right = top + j->drop;
        int64_t sum = (int64_t)round_shift(false, c.sig, unit - c.exp, EMU_ROUND_RZ, 0, 0);
        sum = c.negative ? -sum : sum;
        for (size_t i = 0; i < n; i++) {            /* shifting a magnitude cuts toward zero; by 63 it leaves nothing */
            int64_t sign = -(j->sig[i] < 0), magnitude = (j->sig[i] ^ sign) - sign;
            int cut = right - j->claim[i] < 63 ? right - j->claim[i] : 63;
            sum += ((magnitude >> cut) ^ sign) - sign;
        }
        total = (number){(uint64_t)(sum < 0 ? -sum : sum), unit, sum < 0, FINITE};
    }
    uint64_t code = encode(&j->d, total, j->row->rounding, EMU_OVERFLOW_INFINITY, j->row->precision, 0, 0);
    return code == j->d.sign && j->d.row.specials != EMU_SPECIALS_FNUZ ? 0 : code;      /* zero is +0 */
}

/* Each group's rounded sum is the next one's C [KM][XMMA]. */
static uint64_t chain(const job *j, const element *e)
{
    const format *c_format = e->c_format;
    uint64_t c = e->c;
    for (size_t start = e->start, stop; start < e->stop; start = stop) {
        stop = e->stop - start < j->terms ? e->stop : start + j->terms;
        int top = products(j, e, start, stop);
        c = fused_sum(j, stop - start, top, specials(e, start, stop), c_format, c);
        c_format = &j->d;
    }
    return c;
}

/* Groups of 16 are summed without error and claim their scales' exponents alone, unless all products are zero [XMMA][TC5].
 * So in these planes a sig is a fixed-point number, and a claim the scale's, the same for a whole group. */
static uint64_t exact_groups(const job *j, const element *e)
{
    const operand *a = e->a, *b = e->b;
    int top = j->row->floor;
    size_t n = 0;
    for (size_t start = e->start; start < e->stop; start += 16, n++) {
        int64_t sum = 0, any = 0;
        for (size_t i = start; i < start + 16; i++) {
            int64_t product = (int64_t)a->sig[i] * b->sig[i];
            sum += product;
            any |= product;
        }
        j->sig[n] = sum * j->lead;
        j->claim[n] = any ? a->claim[start] + b->claim[start] : NOTHING;
        top = j->claim[n] > top ? j->claim[n] : top;
    }
    return fused_sum(j, n, top, specials(e, e->start, e->stop), e->c_format, e->c);
}

/* --- steps that are IEEE operations ----------------------------------------------------------------------------------
 * The host's fma and fmaf round once, in the direction in force, whether hardware does it or not (C11, 7.12.13.1; IEEE
 * 754-2019, 5.4.1). So does each + and * of float here, with -ffp-contract=off and FLT_EVAL_METHOD 0. A float waits in a
 * double, which holds it exactly. Which NaN the host makes does not matter: every NaN leaves as the canonical one. */

static double to_double(const job *j, const format *f, uint64_t code)
{
    uint64_t bits = encode(&j->f64, decode(f, code), EMU_ROUND_RNE, EMU_OVERFLOW_IEEE, 52, 0, 0);    /* exact */
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t from_double(const job *j, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    number x = decode(&j->f64, bits);
    if (x.kind == NOT_A_NUMBER)
        return j->d.all_ones_nan;
    return encode(&j->d, x, EMU_ROUND_RNE, EMU_OVERFLOW_IEEE, j->d.row.frac_bits, 0, 0);
}

/* Two fused sums and an IEEE add of C: CUDA 13.0's SASS, and the rows of [KM]. The planes hold the k of the first sum, then
 * those of the second: see `place`. */
static uint64_t fp8_through_f16(const job *j, const element *e)
{
    uint64_t partial = 0;
    for (size_t start = e->start, stop; start < e->stop; start = stop) {
        stop = start + j->terms;
        int top = products(j, e, start, stop);
        partial = fused_sum(j, j->terms, top, specials(e, start, stop), &j->d, partial);
    }
    double x = to_double(j, &j->d, partial), y = to_double(j, e->c_format, e->c);
    if (j->d.row.frac_bits == 23)
        return from_double(j, (float)x + (float)y);
    return from_double(j, x + y);                       /* an exact sum, so the one rounding is from_double's */
}

/* FFMA over k, FADD of C (SASS). */
static uint64_t simt_f32(const job *j, const element *e)
{
    float total = 0;
    for (size_t i = e->start; i < e->stop; i++)
        total = fmaf((float)e->a->value[i], (float)e->b->value[i], total);
    return from_double(j, total + (float)to_double(j, e->c_format, e->c));
}

/* By pairs of k: FMUL, FFMA, FADD onto C; one conversion at the end (SASS). */
static uint64_t simt_f16(const job *j, const element *e)
{
    const double *a = e->a->value, *b = e->b->value;
    float total = (float)to_double(j, e->c_format, e->c);
    for (size_t i = e->start; i < e->stop; i += 2) {
        float pair = (float)a[i] * (float)b[i];
        total = fmaf((float)a[i + 1], (float)b[i + 1], pair) + total;
    }
    return from_double(j, total);
}

/* DFMA or FFMA over k ("a true fused multiply-add" [PTX]). */
static uint64_t fma_chain(const job *j, const element *e)
{
    if (j->d.row.frac_bits == 23) {
        float single = (float)to_double(j, e->c_format, e->c);
        for (size_t i = e->start; i < e->stop; i++)
            single = fmaf((float)e->a->value[i], (float)e->b->value[i], single);
        return from_double(j, single);
    }
    double total = to_double(j, e->c_format, e->c);
    for (size_t i = e->start; i < e->stop; i++)
        total = fma(e->a->value[i], e->b->value[i], total);
    return from_double(j, total);
}

/* --- integers ----------------------------------------------------------------------------------------------------- */

/* C plus the exact sum, wrapped or clamped once [PTX][TC5]. */
static uint64_t integer_result(const job *j, int64_t sum, const element *e)
{
    number c = decode(e->c_format, e->c);
    int bits = j->d.row.bits;
    int64_t max = (INT64_C(1) << (bits - !!j->d.row.is_signed)) - 1, min = j->d.row.is_signed ? -max - 1 : 0;
    sum += c.negative ? -(int64_t)c.sig : (int64_t)c.sig;
    if (j->row->saturate)
        sum = sum < min ? min : sum > max ? max : sum;
    return (uint64_t)sum & (UINT64_MAX >> (64 - bits));
}

static uint64_t integer(const job *j, const element *e)
{
    int64_t sum = 0;
    for (size_t i = e->start; i < e->stop; i++)
        sum += (int64_t)e->a->sig[i] * e->b->sig[i];
    return integer_result(j, sum, e);
}

static uint64_t xor_popc(const job *j, const element *e)
{
    int64_t sum = 0;
    for (size_t i = e->start; i < e->stop; i++)
        sum += e->a->sig[i] != e->b->sig[i];
    return integer_result(j, sum, e);
}

static uint64_t and_popc(const job *j, const element *e)
{
    int64_t sum = 0;
    for (size_t i = e->start; i < e->stop; i++)
        sum += e->a->sig[i] & e->b->sig[i];
    return integer_result(j, sum, e);
}

static uint64_t (*const METHODS[])(const job *, const element *) = {
    [EMU_METHOD_CHAIN] = chain, [EMU_METHOD_EXACT_GROUPS] = exact_groups, [EMU_METHOD_FP8_THROUGH_F16] = fp8_through_f16,
    [EMU_METHOD_SIMT_F32] = simt_f32, [EMU_METHOD_SIMT_F16] = simt_f16, [EMU_METHOD_FMA_CHAIN] = fma_chain,
    [EMU_METHOD_INTEGER] = integer, [EMU_METHOD_XOR_POPC] = xor_popc, [EMU_METHOD_AND_POPC] = and_popc,
};

/* --- which rows this file can do ---------------------------------------------------------------------------------- */

static int check_integer(const job *j)
{
    const emu_row *row = j->row;
    bool sign = row->method != EMU_METHOD_INTEGER && (row->a.is_signed || row->b.is_signed);    /* bits have none */
    if (row->a.is_float || row->b.is_float || row->c.is_float || row->d.is_float || sign)
        return EMU_BAD_ROW;
    bool fits = row->a.bits <= 31 && row->b.bits <= 31 && row->c.bits <= 32 && row->d.bits <= 32
             && row->a.bits + row->b.bits + bit_length((uint64_t)row->k) <= 62;
    return fits ? EMU_DONE : EMU_TOO_WIDE;
}

/* Exponent of the last bit of the smallest number. */
static int lowest(const format *f)
{
    return f->emin - f->row.frac_bits;
}

/* Does binary32 (frac 23, emax 127) or binary64 (52, 1023) hold every number of f? */
static bool held(const format *f, int frac, int emax)
{
    return f->row.frac_bits <= frac && f->emax <= emax && lowest(f) >= 1 - emax - frac;
}

static bool is_ieee(const format *f, int frac, int emax)
{
    return f->inf_code && f->sign && f->row.frac_bits == frac && f->emax == emax && f->emin == 1 - emax;
}

static int check_ieee(const job *j)
{
    const format *a = &j->a, *b = &j->b, *c = &j->c, *d = &j->d;
    bool all32 = held(a, 23, 127) && held(b, 23, 127) && held(c, 23, 127) && held(d, 23, 127);
    bool all64 = held(a, 52, 1023) && held(b, 52, 1023) && held(c, 52, 1023);
    int mode = j->row->rounding;
    bool fits = false;
    switch (j->row->method) {
    case EMU_METHOD_FP8_THROUGH_F16:        /* C is added in binary32, or as a binary16 without error in binary64 */
        fits = (is_ieee(d, 23, 127) && held(c, 23, 127)) || (is_ieee(d, 10, 15) && is_ieee(c, 10, 15));
        break;
    case EMU_METHOD_SIMT_F32: fits = all32 && is_ieee(d, 23, 127); break;
    case EMU_METHOD_SIMT_F16: fits = all32; break;
    case EMU_METHOD_FMA_CHAIN:
        fits = ((all64 && is_ieee(d, 52, 1023)) || (all32 && is_ieee(d, 23, 127)))
            && (mode == EMU_ROUND_RNE || (mode >= EMU_ROUND_RZ && mode <= EMU_ROUND_RU));
    }
    return fits && FLT_EVAL_METHOD == 0 ? EMU_DONE : EMU_NOT_IEEE;
}

/* Sets terms, lead and drop, and sees that nothing overflows: in units of the sum an addend is below 2^addend and C below
 * 2^(frac + 1), because neither claims more than the exponent that the sum is aligned to. */
static int check_fused(job *j)
{
    const emu_row *row = j->row;
    const format *a = &j->a, *b = &j->b, *scale = &j->scale;
    int terms = row->terms < row->k ? row->terms : row->k;
    terms = j->groups ? row->k / 16 : row->method == EMU_METHOD_FP8_THROUGH_F16 ? row->k / 2 : terms;
    int scale_bits = j->scaled ? 1 + scale->row.frac_bits : 0;
    int a_bits = 1 + a->row.frac_bits + scale_bits + (j->groups ? a->emax - a->emin : 0);
    int b_bits = 1 + b->row.frac_bits + scale_bits + (j->groups ? b->emax - b->emin : 0);
    int below = j->groups ? 2 * scale->row.frac_bits - lowest(a) - lowest(b) : a->row.frac_bits + b->row.frac_bits;
    int left = row->frac > below ? row->frac - below : 0;
    int addend = a_bits + b_bits + (j->groups ? 4 : 0) + left, widest = addend > row->frac + 1 ? addend : row->frac + 1;
    if (row->frac > 60 || row->floor < FLOOR || row->floor > -FLOOR || a_bits > 31 || b_bits > 31
            || widest + bit_length((uint64_t)terms) > 62)
        return EMU_TOO_WIDE;
    j->terms = (size_t)terms;
    j->lead = INT64_C(1) << left;
    j->drop = below > row->frac ? below - row->frac : 0;
    return EMU_DONE;
}

/* Fills in j; anything but EMU_DONE is why not. */
static int check(job *j, const emu_row *row, int64_t k)
{
    static const emu_format BINARY64 = {1, 64, 1, 11, 52, 1023, EMU_SPECIALS_IEEE, 0};
    static const int MULTIPLE[EMU_METHOD_AND_POPC + 1] = {      /* of which k must be one */
        [EMU_METHOD_EXACT_GROUPS] = 16, [EMU_METHOD_FP8_THROUGH_F16] = 4, [EMU_METHOD_SIMT_F16] = 2,
    };
    int how = row->method;
    *j = (job){.row = row, .k = (size_t)k};
    if (how < 0 || how > EMU_METHOD_AND_POPC || row->rounding < 0 || row->rounding > EMU_ROUND_SR || row->k < 1
        || (MULTIPLE[how] && row->k % MULTIPLE[how]) || !describe(&row->a, &j->a) || !describe(&row->b, &j->b)
        || !describe(&row->c, &j->c) || !describe(&row->d, &j->d))
        return EMU_BAD_ROW;
    if (k < 1 || k % row->k || k > PTRDIFF_MAX / 16)
        return EMU_BAD_SHAPE;
    if (how >= EMU_METHOD_INTEGER)
        return check_integer(j);

    describe(&BINARY64, &j->f64);
    j->ieee = how == EMU_METHOD_SIMT_F32 || how == EMU_METHOD_SIMT_F16 || how == EMU_METHOD_FMA_CHAIN;
    j->groups = how == EMU_METHOD_EXACT_GROUPS;
    j->scaled = j->groups || (how == EMU_METHOD_CHAIN && row->block);
    /* A result without fraction bits: its ties go to the even exponent, which `encode` here does not know. */
    if (!row->a.is_float || !row->b.is_float || !row->c.is_float || !row->d.is_float || !j->d.all_ones_nan
        || !row->d.frac_bits || (how == EMU_METHOD_CHAIN && !row->precision))
        return EMU_BAD_ROW;
    /* Groups: an infinite scale takes the sign of a group's sum, and the planes know the products only. */
    if (j->scaled && (row->block < 1 || row->k % row->block || !row->scale.is_float || !describe(&row->scale, &j->scale)
                      || (j->groups && (row->block % 16 || j->scale.inf_code))))
        return EMU_BAD_ROW;
    if (!j->ieee && (row->terms < 1 || row->frac < 0 || row->precision < 0))
        return EMU_BAD_ROW;
    int status = j->ieee || how == EMU_METHOD_FP8_THROUGH_F16 ? check_ieee(j) : EMU_DONE;
    return status || j->ieee ? status : check_fused(j);
}

/* --- planes, and the call ----------------------------------------------------------------------------------------- */

/* Where index i of k lies in the planes; fp8_through_f16 takes k mod 4 in {0, 1} first, then {2, 3}. */
static size_t place(const job *j, size_t i)
{
    if (j->row->method != EMU_METHOD_FP8_THROUGH_F16)
        return i;
    size_t k = (size_t)j->row->k, in = i % k;
    return i - in + (in & 2 ? k / 2 : 0) + in / 4 * 2 + (in & 1);
}

/* Row `which` of the codes, and of their scales, into planes. */
static void take_apart(const job *j, const format *f, const void *codes, const void *scales, size_t which, operand *to)
{
    size_t block = j->scaled ? (size_t)j->row->block : j->k;
    to->kinds = 0;
    for (size_t i = 0; i < j->k; i++) {
        uint64_t code = load(codes, f->bytes, which * j->k + i);
        if (j->ieee) {
            to->value[i] = to_double(j, f, code);
            continue;
        }
        number x = decode(f, code);
        int claim = f->row.frac_bits;
        if (j->groups && x.kind == FINITE) {
            x.sig <<= x.exp - lowest(f);
            x.exp = 0;
            claim = j->scale.row.frac_bits;
        }
        if (j->scaled)                      /* products commute: a scale may join its operand before its product */
            x = multiply(x, decode(&j->scale, load(scales, j->scale.bytes, which * (j->k / block) + i / block)));
        size_t at = place(j, i);
        to->sig[at] = x.negative ? -(int32_t)x.sig : (int32_t)x.sig;
        to->claim[at] = x.sig || j->groups ? x.exp + claim : NOTHING;
        to->kind[at] = x.kind;
        to->kinds |= x.kind;
    }
}

/* `count` operands and their planes in one piece of memory; NULL where there is none. */
static operand *operands(size_t count, size_t k)
{
    operand *all = malloc(count * (sizeof *all + k * (sizeof(double) + 1)));
    if (!all)
        return NULL;
    double *values = (double *)(all + count);
    for (size_t i = 0; i < count; i++) {
        int32_t *sig = (int32_t *)(values + i * k);
        all[i] = (operand){.sig = sig, .claim = sig + k, .value = values + i * k};
        all[i].kind = (uint8_t *)(values + count * k) + i * k;
    }
    return all;
}

int emu_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b,
             const void *c, const void *scale_a, const void *scale_b, void *d)
{
    static const int DIRECTIONS[] = {
        [EMU_ROUND_RNE] = FE_TONEAREST, [EMU_ROUND_RZ] = FE_TOWARDZERO,
        [EMU_ROUND_RD] = FE_DOWNWARD,   [EMU_ROUND_RU] = FE_UPWARD,
    };
    switch (row->method) {
    case EMU_METHOD_TWO_CHAINS: case EMU_METHOD_ODD_THEN_EVEN:
        return x86_dots(row, batch, m, n, k, a, b, c, d);
    case EMU_METHOD_EXACT_SUMS: case EMU_METHOD_FLUSHED_PAIRS: case EMU_METHOD_CUT_THEN_FLOOR: case EMU_METHOD_EVEN_AND_ODD:
        return amd_dots(row, batch, m, n, k, a, b, c, d);
    case EMU_METHOD_DIGIT_CHAIN: case EMU_METHOD_SUM_THEN_C:
        return gaudi_dots(row, batch, m, n, k, a, b, c, d);
    case EMU_METHOD_ODD_PAIRS: case EMU_METHOD_FUSED_PAIRS: case EMU_METHOD_SCALED_SUM: case EMU_METHOD_ARM_FMA:
    case EMU_METHOD_POWER_PAIRS: case EMU_METHOD_POWER_FMA:
        return documented_dots(row, batch, m, n, k, a, b, c, scale_a, scale_b, d);
    }
    job j;
    int status = check(&j, row, k);
    if (!status && (batch < 0 || m < 0 || n < 0 || (j.scaled && (!scale_a || !scale_b))))
        status = EMU_BAD_SHAPE;
    if (status || !batch || !m || !n)
        return status;

    /* Columns in panels whose planes stay in the cache; the rows of A are taken apart again for each panel. */
    size_t rows = (size_t)m, columns = (size_t)n, tile = (size_t)row->k, panel = j.k < 65536 ? 65536 / j.k : 1;
    panel = panel < columns ? panel : columns;
    operand *x = operands(1, j.k), *y = operands(panel, j.k);
    j.sig = malloc((j.terms + 1) * sizeof *j.sig);      /* 0 bytes might be NULL */
    j.claim = malloc((j.terms + 1) * sizeof *j.claim);
    if (!x || !y || !j.sig || !j.claim)
        status = EMU_NO_MEMORY;

    /* The IEEE steps round as their row says, whatever the caller's direction, traps and flushing of subnormals. The
     * compiler moves no step past these calls: each is behind a pointer to a function, and reads memory. */
    fenv_t kept;
    fegetenv(&kept);
    fesetenv(FE_DFL_ENV);
    if (row->method == EMU_METHOD_FMA_CHAIN)
        fesetround(DIRECTIONS[row->rounding]);

    for (size_t p = 0; !status && p < (size_t)batch; p++)
        for (size_t left = 0; left < columns; left += panel) {
            size_t width = columns - left < panel ? columns - left : panel;
            for (size_t col = 0; col < width; col++)
                take_apart(&j, &j.b, b, scale_b, p * columns + left + col, &y[col]);
            for (size_t i = p * rows; i < (p + 1) * rows; i++) {
                take_apart(&j, &j.a, a, scale_a, i, x);
                for (size_t col = 0; col < width; col++) {
                    size_t at = i * columns + left + col;
                    element e = {.a = x, .b = &y[col], .stop = tile, .c_format = &j.c, .c = load(c, j.c.bytes, at)};
                    for (; e.start < j.k; e.start = e.stop, e.stop += tile, e.c_format = &j.d)
                        e.c = METHODS[row->method](&j, &e);
                    store(d, j.d.bytes, at, e.c);
                }
            }
        }
    fesetenv(&kept);
    free(x);
    free(y);
    free(j.sig);
    free(j.claim);
    return status;
}

/* --- about the library -------------------------------------------------------------------------------------------- */

int emu_version(void) { return EMU_VERSION; }

const char *emu_parts(void)
{
    return "portable"
#ifdef EMU_AVX2
           " avx2"
#endif
#ifdef EMU_AVX512
           " avx512"
#endif
#ifdef EMU_AVX512FP16
           " avx512fp16"
#endif
#ifdef EMU_LIVE
           " live"
#endif
        ;
}

const char *emu_why(int status)
{
    switch (status) {
    case EMU_DONE: return "done";
    case EMU_NO_MEMORY: return "there is not enough memory";
    case EMU_BAD_SHAPE: return "k is no multiple of the row's k, a size is negative, or scales are missing";
    case EMU_BAD_ROW: return "its numbers describe no instruction, or D has no NaN or no fraction, or a format has too many bits";
    case EMU_TOO_WIDE: return "its operands need more than 31 bits, or its sums more than 62";
    case EMU_NOT_IEEE: return "its IEEE steps are in a format or a rounding that this computer does not have";
    case EMU_BAD_ISA: return "the instruction sets are portable, avx2, avx512 and avx512fp16 (EMULATOR_ISA)";
    case EMU_NOT_HERE: return "this CPU has no such instruction, or the library was compiled without it";
    default: return "for no known reason";
    }
}
