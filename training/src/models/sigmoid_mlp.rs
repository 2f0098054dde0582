//! The deep perceptrons of the BNG paper (§4.1): sigmoids, in which ordinary gradients vanish.

use super::Model;
use tch::Tensor;
use tch::nn::{self, Init, LinearConfig, Module};
use tch_svgd::Layers;

/// 784, then `DEPTH` hidden layers of 100 sigmoids, then classes. The weights are Xavier's, or PyTorch's own.
#[derive(Debug)]
pub struct SigmoidMlp<const DEPTH: usize, const XAVIER: bool> {
    hidden: Vec<Box<dyn Module>>,
    head: Box<dyn Module>,
}

const INPUTS: i64 = 28 * 28;
const WIDTH: i64 = 100;

fn config(xavier: bool, inputs: i64, outputs: i64) -> LinearConfig {
    let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
    match xavier {
        true => LinearConfig {
            ws_init: uniform((6.0 / (inputs + outputs) as f64).sqrt()),
            bs_init: Some(Init::Const(0.0)),
            bias: true,
        },
        false => {
            let bound = 1.0 / (inputs as f64).sqrt();
            LinearConfig { ws_init: uniform(bound), bs_init: Some(uniform(bound)), bias: true }
        }
    }
}

impl<const DEPTH: usize, const XAVIER: bool> Model for SigmoidMlp<DEPTH, XAVIER> {
    const NAME: &'static str = match (DEPTH, XAVIER) {
        (6, true) => "MLP of 6 sigmoid layers",
        (12, true) => "MLP of 12 sigmoid layers",
        (18, true) => "MLP of 18 sigmoid layers",
        (6, false) => "MLP of 6 sigmoid layers, PyTorch's initialisation",
        (12, false) => "MLP of 12 sigmoid layers, PyTorch's initialisation",
        (18, false) => "MLP of 18 sigmoid layers, PyTorch's initialisation",
        _ => panic!("the paper has 6, 12 and 18 layers"),
    };
    const PARAMETERS: usize = (INPUTS as usize + 1) * 100 + (DEPTH - 1) * 101 * 100 + 101 * 10;
    const SHORT_STEPS: bool = true;
    const AS_SVGDS_AUTHORS: bool = false;

    fn new<L: Layers>(layers: &L, p: &nn::Path, classes: i64) -> Self {
        let hidden = (1..=DEPTH).map(|number| -> Box<dyn Module> {
            let inputs = if number == 1 { INPUTS } else { WIDTH };
            // Numbers of one length, so that their order is that of their names.
            let path = p / format!("hidden{number:02}");
            Box::new(layers.linear(path, inputs, WIDTH, config(XAVIER, inputs, WIDTH)))
        });
        Self {
            hidden: hidden.collect(),
            head: Box::new(layers.linear(p / "head", WIDTH, classes, config(XAVIER, WIDTH, classes))),
        }
    }
}

impl<const DEPTH: usize, const XAVIER: bool> Module for SigmoidMlp<DEPTH, XAVIER> {
    /// Images `[n, 1, 28, 28]` to logits `[n, classes]`.
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.head.forward(&self.hidden.iter().fold(xs.flatten(1, -1), |xs, layer| layer.forward(&xs).sigmoid()))
    }
}
