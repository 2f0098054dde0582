//! Loss scaling, for passes in half precision.

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

/// Multiplies the loss, so that the gradients of passes in half precision do not vanish; divides the weights' gradients again;
/// leaves out a step whose gradients are not finite; and looks for the largest scale at which they are (`torch.amp.GradScaler`). The
/// weights are Float, and the passes in an [`autocast`](crate::autocast) region. It tells the layers of
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
    /// The optimizers whose gradients have been divided since the last update, by their first parameters; and whether these
    /// gradients were finite.
    unscaled: Vec<(usize, bool)>,
    /// Whether a step has been left out since.
    left_out: bool,
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
        Ok(Self { config, scale: init_scale, good_steps: 0, told: Vec::new(), unscaled: Vec::new(), left_out: false })
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

    /// The loss to call `backward` on, as a Float.
    ///
    /// # Errors
    /// [`Error::Tch`].
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        let kind = if loss.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Ok(loss.f_to_kind(kind)?.f_mul_scalar(self.scale)?)
    }

    /// Divides the gradients, once until the next [`update`](Self::update): before something looks at them, as clipping or
    /// [`Bng`](crate::Bng) does. [`step`](Self::step) does it otherwise. Returns whether they are finite.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a sparse gradient, and for one of half precision, in which what the scale has saved would vanish
    /// again: the weights must be Float, and the passes in an [`autocast`](crate::autocast) region. Nothing has changed then.
    pub fn unscale(&mut self, optimizer: &mut (impl Optimizer + ?Sized)) -> Result<bool> {
        let parameters = optimizer.parameters()?;
        let key = key(&parameters)?;
        if let Some((_, finite)) = self.unscaled.iter().find(|(other, _)| *other == key) {
            return Ok(*finite);
        }
        let mut groups: Vec<((Device, Kind), Vec<Tensor>)> = Vec::new();
        for parameter in &parameters {
            let gradient = parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            if gradient.is_sparse() || !matches!(gradient.kind(), Kind::Float | Kind::Double) {
                let got =
                    if gradient.is_sparse() { "a sparse one".to_owned() } else { format!("{:?}", gradient.kind()) };
                return Err(Error::Unsupported(format!(
                    "GradScaler: argument 'optimizer': expected dense gradients of kind Float or Double, got {got}; keep the weights in Float, and \
                     compute in half precision by tch_svgd::autocast"
                )));
            }
            let options = (gradient.device(), gradient.kind());
            match groups.iter_mut().find(|(there, _)| *there == options) {
                Some((_, gradients)) => gradients.push(gradient),
                None => groups.push((options, vec![gradient])),
            }
        }
        let mut finite = true;
        for ((device, _), gradients) in &groups {
            let found = Tensor::f_zeros([], (Kind::Float, *device))?;
            let inverse = Tensor::f_full([] as [i64; 0], 1.0 / self.scale, (Kind::Float, *device))?;
            ffi::unscale(&*lend_all(gradients)?, lend(&found), lend(&inverse))?;
            finite &= found.f_double_value(&[])? == 0.0;
        }
        self.unscaled.push((key, finite));
        Ok(finite)
    }

    /// A step of the optimizer, unless one of its gradients is not finite. Returns whether it was taken.
    ///
    /// # Errors
    /// Those of [`unscale`](Self::unscale) and of the optimizer. A step that is tried again divides nothing twice.
    pub fn step(&mut self, optimizer: &mut (impl Optimizer + ?Sized)) -> Result<bool> {
        let finite = self.unscale(optimizer)?;
        match finite {
            true => optimizer.f_step()?,
            false => self.left_out = true,
        }
        Ok(finite)
    }

    /// The scale for the next step: smaller if an optimizer's step was left out since the last call, larger after many good ones.
    /// Once a step, after all optimizers that share the loss.
    ///
    /// # Errors
    /// [`Error::Config`] if the layers that are told refuse the scale.
    pub fn update(&mut self) -> Result<()> {
        self.unscaled.clear();
        if std::mem::take(&mut self.left_out) {
            return self.set_scale(self.scale * self.config.backoff_factor);
        }
        self.good_steps = self.good_steps.saturating_add(1);
        match self.good_steps >= self.config.growth_interval {
            true => self.set_scale(self.scale * self.config.growth_factor),
            false => Ok(()),
        }
    }

    /// The gradients of the scaled `loss` alone, a [`step`](Self::step) along them, and the [`update`](Self::update): of a model with
    /// one optimizer. Returns whether the step was taken.
    ///
    /// # Errors
    /// Those of [`backward`](crate::backward) and of [`step`](Self::step).
    pub fn backward_step(&mut self, optimizer: &mut (impl Optimizer + ?Sized), loss: &Tensor) -> Result<bool> {
        // These are new gradients, whatever has become of the ones before.
        self.unscaled.clear();
        optimizer.f_zero_grad()?;
        crate::backward(&self.scaled(loss)?)?;
        let taken = self.step(optimizer)?;
        self.update()?;
        Ok(taken)
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

    /// Writes the scale, the count of good steps, and the settings.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let GradScalerConfig { init_scale, growth_factor, backoff_factor, growth_interval } = self.config;
        let details = format!(
            "scale {}, good steps {}, first {init_scale}, growth {growth_factor}, backoff {backoff_factor}, interval \
             {growth_interval}",
            self.scale, self.good_steps
        );
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
        let mut fields = file.details.split(", ");
        let mut parse = || {
            let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix(' ');
            let (scale, good_steps) = (field("scale")?.parse().ok()?, field("good steps")?.parse().ok()?);
            let config = GradScalerConfig {
                init_scale: field("first")?.parse().ok()?,
                growth_factor: field("growth")?.parse().ok()?,
                backoff_factor: field("backoff")?.parse().ok()?,
                growth_interval: field("interval")?.parse().ok()?,
            };
            let read = Self::new(config).ok()?;
            let is_all = fields.next().is_none() && file.names().is_empty();
            (is_all && is_scale(scale)).then_some((scale, good_steps, read.config))
        };
        let (scale, good_steps, config) = parse().ok_or_else(|| {
            file.error(format!(
                "expected a scale as GradScaler::save writes it, got '{}'; the file is damaged",
                file.details
            ))
        })?;
        self.config = config;
        self.set_scale(scale)?;
        self.good_steps = good_steps;
        self.unscaled.clear();
        self.left_out = false;
        Ok(())
    }
}

/// What tells an optimizer from others: its first parameter, 0 if it has none.
fn key(parameters: &[Tensor]) -> Result<usize> {
    Ok(parameters.first().map(|first| ffi::identity(lend(first))).transpose()?.unwrap_or(0))
}

/// As a Float, which the operators take it for.
fn is_scale(scale: f64) -> bool {
    (scale as f32).is_normal() && scale > 0.0
}
