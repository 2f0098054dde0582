//! All that a layer is besides its weights: its name, how it computes, and its state.

use super::method::{Geometry, Method, Pass};
use super::state::State;
use super::{Shared, lock};
use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::{Error, Result};
use std::sync::Arc;
use tch::{Device, Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Layer<M: Method> {
    pub(super) name: String,
    pub(super) geometry: Geometry,
    /// Of what the `VarStore` has under the layer's name, which tells this store from others.
    pub(super) variable: usize,
    shared: Arc<Shared<M>>,
    pub(super) state: State<M>,
}

impl<M: Method> Layer<M> {
    /// A layer with the variables of tch's own: `bias` if it has one, of `[out]`, and `weight`, whose dimension 0 is the
    /// outputs'.
    pub(super) fn build(
        shared: &Arc<Shared<M>>,
        vs: &nn::Path<'_>,
        geometry: Geometry,
        bs_init: Option<nn::Init>,
        ws_size: &[i64],
        ws_init: nn::Init,
    ) -> Result<(Tensor, Option<Tensor>, Arc<Self>)> {
        let name = layer_name(vs);
        let named = |error: tch::TchError| Error::from(error).in_layer(&name);
        let there = vs.get("weight").map(|weight| ffi::identity(lend(&weight))).transpose()?;
        lock(&shared.registry).check_name(&name, there)?;
        // The order of tch: the same seed gives the same layer.
        let bs = bs_init.map(|init| vs.f_var("bias", &ws_size[..1], init).map_err(named)).transpose()?;
        let ws = vs.f_var("weight", ws_size, ws_init).map_err(named)?;
        // Of two layers with one path the first has the name: tch gives the second's weight a number.
        let variable = there.map_or_else(|| ffi::identity(lend(&ws)), Ok)?;
        let layer = lock(&shared.registry).register(&name, there, |name| {
            Arc::new(Self { name, geometry, variable, shared: shared.clone(), state: State::default() })
        })?;
        Ok((ws, bs, layer))
    }

    /// The output, for gradients of the kind that the `Hatted` is set to.
    pub(super) fn forward(&self, xs: &Tensor, ws: &Tensor, bs: Option<&Tensor>) -> Result<Tensor> {
        let pass = Pass { xs, ws, bs, geometry: self.geometry };
        let settings = *lock(&self.shared.settings);
        let output = if settings.is_on() && ws.requires_grad() && ffi::is_grad_enabled()? {
            let options = options(ws);
            let initial = || M::initial(&settings.config, &pass, options);
            self.state.in_pass(options, initial, |state| M::call(&settings, &pass, state))
        } else {
            // No gradient of the method's can come of it: the original itself, and where it fails the hatted operator,
            // whose checks say more, with a state of no consequence.
            pass.plain().map_err(|error| {
                let initial = M::initial(&settings.config, &pass, options(ws));
                error.explained_by(initial.and_then(|state| M::call(&settings, &pass, &state)))
            })
        };
        output.map_err(|error| error.in_layer(&self.name))
    }

    pub(super) fn config(&self) -> M::Config {
        lock(&self.shared.settings).config
    }
}

/// The name of a layer: its path in the `VarStore`.
pub(super) fn layer_name(vs: &nn::Path<'_>) -> String {
    vs.components().collect::<Vec<_>>().join(".")
}

/// The kind and the device of the accumulators for gradients of `weight`.
fn options(weight: &Tensor) -> (Kind, Device) {
    // An undefined weight has neither, and tch would panic: it is the operator's to refuse.
    if !weight.defined() {
        return (Kind::Float, Device::Cpu);
    }
    let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    (kind, weight.device())
}
