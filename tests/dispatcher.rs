//! What libtorch's dispatcher knows of the operators.

mod common;

use common::*;
use tch::Kind;
use tch_svgd::functional::{self, Convolution, Hyperparameters};
use tch_svgd::testing::to_meta;

#[test]
fn schemas_are_those_of_the_contract() {
    let info = tch_svgd::build_info().unwrap();
    let schema = |name: &str| {
        let op = info.operators.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("{name} is not registered"));
        op.schema.clone()
    };
    assert_eq!(
        schema("svgd::linear"),
        "svgd::linear(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, float scale, float decay, \
         float eps, float gradient_scale, bool virtual_bias) -> Tensor"
    );
    assert_eq!(
        schema("svgd::conv2d"),
        "svgd::conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor second_moment, SymInt[2] stride, \
         SymInt[2] padding, SymInt[2] dilation, SymInt groups, float scale, float decay, float eps, \
         float gradient_scale, bool virtual_bias) -> Tensor"
    );
    assert_eq!(
        schema("svgd::virtual_grad"),
        "svgd::virtual_grad(Tensor grad_output, Tensor(a!) second_moment, float scale, float decay, float eps, \
         float gradient_scale) -> Tensor"
    );
}

#[test]
fn operators_have_the_kernels_of_the_contract() {
    let info = tch_svgd::build_info().unwrap();
    let expected_keys = |name: &str| match name {
        "svgd::linear" | "svgd::conv2d" => ["CPU", "CUDA", "Meta", "Autograd", "AutocastCPU", "AutocastCUDA"].to_vec(),
        "svgd::virtual_grad" | "svgd::_linear_backward" | "svgd::_conv2d_backward" => {
            ["CPU", "CUDA", "Meta", "Autograd"].to_vec()
        }
        _ => ["CPU", "CUDA", "Meta"].to_vec(),
    };
    for op in &info.operators {
        assert_eq!(op.dispatch_keys, expected_keys(&op.name), "{}", op.name);
    }
    let public: Vec<_> = info.operators.iter().map(|op| &op.name[..]).filter(|name| !name.contains("::_")).collect();
    assert_eq!(public, ["svgd::conv2d", "svgd::linear", "svgd::virtual_grad"]);
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
