//! SVGD: the method, and the names of its layers.

mod config;
pub mod functional;

pub use config::{Granularity, SvgdConfig};

use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::Result;
use crate::hatted::{Geometry, Hatted, HattedConv2D, HattedLinear, Method, Pass, Settings, method::Sealed};
use functional::Hyperparameters;
use tch::{Device, Kind, Tensor};

/// SVGD: virtual gradients for the weights of [`SvgdLinear`] and [`SvgdConv2D`] (Li & Shu 2019, Algorithm 1).
///
/// Makes the layers and owns their accumulators, the second moments of the gradients of their outputs. An ordinary
/// `backward()` updates the accumulators and leaves virtual gradients in the weights; any tch optimizer applies them.
/// Clones share everything. The accumulators of a layer live as long as the layer.
///
/// The accumulators are optimizer state: they are not in the `VarStore`, and [`save`](Hatted::save) and
/// [`load`](Hatted::load) keep them. A layer updates its own once per backward pass through it, a layer applied twice in
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
pub type Svgd = Hatted<SvgdMethod>;

/// A fully-connected layer `[…, in]` → `[…, out]` whose weight gets virtual gradients: [`tch::nn::Linear`], made by
/// [`Svgd::linear`](Hatted::linear).
///
/// The output and the gradient of the input are those of [`tch::nn::Linear`] to the bit. Its second moment has one
/// value per output, `[out]`, and the mean goes over all leading axes: with `g` the gradient of the output as a matrix of
/// rows, `r ← decay·r + (1 - decay)·mean((k g)²)` and `grad_weight = diag(scale / √(r + eps)) gᵀ x` (SVGD paper, Algorithm
/// 1 and §3.1: MatMul).
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let fc = Svgd::new(SvgdConfig::default())?.linear(vs.root() / "fc", 4, 3, Default::default());
/// let output = fc.forward(&Tensor::randn([5, 7, 4], (Kind::Float, Device::Cpu)));
/// assert_eq!(output.size(), [5, 7, 3]);
/// output.square().mean(None).backward();
/// assert_eq!(fc.ws.grad().size(), [3, 4]);
/// assert_eq!(fc.second_moment().unwrap().size(), [3]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub type SvgdLinear = HattedLinear<SvgdMethod>;

/// A 2-D convolution `[n, c_in, h, w]` → `[n, c_out, h_out, w_out]` whose weight gets virtual gradients:
/// [`tch::nn::Conv2D`], made by [`Svgd::conv2d`](Hatted::conv2d) or [`Svgd::conv`](Hatted::conv).
///
/// The output and the gradient of the input are those of [`tch::nn::Conv2D`] to the bit, for every padding mode (SVGD
/// paper, §3.1: Conv2D). With [`Granularity::Element`] the second moment belongs to one output size: a training pass
/// with another is an error, one without gradients is not. With `g` the gradient of the output,
/// `r ← decay·r + (1 - decay)·mean((k g)²)`, and the weight's gradient is formed from `t = scale·g / √(r + eps)`.
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Svgd, SvgdConfig};
/// let vs = nn::VarStore::new(Device::Cpu);
/// let config = nn::ConvConfig { padding: 1, ..Default::default() };
/// let conv = Svgd::new(SvgdConfig::default())?.conv2d(vs.root() / "conv", 3, 16, 3, config);
/// let output = conv.forward(&Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu)));
/// output.square().mean(None).backward();
/// assert_eq!(conv.second_moment().unwrap().size(), [16, 8, 8]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub type SvgdConv2D = HattedConv2D<SvgdMethod>;

/// SVGD, to [`Hatted`] and its layers. Its operators are those of `cpp/svgd/method.h`.
#[derive(Debug)]
pub enum SvgdMethod {}

impl Sealed for SvgdMethod {}

impl Method for SvgdMethod {
    type Config = SvgdConfig;

    const NAME: &'static str = "Svgd";
    const FORMAT: &'static str = "tch-svgd second moments 1";
    const STATE: &'static [&'static str] = &["second_moment"];

    fn validate(config: &SvgdConfig) -> Result<()> {
        config.validate()
    }

    /// A value for each output, or for each element of the output images: these in the images' order of memory, so that
    /// the backward pass reads both side by side.
    fn initial(config: &SvgdConfig, pass: &Pass<'_>, options: (Kind, Device)) -> Result<Vec<Tensor>> {
        let by_element = match pass.geometry {
            Geometry::Linear => None,
            Geometry::Conv2D(convolution) => (config.granularity == Granularity::Element).then_some(convolution),
        };
        let Some(convolution) = by_element else {
            let outputs = pass.ws.size().first().copied().unwrap_or(1);
            return Ok(vec![Tensor::f_zeros(outputs, options)?]);
        };
        let images = ffi::conv2d_output("svgd::conv2d", lend(pass.xs), lend(pass.ws), &convolution)?;
        let [c, h, w] = [images.size[0], images.size[1], images.size[2]];
        Ok(vec![match images.channels_last {
            true => Tensor::f_zeros([h, w, c], options)?.f_permute([2, 0, 1])?,
            false => Tensor::f_zeros([c, h, w], options)?,
        }])
    }

    fn check_loaded(config: &SvgdConfig, geometry: &Geometry, tensors: &[Tensor]) -> std::result::Result<(), String> {
        let tensor = &tensors[0];
        let (expected, dimensions) = match (geometry, config.granularity) {
            (Geometry::Conv2D(_), Granularity::Element) => ("[c_out, h_out, w_out]", 3),
            (Geometry::Conv2D(_), Granularity::Channel) | (Geometry::Linear, _) => ("[out]", 1),
        };
        let size = tensor.size();
        if size.len() != dimensions || size.contains(&0) {
            return Err(format!(
                "expected shape {expected}, got {size:?}; the model or its Granularity is another one"
            ));
        }
        // Also false for NaN.
        if !(tensor.min().double_value(&[]) >= 0.0 && tensor.max().double_value(&[]).is_finite()) {
            return Err("expected finite values >= 0 (a mean of squares), got others; the file is damaged".to_owned());
        }
        Ok(())
    }

    fn call(settings: &Settings<SvgdConfig>, pass: &Pass<'_>, state: &[Tensor]) -> Result<Tensor> {
        let SvgdConfig { scale, decay, eps, virtual_bias, batch_gradient, granularity: _ } = settings.config;
        let gradient_scale = settings.gradient_scale(batch_gradient, pass);
        let hyperparameters = Hyperparameters { scale, decay, eps, gradient_scale, virtual_bias };
        let Pass { xs, ws, bs, geometry } = *pass;
        match geometry {
            Geometry::Linear => functional::linear(xs, ws, bs, &state[0], hyperparameters),
            Geometry::Conv2D(convolution) => functional::conv2d(xs, ws, bs, &state[0], convolution, hyperparameters),
        }
    }
}

/// What SVGD alone has.
impl Hatted<SvgdMethod> {
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
        self.change_config(|config| config.scale = scale)
    }
}

impl HattedLinear<SvgdMethod> {
    /// A copy of the second moment, `[out]`, once the layer has had a forward pass with gradients or has been
    /// loaded. No backward pass may run
    /// in another thread meanwhile: it changes the values that are being copied.
    pub fn second_moment(&self) -> Option<Tensor> {
        self.state()?.pop()
    }
}

impl HattedConv2D<SvgdMethod> {
    /// A copy of the second moment, `[c_out, h_out, w_out]` or `[c_out]`, once the layer has had a forward pass with
    /// gradients or has been loaded. No backward pass may run in another thread meanwhile: it changes the values that are being copied.
    pub fn second_moment(&self) -> Option<Tensor> {
        self.state()?.pop()
    }
}
