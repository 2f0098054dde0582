//! The authors' initialisation of the weights.

use tch::{Kind, Tensor, nn};

/// Draws every kernel and dense weight from a normal distribution that is truncated at two standard deviations, with
/// std √(2 / (in + out)), where in and out are a kernel's channel counts, and sets the biases of dense layers to zero
/// (the authors' code). Batch norm keeps its ones and zeros.
pub fn initialise(vs: &nn::VarStore) {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    // The same seed draws the same weights: the map has no order of its own.
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::no_grad(|| {
        for (name, mut variable) in variables.into_iter().filter(|(name, _)| !is_batch_norm(name)) {
            match variable.size()[..] {
                [out, channels, ..] => {
                    let std = (2.0 / (channels + out) as f64).sqrt();
                    variable.copy_(&(truncated_normal(&variable) * std));
                }
                _ if name.ends_with("bias") => {
                    let _ = variable.zero_();
                }
                _ => {}
            }
        }
    });
}

/// Whether a variable belongs to a batch norm, which is neither drawn nor penalized.
pub fn is_batch_norm(name: &str) -> bool {
    name.split('.').any(|part| part.starts_with("norm"))
}

/// Standard normal values within (-2, 2), by inversion of the distribution function.
fn truncated_normal(like: &Tensor) -> Tensor {
    // erf(2 / √2): the mass of a normal distribution within two standard deviations.
    const MASS: f64 = 0.954_499_736_103_641_6;
    let uniform = like.to_kind(Kind::Double).uniform(-MASS, MASS);
    (uniform.erfinv() * std::f64::consts::SQRT_2).to_kind(like.kind())
}
