//! CUDA graphs: what is refused anywhere, and what a replay computes where there is a device.

mod common;

use common::*;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::optim::{Adam, Rule};
use tch_svgd::{BlockNormalizer, BngConfig, CudaGraph, Error, Svgd, SvgdConfig, SvgdLinear, autocast};

/// The device of the tests that need one, for one test at a time; none where there is none or the build is without the
/// feature `cuda`.
fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    if cfg!(feature = "cuda") && tch::Cuda::is_available() {
        return Some((Device::Cuda(0), ONE.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    let required = std::env::var("TCH_SVGD_REQUIRE_CUDA").is_ok_and(|required| required == "1");
    assert!(!required, "TCH_SVGD_REQUIRE_CUDA is set: no CUDA device, or a build without the feature 'cuda'");
    // Past the capture of test output.
    let _ = writeln!(std::io::stderr(), "no CUDA device, or a build without the feature 'cuda': the test is not run");
    None
}

fn refusal(device: Device) -> Error {
    CudaGraph::capture(device, || unreachable!("the device is refused first")).unwrap_err()
}

#[test]
fn a_device_that_is_not_cuda_is_refused_with_a_way_out() {
    for device in [Device::Cpu, Device::Mps, Device::Vulkan] {
        let error = refusal(device);
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "CudaGraph::capture: argument 'device': expected a CUDA device, got {device:?}; run the step without a \
                 graph"
            )
        );
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_the_feature_refuses_and_names_it() {
    let error = refusal(Device::Cuda(0));
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "CudaGraph::capture: argument 'device': expected Cuda in a build with the feature 'cuda', got Cuda(0) in a \
         build without it; build with --features cuda (see `make cuda`), or run the step without a graph"
    );
}

#[cfg(feature = "cuda")]
#[test]
fn a_device_that_is_not_there_is_refused_with_the_number_of_devices() {
    let error = refusal(Device::Cuda(1000));
    assert!(matches!(error, Error::Device(_)), "{error:?}");
    let expected = format!("one of the {} CUDA devices that libtorch sees, got Cuda(1000)", tch::Cuda::device_count());
    assert!(error.to_string().contains(&expected), "{error}");
}

const KINDS: [Option<Kind>; 2] = [None, Some(Kind::BFloat16)];

/// A small model and its optimizer, with the batch at a place that stays.
struct Training {
    device: Device,
    vs: nn::VarStore,
    layers: [SvgdLinear; 2],
    optimizer: nn::Optimizer,
    inputs: Tensor,
    labels: Tensor,
}

impl Training {
    fn new(device: Device) -> Self {
        let vs = nn::VarStore::new(device);
        let svgd = Svgd::new(SvgdConfig { scale: 0.1, ..Default::default() }).unwrap();
        let layers = seeded(1, || {
            [("hidden", 24, 40), ("out", 40, 6)]
                .map(|(name, inputs, outputs)| svgd.linear(vs.root() / name, inputs, outputs, Default::default()))
        });
        let optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, 0.05).unwrap();
        let inputs = Tensor::zeros([16, 24], (Kind::Float, device));
        let labels = Tensor::zeros([16], (Kind::Int64, device));
        Self { device, vs, layers, optimizer, inputs, labels }
    }

    fn load(&mut self, batch: i64) {
        self.inputs.copy_(&noise(100 + batch, &[16, 24], Kind::Float));
        self.labels.copy_(&seeded(batch, || Tensor::randint(6, [16], (Kind::Int64, Device::Cpu))));
    }

    /// One step on the batch that is loaded; its loss.
    fn step(&mut self, kind: Option<Kind>) -> Tensor {
        let [hidden, out] = &self.layers;
        let forward = || out.forward(&hidden.forward(&self.inputs).relu()).to_kind(Kind::Float);
        let logits = match kind {
            Some(kind) => autocast(self.device, kind, forward).unwrap(),
            None => forward(),
        };
        let loss = logits.cross_entropy_for_logits(&self.labels);
        self.optimizer.backward_step(&loss);
        loss.detach()
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let weights = self.vs.variables().into_iter();
        let moments = self.layers.iter().enumerate().map(|(i, layer)| {
            let moment = layer.second_moment().expect("a step was taken");
            (format!("second moment {i}"), moment)
        });
        let mut state: Vec<_> = weights.chain(moments).map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        state.sort_by(|a, b| a.0.cmp(&b.0));
        state
    }
}

fn assert_same_state(got: &Training, expected: &Training, what: &str) {
    for ((name, got), (_, expected)) in got.state().iter().zip(&expected.state()) {
        assert_same_bits(got, expected, &format!("{name} of {what}"));
    }
}

#[test]
fn replays_are_the_steps_that_they_were_captured_from() {
    let Some((device, _turn)) = gpu() else { return };
    for kind in KINDS {
        let what = format!("training in {kind:?}");
        let (mut captured, mut eager) = (Training::new(device), Training::new(device));
        for batch in 0..3 {
            for training in [&mut captured, &mut eager] {
                training.load(batch);
                let _ = training.step(kind);
            }
        }
        let (graph, loss) = CudaGraph::capture(device, || captured.step(kind)).unwrap();
        assert_same_state(&captured, &eager, &format!("{what} after the capture, in which nothing runs"));
        for batch in 3..8 {
            captured.load(batch);
            graph.replay().unwrap();
            eager.load(batch);
            let expected = eager.step(kind);
            assert_same_bits(&loss, &expected, &format!("loss {batch} of {what}"));
            assert_same_state(&captured, &eager, &what);
        }
        // Without the graph it goes on from there.
        drop(graph);
        for training in [&mut captured, &mut eager] {
            training.load(8);
            let _ = training.step(kind);
        }
        assert_same_state(&captured, &eager, &format!("{what} after the graph"));
    }
}

/// Normalized gradients and Adam, whose count and rate are on the device: the rate that was set last is that of a replay.
#[test]
fn optimizers_and_normalizers_are_replayed_at_the_rate_that_is_set() {
    let Some((device, _guard)) = gpu() else { return };
    let train = |captured: bool| {
        let vs = nn::VarStore::new(device);
        let fc = seeded(1, || nn::linear(vs.root() / "fc", 8, 4, Default::default()));
        let normalizer = BlockNormalizer::new(&vs, BngConfig::default()).unwrap();
        let mut optimizer = Adam::default().build(&vs, 1e-2).unwrap();
        let xs = noise(2, &[16, 8], Kind::Float).to_device(device);
        let mut step = |lr: f64, graph: Option<&CudaGraph>| {
            optimizer.set_lr(lr);
            match graph {
                Some(graph) => graph.replay().unwrap(),
                None => normalizer.backward_step(&mut optimizer, &fc.forward(&xs).square().mean(None)),
            }
        };
        (0..3).for_each(|_| step(1e-2, None));
        let graph = captured.then(|| CudaGraph::capture(device, || step(1e-2, None)).unwrap().0);
        [1e-2, 1e-3, 1e-4].into_iter().for_each(|lr| step(lr, graph.as_ref()));
        (fc.ws.detach(), normalizer.norms().unwrap())
    };
    let ((eager, norms), (replayed, replayed_norms)) = (train(false), train(true));
    assert!(replayed.allclose(&eager, 1e-4, 1e-6, false), "by {:?}", (&replayed - &eager).abs().max());
    assert!((norms[0].1 / replayed_norms[0].1 - 1.0).abs() < 1e-3, "{norms:?} {replayed_norms:?}");
}

#[test]
fn random_numbers_go_on_from_replay_to_replay() {
    let Some((device, _turn)) = gpu() else { return };
    let (graph, numbers) = CudaGraph::capture(device, || Tensor::rand([100], (Kind::Float, device))).unwrap();
    graph.replay().unwrap();
    let first = numbers.copy();
    graph.replay().unwrap();
    assert!(!same_bits(&first, &numbers));
}

/// Every kind of work that a failed capture could have spoiled.
fn check_device(device: Device, what: &str) {
    let random = Tensor::rand([1000], (Kind::Float, device));
    assert!(random.max().double_value(&[]) > 0.5, "{what}");
    let mut eager = Training::new(device);
    eager.load(0);
    assert!(eager.step(None).double_value(&[]).is_finite(), "{what}");
    let (graph, doubled) = CudaGraph::capture(device, || &random * 2.0).unwrap();
    graph.replay().unwrap();
    assert_same_bits(&doubled, &(&random * 2.0), what);
}

#[test]
fn work_that_a_graph_cannot_hold_is_refused_and_the_device_goes_on() {
    let Some((device, _turn)) = gpu() else { return };
    let ones = Tensor::ones([4], (Kind::Float, device));
    for round in 0..3 {
        let refused = CudaGraph::capture(device, || {
            let random = Tensor::rand([4], (Kind::Float, device));
            (&ones + random).sum(Kind::Float).double_value(&[])
        });
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
        for part in ["CudaGraph::capture: argument 'f'", "double_value", "run it without a graph"] {
            assert!(error.to_string().contains(part), "'{part}' is not in: {error}");
        }
        check_device(device, &format!("after refusal {round}"));

        // The error that libtorch returned went nowhere: the end of the capture finds it.
        let error = CudaGraph::capture(device, || ones.sum(Kind::Float).f_double_value(&[]).is_err()).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
        check_device(device, &format!("after swallowed error {round}"));
    }
}

#[test]
fn a_panic_in_a_capture_is_an_error_and_the_device_goes_on() {
    let Some((device, _turn)) = gpu() else { return };
    let mut training = Training::new(device);
    training.load(0);
    let _ = training.step(None);
    let before = training.state();
    let result = CudaGraph::capture::<()>(device, || {
        let _ = training.step(None);
        panic!("expected by this test")
    });
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Torch(_)), "{error:?}");
    assert!(error.to_string().contains("expected by this test"), "{error}");
    for ((name, got), (_, expected)) in training.state().iter().zip(&before) {
        assert_same_bits(got, expected, &format!("{name} after a step that did not run"));
    }
    check_device(device, "after a panic");
    assert!(training.step(None).double_value(&[]).is_finite());
}

#[test]
fn a_capture_within_a_capture_is_refused_and_the_outer_one_goes_on() {
    let Some((device, _turn)) = gpu() else { return };
    let ones = Tensor::ones([4], (Kind::Float, device));
    let (graph, (inner, twos)) =
        CudaGraph::capture(device, || (CudaGraph::capture(device, || ()).unwrap_err(), &ones + 1.0)).unwrap();
    assert!(matches!(inner, Error::Unsupported(_)), "{inner:?}");
    assert!(inner.to_string().contains("a capture within a capture"), "{inner}");
    graph.replay().unwrap();
    assert_eq!(twos.sum(Kind::Float).double_value(&[]), 8.0);
}

#[test]
fn tensors_outlive_the_graph_that_wrote_them() {
    let Some((device, _turn)) = gpu() else { return };
    let ones = Tensor::ones([1000], (Kind::Float, device));
    let (graph, twos) = CudaGraph::capture(device, || &ones + 1.0).unwrap();
    graph.replay().unwrap();
    drop(graph);
    let _others = Tensor::zeros([1000], (Kind::Float, device));
    assert_eq!(twos.sum(Kind::Float).double_value(&[]), 2000.0);
}
