#define ISA avx2
#define CONVERT_IN_FLOAT
#include "convert_lanes.h"
