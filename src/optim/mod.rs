//! Optimizers whose state can be saved.

use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::Result;
use std::collections::HashSet;
use tch::{Tensor, nn};

/// What applies gradients.
pub trait Optimizer {
    /// Forgets the gradients.
    ///
    /// # Errors
    /// Of memory, or of libtorch.
    fn f_zero_grad(&mut self) -> Result<()>;

    /// Applies the gradients that there are.
    ///
    /// # Errors
    /// Of memory, or of libtorch.
    fn f_step(&mut self) -> Result<()>;
}

/// tch's own, which panics in the place of an error.
impl Optimizer for nn::Optimizer {
    fn f_zero_grad(&mut self) -> Result<()> {
        self.zero_grad();
        Ok(())
    }

    fn f_step(&mut self) -> Result<()> {
        self.step();
        Ok(())
    }
}

/// The variables of a `VarStore` that are made to be trained, frozen ones too, in the order of their names.
pub(crate) fn named_parameters(vs: &nn::VarStore) -> Result<Vec<(String, Tensor)>> {
    let identity = |tensor: &Tensor| ffi::identity(lend(tensor));
    let trainable = vs.trainable_variables();
    let trainable = trainable.iter().map(identity).collect::<std::result::Result<HashSet<_>, _>>()?;
    let mut named = Vec::new();
    for (name, variable) in vs.variables() {
        if trainable.contains(&identity(&variable)?) {
            named.push((name, variable));
        }
    }
    // The map has no order of its own.
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(named)
}
