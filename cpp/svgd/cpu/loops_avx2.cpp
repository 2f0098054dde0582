// The loops of the CPU kernels for AVX2 and F16C; build.rs gives this file the compiler's flags for them.
#define SVGD_INSTRUCTION_SET avx2
#include "loops.inc"
