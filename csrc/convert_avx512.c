#define ISA avx512
#define CONVERT_IN_FLOAT
#include "convert_lanes.h"
