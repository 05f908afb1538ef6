/* What the parts of convert share: a conversion prepared for lanes, and the kernels that run it. */
#ifndef EMU_CONVERT_H
#define EMU_CONVERT_H

#include "number.h"

#ifdef __GNUC__
#define ALWAYS_INLINE __attribute__((always_inline)) inline
#else
#define ALWAYS_INLINE inline
#endif

enum { CONVERT_BLOCK = 512 };        /* elements between two visits to the counters */

enum {                               /* how a source enters a lane, which holds a binary32 or binary64 */
    LOAD_AS_IT_IS,                   /* it is that format */
    LOAD_MASKED,                     /* its high bits are (tfloat32) */
    LOAD_SHIFT,                      /* its exponent has the same bias and width: shift the fields up (bfloat16) */
    LOAD_REBIAS,                     /* a narrower exponent: float16, float32 in 64-bit lanes */
    LOAD_ODD,                        /* binary64, rounded to odd as binary32 */
    LOAD_INT,                        /* an integer the lane holds exactly */
    LOAD_UINT,
};

enum {                               /* strips: how numbers are taken, and how given */
    TAKE_NOTHING,
    TAKE_SINGLE,                     /* binary32 */
    TAKE_DOUBLE,                     /* binary64, rounded to nearest */
    TAKE_ODD,                        /* binary64, rounded to odd */
    TAKE_BRAIN,                      /* bfloat16 */
    TAKE_HALF,                       /* binary16, and then times a power of two */
    TAKE_BYTE,                       /* the same, of a code of one byte with at most 5 exponent bits */
};
enum {
    GIVE_SINGLE,
    GIVE_DOUBLE,
    GIVE_HALF,                       /* binary16 */
    GIVE_BRAIN,                      /* bfloat16 */
    GIVE_NEAREST,                    /* as `nearest` */
};

/* A conversion from numbers held as binary32 (bits = 32) or binary64 (bits = 64); F is 23 or 52 there. Magnitudes of the
 * target count from its lowest bit: pads come in at the end. */
typedef struct {
    int bits, load, from_bytes, to_bytes;
    int mode, random_bits;           /* as rounded: srb reads one bit more than it is given */
    int up;                          /* LOAD_SHIFT, LOAD_REBIAS: places to shift the fields up */
    int rebias;                      /* LOAD_REBIAS: lane bias minus source bias */
    uint64_t from_mask, from_sign, from_inf;   /* of the source's code */
    int cut;                         /* F minus the target's fraction bits: bits cut from a normal result */
    int first;                       /* biased lane exponent of the target's smallest normal number, at least 1 */
    int last;                        /* one above that of its largest */
    bool nearest;                    /* rounding by the lane's own addition is exact here, and wanted */
    int take, give;
    uint32_t seen, ordinary;         /* strips hold where all numbers & seen are below this, as binary32 */
    int narrower;                    /* TAKE_BYTE: exponent bits that 5 has more; `up` has the sign at bit 15 */
    float times;                     /* TAKE_HALF, TAKE_BYTE: 2^(15 - bias) */
    const uint32_t *table;           /* TAKE_BYTE: the code of each code */
    bool far;                        /* what is read and written does not fit the cache */
    bool same;                       /* the target is what lanes hold */
    bool same_exponents;             /* rounding to nearest even of the lane as it is makes the code */
    bool bare;                       /* E8M0: nothing below the smallest normal number, whose code is 0 */
    bool lower;                      /* bare, and that is half of the lane's smallest normal number: `first` is the next */
    uint64_t max, normal;            /* largest magnitude; smallest that ftz leaves alone */
    uint64_t least;                  /* smallest lane magnitude that daz leaves alone */
    int low_pad, to_sign;            /* places from the lane's sign down to the target's */
    bool sees_sign, refuses_sign;    /* does the sign matter; is below zero out of range */
    uint64_t sign;
    uint64_t unbounded;              /* calm, where no bound is applied to what is rounded */
    uint64_t watch, calm;            /* where all of a block's lanes & watch are below calm, no number is out of range */
    uint64_t nan[2], infinity[2], over[2], zero[2];
    const double *divisor;           /* NULL, or one for each `per` numbers of x, which then are binary32 */
    int64_t per;
    bool wide;                       /* a divisor, and x is binary64 */
    bool few;                        /* a divisor, and seven numbers above zero: compare with where each begins */
    double begin[8];                 /* [j]: where code j does, as a quotient; [0]: what is beyond the largest */
    uint64_t open[8];                /* [j]: 1 if not there, but right above */
} lanes;

typedef struct {
    void (*lanes)(const lanes *p, int64_t n, const unsigned char *x, const uint32_t *random, unsigned char *y, bool count,
                  int64_t counts[EMU_COUNTS]);
    void (*amax)(int bytes, int64_t blocks, int64_t size, const void *x, void *amax);       /* emu_amax, emu_above */
    void (*above)(int bytes, int64_t blocks, int64_t size, int64_t count, const void *x, const void *bounds, uint8_t *y);
} convert_kernels;

extern const convert_kernels emu_convert_portable, emu_convert_avx2, emu_convert_avx512;

#endif
