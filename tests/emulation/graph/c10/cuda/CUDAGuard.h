// A guard of the current device and stream, which may be gone before its end.
#pragma once

#include <c10/cuda/CUDAStream.h>

namespace c10::cuda {

class OptionalCUDAStreamGuard {
 public:
  OptionalCUDAStreamGuard() = default;
  explicit OptionalCUDAStreamGuard(Stream stream);
  OptionalCUDAStreamGuard(const OptionalCUDAStreamGuard&) = delete;
  ~OptionalCUDAStreamGuard() { reset(); }
  void reset();

 private:
  bool is_set_ = false;
  int device_ = 0;     // that was current
  Stream original_{};  // the one that was current on the device of the guarded one
};

}  // namespace c10::cuda
