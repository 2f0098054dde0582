//! Bad arguments and settings.

use crate::common::*;
use tch::{Device, Kind, Tensor, nn};
use tch_svgd::functional::bng::normalize;
use tch_svgd::{BlockNormalizer, Bng, BngConfig, Normalization, Plain};

#[test]
fn of_arguments() {
    let good = || random(1, &[3, 2], Kind::Float);
    let (norms, skipped) = (|| zeros(&[1], Kind::Double), || Tensor::from(0i64));
    let run = |gradients: &[&Tensor], parameters: &[&Tensor], blocks: &[i64]| {
        normalize(gradients, parameters, blocks, &norms(), &skipped(), Normalization::Unit)
    };
    let op = "bng::normalize_: argument ";
    check(run(&[], &[], &[]), is_config, &[op, "'gradients'", "at least one"]);
    check(run(&[&good()], &[], &[1]), is_config, &[op, "'parameters'", "got 0"]);
    check(run(&[&good()], &[&good()], &[2]), is_config, &[op, "'blocks'", "sum is 1"]);
    check(run(&[&good()], &[&good()], &[1, 0]), is_config, &[op, "'blocks'", "at least 1"]);
    check(run(&[&good()], &[&good().tr()], &[1]), is_shape, &[op, "'gradients'", "[2, 3]", "[3, 2]"]);
    check(run(&[&good()], &[&good().to_kind(Kind::Double)], &[1]), is_kind, &[op, "'parameters'", "Float"]);
    check(run(&[&Tensor::new()], &[&good()], &[1]), is_config, &[op, "'gradients'", "undefined"]);
    let integers = Tensor::ones([2], (Kind::Int64, Device::Cpu));
    check(run(&[&integers], &[&integers], &[1]), is_kind, &[op, "'gradients'", "Long"]);
    let sparse = good().to_sparse_sparse_dim(2);
    check(run(&[&sparse], &[&good()], &[1]), is_unsupported, &[op, "'gradients'", "to_dense"]);
    check(run(&[&leaf(&good())], &[&good()], &[1]), is_unsupported, &[op, "'gradients'", "create_graph"]);
    let twice = good();
    check(run(&[&twice, &twice], &[&good(), &good()], &[2]), is_config, &[op, "'gradients'", "twice"]);

    let gradient = good();
    let with = |norms: &Tensor, skipped: &Tensor, rule| normalize(&[&gradient], &[&good()], &[1], norms, skipped, rule);
    let unit = Normalization::Unit;
    check(with(&zeros(&[2], Kind::Double), &skipped(), unit), is_shape, &[op, "'norms'", "[1]", "[2]"]);
    check(with(&zeros(&[1], Kind::Float), &skipped(), unit), is_kind, &[op, "'norms'", "Double"]);
    check(with(&norms(), &zeros(&[], Kind::Float), unit), is_kind, &[op, "'skipped'", "Long"]);
    check(with(&norms(), &Tensor::new(), unit), is_config, &[op, "'skipped'", "undefined"]);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(with(&norms(), &skipped(), Normalization::Clip { threshold: bad }), is_config, &[op, "'value'", "> 0"]);
    }
    assert_same_bits(&gradient, &good(), "the gradient after errors");
}

#[test]
fn of_settings() {
    let vs = nn::VarStore::new(Device::Cpu);
    for bad in [0.0, -1.0, 1e-40, f64::NAN, f64::INFINITY] {
        for (normalization, name) in
            [(Normalization::Adaptive { alpha: bad }, "alpha"), (Normalization::Clip { threshold: bad }, "threshold")]
        {
            let config = BngConfig { normalization, ..Default::default() };
            let words = [&format!("Bng: setting '{name}'"), "got"].map(|word| word.to_owned());
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            check(BlockNormalizer::new(&vs, config), is_config, &words);
            check(Bng::new(Plain, config), is_config, &words);
        }
    }
}
