/* The kernels in GCC's vector extension alone: 4 lanes, which are SSE2 on x86-64 and NEON on aarch64. */
#define LANES 4
#ifdef __aarch64__
#define REGISTER "w"
#elif defined __SSE2__
#define REGISTER "x"
#else
#define REGISTER "m"
#endif
#define round_half(x) nearest_half(x)
#include <math.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#define bytes_max(x, y) ((bytes)_mm_max_epu8((__m128i)(x), (__m128i)(y)))
#elif defined __aarch64__
#include <arm_neon.h>
#define bytes_max(x, y) ((bytes)vmaxq_u8((uint8x16_t)(x), (uint8x16_t)(y)))
#else
#define bytes_max(x, y) (((x) & (bytes)((x) > (y))) | ((y) & (bytes)((x) <= (y))))
#endif
#define multiply_add(x, y, z) ((x) * (y) + (z))
#define cut(x) cut_below_52(x)
#define fma_floats(x, y, z) fma_of_four(x, y, z)
#define fma_doubles(x, y, z) fma_of_two(x, y, z)
#define ints_max(x, y) (((x) & ((x) > (y))) | ((y) & ((x) <= (y))))

typedef float four_floats __attribute__((vector_size(16)));
typedef uint32_t four_words __attribute__((vector_size(16)));
typedef int32_t four_ints __attribute__((vector_size(16)));

/* In units of the last bit that float16 keeps, x is an integer and a rest; both are exact, as is the result. */
static inline four_floats nearest_half(four_floats x)
{
    four_words one = {0}, field = (four_words)x & 0x7f800000u, least = one + (113u << 23);      /* 2^-14 */
    four_words normal = (four_words)(field > least);
    field = (field & normal) | (least & ~normal);
    four_floats unit = (four_floats)(field - (10u << 23));
    four_floats scaled = x * (four_floats)((254u << 23) - (four_words)unit);
    four_ints kept = __builtin_convertvector(scaled, four_ints);
    four_floats rest = scaled - __builtin_convertvector(kept, four_floats);
    four_floats size = (four_floats)((four_words)rest & 0x7fffffffu);
    four_ints up = (size > 0.5f) | ((size == 0.5f) & ((kept & 1) == 1)), negative = scaled < 0;
    kept += up & ((negative & -2) + 1);         /* 1, or below zero -1 */
    return __builtin_convertvector(kept, four_floats) * unit;
}

typedef double two_doubles __attribute__((vector_size(16)));
typedef int64_t two_longs __attribute__((vector_size(16)));

static inline two_doubles cut_below_52(two_doubles x)
{
    two_longs sign = (two_longs)x & INT64_MIN;
    two_doubles size = (two_doubles)((two_longs)x ^ sign), whole = (size + 0x1p52) - 0x1p52;
    return (two_doubles)((two_longs)whole | sign);
}

/* The host's fma, an instruction where there is one. */
static inline four_floats fma_of_four(four_floats x, four_floats y, four_floats z)
{
    return (four_floats){fmaf(x[0], y[0], z[0]), fmaf(x[1], y[1], z[1]), fmaf(x[2], y[2], z[2]), fmaf(x[3], y[3], z[3])};
}

static inline two_doubles fma_of_two(two_doubles x, two_doubles y, two_doubles z)
{
    return (two_doubles){fma(x[0], y[0], z[0]), fma(x[1], y[1], z[1])};
}
#include "matmul_lanes.h"

const kernels emu_kernels_portable = {COMMON_KERNELS};
