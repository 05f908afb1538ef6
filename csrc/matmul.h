/* What csrc/matmul.c and its kernels share. A kernel computes one tile: up to ROWS rows times `width` columns, over all of
 * a chunk of K, from operands already taken apart. csrc/matmul_lanes.h is the kernel; each csrc/matmul_<isa>.c compiles it
 * for one instruction set. The proofs that the kernels are exact are there, and here where they rest on the planes. */
#ifndef EMU_MATMUL_H
#define EMU_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ROWS = 32,          /* of a tile */
    WIDEST = 64,        /* columns of a tile, at most */
    RUN = 16,           /* products whose sum never leaves 32 bits: see `hot` in matmul_lanes.h */
    CHUNK = 512,        /* of K taken apart at a time */
    MOST_GROUPS = 4,    /* of 16 products in one sum of exact_groups */
    NAN_SCALE = 1024,   /* the exponent of a scale that is NaN */
};
#define CODES(depth) (((depth) + 15) / 16 * 16)     /* the room for a line of codes: whole vectors, the rest is zero */

/* A claim byte stands for the exponent that an operand brings into the alignment, relative to the largest in its panel
 * (ROWS rows of A or one panel of columns of B):
 *
 *     zero                                       0
 *     claim >= top - SPAN                        127 - (top - claim), in 76..127
 *     below that                                 none: its row or column is redone by emu_dots
 *
 * The sum of two bytes needs no carry (at most 254). It is 152 or more where both are nonzero, and at most 127 where one
 * is zero. So max(sum, clear) - clear, with a clear of 127 or more, is 0 for every zero product, whatever its partner
 * claims; and it is E - low for every other whose E >= low, where low = top_a + top_b - 254 + clear. */
enum { SPAN = 51, TOP = 127, CLEAR = 127 };

typedef struct {                        /* how codes become floats */
    uint32_t magnitude, sign, most;     /* of the format */
    uint32_t nan;                       /* the code of minus zero, if that is NaN; else no code */
    uint32_t smallest;                  /* below it, a number is subnormal as a float too; 0 if none is */
    uint32_t rebias;                    /* added to an exponent field in float32's place */
    int pad, move, sign_up;             /* low pad bits; then the shifts to float32's places */
    bool scaled;
    int integer;                        /* if not 0: two's complement (-1) or plain (1) instead, of `move` bits */
} reader;

typedef struct {                        /* what a panel turned out to hold */
    int top, least;                     /* the largest claim and the smallest that has a byte; 0 and 0 if all is zero */
    uint64_t redo;                      /* its rows or columns that need emu_dots */
    bool hot;                           /* A alone: some group's sum may leave 32 bits */
} panel;

typedef struct {                        /* 16 elements that share a scale: see `groups` in matmul_lanes.h */
    double *scale;                      /* its value, */
    int32_t *claim;                     /* and exponent; */
    uint32_t *some;                     /* bit i: element i and the scale are not zero */
} blocks;

typedef struct {
    const float *a;                     /* [group][ROWS][terms] */
    const uint32_t *a_claim;            /* likewise, a byte four times */
    const float *b;                     /* [k][width] */
    const uint8_t *b_claim;             /* [k][width], byte 4 i + v being that of column v * width / 4 + i */
    float *c;                           /* [ROWS][width]: C, then D */
    int rows, first, groups, terms;     /* first: of the groups, for chain; terms: a multiple of 4 */
    int frac, floor, emin;              /* of the row; emin that of its output */
    int lowest;                         /* of chain_whole */
    int low, clear;                     /* the exponent that a cleared byte of 0 stands for */
    const uint16_t *a_half, *b_half;    /* of chain_narrow: as a; and [k / 2][width][2], both scaled */
    int tops;                           /* and the largest claims of the panels, added */
    blocks a_block, b_block;            /* of exact groups: [group][ROWS] and [group][width] */
    bool saturate, fresh;               /* fresh: C is zero */
} tile;

typedef struct {
    int width;
    /* `count` codes of `width` bytes, `stride` bytes apart. */
    void (*read_line)(const unsigned char *from, int64_t stride, int width, size_t count, uint32_t *to);
    /* `depth` codes of each of `count` lines: [line][depth] for A, rows of the tile, and [depth][line] for B, columns, of
     * which there are always `width`. Scales are exponents to add, one for each code. */
    panel (*take_a)(const reader *, int rows, int depth, int terms, int limit, const uint32_t *codes, const int32_t *scales,
                    float *value, uint32_t *claim);
    panel (*take_b)(const reader *, int depth, const uint32_t *codes, const int32_t *scales, float *value, uint8_t *claim);
    /* The sums of a chain into F32 (rounded toward zero) or F16 (to nearest even). True: some sum left 32 bits or the
     * range of F16, and the tile is not to be used. The caller sets rounding toward zero, subnormals flushed. */
    bool (*chain)(const tile *), (*chain_hot)(const tile *), (*chain_half)(const tile *);
    bool (*chain_whole)(const tile *);  /* into F32, of products that are not cut; true if one might be */
    /* The same for FP8 and frac = 13, from values narrowed to halves, `top` being the panel's; maybe NULL, all three. */
    void (*narrow_a)(const float *, int count, int top, uint16_t *);
    void (*narrow_b)(const float *, int depth, int top, uint16_t *);
    bool (*chain_narrow)(const tile *);
    /* C plus what another tile holds, rounded to nearest even: F32, or F16 held in floats. True as above. */
    bool (*add)(const tile *, const float *, bool half);
    /* Sums of integers, C and D being int32 in the place of floats; each group, an instruction, is one float sum. */
    void (*integers)(const tile *);
    /* exact_groups. Rounding toward zero, subnormals kept. True: some result is infinite. */
    bool (*groups)(const tile *);
    /* D = fma(a, b, D) in ascending k, in the caller's rounding: a [rows][depth], b [depth][columns], d [rows][columns]
     * of floats, or of doubles with width / 2 columns. */
    void (*fused_floats)(const void *a, const void *b, void *d, int rows, int depth);
    void (*fused_doubles)(const void *a, const void *b, void *d, int rows, int depth);
    /* chain_hot, chain_half, integers and groups for one row, in which each column has a row of A of its own: A's planes
     * are as B's. */
    bool (*pairs_chain)(const tile *), (*pairs_half)(const tile *), (*pairs_groups)(const tile *);
    void (*pairs_integers)(const tile *);
} kernels;

extern const kernels emu_kernels_portable, emu_kernels_avx2, emu_kernels_avx512, emu_kernels_avx512fp16;

#endif
