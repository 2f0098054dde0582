// The allocator of device memory: its cache, and its pools for captures.
#pragma once

#include <c10/cuda/CUDAStream.h>

#include <utility>

namespace c10 {

using CaptureId_t = unsigned long long;
using MempoolId_t = std::pair<CaptureId_t, CaptureId_t>;

namespace cuda::CUDACachingAllocator {

void emptyCache();
void beginAllocateToPool(DeviceIndex device, MempoolId_t pool);
void endAllocateToPool(DeviceIndex device, MempoolId_t pool);
void releasePool(DeviceIndex device, MempoolId_t pool);

}  // namespace cuda::CUDACachingAllocator
}  // namespace c10
