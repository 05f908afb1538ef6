/* A whole matrix product: operands taken apart once into planes, tiles that stay in the cache, and for each tile the kernel
 * that is exact for it, or emu_dots. See matmul.h for the planes and matmul_lanes.h for the kernels. */
#include <fenv.h>
#include <math.h>
#include <stdlib.h>

#include "isa.h"
#include "matmul.h"
#include "number.h"
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

enum { COLUMNS = 1024 };                        /* of N taken apart at a time: with CHUNK of K some 3 MiB */
enum { FEW = 4 };                               /* rows or columns redone one by one; of more, the whole tile */

/* What the kernels do with a row: matmul_lanes.h has a section for each. */
enum kind { SLOW, CHAIN, THROUGH_F16, INTEGERS, GROUPS, FUSED };

typedef struct {            /* one call */
    const emu_row *row;
    format a, b, c, d, scale;
    const emu_matrix *from_a, *from_b, *from_c, *scale_a, *scale_b, *to;
    size_t m, n, k;
    size_t deep;            /* k in whole instructions */
    size_t chunk, columns;  /* the most taken apart at a time; chunk is a multiple of row->k */
    size_t width;           /* of a tile */
    size_t terms;           /* elements of k that lie together in the planes of A */
    enum kind kind;
    bool half;              /* the sums are F16 */
    bool narrow;            /* the operands are narrowed to halves */
    bool whole;             /* the products of a sum fit in a float, in units of the smallest */
    bool pairs;             /* D is (1, n), and each column has a row of A of its own: A is (n, k) */
    const kernels *with;
    /* planes and scratch */
    reader read_a, read_b;
    float *a_value, *b_value, *sums, *part;
    unsigned char *a_plain, *b_plain, *sum_plain;   /* FUSED: numbers as they came */
    blocks a_block, b_block;
    uint32_t *a_claim, *codes;
    int32_t *scales;
    uint8_t *b_claim;
    uint16_t *a_half, *b_half;
    unsigned char *old, *slow_a, *slow_b, *slow_c, *slow_d, *slow_sa, *slow_sb, *memory;
    panel *panels;
} product;

/* --- codes in memory ----------------------------------------------------------------------------------------------- */

static unsigned char *place(const emu_matrix *x, size_t i, size_t j)
{
    return (unsigned char *)x->codes + (int64_t)i * x->down + (int64_t)j * x->across;
}

/* Columns of up to RUN codes from `from` on: the codes of row r to to[r], one for each column. */
#define TURN(type, stride, rows) \
    for (size_t s = 0; s < columns; s++, from += x->across) \
        for (size_t r = 0; r < (rows); r++) { \
            type code; \
            memcpy(&code, from + (int64_t)r * (stride), sizeof code); \
            to[r][s] = code; \
        }
static void turn(const unsigned char *from, const emu_matrix *x, int width, size_t columns, size_t count, uint32_t *const *to)
{
    if (width == 1 && x->down == 1 && count == RUN)
        TURN(uint8_t, 1, RUN)
    else if (width == 2 && x->down == 2 && count == RUN)
        TURN(uint16_t, 2, RUN)
    else if (width == 1)
        TURN(uint8_t, x->down, count)
    else if (width == 2)
        TURN(uint16_t, x->down, count)
    else
        TURN(uint32_t, x->down, count)
}

/* A rectangle of codes, made contiguous row by row; what lies beyond the matrix is zero. */
static void gather(const emu_matrix *x, size_t i, size_t rows, size_t j, size_t columns, size_t limit, int width,
                   unsigned char *to)
{
    size_t there = j >= limit ? 0 : limit - j < columns ? limit - j : columns, size = (size_t)width;
    for (size_t r = 0; r < rows; r++, to += columns * size) {
        memset(to + there * size, 0, (columns - there) * size);
        if (x->across == width)
            memcpy(to, place(x, i + r, j), there * size);
        else
            for (size_t s = 0; s < there; s++)
                memcpy(to + s * size, place(x, i + r, j + s), size);
    }
}

/* A line of contiguous codes, put into row i from column j on. */
static void scatter(const void *codes, int width, size_t count, const emu_matrix *to, size_t i, size_t j)
{
    size_t size = (size_t)width;
    if (to->across == width)
        memcpy(place(to, i, j), codes, count * size);
    else
        for (size_t s = 0; s < count; s++)
            memcpy(place(to, i, j + s), (const unsigned char *)codes + s * size, size);
}

static emu_matrix transposed(const emu_matrix *x)
{
    return (emu_matrix){x->codes, 0, x->across, x->down};
}

/* --- the exact way ------------------------------------------------------------------------------------------------- */

/* Rows i.. and columns j.. over k.. through emu_dots. `old` is their C, contiguous codes `stride` to a row. */
static int redo(const product *p, size_t i, size_t rows, size_t j, size_t columns, size_t k, size_t depth,
                const unsigned char *old, size_t stride)
{
    emu_matrix b = transposed(p->from_b);
    size_t size = (size_t)p->d.bytes, c_size = (size_t)(k ? p->d : p->c).bytes;
    size_t first = p->pairs ? j : i, lines = p->pairs ? columns : rows;
    gather(p->from_a, first, lines, k, depth, p->k, p->a.bytes, p->slow_a);
    gather(&b, j, columns, k, depth, p->k, p->b.bytes, p->slow_b);
    if (p->slow_sa) {
        size_t block = (size_t)p->row->block, all = (p->k + block - 1) / block;
        emu_matrix scale_b = transposed(p->scale_b);
        gather(p->scale_a, first, lines, k / block, depth / block, all, p->scale.bytes, p->slow_sa);
        gather(&scale_b, j, columns, k / block, depth / block, all, p->scale.bytes, p->slow_sb);
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(p->slow_c + r * columns * c_size, old + r * stride * c_size, columns * c_size);
    int64_t batch = p->pairs ? (int64_t)columns : 1, m = (int64_t)rows, n = p->pairs ? 1 : (int64_t)columns;
    int status = emu_dots(p->row, batch, m, n, (int64_t)depth, p->slow_a, p->slow_b, p->slow_c, p->slow_sa, p->slow_sb,
                          p->slow_d);
    for (size_t r = 0; !status && r < rows; r++)
        scatter(p->slow_d + r * columns * size, p->d.bytes, columns, p->to, i + r, j);
    return status;
}

/* --- operands into planes ------------------------------------------------------------------------------------------ */

static reader reader_of(const format *f, bool scaled)
{
    if (!f->row.is_float)
        return (reader){.integer = f->row.is_signed ? -1 : 1, .move = f->row.bits};
    return (reader){
        .magnitude = (uint32_t)f->magnitude, .sign = (uint32_t)f->sign, .most = (uint32_t)f->max_code,
        .nan = f->row.specials == EMU_SPECIALS_FNUZ ? (uint32_t)f->sign : UINT32_MAX,
        .smallest = f->row.bias == 127 ? UINT32_C(1) << f->row.frac_bits : 0,
        .rebias = (uint32_t)(127 - f->row.bias) << 23, .pad = f->row.low_pad, .move = 23 - f->row.frac_bits,
        .sign_up = f->sign ? 32 - bit_length(f->sign) : 0, .scaled = scaled,
    };
}

/* What is left of `depth` elements from k on. */
static size_t within(const product *p, size_t k, size_t depth)
{
    return k >= p->k ? 0 : p->k - k < depth ? p->k - k : depth;
}

/* Where index i of k lies in the planes: exact.fp8_through_f16 sums k mod 4 in {0, 1} first. */
static size_t spot(const product *p, size_t i)
{
    size_t k = (size_t)p->row->k, in = i % k;
    return p->kind == THROUGH_F16 ? i - in + (in & 2 ? k / 2 : 0) + in / 4 * 2 + (in & 1) : i;
}

/* Lines of A: [line][CODES(depth)]. */
static void read_a(const product *p, size_t i, size_t rows, size_t k, size_t depth)
{
    size_t there = within(p, k, depth), room = CODES(depth);
    uint32_t line[CHUNK];
    for (size_t r = 0; r < rows; r++) {
        uint32_t *to = p->codes + r * room;
        bool moved = p->kind == THROUGH_F16;
        p->with->read_line(place(p->from_a, i + r, k), p->from_a->across, p->a.bytes, there, moved ? line : to);
        memset(moved ? to : to + there, 0, (moved ? room : room - there) * sizeof *to);
        for (size_t at = 0; moved && at < there; at++)
            to[spot(p, at)] = line[at];
    }
}

/* Lines of B: [depth][width]. */
static void read_b(const product *p, size_t j, size_t columns, size_t k, size_t depth)
{
    size_t width = p->width, there = within(p, k, depth);
    const emu_matrix *b = p->from_b;
    if (columns < width || there < depth)
        memset(p->codes, 0, width * depth * sizeof *p->codes);
    if (b->down < b->across) {                  /* columns lie together: in steps, for the cache's sake */
        for (size_t at = 0; at < there; at += RUN) {
            size_t count = there - at < RUN ? there - at : RUN;
            uint32_t *to[RUN];
            for (size_t r = 0; r < count; r++)
                to[r] = p->codes + spot(p, at + r) * width;
            turn(place(b, k + at, j), b, p->b.bytes, columns, count, to);
        }
        return;
    }
    for (size_t r = 0; r < there; r++)
        p->with->read_line(place(b, k + r, j), b->across, p->b.bytes, columns, p->codes + spot(p, r) * width);
}

/* The scale of line `line` for element k; missing ones are finite. */
static number scale_of(const product *p, const emu_matrix *scales, size_t line, size_t k)
{
    return decode(&p->scale, k < p->k ? *place(scales, line, k / (size_t)p->row->block) : 0);
}

static void fill_scales(const product *p, const emu_matrix *scales, size_t line, size_t k, size_t depth, int32_t *to,
                        size_t stride)
{
    size_t block = (size_t)p->row->block;
    for (size_t at = 0; at < depth; at += block) {
        number scale = scale_of(p, scales, line, k + at);
        for (size_t i = at; i < at + block; i++)
            to[i * stride] = scale.kind ? NAN_SCALE : scale.exp;
    }
}

/* The groups of 16 of one line of A or B, whose codes are `step` apart; true if a scale is NaN. */
static bool take_blocks(const product *p, const emu_matrix *scales, const format *f, size_t line, size_t k, size_t depth,
                        const uint32_t *codes, size_t step, const blocks *to, size_t at, size_t stride)
{
    bool bad = false;
    for (size_t start = 0; start < depth; start += RUN, at += stride) {
        number scale = scale_of(p, scales, line, k + start);
        uint32_t some = 0;
        for (size_t i = 0; i < RUN; i++)
            some |= (uint32_t)((codes[(start + i) * step] & f->magnitude) != 0) << i;
        bad |= scale.kind != FINITE;
        to->scale[at] = ldexp((double)scale.sig, scale.exp);
        to->claim[at] = scale.exp + p->scale.row.frac_bits;
        to->some[at] = scale.sig ? some : 0;
    }
    return bad;
}

static panel take_a(const product *p, size_t i, size_t rows, size_t k, size_t depth)
{
    if (p->kind == FUSED) {
        gather(p->from_a, i, rows, k, depth, p->k, p->a.bytes, p->a_plain);
        return (panel){0};
    }
    read_a(p, i, rows, k, depth);
    for (size_t r = 0; p->read_a.scaled && r < rows; r++) {
        memset(p->scales + r * CODES(depth), 0, CODES(depth) * sizeof *p->scales);
        fill_scales(p, p->scale_a, i + r, k, depth, p->scales + r * CODES(depth), 1);
    }
    /* A group whose significands of A add up to no more than this is not hot: those of B are below 2, and C, aligned, is
     * below 2 * 2^frac, so the sum is below (2 * limit + 2) * 2^frac = 2^31. */
    int limit = p->row->frac <= 22 ? 1 << 8 : p->row->frac <= 30 ? (1 << (30 - p->row->frac)) - 1 : 0;
    panel to = p->with->take_a(&p->read_a, (int)rows, (int)depth, (int)p->terms, limit, p->codes, p->scales, p->a_value,
                               p->a_claim);
    if (p->narrow)
        p->with->narrow_a(p->a_value, (int)(ROWS * depth), to.top, p->a_half);
    for (size_t r = 0; p->kind == GROUPS && r < rows; r++)
        to.redo |= (uint64_t)take_blocks(p, p->scale_a, &p->a, i + r, k, depth, p->codes + r * CODES(depth), 1,
                                         &p->a_block, r, ROWS) << r;
    return to;
}

static panel take_b(const product *p, size_t j, size_t columns, size_t k, size_t depth)
{
    size_t from = j % p->columns, width = p->width;
    emu_matrix scales = p->row->block ? transposed(p->scale_b) : (emu_matrix){0};
    if (p->kind == FUSED) {
        size_t size = (size_t)p->b.bytes, there = within(p, k, depth);
        unsigned char *to = p->b_plain + from * p->chunk * size;
        gather(p->from_b, k, there, j, width, p->n, p->b.bytes, to);
        memset(to + there * width * size, 0, (depth - there) * width * size);
        return (panel){0};
    }
    read_b(p, j, columns, k, depth);
    if (p->read_b.scaled)
        memset(p->scales, 0, width * depth * sizeof *p->scales);
    for (size_t s = 0; p->read_b.scaled && s < columns; s++)
        fill_scales(p, &scales, j + s, k, depth, p->scales + s, width);
    panel to = p->with->take_b(&p->read_b, (int)depth, p->codes, p->scales, p->b_value + from * p->chunk,
                               p->b_claim + from * p->chunk);
    if (p->narrow)
        p->with->narrow_b(p->b_value + from * p->chunk, (int)depth, to.top, p->b_half + from * p->chunk);
    if (p->kind == GROUPS) {
        size_t at = from / width * (p->chunk / RUN) * width;
        memset(p->b_block.some + at, 0, depth / RUN * width * sizeof *p->b_block.some);
        memset(p->b_block.scale + at, 0, depth / RUN * width * sizeof *p->b_block.scale);
        memset(p->b_block.claim + at, 0, depth / RUN * width * sizeof *p->b_block.claim);
        for (size_t s = 0; s < columns; s++)
            to.redo |= (uint64_t)take_blocks(p, &scales, &p->b, j + s, k, depth, p->codes + s, width, &p->b_block, at + s,
                                             width) << s;
    }
    return to;
}

/* --- a tile -------------------------------------------------------------------------------------------------------- */

/* The rounding direction, and whether subnormals are flushed. Put back by `leave`. */
#ifdef __SSE2__
typedef unsigned environment;
static environment enter(int mode, bool flush)
{
    static const unsigned DIRECTIONS[] = {
        [EMU_ROUND_RNE] = _MM_ROUND_NEAREST, [EMU_ROUND_RZ] = _MM_ROUND_TOWARD_ZERO,
        [EMU_ROUND_RD] = _MM_ROUND_DOWN,     [EMU_ROUND_RU] = _MM_ROUND_UP,
    };
    environment kept = _mm_getcsr();
    _mm_setcsr(_MM_MASK_MASK | DIRECTIONS[mode] | (flush ? 0x8040 : 0));
    return kept;
}
static void leave(environment kept) { _mm_setcsr(kept); }
#else                                           /* flushing is for speed alone */
typedef fenv_t environment;
static environment enter(int mode, bool flush)
{
    static const int DIRECTIONS[] = {
        [EMU_ROUND_RNE] = FE_TONEAREST, [EMU_ROUND_RZ] = FE_TOWARDZERO,
        [EMU_ROUND_RD] = FE_DOWNWARD,   [EMU_ROUND_RU] = FE_UPWARD,
    };
    environment kept;
    (void)flush;
    fegetenv(&kept);
    fesetenv(FE_DFL_ENV);
    fesetround(DIRECTIONS[mode]);
    return kept;
}
static void leave(environment kept) { fesetenv(&kept); }
#endif

static inline float as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline uint32_t as_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static float from_half(uint32_t code)
{
    uint32_t size = code & 0x7fff, sign = (code & 0x8000) << 16;
    float x = size < 0x400 ? (float)size * 0x1p-24f : as_float((size << 13) + (112u << 23));
    return as_float(as_bits(x) | sign);
}

static uint32_t to_half(float x)                /* which is a number of float16 */
{
    uint32_t size = as_bits(x) & 0x7fffffff, sign = as_bits(x) >> 16 & 0x8000;
    return size ? sign | (size < 113u << 23 ? (uint32_t)(as_float(size) * 0x1p24f) : (size >> 13) - (112u << 10)) : 0;
}

/* C into floats; the rows (of pairs, the columns) in which some C is not zero and not in least <= |C| < most, all as
 * codes. */
static uint64_t load_sums(const product *p, const tile *t, size_t rows, size_t columns, uint32_t least, uint32_t most)
{
    uint64_t bad = 0;
    if (t->fresh) {
        memset(p->sums, 0, rows * p->width * sizeof *p->sums);
        return 0;
    }
    for (size_t r = 0; r < rows; r++) {
        float *sums = p->sums + r * p->width;
        memset(sums + columns, 0, (p->width - columns) * sizeof *sums);
        const unsigned char *old = p->old + r * columns * (size_t)p->d.bytes;
        uint32_t codes[WIDEST], mask = p->half ? 0x7fff : 0x7fffffff, any = 0;
        p->with->read_line(old, p->d.bytes, p->d.bytes, columns, codes);
        for (size_t s = 0; s < columns; s++) {
            uint32_t size = codes[s] & mask, out = (size - least >= most - least) & (size != 0);
            any |= out;
            if (p->pairs)
                bad |= (uint64_t)out << s;
        }
        if (!p->pairs)
            bad |= (uint64_t)any << r;
        if (p->half)
            for (size_t s = 0; s < columns; s++)
                sums[s] = from_half(codes[s]);
        else
            memcpy(sums, codes, columns * sizeof *sums);
    }
    return bad;
}

/* The sums into D. With fewer than 23 fraction bits the adder has cut C to as many before each sum, since E is at least
 * C's exponent; so only the last one is still to be cut. */
static void store_sums(const product *p, size_t i, size_t rows, size_t j, size_t columns)
{
    uint32_t keep = p->kind == CHAIN && !p->half ? UINT32_MAX << (23 - p->row->precision) : UINT32_MAX;
    for (size_t r = 0; r < rows; r++) {
        float *sums = p->sums + r * p->width;
        uint16_t two[WIDEST];
        for (size_t s = 0; s < columns && keep != UINT32_MAX; s++)
            sums[s] = as_float(as_bits(sums[s]) & keep);
        for (size_t s = 0; s < columns && p->half; s++)
            two[s] = (uint16_t)to_half(sums[s]);
        scatter(p->half ? (void *)two : sums, p->d.bytes, columns, p->to, i + r, j);
    }
}

static int log2_up(size_t x)
{
    return bit_length(x - 1);
}

static void do_fused(const product *p, size_t at, size_t i, size_t rows, size_t j, size_t columns, size_t depth)
{
    size_t size = (size_t)p->d.bytes, line = p->width * size;
    memset(p->sum_plain, 0, ROWS * line);
    for (size_t r = 0; r < rows; r++)
        memcpy(p->sum_plain + r * line, p->old + r * columns * size, columns * size);
    environment kept = enter(p->row->rounding, false);
    (size == 4 ? p->with->fused_floats : p->with->fused_doubles)(p->a_plain, p->b_plain + at * size, p->sum_plain,
                                                                 (int)rows, (int)depth);
    leave(kept);
    for (size_t r = 0; r < rows; r++) {
        unsigned char *sums = p->sum_plain + r * line;
        for (size_t s = 0; s < columns; s++) {
            uint64_t wide;
            uint32_t code;
            memcpy(&wide, sums + s * size, size);
            memcpy(&code, sums + s * size, sizeof code);
            if ((size == 4 ? code & p->d.magnitude : wide & p->d.magnitude) > p->d.inf_code) {
                code = (uint32_t)p->d.all_ones_nan;
                memcpy(sums + s * size, size == 4 ? (void *)&code : (void *)&p->d.all_ones_nan, size);
            }
        }
        scatter(sums, p->d.bytes, columns, p->to, i + r, j);
    }
}

/* exact.fp8_through_f16, one instruction after another: two sums from zero, then C is added. Nothing is subnormal: C is at
 * least 2^low and so a multiple of 2^(low - 23), the sums of 2^(low + 24) (see matmul_lanes.h), and low >= -101. */
static bool through_f16(const product *p, tile t)
{
    bool (*chain)(const tile *) = p->pairs ? p->half ? p->with->pairs_half : p->with->pairs_chain
                                           : p->half ? p->with->chain_half : p->with->chain_hot;
    tile two = t;
    bool bad = false;
    two.c = p->part;
    two.groups = 2;
    for (; two.first < t.groups; two.first += 2) {
        memset(p->part, 0, ROWS * p->width * sizeof *p->part);
        environment kept = enter(EMU_ROUND_RZ, true);
        bad |= chain(&two);
        leave(kept);
        kept = enter(EMU_ROUND_RNE, true);
        bad |= p->with->add(&t, p->part, p->half);
        leave(kept);
    }
    return bad;
}

/* The kernel for a tile whose C is in `old`: false if it is not exact there. Rows that it does not do are in *redo. */
static bool do_fast(const product *p, tile t, const panel *a, const panel *b, size_t rows, size_t columns, size_t depth,
                    uint64_t *redo)
{
    bool bad;
    environment kept;
    *redo = a->redo;
    if (p->kind == INTEGERS) {
        load_sums(p, &t, rows, columns, 0, UINT32_MAX);
        (p->pairs ? p->with->pairs_integers : p->with->integers)(&t);
        return true;
    }
    if (p->kind == GROUPS) {
        *redo |= load_sums(p, &t, rows, columns, 0, 0x7f800000);
        kept = enter(EMU_ROUND_RZ, false);
        bad = (p->pairs ? p->with->pairs_groups : p->with->groups)(&t);
        leave(kept);
        return !bad;
    }
    int frac = p->row->frac, top = a->top + b->top;
    t.tops = top;
    t.clear = CLEAR;
    t.low = top - 254 + CLEAR;
    if (t.low < frac - 126) {
        t.clear += frac - 126 - t.low;
        t.low = frac - 126;
    }
    /* Each is a condition named in matmul_lanes.h: room in the byte; a nonzero sum is at least 2^low; no sum reaches
     * 2^126 + depth * 2^(top + 2) <= 2^127; the floor of F16 is not below low. */
    if (t.clear > 255 || a->least + b->least < t.low + frac || top + 2 + log2_up(depth) > 126
        || (p->half && t.low > p->row->floor))
        return false;
    *redo |= p->half ? load_sums(p, &t, rows, columns, 0, 0x7c00)
                     : load_sums(p, &t, rows, columns, (uint32_t)(t.low + 127) << 23, (126 + 127u) << 23);
    if (p->kind == THROUGH_F16)
        return !through_f16(p, t);
    if (p->whole) {
        t.lowest = p->a.emin - p->a.row.frac_bits + p->b.emin - p->b.row.frac_bits;
        kept = enter(EMU_ROUND_RZ, true);
        bad = p->with->chain_whole(&t);
        leave(kept);
        if (!bad)
            return true;
        load_sums(p, &t, rows, columns, 0, UINT32_MAX);
    }
    bool (*chain)(const tile *) = a->hot ? p->with->chain_hot : p->with->chain;
    chain = p->narrow ? p->with->chain_narrow : p->half ? p->with->chain_half : chain;
    chain = !p->pairs ? chain : p->half ? p->with->pairs_half : p->with->pairs_chain;
    kept = enter(EMU_ROUND_RZ, true);
    bad = chain(&t);
    leave(kept);
    return !bad;
}

/* Rows i.. and columns j.. over a chunk of K. */
static int do_tile(const product *p, const panel *a, size_t i, size_t rows, size_t j, size_t columns, size_t k,
                   size_t depth)
{
    const emu_matrix *from = k ? p->to : p->from_c;
    size_t size = (size_t)(k ? p->d : p->c).bytes, at = j % p->columns * p->chunk;
    const panel *b = p->panels + j % p->columns / p->width;
    if (from)
        gather(from, i, rows, j, columns, p->n, (int)size, p->old);
    else
        memset(p->old, 0, rows * columns * size);
    if (p->kind == FUSED)
        return do_fused(p, at, i, rows, j, columns, depth), EMU_DONE;
    if (p->kind == SLOW)
        return redo(p, i, rows, j, columns, k, depth, p->old, columns);

    uint64_t bad_rows, bad_columns = b->redo;
    tile t = {.a = p->a_value, .a_claim = p->a_claim, .b = p->b_value + at, .b_claim = p->b_claim + at, .c = p->sums,
              .a_half = p->a_half, .b_half = p->narrow ? p->b_half + at : NULL,
              .rows = (int)rows, .groups = (int)(depth / p->terms), .terms = (int)p->terms, .frac = p->row->frac,
              .floor = p->row->floor, .emin = p->d.emin, .saturate = p->row->saturate, .fresh = !from};
    if (p->kind == GROUPS) {
        t.terms = p->row->k / RUN;
        t.groups = (int)(depth / (size_t)p->row->k);
        t.a_block = p->a_block;
        t.b_block = (blocks){p->b_block.scale + at / RUN, p->b_block.claim + at / RUN, p->b_block.some + at / RUN};
    }
    bool done = do_fast(p, t, a, b, rows, columns, depth, &bad_rows);
    if (p->pairs) {
        bad_columns |= bad_rows;
        bad_rows = 0;
    }
    if (!done || __builtin_popcountll(bad_rows) > FEW || __builtin_popcountll(bad_columns) > FEW)
        return redo(p, i, rows, j, columns, k, depth, p->old, columns);
    store_sums(p, i, rows, j, columns);
    int status = EMU_DONE;
    for (size_t r = 0; !status && r < rows; r++)
        if (bad_rows >> r & 1)
            status = redo(p, i + r, 1, j, columns, k, depth, p->old + r * columns * size, columns);
    for (size_t s = 0; !status && s < columns; s++)
        if (bad_columns >> s & 1)
            status = redo(p, i, rows, j + s, 1, k, depth, p->old + s * size, columns);
    return status;
}

/* --- the call ------------------------------------------------------------------------------------------------------ */

static bool is_float(const format *f, int exp_bits, int frac_bits)
{
    return f->row.is_float && f->row.is_signed && f->row.exp_bits == exp_bits && f->row.frac_bits == frac_bits
        && f->row.bias == (1 << (exp_bits - 1)) - 1 && f->row.specials == EMU_SPECIALS_IEEE && !f->row.low_pad;
}

/* Does `split` read it, and is a product of two such significands a float? */
static bool fits(const format *f)
{
    return f->row.is_float && f->row.specials != EMU_SPECIALS_EXPONENT && f->row.frac_bits <= 10 && f->bytes <= 4
        && f->row.exp_bits + f->row.frac_bits + f->row.low_pad < 32 && f->emin >= -126 && f->emax <= 127;
}

static bool is_e2m1(const format *f)
{
    return f->row.is_float && f->row.exp_bits == 2 && f->row.frac_bits == 1 && f->row.bias == 1
        && f->row.specials == EMU_SPECIALS_FINITE;
}

/* Sums of at most 16 * 2 products of at most 2 * 2^frac in two runs, by way of 32-bit integers. */
static bool is_chain(const product *p, int terms)
{
    const emu_row *row = p->row;
    bool single = is_float(&p->d, 8, 23) && row->rounding == EMU_ROUND_RZ && row->floor < row->frac - 126;
    bool half = is_float(&p->d, 5, 10) && row->rounding == EMU_ROUND_RNE && row->precision == 10;
    return fits(&p->a) && fits(&p->b) && (single || half) && row->frac <= 25 && terms % 4 == 0 && terms <= 2 * RUN
        && (terms <= RUN || terms % RUN == 0) && row->k % terms == 0;
}

/* Can chain_narrow read it? Its exponents span at most 31 binades, down to its smallest number's last bit. */
static bool is_narrow(const format *f)
{
    int span = f->emax - f->emin + f->row.frac_bits;
    return span <= 30 + (f->row.frac_bits <= 2) && f->row.frac_bits <= 3;
}

/* Does chain_whole know it? A sum of at most 32 products of less than 2^(emax + 1) each, in units of the smallest. */
static bool is_whole(const product *p)
{
    int bits = 5 + p->a.emax + 1 + p->b.emax + 1 - (p->a.emin - p->a.row.frac_bits) - (p->b.emin - p->b.row.frac_bits);
    return p->kind == CHAIN && !p->half && !p->row->block && p->row->precision == 23 && p->row->frac >= 23 && bits <= 24;
}

static enum kind kind_of(const product *p)
{
    const emu_row *row = p->row;
    bool exponents = !row->block || p->scale.row.specials == EMU_SPECIALS_EXPONENT;
    if (memcmp(&row->c, &row->d, sizeof row->c) || row->k > CHUNK)
        return SLOW;
    switch (row->method) {
    case EMU_METHOD_CHAIN:
        return is_chain(p, row->terms) && exponents && (!row->block || p->scale.bytes == 1) ? CHAIN : SLOW;
    case EMU_METHOD_FP8_THROUGH_F16:
        return is_chain(p, row->k / 2) && row->k % 8 == 0 && p->a.row.frac_bits <= 3 && p->b.row.frac_bits <= 3
            && p->a.row.exp_bits <= 5 && p->b.row.exp_bits <= 5 ? THROUGH_F16 : SLOW;
    case EMU_METHOD_INTEGER:                    /* float sums below 2^24, and whole vectors of four */
        return p->a.row.bits <= 8 && p->b.row.bits <= 8 && row->k <= 256 && row->k % 4 == 0 && p->d.row.is_signed
            && p->d.row.bits == 32 ? INTEGERS : SLOW;
    case EMU_METHOD_EXACT_GROUPS:
        return is_e2m1(&p->a) && is_e2m1(&p->b) && p->scale.row.frac_bits <= 3 && p->scale.bytes == 1 && !p->scale.inf_code
            && p->scale.row.exp_bits <= 8 && row->frac <= 35 && row->k <= RUN * MOST_GROUPS && is_float(&p->d, 8, 23)
            && row->rounding == EMU_ROUND_RZ && row->precision == 23 && row->floor > -400 ? GROUPS : SLOW;
    case EMU_METHOD_FMA_CHAIN:
        if (is_float(&p->a, 8, 23) && is_float(&p->b, 8, 23) && is_float(&p->d, 8, 23))
            return FUSED;
        return is_float(&p->a, 11, 52) && is_float(&p->b, 11, 52) && is_float(&p->d, 11, 52) ? FUSED : SLOW;
    default:
        return SLOW;
    }
}

static const kernels *best_kernels(int isa)
{
#ifdef EMU_AVX512FP16
    if (isa >= EMU_ISA_AVX512FP16)
        return &emu_kernels_avx512fp16;
#endif
#ifdef EMU_AVX512
    if (isa >= EMU_ISA_AVX512)
        return &emu_kernels_avx512;
#endif
#ifdef EMU_AVX2
    if (isa >= EMU_ISA_AVX2)
        return &emu_kernels_avx2;
#endif
    (void)isa;
    return &emu_kernels_portable;
}

/* `count` objects out of one piece of memory; measures it while there is none. */
static void *cut(unsigned char *memory, size_t *used, size_t count, size_t size)
{
    void *at = memory ? memory + *used : NULL;
    *used += (count * size + 63) / 64 * 64;
    return at;
}

static size_t lay_out(product *p, unsigned char *memory)
{
    size_t used = 0, width = p->width, groups = p->chunk / RUN + 1, lines = p->pairs ? width : ROWS;
    size_t rows = p->m < ROWS && !p->pairs ? p->m : lines;
    if (p->kind == FUSED) {
        p->a_plain = cut(memory, &used, ROWS * p->chunk, (size_t)p->a.bytes);
        p->b_plain = cut(memory, &used, p->columns * p->chunk, (size_t)p->b.bytes);
        p->sum_plain = cut(memory, &used, ROWS * width, (size_t)p->d.bytes);
    } else if (p->kind != SLOW) {
        p->a_value = cut(memory, &used, lines * p->chunk, sizeof *p->a_value);
        p->a_claim = cut(memory, &used, lines * p->chunk, sizeof *p->a_claim);
        p->b_value = cut(memory, &used, p->columns * p->chunk, sizeof *p->b_value);
        p->b_claim = cut(memory, &used, p->columns * p->chunk, 1);
        p->sums = cut(memory, &used, ROWS * width, sizeof *p->sums);
        p->codes = cut(memory, &used, WIDEST * CODES(p->chunk), sizeof *p->codes);
        p->scales = cut(memory, &used, p->read_a.scaled ? WIDEST * CODES(p->chunk) : 0, sizeof *p->scales);
        p->a_half = cut(memory, &used, p->narrow ? ROWS * p->chunk : 0, sizeof *p->a_half);
        p->b_half = cut(memory, &used, p->narrow ? p->columns * p->chunk : 0, sizeof *p->b_half);
        p->part = cut(memory, &used, p->kind == THROUGH_F16 ? ROWS * width : 0, sizeof *p->part);
    }
    if (p->kind == GROUPS)
        for (int b = 0; b < 2; b++) {
            blocks *to = b ? &p->b_block : &p->a_block;
            size_t count = groups * (b ? p->columns : lines);
            to->scale = cut(memory, &used, count, sizeof *to->scale);
            to->claim = cut(memory, &used, count, sizeof *to->claim);
            to->some = cut(memory, &used, count, sizeof *to->some);
        }
    p->panels = cut(memory, &used, p->columns / width, sizeof *p->panels);
    p->old = cut(memory, &used, rows * width, 8);
    p->slow_a = cut(memory, &used, rows * p->chunk, (size_t)p->a.bytes);
    p->slow_b = cut(memory, &used, width * p->chunk, (size_t)p->b.bytes);
    p->slow_c = cut(memory, &used, rows * width, 8);
    p->slow_d = cut(memory, &used, rows * width, 8);
    if (p->row->block) {
        p->slow_sa = cut(memory, &used, rows * p->chunk, 1);
        p->slow_sb = cut(memory, &used, width * p->chunk, 1);
    }
    return used;
}

/* D of one product. */
static int multiply_all(product *p)
{
    int status = EMU_DONE;
    for (size_t left = 0; left < p->n; left += p->columns) {
        size_t end = p->n - left < p->columns ? p->n : left + p->columns;
        for (size_t at = 0; at < p->deep; at += p->chunk) {
            size_t depth = p->deep - at < p->chunk ? p->deep - at : p->chunk;
            for (size_t j = left; p->kind != SLOW && j < end; j += p->width)
                p->panels[(j - left) / p->width] = take_b(p, j, end - j < p->width ? end - j : p->width, at, depth);
            for (size_t i = 0; !status && i < p->m; i += ROWS) {
                size_t rows = p->m - i < ROWS ? p->m - i : ROWS;
                panel of_a = p->kind == SLOW ? (panel){0} : take_a(p, i, rows, at, depth);
                for (size_t j = left; !status && j < end; j += p->width)
                    status = do_tile(p, &of_a, i, rows, j, end - j < p->width ? end - j : p->width, at, depth);
            }
        }
    }
    return status;
}

/* Of a call whose row, matrices, sizes and `pairs` are there: all that follows. */
static int begin(product *p)
{
    const emu_row *row = p->row;
    int isa = emu_isa_now(), status = emu_dots(row, 0, 0, 0, row->k, NULL, NULL, NULL, p->from_a, p->from_b, NULL);
    if (isa < 0 || status)
        return status ? status : EMU_BAD_ISA;
    describe(&row->a, &p->a);
    describe(&row->b, &p->b);
    describe(&row->c, &p->c);
    describe(&row->d, &p->d);
    bool scaled = row->block && (row->method == EMU_METHOD_CHAIN || row->method == EMU_METHOD_EXACT_GROUPS
                                 || row->method == EMU_METHOD_SCALED_SUM);
    if (scaled)
        describe(&row->scale, &p->scale);
    size_t step = (size_t)row->k;
    p->deep = p->k ? (p->k + step - 1) / step * step : step;            /* K = 0 is one instruction over zeros */
    if ((scaled && (!p->scale_a || !p->scale_b)) || (p->deep > step && memcmp(&row->c, &row->d, sizeof row->c)))
        return EMU_BAD_SHAPE;

    p->with = best_kernels(isa);
    p->kind = kind_of(p);
    if (p->pairs && p->kind == FUSED)
        p->kind = SLOW;
    p->half = p->d.row.bits == 16;
    p->narrow = p->with->chain_narrow && p->kind == CHAIN && !p->half && !row->block && row->frac == 13
             && is_narrow(&p->a) && is_narrow(&p->b) && !p->pairs;
    p->whole = is_whole(p) && !p->pairs;
    p->read_a = reader_of(&p->a, scaled && p->kind == CHAIN);
    p->read_b = reader_of(&p->b, scaled && p->kind == CHAIN);
    p->width = p->kind == SLOW ? WIDEST : (size_t)p->with->width / (p->kind == FUSED && p->d.bytes == 8 ? 2 : 1);
    p->terms = p->kind == CHAIN ? (size_t)row->terms : p->kind == THROUGH_F16 ? step / 2 : p->kind == GROUPS ? RUN : step;
    p->chunk = step >= CHUNK ? step : CHUNK / step * step;
    p->chunk = p->chunk < p->deep ? p->chunk : p->deep;
    p->columns = p->pairs ? p->width : p->n < COLUMNS ? (p->n + p->width - 1) / p->width * p->width : COLUMNS;
    p->memory = malloc(lay_out(p, NULL) + 64);
    if (!p->memory)
        return EMU_NO_MEMORY;
    lay_out(p, p->memory + (64 - (uintptr_t)p->memory % 64));
    if (p->m < ROWS && p->a_value && !p->pairs) {            /* the rows that a tile lacks are never written */
        memset(p->a_value, 0, ROWS * p->chunk * sizeof *p->a_value);
        memset(p->a_claim, 0, ROWS * p->chunk * sizeof *p->a_claim);
    }
    return EMU_DONE;
}

int emu_matmul(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const emu_matrix *a,
               const emu_matrix *b, const emu_matrix *c, const emu_matrix *scale_a, const emu_matrix *scale_b,
               const emu_matrix *d)
{
    const emu_matrix *given[] = {a, b, c, scale_a, scale_b, d};
    emu_matrix now[6], *use[6];                 /* the operands of one product */
    for (int i = 0; i < 6; i++)
        use[i] = given[i] ? &now[i] : NULL;
    product p = {.row = row, .from_a = use[0], .from_b = use[1], .from_c = use[2], .scale_a = use[3], .scale_b = use[4],
                 .to = use[5], .m = (size_t)m, .n = (size_t)n, .k = (size_t)k};
    if (batch < 0 || m < 0 || n < 0 || k < 0)
        return EMU_BAD_SHAPE;
    int status = begin(&p);
    for (int64_t at = 0; !status && at < batch; at++) {
        for (int i = 0; i < 6; i++)
            if (given[i])
                now[i] = (emu_matrix){(char *)given[i]->codes + at * given[i]->next, 0, given[i]->down, given[i]->across};
        status = multiply_all(&p);
    }
    free(p.memory);
    return status;
}

static emu_matrix rows_of(const void *codes, const emu_format *f, int64_t columns)
{
    format of;
    describe(f, &of);
    return (emu_matrix){(void *)codes, 0, columns * of.bytes, of.bytes};
}

int emu_tile(const emu_row *row, int64_t m, int64_t n, const void *a, const void *b, const void *c, const void *scale_a,
             const void *scale_b, void *d)
{
    int64_t blocks = row->block ? row->k / row->block : 0;
    emu_matrix of[] = {rows_of(a, &row->a, row->k), rows_of(b, &row->b, n), rows_of(c, &row->c, n),
                       rows_of(scale_a, &row->scale, blocks), rows_of(scale_b, &row->scale, n), rows_of(d, &row->d, n)};
    return emu_matmul(row, 1, m, n, row->k, &of[0], &of[1], c ? &of[2] : NULL, scale_a ? &of[3] : NULL,
                      scale_b ? &of[4] : NULL, &of[5]);
}

int emu_rows(const emu_row *row, int64_t count, int64_t k, const void *a, const void *b, const void *c,
             const void *scale_a, const void *scale_b, void *d)
{
    int64_t blocks = row->block ? k / row->block : 0;
    emu_matrix of[] = {rows_of(a, &row->a, k), rows_of(b, &row->b, k), rows_of(c, &row->c, count),
                       rows_of(scale_a, &row->scale, blocks), rows_of(scale_b, &row->scale, blocks),
                       rows_of(d, &row->d, count)};
    emu_matrix across[] = {transposed(&of[0]), transposed(&of[1]), transposed(&of[3]), transposed(&of[4])};
    product p = {.row = row, .from_a = &of[0], .from_b = &across[1], .from_c = &of[2], .scale_a = scale_a ? &of[3] : NULL,
                 .scale_b = scale_b ? &across[3] : NULL, .to = &of[5], .m = 1, .n = (size_t)count, .k = (size_t)k,
                 .pairs = true};
    int status = count < 0 || k < 0 ? EMU_BAD_SHAPE : begin(&p);
    if (status || p.kind == SLOW) {
        free(p.memory);
        return status ? status : emu_dots(row, count, 1, 1, k, a, b, c, scale_a, scale_b, d);
    }
    product left = p;                           /* A, taken apart as a B */
    left.b = p.a;
    left.from_b = &across[0];
    left.scale_b = scale_a ? &across[2] : NULL;
    left.read_b = p.read_a;
    left.b_value = p.a_value;
    left.b_claim = (uint8_t *)p.a_claim;
    left.b_block = p.a_block;
    for (size_t j = 0; !status && j < p.n; j += p.width) {
        size_t columns = p.n - j < p.width ? p.n - j : p.width;
        for (size_t at = 0; !status && at < p.deep; at += p.chunk) {
            size_t depth = p.deep - at < p.chunk ? p.deep - at : p.chunk;
            panel of_a = take_b(&left, j, columns, at, depth);
            p.panels[0] = take_b(&p, j, columns, at, depth);
            status = do_tile(&p, &of_a, 0, 1, j, columns, at, depth);
        }
    }
    free(p.memory);
    return status;
}
