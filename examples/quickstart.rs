//! The swap and nothing else: a tch model with SVGD's layers in the place of tch's own.
//!
//!     cargo run --release --example quickstart

use anyhow::Result;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::{Svgd, SvgdConfig};

fn main() -> Result<()> {
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::cuda_if_available());
    let p = vs.root();

    // nn::conv2d and nn::linear become methods of an Svgd, which owns the optimizer state.
    let svgd = Svgd::new(SvgdConfig { scale: 0.01, ..Default::default() })?;
    let conv = svgd.conv2d(&p / "conv", 1, 8, 3, Default::default());
    let fc = svgd.linear(&p / "fc", 8 * 36, 2, Default::default());
    let model = |xs: &Tensor| fc.forward(&conv.forward(xs).relu().flatten(1, -1));

    // Any tch optimizer applies the virtual gradients that backward() leaves.
    let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
    let images = Tensor::randn([64, 1, 8, 8], (Kind::Float, vs.device()));
    let labels = images.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
    for step in 0..50 {
        let loss = model(&images).cross_entropy_for_logits(&labels);
        optimizer.backward_step(&loss);
        if step % 10 == 0 {
            println!("step {step:2}: loss {:.4}", loss.double_value(&[]));
        }
    }
    Ok(())
}
