// Streams, which know their device.
#pragma once

#include <cuda_runtime_api.h>

namespace c10 {

using DeviceIndex = signed char;

struct Stream {
  cudaStream_t stream;
  DeviceIndex device;
};

namespace cuda {

class CUDAStream {
 public:
  explicit CUDAStream(Stream stream) : stream_(stream) {}
  cudaStream_t stream() const { return stream_.stream; }
  operator cudaStream_t() const { return stream_.stream; }
  DeviceIndex device_index() const { return stream_.device; }
  Stream unwrap() const { return stream_; }

 private:
  Stream stream_;
};

CUDAStream getCurrentCUDAStream();
CUDAStream getStreamFromPool(bool isHighPriority, DeviceIndex device);

}  // namespace cuda
}  // namespace c10
