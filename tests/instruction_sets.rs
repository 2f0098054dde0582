//! Bitwise the same with every instruction set. libtorch picks one when a process starts, so each has its own.

mod common;

use common::*;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::process::Command;
use tch::{Kind, Tensor};
use tch_svgd::functional::{self, Hyperparameters};

/// A hash of the results over kinds, layouts and both granularities. The inputs are whole numbers divided by a power of
/// two: they do not depend on the instruction set either.
fn digest() -> u64 {
    let mut hasher = DefaultHasher::new();
    for kind in [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16] {
        // From subnormal to overflowing in 16 bits.
        for exponent in [-24, -12, 0, 14] {
            let images = random(1, &[70, 5, 13, 11], kind) * f64::powi(2.0, exponent);
            for gradient in [channels_last(&images), images] {
                for size in [vec![5, 13, 11], vec![5]] {
                    add_results(&gradient, &size, &mut hasher);
                }
            }
        }
        // Results that are streamed past the caches.
        let elements = 33 * 1024 * 1024 / kind.elt_size_in_bytes() as i64;
        let rows = 131;
        add_results(&random(1, &[rows, elements / rows], kind), &[elements / rows], &mut hasher);
    }
    hasher.finish()
}

/// The virtual gradient and the second moment of a gradient. No factor is a power of two, and there is a moment before:
/// every addition rounds, and shows its order and whether it was fused with a multiplication.
fn add_results(gradient: &Tensor, moment_size: &[i64], hasher: &mut impl Hasher) {
    let moment = random(2, moment_size, moment_kind(gradient.kind())).abs() / 3;
    let hyper = Hyperparameters { scale: 0.3, gradient_scale: 0.7, ..Default::default() };
    let result = functional::virtual_grad(gradient, &moment, hyper).unwrap();
    for tensor in [&result, &moment] {
        let tensor = tensor.contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        hasher.write(&bytes);
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    const CHILD: &str = "TCH_SVGD_TEST_DIGEST";
    if std::env::var_os(CHILD).is_some() {
        println!("digest {:x}", digest());
        return;
    }
    #[cfg(target_arch = "x86_64")]
    let sets = [
        ("default", true),
        ("avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")),
        ("avx512", is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let sets = [("default", true)];
    let mut digests = Vec::new();
    for (set, present) in sets {
        if !present {
            let _ = writeln!(std::io::stderr(), "this processor has no {set}: its kernels are not tested");
            continue;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "every_instruction_set_gives_the_same_bits", "--nocapture"]);
        let output = child.env(CHILD, "1").env("ATEN_CPU_CAPABILITY", set).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.split_once("digest ").map(|(_, digest)| digest.to_owned()));
        digests.push((set, line.unwrap_or_else(|| panic!("{set}: {output:?}"))));
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:?}");
}
