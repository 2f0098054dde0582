//! The one-word swap: models written once over [`Layers`], built plain or hatted.

use std::borrow::Borrow;
use tch::{Tensor, nn};

/// Something that makes the layers of a model: tch's own ([`Plain`]) or hatted ones ([`Svgd`](crate::Svgd)).
///
/// The constructors are those of [`tch::nn`], and panic as they do.
///
/// ```
/// use tch::nn::{self, Module};
/// use tch::{Device, Kind, Tensor};
/// use tch_svgd::{Layers, Plain, Svgd, SvgdConfig};
///
/// fn classifier<L: Layers>(layers: &L, p: &nn::Path) -> nn::Sequential {
///     nn::seq()
///         .add(layers.linear(p / "hidden", 64, 32, Default::default()))
///         .add_fn(|xs| xs.relu())
///         .add(layers.linear(p / "out", 32, 10, Default::default()))
/// }
///
/// let (plain, hatted) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
/// let svgd = Svgd::new(SvgdConfig::default())?;
/// let images = Tensor::randn([8, 64], (Kind::Float, Device::Cpu));
/// assert_eq!(classifier(&Plain, &plain.root()).forward(&images).size(), [8, 10]);
/// assert_eq!(classifier(&svgd, &hatted.root()).forward(&images).size(), [8, 10]);
/// # Ok::<(), tch_svgd::Error>(())
/// ```
pub trait Layers {
    /// The fully-connected layer.
    type Linear: nn::Module + Parameters + 'static;
    /// The 2-D convolution.
    type Conv2D: nn::Module + Parameters + 'static;

    /// Makes a fully-connected layer `[…, in_dim]` → `[…, out_dim]`, as [`tch::nn::linear`].
    fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> Self::Linear;

    /// Makes a convolution `[n, in_dim, h, w]` → `[n, out_dim, h_out, w_out]`, as [`tch::nn::conv2d`].
    fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> Self::Conv2D;
}

/// The parameters of a layer, whoever has made it.
pub trait Parameters {
    /// The weight, whose dimension 0 is the outputs'.
    fn weight(&self) -> &Tensor;
    /// The bias, `[out]`.
    fn bias(&self) -> Option<&Tensor>;
}

impl Parameters for nn::Linear {
    fn weight(&self) -> &Tensor {
        &self.ws
    }

    fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }
}

impl Parameters for nn::Conv2D {
    fn weight(&self) -> &Tensor {
        &self.ws
    }

    fn bias(&self) -> Option<&Tensor> {
        self.bs.as_ref()
    }
}

/// tch's own layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Layers for Plain {
    type Linear = nn::Linear;
    type Conv2D = nn::Conv2D;

    fn linear<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        config: nn::LinearConfig,
    ) -> nn::Linear {
        nn::linear(vs, in_dim, out_dim, config)
    }

    fn conv2d<'a>(
        &self,
        vs: impl Borrow<nn::Path<'a>>,
        in_dim: i64,
        out_dim: i64,
        ksize: i64,
        config: nn::ConvConfig,
    ) -> nn::Conv2D {
        nn::conv2d(vs, in_dim, out_dim, ksize, config)
    }
}
