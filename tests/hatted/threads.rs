//! Many threads at once: each with a model of its own, and several with one. `TCH_SVGD_THREADS_S=120` goes on for so many seconds.

use crate::common::*;
use std::thread;
use std::time::{Duration, Instant};
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::hatted::{Hatted, HattedConv2D, HattedLinear, Method};
use tch_svgd::optim::{Rule, Sgd};
use tch_svgd::{Granularity, Svgd, SvgdConfig, SvgdMethod, TsoAlra, TsoAlraConfig, backward};

/// Whether it is time to end, after so many rounds where no time is given.
fn has_ended(begin: Instant, round: u64, rounds: u64) -> bool {
    let seconds = std::env::var("TCH_SVGD_THREADS_S").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(round >= rounds, |seconds| begin.elapsed() >= Duration::from_secs(seconds))
}

struct Model<M: Method> {
    vs: nn::VarStore,
    conv: HattedConv2D<M>,
    fc: HattedLinear<M>,
}

impl<M: Method> Model<M> {
    fn new(hatted: &Hatted<M>, name: &str, seed: i64) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        seeded(seed, || {
            let p = vs.root() / name;
            let conv = hatted.conv2d(&p / "conv", 2, 4, 3, Default::default());
            let fc = hatted.linear(&p / "fc", 4 * 6 * 6, 3, Default::default());
            Self { vs, conv, fc }
        })
    }

    fn forward(&self, images: &Tensor) -> Tensor {
        self.fc.forward(&self.conv.forward(images).relu().flatten(1, -1))
    }

    /// The weights and the state after twenty steps.
    fn trained(self) -> Vec<Tensor> {
        let mut optimizer = Sgd { momentum: 0.9, ..Default::default() }.build(&self.vs, 0.01).unwrap();
        for step in 0..20 {
            optimizer.f_zero_grad().unwrap();
            backward(&self.forward(&noise(step, &[8, 2, 8, 8], Kind::Float)).square().mean(Kind::Float)).unwrap();
            optimizer.f_step().unwrap();
        }
        let mut variables: Vec<_> = self.vs.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let state = [self.conv.state(), self.fc.state()].into_iter().flatten().flatten();
        variables.into_iter().map(|(_, variable)| variable).chain(state).collect()
    }
}

/// Of one `Hatted`, whose settings and list of layers they share.
fn eight_threads_train_eight_models<M: Method>(hatted: &Hatted<M>) {
    let alone: Vec<_> = (0..8).map(|seed| Model::new(hatted, &format!("alone{seed}"), seed).trained()).collect();
    let (begin, mut round) = (Instant::now(), 0);
    while !has_ended(begin, round, 3) {
        let together: Vec<_> = thread::scope(|scope| {
            let train = |seed: i64| move || Model::new(hatted, &format!("thread{seed}"), seed).trained();
            let threads: Vec<_> = (0..8).map(|seed| scope.spawn(train(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (alone, together) in alone.iter().zip(&together) {
            assert_eq!(alone.len(), together.len());
            alone.iter().zip(together).for_each(|(a, b)| assert_same_bits(a, b, "trained beside others"));
        }
        round += 1;
    }
    println!("{} times eight models: {round} rounds in {:.0?}", M::NAME, begin.elapsed());
}

#[test]
fn eight_threads_train_eight_models_to_the_bits_of_one() {
    for granularity in [Granularity::Element, Granularity::Channel] {
        eight_threads_train_eight_models(&Svgd::new(SvgdConfig { granularity, ..Default::default() }).unwrap());
    }
    eight_threads_train_eight_models(&TsoAlra::new(TsoAlraConfig::default()).unwrap());
}

/// What tch does not say of its tensors, and libtorch does: they may be read by several threads.
struct Shared<'a>(&'a Model<SvgdMethod>, &'a Tensor);

// SAFETY: the threads only call forward, which reads weights and images; libtorch counts references atomically, and a
// layer's state is behind its lock.
unsafe impl Sync for Shared<'_> {}

#[test]
fn four_threads_pass_through_one_model_from_its_first_pass_on() {
    let (begin, mut round) = (Instant::now(), 0);
    let images = noise(1, &[8, 2, 8, 8], Kind::Float);
    while !has_ended(begin, round, 20) {
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let model = Model::new(&svgd, "shared", 1);
        let shared = Shared(&model, &images);
        let outputs: Vec<_> = thread::scope(|scope| {
            let shared = &shared;
            let pass = move |number: i32| {
                // Half of the threads for no gradients.
                let forward = || shared.0.forward(shared.1);
                let outputs = (0..10).map(|_| if number % 2 == 0 { forward() } else { tch::no_grad(forward) });
                outputs.collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || pass(number))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let expected = tch::no_grad(|| model.forward(&images));
        outputs.iter().for_each(|output| assert_same_bits(output, &expected, "a pass beside others"));
        // One state came of all the first passes.
        assert!(model.conv.second_moment().is_some());
        round += 1;
    }
    println!("four threads, one model: {round} rounds in {:.0?}", begin.elapsed());
}
