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

fn linear(maker: &Maker, p: nn::Path) -> Box<dyn Module> {
    fn with<L: Layers>(layers: &L, p: nn::Path) -> Box<dyn Module> {
        Box::new(layers.linear(p, 512, 512, Default::default()))
    }
    match maker {
        Maker::Plain => with(&Plain, p),
        Maker::Svgd(svgd) => with(*svgd, p),
    }
}

fn conv2d(maker: &Maker, p: nn::Path) -> Box<dyn Module> {
    fn with<L: Layers>(layers: &L, p: nn::Path) -> Box<dyn Module> {
        Box::new(layers.conv2d(p, 32, 32, 3, nn::ConvConfig { padding: 1, ..Default::default() }))
    }
    match maker {
        Maker::Plain => with(&Plain, p),
        Maker::Svgd(svgd) => with(*svgd, p),
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
    let linears = [
        ("svgd", Case::new(Some(Granularity::Element), linear_size, &linear)),
        ("tch", Case::new(None, linear_size, &linear)),
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
    summary.write();
    criterion.final_summary();
}
