// What an operator's arguments are cast to under autocast.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "method.h"

namespace hatted {

// Autocast of one device type, switched off while this lives.
class Autocast {
 public:
  explicit Autocast(c10::DeviceType device);
  Tensor operator()(const Tensor& tensor) const;
  OptionalTensor operator()(const OptionalTensor& tensor) const;

 private:
  const c10::DeviceType device_;
  const c10::impl::ExcludeDispatchKeyGuard off_;
};

}  // namespace hatted
