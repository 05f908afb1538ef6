/* AVX-512 for matmul_lanes.h: 16 lanes. */
#include <immintrin.h>

#define LANES 16
#define REGISTER "v"
#define bytes_max(x, y) ((bytes)_mm512_max_epu8((__m512i)(x), (__m512i)(y)))
#define ints_max(x, y) ((ints)_mm512_max_epi32((__m512i)(x), (__m512i)(y)))
#define round_half(x) ((floats)_mm512_cvtph_ps(_mm512_cvtps_ph((__m512)(x), _MM_FROUND_TO_NEAREST_INT)))
#define multiply_add(x, y, z) ((floats)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
#define cut(x) ((doubles)_mm512_roundscale_pd((__m512d)(x), _MM_FROUND_TO_ZERO))
#define fma_floats(x, y, z) multiply_add(x, y, z)
#define fma_doubles(x, y, z) ((doubles)_mm512_fmadd_pd((__m512d)(x), (__m512d)(y), (__m512d)(z)))
#include "matmul_lanes.h"
