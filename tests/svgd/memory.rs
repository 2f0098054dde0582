//! What training a hatted layer holds at most, beside the original.

use crate::common::*;
use tch::{Kind, Tensor};
use tch_svgd::functional::{self, Convolution, Hyperparameters};
use tch_svgd::testing::peak_memory;

/// The most bytes that a forward and a backward pass hold, in units of `unit` values. All that the passes use is made,
/// and given back, inside: the count knows every block.
fn peak(unit: usize, passes: impl FnOnce()) -> f64 {
    peak_memory(passes).unwrap().1 as f64 / (unit * 4) as f64
}

/// A backward pass in which the output has a dense gradient, without another tensor of that size.
fn backward(output: Tensor, grad_output: &Tensor) {
    let loss = output.view([-1]).dot(grad_output);
    drop(output);
    loss.backward();
}

fn seed(size: &[i64]) -> Tensor {
    noise(7, size, Kind::Float)
}

/// The peaks of the plain convolution and of the hatted one, in units of its output, which has 16 channels.
fn convolution_peaks(channels: i64, moment_size: &[i64], input_gradient: bool) -> [f64; 2] {
    const PADDED: Convolution = Convolution { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 };
    let unit = 32 * 16 * 40 * 40;
    [false, true].map(|hatted| {
        peak(unit as usize, || {
            let images = seed(&[32, channels, 40, 40]).set_requires_grad(input_gradient);
            let weight = leaf(&seed(&[16, channels, 3, 3]));
            let moment = zeros(moment_size, Kind::Float);
            let grad_output = seed(&[unit]);
            let output = if hatted {
                functional::conv2d(&images, &weight, None, &moment, PADDED, Hyperparameters::default()).unwrap()
            } else {
                images.conv2d(&weight, None::<&Tensor>, 1, 1, 1, 1)
            };
            backward(output, &grad_output);
        })
    })
}

#[test]
fn a_convolution_holds_one_virtual_gradient() {
    // Input, seed, gradients of output and input, and what oneDNN puts into an order of its own: the virtual gradient
    // takes the place of the input's.
    let [plain, hatted] = convolution_peaks(16, &[16, 40, 40], true);
    assert!(plain >= 4.0, "the count sees {plain} tensors of at least four");
    assert!(hatted <= plain + 0.1, "{hatted} gradients, {plain} without the transform");
    // Without an input gradient the virtual one is what comes on top.
    let [plain, hatted] = convolution_peaks(16, &[16, 40, 40], false);
    assert!((0.9..=1.1).contains(&(hatted - plain)), "{hatted} gradients, {plain} without the transform");
}

#[test]
fn the_virtual_gradient_is_gone_before_the_input_gradient_is_made() {
    // With an input of four times the output the peak is where its gradient is made. The plain pass makes it first, and
    // holds it while oneDNN reorders what the weight's gradient takes; the hatted one is through with that.
    let [plain, hatted] = convolution_peaks(64, &[16, 40, 40], true);
    assert!(hatted <= plain - 0.9, "{hatted} gradients, {plain} without the transform");
}

#[test]
fn a_convolution_by_channel_takes_no_memory_of_the_gradients_size() {
    for input_gradient in [true, false] {
        let [plain, hatted] = convolution_peaks(16, &[16], input_gradient);
        assert!(hatted <= plain + 0.1, "{hatted} gradients, {plain} without the transform");
    }
}

#[test]
fn a_linear_layer_takes_no_memory_of_the_gradients_size() {
    let (rows, width) = (20_000, 32);
    let [plain, hatted] = [false, true].map(|hatted| {
        peak((rows * width) as usize, || {
            let input = leaf(&seed(&[rows, width]));
            let weight = leaf(&seed(&[width, width]));
            let moment = zeros(&[width], Kind::Float);
            let grad_output = seed(&[rows * width]);
            let output = if hatted {
                functional::linear(&input, &weight, None, &moment, Hyperparameters::default()).unwrap()
            } else {
                input.linear(&weight, None::<&Tensor>)
            };
            backward(output, &grad_output);
        })
    });
    assert!((4.0..4.2).contains(&plain), "the count sees {plain} tensors of four");
    assert!(hatted <= plain + 0.1, "{hatted} gradients, {plain} without the transform");
}
