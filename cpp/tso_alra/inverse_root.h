// The decompositions: of all layers at once, between the steps.
#pragma once

#include <ATen/core/Tensor.h>

namespace tso_alra {

using at::Tensor;

// roots[i] <- (factors[i] + damping I)^(-1/2), in place, by the eigenvalues of the symmetric factors: [blocks, n, n]
// each, or [n, n]. `damping` is eps, or with `relative` eps times the mean eigenvalue of its own matrix. A root stays
// as it was where a factor is zero or cannot be decomposed, which is a warning. A dispatcher call.
void inverse_roots(at::TensorList factors, at::TensorList roots, double eps, bool relative);

}  // namespace tso_alra
