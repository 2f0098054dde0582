// The allocator of pinned memory. Since libtorch 2.11 a capture has a pool of it.
#pragma once

#include <c10/cuda/CUDACachingAllocator.h>

namespace at {

enum DeviceType { kCUDA = 1 };

struct HostAllocator {
#if EMULATED_LIBTORCH >= 211
  void begin_allocate_to_pool(c10::MempoolId_t pool);
  void end_allocate_to_pool(c10::MempoolId_t pool);
  void release_pool(c10::MempoolId_t pool);
#endif
};

HostAllocator* getHostAllocator(DeviceType type);

}  // namespace at
