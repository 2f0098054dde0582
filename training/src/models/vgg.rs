//! The paper's VGG-like network for CIFAR-10.

use super::batch_norm::BatchNorm;
use super::{BatchNorms, Model};
use tch::nn::{self, Module, ModuleT};
use tch::{Kind, Tensor};
use tch_svgd::Layers;

/// Three groups of convolutions with bias and ReLU, a batch norm after each group, pooling between them, and the mean
/// over space before the dense layer.
#[derive(Debug)]
pub struct Vgg {
    groups: Vec<(Vec<Box<dyn Module>>, BatchNorm)>,
    head: Box<dyn Module>,
}

/// The channels of each convolution's output, group by group.
const GROUPS: [&[i64]; 3] = [&[3, 16], &[16, 32], &[128]];

impl Model for Vgg {
    const NAME: &'static str = "VGG";
    const PARAMETERS: usize = 46_126;
    const BATCH_NORM: Option<BatchNorms> = Some(BatchNorms::OfPlanes);

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        let config = nn::ConvConfig { padding: 1, ..Default::default() };
        let mut channels = 3;
        let mut groups = Vec::new();
        for (outputs, group) in GROUPS.iter().zip(1..) {
            let mut convs: Vec<Box<dyn Module>> = Vec::new();
            for (&output, number) in outputs.iter().zip(1..) {
                let path = p / format!("group{group}_conv{number}");
                convs.push(Box::new(layers.conv2d(path, channels, output, 3, config)));
                channels = output;
            }
            groups.push((convs, BatchNorm::new(&(p / format!("norm{group}")), channels)));
        }
        Vgg { groups, head: Box::new(layers.linear(p / "head", channels, classes, Default::default())) }
    }
}

impl ModuleT for Vgg {
    /// Images `[n, 3, 32, 32]` to logits `[n, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.shallow_clone();
        for (number, (convs, norm)) in self.groups.iter().enumerate() {
            if number > 0 {
                // Rounded up, and without padding: TensorFlow's "SAME" for even sizes.
                xs = xs.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], true);
            }
            xs = convs.iter().fold(xs, |xs, conv| conv.forward(&xs).relu());
            xs = norm.forward_t(&xs, train);
        }
        self.head.forward(&xs.mean_dim([2i64, 3].as_slice(), false, Kind::Float))
    }
}
