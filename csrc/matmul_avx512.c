/* The kernels for AVX-512. */
#include "avx512.h"

const kernels emu_kernels_avx512 = {COMMON_KERNELS};
