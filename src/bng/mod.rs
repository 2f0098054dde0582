//! Block-normalized gradients: the method, for the layers that it makes or for a model that there is.

mod blocks;
mod config;
pub mod functional;

pub use config::{Blocks, BngConfig, Normalization};

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::layers::{Layers, Parameters};
use crate::optim::{Optimizer, named_parameters};
use blocks::Block;
use std::borrow::Borrow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor, nn};

/// Normalizes the gradient of each block of a model's parameters, between the backward pass and the optimizer's step.
///
/// It acts on what the backward passes have *accumulated*, which a layer's own pass cannot: the sum of the unit vectors of a
/// layer's uses, or of micro-batches, is not the unit vector of their sum. So it goes with any layers, of tch, of
/// [`Svgd`](crate::Svgd) or of [`TsoAlra`](crate::TsoAlra), and with any optimizer. Clones share everything.
///
/// With a [`GradScaler`](crate::optim::GradScaler) call its `unscale` first, then this, then its `step`. ([`Normalization::Unit`] and
/// [`Normalization::Adaptive`] give the same for every scale: what divides their gradients afterwards, divides unit vectors.)
///
/// ```
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{BlockNormalizer, BngConfig};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = nn::seq()
///     .add(nn::linear(vs.root() / "hidden", 4, 8, Default::default()))
///     .add_fn(|xs| xs.sigmoid())
///     .add(nn::linear(vs.root() / "out", 8, 3, Default::default()));
/// let normalizer = BlockNormalizer::new(&vs, BngConfig::default())?;
/// let mut optimizer = nn::Adam::default().build(&vs, 1e-3)?;
///
/// let (xs, labels) = (Tensor::randn([8, 4], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1]));
/// let loss = net.forward(&xs).cross_entropy_for_logits(&labels);
/// normalizer.backward_step(&mut optimizer, &loss);
/// assert_eq!(normalizer.norms()?.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["hidden", "out"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlockNormalizer {
    config: BngConfig,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    blocks: Vec<Block>,
    /// The sets of blocks that had a gradient in some call, by number, and their norms. None is ever freed: a captured CUDA
    /// graph writes to it.
    norms: Vec<(Vec<usize>, Tensor)>,
    /// Which of these the last call has written; none before, and where there was no gradient.
    last: Option<usize>,
    skipped: Option<Tensor>,
}

impl BlockNormalizer {
    /// For all parameters that `vs` has now: build the model first.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range.
    pub fn new(vs: &nn::VarStore, config: BngConfig) -> Result<Self> {
        let normalizer = Self::with_blocks(vs, config.normalization, |name| Some(blocks::of(name, config.blocks)))?;
        Ok(Self { config, ..normalizer })
    }

    /// With blocks of one's own: `block` tells for the name of a variable that of its block, or none, which leaves it alone.
    ///
    /// ```
    /// use tch::{Device, nn};
    /// use tch_svgd::{BlockNormalizer, Normalization};
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let _ = nn::linear(vs.root() / "body" / "fc1", 4, 8, Default::default());
    /// let _ = nn::linear(vs.root() / "body" / "fc2", 8, 8, Default::default());
    /// let _ = nn::linear(vs.root() / "head", 8, 3, Default::default());
    /// let whole_body = |name: &str| name.starts_with("body.").then(|| "body".to_owned());
    /// let normalizer = BlockNormalizer::with_blocks(&vs, Normalization::Unit, whole_body)?;
    /// assert_eq!(normalizer.blocks(), [("body".to_owned(), 4)]);
    /// # Ok::<(), tch_svgd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range.
    pub fn with_blocks(
        vs: &nn::VarStore,
        normalization: Normalization,
        block: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let normalizer = Self::empty(BngConfig { normalization, ..Default::default() })?;
        for (name, variable) in named_parameters(vs)? {
            if let Some(block) = block(&name) {
                normalizer.add(block, variable)?;
            }
        }
        Ok(normalizer)
    }

    fn empty(config: BngConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, shared: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What a panic of another thread leaves behind is as good as before.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, block: String, parameter: Tensor) -> Result<()> {
        blocks::add(&mut self.lock().blocks, block, parameter)
    }

    /// A layer's name for a block, or `NAME__1` and so on where another layer, of the same path or of another `VarStore`, has it.
    fn unused(&self, name: &str) -> String {
        let blocks = &self.lock().blocks;
        let is_used = |name: &str| blocks.iter().any(|block| block.name == name || block.is_parameter_of(name));
        let numbered = |number: u32| if number == 0 { name.to_owned() } else { format!("{name}__{number}") };
        (0..).map(numbered).find(|name| !is_used(name)).unwrap_or_default()
    }

    /// The settings; those of [`with_blocks`](Self::with_blocks) say nothing of the blocks.
    pub fn config(&self) -> BngConfig {
        self.config
    }

    /// The names of the blocks, and how many parameters each has.
    pub fn blocks(&self) -> Vec<(String, usize)> {
        self.lock().blocks.iter().map(|block| (block.name.clone(), block.parameters.len())).collect()
    }

    /// Normalizes the gradients that there are: after the last backward pass of a step, once, before the optimizer. Parameters
    /// without a gradient, as frozen ones, are as if they did not exist.
    ///
    /// # Panics
    /// Where [`f_normalize`](Self::f_normalize) returns an error.
    pub fn normalize(&self) {
        self.f_normalize().unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`normalize`](Self::normalize).
    ///
    /// # Errors
    /// Those of [`functional::bng::normalize`](crate::functional::bng::normalize). The gradients are untouched then.
    pub fn f_normalize(&self) -> Result<()> {
        let mut shared = self.lock();
        let (mut active, mut counts) = (Vec::new(), Vec::new());
        let (mut parameters, mut gradients) = (Vec::new(), Vec::new());
        for (number, block) in shared.blocks.iter().enumerate() {
            let before = gradients.len();
            for parameter in &block.parameters {
                let gradient = parameter.f_grad()?;
                if gradient.defined() {
                    gradients.push(gradient);
                    parameters.push(parameter.shallow_clone());
                }
            }
            if gradients.len() > before {
                active.push(number);
                counts.push((gradients.len() - before) as i64);
            }
        }
        let Some(device) = gradients.first().map(Tensor::device) else {
            shared.last = None;
            return Ok(());
        };
        let known = |(blocks, norms): &(Vec<usize>, Tensor)| *blocks == active && norms.device() == device;
        let (place, norms) = match shared.norms.iter().position(known) {
            Some(place) => (place, shared.norms[place].1.shallow_clone()),
            None => (shared.norms.len(), Tensor::f_zeros([active.len() as i64], (Kind::Double, device))?),
        };
        let skipped = match &shared.skipped {
            Some(skipped) if skipped.device() == device => skipped.shallow_clone(),
            Some(skipped) => skipped.f_to_device(device)?,
            None => Tensor::f_zeros([], (Kind::Int64, device))?,
        };
        let (gradients, parameters) = (gradients.iter().collect::<Vec<_>>(), parameters.iter().collect::<Vec<_>>());
        functional::normalize(&gradients, &parameters, &counts, &norms, &skipped, self.config.normalization)?;
        if place == shared.norms.len() {
            shared.norms.push((active, norms));
        }
        shared.last = Some(place);
        shared.skipped = Some(skipped);
        Ok(())
    }

    /// The gradients of `loss` alone, normalized, and a step of `optimizer` along them.
    ///
    /// # Panics
    /// Where [`f_backward_step`](Self::f_backward_step) returns an error.
    pub fn backward_step(&self, optimizer: &mut (impl Optimizer + ?Sized), loss: &Tensor) {
        self.f_backward_step(optimizer, loss).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`backward_step`](Self::backward_step).
    ///
    /// # Errors
    /// Those of [`backward`](crate::backward), of [`f_normalize`](Self::f_normalize) and of the optimizer.
    pub fn f_backward_step(&self, optimizer: &mut (impl Optimizer + ?Sized), loss: &Tensor) -> Result<()> {
        optimizer.f_zero_grad()?;
        crate::backward(loss)?;
        self.f_normalize()?;
        optimizer.f_step()
    }

    /// The norms of the gradients before the last [`normalize`](Self::normalize), by block, where there was a gradient. Waits for
    /// the device, which `normalize` does not.
    ///
    /// # Errors
    /// [`Error::Tch`] if the device has failed.
    pub fn norms(&self) -> Result<Vec<(String, f64)>> {
        let shared = self.lock();
        let Some((active, norms)) = shared.last.map(|place| &shared.norms[place]) else { return Ok(Vec::new()) };
        let norms = Vec::<f64>::try_from(norms.f_to_device(Device::Cpu)?)?;
        Ok(active.iter().map(|&number| shared.blocks[number].name.clone()).zip(norms).collect())
    }

    /// How many times a block's norm has not been finite, and the block was left as it was. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Tch`] if the device has failed.
    pub fn skipped(&self) -> Result<u64> {
        let shared = self.lock();
        let count = shared.skipped.as_ref().map(|skipped| skipped.f_int64_value(&[])).transpose()?;
        Ok(count.unwrap_or(0).try_into().unwrap_or(0))
    }
}

/// Makes the layers of `L`, [`Plain`](crate::Plain), [`Svgd`](crate::Svgd) or [`TsoAlra`](crate::TsoAlra), and normalizes their
/// gradients, each layer's weight and bias as a block (BNG paper, Algorithm 1). What other parameters a model has, as those of
/// batch norms, keep their gradients; [`BlockNormalizer`] is for all of a model's. It keeps the parameters of all layers that it has
/// made: a new model wants a new one.
///
/// ```
/// use tch::nn::{self, Module, OptimizerConfig};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Bng, BngConfig, Layers, Svgd, SvgdConfig};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let bng = Bng::new(Svgd::new(SvgdConfig::default())?, BngConfig::default())?;
/// let fc = bng.linear(vs.root() / "fc", 4, 3, Default::default());
/// let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
/// let loss = fc.forward(&Tensor::randn([8, 4], (Kind::Float, Device::Cpu))).square().mean(None);
/// bng.backward_step(&mut optimizer, &loss);
/// let gradient = Tensor::cat(&[fc.ws.grad().view([-1]), fc.bs.as_ref().unwrap().grad()], 0);
/// assert!((gradient.norm().double_value(&[]) - 1.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bng<L> {
    layers: L,
    normalizer: BlockNormalizer,
}

impl<L> Bng<L> {
    /// Starts with no layers.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting is out of its range.
    pub fn new(layers: L, config: BngConfig) -> Result<Self> {
        Ok(Self { layers, normalizer: BlockNormalizer::empty(config)? })
    }

    /// What makes the layers.
    pub fn layers(&self) -> &L {
        &self.layers
    }

    /// What normalizes their gradients: it tells the [norms](BlockNormalizer::norms).
    pub fn normalizer(&self) -> &BlockNormalizer {
        &self.normalizer
    }

    /// [`BlockNormalizer::normalize`] of these layers.
    ///
    /// # Panics
    /// As there.
    pub fn normalize(&self) {
        self.normalizer.normalize();
    }

    /// [`BlockNormalizer::backward_step`] of these layers.
    ///
    /// # Panics
    /// As there.
    pub fn backward_step(&self, optimizer: &mut (impl Optimizer + ?Sized), loss: &Tensor) {
        self.normalizer.backward_step(optimizer, loss);
    }

    fn record<T: Parameters>(&self, path: &nn::Path<'_>, layer: T) -> T {
        let name = path.components().collect::<Vec<_>>().join(".");
        let name = self.normalizer.unused(&name);
        let parameters = [("weight", Some(layer.weight())), ("bias", layer.bias())];
        for (part, parameter) in parameters.into_iter().filter_map(|(part, parameter)| Some((part, parameter?))) {
            let block = match self.normalizer.config.blocks {
                Blocks::PerLayer => name.clone(),
                Blocks::PerParameter => format!("{name}.{part}"),
            };
            // Of new parameters, which no block has.
            self.normalizer.add(block, parameter.shallow_clone()).unwrap_or_else(|error| panic!("{error}"));
        }
        layer
    }
}

impl<L: Layers> Layers for Bng<L> {
    type Linear = L::Linear;
    type Conv2D = L::Conv2D;

    fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> L::Linear {
        let path = vs.borrow();
        self.record(path, self.layers.linear(path, in_dim, out_dim, config))
    }

    fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> L::Conv2D {
        let path = vs.borrow();
        self.record(path, self.layers.conv2d(path, in_dim, out_dim, ksize, config))
    }
}
