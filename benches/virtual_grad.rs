//! `svgd::virtual_grad` beside the composed version and a plain copy of the same bytes.
//!
//! The copy reads the gradient once and writes as many bytes to a new tensor: the least that any kernel which returns a
//! tensor of the gradient's size can do.

mod support;

use criterion::Criterion;
use support::{Summary, in_turn};
use tch::{Kind, Tensor};
use tch_svgd::functional::{self, Hyperparameters};

/// The gradients of ResNet-20's three groups at batch 128.
const RESNET20: [[i64; 4]; 3] = [[128, 16, 32, 32], [128, 32, 16, 16], [128, 64, 8, 8]];
/// At least 256 MB in Float: powers of two, many samples, and an odd image size.
const LARGE: [[i64; 4]; 3] = [[64, 64, 128, 128], [256, 256, 32, 32], [128, 64, 91, 91]];

/// Not `Tensor::copy`, which fills the new tensor with zeros first.
fn copy(tensor: &Tensor) {
    tensor.empty_like().copy_(tensor);
}

fn channels_last(tensor: Tensor) -> Tensor {
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// One case; with `nhwc` the gradient, and with it the accumulator, lies in channels_last order.
fn bench(criterion: &mut Criterion, summary: &mut Summary, size: [i64; 4], kind: Kind, nhwc: bool) {
    let device = support::device();
    let [n, c, h, w] = size;
    let gradient = Tensor::randn(size, (kind, device)) * 1e-3;
    let second_moment = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device));
    let (gradient, element) = if nhwc {
        (channels_last(gradient), second_moment(&[h, w, c]).permute([2, 0, 1]))
    } else {
        (gradient, second_moment(&[c, h, w]))
    };
    let channel = second_moment(&[c]);
    let h = Hyperparameters::default();
    let format = if nhwc { "nhwc" } else { "nchw" };
    let case = format!("{n}x{c}x{}x{w}/{kind:?}/{format}", size[2]).to_lowercase();
    let bytes = 2 * (gradient.numel() * kind.elt_size_in_bytes()) as u64;
    let times = in_turn(
        criterion,
        "virtual_grad",
        &case,
        bytes,
        vec![
            ("virtual_grad", Box::new(|| drop(functional::virtual_grad(&gradient, &element, h).unwrap()))),
            ("copy", Box::new(|| copy(&gradient))),
            ("composed", Box::new(|| drop(functional::virtual_grad_composed(&gradient, &element, h).unwrap()))),
            ("channel", Box::new(|| drop(functional::virtual_grad(&gradient, &channel, h).unwrap()))),
            ("statistic", Box::new(|| functional::update_second_moment(&gradient, &channel, h).unwrap())),
        ],
    );
    let Some(times) = times else { return };
    summary.ratio(&format!("copy/{case}"), times.ratio("virtual_grad", "copy"));
    summary.ratio(&format!("composed/{case}"), times.ratio("virtual_grad", "composed"));
    summary.ratio(&format!("channel/copy/{case}"), times.ratio("channel", "copy"));
    summary.ratio(&format!("statistic/copy/{case}"), times.ratio("statistic", "copy"));
    summary.fact(&format!("throughput/{case}"), bytes as f64 / times.median("virtual_grad") / 1e9, "GB/s");
    summary.fact(&format!("copy_throughput/{case}"), bytes as f64 / times.median("copy") / 1e9, "GB/s");
}

fn main() {
    support::reuse_memory();
    let mut criterion = Criterion::default().sample_size(15).configure_from_args();
    let mut summary = Summary::new("virtual_grad");
    for nhwc in [false, true] {
        for kind in [Kind::Float, Kind::BFloat16] {
            for size in RESNET20.into_iter().chain(LARGE) {
                bench(&mut criterion, &mut summary, size, kind, nhwc);
            }
        }
    }
    summary.write();
    criterion.final_summary();
}
