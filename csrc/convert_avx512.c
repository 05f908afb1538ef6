#define CONVERT_LANES emu_convert_lanes_avx512
#define CONVERT_IN_FLOAT
#include "convert_lanes.h"
