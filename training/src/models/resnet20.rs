//! The SVGD paper's pre-activation ResNet-20, as in the authors' code but for one detail: a convolution of stride 2 pads by
//! one on all sides, where TensorFlow's "SAME" pads right and bottom alone. And deeper ones of the same sort.

use super::batch_norm::BatchNorm;
use super::{BatchNorms, Model};
use tch::nn::{self, Module, ModuleT};
use tch::{Kind, Tensor};
use tch_svgd::Layers;

/// A pre-activation ResNet with three groups of `BLOCKS` blocks, 16, 32 and 64 channels, and parameter-free shortcuts: of
/// 6 `BLOCKS` + 2 layers. The weights are those of SVGD's authors, or He's.
#[derive(Debug)]
pub struct ResNet<const BLOCKS: usize, const AUTHORS: bool> {
    stem: Box<dyn Module>,
    norm_stem: BatchNorm,
    blocks: Vec<Block>,
    norm: BatchNorm,
    head: Box<dyn Module>,
}

/// SVGD's.
pub type ResNet20 = ResNet<3, true>;

impl<const BLOCKS: usize, const AUTHORS: bool> Model for ResNet<BLOCKS, AUTHORS> {
    const NAME: &'static str = match BLOCKS {
        3 => "ResNet-20",
        5 => "ResNet-32",
        7 => "ResNet-44",
        9 => "ResNet-56",
        18 => "ResNet-110",
        _ => panic!("the papers have 20, 32, 44, 56 and 110 layers"),
    };
    /// Stem and first norm; the three groups, whose first blocks differ from the others; last norm and head.
    const PARAMETERS: usize =
        464 + BLOCKS * 4_672 - 32 + 13_920 + (BLOCKS - 1) * 18_560 + 55_488 + (BLOCKS - 1) * 73_984 + 778;
    const AS_SVGDS_AUTHORS: bool = AUTHORS;
    const BATCH_NORM: Option<BatchNorms> = Some(BatchNorms::OfPlanes);

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        Self::of_width(layers, p, classes, 1)
    }
}

impl<const BLOCKS: usize, const AUTHORS: bool> ResNet<BLOCKS, AUTHORS> {
    /// The model with `width` times the channels.
    pub fn of_width<L: Layers>(layers: &L, p: &nn::Path, classes: i64, width: i64) -> Self {
        let mut blocks = Vec::new();
        let stem = 16 * width;
        let mut channels = stem;
        for (group, out_channels) in [16 * width, 32 * width, 64 * width].into_iter().enumerate() {
            for block in 0..BLOCKS {
                let name = format!("group{}_block{}", group + 1, block + 1);
                let pre_activated = blocks.is_empty();
                blocks.push(Block::new(layers, &(p / name), channels, out_channels, pre_activated));
                channels = out_channels;
            }
        }
        Self {
            stem: Box::new(conv3x3(layers, p / "stem", 3, stem, 1)),
            norm_stem: BatchNorm::new(&(p / "norm_stem"), stem),
            blocks,
            norm: BatchNorm::new(&(p / "norm"), channels),
            head: Box::new(layers.linear(p / "head", channels, classes, Default::default())),
        }
    }
}

impl<const BLOCKS: usize, const AUTHORS: bool> ModuleT for ResNet<BLOCKS, AUTHORS> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = self.norm_stem.forward_t(&self.stem.forward(xs), train).relu();
        for block in &self.blocks {
            xs = block.forward_t(&xs, train);
        }
        let features = self.norm.forward_t(&xs, train).relu().mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        self.head.forward(&features)
    }
}

/// With He's weights, normal with a variance of 2 / inputs, over which those of SVGD's authors are drawn.
fn conv3x3<L: Layers>(layers: &L, p: nn::Path, channels: i64, out_channels: i64, stride: i64) -> L::Conv2D {
    let he = nn::Init::Randn { mean: 0.0, stdev: (2.0 / (9 * channels) as f64).sqrt() };
    let config = nn::ConvConfig { stride, padding: 1, bias: false, ws_init: he, ..Default::default() };
    layers.conv2d(p, channels, out_channels, 3, config)
}

/// Batch norm, ReLU and convolution, twice, beside a shortcut. The first block's input has been through the stem's batch
/// norm and ReLU already.
#[derive(Debug)]
struct Block {
    norm1: Option<BatchNorm>,
    conv1: Box<dyn Module>,
    norm2: BatchNorm,
    conv2: Box<dyn Module>,
    channels: i64,
    out_channels: i64,
}

impl Block {
    fn new<L: Layers>(layers: &L, p: &nn::Path, channels: i64, out_channels: i64, pre_activated: bool) -> Self {
        let stride = out_channels / channels;
        Block {
            norm1: (!pre_activated).then(|| BatchNorm::new(&(p / "norm1"), channels)),
            conv1: Box::new(conv3x3(layers, p / "conv1", channels, out_channels, stride)),
            norm2: BatchNorm::new(&(p / "norm2"), out_channels),
            conv2: Box::new(conv3x3(layers, p / "conv2", out_channels, out_channels, 1)),
            channels,
            out_channels,
        }
    }

    /// Without parameters: 2x2 average pooling, and channels of zeros on both sides.
    fn shortcut(&self, xs: &Tensor) -> Tensor {
        if self.channels == self.out_channels {
            return xs.shallow_clone();
        }
        let side = (self.out_channels - self.channels) / 2;
        xs.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None).constant_pad_nd([0, 0, 0, 0, side, side])
    }
}

impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let activated = self.norm1.as_ref().map_or_else(|| xs.shallow_clone(), |norm| norm.forward_t(xs, train).relu());
        let ys = self.conv1.forward(&activated);
        let ys = self.conv2.forward(&self.norm2.forward_t(&ys, train).relu());
        ys + self.shortcut(xs)
    }
}
