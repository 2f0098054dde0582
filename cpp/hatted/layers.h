// Every layer, for a method to be registered with: one line of HATTED_OPERATORS beside the schemas of NAMESPACE.
#pragma once

#include <string_view>

#include "convolution.h"
#include "linear.h"
#include "operator.h"

namespace hatted {

template <class Method, class Layers = Pack<Linear, Conv2d>>
struct Operators;

template <class Method, class... Layer>
struct Operators<Method, Pack<Layer...>> {
  static void define(torch::Library& m) { (Operator<Layer, Method>::define(m), ...); }
  static void every_device(torch::Library& m) { (Operator<Layer, Method>::every_device(m), ...); }
  static void meta(torch::Library& m) { (Operator<Layer, Method>::meta(m), ...); }
  static void autograd(torch::Library& m) { (Operator<Layer, Method>::autograd(m), ...); }
  static void in_place(torch::Library& m) { (Operator<Layer, Method>::in_place(m), ...); }
  template <c10::DeviceType device>
  static void autocast(torch::Library& m) {
    (Operator<Layer, Method>::template autocast<device>(m), ...);
  }
};

}  // namespace hatted

// The kernels of all layers with METHOD; NAMESPACE is Method::kNamespace. Operators<METHOD>::define(m), in the
// TORCH_LIBRARY of the namespace, gives the schemas.
#define HATTED_OPERATORS(NAMESPACE, METHOD)                                                                         \
  static_assert(std::string_view(#NAMESPACE) == METHOD::kNamespace, "one name");                                    \
  TORCH_LIBRARY_IMPL(NAMESPACE, CompositeExplicitAutograd, m) { ::hatted::Operators<METHOD>::every_device(m); }     \
  TORCH_LIBRARY_IMPL(NAMESPACE, Meta, m) { ::hatted::Operators<METHOD>::meta(m); }                                  \
  TORCH_LIBRARY_IMPL(NAMESPACE, Autograd, m) { ::hatted::Operators<METHOD>::autograd(m); }                          \
  TORCH_LIBRARY_IMPL(NAMESPACE, ADInplaceOrView, m) { ::hatted::Operators<METHOD>::in_place(m); }                   \
  TORCH_LIBRARY_IMPL(NAMESPACE, AutocastCPU, m) { ::hatted::Operators<METHOD>::autocast<c10::DeviceType::CPU>(m); } \
  TORCH_LIBRARY_IMPL(NAMESPACE, AutocastCUDA, m) { ::hatted::Operators<METHOD>::autocast<c10::DeviceType::CUDA>(m); }
