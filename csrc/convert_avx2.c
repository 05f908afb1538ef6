#define CONVERT_LANES emu_convert_lanes_avx2
#define CONVERT_IN_FLOAT
#include "convert_lanes.h"
