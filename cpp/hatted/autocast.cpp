// libtorch's header of autocast, one of its largest, is for this file alone.
#include "autocast.h"

#include <ATen/autocast_mode.h>

namespace hatted {

Autocast::Autocast(c10::DeviceType device)
    : device_(device), off_(at::autocast::get_autocast_dispatch_key_from_device_type(device)) {}

Tensor Autocast::operator()(const Tensor& tensor) const {
  return at::autocast::cached_cast(at::autocast::get_lower_precision_fp_from_device_type(device_), tensor, device_);
}

OptionalTensor Autocast::operator()(const OptionalTensor& tensor) const {
  return tensor.has_value() ? OptionalTensor((*this)(*tensor)) : std::nullopt;
}

}  // namespace hatted
