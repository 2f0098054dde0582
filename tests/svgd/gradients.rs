//! What the gradients of hatted layers are, and when the accumulators change.

use crate::common::*;
use tch::nn::{self, Module};
use tch::{Device, IndexOp, Kind, Tensor};
use tch_svgd::functional::{self, Convolution, Hyperparameters};
use tch_svgd::testing::tangent;
use tch_svgd::{BatchGradient, Granularity, Svgd, SvgdConfig};

fn svgd(granularity: Granularity) -> Svgd {
    Svgd::new(SvgdConfig { granularity, ..Default::default() }).unwrap()
}

#[test]
fn set_scale_multiplies_the_virtual_gradient() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = svgd(Granularity::Element);
    let layer = seeded(9, || svgd.linear(vs.root(), 33, 17, Default::default()));
    let input = noise(3, &[9, 33], Kind::Float);
    let gradient = |scale: f64| {
        svgd.reset();
        svgd.set_scale(scale);
        let loss = layer.forward(&input).square().mean(None);
        Tensor::run_backward(&[loss], &[&layer.ws], false, false).remove(0)
    };
    assert_same_bits(&(gradient(0.25) * 8.0), &gradient(2.0), "scaled by a power of two");
    assert_eq!(svgd.config().scale, 2.0);
}

#[test]
fn input_gradient_agrees_with_finite_differences() {
    let options = (Kind::Double, Device::Cpu);
    let conv_weight = leaf(&noise(4, &[4, 3, 3, 3], Kind::Double));
    let linear_weight = leaf(&noise(5, &[2, 4], Kind::Double));
    let (r_conv, r_linear) = (Tensor::zeros([4, 5, 5], options), Tensor::zeros([2], options));
    let hyper = Hyperparameters::default();
    let loss = |input: &Tensor| {
        let same = Convolution { padding: [1, 1], ..Default::default() };
        let features = functional::conv2d(input, &conv_weight, None, &r_conv, same, hyper).unwrap();
        let pooled = features.tanh().mean_dim([2i64, 3].as_slice(), false, Kind::Double);
        functional::linear(&pooled, &linear_weight, None, &r_linear, hyper).unwrap().square().sum(Kind::Double)
    };
    let input = leaf(&noise(6, &[2, 3, 5, 5], Kind::Double));
    loss(&input).backward();
    let (step, flat) = (1e-6, input.detach().view([-1]));
    for index in [0, 17, 60, 101, 149] {
        let shifted = |by: f64| {
            let shifted = flat.copy();
            let _ = shifted.i(index).g_add_scalar_(by);
            loss(&shifted.view([2, 3, 5, 5])).double_value(&[])
        };
        let numeric = (shifted(step) - shifted(-step)) / (2.0 * step);
        let analytic = input.grad().view([-1]).double_value(&[index]);
        assert!((numeric - analytic).abs() < 1e-7, "element {index}: {numeric} by differences, {analytic} by backward");
    }
}

#[test]
fn row_scaling_equals_the_materialised_virtual_gradient() {
    let options = (Kind::Double, Device::Cpu);
    let hyper = Hyperparameters { virtual_bias: true, ..Default::default() };
    let input = noise(4, &[6, 4, 7, 7], Kind::Double);
    let (weight, bias) = (leaf(&noise(5, &[8, 2, 3, 3], Kind::Double)), leaf(&noise(6, &[8], Kind::Double)));
    let grad_output = noise(7, &[6, 8, 5, 5], Kind::Double);
    let grouped = Convolution { groups: 2, ..Default::default() };
    let (moment, materialised_moment) = (Tensor::zeros([8], options), Tensor::zeros([8], options));
    for _ in 0..3 {
        let output = functional::conv2d(&input, &weight, Some(&bias), &moment, grouped, hyper).unwrap();
        let got = Tensor::run_backward(&[(output * &grad_output).sum(Kind::Double)], &[&weight, &bias], false, false);
        // The same through an explicit t, and the plain convolution's own backward pass.
        let t = functional::virtual_grad(&grad_output, &materialised_moment, hyper).unwrap();
        let plain = input.conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 2);
        let expected = Tensor::run_backward(&[(plain * t).sum(Kind::Double)], &[&weight, &bias], false, false);
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.allclose(expected, 1e-12, 1e-14, false), "{got} {expected}");
        }
        assert_same_bits(&moment, &materialised_moment, "second moment");
    }
}

#[test]
fn channel_granularity_has_one_value_per_channel_and_fits_any_image() {
    let vs = nn::VarStore::new(Device::Cpu);
    let layer = seeded(9, || svgd(Granularity::Channel).conv2d(vs.root(), 3, 5, 3, Default::default()));
    for side in [8, 12, 5] {
        layer.forward(&noise(3, &[2, 3, side, side], Kind::Float)).square().mean(None).backward();
        assert_eq!(layer.second_moment().unwrap().size(), [5]);
    }
}

#[test]
fn element_granularity_refuses_a_changed_image_size_until_it_is_reset() {
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = svgd(Granularity::Element);
    let layer = seeded(9, || svgd.conv2d(vs.root() / "conv1", 3, 5, 3, Default::default()));
    let train = |side: i64| layer.f_forward(&noise(3, &[2, 3, side, side], Kind::Float));
    train(8).unwrap().square().mean(None).backward();
    assert_eq!(layer.second_moment().unwrap().size(), [5, 6, 6]);
    let moment = layer.second_moment().unwrap();

    let error = train(12).unwrap_err().to_string();
    for part in ["layer 'conv1'", "svgd::conv2d", "'second_moment'", "[5, 10, 10]", "[5, 6, 6]", "Granularity::Channel"]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_same_bits(&moment, &layer.second_moment().unwrap(), "second moment");
    // Without gradients any size will do.
    assert_eq!(tch::no_grad(|| train(12)).unwrap().size(), [2, 5, 10, 10]);

    svgd.reset();
    assert!(layer.second_moment().is_none());
    train(12).unwrap().square().mean(None).backward();
    assert_eq!(layer.second_moment().unwrap().size(), [5, 10, 10]);
}

#[test]
fn per_example_statistics_are_those_of_the_summed_loss() {
    let input = noise(3, &[8, 33], Kind::Double);
    let moment = |batch_gradient, reduce: fn(&Tensor) -> Tensor| {
        let mut vs = nn::VarStore::new(Device::Cpu);
        let svgd = Svgd::new(SvgdConfig { batch_gradient, ..Default::default() }).unwrap();
        let layer = seeded(2, || svgd.linear(vs.root(), 33, 17, Default::default()));
        vs.double();
        reduce(&layer.forward(&input).square().sum_dim_intlist(1i64, false, Kind::Double)).backward();
        layer.second_moment().unwrap()
    };
    let per_example = moment(BatchGradient::PerExample, |losses| losses.mean(Kind::Double));
    let of_the_sum = moment(BatchGradient::AsReceived, |losses| losses.sum(Kind::Double));
    // A batch of 8: k is a power of two, and the two agree to the bit.
    assert_same_bits(&per_example, &of_the_sum, "second moment");
    let as_received = moment(BatchGradient::AsReceived, |losses| losses.mean(Kind::Double));
    assert_same_bits(&(as_received * 64.0), &per_example, "second moment times n squared");
}

#[test]
fn a_loss_scale_cancels_to_the_bit() {
    for granularity in [Granularity::Element, Granularity::Channel] {
        let run = |loss_scale: f64| {
            let vs = nn::VarStore::new(Device::Cpu);
            let svgd = svgd(granularity);
            let conv = seeded(2, || svgd.conv2d(vs.root() / "conv", 3, 5, 3, Default::default()));
            let fc = seeded(3, || svgd.linear(vs.root() / "fc", 5 * 36, 4, Default::default()));
            svgd.set_loss_scale(loss_scale);
            for _ in 0..3 {
                let features = conv.forward(&noise(3, &[2, 3, 8, 8], Kind::Float)).relu().flatten(1, -1);
                let loss = fc.forward(&features).square().mean(None) * loss_scale;
                for mut variable in vs.trainable_variables() {
                    variable.zero_grad();
                }
                loss.backward();
            }
            let unscaled = [&conv.ws, &fc.ws].map(|w| w.grad() / loss_scale);
            (conv.second_moment().unwrap(), fc.second_moment().unwrap(), unscaled)
        };
        let (a, b) = (run(1.0), run(65536.0));
        assert_same_bits(&a.0, &b.0, "second moment of the convolution");
        assert_same_bits(&a.1, &b.1, "second moment of the linear layer");
        for (a, b) in a.2.iter().zip(&b.2) {
            assert_same_bits(a, b, "unscaled virtual gradient");
        }
    }
}

/// One training pass of a functional linear layer.
fn linear_pass(input: &Tensor, weight: &Tensor, moment: &Tensor) {
    functional::linear(input, weight, None, moment, Hyperparameters::default()).unwrap().square().mean(None).backward();
}

#[test]
fn frozen_weight_leaves_state_untouched() {
    let moment = zeros(&[17], Kind::Float);
    let (input, frozen) = (leaf(&noise(3, &[9, 33], Kind::Float)), noise(3, &[17, 33], Kind::Float));
    linear_pass(&input, &frozen, &moment);
    assert_eq!(moment.abs().max().double_value(&[]), 0.0);
    // Its input still gets the true gradient.
    let plain = leaf(&input);
    plain.linear(&frozen, None::<&Tensor>).square().mean(None).backward();
    assert_same_bits(&plain.grad(), &input.grad(), "input gradient");

    // The same for a convolution, and for a layer of a frozen VarStore.
    let moment = zeros(&[5, 6, 6], Kind::Float);
    let image = leaf(&noise(3, &[2, 3, 8, 8], Kind::Float));
    let kernel = noise(3, &[5, 3, 3, 3], Kind::Float);
    let (geometry, hyper) = (Convolution::default(), Hyperparameters::default());
    functional::conv2d(&image, &kernel, None, &moment, geometry, hyper).unwrap().square().mean(None).backward();
    assert_eq!(moment.abs().max().double_value(&[]), 0.0);
    assert!(image.grad().defined());
    let mut vs = nn::VarStore::new(Device::Cpu);
    let layer = seeded(9, || svgd(Granularity::Element).linear(vs.root(), 33, 17, Default::default()));
    vs.freeze();
    layer.forward(&leaf(&noise(3, &[9, 33], Kind::Float))).square().mean(None).backward();
    assert!(layer.second_moment().is_none());
}

#[test]
fn a_frozen_weight_keeps_no_input() {
    // What no gradient needs may change before the backward pass, as in the original.
    let (moment, kernel_moment) = (zeros(&[17], Kind::Float), zeros(&[5, 6, 6], Kind::Float));
    let (bias, frozen) = (leaf(&noise(1, &[17], Kind::Float)), noise(3, &[17, 33], Kind::Float));
    let hyper = Hyperparameters::default();
    let mut input = noise(3, &[9, 33], Kind::Float);
    let output = functional::linear(&input, &frozen, Some(&bias), &moment, hyper).unwrap();
    let _ = input.fill_(0.0);
    output.sum(Kind::Float).backward();
    assert_eq!(bias.grad(), Tensor::full([17], 9.0, (Kind::Float, Device::Cpu)));

    let (bias, kernel) = (leaf(&noise(1, &[5], Kind::Float)), noise(3, &[5, 3, 3, 3], Kind::Float));
    let mut image = noise(3, &[2, 3, 8, 8], Kind::Float);
    let output =
        functional::conv2d(&image, &kernel, Some(&bias), &kernel_moment, Convolution::default(), hyper).unwrap();
    let plain = image.conv2d(&kernel, Some(&bias), 1, 0, 1, 1);
    let _ = image.fill_(0.0);
    let gradient = |output: Tensor| Tensor::f_run_backward(&[output.sum(Kind::Float)], &[&bias], false, false);
    // Whatever libtorch's own convolution does.
    assert_eq!(gradient(output).is_ok(), gradient(plain).is_ok());
}

#[test]
fn forward_mode_gives_the_plain_tangent_or_an_error() {
    let (input, direction) = (noise(3, &[9, 33], Kind::Float), noise(4, &[9, 33], Kind::Float));
    let (weight, moment) = (leaf(&noise(3, &[17, 33], Kind::Float)), zeros(&[17], Kind::Float));
    let hyper = Hyperparameters::default();
    let hatted = |weight: &Tensor| {
        tangent(&input, &direction, |input| functional::linear(input, weight, None, &moment, hyper)).unwrap()
    };
    let expected = direction.matmul(&weight.tr());
    let got = tch::no_grad(|| hatted(&weight)).unwrap();
    assert!(got.defined() && got.allclose(&expected, 1e-5, 1e-6, false), "under no_grad");
    assert!(hatted(&weight.detach()).unwrap().allclose(&expected, 1e-5, 1e-6, false), "of a frozen weight");
    assert!(hatted(&weight).is_err(), "of a weight in training");

    let image = noise(3, &[2, 3, 8, 8], Kind::Float);
    let (kernel, moment) = (leaf(&noise(3, &[5, 3, 3, 3], Kind::Float)), zeros(&[5], Kind::Float));
    let hatted = |kernel: &Tensor| {
        let conv2d = |image: &Tensor| functional::conv2d(image, kernel, None, &moment, Convolution::default(), hyper);
        tangent(&image, &image, conv2d).unwrap()
    };
    let expected = image.conv2d(&kernel, None::<&Tensor>, 1, 0, 1, 1);
    assert!(tch::no_grad(|| hatted(&kernel)).unwrap().allclose(&expected, 1e-5, 1e-5, false), "under no_grad");
    assert!(hatted(&kernel).is_err(), "of a weight in training");
    assert_eq!(moment.abs().max().double_value(&[]), 0.0);

    let transform = |gradient: &Tensor| functional::virtual_grad(gradient, &zeros(&[33], Kind::Float), hyper);
    let error = tangent(&input, &direction, transform).unwrap().unwrap_err();
    assert!(matches!(error, tch_svgd::Error::Unsupported(_)) && error.to_string().contains("tangent"), "{error}");
}

#[test]
fn a_weight_that_needs_no_gradient_in_this_pass_leaves_state_untouched() {
    let moment = zeros(&[17], Kind::Float);
    let (input, weight) = (leaf(&noise(3, &[9, 33], Kind::Float)), leaf(&noise(3, &[17, 33], Kind::Float)));
    let loss =
        functional::linear(&input, &weight, None, &moment, Hyperparameters::default()).unwrap().square().mean(None);
    Tensor::run_backward(&[&loss], &[&input], true, false);
    assert_eq!(moment.abs().max().double_value(&[]), 0.0, "only the input's gradient was asked for");
    Tensor::run_backward(&[&loss], &[&weight], false, false);
    assert!(moment.min().double_value(&[]) > 0.0);
}

#[test]
fn no_grad_leaves_state_untouched() {
    let vs = nn::VarStore::new(Device::Cpu);
    let layer = seeded(9, || svgd(Granularity::Element).linear(vs.root(), 33, 17, Default::default()));
    let input = noise(3, &[9, 33], Kind::Float);
    let value = tch::no_grad(|| layer.forward(&input));
    assert!(layer.second_moment().is_none());
    assert!(!value.requires_grad());
    let moment = zeros(&[17], Kind::Float);
    let hyper = Hyperparameters::default();
    let direct = tch::no_grad(|| functional::linear(&input, &layer.ws, layer.bs.as_ref(), &moment, hyper)).unwrap();
    assert_same_bits(&value, &direct, "forward value");
    assert!(!direct.requires_grad());
    assert_eq!(moment.abs().max().double_value(&[]), 0.0);
    // Where the original multiplies in another way without gradients, so does ours.
    let strided = noise(3, &[5, 31, 66], Kind::Float).slice(2, 0, 66, 2);
    let plain = tch::no_grad(|| strided.linear(&layer.ws, layer.bs.as_ref()));
    let direct = tch::no_grad(|| functional::linear(&strided, &layer.ws, layer.bs.as_ref(), &moment, hyper)).unwrap();
    assert_same_bits(&plain, &direct, "forward value of a strided input");
}

#[test]
fn a_shared_layer_updates_its_state_once_per_use_in_backward_order() {
    let (out, kind) = (3, Kind::Double);
    let weight = leaf(&random(1, &[out, out], kind));
    let moment = zeros(&[out], kind);
    let hyper = Hyperparameters::default();
    let input = random(2, &[4, out], kind);
    let hidden = functional::linear(&input, &weight, None, &moment, hyper).unwrap();
    let output = functional::linear(&hidden, &weight, None, &moment, hyper).unwrap();
    output.sum(kind).backward();

    // The last use comes first in backward: its output has the gradient 1, the first use's has 1ᵀ W.
    let mut expected = ndarray::Array3::zeros((out as usize, 1, 1));
    let ones = to_array(&Tensor::ones([4, out, 1, 1], (kind, Device::Cpu))).into_dimensionality().unwrap();
    let through = Tensor::ones([4, out], (kind, Device::Cpu)).matmul(&weight.detach()).view([4, out, 1, 1]);
    virtual_grad(&ones, &mut expected, Share::Nothing, hyper);
    virtual_grad(&to_array(&through).into_dimensionality().unwrap(), &mut expected, Share::Nothing, hyper);
    assert_close(&moment, &expected.into_shape_with_order(out as usize).unwrap(), kind, "second moment");
}

#[test]
fn a_retained_graph_updates_its_state_at_every_pass() {
    let moment = zeros(&[17], Kind::Float);
    let (input, weight) = (noise(3, &[9, 33], Kind::Float), leaf(&noise(3, &[17, 33], Kind::Float)));
    let loss =
        functional::linear(&input, &weight, None, &moment, Hyperparameters::default()).unwrap().square().mean(None);
    Tensor::run_backward(&[&loss], &[&weight], true, false);
    let once = moment.copy();
    Tensor::run_backward(&[&loss], &[&weight], false, false);
    // r, then 0.9 r + r: the statistic is the same.
    let expected = &once * 1.9;
    assert!(moment.allclose(&expected, 1e-6, 0.0, false), "{moment} {expected}");
}

#[test]
fn double_backward_is_refused() {
    let hyper = Hyperparameters::default();
    let moment = zeros(&[17], Kind::Float);
    let (input, weight) = (leaf(&noise(3, &[9, 33], Kind::Float)), leaf(&noise(3, &[17, 33], Kind::Float)));
    let linear = functional::linear(&input, &weight, None, &moment, hyper).unwrap().square().mean(None);

    let moment = zeros(&[5, 6, 6], Kind::Float);
    let (image, kernel) = (leaf(&noise(3, &[2, 3, 8, 8], Kind::Float)), leaf(&noise(3, &[5, 3, 3, 3], Kind::Float)));
    let convolved = functional::conv2d(&image, &kernel, None, &moment, Convolution::default(), hyper).unwrap();
    let conv = convolved.square().mean(None);

    for (op, loss, leaves) in [("svgd::linear", linear, [&input, &weight]), ("svgd::conv2d", conv, [&image, &kernel])] {
        // The first pass works, with create_graph too.
        let gradients = Tensor::f_run_backward(&[&loss], &leaves, true, true).unwrap();
        for gradient in &gradients {
            assert!(gradient.defined());
            let error = Tensor::f_run_backward(&[gradient.sum(Kind::Float)], &leaves[..1], true, false).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(op) && text.contains("double backward is not supported"), "{text}");
        }
    }
    let gradient = leaf(&noise(3, &[4, 3], Kind::Float));
    let t = functional::virtual_grad(&gradient, &zeros(&[3], Kind::Float), hyper).unwrap();
    let error = t.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("svgd::virtual_grad: double backward is not supported"), "{error}");
}

#[test]
fn an_empty_batch_leaves_state_untouched() {
    let vs = nn::VarStore::new(Device::Cpu);
    for granularity in [Granularity::Element, Granularity::Channel] {
        for batch_gradient in [BatchGradient::AsReceived, BatchGradient::PerExample] {
            let config = SvgdConfig { granularity, batch_gradient, ..Default::default() };
            let layer = seeded(9, || Svgd::new(config).unwrap().conv2d(vs.root(), 3, 5, 3, Default::default()));
            layer.forward(&noise(3, &[0, 3, 8, 8], Kind::Float)).sum(Kind::Float).backward();
            assert_eq!(layer.second_moment().unwrap().abs().max().double_value(&[]), 0.0);
            assert_eq!(layer.ws.grad().abs().max().double_value(&[]), 0.0);
            layer.forward(&noise(3, &[2, 3, 8, 8], Kind::Float)).square().mean(None).backward();
            assert!(layer.second_moment().unwrap().min().double_value(&[]) > 0.0);
        }
    }
}

#[test]
fn a_non_finite_gradient_is_seen_but_does_not_enter_the_state() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for bad in [f64::INFINITY, f64::NAN] {
            for (size, moment_size) in [([4, 3, 2, 2], vec![3, 2, 2]), ([4, 3, 2, 2], vec![3])] {
                let gradient = random(1, &size, kind);
                let moment = Tensor::ones(&moment_size, (Kind::Float, Device::Cpu));
                let untouched = moment.copy();
                let _ = gradient.i((2, 1, 0, 1)).fill_(bad);
                for composed in [false, true] {
                    let moment = moment.copy();
                    let run = if composed { functional::virtual_grad_composed } else { functional::virtual_grad };
                    let t = run(&gradient, &moment, Hyperparameters::default()).unwrap();
                    assert!(!t.double_value(&[2, 1, 0, 1]).is_finite(), "{kind:?} {bad} {moment_size:?}");
                    assert_eq!(moment.isfinite().all().int64_value(&[]), 1);
                    let index: &[i64] = if moment_size.len() == 1 { &[1] } else { &[1, 0, 1] };
                    assert_eq!(moment.double_value(index), 1.0, "{kind:?} {bad} {moment_size:?} {composed}");
                    assert!(!same_bits(&moment, &untouched), "the other values were updated");
                }
            }
        }
    }
    // Through a layer: the weight's gradient shows it, the state goes on.
    let moment = zeros(&[2], Kind::Float);
    let weight = leaf(&random(1, &[2, 3], Kind::Float));
    let output =
        functional::linear(&random(2, &[4, 3], Kind::Float), &weight, None, &moment, Hyperparameters::default());
    (output.unwrap() * Tensor::from_slice(&[f32::INFINITY, 1.0])).sum(Kind::Float).backward();
    assert!(!weight.grad().i(0).isfinite().all().int64_value(&[]).eq(&1));
    assert_eq!(weight.grad().i(1).isfinite().all().int64_value(&[]), 1);
    assert_eq!(moment.double_value(&[0]), 0.0);
    assert!(moment.double_value(&[1]) > 0.0);
}

#[test]
fn gradients_of_an_ordinary_backward_pass_have_no_history() {
    let (input, weight) = (leaf(&noise(1, &[9, 33], Kind::Float)), leaf(&noise(2, &[17, 33], Kind::Float)));
    let (moment, hyper) = (zeros(&[17], Kind::Float), Hyperparameters::default());
    let loss = functional::linear(&input, &weight, None, &moment, hyper).unwrap().square().mean(None);
    for gradient in Tensor::run_backward(&[loss], &[&input, &weight], false, false) {
        assert!(!gradient.requires_grad());
    }
    let gradient = leaf(&noise(3, &[4, 17], Kind::Float));
    let t = tch::no_grad(|| functional::virtual_grad(&gradient, &moment, hyper)).unwrap();
    assert!(!t.requires_grad());
}

#[test]
fn state_that_changes_its_shape_before_the_backward_pass_is_an_error() {
    for size in [vec![3, 1000], vec![3000], vec![]] {
        let mut moment = zeros(&[3], Kind::Float);
        let weight = leaf(&noise(2, &[3, 5], Kind::Float));
        let input = noise(1, &[4, 5], Kind::Float);
        let loss = functional::linear(&input, &weight, None, &moment, Hyperparameters::default()).unwrap().mean(None);
        let _ = moment.resize_(&size[..]);
        let error = loss.f_backward().unwrap_err().to_string();
        assert!(error.contains("'second_moment': expected shape [3]"), "{error}");
    }
}

#[test]
fn what_is_saved_of_the_state_is_not_silently_overwritten() {
    let moment = Tensor::ones([3], (Kind::Float, Device::Cpu));
    let scaled = leaf(&noise(1, &[3], Kind::Float)) * &moment;
    let _ = functional::virtual_grad(&noise(2, &[4, 3], Kind::Float), &moment, Hyperparameters::default()).unwrap();
    let refused = |scaled: Tensor, what: &str| {
        let error = scaled.sum(Kind::Float).f_backward().expect_err(what).to_string();
        assert!(error.contains("modified by an inplace operation"), "{what}: {error}");
    };
    refused(scaled, "virtual_grad");

    // Every operator that changes a tensor, and each only where it does.
    let hyper = Hyperparameters::default();
    let gradient = noise(2, &[4, 3], Kind::Float);
    let saved = || leaf(&noise(1, &[3], Kind::Float)) * &moment;
    let scaled = saved();
    functional::update_second_moment(&gradient, &moment, hyper).unwrap();
    refused(scaled, "_update_second_moment");
    let scaled = saved();
    let _ = functional::virtual_grad_composed(&gradient, &moment, hyper).unwrap();
    refused(scaled, "_virtual_grad_composed");
    let (input, weight) = (leaf(&noise(3, &[4, 5], Kind::Float)), leaf(&noise(4, &[3, 5], Kind::Float)));
    let pass = || functional::linear(&input, &weight, None, &moment, hyper).unwrap().sum(Kind::Float);
    let scaled = saved();
    pass().backward();
    refused(scaled, "linear");
    let scaled = saved();
    Tensor::run_backward(&[pass()], &[&input], false, false);
    scaled.sum(Kind::Float).backward();
}

#[test]
fn a_second_moment_may_have_any_dense_layout() {
    let gradient = noise(1, &[6, 4, 5, 3], Kind::Float);
    for gradient in [gradient.shallow_clone(), channels_last(&gradient)] {
        let contiguous = noise(2, &[4, 5, 3], Kind::Float).square();
        let permuted = contiguous.permute([2, 0, 1]).contiguous().permute([1, 2, 0]);
        assert!(!permuted.is_contiguous());
        let a = functional::virtual_grad(&gradient, &contiguous, Hyperparameters::default()).unwrap();
        let b = functional::virtual_grad(&gradient, &permuted, Hyperparameters::default()).unwrap();
        assert_same_bits(&a, &b, "virtual gradient");
        assert_same_bits(&contiguous, &permuted, "second moment");
    }
}

#[test]
fn leading_axes_are_rows() {
    // The same rows as a matrix, and with one, two and three leading axes.
    for batch_gradient in [BatchGradient::AsReceived, BatchGradient::PerExample] {
        let run = |size: &[i64]| {
            let mut vs = nn::VarStore::new(Device::Cpu);
            let svgd = Svgd::new(SvgdConfig { batch_gradient, ..Default::default() }).unwrap();
            let layer = seeded(1, || svgd.linear(vs.root(), 5, 3, Default::default()));
            vs.double();
            for step in 0..2 {
                let output = layer.forward(&random(step, &[24, 5], Kind::Double).view(size));
                (output
                    * random(5 + step, &[24, 3], Kind::Double)
                        .view([&size[..size.len() - 1], &[3]].concat().as_slice()))
                .sum(Kind::Double)
                .backward();
            }
            (layer.second_moment().unwrap(), layer.ws.grad())
        };
        let (moment, gradient) = run(&[24, 5]);
        for size in [&[2, 12, 5][..], &[2, 3, 4, 5], &[1, 24, 5]] {
            let (other_moment, other_gradient) = run(size);
            assert_same_bits(&moment, &other_moment, &format!("second moment of {size:?}"));
            assert!(gradient.allclose(&other_gradient, 1e-13, 0.0, false), "{size:?}");
        }
    }
}

#[test]
fn the_settings_of_a_layer_reach_its_operator() {
    let config = SvgdConfig {
        scale: 0.3,
        decay: 0.6,
        eps: 1e-3,
        granularity: Granularity::Channel,
        batch_gradient: BatchGradient::PerExample,
        virtual_bias: true,
    };
    let mut vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(config).unwrap();
    svgd.set_loss_scale(4.0);
    let conv = seeded(1, || svgd.conv2d(vs.root() / "conv", 2, 4, 3, Default::default()));
    let fc = seeded(1, || svgd.linear(vs.root() / "fc", 5, 3, Default::default()));
    vs.double();
    let hyper = |rows: f64| Hyperparameters {
        scale: 0.3,
        decay: 0.6,
        eps: 1e-3,
        gradient_scale: rows / 4.0,
        virtual_bias: true,
    };
    let arrays = |tensors: [&Tensor; 4]| tensors.map(to_array);

    let (input, g) = (random(2, &[6, 2, 5, 4], Kind::Double), random(3, &[6, 4, 3, 2], Kind::Double));
    (conv.forward(&input) * &g).sum(Kind::Double).backward();
    let [x, w, b, g] = arrays([&input, &conv.ws, conv.bs.as_ref().unwrap(), &g]);
    let mut moment = ndarray::Array3::zeros((4, 1, 1));
    let expected = conv2d_step(
        &x.into_dimensionality().unwrap(),
        &w.into_dimensionality().unwrap(),
        &b.into_dimensionality().unwrap(),
        &g.into_dimensionality().unwrap(),
        &mut moment,
        Share::Channel,
        Convolution::default(),
        hyper(6.0),
    );
    assert_close(&conv.ws.grad(), &expected.grad_weight, Kind::Double, "virtual gradient of the kernel");
    assert_close(&conv.bs.as_ref().unwrap().grad(), &expected.grad_bias, Kind::Double, "bias gradient");
    assert_close(&conv.second_moment().unwrap().view([4, 1, 1]), &moment, Kind::Double, "second moment");

    let (input, g) = (random(4, &[6, 5], Kind::Double), random(5, &[6, 3], Kind::Double));
    (fc.forward(&input) * &g).sum(Kind::Double).backward();
    let [x, w, b, g] = arrays([&input, &fc.ws, fc.bs.as_ref().unwrap(), &g]);
    let mut moment = ndarray::Array1::zeros(3);
    let expected = linear_step(
        &x.into_dimensionality().unwrap(),
        &w.into_dimensionality().unwrap(),
        &b.into_dimensionality().unwrap(),
        &g.into_dimensionality().unwrap(),
        &mut moment,
        hyper(6.0),
    );
    assert_close(&fc.ws.grad(), &expected.grad_weight, Kind::Double, "virtual gradient of the weight");
    assert_close(&fc.bs.as_ref().unwrap().grad(), &expected.grad_bias, Kind::Double, "bias gradient");
    assert_close(&fc.second_moment().unwrap(), &moment, Kind::Double, "second moment");
}
