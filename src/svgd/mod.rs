//! The front end of SVGD: the optimizer state and the layers that share it.

mod config;
mod conv2d;
mod linear;
mod state;

pub use config::{BatchGradient, Granularity, SvgdConfig};
pub use conv2d::SvgdConv2D;
pub use linear::SvgdLinear;

use crate::bridge::ffi;
use crate::error::Result;
use crate::functional::Hyperparameters;
use crate::layers::Layers;
use state::Accumulators;
use std::borrow::Borrow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::nn;

/// SVGD: virtual gradients for the weights of [`SvgdLinear`] and [`SvgdConv2D`] (Li & Shu 2019, Algorithm 1).
///
/// Makes the layers and owns their accumulators, the second moments of the gradients of their outputs. An ordinary
/// `backward()` updates the accumulators and leaves virtual gradients in the weights; any tch optimizer applies them.
/// Clones share everything. The accumulators of a layer live as long as the layer.
///
/// The accumulators are optimizer state: they are not in the `VarStore`, and [`save`](Self::save) and
/// [`load`](Self::load) keep them. A layer updates its own once per backward pass through it, a layer applied twice in
/// one graph twice, in backward order; never under `no_grad`, nor while its weight is frozen.
///
/// ```
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let svgd = Svgd::new(SvgdConfig { scale: 0.01, ..Default::default() })?;
/// let model = svgd.linear(vs.root() / "fc", 4, 3, Default::default());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.5)?;
///
/// let (xs, labels) = (Tensor::randn([8, 4], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1]));
/// let loss = model.forward(&xs).cross_entropy_for_logits(&labels);
/// optimizer.backward_step(&loss);
/// assert_eq!(svgd.state_bytes(), 3 * 4); // one f32 per output
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Svgd {
    shared: Arc<Shared>,
}

/// What an `Svgd` and its layers have in common.
#[derive(Debug)]
struct Shared {
    settings: Mutex<Settings>,
    accumulators: Mutex<Accumulators>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    config: SvgdConfig,
    enabled: bool,
    loss_scale: f64,
}

/// A panic of another thread while it held the lock leaves plain values behind, which are as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The arguments of the operator for a batch of `rows`, or `None` when the plain operator is to run: with plain
    /// gradients asked for, without gradients, or for a frozen weight.
    fn hyperparameters(&self, weight: &tch::Tensor, rows: i64) -> Result<Option<Hyperparameters>> {
        let Settings { config, enabled, loss_scale } = *lock(&self.settings);
        if !enabled || !weight.requires_grad() || !ffi::is_grad_enabled()? {
            return Ok(None);
        }
        let batch = match config.batch_gradient {
            BatchGradient::AsReceived => 1.0,
            BatchGradient::PerExample => rows as f64,
        };
        Ok(Some(Hyperparameters {
            scale: config.scale,
            decay: config.decay,
            eps: config.eps,
            gradient_scale: batch / loss_scale,
            virtual_bias: config.virtual_bias,
        }))
    }

    fn granularity(&self) -> Granularity {
        lock(&self.settings).config.granularity
    }
}

impl Svgd {
    /// Starts with no layers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a setting is out of its range.
    pub fn new(config: SvgdConfig) -> Result<Self> {
        config.validate()?;
        let settings = Settings { config, enabled: true, loss_scale: 1.0 };
        Ok(Self { shared: Arc::new(Shared { settings: Mutex::new(settings), accumulators: Mutex::default() }) })
    }

    /// The settings as they are now.
    pub fn config(&self) -> SvgdConfig {
        lock(&self.shared.settings).config
    }

    /// Sets the factor `s` of the virtual gradient, from the next forward pass on.
    ///
    /// # Panics
    /// If `scale` is negative or not finite; [`f_set_scale`](Self::f_set_scale) returns an error.
    pub fn set_scale(&self, scale: f64) {
        self.f_set_scale(scale).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Sets the factor `s` of the virtual gradient, from the next forward pass on.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `scale` is negative or not finite.
    pub fn f_set_scale(&self, scale: f64) -> Result<()> {
        config::check_scale(scale)?;
        lock(&self.shared.settings).config.scale = scale;
        Ok(())
    }

    /// Tells the factor that a loss scaler multiplied the loss with, so that the statistic is of the unscaled
    /// gradient; from the next forward pass on. The virtual gradient stays scaled, for the scaler to unscale.
    ///
    /// # Panics
    /// If `loss_scale` is not a finite number above 0; [`f_set_loss_scale`](Self::f_set_loss_scale) returns an error.
    pub fn set_loss_scale(&self, loss_scale: f64) {
        self.f_set_loss_scale(loss_scale).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`set_loss_scale`](Self::set_loss_scale).
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `loss_scale` is not a finite number above 0.
    pub fn f_set_loss_scale(&self, loss_scale: f64) -> Result<()> {
        config::check_loss_scale(loss_scale)?;
        lock(&self.shared.settings).loss_scale = loss_scale;
        Ok(())
    }

    /// Switches virtual gradients on or off, from the next forward pass on. Off, the layers are tch's own: their
    /// gradients are the plain ones to the bit, and the accumulators stay as they are.
    pub fn set_enabled(&self, enabled: bool) {
        lock(&self.shared.settings).enabled = enabled;
    }

    /// Whether virtual gradients are on, as they are at first.
    pub fn is_enabled(&self) -> bool {
        lock(&self.shared.settings).enabled
    }

    /// Forgets all second moments, as after [`new`](Self::new). Needed when the image size changes for good with
    /// [`Granularity::Element`], or a weight is replaced by one with other outputs. Their memory is zeroed and stays for the
    /// next pass of the same size: a graph that waits for its backward pass, and a captured
    /// [`CudaGraph`](crate::CudaGraph), go on with it.
    pub fn reset(&self) {
        lock(&self.shared.accumulators).reset();
    }

    /// The memory that the accumulators take, in bytes; a reset keeps it.
    pub fn state_bytes(&self) -> usize {
        lock(&self.shared.accumulators).bytes()
    }

    /// Writes the accumulators as safetensors, one per layer under the layer's name (its path in the `VarStore`; a
    /// second layer of the same name is `NAME__1`). The file is replaced as a whole or not at all. A backward pass in
    /// another thread must not run meanwhile: it changes the values that are being written.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written; [`Error::State`](crate::Error::State) for a layer with
    /// the name `__metadata__`, which the format keeps for itself.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        lock(&self.shared.accumulators).save(path.as_ref())
    }

    /// Reads the accumulators of a [`save`](Self::save) of the same layers: training goes on as if it had not stopped, also
    /// that of a graph which waits for its backward pass, and of a captured [`CudaGraph`](crate::CudaGraph). A second moment
    /// of a size that its layer's passes do not have is an error of the first pass.
    ///
    /// ```
    /// # use tch::{Device, nn};
    /// # use tch_svgd::{Svgd, SvgdConfig};
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, weights) = (folder.path().join("svgd.safetensors"), folder.path().join("weights.safetensors"));
    /// let mut vs = nn::VarStore::new(Device::Cpu);
    /// let svgd = Svgd::new(SvgdConfig::default())?;
    /// let fc = svgd.linear(vs.root() / "fc", 4, 3, Default::default());
    /// vs.save(&weights)?;
    /// svgd.save(&path)?;
    /// // Later, with the same layers built:
    /// vs.load(&weights)?;
    /// svgd.load(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::State`](crate::Error::State) if it is
    /// damaged or belongs to other layers. The accumulators are untouched then.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        lock(&self.shared.accumulators).load(path.as_ref(), false).map(|_| ())
    }

    /// As [`load`](Self::load), for a model that has layers in common with the one which was saved, as when a new head is
    /// trained on an old body. Returns the names of the layers that the file lacks: these stay as they are. What the file has
    /// of other layers is left.
    ///
    /// ```
    /// # use tch::{Device, nn};
    /// # use tch_svgd::{Svgd, SvgdConfig};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("svgd.safetensors");
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let old = Svgd::new(SvgdConfig::default())?;
    /// let _body = old.linear(vs.root() / "body", 4, 3, Default::default());
    /// old.save(&path)?;
    ///
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let new = Svgd::new(SvgdConfig::default())?;
    /// let layers = ["body", "head"].map(|name| new.linear(vs.root() / name, 4, 3, Default::default()));
    /// assert_eq!(new.load_partial(&path)?, ["head"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load), but for layers that are not those of the file.
    pub fn load_partial(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        lock(&self.shared.accumulators).load(path.as_ref(), true)
    }

    /// Makes a fully-connected layer with the names and the initialisation of [`tch::nn::linear`].
    ///
    /// # Panics
    /// Where [`f_linear`](Self::f_linear) returns an error.
    pub fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> SvgdLinear {
        self.f_linear(vs, in_dim, out_dim, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a fully-connected layer with the names and the initialisation of [`tch::nn::linear`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a dimension that is not positive; [`Error::Tch`](crate::Error::Tch).
    pub fn f_linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> Result<SvgdLinear> {
        SvgdLinear::new(self.shared.clone(), vs.borrow(), in_dim, out_dim, config)
    }

    /// Makes a 2-D convolution with the names and the initialisation of [`tch::nn::conv2d`].
    ///
    /// # Panics
    /// Where [`f_conv2d`](Self::f_conv2d) returns an error.
    pub fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> SvgdConv2D {
        self.f_conv2d(vs, in_dim, out_dim, ksize, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a 2-D convolution with the names and the initialisation of [`tch::nn::conv2d`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a size or setting out of its range; [`Error::Tch`](crate::Error::Tch).
    pub fn f_conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> Result<SvgdConv2D> {
        let nn::ConvConfig { stride, padding, dilation, groups, bias, ws_init, bs_init, padding_mode } = config;
        let config = nn::ConvConfigND::<[i64; 2]> {
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [dilation; 2],
            groups,
            bias,
            ws_init,
            bs_init,
            padding_mode,
        };
        self.f_conv(vs, in_dim, out_dim, [ksize; 2], config)
    }

    /// Makes a 2-D convolution with a rectangular kernel and settings per axis, (height, width), with the names and
    /// the initialisation of [`tch::nn::conv`].
    ///
    /// # Panics
    /// Where [`f_conv`](Self::f_conv) returns an error.
    pub fn conv<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksizes: [i64; 2],
        config: nn::ConvConfigND<[i64; 2]>,
    ) -> SvgdConv2D {
        self.f_conv(vs, in_dim, out_dim, ksizes, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a 2-D convolution with a rectangular kernel and settings per axis, (height, width), with the names and
    /// the initialisation of [`tch::nn::conv`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a size or setting out of its range; [`Error::Tch`](crate::Error::Tch).
    pub fn f_conv<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksizes: [i64; 2],
        config: nn::ConvConfigND<[i64; 2]>,
    ) -> Result<SvgdConv2D> {
        SvgdConv2D::new(self.shared.clone(), vs.borrow(), in_dim, out_dim, ksizes, config)
    }
}

impl Layers for Svgd {
    type Linear = SvgdLinear;
    type Conv2D = SvgdConv2D;

    fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> SvgdLinear {
        self.linear(vs, in_dim, out_dim, config)
    }

    fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> SvgdConv2D {
        self.conv2d(vs, in_dim, out_dim, ksize, config)
    }
}
