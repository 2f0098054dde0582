//! All that a layer is besides its weights: its name, how it computes, and its state.

use super::method::{Geometry, Method, Pass, Settings};
use super::state::{Origin, State};
use super::{Shared, lock};
use crate::bridge::ffi;
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Layer<M: Method> {
    pub(super) name: String,
    pub(super) geometry: Geometry,
    shared: Arc<Shared<M>>,
    /// None before the first forward pass with gradients.
    pub(super) state: Mutex<Option<State>>,
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
        let again = vs.get("weight").is_some();
        lock(&shared.registry).check_name(&name, again)?;
        // The order of tch: the same seed gives the same layer.
        let bs = bs_init.map(|init| vs.f_var("bias", &ws_size[..1], init).map_err(named)).transpose()?;
        let ws = vs.f_var("weight", ws_size, ws_init).map_err(named)?;
        let layer = lock(&shared.registry).register(&name, again, |name| {
            Arc::new(Self { name, geometry, shared: shared.clone(), state: Mutex::default() })
        })?;
        Ok((ws, bs, layer))
    }

    /// The output, for gradients of the kind that the `Hatted` is set to.
    pub(super) fn forward(&self, xs: &Tensor, ws: &Tensor, bs: Option<&Tensor>) -> Result<Tensor> {
        let pass = Pass { xs, ws, bs, geometry: self.geometry };
        let settings = *lock(&self.shared.settings);
        let output = if settings.enabled && ws.requires_grad() && ffi::is_grad_enabled()? {
            self.forward_hatted(&settings, &pass)
        } else {
            // No gradient of the method's can come of it: the original itself, and where it fails the hatted operator,
            // whose checks say more, with a state of no consequence.
            pass.plain().map_err(|error| {
                let zeros = M::zeros(&settings.config, &pass, options(ws));
                error.explained_by(zeros.and_then(|state| M::call(&settings, &pass, &state)))
            })
        };
        output.map_err(|error| error.in_layer(&self.name))
    }

    fn forward_hatted(&self, settings: &Settings<M::Config>, pass: &Pass<'_>) -> Result<Tensor> {
        let options = options(pass.ws);
        let mut state = lock(&self.state);
        if let Some(State { tensors, origin: Origin::Passes }) = &*state
            && tensors.iter().all(|tensor| (tensor.kind(), tensor.device()) == options)
        {
            let lent: Vec<_> = tensors.iter().map(Tensor::shallow_clone).collect();
            drop(state);
            return M::call(settings, pass, &lent);
        }
        // A new state is the layer's once a pass has taken it: what fails leaves the old one, or none. Another thread waits.
        let tensors = State::for_pass(state.as_ref(), options, || M::zeros(&settings.config, pass, options))?;
        let output = M::call(settings, pass, &tensors)?;
        *state = Some(State { tensors, origin: Origin::Passes });
        Ok(output)
    }

    /// Copies of the state, once there has been a forward pass with gradients.
    pub(super) fn snapshot(&self) -> Option<Vec<Tensor>> {
        let state = lock(&self.state);
        let state = state.as_ref().filter(|state| state.has_begun())?;
        Some(state.tensors.iter().map(|tensor| tensor.detach().copy()).collect())
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
    let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    (kind, weight.device())
}

impl State {
    /// What a pass is given, and its backward pass updates in place: `zeros` at first. When the weight has moved to
    /// another device or kind since, the state follows.
    fn for_pass(
        state: Option<&State>,
        options: (Kind, Device),
        zeros: impl FnOnce() -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let tensors = match state {
            None => zeros()?,
            Some(State { tensors, origin: Origin::Passes }) => tensors.iter().map(Tensor::shallow_clone).collect(),
            // As new, but for the memory, if it is what a new one would have.
            Some(State { tensors, origin: Origin::Reset }) => {
                let keep = |(old, new): (&Tensor, Tensor)| match has_form_of(old, &new) {
                    true => old.shallow_clone(),
                    false => new,
                };
                tensors.iter().zip(zeros()?).map(keep).collect()
            }
            // In the order that the passes read it in; where the size is not theirs, the operator says what is wrong.
            Some(State { tensors, origin: Origin::File }) => {
                let adapt = |(old, mut new): (&Tensor, Tensor)| {
                    if old.size() != new.size() {
                        return Ok(old.shallow_clone());
                    }
                    tch::no_grad(|| new.f_copy_(old))?;
                    Ok(new)
                };
                tensors.iter().zip(zeros()?).map(adapt).collect::<Result<_>>()?
            }
        };
        let follow = |tensor: Tensor| match (tensor.kind(), tensor.device()) == options {
            true => Ok(tensor),
            false => Ok(tensor.f_to_device(options.1)?.f_to_kind(options.0)?),
        };
        tensors.into_iter().map(follow).collect()
    }
}

/// Whether one can be used in the place of the other.
fn has_form_of(tensor: &Tensor, other: &Tensor) -> bool {
    tensor.size() == other.size() && tensor.kind() == other.kind() && tensor.device() == other.device()
}
