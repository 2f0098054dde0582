// The texts of the checks that every layer and method makes.
#include "checks.h"

#include <ATen/MemoryOverlap.h>
#include <c10/util/StringUtil.h>

namespace hatted {

void check_tensor(const char* op, const char* name, const Tensor& tensor) {
  HATTED_CHECK(ConfigError, tensor.defined(), op, ": argument '", name,
               "': expected a tensor, got an undefined one; build it before the call");
  HATTED_CHECK(UnsupportedError, tensor.layout() == at::kStrided, op, ": argument '", name,
               "': expected a dense (strided) tensor, got layout ", tensor.layout(), "; call to_dense() on it first");
  const auto kind = tensor.scalar_type();
  HATTED_CHECK(KindError, kind == at::kFloat || kind == at::kDouble || kind == at::kBFloat16 || kind == at::kHalf, op,
               ": argument '", name, "': expected kind Float, Double, BFloat16 or Half, got ", kind,
               "; convert it with to_kind");
}

void check_same(const char* op, const char* name, const Tensor& tensor, const char* like_name, const Tensor& like) {
  check_tensor(op, name, tensor);
  HATTED_CHECK(DeviceError, tensor.device() == like.device(), op, ": argument '", name, "': expected device ",
               like.device(), " (where '", like_name, "' is), got ", tensor.device(), "; move it with to_device");
  HATTED_CHECK(KindError, tensor.scalar_type() == like.scalar_type(), op, ": argument '", name, "': expected kind ",
               like.scalar_type(), " (that of '", like_name, "'), got ", tensor.scalar_type(),
               "; convert one of the two with to_kind");
}

void check_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& weight) {
  if (!bias.has_value() || !bias->defined()) {
    return;
  }
  check_same(op, "bias", *bias, "weight", weight);
  HATTED_CHECK(ShapeError, bias->dim() == 1 && bias->sym_size(0) == weight.sym_size(0), op,
               ": argument 'bias': expected shape [", weight.sym_size(0), "] (one value per output), got ",
               bias->sym_sizes(), "; pass a bias of that shape, or none");
}

void check_state(const char* op, const char* name, const Tensor& state, const Tensor& gradient) {
  check_tensor(op, name, state);
  HATTED_CHECK(DeviceError, state.device() == gradient.device(), op, ": argument '", name, "': expected device ",
               gradient.device(), ", got ", state.device(), "; move it with to_device");
  const auto kind = accumulator_kind(gradient.scalar_type());
  HATTED_CHECK(KindError, state.scalar_type() == kind, op, ": argument '", name, "': expected kind ", kind,
               " (for gradients of kind ", gradient.scalar_type(), "), got ", state.scalar_type(),
               "; accumulators are Float, and Double for Double gradients");
  HATTED_CHECK(ConfigError, !state.requires_grad(), op, ": argument '", name,
               "': expected a tensor that requires no gradient, got one that does; it is "
               "optimizer state: create it with zeros and leave requires_grad off");
  HATTED_CHECK(ConfigError, state.is_non_overlapping_and_dense(), op, ": argument '", name,
               "': expected a dense tensor with memory of its own, got strides ", state.sym_strides(),
               "; it is updated in place: call contiguous() on it first");
  const auto symbolic = [](const Tensor& tensor) { return tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides(); };
  if (!symbolic(state) && !symbolic(gradient)) {
    const auto overlap = at::get_overlap_status(state, gradient);
    HATTED_CHECK(ConfigError, overlap != at::MemOverlapStatus::Full && overlap != at::MemOverlapStatus::Partial, op,
                 ": argument '", name,
                 "': expected memory of its own, got some that another argument has too; it is updated in place: call "
                 "copy() on it first");
  }
}

}  // namespace hatted
