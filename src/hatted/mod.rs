//! The mechanism, once for all methods: layers whose backward passes belong to a method, and the state that they share.
//!
//! [`Hatted`] makes the layers, [`Method`] says what a method must bring. [`Svgd`](crate::Svgd) is `Hatted<SvgdMethod>`.

mod conv;
mod files;
mod layer;
mod linear;
pub(crate) mod method;
mod registry;
mod state;
mod switch;

pub use conv::HattedConv2D;
pub use linear::HattedLinear;
pub use method::{BatchGradient, Convolution, Geometry, Method, Pass, Settings};
pub use switch::{Progress, Stage, Switch};

use crate::error::{Error, Result};
use crate::layers::Layers;
use registry::Registry;
use std::borrow::Borrow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::nn;

/// Makes the layers of a method and owns their state; [`Svgd`](crate::Svgd) is SVGD's.
///
/// An ordinary `backward()` changes the state and leaves the method's gradients in the weights; any tch optimizer applies
/// them. Clones share everything. The state of a layer lives as long as the layer.
///
/// It is optimizer state: it is not in the `VarStore`, and [`save`](Self::save) and [`load`](Self::load) keep it. A layer
/// updates its own once per backward pass through it, a layer applied twice in one graph twice, in backward order; never
/// under `no_grad`, nor while its weight is frozen.
#[derive(Debug)]
pub struct Hatted<M: Method> {
    shared: Arc<Shared<M>>,
}

impl<M: Method> Clone for Hatted<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// What a `Hatted` and its layers have in common.
#[derive(Debug)]
struct Shared<M: Method> {
    settings: Mutex<Settings<M::Config>>,
    switch: Mutex<Switch>,
    /// Held during a step.
    stepping: Mutex<()>,
    registry: Mutex<Registry<M>>,
}

/// A panic of another thread while it held the lock leaves plain values behind, which are as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Method> Hatted<M> {
    /// Starts with no layers.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range.
    pub fn new(config: M::Config) -> Result<Self> {
        M::validate(&config)?;
        let settings = Settings { config, enabled: true, loss_scale: 1.0, progress: Progress::default() };
        let (settings, switch, registry) = (Mutex::new(settings), Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { settings, switch, stepping: Mutex::default(), registry }) })
    }

    /// The settings as they are now.
    pub fn config(&self) -> M::Config {
        lock(&self.shared.settings).config
    }

    /// Changes the method's own settings, from the next forward pass on.
    pub(crate) fn change_config(&self, change: impl FnOnce(&mut M::Config)) -> Result<()> {
        let mut settings = lock(&self.shared.settings);
        let mut config = settings.config;
        change(&mut config);
        M::validate(&config)?;
        settings.config = config;
        Ok(())
    }

    /// Tells the factor that a loss scaler multiplied the loss with, so that the method's statistics are of the unscaled
    /// gradient; from the next forward pass on. The gradients stay scaled, for the scaler to unscale.
    ///
    /// # Panics
    /// If `loss_scale` is not a finite number above 0; [`f_set_loss_scale`](Self::f_set_loss_scale) returns an error.
    pub fn set_loss_scale(&self, loss_scale: f64) {
        self.f_set_loss_scale(loss_scale).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`set_loss_scale`](Self::set_loss_scale).
    ///
    /// # Errors
    /// [`Error::Config`] if `loss_scale` is not a finite number above 0.
    pub fn f_set_loss_scale(&self, loss_scale: f64) -> Result<()> {
        // The operators take what becomes of it for a float.
        if !(loss_scale as f32).is_normal() || loss_scale <= 0.0 {
            return Err(Error::Config(format!(
                "{}: setting 'loss_scale': expected a finite number > 0, got {loss_scale}; correct the setting",
                M::NAME
            )));
        }
        lock(&self.shared.settings).loss_scale = loss_scale;
        Ok(())
    }

    /// Switches the method on or off, from the next forward pass on. Off, the layers are tch's own: their gradients are
    /// the plain ones to the bit, and the state stays as it is.
    pub fn set_enabled(&self, enabled: bool) {
        lock(&self.shared.settings).enabled = enabled;
    }

    /// Whether the method is switched on, as it is at first.
    pub fn is_enabled(&self) -> bool {
        lock(&self.shared.settings).enabled
    }

    /// Says that the optimizer has taken a step. A method that has something to do between steps, as
    /// [`TsoAlra`](crate::TsoAlra) has its decompositions, does it here; and [`Switch::AtStep`] counts these calls. Returns
    /// whose gradients the layers give from the next forward pass on.
    ///
    /// Where it is not called no step is counted: no switch takes place, and TSO-ALRA's gradients stay plain. No backward pass
    /// may run in another thread meanwhile.
    ///
    /// # Panics
    /// Where [`f_step`](Self::f_step) returns an error.
    pub fn step(&self) -> Stage {
        self.f_step().unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`step`](Self::step).
    ///
    /// # Errors
    /// Of memory, or of the method's operators: the step is not counted then, and the state is as before.
    pub fn f_step(&self) -> Result<Stage> {
        let _one_at_a_time = lock(&self.shared.stepping);
        let switch = *lock(&self.shared.switch);
        let settings = *lock(&self.shared.settings);
        if settings.after_step(switch).is_on() {
            let states = lock(&self.shared.registry).states();
            M::after_step(&settings.config, settings.progress.steps.saturating_add(1), &states)?;
        }
        // Of the settings as they are now: another thread may have told a validation loss.
        let mut settings = lock(&self.shared.settings);
        *settings = settings.after_step(switch);
        Ok(settings.progress.stage)
    }

    /// Tells a validation loss, for [`Switch::Plateau`]. Returns whose gradients the layers give from the next forward pass
    /// on. What is not a number counts as no better than those before.
    ///
    /// ```
    /// use tch_svgd::{Stage, Svgd, SvgdConfig, Switch};
    /// let svgd = Svgd::new(SvgdConfig::default())?;
    /// svgd.set_switch(Switch::Plateau { patience: 2, min_delta: 0.0 })?;
    /// let stages = [0.9, 0.5, 0.6, 0.5].map(|loss| svgd.observe(loss));
    /// assert_eq!(stages, [Stage::Method, Stage::Method, Stage::Method, Stage::Plain]);
    /// # Ok::<(), tch_svgd::Error>(())
    /// ```
    pub fn observe(&self, validation_loss: f64) -> Stage {
        let switch = *lock(&self.shared.switch);
        let mut settings = lock(&self.shared.settings);
        settings.progress.observe(switch, validation_loss);
        settings.progress.stage
    }

    /// Says when the layers go over to plain gradients; never, unless it is called. What has been counted stays and counts,
    /// and so does a switch that has taken place: [`Switch::AtStep`] of steps that are behind switches at once.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting of the switch is out of its range.
    pub fn set_switch(&self, switch: Switch) -> Result<()> {
        switch.validate(M::NAME)?;
        *lock(&self.shared.switch) = switch;
        lock(&self.shared.settings).progress.meet(switch);
        Ok(())
    }

    /// The calls of [`step`](Self::step), and what they and the validation losses have led to.
    pub fn progress(&self) -> Progress {
        lock(&self.shared.settings).progress
    }

    /// Whose gradients the layers give, while the method is [switched on](Self::set_enabled).
    pub fn stage(&self) -> Stage {
        self.progress().stage
    }

    /// Forgets the state, as after [`new`](Self::new). Needed when a weight is replaced by one of another size, and when
    /// the image size changes for good where the state belongs to one, as with
    /// [`Granularity::Element`](crate::Granularity::Element). Its memory stays for the next pass of the same size: a graph that waits for its backward pass, and a captured
    /// [`CudaGraph`](crate::CudaGraph), go on with it. The [progress](Self::progress) is forgotten too.
    pub fn reset(&self) {
        lock(&self.shared.registry).reset();
        lock(&self.shared.settings).progress = Progress::default();
    }

    /// The memory that the state takes, in bytes; a reset keeps it.
    pub fn state_bytes(&self) -> usize {
        lock(&self.shared.registry).bytes()
    }

    /// Writes the state and the [progress](Self::progress) as safetensors, under the layers' names (their paths in the `VarStore`; a second layer of one path is
    /// `NAME__1`). The file is replaced as a whole or not at all. A backward pass in
    /// another thread must not run meanwhile: it changes the values that are being written.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::State`] for a layer
    /// with the name `__metadata__`, which the format keeps for itself.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        lock(&self.shared.registry).save(path.as_ref(), &self.progress())
    }

    /// Reads the state of a [`save`](Self::save) of the same layers: training goes on as if it had not stopped, also
    /// that of a graph which waits for its backward pass, and of a captured [`CudaGraph`](crate::CudaGraph). State of
    /// sizes that its layer's passes do not have is an error of the first pass.
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
    /// [`Error::Io`] if the file cannot be read, [`Error::State`] if it is
    /// damaged or belongs to other layers. The state is untouched then.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let (_, progress) = lock(&self.shared.registry).load(path.as_ref(), false)?;
        lock(&self.shared.settings).progress = progress;
        Ok(())
    }

    /// As [`load`](Self::load), for a model that has layers in common with the one which was saved, as when a new head is
    /// trained on an old body. Returns the names of the layers that the file lacks: these stay as they are. What the file has
    /// of other layers is left, and so is its progress: this is another training.
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
        Ok(lock(&self.shared.registry).load(path.as_ref(), true)?.0)
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
    ) -> HattedLinear<M> {
        self.f_linear(vs, in_dim, out_dim, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a fully-connected layer with the names and the initialisation of [`tch::nn::linear`].
    ///
    /// # Errors
    /// [`Error::Config`] for a dimension that is not positive, or a path that a
    /// layer from another `VarStore` has; [`Error::Tch`].
    pub fn f_linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> Result<HattedLinear<M>> {
        HattedLinear::new(&self.shared, vs.borrow(), in_dim, out_dim, config)
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
    ) -> HattedConv2D<M> {
        self.f_conv2d(vs, in_dim, out_dim, ksize, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a 2-D convolution with the names and the initialisation of [`tch::nn::conv2d`].
    ///
    /// # Errors
    /// [`Error::Config`] for a size or setting out of its range, or a path that
    /// a layer from another `VarStore` has; [`Error::Tch`].
    pub fn f_conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> Result<HattedConv2D<M>> {
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
    ) -> HattedConv2D<M> {
        self.f_conv(vs, in_dim, out_dim, ksizes, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a 2-D convolution with a rectangular kernel and settings per axis, (height, width), with the names and
    /// the initialisation of [`tch::nn::conv`].
    ///
    /// # Errors
    /// [`Error::Config`] for a size or setting out of its range, or a path that
    /// a layer from another `VarStore` has; [`Error::Tch`].
    pub fn f_conv<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksizes: [i64; 2],
        config: nn::ConvConfigND<[i64; 2]>,
    ) -> Result<HattedConv2D<M>> {
        HattedConv2D::new(&self.shared, vs.borrow(), in_dim, out_dim, ksizes, config)
    }
}

impl<M: Method> Layers for Hatted<M> {
    type Linear = HattedLinear<M>;
    type Conv2D = HattedConv2D<M>;

    fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> HattedLinear<M> {
        self.linear(vs, in_dim, out_dim, config)
    }

    fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> HattedConv2D<M> {
        self.conv2d(vs, in_dim, out_dim, ksize, config)
    }
}
