// The loops of the CPU kernels for AVX-512 (F, BW, DQ, VL); build.rs gives this file the compiler's flags for them.
#define SVGD_INSTRUCTION_SET avx512
#include "loops.inc"
