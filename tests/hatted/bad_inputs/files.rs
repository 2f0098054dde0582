//! State files that are none: cut at many places, of something else, of another model; and places where none can be.

use super::{Subject, Trial};
use crate::common::*;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor, nn};
use tch_svgd::hatted::{Hatted, Method};
use tch_svgd::optim::{Adam, GradScaler, Rule};
use tch_svgd::{Result, Svgd, SvgdConfig, TsoAlra, TsoAlraConfig, backward};

pub fn try_all(trial: &mut Trial) {
    let folder = tempfile::tempdir().unwrap();
    layers(trial, &folder.path().join("svgd"), &Svgd::new(SvgdConfig::default()).unwrap());
    layers(trial, &folder.path().join("tso_alra"), &TsoAlra::new(TsoAlraConfig::default()).unwrap());
    optimizer(trial, &folder.path().join("adam"));
    scaler(trial, &folder.path().join("scaler"));
}

/// Files that differ from a good one: each is written, and its path given.
fn damaged(folder: &Path, good: &[u8]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        files.push(path);
    };
    for part in 0..16 {
        write(format!("cut_{part}"), &good[..good.len() * part / 16]);
    }
    write("cut_last".to_owned(), &good[..good.len() - 1]);
    write("longer".to_owned(), &[good, b"more"].concat());
    write("text".to_owned(), b"second moments");
    write("zeros".to_owned(), &[0; 64]);
    write("ones".to_owned(), &[0xff; 64]);
    // Sizes that overflow.
    let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{0},{0}],"data_offsets":[0,4]}}}}"#, u64::MAX / 2);
    write("vast".to_owned(), &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat());
    // The header's bytes, replaced one by one.
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for place in (8..8 + header).step_by(23) {
        let mut bytes = good.to_vec();
        bytes[place] = 0xff;
        write(format!("at_{place}"), &bytes);
    }
    let path = folder.join("foreign");
    Tensor::write_safetensors(&[("fc", zeros(&[3], Kind::Float))], &path).unwrap();
    files.push(path);
    files.push(folder.join("none"));
    files.push(folder.to_owned());
    files
}

fn layers<M: Method>(trial: &mut Trial, folder: &Path, hatted: &Hatted<M>) {
    fs::create_dir(folder).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = seeded(1, || hatted.linear(vs.root() / "fc", 5, 4, Default::default()));
    let conv = seeded(1, || hatted.conv2d(vs.root() / "conv", 2, 4, 3, Default::default()));
    let path = folder.join("good");
    let good = || {
        let output = fc.f_forward(&noise(1, &[6, 5], Kind::Float))?.square().sum(Kind::Float);
        backward(&(output + conv.f_forward(&noise(2, &[2, 2, 6, 6], Kind::Float))?.square().sum(Kind::Float)))?;
        hatted.step();
        hatted.save(&path)?;
        hatted.load(&path)
    };
    good().unwrap();
    let state = || {
        let mut state: Vec<_> = [fc.state(), conv.state()].into_iter().flatten().flatten().collect();
        state.push(Tensor::from(hatted.progress().steps as i64));
        state
    };
    let subject = Subject { says: "load ", state: &state, good: &good };
    for file in damaged(folder, &fs::read(&path).unwrap()) {
        trial.refused_file(&subject, &file, || hatted.load(&file));
        if !file.ends_with("foreign") {
            trial.refused_file(&subject, &file, || hatted.load_partial(&file));
        }
    }
    // That of a model without layers.
    let empty = folder.join("empty");
    Hatted::<M>::new(hatted.config()).unwrap().save(&empty).unwrap();
    trial.refused_file(&subject, &empty, || hatted.load(&empty));
    let places = [folder.join("no_folder").join("file"), folder.to_owned(), PathBuf::from("/dev/null/file")];
    for place in places {
        trial.refused_file(&subject, &place, || hatted.save(&place));
    }
}

fn optimizer(trial: &mut Trial, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = seeded(1, || nn::linear(vs.root() / "fc", 5, 4, Default::default()));
    let optimizer = RefCell::new(Adam::default().build(&vs, 0.1).unwrap());
    let path = folder.join("good");
    let good = || -> Result<()> {
        use nn::Module;
        let mut optimizer = optimizer.borrow_mut();
        optimizer.f_backward_step(&fc.forward(&noise(1, &[6, 5], Kind::Float)).square().sum(Kind::Float))?;
        optimizer.save(&path)?;
        optimizer.load(&path)
    };
    good().unwrap();
    let state = || {
        let optimizer = optimizer.borrow();
        ["step", "exp_avg", "exp_avg_sq"].map(|name| optimizer.state("fc.weight", name).unwrap()).into()
    };
    let subject = Subject { says: "load ", state: &state, good: &good };
    for file in damaged(folder, &fs::read(&path).unwrap()) {
        trial.refused_file(&subject, &file, || optimizer.borrow_mut().load(&file));
    }
    for place in [folder.join("no_folder").join("file"), folder.to_owned()] {
        trial.refused_file(&subject, &place, || optimizer.borrow_mut().save(&place));
    }
}

fn scaler(trial: &mut Trial, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let scaler = RefCell::new(GradScaler::new(Default::default()).unwrap());
    let path = folder.join("good");
    let good = || {
        scaler.borrow_mut().update()?;
        scaler.borrow().save(&path)?;
        scaler.borrow_mut().load(&path)
    };
    good().unwrap();
    let state = || vec![Tensor::from(scaler.borrow().scale())];
    let subject = Subject { says: "load ", state: &state, good: &good };
    let bytes = fs::read(&path).unwrap();
    for file in damaged(folder, &bytes) {
        trial.refused_file(&subject, &file, || scaler.borrow_mut().load(&file));
    }
    // Fields that are there and make no scaler.
    for (number, (good, bad)) in [
        ("scale 65536", "scale 0.000"),
        ("growth 2", "growth 0"),
        ("backoff 0.5", "backoff 1.5"),
        ("scale 65536", "scale   NaN"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = bytes.windows(good.len()).position(|part| part == good.as_bytes()).unwrap();
        assert_eq!(good.len(), bad.len(), "the header's length is in front of it");
        let file = folder.join(format!("field_{number}"));
        fs::write(&file, [&bytes[..place], bad.as_bytes(), &bytes[place + good.len()..]].concat()).unwrap();
        trial.refused_file(&subject, &file, || scaler.borrow_mut().load(&file));
    }
}
