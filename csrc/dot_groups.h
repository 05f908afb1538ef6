/* What the methods of AMD and Gaudi share: K in groups, C and D binary32, operands taken apart once per row into planes. */
#ifndef EMU_DOT_GROUPS_H
#define EMU_DOT_GROUPS_H

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "dot.h"

#ifdef __FAST_MATH__
#error "-ffast-math would change the IEEE steps"
#endif

enum { NOTHING = -(1 << 20) };          /* the exponent of a zero: with any other added to it, still below all others */
enum { MOST = 64 };                     /* terms of a group */
enum { PLUS_INF = 1, MINUS_INF = 2, INVALID = 4 };

typedef struct {            /* one row of A or one column of B */
    _Alignas(double)        /* planes follow operands in memory */
    int32_t *sig, *claim;   /* the signed significand, and the exponent of its hidden bit */
    float *value;           /* the number, where a method reads it */
    uint8_t *kind, kinds;   /* kinds: all of the row or-ed */
} plane;

typedef struct job job;
struct job {
    const emu_row *row;
    format a, b, d;
    size_t k, terms;        /* k of the call: a multiple of row->k */
    int product_frac;
    /* What the group of k = start..stop-1 makes of the code of C. */
    uint32_t (*group)(const job *, const plane *a, const plane *b, size_t start, size_t stop, uint32_t c);
    /* Element i of a plane, and C as it comes into an instruction. */
    void (*enter)(const job *, const format *, number, plane *, size_t i);
    uint32_t (*enter_c)(uint32_t);
};

static inline int64_t floor_shift(int64_t x, int right)
{
    right = right < 63 ? right : 63;
    return x < 0 ? ~(~x >> right) : x >> right;
}

static inline uint64_t magnitude_of(int64_t x)
{
    return (uint64_t)(x < 0 ? -x : x);
}

static inline uint32_t nearest(const job *j, int64_t sig, int exp)
{
    number x = {magnitude_of(sig), exp, sig < 0, FINITE};
    return (uint32_t)encode(&j->d, x, EMU_ROUND_RNE, EMU_OVERFLOW_INFINITY, 23, 0, 0);
}

/* --- infinities and NaN, which are decided first ------------------------------------------------------------------- */

/* Those among the products of k = start..stop-1; one of 2^(emax + 1) or more is infinite if `in_range` says so. */
static inline unsigned specials(const job *j, const plane *a, const plane *b, size_t start, size_t stop, bool in_range)
{
    unsigned seen = 0;
    for (size_t i = start; i < stop; i++) {
        int kind = a->kind[i] | b->kind[i];
        bool negative = (a->sig[i] < 0) != (b->sig[i] < 0);
        uint64_t sig = magnitude_of((int64_t)a->sig[i] * b->sig[i]);
        if (kind & NOT_A_NUMBER || (kind && !sig))
            return INVALID;
        if (kind || (in_range && sig && bit_length(sig) - 1 + a->claim[i] + b->claim[i] - j->product_frac > j->d.emax))
            seen |= negative ? MINUS_INF : PLUS_INF;
    }
    return seen;
}

static inline unsigned special(const job *j, uint32_t c)
{
    uint64_t magnitude = c & j->d.magnitude;
    return magnitude <= j->d.max_code ? 0 : magnitude > j->d.inf_code ? INVALID : c & j->d.sign ? MINUS_INF : PLUS_INF;
}

static inline uint32_t special_code(const job *j, unsigned seen)
{
    if (seen != PLUS_INF && seen != MINUS_INF)
        return (uint32_t)j->d.all_ones_nan;
    return (uint32_t)(j->d.inf_code | (seen == MINUS_INF ? j->d.sign : 0));
}

/* --- rows, planes, and the call ------------------------------------------------------------------------------------ */

/* Fills in j; anything but EMU_DONE is why not. */
static inline int describe_groups(job *j, const emu_row *row, int64_t k)
{
    static const emu_format BINARY32 = {1, 32, 1, 8, 23, 127, EMU_SPECIALS_IEEE, 0};
    *j = (job){.row = row, .k = (size_t)k};
    if (row->k < 1 || row->terms < 1 || !row->a.is_float || !row->b.is_float || !describe(&row->a, &j->a)
        || !describe(&row->b, &j->b) || !describe(&row->d, &j->d))
        return EMU_BAD_ROW;
    if (memcmp(&row->c, &BINARY32, sizeof BINARY32) || memcmp(&row->d, &BINARY32, sizeof BINARY32) || FLT_EVAL_METHOD != 0)
        return EMU_NOT_IEEE;
    if (k < 1 || k % row->k || k > PTRDIFF_MAX / 16)
        return EMU_BAD_SHAPE;
    j->terms = (size_t)(row->terms < row->k ? row->terms : row->k);
    j->product_frac = j->a.row.frac_bits + j->b.row.frac_bits;
    int low = j->a.emin + j->b.emin - j->product_frac, high = j->a.emax + j->b.emax;
    return row->a.frac_bits <= 23 && row->b.frac_bits <= 23 && low > -450 && high < 450 && j->terms <= MOST ? EMU_DONE
                                                                                                        : EMU_TOO_WIDE;
}

static inline void take_row_apart(const job *j, const format *f, const void *codes, size_t which, plane *to)
{
    to->kinds = 0;
    for (size_t i = 0; i < j->k; i++) {
        number x = decode(f, load(codes, f->bytes, which * j->k + i));
        to->kind[i] = x.kind;
        to->kinds |= x.kind;
        j->enter(j, f, x, to, i);
    }
}

/* `count` planes in one piece of memory; NULL where there is none. */
static inline plane *planes(size_t count, size_t k)
{
    plane *all = malloc(count * (sizeof *all + k * 13));
    if (!all)
        return NULL;
    int32_t *at = (int32_t *)(all + count);
    for (size_t i = 0; i < count; i++, at += 3 * k)
        all[i] = (plane){.sig = at, .claim = at + k, .value = (float *)(at + 2 * k)};
    for (size_t i = 0; i < count; i++)
        all[i].kind = (uint8_t *)at + i * k;
    return all;
}

static inline int run_groups(const job *j, int64_t batch, int64_t m, int64_t n, const void *a, const void *b, const void *c,
                             void *d)
{
    if (batch < 0 || m < 0 || n < 0)
        return EMU_BAD_SHAPE;
    if (!batch || !m || !n)
        return EMU_DONE;
    size_t rows = (size_t)m, columns = (size_t)n, tile = (size_t)j->row->k, panel = j->k < 65536 ? 65536 / j->k : 1;
    panel = panel < columns ? panel : columns;
    plane *x = planes(1, j->k), *y = planes(panel, j->k);
    int status = x && y ? EMU_DONE : EMU_NO_MEMORY;
    fenv_t kept;                                        /* as in emu_dots */
    fegetenv(&kept);
    fesetenv(FE_DFL_ENV);
    for (size_t p = 0; !status && p < (size_t)batch; p++)
        for (size_t left = 0; left < columns; left += panel) {
            size_t width = columns - left < panel ? columns - left : panel;
            for (size_t col = 0; col < width; col++)
                take_row_apart(j, &j->b, b, p * columns + left + col, &y[col]);
            for (size_t i = p * rows; i < (p + 1) * rows; i++) {
                take_row_apart(j, &j->a, a, i, x);
                for (size_t col = 0; col < width; col++) {
                    size_t at = i * columns + left + col;
                    uint32_t code = (uint32_t)load(c, 4, at);
                    for (size_t first = 0; first < j->k; first += tile) {
                        code = j->enter_c ? j->enter_c(code) : code;
                        for (size_t start = first, stop; start < first + tile; start = stop) {
                            stop = first + tile - start < j->terms ? first + tile : start + j->terms;
                            code = j->group(j, x, &y[col], start, stop, code);
                        }
                    }
                    store(d, 4, at, code);
                }
            }
        }
    fesetenv(&kept);
    free(x);
    free(y);
    return status;
}

#endif
