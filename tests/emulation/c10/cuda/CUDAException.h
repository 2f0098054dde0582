// libtorch's check after a launch, in the place of the header that wants a CUDA toolkit.
#pragma once

#define C10_CUDA_KERNEL_LAUNCH_CHECK() emulation::check_launch()
