//! The paper's multilayer perceptron for MNIST.

use super::batch_norm::BatchNorm;
use super::{BatchNorms, Model};
use tch::Tensor;
use tch::nn::{self, Module, ModuleT};
use tch_svgd::Layers;

/// 784-256-128-64-32-classes, with batch norm and ReLU after each hidden layer.
#[derive(Debug)]
pub struct Mlp {
    hidden: Vec<(Box<dyn Module>, BatchNorm)>,
    head: Box<dyn Module>,
}

const WIDTHS: [i64; 5] = [784, 256, 128, 64, 32];

impl Model for Mlp {
    const NAME: &'static str = "MLP";
    const PARAMETERS: usize = 245_482;
    const SHORT_STEPS: bool = true;
    const BATCH_NORM: Option<BatchNorms> = Some(BatchNorms::OfVectors);

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        let hidden = WIDTHS.windows(2).zip(1..).map(|(widths, number)| -> (Box<dyn Module>, _) {
            let linear = layers.linear(p / format!("hidden{number}"), widths[0], widths[1], Default::default());
            (Box::new(linear), BatchNorm::new(&(p / format!("norm{number}")), widths[1]))
        });
        Mlp {
            hidden: hidden.collect(),
            head: Box::new(layers.linear(p / "head", WIDTHS[4], classes, Default::default())),
        }
    }
}

impl ModuleT for Mlp {
    /// Images `[n, 1, 28, 28]` to logits `[n, classes]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let activate = |xs: Tensor, (linear, norm): &(Box<dyn Module>, BatchNorm)| {
            norm.forward_t(&linear.forward(&xs), train).relu()
        };
        self.head.forward(&self.hidden.iter().fold(xs.flatten(1, -1), activate))
    }
}
