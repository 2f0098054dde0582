//! Trains one hatted layer of each sort and prints what the test looks for.

use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::{Svgd, SvgdConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", tch_svgd::build_info()?);
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default())?;
    let net = nn::seq()
        .add(svgd.conv2d(vs.root() / "conv", 1, 4, 3, Default::default()))
        .add_fn(|xs| xs.relu().flatten(1, -1))
        .add(svgd.linear(vs.root() / "fc", 4 * 36, 2, Default::default()));
    let mut optimizer = nn::Sgd::default().build(&vs, 0.5)?;
    let images = Tensor::randn([16, 1, 8, 8], (Kind::Float, Device::Cpu));
    let labels = images.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
    let loss = || net.forward(&images).cross_entropy_for_logits(&labels);
    let before = loss().double_value(&[]);
    for _ in 0..50 {
        optimizer.backward_step(&loss());
    }
    let after = loss().double_value(&[]);
    println!("state bytes {}", svgd.state_bytes());
    println!("loss fell {}", after < 0.1 * before);
    Ok(())
}
