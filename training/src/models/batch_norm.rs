//! Batch norm, with the ε of SVGD's authors.

use tch::nn::{self, ModuleT};
use tch::{Device, Tensor};

/// Batch norm with eps 1e-3: in training on the statistics of the batch at hand, in testing on the moving means of these.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

/// How much of the moving means each batch replaces: PyTorch's.
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-3;

impl BatchNorm {
    pub fn new(p: &nn::Path, channels: i64) -> Self {
        BatchNorm {
            weight: p.ones("weight", &[channels]),
            bias: p.zeros("bias", &[channels]),
            running_mean: p.zeros_no_train("running_mean", &[channels]),
            running_var: p.ones_no_train("running_var", &[channels]),
        }
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let cudnn = xs.device() != Device::Cpu;
        let (mean, var) = (Some(&self.running_mean), Some(&self.running_var));
        xs.batch_norm(Some(&self.weight), Some(&self.bias), mean, var, train, MOMENTUM, EPS, cudnn)
    }
}
