// The functions that src/bridge.rs binds, and how their exceptions become the crate's Error.
#pragma once

#include <ATen/core/Tensor.h>
#include <rust/cxx.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../cuda/graph.h"
#include "hatted/errors.h"

namespace rust::behavior {

// Each text is led by the name of a variant of Error and a unit separator; src/error.rs takes them apart.
template <typename Try, typename Fail>
static void trycatch(Try&& call, Fail&& fail) noexcept try {
  call();
} catch (const hatted::ShapeError& error) {
  fail(std::string("Shape\x1f") + error.what_without_backtrace());
} catch (const hatted::KindError& error) {
  fail(std::string("Kind\x1f") + error.what_without_backtrace());
} catch (const hatted::DeviceError& error) {
  fail(std::string("Device\x1f") + error.what_without_backtrace());
} catch (const hatted::ConfigError& error) {
  fail(std::string("Config\x1f") + error.what_without_backtrace());
} catch (const c10::NotImplementedError& error) {
  fail(std::string("Unsupported\x1f") + error.what_without_backtrace());
} catch (const c10::OutOfMemoryError& error) {
  fail(std::string("OutOfMemory\x1f") + error.what_without_backtrace());
} catch (const c10::Error& error) {
  fail(std::string("Torch\x1f") + error.what_without_backtrace());
} catch (const std::bad_alloc&) {
  fail(
      "OutOfMemory\x1f"
      "the C++ allocator has no memory left; free some or use a smaller batch");
} catch (const std::exception& error) {
  fail(std::string("Torch\x1f") + error.what());
} catch (...) {
  fail(
      "Torch\x1f"
      "an exception that is no std::exception left libtorch");
}

}  // namespace rust::behavior

namespace hatted::bridge {

struct AdaGrad;
struct Adam;
struct Hyperparameters;
struct Preconditioning;
struct Convolution;
struct AutocastState;
struct Images;
struct RegisteredOperator;
struct RmsProp;
struct Sgd;

// An undefined bias is no bias.
std::unique_ptr<at::Tensor> svgd_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                        const at::Tensor& second_moment, const Hyperparameters& hyperparameters);
std::unique_ptr<at::Tensor> svgd_conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                        const at::Tensor& second_moment, const Convolution& convolution,
                                        const Hyperparameters& hyperparameters);
std::unique_ptr<at::Tensor> svgd_virtual_grad(const at::Tensor& grad_output, const at::Tensor& second_moment,
                                              const Hyperparameters& hyperparameters);
std::unique_ptr<at::Tensor> svgd_virtual_grad_composed(const at::Tensor& grad_output, const at::Tensor& second_moment,
                                                       const Hyperparameters& hyperparameters);
void svgd_update_second_moment(const at::Tensor& grad_output, const at::Tensor& second_moment,
                               const Hyperparameters& hyperparameters);

std::unique_ptr<at::Tensor> tso_alra_linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                            const at::Tensor& input_factor, const at::Tensor& output_factor,
                                            const at::Tensor& input_root, const at::Tensor& output_root,
                                            const Preconditioning& preconditioning);
std::unique_ptr<at::Tensor> tso_alra_conv2d(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                            const at::Tensor& input_factor, const at::Tensor& output_factor,
                                            const at::Tensor& input_root, const at::Tensor& output_root,
                                            const Convolution& convolution, const Preconditioning& preconditioning);
void tso_alra_inverse_roots(const std::vector<at::Tensor>& factors, const std::vector<at::Tensor>& roots, double eps,
                            bool relative);

void bng_normalize(const std::vector<at::Tensor>& gradients, const std::vector<at::Tensor>& parameters,
                   rust::Slice<const int64_t> blocks, const at::Tensor& norms, const at::Tensor& skipped,
                   rust::Str rule, double value);

// The steps of optimizers, as cpp/optim/steps.h has them. An undefined rate leaves it to `lr`.
using Tensors = std::vector<at::Tensor>;
void sgd_step(const Sgd& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
              const Tensors& gradients, const Tensors& momentum_buffers, bool first);
void adam_step(const Adam& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
               const Tensors& gradients, const Tensors& steps, const Tensors& exp_avgs, const Tensors& exp_avg_sqs,
               const Tensors& max_exp_avg_sqs);
void adagrad_step(const AdaGrad& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
                  const Tensors& gradients, const Tensors& steps, const Tensors& sums);
void rmsprop_step(const RmsProp& settings, double lr, const at::Tensor& rate, const Tensors& parameters,
                  const Tensors& gradients, const Tensors& square_avgs, const Tensors& grad_avgs,
                  const Tensors& momentum_buffers);
void forget_gradients(const Tensors& parameters);
void unscale(const Tensors& gradients, const at::Tensor& found_inf, const at::Tensor& inverse_scale);

// Empty, for append to fill.
std::unique_ptr<std::vector<at::Tensor>> tensor_list();
void append(std::vector<at::Tensor>& list, const at::Tensor& tensor);

// What the convolution of `op` gives for a sample.
Images conv2d_output(rust::Str op, const at::Tensor& input, const at::Tensor& weight, const Convolution& convolution);

// Autocast on, to half or bfloat16; leave takes the state of before, which enter returns.
AutocastState enter_autocast(bool cuda, bool half);
void leave_autocast(const AutocastState& before);

// Refuses in a build without the feature `cuda`.
std::unique_ptr<cuda::Graph> begin_cuda_graph(int64_t device);

bool is_grad_enabled();
void backward(const at::Tensor& loss);
// The same for all handles of one tensor, and while it lives for no other.
size_t identity(const at::Tensor& tensor);
std::unique_ptr<at::Tensor> to_meta(const at::Tensor& tensor);
// Counts the bytes of tensors that this thread, and what it starts, takes and gives back, and refuses those past the
// limit; stop gives the highest count.
void start_memory_count(int64_t limit);
int64_t stop_memory_count();

// A level of forward-mode differentiation.
uint64_t enter_dual_level();
void exit_dual_level(uint64_t level);

rust::Vec<RegisteredOperator> operators(rust::Str name_space);
rust::String libtorch_version();
rust::String compiler();

}  // namespace hatted::bridge
