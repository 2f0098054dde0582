//! Nothing grows: ten thousand steps of each method, with optimizer, state files and errors, in the memory of the first ones.
#![cfg(target_os = "linux")] // which tells what is resident

use crate::common::*;
use std::path::Path;
use std::process::Command;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::bng;
use tch_svgd::optim::{Adam, AdamW, Rule, Sgd};
use tch_svgd::{
    Bng, BngConfig, Error, Granularity, Layers, Normalization, Result, Svgd, SvgdConfig, TsoAlra, TsoAlraConfig,
    backward, testing,
};

const STEPS: u64 = 10_000;
/// What the allocator and its caches have settled after.
const WARM: u64 = 2_000;
/// A tensor that is lost at each step takes 1.5 MB and more in the steps that are compared.
const SLACK_KIB: u64 = 512;

/// In KiB, counted page by page: the quick count of /proc/self/statm is out by some pages a thread.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A step for each of these numbers: the most that is resident in the second half is what was in the first.
fn is_flat(name: &str, mut step: impl FnMut(u64)) {
    let middle = WARM + (STEPS - WARM) / 2;
    let (mut before, mut after) = (0, 0);
    for number in 0..STEPS {
        step(number);
        if number % 50 == 49 && number >= WARM {
            let most = if number < middle { &mut before } else { &mut after };
            *most = resident().max(*most);
        }
    }
    println!("{name}: {before} KiB at most to step {middle}, {after} KiB at most to step {STEPS}");
    assert!(after <= before + SLACK_KIB, "{name}: {after} KiB after {before}");
}

/// A convolution and a linear layer.
struct Model<L: Layers> {
    vs: nn::VarStore,
    conv: L::Conv2D,
    fc: L::Linear,
    images: Tensor,
}

impl<L: Layers> Model<L> {
    fn new(layers: &L) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        let conv = seeded(1, || layers.conv2d(vs.root() / "conv", 2, 3, 3, Default::default()));
        let fc = seeded(2, || layers.linear(vs.root() / "fc", 3 * 4 * 4, 2, Default::default()));
        Self { vs, conv, fc, images: noise(3, &[4, 2, 6, 6], Kind::Float) }
    }

    fn loss(&self) -> Tensor {
        self.fc.forward(&self.conv.forward(&self.images).relu().flatten(1, -1)).square().mean(Kind::Float)
    }

    /// A backward pass that has no memory left when it is halfway.
    fn fails(&self) {
        let loss = self.loss();
        let (result, _) = testing::with_memory(1 << 8, || backward(&loss)).unwrap();
        assert!(matches!(result, Err(Error::OutOfMemory(_))), "{result:?}");
    }
}

/// The errors of a layer's forward pass: of its own checks, and of the plain operator.
fn bad_pass(forward: impl Fn(&Tensor) -> Result<Tensor>) {
    for kind in [Kind::Float, Kind::Int64] {
        assert!(forward(&zeros(&[3, 7, 5], kind)).is_err());
        assert!(tch::no_grad(|| forward(&zeros(&[3, 7, 5], kind))).is_err());
    }
}

fn trains<L: Layers, R: Rule>(
    name: &str,
    layers: &L,
    rule: R,
    after_step: impl Fn(&Model<L>),
    bad_passes: impl Fn(&Model<L>),
    save_and_load: impl Fn(&Path) -> Result<()>,
) {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new(layers);
    let mut optimizer = rule.build(&model.vs, 1e-3).unwrap();
    is_flat(name, |number| {
        optimizer.f_zero_grad().unwrap();
        backward(&model.loss()).unwrap();
        after_step(&model);
        optimizer.f_step().unwrap();
        if number % 100 == 99 {
            bad_passes(&model);
            model.fails();
        }
        if number % 500 == 499 {
            let [state, own] = ["state", "optimizer"].map(|name| folder.path().join(name));
            save_and_load(&state).unwrap();
            optimizer.save(&own).unwrap();
            optimizer.load(&own).unwrap();
            assert!(optimizer.load(&state).is_err() && save_and_load(folder.path()).is_err());
        }
    });
}

/// In a process of its own: what is resident is so of all tests.
#[test]
#[ignore = "run by ten_thousand_steps_take_no_more_memory_than_the_first"]
fn ten_thousand_steps() {
    tch::set_num_threads(1);
    for granularity in [Granularity::Element, Granularity::Channel] {
        let svgd = Svgd::new(SvgdConfig { granularity, ..Default::default() }).unwrap();
        let bad_passes = |model: &Model<Svgd>| {
            bad_pass(|xs| model.fc.f_forward(xs));
            bad_pass(|xs| model.conv.f_forward(xs));
        };
        let save_and_load = |path: &Path| svgd.save(path).and_then(|()| svgd.load(path));
        let name = format!("Svgd, {granularity:?}");
        trains(&name, &svgd, Sgd { momentum: 0.9, ..Default::default() }, |_| (), bad_passes, save_and_load);
    }

    let tso = TsoAlra::new(TsoAlraConfig { interval: 20, ..Default::default() }).unwrap();
    let bad_passes = |model: &Model<TsoAlra>| {
        bad_pass(|xs| model.fc.f_forward(xs));
        bad_pass(|xs| model.conv.f_forward(xs));
    };
    let save_and_load = |path: &Path| tso.save(path).and_then(|()| tso.load(path));
    trains("TsoAlra", &tso, Adam::default(), |_| _ = tso.step(), bad_passes, save_and_load);

    let bng = Bng::new(Svgd::new(SvgdConfig::default()).unwrap(), BngConfig::default()).unwrap();
    let bad_passes = |model: &Model<Bng<Svgd>>| {
        bad_pass(|xs| model.fc.f_forward(xs));
        let (norms, skipped) = (zeros(&[2], Kind::Double), Tensor::from(0i64));
        assert!(
            bng::normalize(&[&model.fc.ws], &[&model.conv.ws], &[1], &norms, &skipped, Normalization::Unit).is_err()
        );
    };
    let save_and_load = |path: &Path| bng.layers().save(path).and_then(|()| bng.layers().load(path));
    trains("Bng of Svgd", &bng, AdamW::default(), |_| bng.normalize(), bad_passes, save_and_load);
}

#[test]
fn ten_thousand_steps_take_no_more_memory_than_the_first() {
    let program = std::env::current_exe().unwrap();
    let alone = ["--exact", "leaks::ten_thousand_steps", "--ignored", "--nocapture"];
    let output = Command::new(program).args(alone).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}
