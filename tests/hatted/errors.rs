//! Bad input, and the error that each gets: of the right variant, with a text that names operator and argument.

use crate::common::*;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::{self, Convolution, Hyperparameters, conv2d};
use tch_svgd::testing::{self, to_meta};
use tch_svgd::{Error, Svgd, SvgdConfig, backward};

fn variant(error: &Error) -> &'static str {
    match error {
        Error::Shape(_) => "Shape",
        Error::Kind(_) => "Kind",
        Error::Device(_) => "Device",
        Error::Config(_) => "Config",
        Error::OutOfMemory(_) => "OutOfMemory",
        Error::Unsupported(_) => "Unsupported",
        Error::State { .. } => "State",
        Error::Torch(_) => "Torch",
        Error::Tch(_) => "Tch",
        Error::Io { .. } => "Io",
        _ => "unknown",
    }
}

/// The result is an error of this variant, and its text has all the parts.
#[track_caller]
fn check<T>(result: Result<T, Error>, expected: &str, parts: &[&str]) {
    let Err(error) = result else { panic!("no error; expected {expected} with {parts:?}") };
    let text = error.to_string();
    assert_eq!(variant(&error), expected, "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    assert!(!text.contains('\x1f') && !text.contains("frame #"), "raw text: {text:?}");
}

fn f(size: &[i64]) -> Tensor {
    zeros(size, Kind::Float)
}

/// A call of the linear operator with good arguments, to be spoiled one by one.
struct Linear {
    input: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    second_moment: Tensor,
    hyper: Hyperparameters,
}

impl Linear {
    fn good() -> Self {
        Linear {
            input: f(&[4, 5]),
            weight: f(&[3, 5]),
            bias: Some(f(&[3])),
            second_moment: f(&[3]),
            hyper: Hyperparameters::default(),
        }
    }

    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Self), variant: &str, parts: &[&str]) {
        let mut call = Linear::good();
        spoil(&mut call);
        let Linear { input, weight, bias, second_moment, hyper } = call;
        let parts: Vec<_> = [&["svgd::linear: argument ", "expected ", "got "], parts].concat();
        check(functional::linear(&input, &weight, bias.as_ref(), &second_moment, hyper), variant, &parts);
    }
}

#[test]
fn linear_names_what_is_wrong() {
    let good = Linear::good();
    let _ = functional::linear(&good.input, &good.weight, good.bias.as_ref(), &good.second_moment, good.hyper).unwrap();

    let half = || zeros(&[3], Kind::Half);
    Linear::check(|c| c.input = f(&[4, 6]), "Shape", &["'input'", "5 features", "[4, 6]", "in_dim"]);
    Linear::check(|c| c.input = f(&[]), "Shape", &["'input'"]);
    Linear::check(|c| c.weight = f(&[3, 5, 1]), "Shape", &["'weight'", "2 dimensions", "[3, 5, 1]"]);
    Linear::check(|c| c.weight = f(&[0, 5]), "Shape", &["'weight'", "at least one output"]);
    Linear::check(|c| c.bias = Some(f(&[4])), "Shape", &["'bias'", "[3]", "[4]"]);
    Linear::check(|c| c.bias = Some(f(&[3, 1])), "Shape", &["'bias'", "[3, 1]"]);
    Linear::check(|c| c.second_moment = f(&[4]), "Shape", &["'second_moment'", "[3]", "[4]"]);
    Linear::check(|c| c.second_moment = f(&[3, 1]), "Shape", &["'second_moment'", "[3, 1]"]);

    Linear::check(|c| c.input = zeros(&[4, 5], Kind::Int64), "Kind", &["'input'", "Long", "to_kind"]);
    Linear::check(|c| c.weight = zeros(&[3, 5], Kind::ComplexFloat), "Kind", &["'weight'", "ComplexFloat"]);
    Linear::check(|c| c.input = zeros(&[4, 5], Kind::Double), "Kind", &["'input'", "Float", "Double", "'weight'"]);
    Linear::check(|c| c.bias = Some(half()), "Kind", &["'bias'", "Half"]);
    Linear::check(|c| c.second_moment = half(), "Kind", &["'second_moment'", "Float", "Half"]);
    Linear::check(|c| c.second_moment = zeros(&[3], Kind::Double), "Kind", &["'second_moment'", "Double"]);

    let meta = |tensor: &Tensor| to_meta(tensor).unwrap();
    Linear::check(|c| c.input = meta(&c.input), "Device", &["'input'", "cpu", "meta", "to_device"]);
    Linear::check(|c| c.second_moment = meta(&c.second_moment), "Device", &["'second_moment'", "cpu", "meta"]);

    Linear::check(|c| c.input = Tensor::new(), "Config", &["'input'", "undefined"]);
    Linear::check(|c| c.weight = Tensor::new(), "Config", &["'weight'", "undefined"]);
    Linear::check(|c| c.bias = Some(Tensor::new()), "Config", &["'bias'", "undefined", "None"]);
    Linear::check(|c| c.second_moment = Tensor::new(), "Config", &["'second_moment'", "undefined"]);
    Linear::check(|c| c.second_moment = f(&[1]).expand([3], false), "Config", &["'second_moment'", "strides [0]"]);
    Linear::check(|c| c.second_moment = leaf(&f(&[3])), "Config", &["'second_moment'", "requires no gradient"]);
    Linear::check(|c| c.input = f(&[4, 5]).to_sparse_sparse_dim(2), "Unsupported", &["'input'", "Sparse", "to_dense"]);

    for (scale, decay, eps, gradient_scale, name) in [
        (-1.0, 0.9, 1e-6, 1.0, "'scale'"),
        (f64::NAN, 0.9, 1e-6, 1.0, "'scale'"),
        (f64::INFINITY, 0.9, 1e-6, 1.0, "'scale'"),
        (1.0, 1.0, 1e-6, 1.0, "'decay'"),
        (1.0, -0.1, 1e-6, 1.0, "'decay'"),
        (1.0, f64::NAN, 1e-6, 1.0, "'decay'"),
        (1.0, 0.9, 0.0, 1.0, "'eps'"),
        (1.0, 0.9, f64::NAN, 1.0, "'eps'"),
        (1.0, 0.9, 1e-6, f64::NAN, "'gradient_scale'"),
        // Values that float, in which the kernels compute, turns into 1, 0 and infinity.
        (1.0, 1.0 - 1e-12, 1e-6, 1.0, "'decay'"),
        (1.0, 0.9, 1e-50, 1.0, "'eps'"),
        (1e39, 0.9, 1e-6, 1.0, "'scale'"),
    ] {
        let hyper = Hyperparameters { scale, decay, eps, gradient_scale, virtual_bias: false };
        Linear::check(|c| c.hyper = hyper, "Config", &[name]);
    }
}

#[test]
fn conv2d_names_what_is_wrong() {
    struct Conv {
        input: Tensor,
        weight: Tensor,
        bias: Option<Tensor>,
        second_moment: Tensor,
        geometry: Convolution,
    }
    let run = |spoil: &dyn Fn(&mut Conv)| {
        let mut call = Conv {
            input: f(&[2, 4, 8, 9]),
            weight: f(&[6, 2, 3, 3]),
            bias: Some(f(&[6])),
            second_moment: f(&[6, 6, 7]),
            geometry: Convolution { groups: 2, ..Default::default() },
        };
        spoil(&mut call);
        let hyper = Hyperparameters::default();
        functional::conv2d(&call.input, &call.weight, call.bias.as_ref(), &call.second_moment, call.geometry, hyper)
    };
    let _ = run(&|_| ()).unwrap();
    let _ = run(&|c| c.second_moment = f(&[6])).unwrap();
    type Case<'a> = (&'a dyn Fn(&mut Conv), &'a str, &'a [&'a str]);
    let cases: &[Case] = &[
        (&|c| c.input = f(&[2, 5, 8, 9]), "Shape", &["'input'", "4 channels", "2 groups", "[2, 5, 8, 9]"]),
        (&|c| c.input = f(&[8, 9]), "Shape", &["'input'", "4 dimensions", "[8, 9]"]),
        (&|c| c.input = f(&[2, 4, 2, 9]), "Shape", &["'input'", "3 padded rows", "[2, 4, 2, 9]"]),
        (&|c| c.input = f(&[2, 4, 8, 1]), "Shape", &["'input'", "3 padded columns"]),
        (&|c| c.weight = f(&[6, 2, 3]), "Shape", &["'weight'", "4 dimensions", "[6, 2, 3]"]),
        (&|c| c.weight = f(&[5, 2, 3, 3]), "Shape", &["'weight'", "2 groups divide", "5"]),
        (&|c| c.bias = Some(f(&[5])), "Shape", &["'bias'", "[6]", "[5]"]),
        (&|c| c.second_moment = f(&[6, 7, 6]), "Shape", &["'second_moment'", "[6, 6, 7]", "[6]", "[6, 7, 6]"]),
        (&|c| c.second_moment = f(&[7]), "Shape", &["'second_moment'", "[7]", "Granularity::Channel"]),
        (&|c| c.second_moment = f(&[]), "Shape", &["'second_moment'"]),
        (&|c| c.geometry.stride = [0, 1], "Config", &["'stride'", "[0, 1]"]),
        (&|c| c.geometry.padding = [0, -1], "Config", &["'padding'", "[0, -1]"]),
        (&|c| c.geometry.dilation = [1, 0], "Config", &["'dilation'", "[1, 0]"]),
        (&|c| c.geometry.dilation = [i64::MAX, 1], "Config", &["'dilation'", "2147483647"]),
        (&|c| c.weight = f(&[6, 2, 0, 3]), "Shape", &["'weight'", "at least 1x1"]),
        (&|c| c.geometry.groups = 0, "Config", &["'groups'", "0"]),
        (&|c| c.input = zeros(&[2, 4, 8, 9], Kind::Half), "Kind", &["'input'", "Float", "Half"]),
        (&|c| c.input = to_meta(&c.input).unwrap(), "Device", &["'input'", "cpu", "meta"]),
    ];
    for (spoil, variant, parts) in cases {
        check(run(spoil), variant, &[&["svgd::conv2d: argument ", "expected ", "got "], *parts].concat());
    }
}

#[test]
fn virtual_grad_names_what_is_wrong() {
    let run =
        |gradient: Tensor, moment: Tensor| functional::virtual_grad(&gradient, &moment, Hyperparameters::default());
    for (gradient, moment, variant, parts) in [
        (f(&[4, 3]), f(&[4]), "Shape", ["'second_moment'", "[3]", "[4]"]),
        (f(&[4, 3, 2, 2]), f(&[2]), "Shape", ["'second_moment'", "[3, 2, 2]", "[2]"]),
        (f(&[]), f(&[]), "Shape", ["'grad_output'", "batch axis", "scalar"]),
        (zeros(&[4, 3], Kind::Int64), f(&[3]), "Kind", ["'grad_output'", "Long", "Float"]),
        (zeros(&[4, 3], Kind::Double), f(&[3]), "Kind", ["'second_moment'", "Double", "Float"]),
        (to_meta(&f(&[4, 3])).unwrap(), f(&[3]), "Device", ["'second_moment'", "meta", "cpu"]),
        (Tensor::new(), f(&[3]), "Config", ["'grad_output'", "undefined", "tensor"]),
    ] {
        check(run(gradient, moment), variant, &[&["svgd::virtual_grad: argument "], &parts[..]].concat());
    }
    // A second moment that lies in the gradient would change it while it is read.
    let gradient = f(&[4, 3]);
    for moment in [gradient.select(0, 1), gradient.view([-1]).narrow(0, 2, 3)] {
        let parts = ["svgd::virtual_grad: argument 'second_moment'", "memory of its own", "another argument"];
        check(run(gradient.shallow_clone(), moment), "Config", &parts);
    }
}

#[test]
fn too_large_an_output_is_an_out_of_memory_error() {
    // 4 PiB: more than any address space holds.
    let input = f(&[1, 1]).expand([1 << 40, 1], false);
    let result = functional::linear(&input, &f(&[1024, 1]), None, &f(&[1024]), Hyperparameters::default());
    check(result, "OutOfMemory", &["memory"]);
}

#[test]
fn layers_are_checked_when_they_are_made() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let p = vs.root() / "block" / "fc";
    check(svgd.f_linear(&p, 0, 3, Default::default()), "Config", &["layer 'block.fc'", "'in_dim'", "got 0"]);
    check(svgd.f_linear(&p, 3, -1, Default::default()), "Config", &["'out_dim'", "got -1"]);
    let config = nn::ConvConfig::default;
    let conv = |in_dim, out_dim, ksize, config| svgd.f_conv2d(&p, in_dim, out_dim, ksize, config);
    check(conv(0, 4, 3, config()), "Config", &["layer 'block.fc'", "'in_dim'"]);
    check(conv(4, 0, 3, config()), "Config", &["'out_dim'"]);
    check(conv(4, 4, 0, config()), "Config", &["'ksize'"]);
    check(conv(4, 4, 3, nn::ConvConfig { stride: 0, ..config() }), "Config", &["'stride'"]);
    check(conv(4, 4, 3, nn::ConvConfig { padding: -1, ..config() }), "Config", &["'padding'"]);
    check(conv(4, 4, 3, nn::ConvConfig { dilation: 0, ..config() }), "Config", &["'dilation'"]);
    check(conv(4, 4, 3, nn::ConvConfig { groups: 0, ..config() }), "Config", &["'groups'"]);
    check(conv(4, 4, 3, nn::ConvConfig { groups: 3, ..config() }), "Config", &["'groups'", "in_dim 4"]);
    check(conv(6, 4, 3, nn::ConvConfig { groups: 3, ..config() }), "Config", &["'groups'", "out_dim 4"]);
    assert!(vs.is_empty(), "a refused layer leaves no variables");
}

#[test]
fn settings_are_checked() {
    let with = |spoil: fn(&mut SvgdConfig)| {
        let mut config = SvgdConfig::default();
        spoil(&mut config);
        Svgd::new(config)
    };
    check(with(|c| c.scale = -0.1), "Config", &["'scale'", "-0.1"]);
    check(with(|c| c.scale = f64::NAN), "Config", &["'scale'"]);
    check(with(|c| c.decay = 1.0), "Config", &["'decay'", "[0, 1)"]);
    check(with(|c| c.eps = 0.0), "Config", &["'eps'"]);
    let svgd = with(|_| ()).unwrap();
    check(svgd.f_set_scale(f64::INFINITY), "Config", &["'scale'", "inf"]);
    check(svgd.f_set_loss_scale(0.0), "Config", &["'loss_scale'"]);
    assert_eq!(svgd.config(), SvgdConfig::default());
}

#[test]
fn a_layer_names_itself_and_its_operator() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let fc = seeded(1, || svgd.linear(vs.root() / "head" / "fc", 5, 3, Default::default()));
    check(fc.f_forward(&f(&[4, 6])), "Shape", &["layer 'head.fc': svgd::linear: argument 'input'", "[4, 6]"]);
    let conv = seeded(1, || svgd.conv2d(vs.root() / "stem", 3, 4, 3, Default::default()));
    check(conv.f_forward(&f(&[2, 3, 2, 2])), "Shape", &["layer 'stem': svgd::conv2d: argument 'input'"]);
    check(conv.f_forward(&f(&[])), "Shape", &["layer 'stem': svgd::conv2d: argument 'input'"]);
    check(conv.f_forward(&Tensor::new()), "Config", &["layer 'stem'", "undefined"]);
    assert!(conv.second_moment().is_none());

    // The same words where the plain operator runs.
    tch::no_grad(|| {
        check(fc.f_forward(&f(&[4, 6])), "Shape", &["layer 'head.fc': svgd::linear: argument 'input'", "[4, 6]"]);
        check(fc.f_forward(&zeros(&[4, 5], Kind::Half)), "Kind", &["layer 'head.fc': svgd::linear", "Half"]);
        check(conv.f_forward(&f(&[2, 4, 8, 8])), "Shape", &["layer 'stem': svgd::conv2d: argument 'input'"]);
        check(conv.f_forward(&Tensor::new()), "Config", &["layer 'stem'", "undefined"]);
    });
    let config = nn::ConvConfig { padding: 9, padding_mode: nn::PaddingMode::Reflect, ..Default::default() };
    let reflect = seeded(1, || svgd.conv2d(vs.root() / "reflect", 3, 4, 3, config));
    check(reflect.f_forward(&f(&[2, 3, 4, 4])), "Torch", &["layer 'reflect'", "Padding size should be less than"]);
}

#[test]
fn forward_panics_with_the_text_of_the_error() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let fc = seeded(1, || svgd.linear(vs.root() / "fc", 5, 3, Default::default()));
    let bad = f(&[4, 6]);
    let expected = fc.f_forward(&bad).unwrap_err().to_string();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fc.forward(&bad))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&expected));
}

#[test]
fn what_goes_wrong_in_a_backward_pass_is_typed_too() {
    let weight = f(&[4, 3, 3, 3]).set_requires_grad(true);
    let mut second_moment = f(&[4, 6, 6]);
    let loss = |second_moment: &Tensor| {
        let output = conv2d(&f(&[2, 3, 8, 8]), &weight, None, second_moment, Default::default(), Default::default());
        output.unwrap().square().sum(Kind::Float)
    };
    // Out of memory, while the virtual gradient is made.
    let graph = loss(&second_moment);
    let (result, _) = testing::with_memory(1 << 10, || backward(&graph)).unwrap();
    check(result, "OutOfMemory", &["out of memory"]);
    // The state was replaced under the graph.
    let graph = loss(&second_moment);
    let _ = second_moment.resize_([5, 5, 5]);
    check(backward(&graph), "Shape", &["svgd::virtual_grad: argument 'second_moment'", "[5, 5, 5]"]);
    check(backward(&f(&[2])), "Torch", &["grad"]);
}
