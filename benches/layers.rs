//! Forward and backward passes of the hatted layers beside tch's own.

mod support;

use criterion::Criterion;
use support::{Summary, Times, in_turn};
use tch::nn::{self, Module};
use tch::{Kind, Tensor};
use tch_svgd::{Granularity, Layers, Plain, Svgd, SvgdConfig};

/// A layer with its input and the gradient of its output.
struct Case {
    layer: Box<dyn Module>,
    parameters: nn::VarStore,
    input: Tensor,
    grad_output: Tensor,
    /// Whose accumulators the layer updates: they live as long as this.
    _state: Option<Svgd>,
}

impl Case {
    fn new(granularity: Option<Granularity>, size: &[i64], make: &dyn Fn(&Maker, nn::Path) -> Box<dyn Module>) -> Self {
        let device = support::device();
        let parameters = nn::VarStore::new(device);
        let state = granularity.map(|granularity| Svgd::new(SvgdConfig { granularity, ..Default::default() }).unwrap());
        let maker = state.as_ref().map_or(Maker::Plain, Maker::Svgd);
        let layer = make(&maker, parameters.root());
        let input = Tensor::randn(size, (Kind::Float, device)).set_requires_grad(true);
        let grad_output = layer.forward(&input).detach().normal_(0.0, 1e-3);
        Case { layer, parameters, input, grad_output, _state: state }
    }

    fn forward(&self) -> Tensor {
        self.layer.forward(&self.input)
    }

    fn backward(&self, output: &Tensor) {
        let mut inputs = self.parameters.trainable_variables();
        inputs.push(self.input.shallow_clone());
        // Multiplied into a scalar, the output gets `grad_output` for its gradient.
        Tensor::run_backward(&[(output * &self.grad_output).sum(Kind::Float)], &inputs, true, false);
    }
}

/// `Layers` is generic; a list of cases wants one type.
enum Maker<'a> {
    Plain,
    Svgd(&'a Svgd),
}

fn linear(maker: &Maker, p: nn::Path, inputs: i64, outputs: i64) -> Box<dyn Module> {
    match maker {
        Maker::Plain => Box::new(Plain.linear(p, inputs, outputs, Default::default())),
        Maker::Svgd(svgd) => Box::new(svgd.linear(p, inputs, outputs, Default::default())),
    }
}

fn conv2d(maker: &Maker, p: nn::Path) -> Box<dyn Module> {
    let config = nn::ConvConfig { padding: 1, ..Default::default() };
    match maker {
        Maker::Plain => Box::new(Plain.conv2d(p, 32, 32, 3, config)),
        Maker::Svgd(svgd) => Box::new(svgd.conv2d(p, 32, 32, 3, config)),
    }
}

/// Passes of a small layer that are timed together: one is too short.
const PASSES: usize = 200;

/// A layer of the size that models have whose steps are mostly the calls of their operators.
fn small(criterion: &mut Criterion, summary: &mut Summary) {
    let make = |maker: &Maker, p: nn::Path| linear(maker, p, 128, 64);
    let case = |granularity| Case::new(granularity, &[32, 128], &make);
    let (svgd, tch) = (case(Some(Granularity::Element)), case(None));
    for backward in [false, true] {
        let passes = |case: &Case| {
            for _ in 0..PASSES {
                let output = case.forward();
                if backward {
                    case.backward(&output);
                }
            }
        };
        let name = format!("linear_32x128x64/{}", if backward { "forward_and_backward" } else { "forward" });
        let routines: Vec<support::Routine> =
            vec![("svgd", Box::new(|| passes(&svgd))), ("tch", Box::new(|| passes(&tch)))];
        let Some(times) = in_turn(criterion, "layers", &name, 0, routines) else { continue };
        summary.ratio(&name, times.ratio("svgd", "tch"));
        for layer in ["svgd", "tch"] {
            summary.fact(&format!("{name}/{layer}"), times.median(layer) * 1e6 / PASSES as f64, "us");
        }
    }
}

/// Times one pass of each case in turn.
fn times(criterion: &mut Criterion, name: &str, cases: &[(&'static str, Case)], backward: bool) -> Option<Times> {
    let outputs: Vec<Tensor> = cases.iter().map(|(_, case)| case.forward()).collect();
    let routines = cases.iter().zip(&outputs).map(|((name, case), output)| {
        let routine: Box<dyn FnMut()> =
            if backward { Box::new(|| case.backward(output)) } else { Box::new(|| drop(case.forward())) };
        (*name, routine)
    });
    in_turn(criterion, "layers", name, 0, routines.collect())
}

fn main() {
    support::reuse_memory();
    let mut criterion = Criterion::default().sample_size(50).configure_from_args();
    let mut summary = Summary::new("layers");
    let linear_size: &[i64] = &[1024, 512];
    let conv2d_size: &[i64] = &[64, 32, 32, 32];
    let square = |maker: &Maker, p: nn::Path| linear(maker, p, 512, 512);
    let linears = [
        ("svgd", Case::new(Some(Granularity::Element), linear_size, &square)),
        ("tch", Case::new(None, linear_size, &square)),
    ];
    let convolutions = [
        ("element", Case::new(Some(Granularity::Element), conv2d_size, &conv2d)),
        ("channel", Case::new(Some(Granularity::Channel), conv2d_size, &conv2d)),
        ("tch", Case::new(None, conv2d_size, &conv2d)),
    ];
    for backward in [false, true] {
        let pass = if backward { "backward" } else { "forward" };
        let name = format!("linear_1024x512x512/{pass}");
        if let Some(times) = times(&mut criterion, &name, &linears, backward) {
            summary.ratio(&name, times.ratio("svgd", "tch"));
        }
        let case = format!("64x32x32x32_3x3/{pass}");
        if let Some(times) = times(&mut criterion, &format!("conv2d_{case}"), &convolutions, backward) {
            summary.ratio(&format!("conv2d_element_{case}"), times.ratio("element", "tch"));
            summary.ratio(&format!("conv2d_channel_{case}"), times.ratio("channel", "tch"));
        }
    }
    small(&mut criterion, &mut summary);
    summary.write();
    criterion.final_summary();
}
