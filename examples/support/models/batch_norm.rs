//! Batch norm as the paper's authors use it.

use tch::nn::{self, Module};
use tch::{Device, Tensor};

/// Batch norm on the statistics of the batch at hand, in training and in testing, with eps 1e-3: the authors'.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
}

impl BatchNorm {
    pub fn new(p: &nn::Path, channels: i64) -> Self {
        BatchNorm { weight: p.ones("weight", &[channels]), bias: p.zeros("bias", &[channels]) }
    }
}

impl Module for BatchNorm {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let cudnn = xs.device() != Device::Cpu;
        let (weight, bias, running) = (Some(&self.weight), Some(&self.bias), None::<&Tensor>);
        xs.batch_norm(weight, bias, running, running, true, 0.0, 1e-3, cudnn)
    }
}
