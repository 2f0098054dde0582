//! What libtorch's dispatcher knows of the operators.

use crate::common::*;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use tch_svgd::functional::tso_alra::{self, Factors};
use tch_svgd::functional::{self, Convolution, Hyperparameters};
use tch_svgd::testing::{operators, to_meta};

/// Every schema to the letter: models that Python has saved, and callers of the dispatcher, know them.
const SCHEMAS: [&str; 14] = [
    "bng::normalize_(Tensor(a!)[] gradients, Tensor[] parameters, int[] blocks, Tensor(b!) norms, Tensor(c!) skipped, \
     str rule, float value) -> ()",
    "svgd::_conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) second_moment, SymInt[2] stride, \
     SymInt[2] padding, SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, float gradient_scale, \
     bool virtual_bias, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "svgd::_linear_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor(a!) second_moment, float scale, \
     float decay, float eps, float gradient_scale, bool virtual_bias, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "svgd::_scale_rows(Tensor(a!) rows, Tensor second_moment, float scale, float eps) -> ()",
    "svgd::_update_second_moment(Tensor grad_output, Tensor(a!) second_moment, float decay, float gradient_scale) -> ()",
    "svgd::_virtual_grad_composed(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, \
     float gradient_scale) -> Tensor",
    "svgd::conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, SymInt[2] stride, \
     SymInt[2] padding, SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, \
     float gradient_scale, bool virtual_bias) -> Tensor",
    "svgd::linear(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, float scale, float decay, \
     float eps, float gradient_scale, bool virtual_bias) -> Tensor",
    "svgd::virtual_grad(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, \
     float gradient_scale) -> Tensor",
    "tso_alra::_conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) input_factor, \
     Tensor(b!) output_factor, Tensor input_root, Tensor output_root, SymInt[2] stride, SymInt[2] padding, \
     SymInt[2] dilation, SymInt groups, float gamma, float gradient_scale, bool sum_positions, bool update, \
     bool precondition, bool graft, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "tso_alra::_inverse_roots(Tensor[] factors, Tensor(a!)[] roots, float eps, bool relative) -> ()",
    "tso_alra::_linear_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor(a!) input_factor, \
     Tensor(b!) output_factor, Tensor input_root, Tensor output_root, float gamma, float gradient_scale, \
     bool sum_positions, bool update, bool precondition, bool graft, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "tso_alra::conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor input_factor, Tensor output_factor, \
     Tensor input_root, Tensor output_root, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, \
     float gamma, float gradient_scale, bool sum_positions, bool update, bool precondition, bool graft) -> Tensor",
    "tso_alra::linear(Tensor input, Tensor weight, Tensor? bias, Tensor input_factor, Tensor output_factor, \
     Tensor input_root, Tensor output_root, float gamma, float gradient_scale, bool sum_positions, bool update, \
     bool precondition, bool graft) -> Tensor",
];

#[test]
fn schemas_are_those_of_the_contract() {
    let info = tch_svgd::build_info().unwrap();
    assert_eq!(info.operators.iter().map(|op| &op.schema[..]).collect::<Vec<_>>(), SCHEMAS);
}

/// What the mechanism puts together for a method with two changing tensors.
#[test]
fn schemas_of_a_method_are_those_of_its_layers_and_its_own_arguments() {
    let operators = operators("counter").unwrap();
    let expected = [
        "counter::_conv2d_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor(a!) passes, Tensor(b!) sums, \
         SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, float gradient_scale, bool formed, bool fails, bool[3] \
         output_mask) -> (Tensor, Tensor, Tensor)",
        "counter::_linear_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor(a!) passes, Tensor(b!) sums, \
         float gradient_scale, bool formed, bool fails, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
        "counter::conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor passes, Tensor sums, SymInt[2] stride, SymInt[2] \
         padding, SymInt[2] dilation, SymInt groups, float gradient_scale, bool formed, bool fails) -> Tensor",
        "counter::linear(Tensor input, Tensor weight, Tensor? bias, Tensor passes, Tensor sums, float gradient_scale, bool formed, bool fails) -> \
         Tensor",
    ];
    assert_eq!(operators.iter().map(|op| &op.schema[..]).collect::<Vec<_>>(), expected);
    for op in operators {
        let backward = ["CompositeExplicitAutograd", "Meta", "Autograd"];
        let autocast = if op.name.contains("::_") { &[][..] } else { &["AutocastCPU", "AutocastCUDA"] };
        assert_eq!(op.dispatch_keys, [&backward[..], autocast].concat(), "{}", op.name);
    }
}

#[test]
fn operators_have_the_kernels_of_the_contract() {
    let info = tch_svgd::build_info().unwrap();
    let every_device = "CompositeExplicitAutograd";
    // The kernels of ours, and on other devices, or without the feature `cuda`, ATen's operators.
    let devices = if cfg!(feature = "cuda") { vec!["CPU", "CUDA", every_device] } else { vec!["CPU", every_device] };
    let (forward, backward) =
        (vec![every_device, "Meta", "Autograd", "AutocastCPU", "AutocastCUDA"], vec![every_device, "Meta", "Autograd"]);
    let expected = BTreeMap::from([
        ("bng::normalize_", vec![every_device, "Meta"]),
        ("svgd::linear", forward.clone()),
        ("svgd::conv2d", forward.clone()),
        ("svgd::_linear_backward", backward.clone()),
        ("svgd::_conv2d_backward", backward.clone()),
        ("svgd::virtual_grad", [&devices[..], &["Meta", "Autograd"]].concat()),
        ("svgd::_virtual_grad_composed", vec![every_device, "Meta"]),
        ("svgd::_update_second_moment", [&devices[..], &["Meta"]].concat()),
        ("svgd::_scale_rows", [&devices[..], &["Meta"]].concat()),
        ("tso_alra::linear", forward.clone()),
        ("tso_alra::conv2d", forward),
        ("tso_alra::_linear_backward", backward.clone()),
        ("tso_alra::_conv2d_backward", backward),
        ("tso_alra::_inverse_roots", vec![every_device, "Meta"]),
    ]);
    let found = info.operators.iter().map(|op| (&op.name[..], op.dispatch_keys.iter().map(String::as_str).collect()));
    assert_eq!(found.collect::<BTreeMap<_, Vec<_>>>(), expected);
}

#[test]
fn build_info_names_versions_and_folder() {
    let info = tch_svgd::build_info().unwrap();
    let text = info.to_string();
    let libtorch = format!("libtorch {} in {}", info.libtorch_version, info.libtorch_lib);
    for part in ["tch-svgd 0.", &libtorch, "CUDA ", "svgd::linear(Tensor input"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn meta_kernels_give_shape_kind_and_strides_without_touching_data() {
    let hyper = Hyperparameters::default();
    for kind in [Kind::Float, Kind::BFloat16] {
        let meta = |size: &[i64]| to_meta(&zeros(size, kind)).unwrap();
        let moment = |size: &[i64]| to_meta(&zeros(size, Kind::Float)).unwrap();
        let weight = meta(&[7, 5]).set_requires_grad(true);
        for leading in [vec![], vec![3], vec![2, 3], vec![2, 3, 4], vec![0]] {
            let input = meta(&[leading.clone(), vec![5]].concat());
            let output = functional::linear(&input, &weight, Some(&meta(&[7])), &moment(&[7]), hyper).unwrap();
            assert_eq!(output.size(), [leading, vec![7]].concat());
            assert_eq!(output.kind(), kind);
            assert!(output.requires_grad());
        }
        // The backward pass too runs on shapes alone.
        let input = meta(&[3, 5]).set_requires_grad(true);
        functional::linear(&input, &weight, None, &moment(&[7]), hyper).unwrap().sum(kind).backward();
        assert_eq!(weight.grad().size(), [7, 5]);
        assert_eq!(input.grad().size(), [3, 5]);

        let geometry = Convolution { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 };
        let kernel = meta(&[6, 2, 3, 3]).set_requires_grad(true);
        for image in [meta(&[3, 4, 9, 8]), channels_last(&meta(&[3, 4, 9, 8]))] {
            let real = zeros(&[3, 4, 9, 8], kind);
            let real = if image.is_contiguous() { real } else { channels_last(&real) };
            let expected = real.conv2d(&zeros(&[6, 2, 3, 3], kind), None::<tch::Tensor>, [2, 1], [1, 0], [1, 2], 2);
            for size in [vec![6, 5, 4], vec![6]] {
                let output = functional::conv2d(&image, &kernel, None, &moment(&size), geometry, hyper).unwrap();
                assert_eq!(output.size(), expected.size());
                assert_eq!(output.stride(), expected.stride());
                output.sum(kind).backward();
                assert_eq!(kernel.grad().size(), [6, 2, 3, 3]);
            }
        }
        let gradient = channels_last(&meta(&[3, 4, 9, 8]));
        let t = functional::virtual_grad(&gradient, &moment(&[4, 9, 8]), hyper).unwrap();
        assert_eq!((t.size(), t.stride()), (gradient.size(), gradient.stride()));
    }
    let error = functional::linear(
        &to_meta(&zeros(&[3, 4], Kind::Float)).unwrap(),
        &to_meta(&zeros(&[7, 5], Kind::Float)).unwrap(),
        None,
        &to_meta(&zeros(&[7], Kind::Float)).unwrap(),
        hyper,
    );
    assert!(matches!(error, Err(tch_svgd::Error::Shape(_))));
}

/// The strides of a tensor where they decide on an address: not those of axes of one.
fn strides(tensor: &Tensor) -> Vec<(i64, i64)> {
    let pairs = tensor.size().into_iter().zip(tensor.stride());
    pairs.map(|(size, stride)| (size, if size == 1 { 0 } else { stride })).collect()
}

/// Kind, sizes and strides of the output and of the gradients of the leaves, as the operators give them.
fn forms(
    leaves: &[Tensor],
    grad_output: &Tensor,
    forward: impl Fn(&[Tensor]) -> Tensor,
) -> Vec<(Kind, Vec<(i64, i64)>)> {
    let leaves: Vec<_> = leaves.iter().map(leaf).collect();
    let output = forward(&leaves);
    let loss = (&output * grad_output).sum(output.kind());
    let gradients = Tensor::run_backward(&[&loss], &leaves.iter().collect::<Vec<_>>(), false, false);
    std::iter::once(&output).chain(&gradients).map(|tensor| (tensor.kind(), strides(tensor))).collect()
}

/// Real tensors and those without data give results of one form: what a compiler has been promised.
#[track_caller]
fn check_forms(leaves: &[Tensor], grad_output: &Tensor, what: &str, forward: impl Fn(&[Tensor], bool) -> Tensor) {
    let meta: Vec<_> = leaves.iter().map(|tensor| to_meta(tensor).unwrap()).collect();
    for (tensor, meta) in leaves.iter().zip(&meta) {
        assert_eq!(tensor.stride(), meta.stride(), "{what}: the test's own");
    }
    let real = forms(leaves, grad_output, |leaves| forward(leaves, false));
    let promised = forms(&meta, &to_meta(grad_output).unwrap(), |leaves| forward(leaves, true));
    assert_eq!(real, promised, "{what}");
}

fn moment(size: &[i64], kind: Kind, meta: bool) -> Tensor {
    let moment = zeros(size, moment_kind(kind));
    if meta { to_meta(&moment).unwrap() } else { moment }
}

/// A state of TSO-ALRA's.
fn factors(groups: i64, inputs: i64, outputs: i64, kind: Kind, meta: bool) -> [Tensor; 4] {
    [inputs, outputs, inputs, outputs].map(|n| moment(&[groups, n, n], kind, meta))
}

#[test]
fn linear_gives_without_data_the_strides_that_it_gives_with() {
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
        for (layout, input) in [
            ("one row", noise(3, &[33], kind)),
            ("matrix", noise(3, &[12, 33], kind)),
            ("column-major", noise(3, &[33, 12], kind).tr()),
            ("three axes", noise(3, &[4, 3, 33], kind)),
            ("three axes, transposed", noise(3, &[3, 4, 33], kind).transpose(0, 1)),
            ("three axes, all moved", noise(3, &[33, 4, 3], kind).permute([1, 2, 0])),
            ("four axes, permuted", noise(3, &[3, 33, 2, 2], kind).permute([2, 3, 0, 1])),
        ] {
            for weight in [noise(4, &[17, 33], kind), noise(4, &[33, 17], kind).tr()] {
                for moved in [false, true] {
                    let mut size = input.size();
                    *size.last_mut().unwrap() = 17;
                    let grad_output = match moved && size.len() > 1 {
                        true => {
                            size.swap(0, 1);
                            noise(5, &size, kind).transpose(0, 1)
                        }
                        false => noise(5, &size, kind),
                    };
                    let leaves = [input.shallow_clone(), weight.shallow_clone(), noise(6, &[17], kind)];
                    let what = format!("{kind:?} {layout} {:?} {moved}", weight.stride());
                    for biases in [2, 3] {
                        check_forms(&leaves[..biases], &grad_output, &what, |leaves, meta| {
                            let moment = moment(&[17], kind, meta);
                            functional::linear(&leaves[0], &leaves[1], leaves.get(2), &moment, Default::default())
                                .unwrap()
                        });
                        check_forms(&leaves[..biases], &grad_output, &what, |leaves, meta| {
                            let state = factors(1, 33 + i64::from(biases == 3), 17, kind, meta);
                            let [input, output, input_root, output_root] = &state;
                            let factors = Factors { input, output, input_root, output_root };
                            tso_alra::linear(&leaves[0], &leaves[1], leaves.get(2), factors, Default::default())
                                .unwrap()
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn conv2d_gives_without_data_the_strides_that_it_gives_with() {
    let layouts = |tensor: Tensor| [channels_last(&tensor), tensor];
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
        for (kernel, padding, groups, stride) in [(3, 1, 1, 1), (3, 1, 2, 2), (1, 0, 1, 1), (3, 1, 4, 1)] {
            let geometry = Convolution { stride: [stride; 2], padding: [padding; 2], groups, ..Default::default() };
            let side = (9 + 2 * padding - kernel) / stride + 1;
            for image in layouts(noise(3, &[2, 4, 9, 9], kind)) {
                for weight in layouts(noise(4, &[8, 4 / groups, kernel, kernel], kind)) {
                    for grad_output in layouts(noise(5, &[2, 8, side, side], kind)) {
                        for size in [vec![8, side, side], vec![8]] {
                            let leaves = [image.shallow_clone(), weight.shallow_clone(), noise(6, &[8], kind)];
                            let what = format!(
                                "{kind:?} {geometry:?} image {:?} weight {:?} gradient {:?} {size:?}",
                                image.stride(),
                                weight.stride(),
                                grad_output.stride()
                            );
                            check_forms(&leaves, &grad_output, &what, |leaves, meta| {
                                let moment = moment(&size, kind, meta);
                                let [image, weight, bias] = leaves else { panic!("{what}") };
                                functional::conv2d(image, weight, Some(bias), &moment, geometry, Default::default())
                                    .unwrap()
                            });
                            check_forms(&leaves, &grad_output, &what, |leaves, meta| {
                                let inputs = 4 / groups * kernel * kernel + 1;
                                let [input, output, input_root, output_root] =
                                    &factors(groups, inputs, 8 / groups, kind, meta);
                                let factors = Factors { input, output, input_root, output_root };
                                let [image, weight, bias] = leaves else { panic!("{what}") };
                                tso_alra::conv2d(image, weight, Some(bias), factors, geometry, Default::default())
                                    .unwrap()
                            });
                        }
                    }
                }
            }
        }
    }
}
