//! The kernels of `svgd::virtual_grad` and of the second moment, on every device, over the shapes at which they change
//! their ways: one pass or two, folded rows, odd rests, unaligned memory.

use crate::common::*;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::functional::{self, Convolution, Hyperparameters};
use tch_svgd::{Svgd, SvgdConfig};

const KINDS: [Kind; 4] = [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16];
const HYPER: Hyperparameters =
    Hyperparameters { scale: 0.5, decay: 0.75, eps: 1e-3, gradient_scale: 2.0, virtual_bias: false };

/// Holds the kernel to the composed version in double precision, and to itself.
fn check(gradient: &Tensor, moment_size: &[i64], what: &str) {
    let kind = gradient.kind();
    let start = random(2, moment_size, moment_kind(kind)).square().to_device(gradient.device());
    let (exact_moment, moment) = (start.to_kind(Kind::Double).copy(), start.copy());
    let exact = functional::virtual_grad_composed(&gradient.to_kind(Kind::Double), &exact_moment, HYPER).unwrap();
    let result = functional::virtual_grad(gradient, &moment, HYPER).unwrap();
    let what = format!("{what} {kind:?} {:?}", gradient.device());
    assert_eq!((result.size(), result.kind()), (gradient.size(), kind), "{what}");
    let close = |got: &Tensor, exact: &Tensor, kind: Kind, part: &str| {
        let (largest, difference) = (exact.abs().max(), (got.to_kind(Kind::Double) - exact).abs().max());
        let ratio = (difference / largest).double_value(&[]);
        assert!(ratio <= tolerance(kind), "{part} of {what}: off by {ratio} of the largest value");
    };
    close(&result, &exact, kind, "virtual gradient");
    close(&moment, &exact_moment, moment_kind(kind), "second moment");

    let (again, alone) = (start.copy(), start.copy());
    assert_same_bits(&functional::virtual_grad(gradient, &again, HYPER).unwrap(), &result, &what);
    assert_same_bits(&again, &moment, &format!("second moment of {what}"));
    functional::update_second_moment(gradient, &alone, HYPER).unwrap();
    close(&alone, &exact_moment, moment_kind(kind), "statistic alone");
}

#[test]
fn columns_of_every_number_of_samples_agree_with_the_composed_version() {
    for device in devices() {
        for kind in KINDS {
            for samples in [1, 2, 3, 8, 9, 16, 17, 33, 64, 65, 128, 129, 256, 257, 512, 513, 2049] {
                for columns in [1, 3, 8, 10, 33, 257, 1032] {
                    let gradient = random(1, &[samples, columns], kind).to_device(device);
                    check(&gradient, &[columns], &format!("{samples} x {columns}"));
                }
            }
            // A row is shared by threads.
            check(&random(1, &[2, 100_003], kind).to_device(device), &[100_003], "2 x 100003");
        }
    }
}

#[test]
fn channels_of_every_image_size_agree_with_the_composed_version() {
    for device in devices() {
        for kind in KINDS {
            for (samples, channels) in [(5, 3), (67, 23), (3, 40)] {
                for side in [1, 2, 7, 16, 32] {
                    let images = random(1, &[samples, channels, side, side], kind).to_device(device);
                    let what = format!("{samples} x {channels} x {side} x {side}");
                    check(&images, &[channels], &format!("{what} by channel"));
                    check(&channels_last(&images), &[channels], &format!("{what} channels_last by channel"));
                    check(&channels_last(&images), &[channels, side, side], &format!("{what} channels_last"));
                }
            }
            let rows = random(1, &[3, 7, 100, 101], kind).to_device(device);
            check(&rows, &[7], "7 channels of 10100 values");
            check(&channels_last(&rows), &[7], "30300 rows of 7 channels");
        }
    }
}

#[test]
fn unaligned_memory_is_read_and_written_whole() {
    for device in devices() {
        for kind in KINDS {
            for offset in 1..4 {
                let gradient = random(1, &[offset + 130 * 72], kind).to_device(device).slice(0, offset, None, 1);
                check(&gradient.view([130, 72]), &[72], &format!("offset {offset}"));
                check(&gradient.view([13, 10, 12, 6]), &[10], &format!("offset {offset} by channel"));
            }
        }
    }
}

/// The order in which the accumulator lies in memory: that of a channels_last gradient spares two copies of it.
#[test]
fn an_accumulator_in_the_order_of_the_gradient_changes_no_bit() {
    for device in devices() {
        let gradient = channels_last(&random(1, &[40, 6, 5, 7], Kind::Float).to_device(device));
        let moment = random(2, &[6, 5, 7], Kind::Float).square().to_device(device);
        let ordered = moment.permute([1, 2, 0]).contiguous().permute([2, 0, 1]);
        let result = functional::virtual_grad(&gradient, &moment, HYPER).unwrap();
        assert_same_bits(&functional::virtual_grad(&gradient, &ordered, HYPER).unwrap(), &result, "virtual gradient");
        assert_same_bits(&ordered, &moment, "second moment");
    }
}

#[test]
fn a_layers_accumulator_lies_in_the_order_of_its_outputs() {
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    for last in [false, true] {
        let layer = seeded(1, || svgd.conv2d(vs.root() / "conv", 3, 4, 3, Default::default()));
        let images = random(1, &[2, 3, 8, 9], Kind::Float);
        let output = layer.forward(&if last { channels_last(&images) } else { images });
        let moment = layer.second_moment().unwrap();
        assert_eq!(moment.stride(), output.stride()[1..], "channels_last: {last}");
    }
}

/// More than any cache holds: results of this size take another way to memory.
#[test]
fn large_gradients_agree_with_the_composed_version() {
    for device in devices() {
        for kind in KINDS {
            let gradient = random(1, &[70, 5, 245, 255], kind).to_device(device);
            for gradient in [channels_last(&gradient), gradient] {
                check(&gradient, &[5, 245, 255], "large");
                check(&gradient, &[5], "large by channel");
            }
            let rows = random(1, &[8209, 2053], kind).to_device(device);
            check(&rows, &[2053], "more rows than a cache holds");
        }
    }
}

/// Forward value and gradients of both operators on a device, from the same numbers.
fn passes(device: Device, granular: &[i64]) -> Vec<Tensor> {
    let kind = Kind::Double; // TensorFloat-32 has no part in it
    let on = |tensor: Tensor| tensor.to_device(device);
    let (images, kernel) = (leaf(&on(random(1, &[9, 4, 8, 6], kind))), leaf(&on(random(2, &[6, 2, 3, 3], kind))));
    let moment = on(zeros(granular, kind));
    let convolution = Convolution { padding: [1, 1], groups: 2, ..Default::default() };
    let output = functional::conv2d(&images, &kernel, None, &moment, convolution, HYPER).unwrap();
    let (rows, weight) = (leaf(&on(random(3, &[300, 7], kind))), leaf(&on(random(4, &[5, 7], kind))));
    let row_moment = on(zeros(&[5], kind));
    let product = functional::linear(&rows, &weight, None, &row_moment, HYPER).unwrap();
    let loss = (&output * on(random(5, &output.size(), kind))).sum(kind)
        + (&product * on(random(6, &product.size(), kind))).sum(kind);
    loss.backward();
    vec![output, images.grad(), kernel.grad(), moment, product, rows.grad(), weight.grad(), row_moment]
}

#[test]
fn devices_agree_on_both_layers() {
    for device in devices() {
        for granular in [vec![6, 8, 6], vec![6]] {
            for (index, (got, expected)) in
                passes(device, &granular).iter().zip(&passes(Device::Cpu, &granular)).enumerate()
            {
                assert_close(got, &to_array(expected), Kind::Double, &format!("tensor {index} on {device:?}"));
            }
        }
    }
}
