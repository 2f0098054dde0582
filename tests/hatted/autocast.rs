//! Autocast regions: what they cast, and what they leave behind.

use crate::common::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::{Error, Svgd, SvgdConfig, autocast};

/// The kind that a product of Float tensors comes out in: that of autocast, where it is on.
fn kind_now(device: Device) -> Kind {
    let tensor = Tensor::ones([2, 2], (Kind::Float, device));
    tensor.matmul(&tensor).kind()
}

#[test]
fn results_are_of_the_kind_that_is_asked_for() {
    for device in devices() {
        for kind in [Kind::BFloat16, Kind::Half] {
            let inside = autocast(device, kind, || kind_now(device)).unwrap();
            assert_eq!((inside, kind_now(device)), (kind, Kind::Float), "{device:?}");
        }
    }
}

#[test]
fn autocast_of_cuda_leaves_the_cpu_as_it_is() {
    assert_eq!(autocast(Device::Cuda(0), Kind::Half, || kind_now(Device::Cpu)).unwrap(), Kind::Float);
}

#[test]
fn nested_regions_give_back_the_kind_of_the_outer_one() {
    for device in devices() {
        let outside = kind_now(device);
        let kinds = autocast(device, Kind::BFloat16, || {
            let before = kind_now(device);
            let inner = autocast(device, Kind::Half, || kind_now(device)).unwrap();
            (before, inner, kind_now(device))
        });
        assert_eq!(kinds.unwrap(), (Kind::BFloat16, Kind::Half, Kind::BFloat16), "{device:?}");
        assert_eq!((outside, kind_now(device)), (Kind::Float, Kind::Float), "{device:?}");
    }
}

/// libtorch's cache finds the cast of a weight by the weight alone.
#[test]
fn a_weight_is_cast_to_the_kind_of_each_nested_region() {
    for device in devices() {
        let weight = leaf(&noise(1, &[3, 4], Kind::Float).to_device(device));
        let input = noise(2, &[2, 4], Kind::Float).to_device(device);
        let product = || input.linear(&weight, None::<Tensor>).kind();
        let kinds =
            autocast(device, Kind::BFloat16, || (product(), autocast(device, Kind::Half, product).unwrap(), product()));
        assert_eq!(kinds.unwrap(), (Kind::BFloat16, Kind::Half, Kind::BFloat16), "{device:?}");
    }
}

#[test]
fn a_panic_restores_the_state() {
    for device in devices() {
        let weight = leaf(&noise(1, &[4, 4], Kind::Float).to_device(device));
        let kinds = autocast(device, Kind::Half, || {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                autocast(device, Kind::BFloat16, || {
                    let _ = weight.matmul(&weight);
                    panic!("expected by this test")
                })
            }));
            assert!(panic.is_err());
            kind_now(device)
        });
        assert_eq!((kinds.unwrap(), kind_now(device)), (Kind::Half, Kind::Float), "{device:?}");

        let before = weight.matmul(&weight);
        let panic = catch_unwind(AssertUnwindSafe(|| autocast(device, Kind::Half, || panic!("expected by this test"))));
        assert!(panic.is_err());
        assert_same_bits(&weight.matmul(&weight), &before, "product in Float");
    }
}

#[test]
fn a_weight_that_changed_between_two_regions_is_cast_again() {
    for device in devices() {
        let mut weight = leaf(&Tensor::ones([3, 4], (Kind::Float, device)));
        let input = Tensor::ones([2, 4], (Kind::Float, device));
        let sum = |weight: &Tensor| {
            let region = || input.linear(weight, None::<Tensor>).to_kind(Kind::Float);
            autocast(device, Kind::BFloat16, region).unwrap().double_value(&[0, 0])
        };
        assert_eq!(sum(&weight), 4.0, "{device:?}");
        let _ = tch::no_grad(|| weight.fill_(2.0));
        assert_eq!(sum(&weight), 8.0, "{device:?}");
        // A panic leaves no cast behind either.
        let panic = catch_unwind(AssertUnwindSafe(|| {
            autocast(device, Kind::BFloat16, || {
                let _ = input.linear(&weight, None::<Tensor>);
                panic!("expected by this test")
            })
        }));
        assert!(panic.is_err());
        let _ = tch::no_grad(|| weight.fill_(3.0));
        assert_eq!(sum(&weight), 12.0, "{device:?}");
    }
}

#[test]
fn other_kinds_and_devices_are_refused_with_what_is_expected() {
    for kind in [Kind::Float, Kind::Double, Kind::Int64] {
        let error = autocast(Device::Cpu, kind, || unreachable!("the kind is refused first")).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "autocast: argument 'kind': expected BFloat16 or Half, got {kind:?}; name one of them, or run without \
                 autocast"
            )
        );
    }
    let error = autocast(Device::Mps, Kind::Half, || unreachable!("the device is refused first")).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "autocast: argument 'device': expected Cpu or Cuda, got Mps; run without autocast on this device"
    );
    assert_eq!(kind_now(Device::Cpu), Kind::Float);
}

#[test]
fn training_in_bfloat16_keeps_gradients_and_second_moments_in_float() {
    for device in devices() {
        let vs = nn::VarStore::new(device);
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let (conv, fc) = seeded(1, || {
            let conv = svgd.conv2d(vs.root() / "conv", 3, 5, 3, Default::default());
            (conv, svgd.linear(vs.root() / "fc", 180, 4, Default::default()))
        });
        let images = noise(2, &[6, 3, 8, 8], Kind::Float).to_device(device);
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1]).to_device(device);
        let mut optimizer = nn::Sgd::default().build(&vs, 0.5).unwrap();
        let mut step = || {
            let loss = autocast(device, Kind::BFloat16, || {
                let logits = fc.forward(&conv.forward(&images).relu().flatten(1, -1));
                assert_eq!(logits.kind(), Kind::BFloat16);
                logits.to_kind(Kind::Float).cross_entropy_for_logits(&labels)
            });
            let loss = loss.unwrap();
            optimizer.backward_step(&loss);
            loss.double_value(&[])
        };
        let first = step();
        for weight in vs.trainable_variables() {
            assert_eq!((weight.kind(), weight.grad().kind()), (Kind::Float, Kind::Float), "{device:?}");
        }
        for moment in [conv.second_moment().unwrap(), fc.second_moment().unwrap()] {
            assert_eq!(moment.kind(), Kind::Float, "{device:?}");
            assert!(moment.max().double_value(&[]) > 0.0, "{device:?}");
        }
        // It learns: each step sees the weights of the last.
        let last = (0..10).map(|_| step()).last().unwrap();
        assert!(last < 0.9 * first, "{device:?}: the loss went from {first} to {last}");
    }
}
