//! The arithmetic of the training programs: augmentation, whitening, schedules, initialisation, the model.

#[path = "programs/matlab.rs"]
mod matlab;

use clap::Parser;
use experiments::benchmark::Benchmark;
use experiments::experiment::{self, Experiment, MLP_MNIST, RESNET20_CIFAR10, VGG_CIFAR10};
use experiments::optimizer::{OptimizerKind, Rule};
use std::collections::HashSet;
use std::io::Write;
use tch::nn::ModuleT;
use tch::{Device, IndexOp, Kind, Tensor, nn};
use tch_svgd::{Plain, Svgd, SvgdConfig};
use training::cli::options::Options;
use training::data::batches::{Batches, whiten};
use training::data::{Augmentation, DataSource, Dataset, Inputs, Split, digits, load, text};
use training::initialise::{initialise, is_batch_norm};
use training::method::Method;
use training::models::Model;
use training::models::language::Language;
use training::models::mlp::Mlp;
use training::models::resnet20::{ResNet, ResNet20};
use training::models::sentences::SentenceNet;
use training::models::sigmoid_mlp::SigmoidMlp;
use training::models::small::{SmallAlexNet, SmallVgg};
use training::models::vgg::Vgg;
use training::optimizer::Optimizer;
use training::trainer::schedule::Schedule;
use training::trainer::settings::Settings;
use training::trainer::step::Stepper;

/// 40 images that tell their number, row and column: no two pixels of an image are the same.
fn numbered(crops: bool, flips: bool) -> Dataset {
    let pixels = Tensor::arange(256, (Kind::Int64, Device::Cpu)).view([1, 1, 8, 32]);
    let image = Tensor::cat(&[&pixels, &pixels.flip([2]), &pixels, &pixels.flip([2])], 2).to_kind(Kind::Uint8);
    let labels = Tensor::arange(40, (Kind::Int64, Device::Cpu));
    let images = (image.expand([40, 3, 32, 32], false) + labels.view([40, 1, 1, 1])).to_kind(Kind::Uint8);
    let split = || Split { inputs: images.copy(), labels: labels.copy() };
    let inputs = Inputs::Images(Augmentation { crops, flips });
    Dataset::new("numbered", 40, inputs, split(), split())
}

#[test]
fn augmentation_is_a_crop_of_the_padded_image_mirrored_where_that_is_allowed() {
    for (crops, flips) in [(true, false), (true, true), (false, true), (false, false)] {
        let data = numbered(crops, flips);
        let mut batches = Batches::new(&data, 40, 3);
        let mut seen = HashSet::new();
        for step in 0..20 {
            let (images, labels) = batches.batch(step);
            for k in 0..40 {
                let original = data.train.inputs.i(labels.int64_value(&[k])).unsqueeze(0);
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
        // 800 draws out of 50 at most: each is missed with a probability below 1e-5.
        let (places, ways) = (if crops { 25 } else { 1 }, if flips { 2 } else { 1 });
        assert_eq!(seen.len(), places * ways);
        assert!(crops || seen.iter().all(|&(dy, dx, _)| (dy, dx) == (2, 2)));
        assert!(flips || seen.iter().all(|&(_, _, mirrored)| !mirrored));
    }
}

#[test]
fn an_epoch_has_every_image_once_and_each_epoch_another_order() {
    let data = numbered(true, true);
    let mut batches = Batches::new(&data, 10, 0);
    assert_eq!(batches.per_epoch(), 4);
    let mut epoch = |number: usize| -> Vec<i64> {
        (0..4).flat_map(|step| Vec::try_from(batches.batch(4 * number + step).1).unwrap()).collect()
    };
    let (first, second) = (epoch(0), epoch(1));
    assert_ne!(first, second);
    for mut order in [first, second] {
        order.sort();
        assert_eq!(order, (0..40).collect::<Vec<i64>>());
    }
}

#[test]
fn a_batch_is_a_function_of_the_seed_and_the_step() {
    let data = numbered(true, true);
    let mut all = Batches::new(&data, 15, 7);
    let expected: Vec<_> = (0..7).map(|step| all.batch(step)).collect();
    // Two batches an epoch: from the middle of one, and over the border of two, prepared ahead.
    for first in [0, 3, 4] {
        let stream = Batches::new(&data, 15, 7).stream(first, 7);
        let batches: Vec<_> = stream.collect();
        assert_eq!(batches.len(), 7 - first);
        assert!(batches == expected[first..], "from step {first} on");
    }
    assert!(Batches::new(&data, 15, 8).batch(0) != expected[0], "another seed");
    // A training that ends early leaves no thread behind that waits for ever.
    drop(Batches::new(&data, 15, 7).stream(0, usize::MAX));
}

#[test]
fn whitening_gives_every_image_mean_0_and_deviation_1() {
    let whitened = whiten(&numbered(false, false).train.inputs).view([40, -1]);
    assert!(whitened.mean_dim(1i64, false, Kind::Float).abs().max().double_value(&[]) < 1e-5);
    assert!((whitened.std_dim(1i64, false, false) - 1.0).abs().max().double_value(&[]) < 1e-5);
    // An image of one colour has no deviation to divide by.
    let flat = whiten(&Tensor::full([1, 3, 32, 32], 7, (Kind::Uint8, Device::Cpu)));
    assert_eq!(flat.abs().max().double_value(&[]), 0.0);
}

#[test]
fn the_digits_are_split_as_documented_in_the_size_of_what_they_stand_for() {
    for (benchmark, [channels, side], crops) in [
        (Benchmark::Cifar10, [3, 32], true),
        (Benchmark::Mnist, [1, 28], false),
        (Benchmark::FashionMnist, [1, 28], true),
    ] {
        let data = digits::load(benchmark).unwrap();
        assert_eq!(data.train.inputs.size(), [1437, channels, side, side]);
        assert_eq!(data.test.inputs.size(), [360, channels, side, side]);
        assert_eq!(data.inputs, Inputs::Images(Augmentation { crops, flips: false }));
        assert_eq!(data.train.inputs.kind(), Kind::Uint8);
        assert_eq!(data.train.inputs.max().int64_value(&[]), 255);
        // The first images of the file are a 0, a 1 and a 2.
        assert_eq!((0..3).map(|i| data.train.labels.int64_value(&[i])).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

/// MATLAB's first axis is the innermost: rows, then columns, then channels.
#[test]
fn svhn_stands_upright_and_its_ten_is_a_zero() {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..2 * 3072).map(|i| (i % 253) as u8).collect();
    let file = matlab::matlab_file(&pixels, &[10, 3]);
    for name in ["train_32x32.mat", "test_32x32.mat"] {
        std::fs::write(folder.path().join(name), &file).unwrap();
    }
    let data = load(&DataSource::Folder(folder.path().to_owned()), Benchmark::Svhn).unwrap();
    assert_eq!(data.test.inputs.size(), [2, 3, 32, 32]);
    for [n, c, y, x] in [[0, 0, 1, 0], [0, 0, 0, 1], [1, 2, 30, 4]] {
        let at = y + 32 * x + 1024 * c + 3072 * n;
        assert_eq!(data.test.inputs.int64_value(&[n, c, y, x]), at % 253);
    }
    assert_eq!([0, 1].map(|i| data.test.labels.int64_value(&[i])), [0, 3]);
}

fn settings(experiment: &Experiment, arguments: &[&str]) -> Settings {
    Options::try_parse_from([&["program"], arguments].concat()).unwrap().settings(experiment).unwrap()
}

#[test]
fn the_paper_schedules_have_the_rates_of_its_tables() {
    use OptimizerKind::*;
    for (experiment, steps, [first, second], rates) in [
        (
            &MLP_MNIST,
            6_000,
            [1_600, 3_600],
            [
                (Rmsprop, [1e-3, 5e-4, 5e-5]),
                (Adam, [1e-3, 5e-5, 5e-5]),
                (Sgd, [0.1, 0.05, 0.01]),
                (Svgd, [0.01, 0.005, 0.001]),
            ],
        ),
        (
            &VGG_CIFAR10,
            35_000,
            [12_000, 24_000],
            [
                (Rmsprop, [0.02, 0.01, 0.002]),
                (Adam, [0.02, 0.01, 0.005]),
                (Sgd, [2.0, 0.5, 0.005]),
                (Svgd, [2.0, 0.5, 0.005]),
            ],
        ),
        (
            &RESNET20_CIFAR10,
            50_000,
            [32_000, 42_000],
            [
                (Rmsprop, [1e-3, 1e-4, 1e-4]),
                (Adam, [1e-3, 1e-4, 5e-5]),
                (Sgd, [0.1, 0.01, 0.001]),
                (Svgd, [0.5, 0.02, 0.01]),
            ],
        ),
    ] {
        for (optimizer, rates) in rates {
            let schedule =
                |arguments: &[&str]| Schedule::new(experiment, optimizer, &settings(experiment, arguments), 390);
            let paper = schedule(&["--paper"]);
            assert_eq!((paper.steps, paper.eval_every), (steps, experiment.eval_every));
            let at = [0, first - 1, first, second - 1, second, steps - 1].map(|step| paper.rate(step));
            assert_eq!(at, [rates[0], rates[0], rates[1], rates[1], rates[2], rates[2]], "{optimizer:?}");

            let tenth = schedule(&["--paper", "--budget", "0.1"]);
            assert_eq!((tenth.steps, tenth.eval_every), (steps / 10, experiment.eval_every.min(steps / 100)));
            assert_eq!(tenth.decay_at, Some([first / 10, second / 10]));
            assert_eq!(tenth.rate(first / 10), rates[1]);
            // Without --paper the first rate stays.
            let long = schedule(&["--epochs", "200"]);
            assert_eq!((long.steps, long.rate(77_999), long.eval_every), (78_000, rates[0], 390));
            let other = schedule(&["--lr", "0.25", "--steps", "7", "--eval-every", "3"]);
            assert_eq!((other.steps, other.rate(0), other.eval_every), (7, 0.25, 3));
        }
        let default = Schedule::new(experiment, Sgd, &settings(experiment, &[]), 390);
        assert_eq!(default.steps, 3900, "ten epochs unless told otherwise");
    }
    assert_eq!([&MLP_MNIST, &VGG_CIFAR10, &RESNET20_CIFAR10].map(|e| e.scale), [0.1, 0.001, 0.01]);
    assert_eq!(
        [&MLP_MNIST, &VGG_CIFAR10, &RESNET20_CIFAR10].map(|e| (e.batch_size, e.l1)),
        [(32, 1e-4), (128, 1e-5), (128, 1e-4)]
    );
    assert_eq!(
        experiment::ALL[..3].iter().map(|e| e.name).collect::<Vec<_>>(),
        ["mlp_mnist", "vgg_cifar10", "resnet20_cifar10"]
    );
}

#[test]
fn the_rate_rises_and_falls_as_it_is_told() {
    let schedule = |arguments: &[&str]| {
        Schedule::new(&RESNET20_CIFAR10, OptimizerKind::Sgd, &settings(&RESNET20_CIFAR10, arguments), 390)
    };
    let rates = |schedule: Schedule| -> Vec<f64> { (0..schedule.steps).map(|step| schedule.rate(step)).collect() };
    let cosine = rates(schedule(&["--lr", "0.2", "--steps", "12", "--schedule", "cosine", "--warmup", "4"]));
    for (step, rate) in cosine.into_iter().enumerate() {
        let expected = match step {
            0..4 => 0.2 * (0.25 + 0.75 * step as f64 / 4.0),
            _ => 0.1 * (1.0 + (std::f64::consts::PI * (step - 4) as f64 / 8.0).cos()),
        };
        assert!((rate - expected).abs() < 1e-12, "{step}: {rate}, not {expected}");
    }
    // The paper's falls stay where they are.
    let paper = schedule(&["--paper", "--budget", "0.001", "--warmup", "2"]);
    let plain = schedule(&["--paper", "--budget", "0.001"]);
    assert_eq!(rates(paper)[2..], rates(plain)[2..]);
    assert_eq!(paper.rate(0), plain.rate(0) / 2.0);
}

/// The paper's §5 for one weight in plain f64 arithmetic, with the penalty's gradient. `momentum` is Adam's first too.
fn reference(
    rule: Rule,
    [momentum, beta, decay]: [f64; 3],
    rates: &[f64],
    l1: f64,
    mut w: f64,
    gradient: impl Fn(f64) -> f64,
) -> f64 {
    let (mut m, mut v, mut largest) = (0.0, 0.0, 0f64);
    let mut sum = 0.0;
    for (t, rate) in (1..).zip(rates) {
        let sign = if w == 0.0 { 0.0 } else { f64::signum(w) };
        let g = gradient(w) + l1 * sign;
        w -= rate
            * match rule {
                Rule::Sgd => g,
                Rule::Momentum => {
                    m = momentum * m + g;
                    m
                }
                Rule::Nesterov => {
                    m = momentum * m + g;
                    g + momentum * m
                }
                Rule::Rmsprop => {
                    v = 0.9 * v + 0.1 * g * g;
                    g / (v + 1e-8).sqrt()
                }
                Rule::Adam | Rule::Amsgrad => {
                    m = momentum * m + (1.0 - momentum) * g;
                    v = beta * v + (1.0 - beta) * g * g;
                    largest = largest.max(v);
                    let v = if rule == Rule::Adam { v } else { largest };
                    m / (1.0 - momentum.powi(t)) / (v / (1.0 - beta.powi(t)) + 1e-8).sqrt()
                }
                Rule::Adamw => {
                    w -= rate * decay * w;
                    m = momentum * m + (1.0 - momentum) * g;
                    v = beta * v + (1.0 - beta) * g * g;
                    m / (1.0 - momentum.powi(t)) / (v / (1.0 - beta.powi(t)) + 1e-8).sqrt()
                }
                Rule::Adagrad => {
                    sum += g * g;
                    g / (f64::sqrt(sum) + 1e-10)
                }
            };
    }
    w
}

#[test]
fn the_optimizers_follow_the_papers_formulas() {
    // A loss of sum(c (w - 0.5)²) / 2. Gradients of 1e-5 tell an ε inside of the root from one outside.
    // The last rates are so low that second moments fall, which tells AMSGrad from Adam.
    let mut rates = vec![0.1, 0.1, 0.05, 0.01];
    rates.extend([1e-3; 30]);
    let l1 = 1e-3;
    let experiment = experiment::Experiment { l1, ..MLP_MNIST };
    for kind in ["sgd", "momentum", "nesterov", "rmsprop", "adam", "amsgrad", "adamw", "adagrad"] {
        let kind = OptimizerKind::named(kind).unwrap();
        let rule = kind.rule();
        let own = ["--momentum", "0.7", "--betas", "0.7,0.95", "--optimizer", "momentum,adam"];
        // AdamW's decay is its own; that of others is tested where they are used.
        let decay = if rule == Rule::Adamw { &["--weight-decay", "0.3"][..] } else { &[] };
        for (loss_scale, arguments, [momentum, beta, decay]) in [
            (1.0, vec![], [0.9, 0.999, 0.01]),
            (64.0, vec![], [0.9, 0.999, 0.01]),
            (1.0, [&own, decay].concat(), [0.7, 0.95, 0.3]),
        ] {
            let settings = settings(&experiment, &arguments);
            let vs = nn::VarStore::new(Device::Cpu);
            let start = [0.7, -0.3, 0.0, 2.0, 0.50001];
            // One of them without a penalty.
            let variables = ["fc", "norm"].map(|name| {
                let mut variable = (vs.root() / name).zeros("weight", &[5]);
                tch::no_grad(|| variable.copy_(&Tensor::from_slice(&start.map(|w| w as f32))));
                variable
            });
            let mut optimizer = Optimizer::new(kind, &vs, &experiment, &settings).unwrap();
            assert_eq!(optimizer.parameters(), 10);
            for &rate in &rates {
                let loss = |w: &Tensor| -> Tensor { (w - 0.5).square().sum(Kind::Float) * 0.5 };
                optimizer.set_rate(rate);
                let loss = (loss(&variables[0]) + loss(&variables[1])) * loss_scale;
                optimizer.backward_step(&loss, loss_scale).unwrap();
            }
            for (variable, l1) in variables.iter().zip([l1, 0.0]) {
                for (i, w) in start.into_iter().enumerate() {
                    let constants = [momentum, beta, decay];
                    let expected = reference(rule, constants, &rates, l1, f64::from(w as f32), |w| w - 0.5);
                    let found = variable.double_value(&[i as i64]);
                    assert!((found - expected).abs() < 2e-6, "{rule:?} {i}, L1 {l1}: {found}, not {expected}");
                }
            }
            let moments = match rule {
                Rule::Sgd => 0,
                Rule::Momentum | Rule::Nesterov | Rule::Rmsprop | Rule::Adagrad => 1,
                Rule::Adam | Rule::Adamw => 2,
                Rule::Amsgrad => 3,
            };
            // And for some the number of steps of each variable.
            let counts =
                if !matches!(rule, Rule::Sgd | Rule::Momentum | Rule::Nesterov | Rule::Rmsprop) { 2 } else { 0 };
            assert_eq!(optimizer.state_bytes(), (moments * 10 + counts) * 4);
        }
    }
}

#[test]
fn the_gradient_of_all_weights_is_clipped_together() {
    let experiment = experiment::Experiment { l1: 0.0, ..MLP_MNIST };
    // 3 and 4, 5 together: clipped at 2.5 half of each is left, and at 50 all of it.
    for (clip, share) in [("2.5", 0.5), ("50", 1.0)] {
        let vs = nn::VarStore::new(Device::Cpu);
        let [a, b] = ["a", "b"].map(|name| (vs.root() / name).zeros("weight", &[1]));
        let settings = settings(&experiment, &["--clip-norm", clip]);
        let mut optimizer = Optimizer::new(OptimizerKind::Sgd, &vs, &experiment, &settings).unwrap();
        optimizer.set_rate(1.0);
        // Of the true gradient, whatever the loss is scaled by.
        let loss = (&a * 3.0 + &b * 4.0).sum(Kind::Float) * 64.0;
        optimizer.backward_step(&loss, 64.0).unwrap();
        let steps = [&a, &b].map(|weight| weight.double_value(&[0]));
        assert!((steps[0] + 3.0 * share).abs() < 1e-6 && (steps[1] + 4.0 * share).abs() < 1e-6, "{steps:?}");
    }
}

#[test]
fn smoothed_labels_give_a_share_of_their_weight_to_all_classes() {
    let data = digits::load(Benchmark::Mnist).unwrap();
    let (images, labels) = Batches::new(&data, 32, 5).batch(0);
    let settings = settings(&MLP_MNIST, &["--label-smoothing", "0.2"]);
    let mut stepper = Stepper::<Mlp>::new(&MLP_MNIST, OptimizerKind::Sgd, 5, &settings, &data, Device::Cpu).unwrap();
    stepper.step(1, 0.1, &images, &labels).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    tch::manual_seed(5);
    let model = Mlp::new(&Plain, &vs.root(), 10);
    tch::manual_seed(5);
    initialise(&vs);
    let surprise = -model.forward_t(&images, true).log_softmax(1, Kind::Float);
    let of_labels = surprise.gather(1, &labels.unsqueeze(1), false).mean(Kind::Float).double_value(&[]);
    let expected = 0.8 * of_labels + 0.2 * surprise.mean(Kind::Float).double_value(&[]);
    assert!((stepper.loss_sum() - expected).abs() < 1e-5, "{}, not {expected}", stepper.loss_sum());
}

#[test]
fn steps_that_a_cuda_graph_replays_train_as_eager_ones_do() {
    if !cfg!(feature = "cuda") || !tch::Cuda::is_available() {
        let required = std::env::var("TCH_SVGD_REQUIRE_CUDA").is_ok_and(|required| required == "1");
        assert!(!required, "TCH_SVGD_REQUIRE_CUDA is set: no CUDA device, or a build without the feature 'cuda'");
        // Past the capture of test output.
        let _ = writeln!(std::io::stderr(), "no CUDA device, or no feature 'cuda': the test is not run");
        return;
    }
    let device = Device::Cuda(0);
    let data = digits::load(Benchmark::Mnist).unwrap().to_device(device);
    for kind in [OptimizerKind::Adam, OptimizerKind::SvgdMomentum, OptimizerKind::Rmsprop] {
        let train = |arguments: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            let settings = settings(&MLP_MNIST, arguments);
            let mut stepper = Stepper::<Mlp>::new(&MLP_MNIST, kind, 5, &settings, &data, device).unwrap();
            let mut batches = Batches::new(&data, 32, 5);
            for step in 0..12 {
                // The rate falls while steps are replayed, and the sum of losses begins anew.
                let rate = if step < 8 { 1e-3 } else { 1e-4 };
                if step == 6 {
                    stepper.forget_losses();
                }
                let (images, labels) = batches.batch(step);
                stepper.step(step, rate, &images, &labels).unwrap();
            }
            assert_eq!(stepper.is_captured(), settings.cuda_graph);
            stepper.save(folder.path()).unwrap();
            let files = ["weights.safetensors", "optimizer.safetensors"];
            files.map(|file| std::fs::read(folder.path().join(file)).unwrap())
        };
        assert!(train(&[]) == train(&["--cuda-graph"]), "{kind:?}");
    }
}

/// Builds a model plain and hatted, and looks at its first weights.
fn check_model<M: Model>(images: [i64; 4], batch_norms: usize, weights: usize, biases: usize) {
    assert!(M::AS_SVGDS_AUTHORS);
    let plain = nn::VarStore::new(Device::Cpu);
    let model = M::new(&Plain, &plain.root(), 10);
    let parameters: usize = plain.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(parameters, M::PARAMETERS, "{}", M::NAME);
    tch::manual_seed(4);
    initialise(&plain);
    let variables = plain.variables();
    for (name, variable) in &variables {
        let size = variable.size();
        if is_batch_norm(name) {
            let is_one = name.ends_with("weight") || name.ends_with("running_var");
            let expected = if is_one { 1.0 } else { 0.0 };
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
    assert_eq!(variables.keys().filter(|name| is_batch_norm(name)).count(), 4 * batch_norms);
    assert_eq!(variables.len(), 4 * batch_norms + weights + biases);

    let hatted = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let hatted_model = M::new(&svgd, &hatted.root(), 10);
    tch::manual_seed(4);
    initialise(&hatted);
    let images = Tensor::randn(images, (Kind::Float, Device::Cpu));
    assert_eq!(model.forward_t(&images, false), hatted_model.forward_t(&images, false));
    assert_eq!(model.forward_t(&images, false).size(), [images.size()[0], 10]);
}

// One test, since all threads draw from one generator.
#[test]
fn the_models_are_the_papers_and_start_alike_for_every_optimizer() {
    check_model::<Mlp>([4, 1, 28, 28], 4, 5, 5);
    check_model::<Vgg>([4, 3, 32, 32], 3, 6, 6);
    check_model::<ResNet20>([4, 3, 32, 32], 19, 20, 1);
    let images = |channels, side| Tensor::randn([4, channels, side, side], (Kind::Float, Device::Cpu));
    check_small_model::<ResNet<3, false>>(&images(3, 32), &[4, 10], 97);
    check_small_model::<ResNet<5, false>>(&images(3, 32), &[4, 10], 157);
    check_small_model::<SigmoidMlp<6, true>>(&images(1, 28), &[4, 10], 14);
    check_small_model::<SigmoidMlp<18, false>>(&images(1, 28), &[4, 10], 38);
    check_small_model::<SmallVgg<1, 28>>(&images(1, 28), &[4, 10], 12);
    check_small_model::<SmallVgg<3, 32>>(&images(3, 32), &[4, 10], 12);
    check_small_model::<SmallAlexNet<1, 28>>(&images(1, 28), &[4, 10], 14);
    check_small_model::<SmallAlexNet<3, 32>>(&images(3, 32), &[4, 10], 14);
    let words = Tensor::randint(10_000, [4, 40], (Kind::Int64, Device::Cpu));
    check_small_model::<Language>(&words, &[4, 40, 10], 11);
    check_small_model::<SentenceNet>(&words, &[4, 10], 9);
}

/// A seed gives every optimizer the same weights, which are tch's.
fn check_small_model<M: Model>(inputs: &Tensor, logits: &[i64], variables: usize) {
    let build = |kind: OptimizerKind| {
        let vs = nn::VarStore::new(Device::Cpu);
        tch::manual_seed(4);
        let model: M = Method::new(kind, 0.01, 1.0).unwrap().build(&vs.root(), 10);
        (vs, model)
    };
    let ((plain, model), (hatted, hatted_model)) = (build(OptimizerKind::Sgd), build(OptimizerKind::TsoAlra));
    let parameters: usize = plain.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!((parameters, plain.variables().len()), (M::PARAMETERS, variables), "{}", M::NAME);
    for (name, variable) in plain.variables() {
        assert_eq!(variable, hatted.variables()[&name], "{name}");
    }
    assert_eq!(model.forward_t(inputs, false), hatted_model.forward_t(inputs, false));
    assert_eq!(model.forward_t(inputs, false).size(), logits);
    let drops = model.forward_t(inputs, true) != model.forward_t(inputs, true);
    assert_eq!(drops, M::DROPOUT, "{}", M::NAME);
}

#[test]
fn words_are_numbered_by_how_often_they_stand() {
    let text = ["It's the CAT's -- 'the' cat, the end.", "x2, the cat's end"];
    let expected = ["it's", "the", "cat's", "the", "cat", "the", "end"];
    assert_eq!(text::words(text[0]).collect::<Vec<_>>(), expected);
    // the: 4; cat's, end: 2, by the alphabet; then cat, it's, x2. Room for three words.
    let vocabulary = text::Vocabulary::new(text, 6);
    let numbers = |line: &str| vocabulary.numbers(line).collect::<Vec<_>>();
    assert_eq!(numbers("The cat's end: CAT, dog."), [3, 4, 5, text::UNKNOWN, text::UNKNOWN]);
}

#[test]
fn a_window_is_labelled_with_the_words_that_follow_and_a_line_is_padded() {
    let numbers: Vec<i64> = (0..12).collect();
    let Split { inputs, labels } = text::windows(&numbers, 4);
    // What fills no window is left out, and so is a window whose last word nothing follows.
    assert_eq!(inputs, Tensor::from_slice(&[0i64, 1, 2, 3, 4, 5, 6, 7]).view([2, 4]));
    assert_eq!(labels, inputs + 1);
    let Split { inputs, labels } = text::padded(&[(vec![5, 6], 1), (vec![7, 8, 9, 10], 0)], 3);
    assert_eq!(inputs, Tensor::from_slice(&[5, 6, text::PAD, 7, 8, 9]).view([2, 3]));
    assert_eq!(labels, Tensor::from_slice(&[1i64, 0]));
    assert_eq!(text::windows(&[], 4).len(), 0);
}

#[test]
fn images_are_held_out_once_and_from_the_end() {
    let data = numbered(false, false);
    let (n, last) = (data.train.len(), data.train.inputs.get(-1));
    let data = data.hold_out(0.1).unwrap();
    let validation = data.validation.as_ref().unwrap();
    assert_eq!((data.train.len(), validation.len()), (n - n / 10, n / 10));
    assert_eq!(validation.inputs.get(-1), last);
    assert!(data.describe().contains(&format!(", {} for validation", n / 10)), "{}", data.describe());
    assert!(numbered(false, false).hold_out(0.0).unwrap().validation.is_none());
    for share in [0.001, 0.999] {
        let error = numbered(false, false).hold_out(share).unwrap_err().to_string();
        assert!(error.contains("expected a share that is some of the 40 training images"), "{error}");
    }
}
