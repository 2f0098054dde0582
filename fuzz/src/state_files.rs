//! State files of layers, optimizers and gradient scalers.

use crate::{folder, taken, write};
use std::cell::RefCell;
use std::path::Path;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};
use tch_svgd::hatted::{Hatted, HattedConv2D, HattedLinear, Method};
use tch_svgd::optim::{AdaGrad, Adam, GradScaler, Optim, RmsProp, Rule, Sgd};
use tch_svgd::{Granularity, Result, Svgd, SvgdConfig, TsoAlra, TsoAlraConfig, backward};

/// What has a state file.
trait Stateful {
    fn save(&mut self, path: &Path) -> Result<()>;
    fn load(&mut self, path: &Path) -> Result<()>;
    /// Goes on with what was loaded.
    fn step(&mut self) -> Result<()>;
}

/// A linear layer and a convolution.
struct Layers<M: Method> {
    hatted: Hatted<M>,
    _variables: nn::VarStore,
    fc: HattedLinear<M>,
    conv: HattedConv2D<M>,
}

fn noise(size: &[i64]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu))
}

impl<M: Method> Layers<M> {
    fn new(hatted: Hatted<M>) -> Self {
        let variables = nn::VarStore::new(Device::Cpu);
        let fc = hatted.linear(variables.root() / "fc", 5, 4, Default::default());
        let conv = hatted.conv2d(variables.root() / "conv", 2, 4, 3, Default::default());
        Self { hatted, _variables: variables, fc, conv }
    }
}

impl<M: Method> Stateful for Layers<M> {
    fn save(&mut self, path: &Path) -> Result<()> {
        self.hatted.save(path)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        self.hatted.load(path)
    }

    fn step(&mut self) -> Result<()> {
        let output = self.fc.f_forward(&noise(&[6, 5]))?.square().sum(Kind::Float);
        backward(&(output + self.conv.f_forward(&noise(&[2, 2, 6, 6]))?.square().sum(Kind::Float)))?;
        self.hatted.f_step().map(drop)
    }
}

/// An optimizer of a linear layer, whose bias is in a group of its own.
struct Optimizer<R: Rule> {
    optimizer: Optim<R>,
    fc: nn::Linear,
}

impl<R: Rule> Optimizer<R> {
    fn new(rule: R) -> Result<Self> {
        let variables = nn::VarStore::new(Device::Cpu);
        let mut fc = nn::linear(variables.root() / "fc", 5, 4, nn::LinearConfig { bias: false, ..Default::default() });
        fc.bs = Some(variables.root().set_group(1).var("bias", &[4], nn::init::DEFAULT_KAIMING_UNIFORM));
        Ok(Self { optimizer: rule.build(&variables, 0.1)?, fc })
    }
}

impl<R: Rule> Stateful for Optimizer<R> {
    fn save(&mut self, path: &Path) -> Result<()> {
        self.optimizer.save(path)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        self.optimizer.load(path)
    }

    fn step(&mut self) -> Result<()> {
        self.optimizer.f_backward_step(&self.fc.forward(&noise(&[6, 5])).square().sum(Kind::Float))
    }
}

impl Stateful for GradScaler {
    fn save(&mut self, path: &Path) -> Result<()> {
        GradScaler::save(self, path)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        GradScaler::load(self, path)
    }

    fn step(&mut self) -> Result<()> {
        self.update()
    }
}

/// Each of another format, or of other settings.
fn subjects() -> Result<Vec<Box<dyn Stateful>>> {
    let by_channel = SvgdConfig { granularity: Granularity::Channel, ..Default::default() };
    let mut subjects: Vec<Box<dyn Stateful>> = vec![
        Box::new(Layers::new(Svgd::new(SvgdConfig::default())?)),
        Box::new(Layers::new(Svgd::new(by_channel)?)),
        Box::new(Layers::new(TsoAlra::new(TsoAlraConfig::default())?)),
        Box::new(Optimizer::new(Adam::default())?),
        Box::new(Optimizer::new(Sgd { momentum: 0.9, ..Default::default() })?),
        Box::new(Optimizer::new(RmsProp::default())?),
        Box::new(Optimizer::new(AdaGrad::default())?),
        Box::new(GradScaler::new(Default::default())?),
    ];
    subjects.iter_mut().try_for_each(|subject| subject.step())?;
    Ok(subjects)
}

/// What has been trained a step, and its file.
struct Trained {
    subject: Box<dyn Stateful>,
    good: Vec<u8>,
}

fn trained() -> Vec<Trained> {
    let folder = folder();
    let with_file = |mut subject: Box<dyn Stateful>| {
        let good = saved(&mut *subject, folder.path());
        Trained { subject, good }
    };
    subjects().expect("good settings").into_iter().map(with_file).collect()
}

/// What it writes as its state.
fn saved(subject: &mut dyn Stateful, folder: &Path) -> Vec<u8> {
    let path = folder.join("saved");
    subject.save(&path).expect("what is there can be written");
    std::fs::read(path).expect("it has been written")
}

/// The first byte tells whose file the others are.
pub fn load(input: &[u8]) -> bool {
    thread_local!(static TRAINED: RefCell<Vec<Trained>> = trained().into());
    let Some((first, input)) = input.split_first() else { return false };
    TRAINED.with_borrow_mut(|trained| {
        let number = *first as usize % trained.len();
        let Trained { subject, good } = &mut trained[number];
        let folder = folder();
        let path = folder.path().join("state");
        write(&path, input);
        if taken(subject.load(&path).map_err(Into::into), &path).is_none() {
            assert!(saved(&mut **subject, folder.path()) == *good, "what was refused has changed something");
            return false;
        }
        let first = saved(&mut **subject, folder.path());
        write(&path, &first);
        subject.load(&path).expect("what has been saved is loaded again");
        assert!(saved(&mut **subject, folder.path()) == first, "a state that is saved differs from the loaded one");
        // Values may be of any size: an error is as good as a step.
        drop(subject.step());
        write(&path, good);
        subject.load(&path).expect("the good file is loaded after any other");
        true
    })
}

/// The files of all.
pub fn seeds() -> Vec<Vec<u8>> {
    let files = trained().into_iter().zip(0u8..);
    files.map(|(Trained { good, .. }, number)| [&[number], &good[..]].concat()).collect()
}
