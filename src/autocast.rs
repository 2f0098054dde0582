//! Mixed precision: autocast on any device type and to either kind, where tch has CUDA and Half alone.

use crate::bridge::ffi;
use crate::error::{Error, Result};
use tch::{Device, Kind};

/// Switches autocast back to what it was, when `f` has returned or panicked.
struct Restore(ffi::AutocastState);

impl Drop for Restore {
    fn drop(&mut self) {
        // It sets what could be set when the region began, and a drop has nobody to tell.
        let _ = ffi::leave_autocast(&self.0);
    }
}

/// Runs `f` with autocast: linear layers, convolutions and matrix products on `device`'s type compute in `kind`,
/// those of [`Svgd`](crate::Svgd) as those of tch. Weights, their gradients and the second moments stay in Float.
///
/// - `device`: the type counts, not the index. `kind`: `BFloat16` or `Half`; a loss in `Half` wants a loss scale, see
///   [`Svgd::set_loss_scale`](crate::Svgd::set_loss_scale).
/// - **State**: a thread's switch and kind of autocast, set while `f` runs and as before when it has returned or
///   panicked. Regions may be nested; `kind` is that of the innermost one.
/// - A weight is cast once and the cast is kept until the outermost region ends, as `torch.amp.autocast` does. So a
///   region holds the forward pass and the loss; `backward` and the optimizer's step stand outside. Inside of a region
///   the first use of a weight must not be under `no_grad`: its cast would have no history.
/// - In [`CudaGraph::capture`](crate::CudaGraph::capture) let the whole region be inside of the captured closure. A
///   capture forgets all casts when it begins and when it ends: none is carried into a graph or out of it.
///
/// # Errors
/// [`Error::Config`] for another kind; [`Error::Unsupported`] for a device that is neither CPU nor CUDA.
///
/// ```
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig, autocast};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let fc = Svgd::new(SvgdConfig::default())?.linear(vs.root() / "fc", 4, 3, Default::default());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.5)?;
/// let (xs, labels) = (Tensor::randn([2, 4], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[0i64, 2]));
///
/// let loss = autocast(Device::Cpu, Kind::BFloat16, || {
///     let logits = fc.forward(&xs);
///     assert_eq!(logits.kind(), Kind::BFloat16);
///     logits.to_kind(Kind::Float).cross_entropy_for_logits(&labels)
/// })?;
/// optimizer.backward_step(&loss);
/// assert_eq!(fc.ws.grad().kind(), Kind::Float);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn autocast<T>(device: Device, kind: Kind, f: impl FnOnce() -> T) -> Result<T> {
    let half = match kind {
        Kind::BFloat16 => false,
        Kind::Half => true,
        other => {
            return Err(Error::Config(format!(
                "autocast: argument 'kind': expected BFloat16 or Half, got {other:?}; name one of them, or run without \
                 autocast"
            )));
        }
    };
    let cuda = match device {
        Device::Cpu => false,
        Device::Cuda(_) => true,
        other => {
            return Err(Error::Unsupported(format!(
                "autocast: argument 'device': expected Cpu or Cuda, got {other:?}; run without autocast on this device"
            )));
        }
    };
    let _restore = Restore(ffi::enter_autocast(cuda, half)?);
    Ok(f())
}
