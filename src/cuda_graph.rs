//! CUDA graphs: a training step recorded once, and launched as a whole from then on.

use crate::bridge::ffi;
use crate::error::{Error, Result};
use cxx::UniquePtr;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::Device;

/// The work that a closure launches on a CUDA device, recorded to be repeated with one launch: the CPU then has no part
/// in it. For models so small that launching their kernels takes longer than running them.
///
/// Record a training step like this:
///
/// 1. Put a batch into tensors that stay: the graph reads and writes the very memory that it was captured with. Every
///    replay works on what [`copy_`](tch::Tensor::copy_) has put there.
/// 2. Run the step a few times without a graph: what is made on first use (second moments, momentum, the handles of
///    cuBLAS and cuDNN) must be there already. A second moment made in a capture would be zeroed by every replay.
/// 3. Drop the losses and outputs of those steps, whose autograd history belongs to another stream.
/// 4. Capture it. Nothing runs in a capture: what the closure computes has values after the first replay.
///
/// What the CPU decides is decided in the capture for good: the learning rate and the step count of tch's optimizers (those of
/// [`optim`](crate::optim) keep both on the device),
/// [`Svgd::set_scale`](crate::Svgd::set_scale) and [`set_enabled`](crate::Svgd::set_enabled), shapes, and of [`TsoAlra`](crate::TsoAlra) whether a step updates the second
/// moments, applies the roots, or is plain: a graph for each kind of its steps, captured when such a step is due. Capture
/// again after a change. Random numbers do go on from replay
/// to replay.
///
/// ```no_run
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{CudaGraph, Svgd, SvgdConfig};
///
/// let device = Device::Cuda(0);
/// let vs = nn::VarStore::new(device);
/// let fc = Svgd::new(SvgdConfig::default())?.linear(vs.root() / "fc", 64, 10, Default::default());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.5)?;
/// let mut xs = Tensor::zeros([32, 64], (Kind::Float, device));
/// let mut labels = Tensor::zeros([32], (Kind::Int64, device));
/// let mut step = || {
///     let loss = fc.forward(&xs).cross_entropy_for_logits(&labels);
///     optimizer.backward_step(&loss);
///     loss.detach()
/// };
/// for _ in 0..3 {
///     step();
/// }
/// let (graph, loss) = CudaGraph::capture(device, &mut step)?;
/// for _ in 0..100 {
///     xs.copy_(&Tensor::randn([32, 64], (Kind::Float, Device::Cpu)));
///     labels.copy_(&Tensor::randint(10, [32], (Kind::Int64, Device::Cpu)));
///     graph.replay()?;
///     println!("{}", loss.double_value(&[])); // of this batch
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CudaGraph {
    graph: UniquePtr<ffi::CudaGraph>,
}

impl CudaGraph {
    /// Records the work that `f` launches on `device`, on a stream and with a memory pool of its own.
    ///
    /// - The result of `f` comes back beside the graph. Its tensors are in the graph's memory: they have no values
    ///   before the first [`replay`](Self::replay), and **each replay writes them anew**. Copy what is to last.
    /// - Waits for the device first, and for captures of other threads; those may go on with other work meanwhile, as
    ///   long as they do not wait for the whole device.
    /// - `f` must not wait for the device: no `double_value`, no printing of tensors, no copy to the CPU.
    /// - After an error the device can be used as before, nothing of `f` has run, and what `f` has put elsewhere, such
    ///   as the gradients of weights, has no values: call `zero_grad`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a device that is not CUDA, in a build without the feature `cuda`, for a capture
    /// within a capture, and if `f` does what a graph cannot hold. [`Error::Device`] if there is no such device.
    /// [`Error::OutOfMemory`]; [`Error::Torch`] if `f` panics, or for anything else that libtorch raises.
    ///
    /// ```
    /// use tch::Device;
    /// use tch_svgd::{CudaGraph, Error};
    /// let error = CudaGraph::capture(Device::Cpu, || ()).unwrap_err();
    /// assert!(matches!(error, Error::Unsupported(_)));
    /// ```
    pub fn capture<T>(device: Device, f: impl FnOnce() -> T) -> Result<(Self, T)> {
        let index = device_index(device)?;
        let _turn = Turn::take()?;
        let mut graph = ffi::begin_cuda_graph(index).map_err(|error| named("CudaGraph::capture", error.into()))?;
        // A panic is an error here, not a reason to leave the device in a capture. What `f` was about to change is as
        // broken as its own documentation says of a panic.
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => match graph.pin_mut().finish_capture() {
                Ok(()) => Ok((Self { graph }, result)),
                Err(error) => Err(match Error::from(error) {
                    Error::Torch(text) => refused(first_line(&text)),
                    error => named("CudaGraph::capture", error),
                }),
            },
            Err(panic) => {
                let invalid = graph.pin_mut().abandon_capture()?;
                let text = panic_text(&*panic);
                Err(if invalid || text.contains("captur") { refused(text) } else { panicked(text) })
            }
        }
    }

    /// Launches the recorded work on the device's current stream, and does not wait for it: what is launched next, as a
    /// copy of a result to the CPU, comes after it.
    ///
    /// # Errors
    /// [`Error::Torch`] if CUDA refuses the launch.
    pub fn replay(&self) -> Result<()> {
        self.graph.replay().map_err(|error| named("CudaGraph::replay", error.into()))
    }
}

impl fmt::Debug for CudaGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaGraph").finish_non_exhaustive()
    }
}

fn device_index(device: Device) -> Result<i64> {
    let expected = "CudaGraph::capture: argument 'device': expected";
    let Device::Cuda(index) = device else {
        return Err(Error::Unsupported(format!(
            "{expected} a CUDA device, got {device:?}; run the step without a graph"
        )));
    };
    if !cfg!(feature = "cuda") {
        return Err(Error::Unsupported(format!(
            "{expected} Cuda in a build with the feature 'cuda', got {device:?} in a build without it; build with \
             --features cuda (see `make cuda`), or run the step without a graph"
        )));
    }
    let devices = tch::Cuda::device_count();
    match i64::try_from(index) {
        Ok(index) if index < devices => Ok(index),
        _ => Err(Error::Device(format!(
            "{expected} one of the {devices} CUDA devices that libtorch sees, got {device:?}; name one of them, or run \
             the step without a graph"
        ))),
    }
}

/// One capture at a time: it begins by waiting for the device, which CUDA takes for an error while any stream captures.
struct Turn {
    _lock: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

impl Turn {
    fn take() -> Result<Self> {
        if CAPTURING.get() {
            return Err(Error::Unsupported(
                "CudaGraph::capture: expected a thread that is not capturing, got a capture within a capture; capture \
                 the two one after the other"
                    .to_owned(),
            ));
        }
        let lock = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        CAPTURING.set(true);
        Ok(Self { _lock: lock })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CAPTURING.set(false);
    }
}

/// The rest of a text of libtorch is advice and a C++ backtrace; in a panic its line breaks are escaped.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split_once("\\n").map_or(line, |(line, _)| line)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.map_or("a panic without a text", first_line)
}

fn refused(reason: &str) -> Error {
    Error::Unsupported(format!(
        "CudaGraph::capture: argument 'f': expected CUDA work that does not wait for the device, got work that a graph \
         cannot hold ({reason}); take double_value, printing and copies to the CPU out of it and run it once without a \
         graph first, or run it without a graph"
    ))
}

fn panicked(reason: &str) -> Error {
    Error::from_libtorch(format!(
        "CudaGraph::capture: argument 'f': expected a closure that returns, got a panic ({reason}); run it without a \
         graph until it does"
    ))
}

/// The same error, said of a function.
fn named(function: &str, error: Error) -> Error {
    match error {
        Error::Torch(text) => Error::Torch(format!("{function}: {}; run the step without a graph", first_line(&text))),
        Error::OutOfMemory(text) => Error::OutOfMemory(format!("{function}: {text}")),
        other => other,
    }
}
