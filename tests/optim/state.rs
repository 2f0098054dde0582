//! Files of an optimizer's state.

use super::*;
use crate::common::*;
use std::fs;
use tch::nn::Module;

fn step<R: Rule>(net: &nn::Sequential, optimizer: &mut Optim<R>, number: i64) {
    let kind = Kind::Float;
    optimizer.backward_step(&net.forward(&noise(number, &[8, 4], kind)).square().mean(kind));
}

/// Stopped in the middle and resumed, a training ends with the bits of one that was not: weights and state, in groups with rates
/// and settings of their own, with a variable that joins later.
fn a_resumed_training_is_the_same_to_the_bit<R: Rule>(rule: R) {
    let folder = tempfile::tempdir().unwrap();
    let [weights, state] = ["weights", "state"].map(|name| folder.path().join(format!("{name}.safetensors")));
    let frozen = |vs: &nn::VarStore, frozen: bool| drop(vs.variables()["head.bias"].set_requires_grad(!frozen));
    let (whole, net, mut optimizer) = model(rule, Kind::Float);
    optimizer.f_set_lr_group(1, 0.005).unwrap();
    frozen(&whole, true);
    for number in 0..10 {
        if number == 5 {
            whole.save(&weights).unwrap();
            optimizer.save(&state).unwrap();
            frozen(&whole, false);
        }
        step(&net, &mut optimizer, number);
    }
    // The rate and the settings are those of the file.
    let (mut resumed, net, mut again) = model(R::default(), Kind::Float);
    resumed.load(&weights).unwrap();
    again.load(&state).unwrap();
    assert_eq!(format!("{:?}", again.settings(1).unwrap()), format!("{:?}", (rule, 0.005)));
    (5..10).for_each(|number| step(&net, &mut again, number));
    for (name, variable) in whole.variables() {
        assert_same_bits(&resumed.variables()[&name], &variable, &name);
        for state in rule.state() {
            assert_same_bits(&again.state(&name, state).unwrap(), &optimizer.state(&name, state).unwrap(), state);
        }
    }
    // And its file is the same to the bit, over one of its own too.
    let files = ["a", "b"].map(|name| folder.path().join(name));
    again.save(&files[0]).unwrap();
    optimizer.save(&files[1]).unwrap();
    assert!(fs::read(&files[0]).unwrap() == fs::read(&files[1]).unwrap());
    // Over a state that is another by now.
    step(&net, &mut again, 10);
    again.load(&files[0]).unwrap();
    again.save(&files[1]).unwrap();
    assert!(fs::read(&files[0]).unwrap() == fs::read(&files[1]).unwrap());
}

/// A file of something else is an error that changes nothing.
fn another_file_is_an_error_and_changes_nothing<R: Rule>(rule: R) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (vs, net, mut optimizer) = model(rule, Kind::Float);
    step(&net, &mut optimizer, 0);
    optimizer.save(path("own")).unwrap();
    let own = fs::read(path("own")).unwrap();

    let others = nn::VarStore::new(Device::Cpu);
    let _ = seeded(0, || nn::linear(others.root() / "body", 4, 6, Default::default()));
    let _ = seeded(0, || nn::linear((others.root() / "tail").set_group(1), 6, 3, Default::default()));
    rule.build(&others, 0.1).unwrap().save(path("other_model")).unwrap();
    let wider = nn::VarStore::new(Device::Cpu);
    let body = seeded(0, || nn::linear(wider.root() / "body", 5, 6, Default::default()));
    let _ = seeded(0, || nn::linear((wider.root() / "head").set_group(1), 6, 3, Default::default()));
    let mut of_wider = rule.build(&wider, 0.1).unwrap();
    of_wider.backward_step(&body.forward(&noise(1, &[2, 5], Kind::Float)).sum(Kind::Float));
    of_wider.save(path("other_size")).unwrap();
    let swapped = nn::VarStore::new(Device::Cpu);
    let _ = seeded(0, || nn::linear((swapped.root() / "body").set_group(1), 4, 6, Default::default()));
    let _ = seeded(0, || nn::linear(swapped.root() / "head", 6, 3, Default::default()));
    rule.build(&swapped, 0.1).unwrap().save(path("swapped_groups")).unwrap();
    let larger = nn::VarStore::new(Device::Cpu);
    for (name, group) in [("body", 0), ("head", 1), ("another", 1)] {
        let (inputs, outputs) = if name == "body" { (4, 6) } else { (6, 3) };
        let _ = seeded(0, || nn::linear((larger.root() / name).set_group(group), inputs, outputs, Default::default()));
    }
    rule.build(&larger, 0.1).unwrap().save(path("larger_model")).unwrap();
    let one_group = nn::VarStore::new(Device::Cpu);
    for (name, inputs, outputs) in [("body", 4, 6), ("head", 6, 3)] {
        let _ = seeded(0, || nn::linear(one_group.root() / name, inputs, outputs, Default::default()));
    }
    rule.build(&one_group, 0.1).unwrap().save(path("other_groups")).unwrap();
    if R::NAME == "Sgd" {
        model(adam(), Kind::Float).2.save(path("other_rule")).unwrap();
    } else {
        model(sgd(), Kind::Float).2.save(path("other_rule")).unwrap();
    }
    vs.save(path("weights.safetensors")).unwrap();
    fs::write(path("cut"), &own[..own.len() - 3]).unwrap();
    let place = own.windows(3).position(|three| three == b"lr ").unwrap();
    let damaged = [&own[..place], b"lx ", &own[place + 3..]].concat();
    fs::write(path("damaged"), damaged).unwrap();

    for (file, words) in [
        ("other_model", "expected the variables of this model"),
        ("larger_model", "expected the variables of this model"),
        ("other_size", "expected shape"),
        ("other_groups", "expected the parameter groups [0, 1], got [0]"),
        ("swapped_groups", "expected group"),
        ("other_rule", "build the optimizer that it is of"),
        ("weights.safetensors", "weights are loaded with VarStore::load"),
        ("cut", "save it again"),
        ("damaged", "the file is damaged"),
    ] {
        let error = optimizer.load(path(file)).unwrap_err();
        assert!(matches!(error, Error::State { .. }) && error.to_string().contains(words), "{file}: {error}");
    }
    assert!(matches!(optimizer.load(path("none")).unwrap_err(), Error::Io { .. }));
    optimizer.save(path("after")).unwrap();
    assert!(fs::read(path("after")).unwrap() == own, "the state after errors");
}

/// A file of a model in Float, for the same in Double.
fn the_state_follows_the_kind_of_the_weights<R: Rule>(rule: R) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (_, net, mut optimizer) = model(rule, Kind::Float);
    step(&net, &mut optimizer, 0);
    optimizer.save(&path).unwrap();
    let (mut vs, net, mut loaded) = model(rule, Kind::Double);
    loaded.load(&path).unwrap();
    let name = rule.state().into_iter().last().unwrap();
    let state = loaded.state("body.weight", name).unwrap();
    assert_same_bits(&state, &optimizer.state("body.weight", name).unwrap().to_kind(Kind::Double), name);
    vs.set_kind(Kind::Float);
    step(&net, &mut loaded, 1);
    assert_eq!(loaded.state("body.weight", name).unwrap().kind(), Kind::Float);
}

for_every_rule!(
    a_resumed_training_is_the_same_to_the_bit,
    another_file_is_an_error_and_changes_nothing,
    the_state_follows_the_kind_of_the_weights
);

/// Which has no tensors of its own to tell the model by.
#[test]
fn a_file_without_state_knows_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (_, _, mut optimizer) = model(Sgd::default(), Kind::Float);
    optimizer.save(&path).unwrap();
    optimizer.load(&path).unwrap();
    let (vs, _) = variable(&[1.0], Kind::Float);
    assert!(matches!(Sgd::default().build(&vs, 0.1).unwrap().load(&path), Err(Error::State { .. })));
}

#[test]
fn state_bytes_are_those_of_the_tensors() {
    let (_, net, mut optimizer) = model(adam(), Kind::Float);
    assert_eq!(optimizer.state_bytes(), 0);
    step(&net, &mut optimizer, 0);
    let weights = 4 * 6 + 6 + 6 * 3 + 3;
    assert_eq!(optimizer.state_bytes(), 4 * (3 * weights + 4));
}
