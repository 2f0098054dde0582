// The cxx shims: arguments of Rust in, a call of an operator or of libtorch, its result out.
#include "bridge.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Allocator.h>
#include <c10/core/DispatchKey.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/headeronly/version.h>

#include <atomic>
#include <utility>
#include <vector>

#include "bng/normalize.h"
#include "hatted/call.h"
#include "hatted/checks.h"
#include "hatted/convolution.h"
#include "hatted/linear.h"
#include "optim/steps.h"
#include "svgd/method.h"
#include "svgd/second_moment.h"
#include "tch-svgd/src/bridge.rs.h"
#include "tso_alra/inverse_root.h"
#include "tso_alra/method.h"

// What a loader reads in the file (examples/torch_ops.py), since a PyTorch of another version lacks symbols that this
// library needs, and says no more than that. Nothing refers to it: compiler and linker are told to keep it.
extern const char kBuiltFor[];
__attribute__((used, retain)) const char kBuiltFor[] = "tch-svgd is built for libtorch " TORCH_VERSION;

namespace hatted::bridge {
namespace {

std::unique_ptr<at::Tensor> boxed(at::Tensor tensor) { return std::make_unique<at::Tensor>(std::move(tensor)); }

}  // namespace

std::unique_ptr<at::Tensor> svgd_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                        const at::Tensor& second_moment, const Hyperparameters& h) {
  return boxed(Call<Linear, svgd::Svgd>::forward(input, weight, optional(bias), second_moment, h.scale, h.decay, h.eps,
                                                 h.gradient_scale, h.virtual_bias));
}

std::unique_ptr<at::Tensor> svgd_conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                        const at::Tensor& second_moment, const Convolution& c,
                                        const Hyperparameters& h) {
  return boxed(Call<Conv2d, svgd::Svgd>::forward(input, weight, optional(bias), second_moment, symbolic(c.stride),
                                                 symbolic(c.padding), symbolic(c.dilation), c.groups, h.scale, h.decay,
                                                 h.eps, h.gradient_scale, h.virtual_bias));
}

std::unique_ptr<at::Tensor> svgd_virtual_grad(const at::Tensor& grad_output, const at::Tensor& second_moment,
                                              const Hyperparameters& h) {
  return boxed(svgd::virtual_grad(grad_output, second_moment, h.scale, h.decay, h.eps, h.gradient_scale));
}

std::unique_ptr<at::Tensor> svgd_virtual_grad_composed(const at::Tensor& grad_output, const at::Tensor& second_moment,
                                                       const Hyperparameters& h) {
  return boxed(svgd::virtual_grad_composed(grad_output, second_moment, h.scale, h.decay, h.eps, h.gradient_scale));
}

void svgd_update_second_moment(const at::Tensor& grad_output, const at::Tensor& second_moment,
                               const Hyperparameters& h) {
  svgd::update_second_moment(grad_output, second_moment, h.decay, h.gradient_scale);
}

std::unique_ptr<at::Tensor> tso_alra_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                            const at::Tensor& input_factor, const at::Tensor& output_factor,
                                            const at::Tensor& input_root, const at::Tensor& output_root,
                                            const Preconditioning& p) {
  return boxed(Call<Linear, tso_alra::TsoAlra>::forward(input, weight, optional(bias), input_factor, output_factor,
                                                        input_root, output_root, p.gamma, p.gradient_scale,
                                                        p.sum_positions, p.update, p.precondition, p.graft));
}

std::unique_ptr<at::Tensor> tso_alra_conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                            const at::Tensor& input_factor, const at::Tensor& output_factor,
                                            const at::Tensor& input_root, const at::Tensor& output_root,
                                            const Convolution& c, const Preconditioning& p) {
  return boxed(Call<Conv2d, tso_alra::TsoAlra>::forward(
      input, weight, optional(bias), input_factor, output_factor, input_root, output_root, symbolic(c.stride),
      symbolic(c.padding), symbolic(c.dilation), c.groups, p.gamma, p.gradient_scale, p.sum_positions, p.update,
      p.precondition, p.graft));
}

void tso_alra_inverse_roots(const std::vector<at::Tensor>& factors, const std::vector<at::Tensor>& roots, double eps,
                            bool relative) {
  tso_alra::inverse_roots(factors, roots, eps, relative);
}

void bng_normalize(const std::vector<at::Tensor>& gradients, const std::vector<at::Tensor>& parameters,
                   rust::Slice<const int64_t> blocks, const at::Tensor& norms, const at::Tensor& skipped,
                   rust::Str rule, double value) {
  bng::normalize_(gradients, parameters, at::IntArrayRef(blocks.data(), blocks.size()), norms, skipped,
                  {rule.data(), rule.size()}, value);
}

void sgd_step(const Sgd& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
              const Tensors& gradients, const Tensors& momentum_buffers, bool first) {
  optim::sgd(settings, {lr, rate}, parameters, gradients, momentum_buffers, first);
}

void adam_step(const Adam& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
               const Tensors& gradients, const Tensors& steps, const Tensors& exp_avgs, const Tensors& exp_avg_sqs,
               const Tensors& max_exp_avg_sqs) {
  optim::adam(settings, {lr, rate}, parameters, gradients, steps, exp_avgs, exp_avg_sqs, max_exp_avg_sqs);
}

void adagrad_step(const AdaGrad& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
                  const Tensors& gradients, const Tensors& steps, const Tensors& sums) {
  optim::adagrad(settings, {lr, rate}, parameters, gradients, steps, sums);
}

void rmsprop_step(const RmsProp& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
                  const Tensors& gradients, const Tensors& square_avgs, const Tensors& grad_avgs,
                  const Tensors& momentum_buffers) {
  optim::rmsprop(settings, {lr, rate}, parameters, gradients, square_avgs, grad_avgs, momentum_buffers);
}

void forget_gradients(const Tensors& parameters) { optim::forget_gradients(parameters); }

void unscale(const Tensors& gradients, const at::Tensor& found_inf, const at::Tensor& inverse_scale) {
  optim::unscale(gradients, found_inf, inverse_scale);
}

std::unique_ptr<std::vector<at::Tensor>> tensor_list() { return std::make_unique<std::vector<at::Tensor>>(); }

void append(std::vector<at::Tensor>& list, const at::Tensor& tensor) { list.push_back(tensor); }

Images conv2d_output(rust::Str op, const at::Tensor& input, const at::Tensor& weight, const Convolution& c) {
  const auto stride = symbolic(c.stride), padding = symbolic(c.padding), dilation = symbolic(c.dilation);
  const Conv2d layer{stride, padding, dilation, c.groups};
  const auto batch = input.defined() && Conv2d::lacks_batch(input) ? input.unsqueeze(0) : input;
  // Not whether the two are of one kind: autocast may be about to cast them.
  const auto name = std::string(op);
  check_tensor(name.c_str(), "weight", weight);
  check_tensor(name.c_str(), "input", batch);
  Images images;
  for (const auto& size : layer.output_size(name.c_str(), batch.sym_sizes(), weight.sym_sizes())) {
    images.size.push_back(size.expect_int());
  }
  images.channels_last = Conv2d::format(batch, weight) == at::MemoryFormat::ChannelsLast;
  return images;
}

AutocastState enter_autocast(bool cuda, bool half) {
  const auto device = cuda ? at::kCUDA : at::kCPU;
  const auto kind = half ? at::kHalf : at::kBFloat16;
  const auto kind_before = at::autocast::get_autocast_dtype(device);
  const AutocastState before{cuda, at::autocast::is_autocast_enabled(device), static_cast<int8_t>(kind_before)};
  // The cache knows a weight, and not the kind that it was cast to.
  if (kind != kind_before) {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(device, true);
  at::autocast::set_autocast_dtype(device, kind);
  at::autocast::increment_nesting();
  return before;
}

void leave_autocast(const AutocastState& before) {
  const auto device = before.cuda ? at::kCUDA : at::kCPU;
  const auto kind_before = static_cast<at::ScalarType>(before.kind);
  // After the outermost region the optimizer may change the weights: their casts are of no more use.
  if (at::autocast::decrement_nesting() == 0 || kind_before != at::autocast::get_autocast_dtype(device)) {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(device, before.enabled);
  at::autocast::set_autocast_dtype(device, kind_before);
}

std::unique_ptr<cuda::Graph> begin_cuda_graph([[maybe_unused]] int64_t device) {
#ifdef TCH_SVGD_CUDA
  return cuda::begin_capture(device);
#else
  C10_THROW_ERROR(NotImplementedError, "CudaGraph::capture: this build is without the feature 'cuda'; build with it");
#endif
}

bool is_grad_enabled() { return at::GradMode::is_enabled(); }

void backward(const at::Tensor& loss) { loss.backward(); }

size_t identity(const at::Tensor& tensor) { return reinterpret_cast<size_t>(tensor.unsafeGetTensorImpl()); }

std::unique_ptr<at::Tensor> to_meta(const at::Tensor& tensor) { return boxed(tensor.to(at::kMeta)); }

namespace {

// libtorch's allocators report to the profiler of a thread; this one only counts, and plays a machine with less memory.
struct MemoryCount : c10::MemoryReportingInfoBase {
  explicit MemoryCount(int64_t limit) : limit(limit) {}

  const int64_t limit;
  std::atomic<int64_t> bytes{0}, peak{0};

  void reportMemoryUsage(void* memory, int64_t size, size_t, size_t, c10::Device device) override {
    const auto now = bytes += size;
    auto highest = peak.load();
    while (now > highest && !peak.compare_exchange_weak(highest, now)) {
    }
    if (size > 0 && now > limit) {
      bytes -= size;
      // The allocator has it already, and gives it to nobody once this throws.
      if (device.is_cpu()) c10::free_cpu(memory);
      C10_THROW_ERROR(OutOfMemoryError, "out of memory: the limit of a test");
    }
  }
  bool memoryProfilingEnabled() const override { return true; }
};

}  // namespace

void start_memory_count(int64_t limit) {
  c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, std::make_shared<MemoryCount>(limit));
}

int64_t stop_memory_count() {
  const auto info = c10::ThreadLocalDebugInfo::_pop(c10::DebugInfoKind::PROFILER_STATE);
  return static_cast<const MemoryCount&>(*info).peak;
}

uint64_t enter_dual_level() { return torch::autograd::forward_ad::enter_dual_level(); }

void exit_dual_level(uint64_t level) { torch::autograd::forward_ad::exit_dual_level(level); }

rust::Vec<RegisteredOperator> operators(rust::Str name_space) {
  using c10::DispatchKey;
  // As registered, key by key: what the dispatcher would call for a key may be a kernel for every device, or a fallback
  // that does nothing.
  static const std::vector<std::pair<const char*, DispatchKey>> kKeys{
      {"CPU", DispatchKey::CPU},
      {"CUDA", DispatchKey::CUDA},
      {"CompositeExplicitAutograd", DispatchKey::CompositeExplicitAutograd},
      {"Meta", DispatchKey::Meta},
      {"Autograd", DispatchKey::Autograd},
      {"AutocastCPU", DispatchKey::AutocastCPU},
      {"AutocastCUDA", DispatchKey::AutocastCUDA},
  };
  const auto prefix = std::string(name_space) + "::";
  rust::Vec<RegisteredOperator> operators;
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name.rfind(prefix, 0) != 0) {
      continue;
    }
    const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(name.name.c_str(), name.overload_name.c_str());
    RegisteredOperator op{name.name, c10::str(handle.schema()), {}};
    for (const auto& [key_name, key] : kKeys) {
      if (handle.hasKernelForDispatchKey(key)) {
        op.dispatch_keys.push_back(key_name);
      }
    }
    operators.push_back(std::move(op));
  }
  return operators;
}

rust::String libtorch_version() {
  return c10::str(TORCH_VERSION_MAJOR, ".", TORCH_VERSION_MINOR, ".", TORCH_VERSION_PATCH);
}

rust::String compiler() { return __VERSION__; }

}  // namespace hatted::bridge
