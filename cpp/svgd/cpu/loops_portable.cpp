// The loops of the CPU kernels for every processor.
#define SVGD_INSTRUCTION_SET portable
#include "loops.inc"
