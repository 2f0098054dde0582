//! The operators against Algorithm 1 in plain loops, over several steps.

use crate::common::*;
use ndarray::{Array1, Array2, Array3, Array4};
use tch::{Kind, Tensor};
use tch_svgd::functional::{self, Convolution, Hyperparameters};

const KINDS: [Kind; 4] = [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16];

fn d1(tensor: &Tensor) -> Array1<f64> {
    to_array(tensor).into_dimensionality().unwrap()
}

fn d2(tensor: &Tensor) -> Array2<f64> {
    to_array(tensor).into_dimensionality().unwrap()
}

fn d4(tensor: &Tensor) -> Array4<f64> {
    to_array(tensor).into_dimensionality().unwrap()
}

/// Four steps of a linear layer with a new input and gradient each, every result held to the reference.
fn check_linear(rows: i64, fan_in: i64, out: i64, kind: Kind, strided: bool, bias: bool, hyper: Hyperparameters) {
    let weight = leaf(&random(1, &[out, fan_in], kind));
    let bs = leaf(&random(2, &[out], kind));
    let second_moment = zeros(&[out], moment_kind(kind));
    let mut expected_moment = Array1::zeros(out as usize);
    for step in 0..4 {
        let input = if strided {
            random(10 + step, &[fan_in, rows], kind).tr() // column-major
        } else {
            random(10 + step, &[rows, fan_in], kind)
        };
        let input = leaf(&input);
        let grad_output = random(20 + step, &[rows, out], kind);
        let output = functional::linear(&input, &weight, bias.then_some(&bs), &second_moment, hyper).unwrap();
        let plain_bias = if bias { d1(&bs) } else { Array1::zeros(out as usize) };
        let expected =
            linear_step(&d2(&input), &d2(&weight), &plain_bias, &d2(&grad_output), &mut expected_moment, hyper);
        let mut wanted = vec![&input, &weight];
        if bias {
            wanted.push(&bs);
        }
        let gradients = Tensor::run_backward(&[(&output * &grad_output).sum(kind)], &wanted, false, false);
        let at = format!("{rows}x{fan_in}x{out} {kind:?} strided {strided} step {step} {hyper:?}: ");
        assert_close(&output, &expected.output, kind, &(at.clone() + "output"));
        assert_close(&gradients[0], &expected.grad_input, kind, &(at.clone() + "input gradient"));
        assert_close(&second_moment, &expected_moment, moment_kind(kind), &(at.clone() + "second moment"));
        assert_close(&gradients[1], &expected.grad_weight, kind, &(at.clone() + "virtual gradient"));
        if bias {
            assert_close(&gradients[2], &expected.grad_bias, kind, &(at + "bias gradient"));
        }
    }
}

/// Four steps of a convolution with a new input and gradient each, every result held to the reference.
#[derive(Clone, Copy)]
struct ConvCase {
    input: [i64; 4],
    weight: [i64; 4],
    convolution: Convolution,
    kind: Kind,
    share: Share,
    channels_last: bool,
    bias: bool,
    hyper: Hyperparameters,
}

impl ConvCase {
    fn new(input: [i64; 4], weight: [i64; 4]) -> Self {
        ConvCase {
            input,
            weight,
            convolution: Convolution { padding: [1, 1], ..Default::default() },
            kind: Kind::Float,
            share: Share::Nothing,
            channels_last: false,
            bias: true,
            hyper: Hyperparameters::default(),
        }
    }

    fn check(self) {
        let ConvCase { kind, share, convolution, hyper, .. } = self;
        let layout = |tensor: Tensor| if self.channels_last { channels_last(&tensor) } else { tensor };
        let weight = leaf(&layout(random(1, &self.weight, kind)));
        let channels = self.weight[0] as usize;
        let bs = leaf(&random(2, &[self.weight[0]], kind));
        let size = conv2d_output_size(self.input.map(|n| n as usize), self.weight.map(|n| n as usize), convolution);
        let output_size = size.map(|n| n as i64);
        let (second_moment, mut expected_moment) = match share {
            Share::Nothing => (zeros(&output_size[1..], moment_kind(kind)), Array3::zeros((size[1], size[2], size[3]))),
            Share::Channel => (zeros(&output_size[1..2], moment_kind(kind)), Array3::zeros((channels, 1, 1))),
        };
        for step in 0..4 {
            let input = leaf(&layout(random(10 + step, &self.input, kind)));
            let grad_output = layout(random(20 + step, &output_size, kind));
            let bias = self.bias.then_some(&bs);
            let output = functional::conv2d(&input, &weight, bias, &second_moment, convolution, hyper).unwrap();
            let expected = conv2d_step(
                &d4(&input),
                &d4(&weight),
                &if self.bias { d1(&bs) } else { Array1::zeros(channels) },
                &d4(&grad_output),
                &mut expected_moment,
                share,
                convolution,
                hyper,
            );
            let mut wanted = vec![&input, &weight];
            wanted.extend(bias);
            let gradients = Tensor::run_backward(&[(&output * &grad_output).sum(kind)], &wanted, false, false);
            let at = format!(
                "{:?} {:?} {convolution:?} {kind:?} {share:?} channels_last {} step {step} {hyper:?}: ",
                self.input, self.weight, self.channels_last
            );
            assert_close(&output, &expected.output, kind, &(at.clone() + "output"));
            assert_close(&gradients[0], &expected.grad_input, kind, &(at.clone() + "input gradient"));
            let moment = expected_moment.clone().into_dyn();
            let moment = if share == Share::Channel {
                moment.into_shape_with_order(ndarray::IxDyn(&[channels])).unwrap()
            } else {
                moment
            };
            assert_close(&second_moment, &moment, moment_kind(kind), &(at.clone() + "second moment"));
            assert_close(&gradients[1], &expected.grad_weight, kind, &(at.clone() + "virtual gradient"));
            if self.bias {
                assert_close(&gradients[2], &expected.grad_bias, kind, &(at + "bias gradient"));
            }
        }
    }
}

#[test]
fn linear_follows_algorithm_1_in_every_kind() {
    for kind in KINDS {
        check_linear(7, 5, 3, kind, false, true, Hyperparameters::default());
        check_linear(7, 5, 3, kind, true, false, Hyperparameters::default());
    }
}

#[test]
fn linear_follows_algorithm_1_over_many_rows_and_columns() {
    // More rows than one block of the reduction, more columns than one chunk, rows of the weight that threads share, and a
    // single output.
    check_linear(20_000, 3, 5, Kind::Float, false, true, Hyperparameters::default());
    check_linear(3, 2, 1500, Kind::Float, false, true, Hyperparameters::default());
    check_linear(7, 150, 300, Kind::Float, false, true, Hyperparameters::default());
    check_linear(1100, 3, 1, Kind::Double, false, true, Hyperparameters::default());
    check_linear(1, 4, 3, Kind::Float, false, true, Hyperparameters::default());
}

#[test]
fn hyperparameters_enter_where_algorithm_1_puts_them() {
    for hyper in [
        Hyperparameters { scale: 3.0, ..Default::default() },
        Hyperparameters { decay: 0.0, ..Default::default() },
        Hyperparameters { decay: 0.99, eps: 1e-2, ..Default::default() },
        Hyperparameters { gradient_scale: 0.25, ..Default::default() },
        Hyperparameters { gradient_scale: 0.0, ..Default::default() }, // the batch size
        Hyperparameters { virtual_bias: true, ..Default::default() },
        Hyperparameters { scale: 0.0, ..Default::default() },
    ] {
        check_linear(6, 4, 3, Kind::Double, false, true, hyper);
        for share in [Share::Nothing, Share::Channel] {
            ConvCase { hyper, share, kind: Kind::Double, ..ConvCase::new([3, 2, 5, 4], [4, 2, 3, 3]) }.check();
        }
    }
}

#[test]
fn conv2d_follows_algorithm_1_in_every_kind_granularity_and_memory_format() {
    for kind in KINDS {
        for share in [Share::Nothing, Share::Channel] {
            for channels_last in [false, true] {
                ConvCase { kind, share, channels_last, ..ConvCase::new([3, 4, 6, 5], [8, 4, 3, 3]) }.check();
            }
        }
    }
}

#[test]
fn conv2d_follows_algorithm_1_in_every_geometry() {
    let plain = Convolution::default();
    let cases = [
        ([5, 3, 7, 6], [4, 3, 3, 3], Convolution { stride: [2, 2], padding: [1, 1], ..plain }),
        ([2, 3, 9, 8], [4, 3, 3, 3], Convolution { dilation: [2, 2], ..plain }),
        ([3, 4, 6, 6], [6, 2, 3, 3], Convolution { groups: 2, padding: [1, 1], ..plain }),
        ([3, 4, 5, 5], [4, 1, 3, 3], Convolution { groups: 4, ..plain }), // depthwise
        ([2, 3, 4, 4], [5, 3, 1, 1], plain),                              // pointwise
        ([2, 2, 8, 9], [3, 2, 2, 5], Convolution { stride: [1, 3], padding: [0, 2], ..plain }),
        ([2, 2, 9, 12], [4, 1, 3, 2], Convolution { stride: [2, 1], padding: [2, 0], dilation: [1, 3], groups: 2 }),
        ([1, 2, 5, 5], [3, 2, 5, 5], plain), // one output pixel
        ([1, 1, 1, 1], [1, 1, 1, 1], plain),
    ];
    for (input, weight, convolution) in cases {
        for share in [Share::Nothing, Share::Channel] {
            for bias in [false, true] {
                ConvCase { convolution, share, bias, kind: Kind::Double, ..ConvCase::new(input, weight) }.check();
            }
            ConvCase { convolution, share, channels_last: true, ..ConvCase::new(input, weight) }.check();
        }
    }
}

#[test]
fn virtual_grad_follows_algorithm_1_for_every_layout_of_the_gradient() {
    let hyper = Hyperparameters::default();
    for kind in KINDS {
        for share in [Share::Nothing, Share::Channel] {
            let size = [300, 3, 5, 7];
            let base = random(3, &size, kind);
            let expanded = random(4, &[1, 3, 5, 1], kind).expand(size, false);
            let sliced = random(5, &[300, 6, 5, 14], kind).slice(1, 0, 6, 2).slice(3, 1, 14, 2);
            let transposed = random(6, &[300, 7, 5, 3], kind).transpose(1, 3);
            for (layout, gradient) in [
                ("contiguous", base.shallow_clone()),
                ("channels_last", channels_last(&base)),
                ("expanded", expanded),
                ("sliced", sliced),
                ("transposed", transposed),
            ] {
                let moment_size: &[i64] = if share == Share::Channel { &[3] } else { &[3, 5, 7] };
                let second_moment = random(8, moment_size, moment_kind(kind)).square();
                let composed_moment = second_moment.copy();
                let mut expected_moment = match share {
                    Share::Channel => to_array(&second_moment).into_shape_with_order((3, 1, 1)).unwrap(),
                    Share::Nothing => to_array(&second_moment).into_dimensionality().unwrap(),
                };
                let expected = virtual_grad(&d4(&gradient), &mut expected_moment, share, hyper);
                let flat_moment = expected_moment
                    .into_dyn()
                    .into_shape_with_order(moment_size.iter().map(|&n| n as usize).collect::<Vec<_>>());
                let flat_moment = flat_moment.unwrap();
                let what = format!("{kind:?} {share:?} {layout}");
                for (name, moment, result) in [
                    ("kernel", &second_moment, functional::virtual_grad(&gradient, &second_moment, hyper).unwrap()),
                    (
                        "composed",
                        &composed_moment,
                        functional::virtual_grad_composed(&gradient, &composed_moment, hyper).unwrap(),
                    ),
                ] {
                    assert_eq!(result.kind(), kind);
                    assert_close(&result, &expected, kind, &format!("{what} {name} virtual gradient"));
                    assert_close(moment, &flat_moment, moment_kind(kind), &format!("{what} {name} second moment"));
                }
            }
        }
    }
}
