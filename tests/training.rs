//! The arithmetic of the training programs: augmentation, whitening, schedules, initialisation, the model.

#[path = "../examples/support/mod.rs"]
#[allow(dead_code, missing_docs)]
mod support;

use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use support::dataset::{Batches, Dataset, Split, whiten};
use support::initialise::{initialise, is_batch_norm};
use support::model::Model;
use support::options::{OptimizerKind, Options};
use support::resnet::ResNet20;
use support::schedule::Schedule;
use tch::nn::Module;
use tch::{Device, IndexOp, Kind, Tensor, nn};
use tch_svgd::{Plain, Svgd, SvgdConfig};

/// 40 images that tell their number, row and column: no two pixels of an image are the same.
fn numbered(flips: bool) -> Dataset {
    let pixels = Tensor::arange(256, (Kind::Int64, Device::Cpu)).view([1, 1, 8, 32]);
    let image = Tensor::cat(&[&pixels, &pixels.flip([2]), &pixels, &pixels.flip([2])], 2).to_kind(Kind::Uint8);
    let labels = Tensor::arange(40, (Kind::Int64, Device::Cpu));
    let images = (image.expand([40, 3, 32, 32], false) + labels.view([40, 1, 1, 1])).to_kind(Kind::Uint8);
    let split = || Split { images: images.copy(), labels: labels.copy() };
    Dataset { name: "numbered", classes: 40, flips, train: split(), test: split() }
}

#[test]
fn augmentation_is_a_crop_of_the_padded_image_mirrored_where_that_is_allowed() {
    for flips in [false, true] {
        let data = numbered(flips);
        let mut batches = Batches::new(&data, 40, ChaCha8Rng::seed_from_u64(3));
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let (images, labels) = batches.next();
            for k in 0..40 {
                let original = data.train.images.i(labels.int64_value(&[k])).unsqueeze(0);
                let padded = original.constant_pad_nd([2, 2, 2, 2]);
                let candidates = (0..5).flat_map(|dy| (0..5).flat_map(move |dx| [(dy, dx, false), (dy, dx, true)]));
                let matches: Vec<_> = candidates
                    .filter(|&(dy, dx, mirrored)| {
                        let crop = padded.slice(2, dy, dy + 32, 1).slice(3, dx, dx + 32, 1);
                        let crop = if mirrored { crop.flip([3]) } else { crop };
                        whiten(&crop).i(0).allclose(&images.i(k), 1e-4, 1e-4, false)
                    })
                    .collect();
                assert_eq!(matches.len(), 1, "image {k} is {matches:?}");
                seen.insert(matches[0]);
            }
        }
        // 800 draws out of 25 or 50: each is missed with a probability below 1e-5.
        assert_eq!(seen.len(), if flips { 50 } else { 25 });
        assert!(flips || seen.iter().all(|&(_, _, mirrored)| !mirrored));
    }
}

#[test]
fn an_epoch_has_every_image_once_and_each_epoch_another_order() {
    let data = numbered(true);
    let mut batches = Batches::new(&data, 10, ChaCha8Rng::seed_from_u64(0));
    assert_eq!(batches.per_epoch(), 4);
    let mut epoch = || -> Vec<i64> { (0..4).flat_map(|_| Vec::try_from(batches.next().1).unwrap()).collect() };
    let (first, second) = (epoch(), epoch());
    assert_ne!(first, second);
    for mut order in [first, second] {
        order.sort();
        assert_eq!(order, (0..40).collect::<Vec<i64>>());
    }
}

#[test]
fn whitening_gives_every_image_mean_0_and_deviation_1() {
    let whitened = whiten(&numbered(false).train.images).view([40, -1]);
    assert!(whitened.mean_dim(1i64, false, Kind::Float).abs().max().double_value(&[]) < 1e-5);
    assert!((whitened.std_dim(1i64, false, false) - 1.0).abs().max().double_value(&[]) < 1e-5);
    // An image of one colour has no deviation to divide by.
    let flat = whiten(&Tensor::full([1, 3, 32, 32], 7, (Kind::Uint8, Device::Cpu)));
    assert_eq!(flat.abs().max().double_value(&[]), 0.0);
}

#[test]
fn the_digits_are_split_as_documented() {
    let data = support::digits::load().unwrap();
    assert_eq!(data.train.images.size(), [1437, 3, 32, 32]);
    assert_eq!(data.test.images.size(), [360, 3, 32, 32]);
    assert_eq!(data.train.images.kind(), Kind::Uint8);
    assert_eq!(data.train.images.max().int64_value(&[]), 255);
    // The first images of the file are a 0, a 1 and a 2.
    assert_eq!((0..3).map(|i| data.train.labels.int64_value(&[i])).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn the_paper_schedule_has_the_rates_of_its_table() {
    let options = |arguments: &[&str]| Options::parse_from([&["resnet20_cifar10"], arguments].concat());
    for (optimizer, rates) in [
        (OptimizerKind::Sgd, [0.1, 0.01, 0.001]),
        (OptimizerKind::Rmsprop, [1e-3, 1e-4, 1e-4]),
        (OptimizerKind::Adam, [1e-3, 1e-4, 5e-5]),
        (OptimizerKind::Svgd, [0.5, 0.02, 0.01]),
    ] {
        let schedule = Schedule::new(optimizer, &options(&["--paper"]), 390);
        assert_eq!(schedule.steps, 50_000);
        let at = [0, 31_999, 32_000, 41_999, 42_000, 49_999].map(|step| schedule.rate(step));
        assert_eq!(at, [rates[0], rates[0], rates[1], rates[1], rates[2], rates[2]], "{optimizer:?}");
        // Without --paper the first rate stays.
        let schedule = Schedule::new(optimizer, &options(&["--epochs", "200"]), 390);
        assert_eq!((schedule.steps, schedule.rate(77_999)), (78_000, rates[0]));
        let schedule = Schedule::new(optimizer, &options(&["--lr", "0.25", "--steps", "7"]), 390);
        assert_eq!((schedule.steps, schedule.rate(0)), (7, 0.25));
    }
    assert_eq!(Schedule::new(OptimizerKind::Sgd, &options(&[]), 390).steps, 3900, "ten epochs unless told otherwise");
    assert_eq!(options(&[]).scale, 0.01);
}

// One test, since all threads draw from one generator.
#[test]
fn the_model_is_the_papers_and_starts_alike_for_every_optimizer() {
    let plain = nn::VarStore::new(Device::Cpu);
    let model = ResNet20::new(&Plain, &plain.root(), 10);
    let parameters: usize = plain.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(parameters, ResNet20::PARAMETERS);
    tch::manual_seed(4);
    initialise(&plain);
    let variables = plain.variables();
    for (name, variable) in &variables {
        let size = variable.size();
        if is_batch_norm(name) {
            let expected = if name.ends_with("weight") { 1.0 } else { 0.0 };
            assert!(variable.eq(expected).all().int64_value(&[]) == 1, "{name}");
        } else if size.len() == 1 {
            assert_eq!(variable.abs().max().double_value(&[]), 0.0, "{name}");
        } else {
            let std = (2.0 / (size[0] + size[1]) as f64).sqrt();
            assert!(variable.abs().max().double_value(&[]) <= 2.0 * std, "{name} is truncated at two deviations");
            if variable.numel() > 2000 {
                // A normal distribution cut off at two deviations has 0.8796 of its deviation.
                let ratio = variable.std(true).double_value(&[]) / (0.8796 * std);
                assert!((ratio - 1.0).abs() < 0.05, "{name}: {ratio}");
            }
        }
    }
    assert_eq!(variables.keys().filter(|name| is_batch_norm(name)).count(), 2 * 19);
    assert_eq!(variables.len(), 2 * 19 + 19 + 2, "19 batch norms, 19 convolutions, a dense layer with bias");

    let hatted = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let hatted_model = ResNet20::new(&svgd, &hatted.root(), 10);
    tch::manual_seed(4);
    initialise(&hatted);
    let images = Tensor::randn([4, 3, 32, 32], (Kind::Float, Device::Cpu));
    assert_eq!(model.forward(&images), hatted_model.forward(&images));
}
