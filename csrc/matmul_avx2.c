/* The kernels for AVX2: 8 lanes. */
#include <immintrin.h>

#define LANES 8
#define REGISTER "x"
#define bytes_max(x, y) ((bytes)_mm256_max_epu8((__m256i)(x), (__m256i)(y)))
#define ints_max(x, y) ((ints)_mm256_max_epi32((__m256i)(x), (__m256i)(y)))
#define round_half(x) ((floats)_mm256_cvtph_ps(_mm256_cvtps_ph((__m256)(x), _MM_FROUND_TO_NEAREST_INT)))
#define multiply_add(x, y, z) ((floats)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#define cut(x) ((doubles)_mm256_round_pd((__m256d)(x), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC))
#define fma_floats(x, y, z) multiply_add(x, y, z)
#define fma_doubles(x, y, z) ((doubles)_mm256_fmadd_pd((__m256d)(x), (__m256d)(y), (__m256d)(z)))
#include "matmul_lanes.h"

const kernels emu_kernels_avx2 = {COMMON_KERNELS};
