//! Loss scaling, for gradients of half precision.

use super::Optimizer;
use crate::bng::Bng;
use crate::bridge::ffi;
use crate::convert::{lend, lend_all};
use crate::error::{Error, Result};
use crate::hatted::{Hatted, Method};
use crate::layers::Plain;
use crate::state_file::{self, Format, StateFile};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// What must know the factor of the loss: the layers whose state is of the unscaled gradient.
pub trait LossScaled: Send {
    /// Tells it.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not a finite number above 0.
    fn f_set_loss_scale(&self, loss_scale: f64) -> Result<()>;
}

impl<M: Method> LossScaled for Hatted<M> {
    fn f_set_loss_scale(&self, loss_scale: f64) -> Result<()> {
        Hatted::f_set_loss_scale(self, loss_scale)
    }
}

/// tch's layers have no state.
impl LossScaled for Plain {
    fn f_set_loss_scale(&self, _: f64) -> Result<()> {
        Ok(())
    }
}

impl<L: LossScaled> LossScaled for Bng<L> {
    fn f_set_loss_scale(&self, loss_scale: f64) -> Result<()> {
        self.layers().f_set_loss_scale(loss_scale)
    }
}

/// The settings of a [`GradScaler`]. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradScalerConfig {
    /// The first scale. Finite, above 0.
    pub init_scale: f64,
    /// What the scale is multiplied by after so many good steps. Above 1.
    pub growth_factor: f64,
    /// What it is multiplied by after a step whose gradients are not finite. In (0, 1).
    pub backoff_factor: f64,
    /// How many good steps in a row. At least 1.
    pub growth_interval: u64,
}

impl Default for GradScalerConfig {
    fn default() -> Self {
        Self { init_scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// Multiplies the loss, so that gradients of half precision do not vanish; divides the gradients again; leaves out a step whose
/// gradients are not finite; and looks for the largest scale at which they are (`torch.amp.GradScaler`). It tells the layers of
/// [`Svgd`](crate::Svgd) and [`TsoAlra`](crate::TsoAlra) the scale, for their second moments.
///
/// Each step waits for the device once, to learn whether it is taken.
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::optim::{GradScaler, Rule, Sgd};
/// use tch_svgd::{Svgd, SvgdConfig};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let svgd = Svgd::new(SvgdConfig::default())?;
/// let fc = svgd.linear(vs.root() / "fc", 4, 3, Default::default());
/// let mut optimizer = Sgd::default().build(&vs, 0.1)?;
/// let mut scaler = GradScaler::new(Default::default())?;
/// scaler.tell(svgd.clone())?;
///
/// let xs = Tensor::randn([8, 4], (Kind::Float, Device::Cpu));
/// let loss = tch_svgd::autocast(Device::Cpu, Kind::BFloat16, || fc.forward(&xs))?.square().mean(Kind::Float);
/// let was_taken = scaler.backward_step(&mut optimizer, &loss)?;
/// assert!(was_taken);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub struct GradScaler {
    config: GradScalerConfig,
    scale: f64,
    /// Good steps since the scale last changed.
    good_steps: u64,
    told: Vec<Box<dyn LossScaled>>,
    /// Whether the gradients of this step have been divided, and are finite.
    unscaled: Option<bool>,
}

impl fmt::Debug for GradScaler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, scale, good_steps, .. } = self;
        let mut debug = formatter.debug_struct("GradScaler");
        debug.field("config", config).field("scale", scale).field("good_steps", good_steps).finish_non_exhaustive()
    }
}

const FORMAT: &str = "tch-svgd grad scaler 1";

impl GradScaler {
    /// Starts with the first scale.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range.
    pub fn new(config: GradScalerConfig) -> Result<Self> {
        let GradScalerConfig { init_scale, growth_factor, backoff_factor, growth_interval } = config;
        let checks = [
            ("init_scale", init_scale, is_scale(init_scale), "a finite number > 0"),
            ("growth_factor", growth_factor, growth_factor.is_finite() && growth_factor > 1.0, "a finite number > 1"),
            ("backoff_factor", backoff_factor, backoff_factor > 0.0 && backoff_factor < 1.0, "a number in (0, 1)"),
            ("growth_interval", growth_interval as f64, growth_interval >= 1, "at least 1"),
        ];
        for (name, value, valid, expected) in checks {
            if !valid {
                return Err(Error::Config(format!(
                    "GradScaler: setting '{name}': expected {expected}, got {value}; correct the setting"
                )));
            }
        }
        Ok(Self { config, scale: init_scale, good_steps: 0, told: Vec::new(), unscaled: None })
    }

    /// The scale as it is.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Tells the scale, now and whenever it changes: a clone of the `Svgd` or `TsoAlra` whose layers the model has.
    ///
    /// # Errors
    /// [`Error::Config`] if it refuses the scale.
    pub fn tell(&mut self, layers: impl LossScaled + 'static) -> Result<()> {
        layers.f_set_loss_scale(self.scale)?;
        self.told.push(Box::new(layers));
        Ok(())
    }

    /// The loss to call `backward` on.
    ///
    /// # Errors
    /// [`Error::Tch`].
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(loss.f_mul_scalar(self.scale)?)
    }

    /// Divides the gradients, once a step: before something looks at them, as clipping or [`Bng`](crate::Bng) does.
    /// [`step`](Self::step) does it otherwise. Returns whether they are finite.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a sparse gradient; those of libtorch.
    pub fn unscale(&mut self, optimizer: &(impl Optimizer + ?Sized)) -> Result<bool> {
        if let Some(finite) = self.unscaled {
            return Ok(finite);
        }
        let mut by_device: Vec<(Device, Vec<Tensor>)> = Vec::new();
        for parameter in optimizer.parameters() {
            let gradient = parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let device = gradient.device();
            match by_device.iter_mut().find(|(there, _)| *there == device) {
                Some((_, gradients)) => gradients.push(gradient),
                None => by_device.push((device, vec![gradient])),
            }
        }
        let mut finite = true;
        for (device, gradients) in &by_device {
            let found = Tensor::f_zeros([] as [i64; 0], (Kind::Float, *device))?;
            let inverse = Tensor::f_full([] as [i64; 0], 1.0 / self.scale, (Kind::Float, *device))?;
            ffi::unscale(&*lend_all(gradients)?, lend(&found), lend(&inverse))?;
            finite &= found.f_double_value(&[])? == 0.0;
        }
        self.unscaled = Some(finite);
        Ok(finite)
    }

    /// A step of the optimizer, unless a gradient is not finite; and the scale for the next one. Returns whether it was taken.
    ///
    /// # Errors
    /// Those of [`unscale`](Self::unscale) and of the optimizer.
    pub fn step(&mut self, optimizer: &mut (impl Optimizer + ?Sized)) -> Result<bool> {
        let finite = self.unscale(optimizer)?;
        self.unscaled = None;
        if finite {
            optimizer.f_step()?;
            self.good_steps += 1;
            if self.good_steps >= self.config.growth_interval {
                self.set_scale(self.scale * self.config.growth_factor)?;
            }
        } else {
            self.set_scale(self.scale * self.config.backoff_factor)?;
        }
        Ok(finite)
    }

    /// The gradients of the scaled `loss` alone, and a [`step`](Self::step) along them.
    ///
    /// # Errors
    /// Those of [`backward`](crate::backward) and of [`step`](Self::step).
    pub fn backward_step(&mut self, optimizer: &mut (impl Optimizer + ?Sized), loss: &Tensor) -> Result<bool> {
        optimizer.f_zero_grad()?;
        crate::backward(&self.scaled(loss)?)?;
        self.step(optimizer)
    }

    /// Stays where the next one would be no scale.
    fn set_scale(&mut self, scale: f64) -> Result<()> {
        self.good_steps = 0;
        if is_scale(scale) {
            self.scale = scale;
            self.told.iter().try_for_each(|layers| layers.f_set_loss_scale(scale))?;
        }
        Ok(())
    }

    /// Writes the scale and the count of good steps.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let details = format!("scale {}, good steps {}", self.scale, self.good_steps);
        state_file::write(path.as_ref(), FORMAT, &details, BTreeMap::new())
    }

    /// Reads what [`save`](Self::save) has written, and tells the scale.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::State`] if it is damaged or something else. Nothing has changed then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let format = Format { name: FORMAT, contents: "what GradScaler::save writes".to_owned() };
        let file = StateFile::parse(path, &bytes, &format)?;
        let parse = || {
            let (scale, good_steps) = file.details.strip_prefix("scale ")?.split_once(", good steps ")?;
            Some((scale.parse().ok().filter(|&scale| is_scale(scale))?, good_steps.parse().ok()?))
        };
        let (scale, good_steps) = parse().ok_or_else(|| {
            file.error(format!(
                "expected a scale as GradScaler::save writes it, got '{}'; the file is damaged",
                file.details
            ))
        })?;
        self.set_scale(scale)?;
        self.good_steps = good_steps;
        self.unscaled = None;
        Ok(())
    }
}

/// As a Float, which the operators take it for.
fn is_scale(scale: f64) -> bool {
    (scale as f32).is_normal() && scale > 0.0
}
