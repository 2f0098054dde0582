//! What is saved, and that training goes on from it to the bit.

use crate::common::*;
use counter::Counter;
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_svgd::hatted::Hatted;
use tch_svgd::{Error, Granularity, Layers, Plain, Svgd, SvgdConfig, SvgdConv2D, SvgdLinear};

#[derive(Debug)]
struct Net {
    conv: Box<dyn Module>,
    fc: Box<dyn Module>,
}

impl Net {
    fn new<L: Layers>(layers: &L, p: &nn::Path) -> Self {
        let config = nn::ConvConfig { padding: 1, ..Default::default() };
        Net {
            conv: Box::new(layers.conv2d(p / "conv", 3, 5, 3, config)),
            fc: Box::new(layers.linear(p / "fc", 5 * 36, 4, Default::default())),
        }
    }
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Tensor {
        self.fc.forward(&self.conv.forward(xs).relu().flatten(1, -1))
    }
}

/// A hatted model, its state and its optimizer.
struct Training {
    vs: nn::VarStore,
    svgd: Svgd,
    net: Net,
}

impl Training {
    fn new(granularity: Granularity) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        let svgd = Svgd::new(SvgdConfig { granularity, ..Default::default() }).unwrap();
        let net = seeded(1, || Net::new(&svgd, &vs.root()));
        Training { vs, svgd, net }
    }

    fn steps(&self, steps: std::ops::Range<i64>) {
        let mut optimizer = nn::Sgd::default().build(&self.vs, 0.3).unwrap();
        for step in steps {
            let images = noise(100 + step, &[8, 3, 6, 6], Kind::Float);
            let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1, 2, 3]);
            optimizer.backward_step(&self.net.forward(&images).cross_entropy_for_logits(&labels));
        }
    }
}

fn assert_same_weights(a: &nn::VarStore, b: &nn::VarStore) {
    let other = b.variables();
    for (name, variable) in a.variables() {
        assert_same_bits(&variable, &other[&name], &name);
    }
}

#[test]
fn training_resumes_to_the_bit() {
    for granularity in [Granularity::Element, Granularity::Channel] {
        let folder = tempfile::tempdir().unwrap();
        let (weights, state) = (folder.path().join("weights.safetensors"), folder.path().join("svgd.safetensors"));
        let uninterrupted = Training::new(granularity);
        uninterrupted.steps(0..5);
        uninterrupted.vs.save(&weights).unwrap();
        uninterrupted.svgd.save(&state).unwrap();
        uninterrupted.steps(5..10);

        let mut resumed = Training::new(granularity);
        resumed.vs.load(&weights).unwrap();
        resumed.svgd.load(&state).unwrap();
        resumed.steps(5..10);
        assert_same_weights(&uninterrupted.vs, &resumed.vs);

        // The state matters: without it the weights are others.
        let mut forgetful = Training::new(granularity);
        forgetful.vs.load(&weights).unwrap();
        forgetful.steps(5..10);
        assert!(!same_bits(&forgetful.vs.variables()["fc.weight"], &resumed.vs.variables()["fc.weight"]));
    }
}

#[test]
fn state_before_the_first_step_is_saved_too() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("svgd.safetensors");
    let fresh = Training::new(Granularity::Element);
    assert_eq!(fresh.svgd.state_bytes(), 0);
    fresh.svgd.save(&state).unwrap();
    let trained = Training::new(Granularity::Element);
    trained.steps(0..2);
    assert_eq!(trained.svgd.state_bytes(), 4 * (5 * 36 + 4));
    trained.svgd.load(&state).unwrap();
    let again = folder.path().join("again");
    trained.svgd.save(&again).unwrap();
    assert!(std::fs::read(&state).unwrap() == std::fs::read(&again).unwrap(), "it is as new");
}

#[test]
fn double_state_is_saved_as_double() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("svgd.safetensors");
    let make = || {
        let mut vs = nn::VarStore::new(Device::Cpu);
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let layer = seeded(1, || svgd.linear(vs.root(), 6, 3, Default::default()));
        vs.double();
        (vs, svgd, layer)
    };
    let (_vs, svgd, layer) = make();
    layer.forward(&noise(1, &[4, 6], Kind::Double)).square().mean(None).backward();
    svgd.save(&state).unwrap();
    let (_vs, other_svgd, other) = make();
    other_svgd.load(&state).unwrap();
    assert_same_bits(&layer.second_moment().unwrap(), &other.second_moment().unwrap(), "second moment");
    assert_eq!(other.second_moment().unwrap().kind(), Kind::Double);
}

#[test]
fn a_plain_checkpoint_loads_into_the_hatted_model_and_back() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["weights.safetensors", "weights.ot"] {
        let path = folder.path().join(file);
        let mut plain = nn::VarStore::new(Device::Cpu);
        let plain_net = seeded(7, || Net::new(&Plain, &plain.root()));
        let mut hatted = Training::new(Granularity::Element);
        let image = noise(3, &[2, 3, 6, 6], Kind::Float);

        plain.save(&path).unwrap();
        hatted.vs.load(&path).unwrap();
        assert_same_weights(&plain, &hatted.vs);
        assert_same_bits(&plain_net.forward(&image), &hatted.net.forward(&image), "forward value");

        hatted.steps(0..2);
        hatted.vs.save(&path).unwrap();
        plain.load(&path).unwrap();
        assert_same_weights(&plain, &hatted.vs);
        assert_eq!(plain.len(), hatted.vs.len(), "the accumulators are not in the VarStore");
    }
}

#[test]
fn the_same_seed_initialises_plain_and_hatted_layers_alike() {
    let (plain, hatted) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let uniform = nn::Init::Uniform { lo: -2.0, up: 3.0 };
    let configs = [
        nn::LinearConfig::default(),
        nn::LinearConfig { bias: false, ..Default::default() },
        nn::LinearConfig { ws_init: uniform, bs_init: Some(uniform), bias: true },
    ];
    seeded(4, || {
        for (i, config) in configs.into_iter().enumerate() {
            nn::linear(plain.root() / i, 7, 5, config);
        }
        nn::conv2d(
            plain.root() / "conv",
            4,
            6,
            3,
            nn::ConvConfig { bs_init: uniform, groups: 2, ..Default::default() },
        );
        nn::conv(plain.root() / "rect", 4, 6, [2, 5], nn::ConvConfigND::<[i64; 2]>::default());
    });
    seeded(4, || {
        for (i, config) in configs.into_iter().enumerate() {
            svgd.linear(hatted.root() / i, 7, 5, config);
        }
        svgd.conv2d(
            hatted.root() / "conv",
            4,
            6,
            3,
            nn::ConvConfig { bs_init: uniform, groups: 2, ..Default::default() },
        );
        svgd.conv(hatted.root() / "rect", 4, 6, [2, 5], nn::ConvConfigND::default());
    });
    assert_eq!(plain.len(), hatted.len());
    assert_same_weights(&plain, &hatted);
}

#[test]
fn two_layers_of_one_name_keep_their_own_state() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("svgd.safetensors");
    let vs = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let first = seeded(9, || svgd.linear(vs.root() / "fc", 6, 3, Default::default()));
    let second = seeded(9, || svgd.linear(vs.root() / "fc", 6, 2, Default::default()));
    for layer in [&first, &second] {
        layer.forward(&noise(1, &[4, 6], Kind::Float)).square().mean(None).backward();
    }
    svgd.save(&state).unwrap();
    let moments = [&first, &second].map(|layer| layer.second_moment().unwrap());
    svgd.reset();
    svgd.load(&state).unwrap();
    assert_same_bits(&moments[0], &first.second_moment().unwrap(), "fc");
    assert_same_bits(&moments[1], &second.second_moment().unwrap(), "fc__1");
    let file = std::fs::read(&state).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&file).unwrap().names().len(), 2);
}

/// Which of the two a state in a file is of, the order of their making alone would tell.
#[test]
fn layers_of_one_name_in_two_stores_are_refused() {
    let [vs, other] = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let conv = seeded(1, || svgd.conv2d(vs.root() / "body", 3, 5, 3, Default::default()));
    let error = svgd.f_linear(other.root() / "body", 4, 2, Default::default()).unwrap_err();
    assert!(matches!(&error, Error::Config(_)), "{error:?}");
    let text = error.to_string();
    for part in ["layer 'body'", "another VarStore", "make another Svgd"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(other.variables().is_empty(), "a layer that is refused leaves no variables");
    // Nor does a plain layer of that name make the two stores one.
    let third = nn::VarStore::new(Device::Cpu);
    let _plain = seeded(1, || nn::linear(third.root() / "body", 4, 2, Default::default()));
    svgd.f_linear(third.root() / "body", 4, 2, Default::default()).unwrap_err();
    // Another name, another Svgd, and a name that has become free.
    let linear = |svgd: &Svgd, path| seeded(1, || svgd.f_linear(path, 4, 2, Default::default())).unwrap();
    linear(&svgd, other.root() / "averaged" / "body");
    linear(&Svgd::new(SvgdConfig::default()).unwrap(), other.root() / "body");
    drop(conv);
    let [fourth, one_store] = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
    linear(&svgd, fourth.root() / "body");
    // A second layer of a name whose first is gone has the name in the file, and leaves it to a third beside it.
    drop(linear(&svgd, one_store.root() / "head"));
    let _second = linear(&svgd, one_store.root() / "head");
    let _third = linear(&svgd, one_store.root() / "head");
}

#[test]
fn a_first_pass_that_fails_leaves_the_loaded_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("svgd.safetensors");
    let conv = || {
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let conv = seeded(1, || svgd.conv2d(vs.root() / "conv", 3, 5, 3, Default::default()));
        (svgd, conv)
    };
    let (svgd, trained) = conv();
    trained.forward(&noise(1, &[2, 3, 6, 6], Kind::Float)).square().mean(None).backward();
    svgd.save(&path).unwrap();

    let (svgd, resumed) = conv();
    svgd.load(&path).unwrap();
    resumed.f_forward(&noise(1, &[2, 4, 6, 6], Kind::Float)).unwrap_err();
    assert_same_bits(&resumed.second_moment().unwrap(), &trained.second_moment().unwrap(), "the second moment");

    // Nor does it settle the image size of a layer without state.
    let (_svgd, fresh) = conv();
    fresh.f_forward(&noise(1, &[2, 3, 8, 8], Kind::Double)).unwrap_err();
    let output = fresh.f_forward(&noise(1, &[2, 3, 6, 6], Kind::Float)).unwrap();
    assert_eq!(output.size(), [2, 5, 4, 4]);
}

/// Loading fails with a text that has all the parts, and changes nothing.
#[track_caller]
fn check_refused(training: &Training, path: &Path, parts: &[&str]) {
    let before = training.svgd.state_bytes();
    let copy = tempfile::NamedTempFile::new().unwrap();
    training.svgd.save(copy.path()).unwrap();
    let saved = std::fs::read(copy.path()).unwrap();
    let error = training.svgd.load(path).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::State { .. } | Error::Io { .. }), "{text}");
    for part in parts.iter().copied().chain([path.to_str().unwrap()]) {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    training.svgd.save(copy.path()).unwrap();
    assert_eq!(saved, std::fs::read(copy.path()).unwrap(), "the state changed");
    assert_eq!(before, training.svgd.state_bytes());
}

#[test]
fn damaged_and_foreign_files_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let training = Training::new(Granularity::Element);
    training.steps(0..2);
    training.svgd.save(path("good")).unwrap();
    let good = std::fs::read(path("good")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name)
    };

    check_refused(&training, &path("missing"), &[]);
    for length in [0, 4, 8, 50, good.len() / 2, good.len() - 1] {
        check_refused(&training, &write("truncated", &good[..length]), &["save it again"]);
    }
    check_refused(&training, &write("longer", &[&good[..], b"x"].concat()), &["save it again"]);
    check_refused(&training, &write("text", b"{\"not\": \"tensors\"}"), &["expected a safetensors file"]);
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    check_refused(&training, &write("huge header", &huge), &["expected a safetensors file"]);

    // Bytes that are no second moment.
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let mut damaged = good.clone();
        let end = damaged.len();
        damaged[end - 4..].copy_from_slice(&bad.to_le_bytes());
        check_refused(&training, &write("damaged", &damaged), &["layer 'fc'", "finite values >= 0"]);
    }

    // The weights of the same model.
    training.vs.save(path("weights.safetensors")).unwrap();
    check_refused(&training, &path("weights.safetensors"), &["Svgd::save", "VarStore::load"]);

    // The state of other models.
    let channel = Training::new(Granularity::Channel);
    channel.steps(0..1);
    channel.svgd.save(path("channel")).unwrap();
    check_refused(&training, &path("channel"), &["layer 'conv'", "[c_out, h_out, w_out]", "[5]", "Granularity"]);
    let other = Svgd::new(SvgdConfig::default()).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let _layers = ["fc", "extra"].map(|name| seeded(9, || other.linear(vs.root() / name, 180, 4, Default::default())));
    other.save(path("other")).unwrap();
    check_refused(&training, &path("other"), &["lacks [\"conv\"]", "\"extra\""]);

    training.svgd.load(path("good")).unwrap();
}

#[test]
fn saving_replaces_the_file_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("svgd.safetensors");
    let training = Training::new(Granularity::Element);
    training.steps(0..1);
    training.svgd.save(&path).unwrap();
    training.steps(1..2);
    training.svgd.save(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path().join("plain");
        std::fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain), "the permissions of any new file");
    }
    let error = training.svgd.save(folder.path().join("no such folder").join("file")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // A folder is in the way: the error leaves no debris.
    let blocked = folder.path().join("blocked");
    std::fs::create_dir_all(blocked.join("inside")).unwrap();
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = count();
    assert!(matches!(training.svgd.save(&blocked), Err(Error::Io { .. })));
    assert_eq!(before, count());
}

#[test]
fn a_layer_that_is_dropped_takes_its_state_along() {
    let vs = nn::VarStore::new(Device::Cpu);
    let other = nn::VarStore::new(Device::Cpu);
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let train = |layer: &dyn Module| layer.forward(&noise(1, &[4, 6], Kind::Float)).square().mean(None).backward();
    let old = seeded(9, || svgd.linear(vs.root() / "fc", 6, 3, Default::default()));
    train(&old);
    assert_eq!(svgd.state_bytes(), 12);
    drop(old);
    assert_eq!(svgd.state_bytes(), 0);
    let new = seeded(9, || svgd.linear(other.root() / "fc", 6, 2, Default::default()));
    train(&new);
    let folder = tempfile::tempdir().unwrap();
    svgd.save(folder.path().join("svgd")).unwrap();
    let file = std::fs::read(folder.path().join("svgd")).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&file).unwrap().names(), ["fc"]);
}

#[test]
fn a_graph_in_flight_goes_on_with_the_state_that_is_reset_or_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    // The change comes before the forward pass, or between it and the backward pass.
    let state_after = |granularity, change: &dyn Fn(&Svgd), between: bool| {
        let training = Training::new(granularity);
        training.steps(0..2);
        training.svgd.save(&path).unwrap();
        training.steps(2..3);
        if !between {
            change(&training.svgd);
        }
        let loss = training.net.forward(&noise(7, &[8, 3, 6, 6], Kind::Float)).square().mean(None);
        if between {
            change(&training.svgd);
        }
        loss.backward();
        let copy = folder.path().join("copy");
        training.svgd.save(&copy).unwrap();
        std::fs::read(copy).unwrap()
    };
    let load = |svgd: &Svgd| svgd.load(&path).unwrap();
    for granularity in [Granularity::Element, Granularity::Channel] {
        for (what, change) in [("reset", &Svgd::reset as &dyn Fn(&Svgd)), ("load", &load), ("nothing", &|_: &Svgd| ())]
        {
            let [before, between] = [false, true].map(|between| state_after(granularity, change, between));
            assert!(what != "load" || before != state_after(granularity, &Svgd::reset, false), "the file counts");
            assert!(before == between, "{granularity:?}: {what} between forward and backward pass");
        }
    }
}

#[test]
fn what_is_saved_of_a_layer_whose_weight_was_replaced_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let (vs, new) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
    let mut layer = seeded(1, || svgd.linear(vs.root() / "head", 4, 3, Default::default()));
    let pass = |layer: &tch_svgd::SvgdLinear| {
        layer.f_forward(&noise(2, &[8, 4], Kind::Float)).map(|output| output.square().mean(None).backward())
    };
    pass(&layer).unwrap();
    layer.ws = seeded(2, || new.root().randn("weight", &[7, 4], 0.0, 1.0));
    layer.bs = None;
    let error = pass(&layer).unwrap_err().to_string();
    for part in ["layer 'head'", "'second_moment'", "[7]", "[3]", "reset()"] {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
    svgd.reset();
    pass(&layer).unwrap();
    let moment = layer.second_moment().unwrap();
    svgd.save(&path).unwrap();
    svgd.reset();
    svgd.load(&path).unwrap();
    assert_same_bits(&moment, &layer.second_moment().unwrap(), "second moment");
    // The same in a new process, which replaces the weight before it loads.
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let mut again = seeded(1, || svgd.linear(vs.root() / "head", 4, 3, Default::default()));
    (again.ws, again.bs) = (layer.ws.shallow_clone(), None);
    svgd.load(&path).unwrap();
    assert_same_bits(&moment, &again.second_moment().unwrap(), "second moment");
    pass(&again).unwrap();
}

#[test]
fn a_name_that_the_format_keeps_for_itself_is_refused_when_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let svgd = Svgd::new(SvgdConfig::default()).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let _layer = seeded(1, || svgd.linear(vs.root() / "__metadata__", 4, 3, Default::default()));
    let error = svgd.save(folder.path().join("state")).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error}");
    assert!(error.to_string().contains("layer '__metadata__'") && error.to_string().contains("rename"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_loaded_state_lies_as_the_passes_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let make = || {
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let layer = seeded(1, || svgd.conv2d(vs.root() / "conv", 3, 5, 3, Default::default()));
        (svgd, vs, layer)
    };
    let pass = |layer: &tch_svgd::SvgdConv2D| {
        let images = channels_last(&noise(2, &[2, 3, 8, 8], Kind::Float));
        layer.forward(&images).square().mean(None).backward();
    };
    let (svgd, _vs, layer) = make();
    pass(&layer);
    svgd.save(&path).unwrap();
    let (svgd, _vs, again) = make();
    svgd.load(&path).unwrap();
    for layer in [&layer, &again] {
        pass(layer);
    }
    let [ours, loaded] = [&layer, &again].map(|layer| layer.second_moment().unwrap());
    assert_eq!(ours.stride(), loaded.stride(), "the copy of a dense tensor has its strides");
    assert_same_bits(&ours, &loaded, "second moment");
}

#[test]
fn a_part_of_a_state_is_loaded_and_what_it_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let make = |names: &[&str]| {
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let layers: Vec<_> =
            names.iter().map(|&name| seeded(1, || svgd.linear(vs.root() / name, 4, 3, Default::default()))).collect();
        (svgd, vs, layers)
    };
    let pass = |layer: &tch_svgd::SvgdLinear, seed: i64| {
        layer.forward(&noise(seed, &[8, 4], Kind::Float)).square().mean(None).backward();
    };
    let (old, _vs, layers) = make(&["body", "old head"]);
    layers.iter().for_each(|layer| pass(layer, 2));
    old.save(&path).unwrap();
    let (new, _vs, again) = make(&["body", "new head", "untrained"]);
    again[..2].iter().for_each(|layer| pass(layer, 3));
    let head = again[1].second_moment().unwrap();
    let refused = new.load(&path).unwrap_err().to_string();
    assert!(refused.contains("load_partial") && refused.contains("old head"), "{refused}");
    assert_eq!(new.load_partial(&path).unwrap(), ["new head", "untrained"]);
    assert_same_bits(&layers[0].second_moment().unwrap(), &again[0].second_moment().unwrap(), "body");
    assert_same_bits(&head, &again[1].second_moment().unwrap(), "new head");
    assert!(again[2].second_moment().is_none());

    // A damaged file is refused all the same, and changes nothing.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (fresh, _vs, layers) = make(&["body"]);
    assert!(fresh.load_partial(&path).is_err());
    assert!(layers[0].second_moment().is_none());
}

/// Layers of every kind of state: by element, an output's values, a second layer of one name, none yet, and Double.
struct Kinds {
    svgd: Svgd,
    _stores: [nn::VarStore; 2],
    conv: SvgdConv2D,
    linear: [SvgdLinear; 4],
}

impl Kinds {
    fn new() -> Self {
        let svgd = Svgd::new(SvgdConfig::default()).unwrap();
        let [vs, mut doubles] = [(); 2].map(|()| nn::VarStore::new(Device::Cpu));
        let root = vs.root();
        let conv = seeded(1, || svgd.conv2d(&root / "body" / "conv", 2, 3, 3, Default::default()));
        let linear = |path| seeded(1, || svgd.linear(path, 4, 2, Default::default()));
        let linear =
            [linear(&root / "fc"), linear(&root / "fc"), linear(&root / "new"), linear(doubles.root() / "double")];
        doubles.double();
        Kinds { svgd, _stores: [vs, doubles], conv, linear }
    }
}

#[test]
fn a_file_of_version_0_1_is_read_and_written_alike() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/second_moments_0.1.safetensors");
    let kinds = Kinds::new();
    kinds.svgd.load(&path).unwrap();
    let file: BTreeMap<_, _> = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
    assert_eq!(file.keys().map(String::as_str).collect::<Vec<_>>(), ["body.conv", "double", "fc", "fc__1", "new"]);
    assert_same_bits(&kinds.conv.second_moment().unwrap(), &file["body.conv"], "body.conv");
    for (layer, name) in kinds.linear.iter().zip(["fc", "fc__1", "new", "double"]) {
        match layer.second_moment() {
            Some(loaded) => assert_same_bits(&loaded, &file[name], name),
            None => assert_eq!((name, file[name].numel()), ("new", 0)),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.safetensors");
    kinds.svgd.save(&again).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap(), "the files differ");
}

#[test]
fn several_tensors_of_a_layer_are_stored_under_its_name_and_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let layer = || {
        let hatted = Hatted::<Counter>::new(counter::Config::default()).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let fc = seeded(1, || hatted.linear(vs.root() / "fc", 5, 3, Default::default()));
        (hatted, fc)
    };
    let (hatted, fc) = layer();
    fc.forward(&noise(1, &[4, 5], Kind::Float)).square().mean(None).backward();
    hatted.save(&path).unwrap();
    let tensors = Tensor::read_safetensors(&path).unwrap();
    let names: BTreeMap<_, _> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
    assert_eq!(names, BTreeMap::from([("fc.passes", vec![1]), ("fc.sums", vec![3])]));

    let (resumed, again) = layer();
    resumed.load(&path).unwrap();
    for (a, b) in fc.state().unwrap().iter().zip(&again.state().unwrap()) {
        assert_same_bits(a, b, "loaded");
    }

    // Half of it is no state.
    let damaged = |data: &[f32], name: &str| {
        let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        let one = 1f32.to_le_bytes();
        let view =
            |shape: Vec<usize>, bytes| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes);
        let views = [("fc.passes", view(vec![1], &one[..])), (name, view(vec![data.len()], &bytes[..]))];
        let views = views.map(|(name, view)| (name, view.unwrap()));
        let metadata = std::collections::HashMap::from([("format".to_owned(), "counted passes".to_owned())]);
        std::fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
        layer().0.load(&path).unwrap_err().to_string()
    };
    assert!(damaged(&[], "fc.sums").contains("layer 'fc': expected all of its state, got a part"));
    assert!(damaged(&[1.0, 2.0, 3.0], "fc.total").contains("the file lacks [\"fc\"]"));
}
