// The schemas of the bng namespace.
//
//   gradients    changed in place, block by block
//   parameters   those of the gradients, in their order
//   blocks       how many gradients in a row are a block
//   norms        Double, [blocks]: the lengths of the blocks' gradients, of before
//   skipped      Long, []: grows by the number of blocks whose norm is not finite
//   rule, value  "unit", the length; "adaptive", the share of the parameters' length; "clip", the largest length
#include <torch/library.h>

TORCH_LIBRARY(bng, m) {
  m.def(
      "normalize_(Tensor(a!)[] gradients, Tensor[] parameters, int[] blocks, Tensor(b!) norms, Tensor(c!) skipped, "
      "str rule, float value) -> ()");
}
